"""The command `likely complete`, which fills what a mask hides of an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import check_suffix
from likely.cli.output import print_text
from likely.cli.sample import read_context
from likely.core.errors import DataError
from likely.core.progress import shown

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from likely.core.domain import Domain


@command("likely complete runs/digits seven.png --mask lower-half.png -n 8 --out grid.png")
def complete(
    run: opt.RunFolder,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image of the model's size.")],
    mask: Annotated[
        Path,
        typer.Option(metavar="IMAGE", help="What is known: bright pixels; dark ones are hidden."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help=".png")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of completions.")] = 8,
    particles: Annotated[
        int | None,
        typer.Option(
            min=1, help="Candidates where known pixels follow hidden ones; 64 by default."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same completions.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE,…", help="As in likely sample.")
    ] = None,
    device: opt.Device = "auto",
) -> None:
    """Complete an image whose pixels are partly hidden.

    The picture shows what is known, the completions, and the image. Of an autoregressive model, the
    effective number of candidates is told, from which each completion was chosen.
    """
    import numpy as np

    from likely.core.files import written_whole
    from likely.data.readers.images import read_image
    from likely.models.autoregressive.base import Autoregressive
    from likely.report import to_png
    from likely.report.samples import as_array, image_grid

    check_suffix(out, (".png",))
    model = lk.load(run, device)
    fill, domain = model.complete, model.domain
    x = _levels(read_image(image), domain, image)
    known = _known(read_image(mask), domain, mask)
    options: dict[str, Any] = {"context": read_context(model, context), "seed": seed}
    options |= {} if particles is None else {"particles": particles}
    rows, told = x.expand(n, *domain.shape), ""
    with shown("complete"):
        if isinstance(model, Autoregressive):
            filled, ess = model.complete_with_ess(rows, known, **options)
            told = "exact" if ess.isinf().all() else f"effective candidates {ess.mean():.3g}"
        else:
            filled = fill(rows, known, **options)
    occluded = np.where(known.numpy(), as_array(x), np.nan)
    images = np.concatenate([occluded[None], as_array(filled), as_array(x)[None]])
    with written_whole(out) as file:
        file.write(to_png(image_grid(images, domain, None, columns=n + 2)))
    hidden = 1 - known.double().mean().item()
    print_text(f"{n} completions of {hidden:.0%} of the image{told and f' ({told})'}: {out}")


def _levels(pixels: np.ndarray, domain: Domain, path: Path) -> Tensor:
    """Pixels as levels of the domain, whatever their number of bits."""
    import numpy as np
    import torch

    from likely.core.columns import Binary, Integer

    column = domain.column(0)
    shown = domain.layout in ("image", "lattice") and len(domain.groups) == 1
    if not (shown and isinstance(column, Integer | Binary)) or pixels.dtype.kind == "f":
        raise DataError(f"{path}: images with levels of brightness are completed, not {domain}")
    if pixels.size != domain.size or pixels.shape[-2:] != domain.shape[-2:]:
        raise DataError(f"{path}: an image of shape {pixels.shape}, the model's are {domain.shape}")
    code = torch.from_numpy(np.floor(_brightness(pixels) * (column.levels or 0)))
    return column.low + column.step * code.long().reshape(domain.shape)


def _known(pixels: np.ndarray, domain: Domain, path: Path) -> Tensor:
    """Which entries are known, those of all channels of a pixel alike."""
    import torch

    if pixels.shape[-2:] != domain.shape[-2:]:
        raise DataError(f"--mask {path}: shape {pixels.shape[-2:]}, not {domain.shape[-2:]}")
    bright = _brightness(pixels).reshape(-1, *domain.shape[-2:]).mean(0) >= 0.5
    return torch.from_numpy(bright).expand(domain.shape)


def _brightness(pixels: np.ndarray) -> np.ndarray:
    """From 0 to below 1."""
    import numpy as np

    bits = {"bool": 1, "uint8": 8}.get(pixels.dtype.name, 16)
    return pixels.astype(np.float64) / 2**bits
