"""The run folder: `config.json`, `history.csv`, `checkpoint/` and at the end `model.safetensors`."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from likely._version import __version__, compatible
from likely.contract import store
from likely.contract.model import GenerativeModel
from likely.core import files
from likely.core.errors import ArtifactError
from likely.fitting.history import History

CONFIG, MODEL, CHECKPOINT = "config.json", "model.safetensors", "checkpoint/state.safetensors"
BUDGETS = ("fit.steps", "fit.epochs", "fit.minutes")
MIN_INTERVAL = 1.0  # seconds between checkpoints …
OVERHEAD = 0.05  # … and the part of the time that writing them may take


class RunFolder:
    """A folder that a fit writes to and resumes from.

    Parameters
    ----------
    path : str or Path
    config : dict
        What makes the run what it is; a folder with another one is refused.

    Raises
    ------
    ArtifactError
        If the folder holds something else, or a run of another configuration.
    """

    def __init__(self, path: str | Path, config: dict[str, Any]) -> None:
        self.path = Path(path)
        self.config_file = self.path / CONFIG
        self.history_file = self.path / "history.csv"
        self.model = self.path / MODEL
        self.checkpoint = self.path / CHECKPOINT
        self.told = self.checkpoint.with_name(
            "told"
        )  # the last step that `on_validation` was called with
        self.config = json.loads(json.dumps(config))
        self.decisions: list[tuple[int, int]] = []  # of `Minutes`
        self.writes = True  # of several processes, one
        self.complete = self.model.exists()
        self._cost = 0.0
        self._written = -float("inf")
        if self.config_file.exists():
            self._compare()
        elif self.path.exists() and (not self.path.is_dir() or self._foreign()):
            raise ArtifactError(f"{self.path}: not an empty folder, nor a run; choose another one")
        for file in (self.config_file, self.history_file, self.model, self.checkpoint):
            for left_by_a_kill in file.parent.glob(f".{file.name}.*{files.PART}"):
                left_by_a_kill.unlink()

    def _foreign(self) -> list[Path]:
        """What lies in the folder, except what a kill left of the first file."""
        parts = set(self.path.glob(f".{self.config_file.name}.*{files.PART}"))
        return [path for path in self.path.iterdir() if path not in parts]

    def _compare(self) -> None:
        try:
            stored = files.read_json(self.config_file)
            self.decisions = [tuple(pair) for pair in stored.pop("decisions")]
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"{self.config_file}: cannot be read ({error}); choose another folder"
            ) from error
        version = str(stored.get("version"))
        if not compatible(version):
            raise ArtifactError(
                f"{self.config_file}: a run of likely {version}, and this is {__version__}: go on with "
                "that version, or choose another folder"
            )
        if differences := _differences(_decisive(stored), _decisive(self.config)):
            why = ""
            if any(line.startswith(BUDGETS) for line in differences):
                why = " (a budget stays as it is: the schedule of the rate belongs to it)"
            raise ArtifactError(
                f"{self.path}: holds a run of another configuration ({'; '.join(differences[:3])}); "
                f"repeat its options to go on with it{why}, or choose another folder with run= (--out)"
            )

    def write_decisions(self, decisions: list[tuple[int, int]]) -> None:
        """Note what a resumed run must not decide again."""
        self.decisions = decisions
        if self.writes:
            files.write_json(self.config_file, self.config | {"decisions": decisions})

    def read_state(self) -> dict[str, Any] | None:
        """The last checkpoint, if there is one."""
        return files.read_tree(self.checkpoint) if self.checkpoint.exists() else None

    def first_told(self, step: int) -> bool:
        """Whether the validation after this step is news to `on_validation`: noted, and True only once.

        A session that was killed may have told more than its last checkpoint knows.
        """
        with contextlib.suppress(OSError, ValueError):
            if step <= int(self.told.read_text()):
                return False
        with contextlib.suppress(OSError):  # of a disk that is full the checkpoint tells
            self.told.write_text(str(step))
        return True

    def finish(self, model: GenerativeModel) -> None:
        """Write the model, with which the run is complete."""
        if self.writes:
            store.save(model, self.model)

    def read_result(self, model: GenerativeModel) -> History:
        """Load the weights of a complete run; its history."""
        model.load_state_dict(files.read_tensors(self.model)[0])
        return History(**files.read_tree(self.checkpoint)["state"]["history"])

    def due(self) -> bool:
        """Whether to write a checkpoint: so often that a kill costs seconds, never much time."""
        return time.monotonic() - self._written >= max(MIN_INTERVAL, self._cost / OVERHEAD)

    def save(self, state: dict[str, Any], history: History) -> None:
        """Write a checkpoint and the history."""
        if not self.writes:
            return
        started = time.monotonic()
        files.write_tree(self.checkpoint, state)
        files.write_text(self.history_file, history.to_csv())
        self._written = time.monotonic()
        self._cost = self._written - started


def describe(path: str | Path) -> dict[str, Any]:
    """What a run folder, or the file of a model, holds: JSON-able.

    Raises
    ------
    ArtifactError
        If it is neither, or damaged.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    model = path / MODEL if path.is_dir() else path
    report: dict[str, Any] = {"run": str(path), "complete": model.exists()}
    if model.exists():
        description = files.read_tensors(model)[1]
        if not (isinstance(description, dict) and "model" in description):
            raise ArtifactError(f"{model}: holds no model; give a run folder, or its {MODEL}")
        report |= {key: description[key] for key in ("model", "dtype", "version")}
    if model.name == MODEL and (folder / CONFIG).exists():
        config = files.read_json(folder / CONFIG)
        report |= {key: config[key] for key in config if key not in ("decisions", "version")}
        report["begun_with"] = config.get("version")
    if "model" not in report:
        raise ArtifactError(
            f"{path}: neither a run nor a model; give a run folder or a model's file"
        )
    if "fit" in report and (folder / CHECKPOINT).exists():
        history = files.read_tree(folder / CHECKPOINT)["state"]["history"]
        report |= {
            key: history.get(key)
            for key in ("steps", "seconds", "best", "skipped", "rows_seen", "stopped")
        }
    return report


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    """What makes a run what it is: it may go on with another patch release, and on another machine."""
    decisive = {key: config[key] for key in config if key not in ("version", "versions", "machine")}
    fitted = decisive.get("fit")
    if isinstance(fitted, dict):
        decisive["fit"] = {key: value for key, value in fitted.items() if key != "device"}
    return decisive


def _differences(stored: Any, given: Any, where: str = "") -> list[str]:
    """Where two configurations differ, in words."""
    if isinstance(stored, dict) and isinstance(given, dict):
        return [
            line
            for key in sorted({*stored, *given}, key=lambda key: (key != "model", key))
            for line in _differences(stored.get(key), given.get(key), f"{where}.{key}".lstrip("."))
        ]
    if stored == given:
        return []
    if len(f"{stored}{given}") > 100:
        return [f"{where} differs"]
    return [f"{where} is {stored!r} there and {given!r} here"]
