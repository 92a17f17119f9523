"""Heads: from the outputs of a network to a distribution for each entry of a domain.

=====================================  ===================================================
binary, spin                           Bernoulli: one output, a logit
categorical                            softmax: k logits
integer of at most 64 levels           softmax: k − 1 coefficients of `cosine_basis`
wider integer                          K discretised logistics: 3 K outputs
count                                  the same on the scale log(1 + x)
real                                   K logistics: 3 K outputs
positive, interval                     the same of log x, of log (x − a)/(b − x)
periodic                               K von Mises distributions: 3 K outputs
constant, single level                 nothing
=====================================  ===================================================

Each is normalised by the base measure of its column, counting or Lebesgue. Families whose outputs are
hidden causes rather than the entries before (variational autoencoders) take simpler ones, by
`simple_head`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract.views import (
    LOG_TWO_PI,
    cosine_basis,
    has_few_levels,
    resolving,
    weighted_moments,
)
from likely.core.columns import (
    Binary,
    Column,
    Constant,
    Count,
    Discrete,
    Integer,
    Interval,
    Periodic,
    Positive,
)
from likely.core.domain import Domain
from likely.core.errors import DomainError, LikelyError

ALL = slice(None)
PSEUDOCOUNT = 0.1  # rows added to each level when frequencies are counted
EAGER = 10.0  # steps of Adam have a set length: a width that moves ten times as far keeps up
NARROWEST = 1e-4  # least width of a component: without one, a density could grow without bound


class Head(nn.Module):
    """Distributions of several columns of one kind, each with the same number of outputs.

    Outputs have the shape (n, columns, size), and entries x the shape (n, columns); `at` says which
    of the columns they are.
    """

    size: int  # outputs of a column
    entries: Tensor  # which entries of the domain the columns are, shape (columns,)
    slots: Tensor  # where their outputs stand, shape (columns, size)

    def prepare(self, x: Tensor, weight: Tensor) -> None:
        """Take scales from rows of the training split."""

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        """Outputs that give about the marginals of these rows, shape (columns, size)."""
        raise NotImplementedError

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        """Log-probability or log-density of each entry, shape (n, columns)."""
        raise NotImplementedError

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        """A draw for each entry, shape (n, columns), in a type that resolves it."""
        raise NotImplementedError

    def mean(self, outputs: Tensor) -> Tensor:
        """What to show of each entry without noise.

        Its mean; on a half-line or an interval the median; of categories the likeliest one.
        """
        raise NotImplementedError

    def type_of_draws(self, dtype: torch.dtype) -> torch.dtype:
        """`dtype`, or float64 where draws need it."""
        return dtype


class Bernoulli(Head):
    """Two values; the output is the logit of the upper one."""

    low: Tensor
    step: Tensor

    def __init__(self, columns: Sequence[Binary], components: int) -> None:
        super().__init__()
        self.size = 1
        low, step = [float(c.low) for c in columns], [float(c.step) for c in columns]
        self.register_buffer("low", torch.tensor(low), persistent=False)
        self.register_buffer("step", torch.tensor(step), persistent=False)

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        upper = weight @ (x > self.low).to(weight)
        lower = weight.sum() - upper
        return ((upper + PSEUDOCOUNT) / (lower + PSEUDOCOUNT)).log()[:, None]

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        code = (x > self.low[at]).to(outputs)
        return -F.binary_cross_entropy_with_logits(outputs[..., 0], code, reduction="none")

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        probability = outputs[..., 0].sigmoid()
        code = torch.rand_like(probability) < probability
        return self.low[at] + self.step[at] * code

    def mean(self, outputs: Tensor) -> Tensor:
        return self.low + self.step * outputs[..., 0].sigmoid()


class Softmax(Head):
    """Finitely many values of one kind of column; the outputs are their logits."""

    def __init__(self, columns: Sequence[Discrete], components: int) -> None:
        super().__init__()
        self.levels = self.size = columns[0].levels or 0
        self.low, self.step = columns[0].low, columns[0].step

    def logits(self, outputs: Tensor) -> Tensor:
        """Logits of all levels."""
        return outputs

    def code(self, x: Tensor) -> Tensor:
        """Which of the levels, counted from 0, each value is."""
        return (x.long() - self.low) // self.step

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        counts = weight.new_full((x.shape[1], self.levels), PSEUDOCOUNT)
        return counts.scatter_add_(1, self.code(x).T, weight.expand(x.shape[1], -1)).log()

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        logits, code = self.logits(outputs).flatten(0, 1), self.code(x).flatten()
        return -F.cross_entropy(logits, code, reduction="none").view(x.shape)

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        return (self.low + self.step * choose(self.logits(outputs))).to(outputs)

    def mean(self, outputs: Tensor) -> Tensor:
        return (self.low + self.step * self.logits(outputs).argmax(-1)).to(outputs)


class OrderedSoftmax(Softmax):
    """The same for ordered levels; the outputs are the logits' coefficients in `cosine_basis`."""

    basis: Tensor

    def __init__(self, columns: Sequence[Discrete], components: int) -> None:
        super().__init__(columns, components)
        self.size = self.levels - 1
        self.register_buffer("basis", cosine_basis(self.levels), persistent=False)

    def logits(self, outputs: Tensor) -> Tensor:
        return outputs @ self.basis.T

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        # The basis is orthogonal, and also to the constant, which has no effect.
        return super().initial(x, weight) @ (self.basis / self.basis.square().sum(0)).to(weight)

    def mean(self, outputs: Tensor) -> Tensor:
        level = torch.arange(self.levels, device=outputs.device).to(outputs)
        return self.logits(outputs).softmax(-1) @ level


class Mixture(Head):
    """Mixtures of K components with two parameters each; the first K outputs are the logits."""

    components: int

    def parameters_of(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and the two parameters, shape (n, columns, components) each."""
        logits, first, second = outputs.unflatten(-1, (3, self.components)).unbind(-2)
        return logits, first, second

    def mixed(self, logits: Tensor, terms: Tensor) -> Tensor:
        """Log-density of a mixture whose components have the log-densities `terms`."""
        return (logits + terms).logsumexp(-1) - logits.logsumexp(-1)

    def chosen(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The two parameters of a component drawn for each entry, shape (n, columns) each."""
        logits, first, second = self.parameters_of(outputs)
        component = choose(logits)[..., None]
        return first.gather(-1, component)[..., 0], second.gather(-1, component)[..., 0]


class Line(Head):
    """Densities on the standardised scale z = (g(x) − shift)/scale.

        log p(x) = log p(z) + log g'(x) − log scale

    g is a bijection to the line: the identity here, another one in `Logarithm` and `Logit`.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns = columns
        self.register_buffer("shift", torch.zeros(len(columns)))
        self.register_buffer("scale", torch.ones(len(columns)))

    def to_line(self, x: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor]:
        """The bijection g, and log g'."""
        return x, torch.zeros_like(x)

    def from_line(self, y: Tensor, at: slice = ALL) -> Tensor:
        """The inverse of g, inside the support also where it rounds."""
        return y

    def standardised(self, x: Tensor, outputs: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, in the type of the outputs."""
        y, log_slope = self.to_line(x, at)
        z = ((y - self.shift[at]) / self.scale[at]).to(outputs)
        return z, log_slope.to(outputs) - self.scale[at].log()

    def original(self, z: Tensor, at: slice = ALL) -> Tensor:
        """The entries whose standardised values are z, in float64."""
        return self.from_line(z.double() * self.scale[at] + self.shift[at], at)

    def type_of_draws(self, dtype: torch.dtype) -> torch.dtype:
        shift, scale = self.shift.double(), self.scale.double()
        return resolving(dtype, self.from_line(shift - scale), self.from_line(shift + scale))

    def prepare(self, x: Tensor, weight: Tensor) -> None:
        shift, scale = weighted_moments(self.to_line(x)[0], weight)
        self.shift.copy_(shift)
        self.scale.copy_(scale)


class Logarithm(Line):
    """Half-lines: g(x) = log x."""

    def to_line(self, x: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor]:
        y = x.log()
        return y, -y

    def from_line(self, y: Tensor, at: slice = ALL) -> Tensor:
        info = torch.finfo(self.shift.dtype)  # draws may be rounded to the type of the model
        return y.exp().clamp(info.tiny, info.max)


class Logit(Line):
    """Intervals: g(x) = log (x − a)/(b − x).

    A logistic of scale 1 is then uniform, and densities are like a power of the distance from a
    bound. They are constant nearer to a bound than floating point resolves.
    """

    columns: Sequence[Interval]

    def to_line(self, x: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor]:
        low, high = _bounds(self.columns[at], x)
        width = high - low
        y = ((x - low) / width).logit(torch.finfo(width.dtype).eps)
        return y, -F.logsigmoid(y) - F.logsigmoid(-y) - width.log()

    def from_line(self, y: Tensor, at: slice = ALL) -> Tensor:
        low, high = _bounds(self.columns[at], y)
        return torch.lerp(low, high, y.sigmoid()).clamp(low, high)


class Logistics(Line, Mixture):
    """Mixtures of logistic distributions, log p(z) = log Σ_k π_k σ'((z − μ_k)/s_k)/s_k.

    The outputs are the logits of π, the means μ and log s (bounded softly from below).
    """

    def __init__(self, columns: Sequence[Column], components: int) -> None:
        super().__init__(columns)
        self.components, self.size = components, 3 * components

    def parameters_of(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, μ and log s."""
        logits, means, raw = super().parameters_of(outputs)
        return logits, means, F.softplus(raw - math.log(NARROWEST)) + math.log(NARROWEST)

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        z = (self.to_line(x)[0] - self.shift) / self.scale
        means, widths = kernels(z, weight, self.components)
        return torch.cat([torch.zeros_like(means), means, widths.log()], 1)

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        logits, means, log_scales = self.parameters_of(outputs)
        z, log_det = self.standardised(x, outputs, at)
        t = (z[..., None] - means) * (-log_scales).exp()
        return self.mixed(logits, F.logsigmoid(t) + F.logsigmoid(-t) - log_scales) + log_det

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        mean, log_scale = self.chosen(outputs)
        u = torch.rand_like(mean)
        return self.original(mean + log_scale.exp() * u.logit(torch.finfo(u.dtype).eps), at)

    def mean(self, outputs: Tensor) -> Tensor:
        logits, means, _ = self.parameters_of(outputs)
        return self.original((logits.softmax(-1) * means).sum(-1))


class LogLogistics(Logarithm, Logistics):
    """The same on a half-line."""


class LogitLogistics(Logit, Logistics):
    """The same on an interval."""


class Gaussian(Line):
    """Normal distributions, p(z) = N(z; μ, s²): μ is the output, s is one number for each column.

    s is learnt, unless `fix` sets it.
    """

    def __init__(self, columns: Sequence[Column], components: int) -> None:
        super().__init__(columns)
        self.size = 1
        self.width = nn.Parameter(torch.zeros(len(columns)))  # log s, in units of `EAGER`

    def fix(self, scale: float) -> None:
        """Set s, above `NARROWEST`, for all columns, and learn it no longer."""
        self.width.requires_grad_(False).fill_(math.log(scale - NARROWEST) / EAGER)

    def widths(self) -> Tensor:
        """s of each column, at least about `NARROWEST`."""
        return (EAGER * self.width).exp() + NARROWEST

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight.new_zeros(x.shape[1], 1)

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        z, log_det = self.standardised(x, outputs, at)
        s = self.widths()[at]
        t = (z - outputs[..., 0]) / s
        return -(t.square() + LOG_TWO_PI) / 2 - s.log() + log_det

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        mean = outputs[..., 0]
        return self.original(mean + self.widths()[at] * torch.randn_like(mean), at)

    def mean(self, outputs: Tensor) -> Tensor:
        return self.original(outputs[..., 0])


class LogGaussian(Logarithm, Gaussian):
    """The same on a half-line."""


class LogitGaussian(Logit, Gaussian):
    """The same on an interval."""


class DiscretisedLogistics(Logistics):
    """Mixtures of logistics that are integrated over cells around the whole numbers.

        P(x) = Σ_k π_k (σ((z(x + ½) − μ_k)/s_k) − σ((z(x − ½) − μ_k)/s_k))

    The first and the last cell extend to infinity (Salimans, Karpathy, Chen & Kingma, PixelCNN++
    (2017), arXiv:1701.05517, eq. 2). Differences are taken in logarithms, without cancellation:
    σ(b) − σ(a) = σ(b) σ(−a) (1 − e^{a−b}).
    """

    top: Tensor

    def __init__(self, columns: Sequence[Discrete], components: int) -> None:
        super().__init__(columns, components)
        top = torch.tensor([math.inf if c.levels is None else c.levels - 1.0 for c in columns])
        self.register_buffer("top", top, persistent=False)

    def cell(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lower edge of a cell on the line, and its width."""
        return x - 0.5, torch.ones_like(x)

    def prepare(self, x: Tensor, weight: Tensor) -> None:
        super().prepare(_spread(x), weight)

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        return super().initial(_spread(x), weight)

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        logits, means, log_scales = self.parameters_of(outputs)
        x = x.to(outputs)
        first, last = (x <= 0)[..., None], (x >= self.top[at])[..., None]
        y, width = self.cell(x)
        factor = (-log_scales).exp()
        a = (((y - self.shift[at]) / self.scale[at])[..., None] - means) * factor
        gap = (width / self.scale[at])[..., None] * factor
        above = torch.where(first, 0.0, F.logsigmoid(-a))
        below = torch.where(last, 0.0, F.logsigmoid(a + gap))
        between = torch.where(first | last, 0.0, (-torch.expm1(-gap)).log())
        return self.mixed(logits, above + below + between)

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        return (super().sample(outputs, at) + 0.5).floor().clamp_min(0).minimum(self.top[at])


class DiscretisedLogLogistics(DiscretisedLogistics):
    """The same for counts, with edges at log(x + ½)."""

    def to_line(self, x: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor]:
        y = x.log1p()
        return y, -y

    def from_line(self, y: Tensor, at: slice = ALL) -> Tensor:
        return y.expm1().clamp_max(2.0**62)  # int64 holds it

    def cell(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x + 0.5).log(), (1 / (x + 0.5)).log1p()


class VonMises(Mixture):
    """Mixtures of von Mises distributions of the angle θ = 2π (x − a)/(b − a).

        p(θ) = Σ_k π_k exp(κ_k cos(θ − μ_k)) / (2π I₀(κ_k))

    The outputs of a component are a point v of the plane in the direction μ, with κ = |v|²: a
    location can turn around the circle without a jump, v = 0 is uniform, and the width is about
    1/|v| (bounded from below).
    """

    def __init__(self, columns: Sequence[Periodic], components: int) -> None:
        super().__init__()
        self.columns = columns
        self.components, self.size = components, 3 * components

    def type_of_draws(self, dtype: torch.dtype) -> torch.dtype:
        return resolving(dtype, *_bounds(self.columns, torch.empty(0, dtype=torch.float64)))

    def parameters_of(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and the two coordinates of v."""
        logits, v1, v2 = super().parameters_of(outputs)
        shrink = (1 + NARROWEST**2 * (v1.square() + v2.square())).rsqrt()
        return logits, shrink * v1, shrink * v2

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        low, high = _bounds(self.columns, x)
        angle = 2 * math.pi * (x - low) / (high - low)
        w = weight[:, None]
        centre = torch.atan2((w * angle.sin()).sum(0), (w * angle.cos()).sum(0))
        turned = (angle - centre + math.pi).remainder(2 * math.pi) - math.pi
        means, widths = kernels(turned, weight, self.components)
        means, lengths = means + centre[:, None], 1 / (2 * widths)
        return torch.cat([torch.zeros_like(means), lengths * means.cos(), lengths * means.sin()], 1)

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        logits, v1, v2 = self.parameters_of(outputs)
        low, high = _bounds(self.columns[at], x)
        angle = (2 * math.pi * (x - low) / (high - low)).to(outputs)[..., None]
        kappa = v1.square() + v2.square()
        length = (kappa + torch.finfo(kappa.dtype).tiny).sqrt()
        # κ (cos(θ − μ) − 1) without cancellation, and I₀ scaled to match.
        distance2 = (length * angle.cos() - v1).square() + (length * angle.sin() - v2).square()
        log_det = -(high - low).log().to(outputs)
        return self.mixed(logits, -distance2 / 2 - torch.special.i0e(kappa).log()) + log_det

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        v1, v2 = self.chosen(outputs)
        kappa = (v1.square() + v2.square()).clamp_min(1e-6)
        angle = torch.distributions.VonMises(torch.atan2(v2, v1), kappa).sample()
        return self._turned(angle, at)

    def mean(self, outputs: Tensor) -> Tensor:
        logits, v1, v2 = self.parameters_of(outputs)
        weight = logits.softmax(-1)
        return self._turned(torch.atan2((weight * v2).sum(-1), (weight * v1).sum(-1)))

    def _turned(self, angle: Tensor, at: slice = ALL) -> Tensor:
        """The entries at these angles, in float64."""
        turns = angle.double() / (2 * math.pi)
        low, high = _bounds(self.columns[at], turns)
        return torch.lerp(low, high, turns - turns.floor()).clamp(low, high)


def choose(logits: Float[Tensor, "*shape k"]) -> Shaped[Tensor, "*shape"]:
    """Draw a category for each row of logits, by inversion; some may be −inf."""
    # Inversion needs no normalisation, and torch's softmax is slow over a few categories.
    mass = (logits - logits.amax(-1, keepdim=True)).exp().cumsum(-1)
    return (mass <= torch.rand_like(mass[..., :1]) * mass[..., -1:]).sum(-1)


def kernels(
    z: Float[Tensor, "n columns"], weight: Float[Tensor, " n"], components: int
) -> tuple[Float[Tensor, "columns components"], Float[Tensor, "columns components"]]:
    """Means and widths of equally weighted kernels that together resemble a sample."""
    z, order = z.sort(0)
    mass = weight[order].cumsum(0).T
    levels = torch.arange(1, 4 * components, device=z.device) / (4 * components)
    index = torch.searchsorted(mass.contiguous(), mass[:, -1:] * levels)
    quantiles = z.T.gather(1, index.clamp_max(len(z) - 1))
    widths = quantiles[:, 2::4] - quantiles[:, ::4]
    return quantiles[:, 1::4], (0.7 * widths).clamp_min(0.01)


def _bounds(columns: Sequence[Interval], like: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of columns, in the type of x, in which `Domain` compares them too.

    They are no buffers, since those are rounded to whatever type the model had first.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    bounds = [[column.low for column in columns], [column.high for column in columns]]
    low, high = torch.tensor(bounds, dtype=dtype, device=like.device)
    return low, high


def _spread(x: Tensor) -> Tensor:
    """Whole numbers spread over their cells."""
    return x + torch.rand(x.shape, device=x.device) - 0.5


def mixture_head(column: Column) -> type[Head] | None:
    """The head of a column in the table above."""
    match column:
        case Constant() | Discrete(levels=1):
            return None
        case Binary():
            return Bernoulli
        case Count():
            return DiscretisedLogLogistics
        case Integer():
            return OrderedSoftmax if has_few_levels(column) else DiscretisedLogistics
        case Discrete():
            return Softmax
        case Periodic():
            return VonMises
        case Interval():
            return LogitLogistics
        case Positive():
            return LogLogistics
    return Logistics


def simple_head(column: Column) -> type[Head] | None:
    """The same with a Gaussian on the line instead of a mixture of logistics."""
    match column:
        case Constant() | Discrete() | Periodic():
            return mixture_head(column)
        case Interval():
            return LogitGaussian
        case Positive():
            return LogGaussian
    return Gaussian


class ColumnHeads(nn.Module):
    """A distribution for each entry of a domain, from the outputs of any network.

    Entries of one kind are treated together, without a loop over columns.

    Parameters
    ----------
    domain : Domain
        Any domain.
    components : int
        Components of a mixture.
    head_of : callable
        The kind of head that a column gets; None where there is nothing to learn.

    Attributes
    ----------
    sizes : list of int
        Number of outputs of each entry.
    """

    def __init__(
        self,
        domain: Domain,
        components: int = 10,
        head_of: Callable[[Column], type[Head] | None] = mixture_head,
    ) -> None:
        super().__init__()
        if components < 1:
            raise LikelyError(f"components must be at least 1, not {components}")
        self.domain = domain
        self._anchor: list[float] = domain.anchor.flatten().tolist()  # holds the constants
        members: dict[tuple[type[Head], int | None], list[int]] = {}
        for column, index in domain.groups:
            if (kind := head_of(column)) is not None:
                levels = getattr(column, "levels", None) if issubclass(kind, Softmax) else None
                members.setdefault((kind, levels), []).extend(index)
        if not members:
            raise DomainError("every column of the data is constant: there is nothing to learn")
        self.heads: Sequence[Head] = nn.ModuleList(  # type: ignore[assignment]
            kind([domain.column(i) for i in entries], components)
            for (kind, _), entries in members.items()
        )
        self.sizes = [0] * domain.size
        self._place: dict[int, tuple[int, slice]] = {}  # head and column of an entry
        for h, (head, entries) in enumerate(zip(self.heads, members.values(), strict=True)):
            for j, i in enumerate(entries):
                self.sizes[i] = head.size
                self._place[i] = h, slice(j, j + 1)
            head.register_buffer("entries", torch.tensor(entries), persistent=False)
        starts = torch.tensor([0, *accumulate(self.sizes)])
        for head in self.heads:
            slots = starts[head.entries][:, None] + torch.arange(head.size)
            head.register_buffer("slots", slots, persistent=False)
        self.uniform = len(members) == 1 and 0 not in self.sizes  # one head for all entries

    def prepare(self, x: Shaped[Tensor, "n *shape"], weight: Tensor | None = None) -> None:
        """Take scales from rows of the training split."""
        flat, weight = x.flatten(1), _weights(x, weight)
        for head in self.heads:
            head.prepare(flat[:, head.entries], weight)

    def initial(
        self, x: Shaped[Tensor, "n *shape"], weight: Tensor | None = None
    ) -> Float[Tensor, " outputs"]:
        """Outputs that give about the marginals of these rows, for biases to start at, in float64.

        Call it after `prepare`.
        """
        flat, weight = x.flatten(1), _weights(x, weight)
        outputs = weight.new_zeros(sum(self.sizes))
        for head in self.heads:
            outputs[head.slots] = head.initial(flat[:, head.entries], weight).to(outputs)
        return outputs

    @torch.no_grad()
    def start(
        self, last: nn.Linear, x: Shaped[Tensor, "n *shape"], weight: Tensor | None = None
    ) -> None:
        """Take scales from rows of the training split, and let a network begin at their marginals.

        `last` is the network's last layer.
        """
        self.prepare(x, weight)
        last.weight.zero_()
        last.bias.copy_(self.initial(x, weight))

    def log_prob(
        self, outputs: Float[Tensor, "n outputs"], x: Shaped[Tensor, "n *shape"]
    ) -> Float[Tensor, "n entries"]:
        """Log-probability or log-density (nats) of each entry."""
        flat = x.flatten(1)
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # after autocast
        if self.uniform:  # the same without copies
            return self.heads[0].log_prob(outputs.unflatten(1, (len(self.sizes), -1)), flat)
        result = outputs.new_zeros(flat.shape)
        for head in self.heads:
            part = head.log_prob(outputs[:, head.slots], flat[:, head.entries])
            result[:, head.entries] = part
        return result

    def sample(self, outputs: Float[Tensor, "n outputs"]) -> Shaped[Tensor, "n *shape"]:
        """A draw of all entries, independent given the outputs, in the type `type_of_draws`."""
        dtype = self.type_of_draws(outputs.dtype)
        x = torch.tensor(self._anchor, dtype=dtype, device=outputs.device).repeat(len(outputs), 1)
        for head in self.heads:
            x[:, head.entries] = head.sample(outputs[:, head.slots]).to(dtype)
        return x.reshape(len(x), *self.domain.shape)

    def mean(self, outputs: Float[Tensor, "n outputs"]) -> Float[Tensor, "n *shape"]:
        """What to show without noise, as in `Head.mean`; in float64 where draws are."""
        dtype = outputs.dtype if self.domain.discrete else self.type_of_draws(outputs.dtype)
        x = torch.tensor(self._anchor, dtype=dtype, device=outputs.device).repeat(len(outputs), 1)
        for head in self.heads:
            x[:, head.entries] = head.mean(outputs[:, head.slots]).to(dtype)
        return x.reshape(len(x), *self.domain.shape)

    def type_of_draws(self, dtype: torch.dtype) -> torch.dtype:
        """int64 on a discrete domain; otherwise `dtype`, or float64 where some entry needs it."""
        if self.domain.discrete:
            return torch.int64
        for head in self.heads:
            dtype = head.type_of_draws(dtype)
        return dtype

    def sample_entry(self, index: int, outputs: Float[Tensor, "n size"]) -> Float[Tensor, " n"]:
        """A draw of one entry from its own outputs."""
        if index not in self._place:
            return outputs.new_full((len(outputs),), self._anchor[index])
        head, column = self._place[index]
        return self.heads[head].sample(outputs[:, None], column)[:, 0]

    def log_prob_entry(
        self, index: int, outputs: Float[Tensor, "n size"], x: Shaped[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Log-probability or log-density (nats) of one entry from its own outputs."""
        if index not in self._place:
            return outputs.new_zeros(len(outputs))
        head, column = self._place[index]
        return self.heads[head].log_prob(outputs[:, None], x[:, None], column)[:, 0]


def _weights(x: Tensor, weight: Tensor | None) -> Tensor:
    """Weights of the rows with a mean of 1, in float64."""
    if weight is None:
        return torch.ones(len(x), dtype=torch.float64, device=x.device)
    weight = weight.to(torch.float64)
    return weight * len(x) / weight.sum()
