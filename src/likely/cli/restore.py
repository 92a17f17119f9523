"""The command `likely restore`: draws of what an image was, before blur, masks, large pixels and noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import check_writable, hyperparameters, split_names
from likely.cli.output import print_text
from likely.core.errors import DataError, LikelyError

if TYPE_CHECKING:
    import numpy as np

    from likely.core.domain import Domain
    from likely.inverse.operators import Operator

Image = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="A file with one image: .fits .npy .npz, or .png and its like. Of several extensions one is "
        "named: [bold]image.fits::SCI[/bold].",
    ),
]


@command(
    "likely restore runs/galaxies image.fits --psf psf.fits --noise 0.05 -n 16 --out restored/",
    "likely restore runs/digits seven.png --mask known.png --noise 5 --out restored/",
    "likely restore runs/faces small.png --scale 4 --noise 2 --out restored/",
)
def restore(
    run: opt.RunFolder,
    image: Image,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="For the page and the draws.")],
    noise: Annotated[
        str,
        typer.Option(
            metavar="SIGMA",
            help="Standard deviation of the noise, in the units of the image; or a file with that of each "
            "pixel.",
        ),
    ],
    psf: Annotated[
        str | None, typer.Option(metavar="FILE", help="The point-spread function that blurred it.")
    ] = None,
    edges: Annotated[
        str, typer.Option(help="What the blur sees beyond the edges: zero, valid or circular.")
    ] = "zero",
    scale: Annotated[
        int | None,
        typer.Option(min=2, metavar="K", help="Its pixels are means of K × K finer ones."),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What is known: bright pixels; dark ones are hidden."),
    ] = None,
    truth: Annotated[
        str | None, typer.Option(metavar="FILE", help="What it was, where that is known.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=2, help="Number of draws.")] = 16,
    method: Annotated[
        str,
        typer.Option(
            help="How to draw; auto takes the best that the model can serve. Several with commas between, or "
            "all, are compared."
        ),
    ] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the method."),
    ] = None,
    missing: Annotated[
        str, typer.Option(help="Pixels that are NaN: an error, or mask: hidden.")
    ] = "error",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same draws.")] = 0,
    device: opt.Device = "auto",
) -> None:
    """Draw from the posterior of an image, with a fitted model as the prior.

    The image is what the model's rows become by blur (--psf), larger pixels (--scale), a mask and noise, in
    that order; without any of these it is only noisy. The folder gets a page and posterior.npz, with
    samples, mean, std and residual; of several methods METHOD.npz.
    """
    import sys
    import time

    import numpy as np
    import torch

    from likely.core.files import written_whole
    from likely.inverse import suitable
    from likely.inverse.report import page, page_of_methods

    check_writable(out)
    model = lk.load(run, device)
    y = read_pixels(image, model.domain)
    operator = measurement(psf, edges, scale, mask)
    out_shape = operator.on(model.domain.shape).out_shape
    assert out_shape is not None
    sigma: Any = number(noise)
    if sigma is None:
        sigma = fitted_to(read_pixels(noise), out_shape, noise)
    known = None
    if truth is not None:
        pixels = fitted_to(read_pixels(truth, model.domain), model.domain.shape, truth)
        known = torch.as_tensor(pixels).to(model.parameter_dtype)
    options: dict[str, Any] = {"missing": missing, **hyperparameters(settings)}
    problem = model, fitted_to(y, out_shape, image), operator, sigma
    names = split_names(method) or ["auto"]
    if len(names) > 1 or names == ["all"]:
        able = suitable(*problem, missing=options["missing"])
        names = (able or ["auto"]) if names == ["all"] else names
        names.sort(key=able.__contains__)  # what is refused comes first, before time is spent
    if len(names) > 1 and settings:
        raise LikelyError("--set is for one method: name it with --method")
    found, seconds = {}, {}
    for name in names:
        start = time.perf_counter()
        found[name] = one = lk.posterior(
            *problem, n=n, method=name, seed=seed, progress=sys.stderr.isatty(), **options
        )
        seconds[name] = time.perf_counter() - start
        out.mkdir(parents=True, exist_ok=True)
        arrays = {part: getattr(one, part) for part in ("samples", "mean", "std", "residual")}
        with written_whole(out / f"{name if len(names) > 1 else 'posterior'}.npz") as file:
            np.savez(file, **{part: value.numpy(force=True) for part, value in arrays.items()})
        print_text(str(one))
    shown = {"image": image, "psf": psf, "scale": scale, "mask": mask, "noise": noise, "seed": seed}
    titled: dict[str, Any] = {"title": f"likely restore: {Path(image).name}", "truth": known}
    if len(found) == 1:
        text = page(*found.values(), settings=shown, **titled)
    else:
        text = page_of_methods(found, seconds, settings=shown, **titled)
    with written_whole(out / "index.html") as file:
        file.write(text.encode())
    print_text(str(out / "index.html"))


def number(text: str) -> float | None:
    """A number, unless it is something else."""
    try:
        return float(text)
    except ValueError:
        return None


def measurement(psf: str | None, edges: str, scale: int | None, mask: str | None) -> Operator:
    """What became of the image that is looked for."""
    from likely.inverse import Convolve, Downsample, Identity, Mask

    operator: Operator = Identity()
    if psf is not None:
        operator = Convolve(psf, edges)  # type: ignore[arg-type]
    if scale is not None:
        operator = Downsample(scale) @ operator
    if mask is not None:
        pixels = read_pixels(mask)
        operator = Mask(pixels >= (pixels.min() + pixels.max()) / 2) @ operator
    return operator


def read_pixels(name: str, domain: Domain | None = None) -> np.ndarray:
    """One image of a file; levels of brightness as those of a domain, and other numbers as they are."""
    import numpy as np

    from likely.core.columns import Binary, Integer
    from likely.data.readers.images import IMAGES, read_image
    from likely.data.source import read

    path = Path(name)
    if path.suffix.lower() in IMAGES:
        pixels = read_image(path)
        column = None if domain is None else domain.column(0)
        if isinstance(column, Integer | Binary) and pixels.dtype.kind != "f":
            bits = {"bool": 1, "uint8": 8}.get(pixels.dtype.name, 16)
            return column.low + column.step * (
                (column.levels or 2) * pixels.astype(float) / 2**bits
            )
        return pixels.astype(np.float64)
    values = np.array(read(name).values, np.float64)  # a copy, as a mapped file cannot be written
    if values.ndim == 3 and len(values) > 1 and (domain is None or values.shape != domain.shape):
        raise DataError(
            f"{name}: holds {len(values)} images: name one extension, as in '{name}::1'"
        )
    return values


def fitted_to(pixels: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Pixels in the shape that is needed, which may have axes of one entry more or less."""
    if [k for k in pixels.shape if k > 1] != [k for k in shape if k > 1]:
        raise DataError(f"{name}: an image of shape {pixels.shape}, and {shape} is needed")
    return pixels.reshape(shape)
