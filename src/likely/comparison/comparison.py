"""A comparison: its results with the sentences, the table and the files that show them."""

import io
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from likely._version import __version__
from likely.comparison import page, words
from likely.comparison.columns import filled
from likely.comparison.findings import Findings
from likely.comparison.results import Results
from likely.contract.store import described
from likely.core.files import write_json, write_text


class Comparison(Results):
    """Several models on the same data: what `compare` returns.

    The attributes are those of `Results`.
    """

    @cached_property
    def findings(self) -> Findings:
        """Facts that follow from the figures."""
        return Findings(self)

    def summary(self) -> list[str]:
        """What came out and how it is ranked, in sentences; the last one says what the data are."""
        return words.summary(self.findings)

    def advice(self) -> dict[str, str]:
        """Which model to use for what, in sentences that follow from the figures."""
        return words.advice(self.findings)

    @property
    def notes(self) -> list[str]:
        """What else a reader of the table must know."""
        return words.notes(self.findings)

    def to_json(self, path: str | Path | None = None) -> dict[str, Any]:
        """Everything but the models and the rows of the data, also written to `path`.

        Raises
        ------
        ArtifactError
            If the file cannot be written.
        """
        data = self.data
        report = {
            "data": {
                "name": data.name,
                "domain": data.domain.to_json(),
                "context": None if data.context is None else data.context.to_json(),
                "rows": {split: len(getattr(data, split)) for split in ("train", "valid", "test")},
                "fingerprint": data.fingerprint(),
            },
            "settings": self.settings,
            "versions": {
                "likely": __version__, "torch": torch.__version__, "numpy": np.__version__,
            },
            "ranked_by": self.ranked_by,
            "atoms": self.atoms,
            "refused": self.refused,
            "summary": self.summary(),
            "advice": self.advice(),
            "notes": self.notes,
            "rows": [row.to_json() for row in self.rows],
            "runs": [
                {
                    "model": run.name,
                    "seed": run.seed,
                    "hyperparameters": described(run.model.hyperparameters) if run.model else None,
                    "steps": run.history.steps if run.history else None,
                    "error": run.error,
                    "diverged": run.diverged,
                    "evaluation": run.evaluation.to_json() if run.evaluation else None,
                }
                for run in self.runs
            ],
        }  # fmt: skip
        if path is not None:
            write_json(path, report)
        return report

    def to_csv(self, path: str | Path) -> None:
        """Write the table as CSV.

        Raises
        ------
        ArtifactError
            If the file cannot be written.
        """
        write_text(path, self.table.to_csv(lineterminator="\n"))

    def to_html(self, path: str | Path) -> None:
        """Write the report: one page that needs nothing else.

        Raises
        ------
        ArtifactError
            If the file cannot be written.
        """
        write_text(path, page.page(self.findings))

    def write(self, folder: str | Path) -> None:
        """Write index.html, comparison.json and comparison.csv into a folder.

        Raises
        ------
        ArtifactError
            If a file cannot be written.
        """
        folder = Path(folder)
        self.to_html(folder / "index.html")
        self.to_json(folder / "comparison.json")
        self.to_csv(folder / "comparison.csv")

    def _repr_html_(self) -> str:
        return page.table(self.findings)

    def rich_table(self, width: int) -> Table:
        """The most important columns, for `rich` to print, as many as there is room for."""
        title = f"{self.data.name}, held-out rows"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        cells = []
        width -= 1  # of the frame
        for column in filled(self):
            texts = [column.cell(row).text for row in self.rows]
            needed = max(map(len, [*texts, *column.title.split(), *column.unit.split()]))
            if column.main and needed + 3 <= width:
                width -= needed + 3  # with its margins
                cells.append(texts)
                justify = "right" if column.numeric else "left"
                head = f"{column.title}\n{column.unit}"
                table.add_column(head, justify=justify, width=needed)  # type: ignore[arg-type]
        for entries in zip(*cells, strict=True):
            table.add_row(*entries)
        return table

    def __str__(self) -> str:
        text = io.StringIO()
        console = Console(file=text, width=120, color_system=None)
        console.print(self.rich_table(console.width))
        for line in [*self.summary(), *self.notes]:
            console.print(line, markup=False, highlight=False)
        return text.getvalue().rstrip("\n")

    __repr__ = __str__
