"""What an evaluation found."""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from torch import Tensor

from likely.core.likelihood import Figure, Kind, Likelihood, plain
from likely.evaluation.measures import MEASURES
from likely.evaluation.reliability import Reliability

FLOORS = [f"{measure.name}_floor" for measure in MEASURES if measure.floor]
NAMES = [*(measure.name for measure in MEASURES), *FLOORS]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Figures of a model on one split of the data.

    Attributes
    ----------
    model, data, split : str
        Names.
    rows : int
        Rows of the split that were scored.
    density : Kind
        What kind of numbers the log-likelihoods are.
    values : dict of str to Figure, number, text or table
        What was measured, by name. Each is also an attribute, which is None where it is missing.
    held, held_train : Likelihood, optional
        Row by row, what `log_likelihood` and `train_log_likelihood` are the means of.
    weight : Tensor, shape (rows,), optional
        The weights of the split's rows.
    reliability : Reliability, optional
        The diagram behind `calibration_error`.

    Distances have also a `…_floor`: the same between training rows and rows of the split, the level
    at which a model's draws cannot be told from data. What is measured:

    """

    model: str
    data: str
    split: str
    rows: int
    density: Kind
    values: dict[str, Any]
    held: Likelihood | None = field(default=None, repr=False)
    held_train: Likelihood | None = field(default=None, repr=False)
    weight: Tensor | None = field(default=None, repr=False)
    reliability: Reliability | None = field(default=None, repr=False)

    def __getattr__(self, name: str) -> Any:
        if name in NAMES:
            return self.values.get(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *NAMES]

    @property
    def forward_kl_kind(self) -> Kind:
        """A lower bound of the model's log-density is an upper one of this divergence."""
        return self.density.opposite

    def to_json(self) -> dict[str, Any]:
        """All figures, without the rows; a number that is not finite becomes null."""
        own = ("forward_kl_kind", "model", "data", "split", "rows", "density")
        report = {name: plain(getattr(self, name)) for name in (*own, *NAMES)}
        for name in ("marginals", "pairs"):
            if report[name] is not None:
                report[name] = json.loads(report[name].to_json(orient="records"))
        return report

    @property
    def lines(self) -> Iterator[tuple[str, str, str]]:
        """Title, value and notes of each figure, as a table shows them."""
        if self.density == Kind.NONE:
            yield "log-likelihood", "none", "the model has no density"
        other = "test rows" if self.split == "train" else "training rows"
        for measure in MEASURES:
            value, floor = self.values.get(measure.name), self.values.get(f"{measure.name}_floor")
            notes = [measure.unit, measure.kind(self.density)]
            if measure.name in ("marginals", "pairs") and value is not None:
                of, value, floor = _farthest(value)
                notes.append(of)
            if floor is not None:
                notes.append(f"{other}: {floor}")
            text = "" if value is None else measure.text(value)
            if text:
                yield measure.title, text, "; ".join(filter(None, notes))

    def summary(self) -> Table:
        """A table for `rich` to print; `str()` gives it as text."""
        title = f"{self.model} on {self.data or 'data'}: {self.split}, {self.rows:,} rows"
        table = Table(title=title, show_header=False)
        for line in self.lines:
            table.add_row(*line)
        return table

    def __str__(self) -> str:
        return as_text(self.summary())


def as_text(*parts: Table | str) -> str:
    """Tables and paragraphs as a terminal would show them."""
    text = io.StringIO()
    Console(file=text, width=100, color_system=None).print(*parts, sep="\n", markup=False)
    return text.getvalue().rstrip("\n")


def _farthest(frame: pd.DataFrame) -> tuple[str, Figure | None, Figure | None]:
    """The entry of a table of distances that lies farthest from its floor, in standard errors."""
    if frame.empty:
        return "", None, None
    error = (frame["stderr"] ** 2 + frame["floor_stderr"] ** 2) ** 0.5
    excess = (frame["value"].abs() - frame["floor"].abs()) / error.clip(lower=1e-30)
    row = frame.iloc[int(excess.fillna(-math.inf).argmax())]
    columns = [row[name] for name in ("column", "first", "second") if name in frame]
    of = f"{row['measure']} of {' and '.join(columns)}"
    return of, Figure(row["value"], row["stderr"]), Figure(row["floor"], row["floor_stderr"])


Evaluation.__doc__ = f"{Evaluation.__doc__}" + "\n".join(
    f"    {measure.name}{f' ({measure.unit})' * bool(measure.unit)}\n        {measure.meaning}"
    + f" Needs {measure.need.what}." * bool(measure.need.what)
    for measure in MEASURES
)
