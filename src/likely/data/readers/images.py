"""Folders of images."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from likely.core.domain import integers
from likely.core.errors import DataError
from likely.data.readers.arrays import SPLIT, assemble
from likely.data.table import Table, as_values

NO_DATA = 42113  # the tag of a TIFF in which GDAL writes the value of pixels without data
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


def read_images(folder: Path, keys: list[str]) -> Table:
    """A folder of images of one size; or folders of them: `train`, `valid` and `test`, or classes.

    The names of classes, which may lie in the folders of splits, are another array, "label".
    """
    subfolders = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if any(SPLIT.fullmatch(name) for name in subfolders):
        images = {name: _labelled(folder / name) for name in subfolders if SPLIT.fullmatch(name)}
        arrays = {name: values for name, (values, _) in images.items()}
        labels = {
            f"label_{name}": labels for name, (_, labels) in images.items() if labels is not None
        }
        arrays |= labels if len(labels) == len(images) else {}
        table = assemble(
            str(folder), [*arrays], lambda name: as_values(arrays[name], name.split("_")[0])
        )
    else:
        images = {"": _labelled(folder)}
        values, classes = images[""]
        table = Table(str(folder), as_values(values, str(folder)))
        if classes is not None:
            table.others["label"] = pd.DataFrame({"label": classes})
    found = [values for values, _ in images.values()]
    if any(map(np.ma.is_masked, found)):
        table.notes.append("pixels of the value that its tag GDAL_NODATA names are missing")
    if all(values.dtype == np.uint8 for values in found):  # however dark they are
        pixels = table.values
        assert isinstance(pixels, np.ndarray)
        table.domain = integers(256, *pixels.shape[1:], layout="image")
    return table


def _labelled(folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a folder, or of the folders of classes in it, and then their names."""
    classes = {path: _images_of(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    own = _images_of(folder)
    if own or not any(classes.values()):
        return _stack(folder, own), None
    labels = [path.name for path, images in classes.items() for _ in images]
    return _stack(folder, [*chain(*classes.values())]), np.array(labels, object)


def _images_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)


def _stack(folder: Path, paths: list[Path]) -> np.ndarray:
    """Images in their order: grey (n, height, width) or in colour (n, 3, height, width).

    Pixels without data are masked.
    """
    if not paths:
        raise DataError(f"{folder}: holds no images ({', '.join(sorted(IMAGES))})")
    images = [read_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if (image.shape, image.dtype) != (images[0].shape, images[0].dtype):
            raise DataError(
                f"{path}: {_describe(image)}, but {paths[0].name} is {_describe(images[0])}; "
                "all images of a folder must have one size and one mode"
            )
    masked = any(isinstance(image, np.ma.MaskedArray) for image in images)
    return np.ma.stack(images) if masked else np.stack(images)


def read_image(path: Path) -> np.ndarray:
    """Grey (height, width) or in colour (3, height, width), the right way up.

    8 or 16 bits, true or false, or floating point; opaque.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            pixels = _pixels(ImageOps.exif_transpose(opened), path)
            no_data = getattr(opened, "tag_v2", {}).get(NO_DATA)
        return pixels if no_data is None else _masked(pixels, float(no_data.strip(" \0")))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not a readable image ({error}); restore or remove it") from error


def _pixels(image: Any, path: Path) -> np.ndarray:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image)[:, :, 3].min() < 255:
            raise DataError(f"{path}: the image has transparent pixels; save it without")
    if image.mode[0] in "IF":
        return _without_order(np.asarray(image))
    if image.mode not in ("1", "L"):
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return np.asarray(image)


def _masked(pixels: np.ndarray, no_data: float) -> np.ndarray:
    """Pixels, masked where they have a value that is written with more digits than theirs."""
    if pixels.dtype.kind != "f":
        return np.ma.masked_array(pixels, pixels == no_data)
    with np.errstate(over="ignore"):
        value = np.asarray(no_data).astype(pixels.dtype)
    return np.ma.masked_array(pixels, pixels == value)


def _without_order(pixels: np.ndarray) -> np.ndarray:
    """Grey pixels of 16 bits, or of 32 in floating point, in the byte order of this machine."""
    if pixels.dtype.kind in "iu" and pixels.min() >= 0 and pixels.max() < 1 << 16:
        return pixels.astype(np.uint16)
    return pixels.astype(pixels.dtype.newbyteorder("="))


def _describe(image: np.ndarray) -> str:
    height, width = image.shape[-2:]
    names = {"bool": "black and white", "uint8": "grey"}
    mode = "colour" if image.ndim == 3 else names.get(image.dtype.name, f"grey in {image.dtype}")
    return f"{width}×{height} {mode}"
