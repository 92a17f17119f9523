"""What `fit` and a model exchange: batches, objectives, stages, recipes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn

from likely.contract.options import NonNegative, Positive, Range

# Columns of a history that are no losses; the others have the names of objectives.
BOOKKEEPING = ("step", "epoch", "seconds", "rate", "skipped", "rollbacks", "valid")


@dataclass
class Batch:
    """What a loss sees.

    Attributes
    ----------
    x : Tensor, shape (n, *domain.shape)
    context : Tensor, shape (n, *context.shape), optional
    weight : Tensor, shape (n,), optional
        Non-negative; None means one for each row.
    step : int
        Steps taken so far.
    progress : float
        Part of the budget that is spent, from 0 to 1.
    rows : int, optional
        Number of training rows, of which these are some; None: these are all.
    unlabelled : Tensor, shape (n, *domain.shape), optional
        As many rows that have no label, and so no context, where the data have some.
    """

    x: Tensor
    context: Tensor | None = None
    weight: Tensor | None = None
    step: int = 0
    progress: float = 0.0
    rows: int | None = None
    unlabelled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def mean(self, loss: Tensor) -> Tensor:
        """A loss of each row as one number; one of the batch as it is.

        Not divided by the batch's own mean weight, which would take influence from heavy batches.
        """
        if loss.ndim and self.weight is not None:
            loss = loss * self.weight
        return loss.mean()

    def parts(self, k: int) -> Iterator[Self]:
        """This batch in k parts, or in as many as it has rows; they differ by one row at most."""
        if k == 1 or len(self) < 2:
            yield self
            return
        fields = {name: getattr(self, name) for name in ("x", "context", "weight", "unlabelled")}
        rows = {
            name: v.tensor_split(min(k, len(self))) for name, v in fields.items() if v is not None
        }
        for at in range(min(k, len(self))):
            yield replace(self, **{name: parts[at] for name, parts in rows.items()})

    def to(self, device: torch.device) -> Self:
        """This batch on a device."""
        parts = {name: getattr(self, name) for name in ("context", "weight", "unlabelled")}
        moved = {name: part.to(device) for name, part in parts.items() if part is not None}
        return replace(self, x=self.x.to(device), **moved)


@dataclass
class Objective:
    """One player: what it minimises, what it moves and how often.

    Attributes
    ----------
    name : str
    parameters : list of Parameter
    loss : callable (batch) -> Tensor of shape (n,) or ()
    every : int
        Runs at each `every`-th step.
    after : callable, optional
        Runs after each accepted step (clipping a critic, updating a codebook).
    steps : int
        Optimizer steps at each turn, on the same batch.
    rate, weight_decay, betas : optional
        This player's own; by default those of the fit.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Batch], Tensor]
    every: int = 1
    after: Callable[[], None] | None = None
    steps: int = 1
    rate: float | None = None
    weight_decay: float | None = None
    betas: tuple[float, float] | None = None


@dataclass
class Stage:
    """One phase of a training.

    Attributes
    ----------
    objectives : callable () -> list of Objective
        Called when the stage begins; it may change the model first, as a growing network does.
    share : float
        Part of the budget; those of all stages sum to one.
    prepare : callable (batch), optional
        Called before a later stage begins, with the rows that `GenerativeModel.prepare` saw.
    """

    objectives: Callable[[], list[Objective]]
    share: float = 1.0
    prepare: Callable[[Batch], None] | None = None


@dataclass(frozen=True)
class Recipe:
    """A family's defaults for `fit`."""

    batch: int = 512
    rate: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    clip: Positive = 5.0  # largest norm of the gradient
    ema: Annotated[float, Range(0, 1)] = 0.999  # decay of the averaged weights
    optimizer: Literal["adamw", "sgd"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    steps: int | None = None  # the budget if none is given, where no likelihood says when to stop
