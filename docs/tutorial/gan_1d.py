"""A GAN learns two distributions on the line, and is measured against them
========================================================================

::

    python docs/tutorial/gan_1d.py --out gan-1d.png

A GAN has no likelihood, and its losses say nothing about its quality. On the line everything can be
measured all the same: the mean and the width of a Gaussian, and for Beta(0.7, 0.7), which piles up at
both ends of [0, 1], the Wasserstein-1 distance ``∫ |F − G|`` and the Kolmogorov–Smirnov distance
``sup |F − G|`` from the exact distribution. About two minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

# sphinx_gallery_thumbnail_path = "tutorial/gan-1d.png"
import matplotlib as mpl
import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import likely as lk
from likely.core.likelihood import shown
from likely.report import INK, PALETTE, REAL, STYLE, to_png

GAUSSIAN = scipy.stats.norm(1, 2)
BETA = scipy.stats.beta(0.7, 0.7)
TARGETS = {
    "Gaussian": (lk.targets.gaussian(mean=[1.0], covariance=[[4.0]]), GAUSSIAN),
    "Beta(0.7, 0.7)": (lk.targets.beta(0.7, 0.7), BETA),
}
ROWS = 50_000  # to learn from, a fifth of them held out
DRAWS = 100_000  # to measure


def half_width(x: np.ndarray) -> float:
    """Full width at half maximum of the density, estimated with a Gaussian kernel.

    The kernel is a tenth of the standard deviation wide, which makes a Gaussian's width 0.5 % larger.
    """
    fine = x.std() / 50
    edges = np.arange(x.min() - 50 * fine, x.max() + 50 * fine, fine)
    kernel = np.exp(-((np.arange(-25, 26) / 5) ** 2) / 2)
    density = np.convolve(np.histogram(x, edges)[0], kernel, "same")
    above = np.flatnonzero(density >= density.max() / 2)
    return (above[-1] - above[0] + 1) * fine


def figure(statistic: Callable[[np.ndarray], float], x: np.ndarray) -> lk.Figure:
    """A statistic of the draws, with its bootstrap error."""
    rng = np.random.default_rng(0)
    again = [statistic(x[rng.integers(len(x), size=len(x))]) for _ in range(30)]
    return lk.Figure(float(statistic(x)), float(np.std(again)))


def measure(name: str, x: np.ndarray) -> dict[str, lk.Figure]:
    """What the draws of a model are worth."""
    exact = TARGETS[name][1]
    if name == "Gaussian":
        mean, std = exact.mean(), exact.std()
        width = std * 2 * np.sqrt(2 * np.log(2))
        return {
            "(mean − truth)/σ": figure(lambda x: (x.mean() - mean) / std, x),
            "FWHM/truth": figure(lambda x: half_width(x) / width, x),
        }
    steps = (np.arange(len(x)) + 0.5) / len(x)  # the middles of the steps of F
    quantiles = exact.ppf(steps)
    return {
        "Wasserstein-1": figure(lambda x: np.abs(np.sort(x) - quantiles).mean(), x),
        "Kolmogorov–Smirnov": figure(
            lambda x: np.abs(exact.cdf(np.sort(x)) - steps).max() + 0.5 / len(x), x
        ),
    }


def learn(name: str, steps: int, seed: int) -> tuple[np.ndarray, lk.History]:
    """Draws of a GAN with a gradient penalty that was fitted to draws of the target."""
    truth = TARGETS[name][0]
    data = lk.load_data(truth.sample(ROWS, seed).float(), domain=truth.domain)
    # More noise than data: a sum over many kinks of the generator makes a smooth density.
    model = lk.make("gan-gp", data.domain, latent=8, seed=seed)
    history = lk.fit(model, data, steps=steps, seed=seed)
    return model.sample(DRAWS, seed=seed)[:, 0].double().numpy(), history


def draw_density(axes: Axes, name: str, x: np.ndarray, figures: dict[str, lk.Figure]) -> None:
    """Histogram of the draws, and the exact density."""
    exact = TARGETS[name][1]
    low, high = exact.ppf([0.0005, 0.9995]) if name == "Gaussian" else (0.0, 1.0)
    edges = np.linspace(low, high, 61)
    part = np.histogram(x, edges)[0] / len(x) / np.diff(edges)
    axes.stairs(part, edges, fill=True, color=PALETTE[0], alpha=0.35, label="GAN")
    line = np.linspace(low, high, 1001)[1:-1]
    axes.plot(line, exact.pdf(line), color=INK, label="exact")
    axes.set_ylim(0, 1.35 * np.quantile(part, 0.99))
    axes.set_xlim(low, high)
    lines = "\n".join(f"{key}: {shown(value)}" for key, value in figures.items())
    axes.set_title(f"{name}\n{lines}", loc="left")
    axes.set_xlabel("x")
    axes.set_ylabel("density")
    axes.legend(loc="upper right")


def draw_losses(axes: Axes, history: lk.History) -> None:
    """Both players' losses, and where they stand when model and data agree."""
    frame = history.frame
    for color, player, balance in zip(PALETTE, ("critic", "generator"), (4, 2), strict=False):
        axes.plot(frame["step"], frame[player], color=color, label=player)
        axes.axhline(np.log(balance), color=REAL, linewidth=0.8, linestyle=":")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats)")
    axes.set_title("losses; dotted: balance, log 4 and log 2", loc="left")
    axes.legend(loc="center right")


def main(arguments: list[str] | None = None) -> dict[str, dict[str, lk.Figure]]:
    """Learn, measure, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gan-1d.png"), help="the picture")
    parser.add_argument("--steps", type=int, default=8000, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    results = {}
    with mpl.rc_context(STYLE):
        picture = Picture(figsize=(7.0, 5.2), layout="constrained")
        grid = picture.subplots(2, 2, height_ratios=(3, 2))
        for (upper, lower), name in zip(grid.T, TARGETS, strict=True):
            x, history = learn(name, options.steps, options.seed)
            results[name] = measure(name, x)
            for key, value in results[name].items():
                print(f"{name}: {key} = {value}")
            draw_density(upper, name, x, results[name])
            draw_losses(lower, history)
    options.out.write_bytes(to_png(picture))
    print(f"The picture is in {options.out}")
    return results


if __name__ == "__main__":
    main()
