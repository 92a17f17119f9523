"""Sprites: binary images of a shape, each once for every shape, scale, orientation and place.

In the spirit of dSprites (Matthey, Higgins, Hassabis & Lerchner 2017). No shape looks the same after a
part of a turn, so that the orientation can be told.
"""

import numpy as np
import pandas as pd

SIDE = 32  # pixels
LARGEST = 8.0  # radius in pixels
MARGIN = 8.5  # of the outermost centres: eight places are two pixels apart
COUNTS = (3, 4, 8, 8, 8)  # of the factors
FACTORS = ("shape", "scale", "orientation", "x", "y")


def sprites(counts: tuple[int, ...] = COUNTS) -> tuple[np.ndarray, pd.DataFrame]:
    """Images and their factors, in the order of the factors' product.

    Parameters
    ----------
    counts : tuple of int
        Shapes (at most 3), scales, orientations, columns and rows: fewer for a small set.

    Returns
    -------
    images : array of uint8, shape (n, 32, 32)
    factors : DataFrame of categories, shape (n, 5)
    """
    labels = np.indices(counts).reshape(len(counts), -1)
    shape, scale, orientation, column, row = labels[..., None, None]
    pixel = np.arange(SIDE)
    radius = LARGEST * np.linspace(1, 0.5, counts[1])[scale]
    angle = 2 * np.pi * orientation / counts[2]
    places = [np.linspace(MARGIN, SIDE - 1 - MARGIN, count) for count in counts[3:]]
    dx, dy = pixel - places[0][column], pixel[:, None] - places[1][row]
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / radius
    v = (np.cos(angle) * dy - np.sin(angle) * dx) / radius
    images = np.select(
        [shape == k for k in range(3)], [_letter(u, v), _half(u, v), _triangle(u, v)]
    )
    frame = pd.DataFrame(
        {name: pd.Categorical(label) for name, label in zip(FACTORS, labels, strict=True)}
    )
    return images.astype(np.uint8), frame


# Shapes within the unit circle.


def _letter(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The letter L."""
    inside = (np.abs(u) < 0.6) & (np.abs(v) < 0.8)
    return inside & ((u < -0.1) | (v > 0.3))


def _half(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Half of a disc."""
    return (u**2 + v**2 < 1) & (u > 0)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A triangle with two equal sides, and a tip."""
    return (u > -0.6) & (np.abs(v) < 0.48 * (1 - u))
