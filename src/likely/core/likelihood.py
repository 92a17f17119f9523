"""Likelihood: a number per row that knows what kind of number it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class Kind(StrEnum):
    """What a reported log-likelihood is, compared with the model's true one."""

    EXACT = "exact"
    LOWER = "lower bound"
    UPPER = "upper bound"
    ESTIMATE = "estimate"
    NONE = "none"

    def __add__(self, other: str) -> "Kind":
        """The kind of a sum: exact + lower = lower; lower + upper, or any estimate = estimate."""
        kinds = {self, Kind(other)} - {Kind.EXACT} or {Kind.EXACT}
        if Kind.NONE in kinds:
            return Kind.NONE
        return kinds.pop() if len(kinds) == 1 else Kind.ESTIMATE

    @property
    def opposite(self) -> "Kind":
        """The kind of −x: the two bounds change places."""
        return {Kind.LOWER: Kind.UPPER, Kind.UPPER: Kind.LOWER}.get(self, self)

    @property
    def sign(self) -> str:
        """What marks a figure of this kind: "≥ ", "≤ " or "≈ "."""
        return {Kind.LOWER: "≥ ", Kind.UPPER: "≤ ", Kind.ESTIMATE: "≈ "}.get(self, "")


@dataclass(frozen=True)
class Figure:
    """One number with its standard error; no error means that the number is exact."""

    value: float
    stderr: float | None = None

    def __str__(self) -> str:
        if not math.isfinite(self.value) or not self.stderr or not math.isfinite(self.stderr):
            return f"{self.value:.4g}"
        decimals = min(max(0, 1 - math.floor(math.log10(self.stderr))), 9)
        return f"{self.value:.{decimals}f} ± {self.stderr:.{decimals}f}"

    def to_json(self) -> dict[str, float | None]:
        """Value and error; JSON has no infinities, so those become null."""
        return plain(self)


def plain(value: Any) -> Any:
    """A value for JSON: of a dataclass the fields that its `repr` shows; not finite becomes None."""
    if is_dataclass(value):
        value = {entry.name: getattr(value, entry.name) for entry in fields(value) if entry.repr}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shown(figure: Figure) -> str:
    """A figure with true minus signs, that no line break tears apart."""
    return str(figure).replace("-", "−").replace(" ", "\N{NO-BREAK SPACE}")


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihoods in nats, what kind they are, and their errors.

    Attributes
    ----------
    value : Tensor, shape (n,)
    kind : Kind
    stderr : Tensor, shape (n,), optional
        Standard errors of the single rows, independent between rows.
    common_stderr : float
        Standard error that all rows share, such as that of log Z.
    tolerance : float, optional
        Of the adaptive solver that the values come from, relative and absolute, if there was one.
    """

    value: Tensor
    kind: Kind
    stderr: Tensor | None = None
    common_stderr: float = 0.0
    tolerance: float | None = None

    def __add__(self, other: "Likelihood") -> "Likelihood":
        """Sum row by row, of independently estimated parts."""
        errors = [part for part in (self.stderr, other.stderr) if part is not None]
        return Likelihood(
            self.value + other.value,
            self.kind + other.kind,
            sum(part.square() for part in errors).sqrt() if errors else None,  # type: ignore[union-attr]
            math.hypot(self.common_stderr, other.common_stderr),
            max((t for t in (self.tolerance, other.tolerance) if t is not None), default=None),
        )

    def mean(self, weight: Tensor | None = None) -> Figure:
        """Weighted mean over rows, with its standard error.

        The spread between rows already holds the rows' own errors; the common error is added to it.
        """
        mean = Mean()
        mean.add(self, weight)
        return mean.figure


@dataclass
class Mean:
    """The weighted mean of log-likelihoods that come in parts.

    Attributes
    ----------
    total : float
        Of the weights; the others are sums over the rows whose weight is positive.
    weight, squares, value, spread : float
        Of weights, of their squares, of weighted values, and of weighted squares of their distances from
        their mean.
    common_stderr : float
        The largest of the parts, which share it.
    """

    total: float = 0.0
    weight: float = 0.0
    squares: float = 0.0
    value: float = 0.0
    spread: float = 0.0
    common_stderr: float = 0.0

    def add(self, part: Likelihood, weight: Tensor | None = None) -> None:
        """Count more rows, with their weights, shape (n,)."""
        value = part.value.double()
        w = value.new_ones(len(value)) if weight is None else weight.to(value)
        self.total += w.sum().item()
        self.common_stderr = max(self.common_stderr, part.common_stderr)
        value, w = value[w > 0], w[w > 0]
        if not len(w):
            return
        new, total = w.sum().item(), (w * value).sum().item()
        self.spread += (w * (value - total / new).square()).sum().item()
        if self.weight:  # Chan, Golub & LeVeque 1979
            apart = total / new - self.value / self.weight
            self.spread += apart**2 * new * self.weight / (new + self.weight)
        self.weight, self.value = self.weight + new, self.value + total
        self.squares += w.square().sum().item()

    @property
    def figure(self) -> Figure:
        """The mean, with its standard error."""
        if not self.weight:
            return Figure(math.nan, math.nan)
        mean = self.value / self.total
        spread, n_effective = math.nan, self.total**2 / self.squares
        if n_effective > 1:
            moved = self.weight * (self.value / self.weight - mean) ** 2
            spread = math.sqrt((self.spread + moved) / self.total / (n_effective - 1))
        return Figure(mean, math.hypot(spread, self.common_stderr))


@dataclass(frozen=True)
class Estimator:
    """How the log-likelihoods of rows are computed.

    Attributes
    ----------
    terms : callable (x, context features) -> Tensor of shape (1, n) or (2, n)
        Values, and standard errors where they are known.
    kind : Kind
    common_stderr, tolerance
        As in `Likelihood`.
    """

    terms: Callable[[Tensor, Tensor | None], Tensor]
    kind: Kind
    common_stderr: float = 0.0
    tolerance: float | None = None


def importance_bound(terms: Float[Tensor, "draws n"]) -> Float[Tensor, "k n"]:
    """log 1/K Σ_k w_k of each row, from its log-weights, and its standard error by the delta method.

    A lower bound in expectation of log E[w] that rises with K (Burda, Grosse & Salakhutdinov 2016,
    arXiv:1509.00519, eq. 8). The error of a single draw is unknown, and left out.
    """
    value = terms.logsumexp(0) - math.log(len(terms))
    return _with_error(value, (terms - value).exp())


def mean_and_error(terms: Float[Tensor, "draws n"]) -> Float[Tensor, "k n"]:
    """Mean over draws of each row, and its standard error, which one draw leaves unknown."""
    return _with_error(terms.mean(0), terms)


def _with_error(value: Tensor, draws: Tensor) -> Float[Tensor, "k n"]:
    """Values, and the standard error of the mean of their draws where there are several."""
    if len(draws) == 1:
        return value[None]
    return torch.stack([value, draws.std(0) / math.sqrt(len(draws))])
