"""Built-in data: small sets that ship with scikit-learn, images of figures, and draws from `likely.targets`.

The class labels of `digits`, `wine`, `breast-cancer` and `moons` may be taken as a context, "label"; so may
the "factors" of `sprites`, the "rotation" of `rotations` and the "parameters" of `galaxies`.
"""

import numpy as np
import pandas as pd

from likely import targets
from likely.core.domain import binary, integers
from likely.data.galaxies import galaxies
from likely.data.rotations import rotations
from likely.data.sprites import SIDE, sprites
from likely.data.table import TARGET_ROWS, Table, from_target


def names() -> list[str]:
    """Names that `load_data` knows."""
    images = ["sprites", "rotations", "galaxies"]
    return ["digits", "wine", "breast-cancer", "moons", *images, *targets.names()]


def read(name: str, seed: int) -> Table:
    """A built-in set; the seed is that of the draws, where it is drawn."""
    from sklearn import datasets

    if name == "digits":
        images, labels = datasets.load_digits(return_X_y=True)
        domain = integers(17, 8, 8, layout="image")
        return Table(name, images.astype(np.uint8).reshape(-1, 8, 8), _label(labels), domain=domain)
    if name in ("wine", "breast-cancer"):
        bunch = datasets.load_wine() if name == "wine" else datasets.load_breast_cancer()
        frame = pd.DataFrame(bunch.data, columns=bunch.feature_names)
        return Table(name, frame, _label(bunch.target_names[bunch.target]))
    if name == "moons":
        points, labels = datasets.make_moons(TARGET_ROWS, noise=0.1, random_state=seed)
        return Table(name, points, _label(labels))
    if name == "sprites":
        images, factors = sprites()
        return Table(name, images, {"factors": factors}, domain=binary(SIDE, SIDE))
    if name == "rotations":
        images, matrices = rotations(seed)
        return Table(name, images, {"rotation": matrices}, domain=binary(SIDE, SIDE))
    if name == "galaxies":
        images, parameters = galaxies(seed=seed)
        return Table(name, images, {"parameters": parameters})
    return from_target(targets.target(name), seed)


def _label(labels: np.ndarray) -> dict[str, np.ndarray | pd.DataFrame]:
    return {"label": pd.DataFrame({"label": pd.Categorical(labels)})}
