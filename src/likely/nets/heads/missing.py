"""The head of columns that may be missing."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from likely.nets.heads.base import ALL, Head
from likely.nets.heads.discrete import PSEUDOCOUNT


class Missing(Head):
    """The probability of NaN, beside the distribution of the values that are present.

        p(x) = σ(a) if x is missing, (1 − σ(a)) p(x | present) otherwise

    The outputs are the logit a, and those of the head of the values.
    """

    def __init__(self, head: Head, anchors: list[float]) -> None:
        super().__init__()
        self.head, self.size = head, 1 + head.size
        self.anchors = anchors  # values inside the support, which stand in for missing ones

    def prepare(self, x: Tensor, weight: Tensor) -> None:
        self.head.prepare(x, weight)

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        missing = x.isnan()
        absent, present = (weight @ part.to(weight) + PSEUDOCOUNT for part in (missing, ~missing))
        # Values that are present, over again, fill the places of those that are not.
        filled = x.clone()
        for j, anchor in enumerate(self.anchors):
            values, hole = x[~missing[:, j], j], missing[:, j]
            values = values if len(values) else x.new_tensor([anchor])
            filled[hole, j] = values[torch.arange(int(hole.sum()), device=x.device) % len(values)]
        values = self.head.initial(filled, weight)
        return torch.cat([(absent / present).log()[:, None], values.to(absent)], 1)

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        missing, logit = x.isnan(), outputs[..., 0]
        anchors = torch.tensor(self.anchors[at], dtype=x.dtype, device=x.device)
        value = self.head.log_prob(outputs[..., 1:], torch.where(missing, anchors, x), at)
        return torch.where(missing, F.logsigmoid(logit), F.logsigmoid(-logit) + value)

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        probability = outputs[..., 0].sigmoid()
        missing = torch.rand_like(probability) < probability
        return self.head.sample(outputs[..., 1:], at).masked_fill(missing, math.nan)

    def mean(self, outputs: Tensor) -> Tensor:
        """That of the values which are present."""
        return self.head.mean(outputs[..., 1:])

    def type_of_draws(self, dtype: torch.dtype) -> torch.dtype:
        return self.head.type_of_draws(dtype)
