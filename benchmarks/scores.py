"""Diffusion: drawing images with the same U-Net and the same number of evaluations of it.

64 images of 28 × 28 pixels in 50 steps of the deterministic sampler (DDIM), and of the ancestral one, by an
untrained network, whose cost is that of a trained one; diffusers' schedulers are called in the loop of their
documentation.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from benchmarks.suite import OURS, Options, Row, Side, size

TITLE = "Diffusion"
DRAWS, STEPS, EDGE = 64, 50, 28


SETTINGS: dict[str, dict[str, Any]] = {
    "score-sde": {"sampler": "ddim", "steps": STEPS},
    "ddpm": {"levels": STEPS},
}


def model(name: str) -> Any:
    import likely as lk

    domain = lk.reals(1, EDGE, EDGE, layout="image")
    return lk.make(name, domain, network="unet", seed=0, **SETTINGS[name]).eval()


def likely(name: str, options: Options) -> Side:
    made = model(name)
    return Side(lambda: made.sample(DRAWS), size(made))


def diffusers(scheduler: str, options: Options) -> Side:
    import diffusers as library

    net = model("score-sde").net
    steps = getattr(library, scheduler)(num_train_timesteps=1000, clip_sample=False)

    @torch.no_grad()
    def run() -> torch.Tensor:
        steps.set_timesteps(STEPS)
        z = torch.randn(DRAWS, EDGE * EDGE)
        for t in steps.timesteps:
            z = steps.step(net(z, t[None] / 1000), t, z).prev_sample
        return z

    return Side(run, size(net))


ROWS = [
    Row(
        "scores.ddim",
        f"DDIM, {DRAWS} images, {STEPS} steps",
        {
            OURS: partial(likely, "score-sde"),
            "diffusers": partial(diffusers, "DDIMScheduler"),
        },
    ),
    Row(
        "scores.ddpm",
        f"ancestral sampling, {DRAWS} images, {STEPS} steps",
        {OURS: partial(likely, "ddpm"), "diffusers": partial(diffusers, "DDPMScheduler")},
    ),
]
