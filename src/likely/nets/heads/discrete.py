"""Heads of columns of few values: a Bernoulli distribution, and softmax."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract.views import cosine_basis
from likely.core.columns import Binary, Column, Discrete
from likely.nets.heads.base import ALL, Head, choose

PSEUDOCOUNT = 0.1  # rows added to each level when frequencies are counted


class Bernoulli(Head):
    """Two values; the output is the logit of the upper one."""

    def __init__(self, columns: Sequence[Binary], components: int) -> None:
        super().__init__()
        self.size = 1
        self.low = nn.Buffer(torch.tensor([float(c.low) for c in columns]), persistent=False)
        self.step = nn.Buffer(torch.tensor([float(c.step) for c in columns]), persistent=False)

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


class Known(Head):
    """A single value; nothing is learnt of it."""

    def __init__(self, columns: Sequence[Column], components: int) -> None:
        super().__init__()
        self.size = 0
        self.columns = columns

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight.new_zeros(x.shape[1], 0)

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        return outputs.new_zeros(x.shape)

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        values = torch.tensor([column.anchor for column in self.columns[at]])
        return values.to(outputs).expand(outputs.shape[:-1])

    def mean(self, outputs: Tensor) -> Tensor:
        return self.sample(outputs)


class Softmax(Head):
    """Finitely many values of one kind of column; the outputs are their logits."""

    def __init__(self, columns: Sequence[Discrete], components: int) -> None:
        super().__init__()
        self.levels = self.size = columns[0].levels or 0
        self.low, self.step = columns[0].low, columns[0].step

    @staticmethod
    def shared(column: Discrete) -> int | None:  # type: ignore[override]
        return column.levels

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

    def __init__(self, columns: Sequence[Discrete], components: int) -> None:
        super().__init__(columns, components)
        self.size = self.levels - 1
        self.basis = nn.Buffer(cosine_basis(self.levels), persistent=False)

    def logits(self, outputs: Tensor) -> Tensor:
        return outputs @ self.basis.T

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        # The basis is orthogonal, and also to the constant, which has no effect.
        return super().initial(x, weight) @ (self.basis / self.basis.square().sum(0)).to(weight)

    def mean(self, outputs: Tensor) -> Tensor:
        level = torch.arange(self.levels, device=outputs.device).to(outputs)
        return self.logits(outputs).softmax(-1) @ level


def sharpened(
    logits: Float[Tensor, "n k"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "n k"]:
    """Logits of the sharper distributions that the options of `SequenceModel._draw` ask for."""
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p is not None:
        ordered, index = logits.sort(descending=True)
        mass = ordered.softmax(-1)
        beyond = mass.cumsum(-1) - mass >= top_p  # what is likelier has enough already
        logits = logits.masked_fill(beyond.gather(1, index.argsort(1)), -math.inf)
    return logits


def regularised_temperature(
    logits: Float[Tensor, "n k"], code: Int64[Tensor, " n"], weight: Tensor | None = None
) -> float:
    """The T that maximises the likelihood of the classes under softmax(logits/T), from 0.01 to 100.

    One more row counts that is of any class alike: where every class is the likeliest one, T would
    otherwise go to zero.
    """
    from scipy.optimize import minimize_scalar

    logits, code = logits.cpu().double(), code.cpu()
    weight = None if weight is None else weight.cpu()

    def loss(log_temperature: float) -> float:
        scaled = logits * math.exp(-log_temperature)
        terms = F.cross_entropy(scaled, code, reduction="none", label_smoothing=1 / (len(code) + 1))
        return (terms if weight is None else terms * weight).mean().item()

    bounds = math.log(0.01), math.log(100)
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)
