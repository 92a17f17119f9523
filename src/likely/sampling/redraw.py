"""Partial redraws: an autoregressive model proposes new values for the last entries of its ordering.

The first entries x_a are kept and the others are drawn from q(y_b | x_a). As q(x) = q(x_a) q(x_b | x_a), the
acceptance is that of independence Metropolis, min(1, e^(−E(y)) q(x) / (e^(−E(x)) q(y))), and tends to 1 for
few new entries, where the model is good locally only.

References
----------
Wu, Rossi & Carleo 2021, Physical Review Research 3, L042024, arXiv:2105.05650 (neural cluster updates).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.sampling.sampler import Energy, Move, Sampler, metropolis


class Ordered(Protocol):
    """A normalised density that is drawn from entry by entry: an autoregressive model."""

    domain: Domain
    orderings: Tensor  # shape (1, entries); with several, no entries come first

    def complete(self, x: Tensor, known: Tensor) -> Tensor: ...
    def log_prob(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class PartialRedraw(Sampler):
    """Metropolis whose proposals redraw the last k entries of an ordering, k uniform from 1 to all.

    With a symmetric model the mirror image counts, too.

    Parameters
    ----------
    proposal : autoregressive model of one ordering

    Raises
    ------
    LikelyError
        If the model has several orderings.
    """

    proposal: Ordered

    def __post_init__(self) -> None:
        if len(self.proposal.orderings) > 1:
            raise LikelyError(
                "PartialRedraw: the model is a mixture of orderings, of which no entries are the last: "
                "take orders=1"
            )

    @property
    def domain(self) -> Domain:  # type: ignore[override]
        """The model's."""
        return self.proposal.domain

    def walk(self, energy: Energy, x: Tensor, tune: int = 0) -> Iterator[Move]:
        order = self.proposal.orderings[0].to(x.device)
        position = order.argsort().view(x.shape[1:])
        e, log_weight = self._weigh(energy, x)
        while True:
            kept = int(torch.randint(len(order), ()))
            y = self.proposal.complete(x, position < kept).to(x)
            f, log_weight_y = self._weigh(energy, y)
            state, proposal = (e, x, log_weight), (f, y, log_weight_y)
            log_ratio = log_weight_y - log_weight
            (e, x, log_weight), acceptance, invalid = metropolis(log_ratio, state, proposal)
            yield Move(x, e, acceptance, invalid)

    def _weigh(self, energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies, and −E − log q."""
        e = energy(x)
        return e, -e - self.proposal.log_prob(x).to(e)
