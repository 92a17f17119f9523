"""The command `likely classify`, for models with probabilities of classes."""

from pathlib import Path
from typing import Annotated

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import check_suffix
from likely.cli.output import print_text
from likely.cli.rows import TABLES, write_rows
from likely.core.progress import shown


@command(
    "likely classify runs/digits new-images/ --out classes.csv",
)
def classify(
    run: opt.RunFolder,
    data: opt.Source,
    out: Annotated[Path, typer.Option(metavar="FILE", help=".npy .npz .csv .parquet or .fits.")],
    device: opt.Device = "auto",
) -> None:
    """Probabilities of the classes of every row, in the order of the data, which need no labels.

    Tables have a column for each class, and the likeliest one in front.
    """
    import pandas as pd
    import torch

    from likely.core.columns import Discrete

    check_suffix(out, TABLES)
    model = lk.load(run, device)
    probabilities = model.classify  # a model without it says so
    domains = model.context, model.domain
    seen, classes = domains if model.needs_context else domains[::-1]
    rows = lk.data.load_rows(data, domain=seen).x[:]
    with shown("classify"), torch.no_grad():
        p = probabilities(rows).cpu()
    assert classes is not None
    column = classes.column(0)
    assert isinstance(column, Discrete)
    values = torch.arange(p.shape[1])[:, None] * column.step + column.low
    labels = classes.frame(values).iloc[:, 0].astype(str)
    frame = pd.DataFrame(p.numpy(), columns=labels.to_numpy())
    frame.insert(0, "class", labels.to_numpy()[p.argmax(1).numpy()], allow_duplicates=True)
    write_rows(out, "p", p.numpy(), frame)
    print_text(f"{len(p):,} rows × {p.shape[1]} classes: {out}")
