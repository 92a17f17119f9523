"""Figures over several seeds, and whether a difference between two of them is clear."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from likely.core.likelihood import Figure

LEVEL = 0.0027  # two-sided, of a clear difference: that of 3 standard errors, were these known


@dataclass(frozen=True)
class Pooled(Figure):
    """A figure over several seeds, with the degrees of freedom of its standard error.

    The part of the error that comes from few seeds is itself badly known. With one seed the figure
    has no degrees of freedom: its error excludes the variation between runs, which nobody knows.
    """

    degrees: float = field(default=math.inf, repr=False)

    def __sub__(self, other: "Pooled") -> "Pooled":
        """The difference of two figures whose errors are independent."""
        parts = [(self.stderr or 0.0, self.degrees), (other.stderr or 0.0, other.degrees)]
        stderr = math.hypot(*(error for error, _ in parts))
        return Pooled(self.value - other.value, stderr, welch(stderr, parts))

    @property
    def clear(self) -> bool | None:
        """Whether it lies above 0, by a t test at `LEVEL`; None where that cannot be said.

        The degrees of freedom are estimates, too: with two seeds, one difference in 50 may be called
        clear that is none, at worst (with three, one in 170; with five, one in 320).
        """
        from scipy import stats

        if self.degrees == 0 or math.isnan(self.value):
            return None
        if math.isinf(self.value):
            return self.value > 0
        stderr = self.stderr or 0.0
        if not math.isfinite(stderr):
            return None
        return bool(self.value > stderr * stats.t.isf(LEVEL / 2, min(self.degrees, 1e9)))


def welch(stderr: float, parts: Iterable[tuple[float, float]]) -> float:
    """Degrees of freedom of a standard error, from its independent parts and theirs.

    What the parts leave of the error has infinitely many (Welch 1947, Biometrika 34, 28;
    Satterthwaite 1946, Biometrics 2, 110). 0 where one of the parts has none.
    """
    parts = list(parts)
    if any(degrees == 0 for _, degrees in parts):
        return 0.0
    spread = sum(error**4 / degrees for error, degrees in parts)
    return stderr**4 / spread if spread else math.inf


def pooled(figure: Figure, *parts: tuple[float, float]) -> Pooled:
    """A figure whose error has parts that come from seeds, each with its degrees of freedom."""
    return Pooled(figure.value, figure.stderr, welch(figure.stderr or 0.0, parts))


def over_seeds(figures: Sequence[Figure]) -> Pooled:
    """Mean over the seeds. All share the test rows, so that only the seeds' own spread shrinks."""
    values = [figure.value for figure in figures]
    shared = sum((figure.stderr or 0.0) ** 2 for figure in figures) / len(figures)
    own = (spread(values) or 0.0) ** 2 / len(values)
    mean = Figure(sum(values) / len(values), math.sqrt(shared + own))
    return pooled(mean, (math.sqrt(own), len(values) - 1))


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation over seeds, where there is more than one."""
    return torch.tensor(values, dtype=torch.float64).std().item() if len(values) > 1 else None
