"""Denoising score matching of one energy at many levels of noise: the levels, and samples.

Li, Chen & Sommer 2019, arXiv:1910.07762, sections 3 and 4.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Spacing = Literal["listed", "geometric", "linear"]

COOLING = 0.05  # steps while the temperature falls, in units of σ₀²


def levels(
    z: Float[Tensor, "n d"], noise: Sequence[float], spacing: Spacing
) -> Float[Tensor, "n 1"]:
    """A level of noise for each row: one of those listed, or its own part of the range."""
    n = len(z)
    if spacing == "listed":
        return z.new_tensor(noise)[torch.randint(len(noise), (n, 1), device=z.device)]
    low, high = min(noise), max(noise)
    part = (torch.arange(n, device=z.device)[:, None] + z.new_empty(n, 1).uniform_()) / n
    return low * (high / low) ** part if spacing == "geometric" else low + (high - low) * part


def cooling(start: float, steps: int) -> list[float]:
    """Temperatures of steps: 5/27 at the start, then down to 1 exponentially, 2/27 linearly to 0."""
    hot, last = 5 * steps // 27, 2 * steps // 27
    falling = start ** torch.linspace(1, 0, steps - hot - last)
    return [start] * hot + falling.tolist() + torch.linspace(1, 0, last).tolist()


def cooled(
    z: Float[Tensor, "n d"],
    slope: Callable[[Tensor], Tensor],
    noise: float,
    temperature: float,
    steps: int,
) -> Float[Tensor, "n d"]:
    """Ends of Langevin steps whose temperature falls, without the noise σ₀ of the energy."""
    step = COOLING * noise**2
    for at in cooling(temperature, steps):
        z = z - step * slope(z) + math.sqrt(2 * step * at) * torch.randn_like(z)
    return z - noise**2 * slope(z)
