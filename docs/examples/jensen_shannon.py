"""Why the generator of a GAN may learn nothing: supports that do not meet.

    python docs/examples/jensen_shannon.py --out jensen-shannon.png

Two parallel segments of length 1 in the plane, at distance |θ| (Arjovsky, Chintala & Bottou 2017,
arXiv:1701.07875, example 1). However near they are, their Jensen–Shannon divergence is log 2: a GAN's
critic tells them apart without a fault, and a generator that could shift its segment sees no slope.
Their Wasserstein-1 distance is |θ|. Here critics are trained for several θ, and what they find is drawn
beside the exact values. One to two minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure as Picture
from torch import Tensor, nn

import likely as lk
from likely.models.gans import GAN, WGAN
from likely.report import INK, PALETTE, STYLE, to_png


class Segment(nn.Module):
    """A generator that makes points (θ, Φ(noise)), uniform on a segment, of normal noise."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, noise: Tensor) -> Tensor:
        return torch.cat([torch.full_like(noise, self.theta), torch.special.ndtr(noise)], 1)


REAL = Segment(0.0)
DRAWS = 20_000  # to measure


def train_critic(model: GAN, theta: float, steps: int) -> None:
    """Let the critic learn to tell the segment at θ from the real one at 0."""
    model.generator = Segment(theta)
    critic = model.objectives()[0]
    optimizer = torch.optim.Adam(critic.parameters, lr=2e-3, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        critic.loss(lk.Batch(REAL(torch.randn(256, 1)))).mean().backward()
        optimizer.step()
        schedule.step()


def jensen_shannon(theta: float, steps: int) -> lk.Figure:
    """½ (V + log 4) by the critic of a GAN, in nats: at its best the Jensen–Shannon divergence."""
    model = GAN(lk.reals(2), latent=1, hidden=(64, 64))
    train_critic(model, theta, steps)
    with torch.no_grad():
        real, fake = (
            model.critic(segment(torch.randn(DRAWS, 1)), None)
            for segment in (REAL, model.generator)
        )
        terms = (math.log(4) - model.critic_loss(real, fake)) / 2
    return lk.Figure(terms.mean().item(), terms.std().item() / DRAWS**0.5)


def wasserstein(theta: float, steps: int) -> lk.Figure:
    """The gap of a critic whose slope is held at 1: at its best the Wasserstein-1 distance.

    The penalty λ (slope − 1)² lets the slope rise to 1 + |θ|/(2λ).
    """
    model = WGAN(lk.reals(2), latent=1, hidden=(64, 64), bound=None, penalty=100.0)
    train_critic(model, theta, steps)
    return model.critic_gap(REAL(torch.randn(DRAWS, 1)))


def main(arguments: list[str] | None = None) -> list[tuple[float, lk.Figure, lk.Figure]]:
    """Train the critics, draw; θ and both measured distances."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("jensen-shannon.png"), help="the picture")
    parser.add_argument("--steps", type=int, default=800, help="of each critic")
    parser.add_argument("--points", type=int, default=9, help="values of θ, from −1 to 1")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    thetas = np.linspace(-1, 1, options.points)
    rows = [(t, jensen_shannon(t, options.steps), wasserstein(t, options.steps)) for t in thetas]
    for theta, divergence, distance in rows:
        print(f"θ = {theta:+.2f}: Jensen–Shannon {divergence} nats, Wasserstein-1 {distance}")
    with mpl.rc_context(STYLE):
        picture = Picture(figsize=(7.0, 2.4), layout="constrained")
        sketch, left, right = picture.subplots(1, 3, width_ratios=(2, 3, 3))
        sketch.plot([0, 0], [0, 1], color=INK, linewidth=2.5)
        sketch.plot([0.6, 0.6], [0, 1], color=PALETTE[0], linewidth=2.5)
        sketch.annotate(
            "",
            (0.6, 0.5),
            (0, 0.5),
            arrowprops={"arrowstyle": "<->", "color": INK, "linewidth": 0.7},
        )
        sketch.text(0.3, 0.54, "θ", ha="center")
        sketch.text(0, 1.05, "data", ha="center")
        sketch.text(0.6, 1.05, "model", ha="center", color=PALETTE[0])
        sketch.set_xlim(-0.3, 0.9)
        sketch.set_axis_off()
        line = np.linspace(-1, 1, 201)
        saturated = np.where(line == 0, np.nan, math.log(2))
        for i, (axes, exact, title) in enumerate(
            ((left, saturated, "Jensen–Shannon (nats)"), (right, abs(line), "Wasserstein-1")), 1
        ):
            axes.plot(line, exact, color=INK, linewidth=0.9, label="exact")
            axes.errorbar(
                thetas, [row[i].value for row in rows], [row[i].stderr for row in rows],
                fmt="o", color=PALETTE[2 - i], markersize=4.5, label="trained critic",
            )  # fmt: skip
            axes.set_xlabel("θ")
            axes.set_title(title, loc="left")
            axes.set_ylim(-0.05, None)
        left.plot(0, 0, ".", color=INK, markersize=3)
        left.legend(loc="lower right")
    options.out.write_bytes(to_png(picture))
    print(f"The picture is in {options.out}")
    return rows


if __name__ == "__main__":
    main()
