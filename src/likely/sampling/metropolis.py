"""Independence Metropolis: proposals from a model with an exact density, whatever the state.

A proposal y ~ q is accepted with probability min(1, e^(−E(y)) q(x) / (e^(−E(x)) q(y))). A flow that
fits the target this corrects; one that lacks a mode of it gets stuck there, which acceptance and
R̂ show.

References
----------
Tierney 1994, Annals of Statistics 22, 1701 (Section 2.3.3).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.random import seeded
from likely.sampling.chain import Chain
from likely.sampling.sampler import Density, Energy, Move, Sampler, metropolis

State = tuple[Tensor, Tensor, Tensor]  # rows, their energies and log-weights
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
        yield from steps((x, e, log_weight), self._proposals(energy, x))

    def _weigh(self, energy: Energy, y: Tensor) -> tuple[Tensor, Tensor]:
        """Energies, and −E − log q."""
        f = energy(y)
        log_weight = -f - self.proposal.log_prob(y).to(f)
        if self.domain is not None:
            log_weight = torch.where(self.domain.contains(y), log_weight, -torch.inf)
        return f, log_weight

    def _proposals(self, energy: Energy, x: Tensor) -> Iterator[State]:
        """Proposals for all chains, their energies and log-weights, made in blocks that double."""
        n, block = len(x), 1
        while True:
            seed = int(torch.randint(2**62, ()))
            y = self.proposal.sample(block * n, seed=seed).to(x)
            parts = (part.view(block, n, *part.shape[1:]) for part in (y, *self._weigh(energy, y)))
            yield from zip(*parts, strict=True)
            block = max(1, min(2 * block, BLOCK // n))


def steps(state: State, proposals: Iterable[State]) -> Iterator[Move]:
    """Independence Metropolis from a state, one step for each proposal."""
    x, e, log_weight = state
    for y, f, log_weight_y in proposals:
        (e, x, log_weight), acceptance, invalid = metropolis(
            log_weight_y - log_weight, (e, x, log_weight), (f, y, log_weight_y)
        )
        yield Move(x, e, acceptance, invalid)


def chain_of_draws(draws: State, chains: int, seed: int | None, domain: Domain | None) -> Chain:
    """Chains through draws of a proposal that are already weighed; each starts at one of them."""
    n = len(draws[0]) // chains * chains
    start, *proposals = zip(
        *(part[:n].unflatten(0, (-1, chains)).unbind() for part in draws), strict=True
    )
    with seeded(seed, draws[0].device):
        moves = list(steps(start, proposals))
    x, e, acceptance, invalid = zip(*(move[:4] for move in moves), strict=True)
    rates = torch.stack(acceptance).mean(0), torch.stack(invalid).double().mean(0)
    return Chain(torch.stack(x, 1), torch.stack(e, 1), *rates, domain)
