"""Two galaxies in one blurred image, drawn apart
================================================

::

    python docs/tutorial/deblending.py --run runs/pairs --out deblending.png

A score model learns pairs of simulated galaxies without noise, as images of two channels: one galaxy in the
middle, and a neighbour as bright or fainter. What is measured is the sum of both behind a point-spread
function, with noise. The posterior gives both back, deblended and deconvolved; flux, size and ellipticity of
its draws are physical parameters with their errors.

No image is deconvolved to a perfect sharpness, which pixels could not hold, but to a narrow Gaussian, and
the rest of the point-spread function is the operator's (Magain, Courbin & Sohy 1998, ApJ 494, 472).

::

    python docs/tutorial/deblending.py --images cosmos_images.fits --psfs cosmos_psfs.fits

also answers a real galaxy. Its noise is correlated, with a covariance that the corners of large images give.
Half an hour; a prior that is in --run already is taken from there.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

import likely as lk
from likely.data.galaxies import NOISE, SIDE, draw, gaussian_psf, moffat_psf, sersic
from likely.inverse import Convolve, CorrelatedGaussian, Function, Operator, Posterior
from likely.report import STYLE, to_png

SHARP = 1.0  # pixels: standard deviation of the Gaussian behind which answers are
BLUR = moffat_psf(3.5)  # what is taken off
LARGER = 1.3  # than those of the made-up survey are the galaxies, in radius: about as the real ones
NEAR, FAR = 6, 12  # pixels from the middle to a neighbour
APERTURE, WINDOW = 12.0, 5.0  # pixels, of flux and of moments
QUANTITIES = ("flux", "size", "e1", "e2")
PATCH, LARGE = 12, 64  # pixels: of a corner that holds noise, and of an image that has such corners
WIDEST = 256  # pixels, more than any real image has


def pairs(n: int, seed: int) -> np.ndarray:
    """Galaxies and their neighbours, without noise, of shape (n, 2, side, side)."""
    parameters = draw(2 * n, seed)
    parameters["radius"] *= LARGER
    first, second = parameters[:n], parameters[n:].copy()
    rng = np.random.default_rng([seed, 2])
    second["flux"] *= rng.random(n) ** 2  # many are hardly there
    wide = sersic(second, side=SIDE + 2 * FAR, psf=gaussian_psf(SHARP))
    distance, angle = rng.uniform(NEAR, FAR, n), rng.uniform(0, 2 * np.pi, n)
    start = FAR - np.rint(distance * [np.sin(angle), np.cos(angle)]).astype(int)
    moved = [image[y : y + SIDE, x : x + SIDE] for image, y, x in zip(wide, *start, strict=True)]
    return np.stack([sersic(first, psf=gaussian_psf(SHARP)), moved], 1)


def trained(
    rows: int, seed: int, run: Path | None = None, **budget: float | None
) -> lk.GenerativeModel:
    """The prior, or that of an earlier run."""
    if run is not None and (run / "model.safetensors").exists():
        return lk.load(run)
    data = lk.load_data(
        pairs(rows, seed), domain=lk.reals(2, SIDE, SIDE, layout="image"), seed=seed
    )
    model = lk.make("score-sde", data.domain, seed=seed)
    lk.fit(model, data, seed=seed, run=run, progress=True, **budget)  # type: ignore[arg-type]
    return model


def blended(psf: np.ndarray = BLUR) -> Operator:
    """The sum of both galaxies behind a point-spread function; nothing lies beyond the edges."""
    return Convolve(psf) @ Function(lambda x: x.sum(1), linear=True)


def measure(images: np.ndarray) -> np.ndarray:
    """The `QUANTITIES` of the galaxy in the middle of each image, on a last axis.

    Flux lies within an aperture. Size is the root mean square of x and y, and (e1, e2) are (Qxx − Qyy, 2 Qxy)
    over Qxx + Qyy, of second moments Q under a Gaussian window.
    """
    pixel = np.arange(images.shape[-1]) - (images.shape[-1] - 1) / 2
    x, y = np.meshgrid(pixel, pixel)
    r2 = x**2 + y**2
    weight = images * np.exp(-r2 / (2 * WINDOW**2))

    def mean(f: np.ndarray) -> np.ndarray:
        return (weight * f).sum((-2, -1)) / weight.sum((-2, -1))

    xx, yy = mean(x**2) - mean(x) ** 2, mean(y**2) - mean(y) ** 2
    xy = mean(x * y) - mean(x) * mean(y)
    flux = (images * (r2 < APERTURE**2)).sum((-2, -1))
    return np.stack([flux, np.sqrt((xx + yy) / 2), (xx - yy) / (xx + yy), 2 * xy / (xx + yy)], -1)


def pulls(samples: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """Of each quantity of m galaxies, (m, 4): with mean 0 and width 1 where posteriors are right.

    The mean and the deviation of n draws scatter themselves, which makes Student's t of a normal pull; it is
    brought back to unit variance.
    """
    found, n = measure(samples[:, :, 0].double().numpy()), samples.shape[1]
    off = found.mean(1) - measure(truth[:, 0].double().numpy())
    return off / found.std(1, ddof=1) / np.sqrt((1 + 1 / n) * (n - 1) / (n - 3))


def remaining(psf: np.ndarray, side: int = SIDE - 1) -> np.ndarray:
    """What of a PSF with odd sides is left behind the narrow Gaussian: their ratio in Fourier space."""
    y, x = (np.fft.fftfreq(edge) for edge in psf.shape)
    narrow = np.exp(-2 * (np.pi * SHARP) ** 2 * (y[:, None] ** 2 + x**2))
    spectrum = np.fft.fft2(np.fft.ifftshift(psf)) * narrow / (narrow**2 + 1e-4)
    found = np.fft.fftshift(np.fft.ifft2(spectrum).real).clip(0)
    halves = [min(side, edge) // 2 for edge in psf.shape]
    edges = [
        edge // 2 + half * np.array([-1, 1]) for edge, half in zip(psf.shape, halves, strict=True)
    ]
    middle = tuple(slice(low, high + 1) for low, high in edges)
    return found[middle] / found[middle].sum()


def deviation(image: np.ndarray) -> float:
    """Of the pixels at the edges, by their median absolute deviation."""
    edge = np.concatenate([image[:2], image[-2:], image[:, :2].T, image[:, -2:].T])
    return float(1.4826 * np.median(np.abs(edge - np.median(edge))))


def correlated(images: np.ndarray) -> CorrelatedGaussian:
    """Noise of unit variance, from dark corners of images that have zeros around them."""
    corners = []
    for image in images:
        lit = image[np.ix_(image.any(1), image.any(0))]
        if min(lit.shape) >= LARGE:
            rows, columns = slice(PATCH), slice(-PATCH, None)
            corners += [lit[i, j] for i in (rows, columns) for j in (rows, columns)]
    found = np.array(corners)
    width = np.sqrt((found**2).mean((1, 2)))
    kept = width < 1.5 * np.median(width)
    covariance = CorrelatedGaussian.of_patches(found[kept] / width[kept, None, None]).covariance
    return CorrelatedGaussian(covariance / covariance.max())


def real(images: Path, psfs: Path, i: int) -> tuple[np.ndarray, Operator, CorrelatedGaussian]:
    """A real galaxy in units of its noise, how it was measured, and the correlation of the noise."""
    with warnings.catch_warnings():  # of zeros that fill images: they show where corners are
        warnings.simplefilter("ignore", UserWarning)
        all_of = lk.data.load_rows(images, size=WIDEST).x[:].numpy()
    start = (WIDEST - SIDE) // 2
    image = all_of[i, start : start + SIDE, start : start + SIDE]
    psf = remaining(lk.data.load_rows(psfs).x[:].numpy()[i].astype(float))
    return image / deviation(image) * NOISE, blended(psf), correlated(all_of)


def neighbours(white: torch.Tensor) -> tuple[float, float]:
    """Correlation of adjacent pixels of images, along columns and rows; 0 if they are white."""
    power = white.square().mean()
    down = (white[..., 1:, :] * white[..., :-1, :]).mean() / power
    right = (white[..., 1:] * white[..., :-1]).mean() / power
    return down.item(), right.item()


def told(name: str, found: Posterior, truth: np.ndarray | None = None) -> pd.DataFrame:
    """Print what a posterior says of the galaxy in the middle, and what speaks against it."""
    values = measure(found.samples[:, 0].double().numpy())
    table = pd.DataFrame({"mean": values.mean(0), "error": values.std(0)}, index=[*QUANTITIES])
    if truth is not None:
        table["truth"] = measure(truth[0])
    down, right = neighbours(found.pulls)
    error = found.y.numel() ** -0.5
    print(f"{name}: {found}")
    print(
        f"whitened residuals of adjacent pixels correlate by {down:.3f} and {right:.3f} ± {error:.3f}"
    )
    print(table.to_string(float_format="{:.3f}".format))
    return table


@mpl.rc_context(STYLE)
def picture(rows: dict[str, tuple[Posterior, np.ndarray | None]]) -> Figure:
    """Each galaxy in a row; all but deviations and residuals are on one scale of asinh."""
    names = ("data", "galaxy", "neighbour", "deviation", "draw", "draw", "residual", "truth")
    figure = Figure(figsize=(1.1 * len(names), 1.2 * len(rows) + 0.2), layout="constrained")
    lines = figure.subplots(len(rows), len(names), squeeze=False)
    for axes, title in zip(lines[0], names, strict=True):
        axes.set_title(title)
    for line, (name, (found, truth)) in zip(lines, rows.items(), strict=True):
        draws, residual = found.samples[:2, 0].numpy(), found.pulls[0].numpy()
        shown = [found.y.numpy(), *found.mean.numpy(), found.std[0].numpy(), *draws, residual]
        shown += [] if truth is None else [truth[0]]
        for axes in line:
            axes.set(xticks=[], yticks=[])
        line[-1].axison = truth is not None
        for axes, title, image in zip(line, names, shown, strict=False):
            if title == "residual":
                axes.imshow(image, cmap="RdBu_r", vmin=-4, vmax=4)
            elif title == "deviation":
                axes.imshow(image, cmap="magma", vmin=0)
            else:
                axes.imshow(np.arcsinh(image / (2 * NOISE)), cmap="magma", vmin=-1, vmax=4)
        line[0].set_ylabel(name)
    return figure


def main(arguments: Sequence[str] | None = None) -> dict[str, pd.DataFrame]:
    """Train, draw, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="by default 20")
    budget.add_argument("--steps", type=int)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--draws", type=int, default=32)
    parser.add_argument(
        "--levels", type=int, default=200, help="of noise, in the reverse diffusion"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=Path, help="real galaxies, a FITS file")
    parser.add_argument("--psfs", type=Path, help="their PSFs, another one")
    parser.add_argument("--galaxy", type=int, default=3, help="which of them")
    parser.add_argument("--run", type=Path, help="where the prior is kept")
    parser.add_argument("--out", type=Path, default=Path("deblending.png"))
    given = parser.parse_args(arguments)
    minutes = 20.0 if given.steps is None and given.minutes is None else given.minutes
    prior = trained(given.rows, given.seed, given.run, minutes=minutes, steps=given.steps)
    options = {"n": given.draws, "steps": given.levels, "seed": given.seed, "progress": True}
    truth = pairs(1, given.seed + 1)[0]
    y = blended()(torch.as_tensor(truth)[None])[0]
    y = y + NOISE * torch.randn(y.shape, generator=torch.Generator().manual_seed(given.seed))
    rows = {"simulated": (lk.posterior(prior, y, blended(), NOISE, **options), truth)}
    if given.images is None or given.psfs is None:
        print("no real galaxy: give --images and --psfs")
    else:
        problem = real(given.images, given.psfs, given.galaxy)
        rows["real"] = (lk.posterior(prior, *problem, **options), None)
    tables = {name: told(name, *row) for name, row in rows.items()}
    given.out.write_bytes(to_png(picture(rows)))
    return tables


if __name__ == "__main__":
    main()
