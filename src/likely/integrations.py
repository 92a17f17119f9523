"""What other tools are told of a training: functions for `fit(…, on_validation=…)`.

Each is called with the step, the row of the history and the averaged model. A fit with a run folder that is
resumed tells no row twice.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def numbers(row: Row) -> dict[str, float]:
    """The figures of a row of the history, without the step and without those that there are not."""
    return {name: float(v) for name, v in row.items() if name != "step" and v is not None}


class TensorBoard:
    """Writes a file of events; `fit` with a run folder has one where TensorBoard is installed.

    Parameters
    ----------
    folder : str or Path
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / f"events.out.tfevents.{time.time_ns()}"

    def __call__(self, step: int, row: Row, model: object) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        values = [Summary.Value(tag=name, simple_value=v) for name, v in numbers(row).items()]
        events = [Event(wall_time=time.time(), step=step, summary=Summary(value=values))]
        # Without a thread, as torch's writer has; of a disk that is full the checkpoint tells.
        with contextlib.suppress(OSError):
            if not self.path.exists():
                self.path.parent.mkdir(exist_ok=True)
                events.insert(0, Event(wall_time=time.time(), file_version="brain.Event:2"))
            with self.path.open("ab") as file:
                for event in events:
                    RecordWriter(file).write(event.SerializeToString())


class WandB:
    """Logs to a run of Weights & Biases, which the caller begins and ends.

    Parameters
    ----------
    run : wandb.Run
        What `wandb.init(…)` gave; for a fit that is resumed, with the same `id` and `resume="allow"`.
    """

    def __init__(self, run: Any) -> None:
        self.run = run

    def __call__(self, step: int, row: Row, model: object) -> None:
        self.run.log(numbers(row), step=step)


class MLflow:
    """Logs to a run of MLflow.

    Parameters
    ----------
    run_id : str, optional
        By default that of the active run; for a fit that is resumed, that of the first session.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self.run_id = run_id

    def __call__(self, step: int, row: Row, model: object) -> None:
        import mlflow

        mlflow.log_metrics(numbers(row), step=step, run_id=self.run_id)


class Optuna:
    """Reports the validation score to a trial of Optuna, and ends the fit where the study prunes it.

    Parameters
    ----------
    trial : optuna.Trial
    figure : str
        The column of the history that is reported.

    Raises
    ------
    optuna.TrialPruned
        Out of `fit`, which the study expects.

    Examples
    --------
    >>> import likely as lk
    >>> from likely.integrations import Optuna
    >>> def objective(trial):
    ...     data = lk.load_data("moons")
    ...     model = lk.make("nsf", data.domain, transforms=trial.suggest_int("transforms", 1, 5))
    ...     return lk.fit(model, data, steps=2000, on_validation=Optuna(trial)).best
    """

    def __init__(self, trial: Any, figure: str = "valid") -> None:
        self.trial, self.figure = trial, figure

    def __call__(self, step: int, row: Row, model: object) -> None:
        import optuna

        self.trial.report(row[self.figure], step)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"pruned at step {step}")
