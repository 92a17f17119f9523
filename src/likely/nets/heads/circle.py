"""The head of angles."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from likely.contract.views import resolving
from likely.core.columns import Periodic
from likely.nets.heads.base import ALL, NARROWEST, Mixture, bounds_of, kernels


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
        return resolving(dtype, *bounds_of(self.columns, torch.empty(0, dtype=torch.float64)))

    def parameters_of(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and the two coordinates of v."""
        logits, v1, v2 = super().parameters_of(outputs)
        shrink = (1 + NARROWEST**2 * (v1.square() + v2.square())).rsqrt()
        return logits, shrink * v1, shrink * v2

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        low, high = bounds_of(self.columns, x)
        angle = 2 * math.pi * (x - low) / (high - low)
        w = weight[:, None]
        centre = torch.atan2((w * angle.sin()).sum(0), (w * angle.cos()).sum(0))
        turned = (angle - centre + math.pi).remainder(2 * math.pi) - math.pi
        means, widths = kernels(turned, weight, self.components)
        means, lengths = means + centre[:, None], 1 / (2 * widths)
        return torch.cat([torch.zeros_like(means), lengths * means.cos(), lengths * means.sin()], 1)

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        logits, v1, v2 = self.parameters_of(outputs)
        low, high = bounds_of(self.columns[at], x)
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
        low, high = bounds_of(self.columns[at], turns)
        return torch.lerp(low, high, turns - turns.floor()).clamp(low, high)
