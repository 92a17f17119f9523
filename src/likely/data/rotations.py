"""Rotations: binary images of four balls, turned in space as one.

The balls are seen along the third axis. They differ in size and span the space, so that an image has one
rotation.
"""

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from likely.data.sprites import SIDE

ROWS = 10_000
BALLS = np.array([[1.0, 0, 0], [-0.3, 0.9, 0], [-0.4, -0.5, 0.7], [0.2, -0.2, -0.6]])
RADII = np.array([2.0, 2.75, 3.5, 4.25])  # pixels
UNIT = 11.0  # pixels


def rotations(seed: int, n: int = ROWS) -> tuple[np.ndarray, pd.DataFrame]:
    """Images of uniform rotations, and their matrices.

    Parameters
    ----------
    seed : int
    n : int

    Returns
    -------
    images : array of uint8, shape (n, 32, 32)
    matrices : DataFrame, shape (n, 9)
        Entries r11, r12, … of R; a ball at b is moved to R b.
    """
    matrices = Rotation.random(n, np.random.default_rng(seed)).as_matrix()
    names = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
    return rendered(matrices), pd.DataFrame(matrices.reshape(n, 9), columns=names)


def rendered(matrices: np.ndarray) -> np.ndarray:
    """Images of the balls after rotations by matrices of shape (n, 3, 3)."""
    centres = (SIDE - 1) / 2 + UNIT * np.einsum("nij,kj->kni", matrices[:, :2], BALLS)
    pixel, images = np.arange(SIDE), np.zeros((len(matrices), SIDE, SIDE), np.uint8)
    for centre, radius in zip(centres, RADII, strict=True):
        dx, dy = pixel - centre[:, None, None, 0], pixel[:, None] - centre[:, None, None, 1]
        images |= dx**2 + dy**2 < radius**2
    return images
