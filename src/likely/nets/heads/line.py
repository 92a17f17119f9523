"""Heads of columns on a line: densities on it, and bijections to it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract.views import LOG_TWO_PI, resolving, weighted_moments
from likely.core.columns import MAX_COUNT, Column, Count, Discrete, Interval, Positive
from likely.nets.heads.base import ALL, NARROWEST, Head, Mixture, bounds_of, kernels

EAGER = 10.0  # steps of Adam have a set length: a width that moves ten times as far keeps up


class Identity:
    """The bijection g of columns to the line: x itself here, another one in its subclasses."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns

    def forward(self, x: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor]:
        """g(x), and log g'(x)."""
        return x, torch.zeros_like(x)

    def inverse(self, y: Tensor, info: torch.finfo, at: slice = ALL) -> Tensor:
        """x, inside the support also where it rounds; `info` is that of the model's numbers."""
        return y

    def cell(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The lower edge g(x − ½) of a whole number's cell, and its width on the line."""
        return x - 0.5, torch.ones_like(x)


class Logarithm(Identity):
    """Half-lines: g(x) = log x."""

    def forward(self, x: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor]:
        y = x.log()
        return y, -y

    def inverse(self, y: Tensor, info: torch.finfo, at: slice = ALL) -> Tensor:
        return y.exp().clamp(info.tiny, info.max)  # draws may be rounded to the type of the model


class CountLogarithm(Identity):
    """Counts: g(x) = log(1 + x)."""

    def forward(self, x: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor]:
        y = x.log1p()
        return y, -y

    def inverse(self, y: Tensor, info: torch.finfo, at: slice = ALL) -> Tensor:
        return y.expm1().clamp_max(MAX_COUNT)

    def cell(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x + 0.5).log(), (1 / (x + 0.5)).log1p()


class Logit(Identity):
    """Intervals: g(x) = log (x − a)/(b − x).

    A logistic of scale 1 is then uniform, and densities are like a power of the distance from a
    bound. They are constant nearer to a bound than floating point resolves.
    """

    columns: Sequence[Interval]

    def forward(self, x: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor]:
        low, high = bounds_of(self.columns[at], x)
        width = high - low
        y = ((x - low) / width).logit(torch.finfo(width.dtype).eps)
        return y, -F.logsigmoid(y) - F.logsigmoid(-y) - width.log()

    def inverse(self, y: Tensor, info: torch.finfo, at: slice = ALL) -> Tensor:
        low, high = bounds_of(self.columns[at], y)
        return torch.lerp(low, high, y.sigmoid()).clamp(low, high)


def bijection(column: Column) -> type[Identity]:
    """The one to the line that heads take on a kind of column."""
    match column:
        case Count():
            return CountLogarithm
        case Interval():
            return Logit
        case Positive():
            return Logarithm
    return Identity


class Line(Head):
    """Densities on the standardised scale z = (g(x) − shift)/scale, where g is a bijection.

    log p(x) = log p(z) + log g'(x) − log scale
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.bijection = bijection(columns[0])(columns)
        self.shift = nn.Buffer(torch.zeros(len(columns)))
        self.scale = nn.Buffer(torch.ones(len(columns)))

    @staticmethod
    def shared(column: Column) -> type[Identity]:
        return bijection(column)

    def standardised(self, x: Tensor, outputs: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, in the type of the outputs."""
        y, log_slope = self.bijection.forward(x, at)
        z = ((y - self.shift[at]) / self.scale[at]).to(outputs)
        return z, log_slope.to(outputs) - self.scale[at].log()

    def original(self, z: Tensor, at: slice = ALL) -> Tensor:
        """The entries whose standardised values are z, in float64."""
        y = z.double() * self.scale[at] + self.shift[at]
        return self.bijection.inverse(y, torch.finfo(self.shift.dtype), at)

    def type_of_draws(self, dtype: torch.dtype) -> torch.dtype:
        shift, scale = self.shift.double(), self.scale.double()
        info = torch.finfo(self.shift.dtype)
        ends = (self.bijection.inverse(y, info) for y in (shift - scale, shift + scale))
        return resolving(dtype, *ends)

    def prepare(self, x: Tensor, weight: Tensor) -> None:
        shift, scale = weighted_moments(self.bijection.forward(x)[0], weight)
        self.shift.copy_(shift)
        self.scale.copy_(scale)


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
        z = (self.bijection.forward(x)[0] - self.shift) / self.scale
        means, widths = kernels(z, weight, self.components)
        return torch.cat([torch.zeros_like(means), means, widths.log()], 1)

    def terms(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> tuple[Tensor, Tensor | float]:
        """Log-density of each entry in each component on the line, and what leads to that of x."""
        _, means, log_scales = self.parameters_of(outputs)
        z, log_det = self.standardised(x, outputs, at)
        t = (z[..., None] - means) * (-log_scales).exp()
        return F.logsigmoid(t) + F.logsigmoid(-t) - log_scales, log_det

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        terms, log_det = self.terms(outputs, x, at)
        logits, *_ = super().parameters_of(outputs)
        return self.mixed(logits, terms) + log_det

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        mean, log_scale = self.chosen(outputs)
        u = torch.rand_like(mean)
        return self.original(mean + log_scale.exp() * u.logit(torch.finfo(u.dtype).eps), at)

    def mean(self, outputs: Tensor) -> Tensor:
        logits, means, _ = self.parameters_of(outputs)
        return self.original((logits.softmax(-1) * means).sum(-1))


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


class DiscretisedLogistics(Logistics):
    """Mixtures of logistics that are integrated over cells around the whole numbers.

        P(x) = Σ_k π_k (σ((z(x + ½) − μ_k)/s_k) − σ((z(x − ½) − μ_k)/s_k))

    The first and the last cell extend to infinity (Salimans, Karpathy, Chen & Kingma, PixelCNN++
    (2017), arXiv:1701.05517, eq. 2). Differences are taken in logarithms, without cancellation:
    σ(b) − σ(a) = σ(b) σ(−a) (1 − e^{a−b}).
    """

    def __init__(self, columns: Sequence[Discrete], components: int) -> None:
        super().__init__(columns, components)
        self.top = nn.Buffer(torch.tensor([c.top for c in columns]), persistent=False)

    def prepare(self, x: Tensor, weight: Tensor) -> None:
        super().prepare(_spread(x), weight)

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        return super().initial(_spread(x), weight)

    def terms(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> tuple[Tensor, float]:
        """Log-probability of each entry in each component; it is that of x."""
        _, means, log_scales = self.parameters_of(outputs)
        x = x.to(outputs)
        first, last = (x <= 0)[..., None], (x >= self.top[at])[..., None]
        y, width = self.bijection.cell(x)
        factor = (-log_scales).exp()
        # Neighbours round their common edge alike: no probability is lost between them.
        a, b = (
            (((edge - self.shift[at]) / self.scale[at])[..., None] - means) * factor
            for edge in (y, self.bijection.cell(x + 1)[0])
        )
        gap = (width / self.scale[at])[..., None] * factor
        above = torch.where(first, 0.0, F.logsigmoid(-a))
        below = torch.where(last, 0.0, F.logsigmoid(b))
        between = torch.where(first | last, 0.0, (-torch.expm1(-gap)).log())
        return above + below + between, 0.0

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        return (super().sample(outputs, at) + 0.5).floor().clamp_min(0).minimum(self.top[at])


def _spread(x: Tensor) -> Tensor:
    """Whole numbers spread over their cells."""
    return x + torch.rand(x.shape, device=x.device) - 0.5
