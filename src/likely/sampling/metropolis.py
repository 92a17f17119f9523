"""Independence Metropolis: proposals from a model with an exact density, whatever the state.

A proposal y ~ q is accepted with probability min(1, e^(−E(y)) q(x) / (e^(−E(x)) q(y))). A flow that
fits the target this corrects; one that lacks a mode of it gets stuck there, which acceptance and
R̂ show.

References
----------
Tierney 1994, Annals of Statistics 22, 1701 (Section 2.3.3).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.sampling.sampler import Density, Energy, Move, Sampler, metropolis

BLOCK = 1 << 14  # proposals that are scored at a time, at most, unless there are more chains


@dataclass(frozen=True)
class IndependenceMetropolis(Sampler):
    """Independence Metropolis.

    Parameters
    ----------
    proposal : object with `sample(n, seed=...)` and `log_prob(x)`
        A model with an exact density, or a target.
    domain : Domain, optional
        Where a sample lives: proposals outside are rejected.
    """

    proposal: Density
    domain: Domain | None = None

    def walk(self, energy: Energy, x: Tensor, tune: int = 0) -> Iterator[Move]:
        e, log_weight = self._weigh(energy, x)
        if (log_weight.isnan() | (log_weight == torch.inf)).any():
            raise LikelyError("the proposal has no density somewhere in init: start from its draws")
        for y, f, log_weight_y in self._proposals(energy, x):
            state, proposal = (e, x, log_weight), (f, y, log_weight_y)
            log_ratio = log_weight_y - log_weight
            (e, x, log_weight), acceptance, invalid = metropolis(log_ratio, state, proposal)
            yield Move(x, e, acceptance, invalid)

    def _weigh(self, energy: Energy, y: Tensor) -> tuple[Tensor, Tensor]:
        """Energies, and −E − log q."""
        f = energy(y)
        log_weight = -f - self.proposal.log_prob(y).to(f)
        if self.domain is not None:
            log_weight = torch.where(self.domain.contains(y), log_weight, -torch.inf)
        return f, log_weight

    def _proposals(self, energy: Energy, x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Proposals for all chains, their energies and log-weights, made in blocks that double."""
        n, block = len(x), 1
        while True:
            seed = int(torch.randint(2**62, ()))
            y = self.proposal.sample(block * n, seed=seed).to(x)
            parts = (part.view(block, n, *part.shape[1:]) for part in (y, *self._weigh(energy, y)))
            yield from zip(*parts, strict=True)
            block = max(1, min(2 * block, BLOCK // n))
