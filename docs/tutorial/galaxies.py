"""An emulator of galaxies: images at given parameters, without the simulator
==========================================================================

::

    python docs/tutorial/galaxies.py --out galaxies.png

A variational autoencoder with a flow as its prior learns p(image | flux, radius, index, ellipticity) from
simulated ones. What the parameters leave open, it draws: the noise, and where between the pixels the centre
lies. The noise of a pixel is the same for bright and faint galaxies, and so is that of the model's Gaussians:
images stay in their own units, of which only the picture takes an asinh. Then both are measured alike: flux
and half-light radius within an aperture, in bins of the true flux, and the time for an image.

::

    python docs/tutorial/galaxies.py --images cosmos_images.fits --psfs cosmos_psfs.fits

also shows real galaxies, over simulated ones of about the same flux and size behind the same PSF.
About a quarter of an hour.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

import likely as lk
from likely.data.galaxies import NOISE, PARAMETERS, PSF, draw, galaxies, sersic
from likely.report import INK, PALETTE, STYLE, to_png

APERTURE = 12.0  # pixels
SHOWN = 10  # galaxies in a row
BINS = 6
POSITIVE = {"flux": "positive", "radius": "positive", "index": "positive"}  # seen as logarithms


def trained(rows: int, seed: int, **budget: float) -> tuple[lk.GenerativeModel, lk.Data]:
    """The emulator."""
    images, parameters = galaxies(rows, seed=seed)
    source = {"x": images, "parameters": parameters}
    data = lk.load_data(source, context="parameters", context_domain=POSITIVE, seed=seed)
    model = lk.make(
        "vae", data.domain, context=data.context, seed=seed, latent=4, network="mlp", prior="flow"
    )
    lk.fit(model, data, seed=seed, progress=True, **budget)
    return model, data


def measure(images: np.ndarray) -> pd.DataFrame:
    """Flux within an aperture, and the radius that holds half of it."""
    pixel = np.arange(images.shape[-1]) - (images.shape[-1] - 1) / 2
    x, y = np.meshgrid(pixel, pixel)
    order = np.argsort(np.hypot(x, y), axis=None)
    radius = np.hypot(x, y).flatten()[order]
    inside = radius < APERTURE
    growth = images.reshape(len(images), -1)[:, order[inside]].cumsum(1)
    flux = growth[:, -1]
    # The last pixel before half of the flux is passed for good: noise makes the curve go up and down.
    below = growth < flux[:, None] / 2
    last = below.shape[1] - 1 - below[:, ::-1].argmax(1)
    return pd.DataFrame({"flux": flux, "radius": radius[inside][last]})


def binned(by: np.ndarray, values: np.ndarray, edges: np.ndarray) -> pd.DataFrame:
    """Means of the values in bins, and their standard errors."""
    groups = pd.Series(values).groupby(pd.cut(by, edges), observed=False)
    return pd.DataFrame({"mean": groups.mean(), "error": groups.sem()})


def compared(parameters: pd.DataFrame, real: np.ndarray, emulated: np.ndarray) -> pd.DataFrame:
    """Size and flux in bins of the true flux, of simulated and of emulated galaxies."""
    edges = np.geomspace(parameters["flux"].min() * 0.999, parameters["flux"].max(), BINS + 1)
    tables = {}
    for name, images in (("simulated", real), ("emulated", emulated)):
        found = measure(images)
        for quantity in ("flux", "radius"):
            scale = parameters["flux"] if quantity == "flux" else 1.0
            tables[name, quantity] = binned(parameters["flux"], found[quantity] / scale, edges)
    table = pd.concat(tables, axis=1).sort_index(axis=1)
    table.index = pd.Index(np.sqrt(edges[1:] * edges[:-1]), name="flux")
    return table


def speed(model: lk.GenerativeModel, n: int, repeats: int = 5) -> tuple[float, float]:
    """How many times faster an emulated galaxy is than a simulated one, in pairs of runs, and the error."""
    ratios = []
    for seed in range(repeats):
        start = time.perf_counter()
        _, parameters = galaxies(n, seed=seed)
        middle = time.perf_counter()
        emulate(model, parameters, seed)
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return statistics.fmean(ratios), statistics.stdev(ratios) / repeats**0.5


def emulate(model: lk.GenerativeModel, parameters: pd.DataFrame, seed: int) -> np.ndarray:
    """An image for each row of parameters."""
    context = torch.tensor(parameters[[*PARAMETERS]].to_numpy(np.float32))
    return model.sample(len(context), context=context, seed=seed).numpy()


def like(images: np.ndarray, psfs: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Simulated galaxies with the flux, size and noise of real ones, behind the PSF of each."""
    found, parameters = measure(images), draw(len(images), seed)
    rng = np.random.default_rng(seed)
    drawn = []
    for i, (image, psf) in enumerate(zip(images, psfs, strict=True)):
        row = parameters.iloc[[i]].assign(
            flux=found["flux"][i], radius=max(1.0, found["radius"][i] * 0.9)
        )
        clean = sersic(row, side=len(image), psf=psf)[0]
        drawn.append(clean + noise_of(image) * rng.standard_normal(clean.shape))
    return np.array(drawn)


def noise_of(image: np.ndarray) -> float:
    """Standard deviation of the pixels at the edges, by their median absolute deviation."""
    edge = np.concatenate([image[:2], image[-2:], image[:, :2].T, image[:, -2:].T])
    return float(1.4826 * np.median(np.abs(edge - np.median(edge))))


@mpl.rc_context(STYLE)
def picture(rows: dict[str, np.ndarray], table: pd.DataFrame) -> Figure:
    """Galaxies, each column at the same parameters, over the relations of size and flux."""
    figure = Figure(figsize=(8, 0.85 * len(rows) + 2.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[0.85 * len(rows), 2.6])
    panels = above.subplots(len(rows), SHOWN, squeeze=False)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.set(xticks=[], yticks=[])
            axes.imshow(np.arcsinh(image / (2 * noise_of(image))), cmap="magma", vmin=-1, vmax=4)
        line[0].set_ylabel(name)
    size, flux = below.subplots(1, 2)
    _relation(size, table, "radius")
    size.set_ylabel("half-light radius [pixels]")
    _relation(flux, table, "flux")
    flux.set_ylabel(f"share of the flux within {APERTURE:.0f} pixels")
    size.legend()
    return figure


def _relation(axes: Axes, table: pd.DataFrame, quantity: str) -> None:
    axes.set(xscale="log", xlabel="flux")
    axes.xaxis.set_major_locator(FixedLocator([250, 500, 1000, 2000]))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    for name, color, marker in (("simulated", INK, "o"), ("emulated", PALETTE[1], "s")):
        found = table[name, quantity]
        shift = 1.03 if name == "emulated" else 1.0
        axes.errorbar(
            shift * table.index, found["mean"], found["error"], fmt=marker, markersize=4, color=color,
            capsize=2, label=name,
        )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Train, compare, and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="by default 12")
    budget.add_argument("--steps", type=int)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--test", type=int, default=3000, help="galaxies to compare")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=Path, help="real galaxies, a FITS file")
    parser.add_argument("--psfs", type=Path, help="their PSFs, another one")
    parser.add_argument("--out", type=Path, default=Path("galaxies.png"))
    given = parser.parse_args(arguments)
    minutes = 12.0 if given.steps is None and given.minutes is None else given.minutes
    model, data = trained(given.rows, given.seed, minutes=minutes, steps=given.steps)
    likelihood = model.log_likelihood(data.test.x, data.test.context, seed=given.seed)
    noise = -data.domain.size / 2 * np.log(2 * np.pi * np.e * NOISE**2)
    print(
        f"log-likelihood: {likelihood.mean()} nats, {likelihood.kind}; of the noise alone {noise:.1f}"
    )
    real, parameters = galaxies(given.test, seed=given.seed + 1)
    emulated = emulate(model, parameters, given.seed)
    table = compared(parameters, real, emulated)
    print(table.to_string(float_format="{:.3f}".format))
    times, error = speed(model, given.test)
    print(
        f"{times:.0f} ± {error:.0f} times as fast as the simulator, noise and parameters included"
    )
    rows = {"simulated": real[:SHOWN], "emulated": emulated[:SHOWN]}
    if given.images is not None:
        images = lk.data.load_rows(given.images, size=32).x[:].numpy()[:SHOWN]
        psfs = [PSF] * SHOWN
        if given.psfs is not None:
            psfs = lk.data.load_rows(given.psfs).x[:].numpy()[:SHOWN]
        rows |= {"real": images, "like real": like(images, psfs, given.seed)}
    given.out.write_bytes(to_png(picture(rows, table)))
    return table


if __name__ == "__main__":
    main()
