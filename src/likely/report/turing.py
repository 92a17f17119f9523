"""The visual Turing test: a page on which a person judges which image of each pair is real."""

import base64
import io

import numpy as np
from PIL import Image
from scipy.stats import binomtest
from torch import Tensor

from likely.core.domain import Domain
from likely.core.errors import DataError, DomainError
from likely.report.page import render
from likely.report.samples import as_array, form, to_pixels

LEAST = 256  # pixels along an edge of what a person sees, of whole pixels of the image


def turing_page(
    real: Tensor, drawn: Tensor, domain: Domain, *, title: str = "", seed: int = 0
) -> str:
    """A page that shows pairs of a real and a drawn image, and at the end how often a person was right.

    The page holds everything that it needs, and sends nothing. The share that was right comes with its
    exact binomial interval of 95 % (Clopper & Pearson 1934), which of 100 pairs is 20 % wide. The
    answers are in the page's source: it is for people who want to know.

    Parameters
    ----------
    real : Tensor, shape (pairs, *domain.shape)
        Real rows, best such as training has not seen.
    drawn : Tensor, shape (pairs, *domain.shape)
        Draws of a model; of a conditional one, at the contexts of the real rows.
    domain : Domain
        Of images or two-dimensional lattices.
    title : str
    seed : int
        Of the sides.

    Returns
    -------
    str
        The text of an HTML page.

    Raises
    ------
    DomainError
        If the domain is not one of images.
    DataError
        If there are no pairs, or not as many draws as real rows.

    References
    ----------
    Zhou, Gordon, Krishna et al. 2019, HYPE, arXiv:1904.01121.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> page = lk.report.turing_page(data.test.x[:9], data.valid.x[:9], data.domain)
    >>> page.count("data:image/png")
    18
    """
    if form(domain) != "images":
        raise DomainError(f"people judge images here, not {domain}")
    if len(real) != len(drawn) or not len(real):
        raise DataError(f"{len(real)} real and {len(drawn)} drawn images: give as many of each")
    n, rng = len(real), np.random.default_rng(seed)
    side = rng.integers(0, 2, n)
    base = as_array(real)
    shown = [[_uri(p) for p in to_pixels(x, domain, base)] for x in (base, as_array(drawn))]
    pairs = [(a, b) if s == 0 else (b, a) for a, b, s in zip(*shown, side, strict=True)]
    intervals = [binomtest(k, n).proportion_ci(method="exact") for k in range(n + 1)]
    return render(
        "turing.html.j2",
        title=title or "Which image is real?",
        pairs=pairs,
        side=side.tolist(),
        interval=[(float(i.low), float(i.high)) for i in intervals],
    )


def _uri(pixels: np.ndarray) -> str:
    """An image of numbers from 0 to 1, each pixel of it as several."""
    image = Image.fromarray((255 * pixels + 0.5).astype(np.uint8))
    times = -(-LEAST // max(image.size))
    stream = io.BytesIO()
    size = image.width * times, image.height * times
    image.resize(size, Image.Resampling.NEAREST).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
