"""The command `likely impute`, which fills what is missing from a table."""

from pathlib import Path
from typing import Annotated

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import check_suffix
from likely.cli.output import print_text
from likely.cli.sample import write_rows
from likely.core.progress import shown

FILES = (".csv", ".parquet", ".fits")


@command("likely impute runs/patients patients.csv --draws 5 --out filled.csv")
def impute(
    run: opt.RunFolder,
    data: opt.Source,
    out: Annotated[Path, typer.Option(metavar="FILE", help=".csv .parquet or .fits.")],
    draws: Annotated[
        int,
        typer.Option(min=1, help="Copies of the table, told apart by a column [bold]draw[/bold]."),
    ] = 5,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same draws.")] = 0,
    device: opt.Device = "auto",
) -> None:
    """Fill the missing entries of a table by draws from a model, given those that are present."""
    import pandas as pd

    from likely.core.columns import Categorical
    from likely.data.load import read_table

    check_suffix(out, FILES)
    model = lk.load(run, device)
    kinds = {model.domain.label(i): model.domain.column(i) for i in range(model.domain.size)}
    texts = {name: kind for name, kind in kinds.items() if isinstance(kind.present, Categorical)}
    table = read_table(data, domain=texts or None)
    if not isinstance(table.values, pd.DataFrame):
        raise lk.DataError(f"{table.name}: a table with named columns is needed, as a .csv file")
    if draws > 1 and "draw" in table.labels:
        raise lk.DataError(f"{table.name}: has a column 'draw': rename it, or take --draws 1")
    with shown("impute"):
        copies = lk.impute(model, table.values, draws, seed=seed)
    filled = int(table.values.isna().sum().sum() - copies[0].isna().sum().sum())
    if draws > 1:
        for k, copy in enumerate(copies):
            copy.insert(0, "draw", k)
    filled_table = pd.concat(copies, ignore_index=True)
    write_rows(out, "filled", filled_table.to_numpy(), filled_table)
    print_text(f"{filled:,} entries of {len(table.values):,} rows, {draws} times: {out}")
