"""Folders of images."""

from pathlib import Path

import numpy as np

from likely.core.domain import integers
from likely.core.errors import DataError
from likely.data.readers.arrays import SPLIT, assemble
from likely.data.table import (
    Table,
)

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


def read_images(folder: Path) -> Table:
    """A folder of images of one size, or subfolders `train`, `valid` and `test` of them."""
    subfolders = [path.name for path in folder.iterdir() if path.is_dir()]
    if any(SPLIT.fullmatch(name) for name in subfolders):
        table = assemble(str(folder), sorted(subfolders), lambda name: _stack(folder / name))
    else:
        table = Table(str(folder), _stack(folder))
    images = table.values
    assert isinstance(images, np.ndarray)
    if images.dtype == np.uint8:  # however dark they are
        table.domain = integers(256, *images.shape[1:], layout="image")
    return table


def _stack(folder: Path) -> np.ndarray:
    """The images of a folder by name: 8 bits (n, height, width) or (n, 3, height, width), or 1 bit."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not paths:
        raise DataError(f"{folder}: holds no images ({', '.join(sorted(IMAGES))})")
    images = [_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if (image.shape, image.dtype) != (images[0].shape, images[0].dtype):
            raise DataError(
                f"{path}: {_describe(image)}, but {paths[0].name} is {_describe(images[0])}; "
                "all images of a folder must have one size and one mode"
            )
    return np.stack(images)


def _image(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.has_transparency_data:
                raise DataError(f"{path}: the image has transparent pixels; save it without")
            if image.mode[0] in "IF":
                raise DataError(f"{path}: more than 8 bits a pixel; convert it, or give an array")
            if image.mode not in ("1", "L"):
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not a readable image ({error}); restore or remove it") from error


def _describe(image: np.ndarray) -> str:
    height, width = image.shape[-2:]
    mode = "colour" if image.ndim == 3 else "black and white" if image.dtype == bool else "grey"
    return f"{width}×{height} {mode}"
