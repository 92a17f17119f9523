"""Robustness of a classifier: how small a change of a row, chosen against it, changes its decision.

Attacks follow log p(k|x) − log p(y|x), with k the likeliest of the other classes than y. That is the
difference of two logits, of which no digit is lost where the classifier is sure; the gradient of
log p(y|x) alone vanishes there, and an attack by it finds nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from rich.table import Table
from torch import Tensor

from likely.contract.inputs import chunks
from likely.contract.model import GenerativeModel
from likely.core.columns import Binary, Categorical, Constant, Discrete, Periodic, Positive, Spin
from likely.core.domain import Domain
from likely.core.errors import AbilityError, DataError, DomainError, LikelyError
from likely.core.likelihood import Figure, plain
from likely.core.numbers import whole
from likely.core.random import seeded
from likely.evaluation.classes import seen_by
from likely.evaluation.result import as_text

Norm = Literal["Linf", "L2"]
TRAVEL = 2.5  # ε in all steps together: enough to cross the ball
DIRECTIONS = 16  # of a finite difference
FINITE_ROWS, FINITE_STEPS = 100, 20  # of the attack without gradients
SMALL = torch.finfo(torch.float32).tiny  # the least value of a positive column
MASKED, FURTHER = 0.1, 1.1  # part of the rows where another attack may go so many times as far


class Adversarial(NamedTuple):
    """The worst rows that an attack found.

    Attributes
    ----------
    x : Tensor, shape (n, *shape)
        In the domain, and within ε of the rows that were attacked.
    margin : Tensor, shape (n,)
        log p(k|x) − log p(y|x), above 0 where the decision is wrong.
    """

    x: Tensor
    margin: Float[Tensor, " n"]

    @property
    def accuracy(self) -> Figure:
        """Part of the rows that are still right, with its binomial error."""
        right = (self.margin <= 0).double().mean().item()
        return Figure(right, (right * (1 - right) / len(self.margin)) ** 0.5)


def pgd(
    model: GenerativeModel,
    x: Tensor,
    labels: Int64[Tensor, " n"],
    epsilon: float,
    *,
    norm: Norm = "Linf",
    steps: int = 40,
    restarts: int = 5,
    gradient: Literal["exact", "finite"] = "exact",
    seed: int = 0,
) -> Adversarial:
    """Attack a classifier by projected gradient descent, and keep the worst row that is seen.

    Each restart begins at a random point of the ball. Steps have the length 2.5 ε/steps: along the sign of
    the gradient in L∞, along its direction, whatever its size, in L2. Rows remain in the ball and within
    the bounds of the domain; whole numbers stay whole, a change being rounded towards none. Rows that
    are already wrong are left as they are.

    Parameters
    ----------
    model : GenerativeModel
        With the ability `Classifies`, differentiable in x, in evaluation mode.
    x : Tensor, shape (n, *shape)
        In the data's own units.
    labels : Tensor of int, shape (n,)
        The right classes, from 0.
    epsilon : float
        Radius of the ball, in the units of x.
    norm : {"Linf", "L2"}
        The largest change of one entry, or the root of the sum of squared changes.
    steps : int
        In each restart; with 0 it is random noise.
    restarts : int
    gradient : {"exact", "finite"}
        By differentiation, or from differences of margins at 16 random pairs of points half of ε away, as
        one who knows the probabilities only would have it.
    seed : int

    Raises
    ------
    AbilityError
        If `classify` is not differentiable.
    DomainError
        If columns are periodic or have no order.
    DataError
        If labels do not fit the rows, or ε is negative.

    References
    ----------
    Madry et al. 2018, arXiv:1706.06083; Carlini & Wagner 2017, arXiv:1608.04644, for the margin;
    Spall 1992, IEEE Trans. Autom. Control 37, 332, for finite differences.
    """
    domain = seen_by(model)
    whole("steps", steps)
    whole("restarts", restarts)
    if norm not in ("Linf", "L2") or gradient not in ("exact", "finite"):
        raise LikelyError(f"norm={norm!r}, gradient={gradient!r}: take Linf or L2, exact or finite")
    if len(labels) != len(x) or not epsilon >= 0:
        raise DataError(
            f"{len(labels)} labels of {len(x)} rows, ε={epsilon}: give one each, and ε ≥ 0"
        )
    domain.check(x, "the rows to attack")
    ball = _Ball(domain, epsilon, norm)
    found = []
    with seeded(seed, model.device):
        for at in chunks(domain, len(x)):
            part, y = x[at].to(model.device), labels[at].to(model.device)
            found.append(_attacked(model, ball, part, y, steps, restarts, gradient == "finite"))
    worst, margin = zip(*found, strict=True)
    return Adversarial(torch.cat(worst).to(x), torch.cat(margin).double().cpu())


def _attacked(
    model: GenerativeModel,
    ball: "_Ball",
    x: Tensor,
    y: Tensor,
    steps: int,
    restarts: int,
    finite: bool,
) -> tuple[Tensor, Tensor]:
    """The worst rows that restarts find, and their margins."""
    start = x if x.is_floating_point() else x.float()
    worst = start.clone()
    margin = _margin(model, start, y).detach()
    for _ in range(restarts):
        (at,) = torch.where(margin <= 0)
        if not len(at):
            break
        change = ball.inside(start[at], ball.random(start[at]))
        for step in range(steps + 1):
            rows = ball.moved(start[at], change)
            if finite:
                value, slope = _finite(model, ball, rows, y[at])
            else:
                value, slope = _exact(model, rows, y[at])
            better = value > margin[at]
            margin[at[better]], worst[at[better]] = value[better], rows[better]
            if step < steps:
                change = change + TRAVEL / steps * ball.direction(slope)
                change = ball.inside(start[at], change)
    return worst, margin


def _margin(model: GenerativeModel, x: Tensor, y: Tensor) -> Float[Tensor, " n"]:
    p = model.classify(x)
    log_p = p.clamp_min(torch.finfo(p.dtype).tiny).log()
    right = torch.nn.functional.one_hot(y, p.shape[1]).bool()
    return log_p.masked_fill(right, -torch.inf).amax(1) - log_p[right]


def _exact(model: GenerativeModel, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Margins, and their gradients."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = _margin(model, x, y)
        if not value.requires_grad:
            name = type(model).__name__
            raise AbilityError(f'{name}: classify has no gradients in x; take gradient="finite"')
        (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


@torch.no_grad()
def _finite(model: GenerativeModel, ball: "_Ball", x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Margins, and their gradients by finite differences along random signs."""
    slope = torch.zeros_like(x)
    for _ in range(DIRECTIONS):
        signs = torch.randint_like(x, 2) * 2 - 1
        up, down = (
            _margin(model, ball.moved(x, ball.inside(x, side * ball.direction(signs) / 2)), y)
            for side in (1, -1)
        )
        slope += signs * (up - down).reshape(-1, *[1] * (x.ndim - 1))
    return _margin(model, x, y), slope


class _Ball:
    """Changes of at most ε that keep rows in their domain."""

    def __init__(self, domain: Domain, epsilon: float, norm: Norm) -> None:
        if wrong := domain.kinds & {Binary, Categorical, Periodic, Spin}:
            kind = min(kind.__name__.lower() for kind in wrong)
            raise DomainError(
                f"a distance between {kind} values has no meaning here: no attack moves them"
            )
        self.epsilon, self.infinite = epsilon, norm == "Linf"
        low, high = (torch.empty(domain.size, dtype=torch.float64) for _ in range(2))
        discrete = torch.zeros(domain.size, dtype=torch.bool)
        for column, index in domain.groups:
            ends = (column.value, column.value) if isinstance(column, Constant) else column.ends
            low[index] = SMALL if isinstance(column, Positive) else ends[0]
            high[index] = ends[1]
            discrete[index] = isinstance(column, Discrete)
        self.low, self.high, self.discrete = (
            part.reshape(domain.shape) for part in (low, high, discrete)
        )

    def random(self, x: Tensor) -> Tensor:
        """Uniform in the ball."""
        if self.infinite:
            return self.epsilon * (2 * torch.rand_like(x) - 1)
        radius = torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return radius ** (1 / x[0].numel()) * self.direction(torch.randn_like(x))

    def direction(self, slope: Tensor) -> Tensor:
        """The change of size ε that goes farthest along a slope."""
        if self.infinite:
            return self.epsilon * slope.sign()
        tiny = torch.finfo(slope.dtype).tiny
        flat = slope.flatten(1)
        flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(tiny)  # or squares underflow
        flat = flat / flat.norm(dim=1, keepdim=True).clamp_min(tiny)
        return self.epsilon * flat.reshape(slope.shape)

    def inside(self, x: Tensor, change: Tensor) -> Tensor:
        """The nearest change of size ε at most; then within the bounds, which makes it no larger."""
        if self.infinite:
            change = change.clamp(-self.epsilon, self.epsilon)
        else:
            size = change.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))
            change = change * (self.epsilon / size.clamp_min(1e-30)).clamp_max(1)
        return (x + change).clamp(self.low.to(x), self.high.to(x)) - x

    def moved(self, x: Tensor, change: Tensor) -> Tensor:
        """Rows of the domain; whole numbers change by whole numbers."""
        moved = x + torch.where(self.discrete.to(x.device), change.trunc(), change)
        return moved.clamp(self.low.to(x), self.high.to(x))  # since rounding may leave the bounds


@dataclass(frozen=True, eq=False)
class Robustness:
    """Accuracies under attacks of growing size.

    Attributes
    ----------
    norm : {"Linf", "L2"}
    epsilon : list of float
        Sizes, in the data's own units; the first is 0.
    accuracy : list of Figure
        Under projected gradient descent, with binomial errors. An upper bound of what is left under
        the worst change.
    random : list of Figure
        Under the worst of as many random changes as there were restarts.
    rows, steps, restarts : int
        Of the attack, whose steps have the length 2.5 ε/steps.
    notes : list of str
        What suggests that gradients are masked, so that a better attack would find more.
    """

    norm: Norm
    epsilon: list[float]
    accuracy: list[Figure]
    random: list[Figure]
    rows: int
    steps: int
    restarts: int
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        figures = {
            name: [plain(figure) for figure in getattr(self, name)]
            for name in ("accuracy", "random")
        }
        return plain(self) | figures

    def summary(self) -> Table:
        """A table for `rich` to print; `str()` gives it as text, with the notes."""
        steps = (
            f"{self.restarts} × {self.steps} steps of {TRAVEL}ε/{self.steps}, {self.rows:,} rows"
        )
        table = Table(
            f"ε ({self.norm})", "accuracy under attack", "… under noise", title=f"PGD: {steps}"
        )
        for epsilon, *figures in zip(self.epsilon, self.accuracy, self.random, strict=True):
            table.add_row(f"{epsilon:g}", *map(str, figures))
        return table

    def __str__(self) -> str:
        return as_text(self.summary(), *self.notes)


def robustness(
    model: GenerativeModel,
    x: Tensor,
    labels: Int64[Tensor, " n"],
    epsilon: Sequence[float],
    *,
    norm: Norm = "Linf",
    steps: int = 40,
    restarts: int = 5,
    seed: int = 0,
) -> Robustness:
    """Accuracy of a classifier under attacks of several sizes, and whether its gradients mislead them.

    Gradients are masked where noise or an attack without gradients goes further than one with them, where a
    larger ball leaves more rows right, or where they vanish; then the accuracy says little.

    Parameters
    ----------
    model, x, labels, norm, steps, restarts, seed
        As in `pgd`.
    epsilon : sequence of float
        Sizes of the attacks; 0 is added.

    Raises
    ------
    AbilityError, DomainError, DataError
        As `pgd`.

    References
    ----------
    Athalye, Carlini & Wagner 2018, arXiv:1802.00420, sec. 3, for the signs of masked gradients.
    """
    clean = pgd(model, x, labels, 0.0, norm=norm, restarts=0)
    sizes, accuracy, random = [0.0], [clean.accuracy], [clean.accuracy]
    notes: list[str] = []
    few = slice(FINITE_ROWS)
    for size in sorted({float(size) for size in epsilon} - {0.0}):
        options: dict[str, Any] = {"norm": norm, "seed": seed}
        found = pgd(model, x, labels, size, steps=steps, restarts=restarts, **options)
        noise = pgd(model, x, labels, size, steps=0, restarts=restarts, **options)
        options |= {"gradient": "finite", "steps": FINITE_STEPS, "restarts": 1}
        finite = pgd(model, x[few], labels[few], size, **options)
        sizes.append(size)
        accuracy.append(found.accuracy)
        random.append(noise.accuracy)
        notes += _masked(size, clean.margin, found.margin, noise.margin, finite.margin)
    for smaller, larger, a, b in zip(sizes, sizes[1:], accuracy, accuracy[1:], strict=False):
        if b.value - a.value > 2 * ((a.stderr or 0) + (b.stderr or 0)):
            notes.append(f"more rows are right at ε = {larger:g} ({b}) than at {smaller:g} ({a})")
    flat = _flat(model, x[few], labels[few])
    if flat > 0:
        notes.append(f"the gradient vanishes at {flat:.0%} of the rows")
    if notes:
        notes.append("gradients are masked: accuracies under this attack say little")
    return Robustness(norm, sizes, accuracy, random, len(x), steps, restarts, notes)


def _masked(size: float, clean: Tensor, pgd: Tensor, *others: Tensor) -> Iterator[str]:
    """Which attacks move the margins of rows that gradients have not turned farther than these did."""
    for other, what in zip(others, ("random noise", "an attack without gradients"), strict=True):
        few = slice(len(other))
        further = other - clean[few] > FURTHER * (pgd - clean)[few]
        part = (further & (pgd[few] <= 0)).double().mean().item()
        if part > MASKED:
            yield f"{what} goes further at {part:.0%} of the rows (ε = {size:g})"


def _flat(model: GenerativeModel, x: Tensor, labels: Tensor) -> float:
    """Part of the rows where the margin's gradient is exactly zero."""
    x = x.to(model.device)
    _, slope = _exact(model, x if x.is_floating_point() else x.float(), labels.to(model.device))
    return (slope.flatten(1) == 0).all(1).double().mean().item()
