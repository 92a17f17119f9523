"""Galaxies: images of Sérsic profiles behind a point-spread function, with noise.

    I(r) = F b^(2n) / (2π n Γ(2n) R²) · exp(−b (r/R)^(1/n)),    P(2n, b) = ½

(Sérsic 1963; Ciotti & Bertin 1999, arXiv:astro-ph/9911078). Half of the flux F lies within r = R, since b is
the exact root of the regularised incomplete gamma function P. Ellipses of constant r have the area πr², and
(e1, e2) = (a − b)/(a + b) · (cos 2θ, sin 2θ) of their half-axes a and b and their angle θ.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.special import gammaincinv, gammaln
from torch import Tensor

from likely.core.errors import DataError

SIDE = 32  # pixels
ROWS = 10_000
PARAMETERS = ("flux", "radius", "index", "e1", "e2")
CENTRE = ("x", "y")
# Half the width in pixels of squares around the middle, and points of each of their pixels: the profile
# is steep where the centre may lie.
FINE = 3
FINER = ((2.0, 12), (0.75, 48))
CHUNK = 10  # galaxies at a time: they fit in a cache
Images = Float[np.ndarray, "n height width"]


def gaussian_psf(sigma: float) -> Float[np.ndarray, "side side"]:
    """A Gaussian of standard deviation `sigma`, in pixels, at least about 0.8, to five of them."""
    r2 = _squared_radius(int(np.ceil(5 * sigma)))
    return _normalised(np.exp(-r2 / (2 * sigma**2)))


def moffat_psf(fwhm: float, beta: float = 3.5) -> Float[np.ndarray, "side side"]:
    """(1 + (r/α)²)^−β of a full width at half maximum, in pixels, to three of these (Moffat 1969)."""
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    r2 = _squared_radius(int(np.ceil(3 * fwhm)))
    return _normalised((1 + r2 / alpha**2) ** -beta)


def _squared_radius(half: int) -> np.ndarray:
    pixel = np.arange(-half, half + 1.0)
    return pixel**2 + pixel[:, None] ** 2


def _normalised(psf: np.ndarray) -> np.ndarray:
    return psf / psf.sum()


PSF = moffat_psf(2.8)
NOISE = 1.0


def sersic(
    parameters: Mapping[str, np.ndarray] | pd.DataFrame,
    *,
    side: int = SIDE,
    psf: Float[np.ndarray, "height width"] | None = None,
) -> Images:
    """Images without noise.

    Parameters
    ----------
    parameters : DataFrame or mapping of arrays of shape (n,)
        `flux`, in the unit of the image; `radius`, that of half the light, in pixels; `index`, n; `e1`,
        `e2`; and `x`, `y`, by how many pixels, at most half of one, the centre lies right of and below
        the middle of the image.
    side : int
        Of the images, in pixels.
    psf : array with odd sides, optional
        An image of the point-spread function, on the same pixels and without their blur; its
        sum is set to one.

    Returns
    -------
    array of float32, shape (n, side, side)
        Flux of each pixel, to about 1e-5 of that of the galaxy for n up to 1, and 1e-3 for n = 4 and a
        radius of 1.5, where it is the cusp that is not resolved.

    Raises
    ------
    DataError
        If a parameter is missing or out of its range, or a side of the PSF is even.

    Examples
    --------
    >>> disc = {"flux": [100], "radius": [3], "index": [1], "e1": [0.3], "e2": [0], "x": [0], "y": [0]}
    >>> image = sersic(disc, psf=gaussian_psf(1.2))
    >>> image.shape, bool(abs(image.sum() - 100) < 1)
    ((1, 32, 32), True)
    """
    columns = _checked(parameters)
    if psf is not None:
        psf = np.asarray(psf, np.float64)
        if psf.ndim != 2 or not (np.array(psf.shape) % 2).all() or not 0 < psf.sum() < np.inf:
            raise DataError(
                f"psf of shape {psf.shape}: give an image with odd sides and a sum above 0"
            )
    margin = 0 if psf is None else max(psf.shape) // 2
    width = side + 2 * margin
    response = None if psf is None else _response(psf, width)
    inner = slice(margin, margin + side)
    images = np.empty((len(columns["flux"]), side, side), np.float32)
    for start in range(0, len(images), CHUNK):
        rows = slice(start, start + CHUNK)
        fine = _profile({key: column[rows] for key, column in columns.items()}, width)
        found = _pooled(fine, FINE) if response is None else _convolved(fine, response, width)
        images[rows] = found[:, inner, inner].numpy()
    return images


def draw(n: int, seed: int) -> pd.DataFrame:
    """Parameters of a made-up survey, in which brighter galaxies are larger: R ∝ F^¼, scattered by 20 %."""
    rng = np.random.default_rng(seed)
    flux = 200 * 15 ** rng.random(n)
    radius = 2.5 * (flux / 800) ** 0.25 * np.exp(0.35 * rng.uniform(-1, 1, n))
    ellipticity, angle = 0.6 * rng.beta(2, 3, n), np.pi * rng.random(n)
    values = {
        "flux": flux,
        "radius": radius,
        "index": 0.6 * (4 / 0.6) ** rng.random(n),
        "e1": ellipticity * np.cos(2 * angle),
        "e2": ellipticity * np.sin(2 * angle),
        "x": rng.random(n) - 0.5,
        "y": rng.random(n) - 0.5,
    }
    return pd.DataFrame(values)


def galaxies(
    n: int = ROWS, *, psf: np.ndarray | None = PSF, noise: float = NOISE, seed: int = 0
) -> tuple[Images, pd.DataFrame]:
    """Images of a made-up survey, and the parameters that it knows, which the centres are not.

    Parameters
    ----------
    n : int
    psf : array, optional
        As in `sersic`; by default a Moffat function, 2.8 pixels wide.
    noise : float
        Standard deviation of each pixel, in the unit of the flux.
    seed : int

    Returns
    -------
    images : array of float32, shape (n, 32, 32)
    parameters : DataFrame, shape (n, 5)
    """
    parameters = draw(n, seed)
    images = sersic(parameters, psf=psf)
    rng = np.random.default_rng([seed, 1])
    images += noise * rng.standard_normal(images.shape, np.float32)
    return images, parameters[[*PARAMETERS]]


def _checked(parameters: Mapping[str, np.ndarray] | pd.DataFrame) -> dict[str, np.ndarray]:
    names = PARAMETERS + CENTRE
    if absent := [name for name in names if name not in parameters]:
        raise DataError(
            f"parameters of galaxies: {', '.join(absent)}: not there; give all of {names}"
        )
    columns = {name: np.asarray(parameters[name], np.float64) for name in names}
    ellipticity = np.hypot(columns["e1"], columns["e2"])
    offset = np.maximum(np.abs(columns["x"]), np.abs(columns["y"]))
    for what, right in (
        ("flux must be finite", np.isfinite(columns["flux"])),
        ("radius must be positive", (columns["radius"] > 0) & (columns["radius"] < np.inf)),
        ("index must lie from 0.3 to 8", (columns["index"] >= 0.3) & (columns["index"] <= 8)),
        ("e1² + e2² must be below 1", ellipticity < 1),
        ("x and y must lie from −½ to ½", offset <= 0.5),
    ):
        if not right.all():
            raise DataError(f"parameters of galaxies: row {int(np.argmin(right))}: {what}")
    return columns


# Flux at points, each of which stands for the small square around it.


def _profile(columns: dict[str, np.ndarray], width: int) -> Tensor:
    """Flux in the squares of `FINE` to a pixel's side, shape (n, width FINE, width FINE)."""
    n, radius = columns["index"], columns["radius"]
    b = gammaincinv(2 * n, 0.5)
    log_peak = 2 * n * np.log(b) - gammaln(2 * n) - np.log(2 * np.pi * n) - 2 * np.log(radius)
    # b (r/R)^(1/n) = exp(slope log r² + offset)
    derived = {
        "slope": 0.5 / n,
        "offset": np.log(b) - np.log(radius) / n,
        "log_peak": log_peak,
        "shrink": 1 / (1 - columns["e1"] ** 2 - columns["e2"] ** 2),
    }
    values = {
        key: torch.tensor(value, dtype=torch.float32)[:, None, None]
        for key, value in (columns | derived).items()
    }
    (half, finer), finest = FINER
    squares = [(width / 2, FINE), (half + width % 2 / 2, finer), finest]  # of whole pixels
    fluxes = [_flux(values, half, points) for half, points in squares]
    for outer in reversed(range(len(FINER))):
        middle = _pooled(fluxes[outer + 1], squares[outer + 1][1] // squares[outer][1])
        start = (fluxes[outer].shape[1] - middle.shape[1]) // 2
        inner = slice(start, start + middle.shape[1])
        fluxes[outer][:, inner, inner] = middle
    return fluxes[0]


def _flux(values: dict[str, Tensor], half: float, points: int) -> Tensor:
    """Flux in the squares of a grid around the middle, to fourth order: f + h² ∇²f/24."""
    edge = (torch.arange(round(2 * half * points)) + 0.5) / points - half
    x, y = edge - values["x"], edge[:, None] - values["y"]
    e1, e2 = values["e1"], values["e2"]
    r2 = ((1 - e1) * x - e2 * y).square_() + ((1 + e1) * y - e2 * x).square_()
    exponent = r2.mul_(values["shrink"]).log_().mul_(values["slope"]).add_(values["offset"]).exp_()
    peak = values["log_peak"] - 2 * np.log(points)
    flux = torch.sub(peak, exponent).exp_().mul_(values["flux"])
    inner = flux[:, 1:-1, 1:-1]
    around = flux[:, 2:, 1:-1] + flux[:, :-2, 1:-1] + flux[:, 1:-1, 2:] + flux[:, 1:-1, :-2]
    flux[:, 1:-1, 1:-1] = inner * (5 / 6) + around / 24
    return flux


def _pooled(flux: Tensor, times: int) -> Tensor:
    return torch.nn.functional.avg_pool2d(flux, times, divisor_override=1)


# Convolution: behind a PSF, an image has no frequencies beyond those of its pixels.


def _response(psf: np.ndarray, width: int) -> Tensor:
    """Of PSF and pixels, at each frequency from the points to the pixels."""
    padded = np.zeros((width, width))
    padded[: psf.shape[0], : psf.shape[1]] = _normalised(psf)
    padded = np.roll(padded, [-(side // 2) for side in psf.shape], (0, 1))
    steps = np.arange(FINE) / FINE
    frequency = np.fft.fftfreq(width)
    pixel = np.exp(2j * np.pi * frequency[:, None] * steps).mean(1)
    pixel[np.abs(frequency) == 0.5] = 0  # of two signs at once
    half = pixel[: width // 2 + 1]
    return torch.from_numpy(np.fft.rfft2(padded) * pixel[:, None] * half).to(torch.complex64)


def _convolved(fine: Tensor, response: Tensor, width: int) -> Tensor:
    spectrum = torch.fft.rfft2(fine)[:, :, : width // 2 + 1]
    positive = (width + 1) // 2
    low = torch.cat([spectrum[:, :positive], spectrum[:, positive - width :]], 1)
    return torch.fft.irfft2(low * response, (width, width))
