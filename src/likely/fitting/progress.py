"""The progress bar of a fit."""

from types import TracebackType
from typing import Any, Self

from likely.contract.training import BOOKKEEPING
from likely.core.progress import make_bars


class Progress:
    """A bar with the loss, the validation score and the time left; silent unless it is wanted.

    Parameters
    ----------
    title : str
    shown : bool
    """

    def __init__(self, title: str, shown: bool) -> None:
        self._bar: Any = None
        if shown:
            self._bar = make_bars("{task.fields[figures]}")
            self._task = self._bar.add_task(title, total=None, figures="")

    def show(self, done: int, total: int | None, row: dict[str, Any] | None) -> None:
        """Move the bar; `row` is the last of the history."""
        if self._bar is None:
            return
        figures = ""
        if row is not None:
            shown = [k for k in row if k not in BOOKKEEPING and not k.endswith("_stderr")]
            losses = [f"{k} {row[k]:.4g}" for k in shown]
            valid = row.get("valid")
            score = [] if valid is None else [f"valid {valid:.4g} nats"]
            figures = ", ".join(losses + score)
        self._bar.update(self._task, completed=done, total=total, figures=figures)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
