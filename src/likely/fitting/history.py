"""What happened during a fit."""

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass
class History:
    """What happened during a fit.

    Attributes
    ----------
    rows : list of dict
        One for each validation: `step`, `epoch`, `seconds`, the mean training loss of each objective
        since the row before, `rate` (learning rate), `skipped` (steps so far whose loss or gradient
        was not finite), `rollbacks` (returns so far to an earlier state, if any), `valid`, the mean
        validation log-likelihood in nats (None without one), figures of the model's own, and what
        `watch` gave.
    steps : int
        Batches processed.
    seconds : float
        Time spent in training, validation included, over all sessions of a resumed run.
    skipped : int
        Steps that were not taken because a loss or a gradient was not finite.
    best : float or None
        Best validation log-likelihood in nats per sample.
    rows_seen : int
        Training rows processed.
    stopped : str or None
        Why `on_validation` ended the training, if it did.
    peak_memory : int
        Largest resident memory of the process, the first of several, during the fit, in bytes; 0 where
        it is not known (Windows).
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    skipped: int = 0
    best: float | None = None
    rows_seen: int = 0
    stopped: str | None = None
    peak_memory: int = 0

    def __repr__(self) -> str:
        best = "" if self.best is None else f", best validation log-likelihood {self.best:.6g} nats"
        stopped = "" if self.stopped is None else f", stopped: {self.stopped}"
        return f"History({self.steps:,} steps in {self.seconds:,.1f} s{best}{stopped})"

    @property
    def frame(self) -> "pd.DataFrame":
        """The rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def plot(self) -> "Figure":
        """Losses of training and minus the validation log-likelihood, by step."""
        from likely.report import draw_training

        return draw_training([self.frame])

    def to_csv(self) -> str:
        """The rows as the text of a CSV file."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        file = io.StringIO()
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return file.getvalue()
