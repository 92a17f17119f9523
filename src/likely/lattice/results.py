"""What a study of a lattice found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.core.likelihood import Figure, plain
from likely.core.target import Target
from likely.evaluation.weighted import Weighted
from likely.fitting.history import History
from likely.sampling.chain import Average, Chain

Observable = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One observable: without weights, with them, by Metropolis, by the reference chain, exactly."""

    name: str
    naive: Figure
    reweighted: Figure
    metropolis: Average
    reference: Average | None
    exact: float | None


@dataclass(frozen=True, eq=False)
class Results:
    """What came out of a training on an action.

    Attributes
    ----------
    target : Target
    model : GenerativeModel
        Trained.
    name : str
        Of the model.
    history : History
    weighted : Weighted
        Draws of the model.
    chain : Chain
        Independence Metropolis through them.
    reference : Chain, optional
        Of the library's own HMC, of Gibbs sampling where the domain is discrete, in as much time as
        training and draws took.
    observables : dict of str to callable
    seconds : dict
        Of the parts.
    settings : dict
    """

    target: Target
    model: GenerativeModel
    name: str
    history: History
    weighted: Weighted
    chain: Chain
    reference: Chain | None
    observables: Mapping[str, Observable]
    seconds: dict[str, float]
    settings: dict[str, Any]

    @cached_property
    def rows(self) -> list[Row]:
        """The table of observables."""
        known = self.target.observables or {}
        return [
            Row(
                name,
                self.weighted.naive(f),
                self.weighted.expect(f),
                self.chain.expect(f),
                None if self.reference is None else self.reference.expect(f),
                known.get(name),
            )
            for name, f in self.observables.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """All figures, JSON-able."""
        return {
            "settings": self.settings,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "weights": self.weighted.to_json(),
            "log_z_exact": self.target.log_z,
            "observables": [plain(row) for row in self.rows],
        }
