"""DPS and DDRM of deepinv (pip install deepinv), with our score model as their denoiser.

deepinv has images between 0 and 1, and so the measurements of a linear operator are brought there, too.
"""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import likely as lk
from likely.inverse.diffusion import denoiser_of

# deepinv imports torchvision, which beside a torch without CUDA does not find its compiled operators.
# Nothing here calls them: it is enough that they are declared.
OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
if (found := importlib.util.find_spec("torchvision")) is not None and found.origin:
    text = (Path(found.origin).parent / "_meta_registrations.py").read_text()
    for name in set(re.findall(r'(?:register_meta\("|"torchvision::)(\w+)"', text)):
        if not hasattr(torch.ops.torchvision, name):
            OPERATORS.define(f"{name}(Tensor x) -> Tensor")

import deepinv  # noqa: E402

PILOT, MOST = 10, 1000  # steps: to time one, and that a sampler has by default at most


class Denoiser(deepinv.models.Denoiser):
    """E[x|x + σ ε] of images between 0 and 1, of a prior of images between `low` and `low + width`."""

    def __init__(self, prior: lk.GenerativeModel, low: float, width: float) -> None:
        super().__init__()
        found = denoiser_of(prior)
        assert found is not None
        self.prior, self.shape, self.low, self.width = found, prior.domain.shape, low, width

    def forward(self, x: Tensor, sigma: float | Tensor, **_: object) -> Tensor:
        view = self.prior.view
        z = view(self.low + self.width * x.reshape(-1, *self.shape))[0]
        scale = self.width / view.scale.mean().item()  # images have one
        level = scale * float(torch.as_tensor(sigma).flatten()[0])
        clean = self.prior.mean(z, min(max(level, self.prior.smallest), self.prior.largest))
        return (view.inverse(clean).reshape(x.shape) - self.low) / self.width


def physics(name: str, shape: tuple[int, ...], psf: Tensor) -> deepinv.physics.Physics:
    """Operators that have a singular value decomposition there."""
    if name == "left half":
        seen = torch.arange(shape[-1]) < shape[-1] // 2
        return deepinv.physics.Inpainting(shape, mask=seen.float().expand(shape))
    return deepinv.physics.BlurFFT(shape, filter=psf.float()[None, None])


def restored(
    prior: lk.GenerativeModel,
    y: Tensor,
    a: deepinv.physics.Physics,
    noise: float,
    draws: int,
    seconds: float,
    span: tuple[float, float],
) -> dict[str, tuple[Tensor, int, float]]:
    """Draws (m, draws, *shape) of each method, its steps, and the seconds of the process that it took.

    Steps are as many as `seconds` allow for all images, by a pilot run.
    """
    low, width = span[0], span[1] - span[0]
    denoiser = Denoiser(prior, low, width)
    dark = a.A(torch.full((1, *y.shape[1:]), low))
    y = (y - dark) / width
    a.noise_model = deepinv.physics.GaussianNoise(noise / width)
    makers: dict[str, Callable[[int], torch.nn.Module]] = {
        "deepinv DPS": lambda steps: deepinv.sampling.DPS(denoiser, num_steps=steps),
        "deepinv DDRM": lambda steps: deepinv.sampling.DDRM(denoiser, np.linspace(1, 0, steps)),
    }
    answers = {}
    for name, make in makers.items():
        _, taken = _run(make(PILOT), y[:1], a, draws)
        steps = round(min(max(seconds / len(y) / taken * PILOT, PILOT), MOST))
        x, taken = _run(make(steps), y, a, draws)
        x = (low + width * x).reshape(len(y), draws, *prior.domain.shape)
        answers[name] = x, steps, taken
    return answers


def _run(sampler: torch.nn.Module, y: Tensor, a: object, draws: int) -> tuple[Tensor, float]:
    torch.manual_seed(0)
    start = time.process_time()
    # An image at a time: the norm of a whole batch would couple its rows.
    found = [sampler(row[None].repeat_interleave(draws, 0), a) for row in y]
    return torch.cat(found).detach(), time.process_time() - start
