"""What is told at each validation, to a caller and to other tools."""

import csv
import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import likely as lk
from likely import integrations
from likely.core.files import read_tree, write_tree
from likely.fitting.folder import describe


def data_of(n=400):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    x[::2] += 5
    return lk.load_data(x)


def small(domain=None):
    return lk.make("nsf", domain or lk.reals(2), transforms=1, hidden=(8,), seed=0)


def fit(tmp_path, on_validation=None, model=None, steps=200):
    return lk.fit(
        model or small(), data_of(), steps=steps, run=tmp_path / "run", on_validation=on_validation
    )


def csv_rows(tmp_path):
    with (tmp_path / "run" / "history.csv").open() as file:
        return list(csv.DictReader(file))


class Killed(BaseException):
    """What ends a session at once."""


def killed_and_resumed(tmp_path, on_validation, at=150):
    """A fit that is killed after a validation that its last checkpoint has not seen, and resumed."""

    def told(step, row, model):
        on_validation(step, row, model)
        if step == at:
            raise Killed

    with pytest.raises(Killed):
        fit(tmp_path, told)
    assert read_tree(tmp_path / "run/checkpoint/state.safetensors")["state"]["advances"] < at
    return fit(tmp_path, on_validation)


def test_each_row_is_told_once_and_training_is_the_same(tmp_path):
    told = []

    def look(step, row, model):
        torch.rand(5)
        told.append((step, row["valid"], model.training))

    model, other = small(), small()
    history = fit(tmp_path, look, model)
    lk.fit(other, data_of(), steps=200)
    assert told == [(row["step"], row["valid"], False) for row in history.rows]
    assert len(told) == 4
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
    told.clear()
    with pytest.warns(match="nothing left to do"):
        fit(tmp_path, look)
    assert not told


def test_a_resume_tells_nothing_twice(tmp_path):
    told = []
    history = killed_and_resumed(tmp_path, lambda step, row, model: told.append(step))
    assert told == [row["step"] for row in history.rows] == [50, 100, 150, 200]


def test_stop_ends_a_training_as_its_budget_does(tmp_path):
    def stop(step, row, model):
        if step == 100:
            raise lk.Stop("good enough")

    model = small()
    history = fit(tmp_path, stop, model)
    assert (history.steps, history.stopped) == (100, "good enough")
    assert repr(history).endswith("stopped: good enough)")
    data = data_of()
    assert history.best == pytest.approx(model.log_prob(data.valid.x).mean().item(), abs=1e-5)
    assert not model.training
    assert describe(tmp_path / "run")["stopped"] == "good enough"
    with pytest.warns(match="nothing left to do"):
        assert fit(tmp_path, stop).stopped == "good enough"


def test_stop_ends_passes_and_keeps_the_last_weights_without_early_stopping():
    def stop(step, row, model):
        raise lk.Stop

    model = lk.make("gmm", lk.reals(2), seed=0)
    history = lk.fit(model, data_of(), on_validation=stop)
    assert (len(history.rows), history.stopped) == (1, "by on_validation")


def test_another_error_gets_out_and_the_run_goes_on_later(tmp_path):
    def fail(step, row, model):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, fail)
    assert fit(tmp_path).steps == 200


def test_a_checkpoint_from_before_there_was_a_hook_is_read(tmp_path):
    with pytest.raises(Killed):
        fit(tmp_path, lambda *_: (_ for _ in ()).throw(Killed()))
    path = tmp_path / "run/checkpoint/state.safetensors"
    state = read_tree(path)
    del state["state"]["history"]["stopped"]
    write_tree(path, state)
    assert fit(tmp_path).steps == 200


def test_tensorboard_shows_the_history_once(tmp_path):
    history = killed_and_resumed(tmp_path, lambda *_: None)
    shown = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload().Scalars("valid")
    assert [event.step for event in shown] == [row["step"] for row in history.rows]
    assert shown[-1].value == pytest.approx(history.rows[-1]["valid"])


def test_optuna_prunes():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    told = []

    def objective(trial):
        rate = trial.suggest_categorical("rate", [3e-3, 1e-9])
        model = small()
        told.append(tell := integrations.Optuna(trial))
        return lk.fit(model, data_of(), steps=200, rate=rate, on_validation=tell).best

    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.MedianPruner(1, n_warmup_steps=60)
    )
    for rate in (3e-3, 1e-9):
        study.enqueue_trial({"rate": rate})
    study.optimize(objective, n_trials=2)
    good, bad = study.trials
    assert (good.state.name, bad.state.name) == ("COMPLETE", "PRUNED")
    assert sorted(good.intermediate_values) == [50, 100, 150, 200]
    assert sorted(bad.intermediate_values) == [50, 100]
    assert study.best_value == good.value


def test_mlflow_holds_the_history(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with mlflow.start_run() as run:
        killed_and_resumed(tmp_path, integrations.MLflow(run.info.run_id))
    client = mlflow.MlflowClient()
    for name in ("valid", "loss", "rate"):
        held = client.get_metric_history(run.info.run_id, name)
        assert [(m.step, m.value) for m in held] == [
            (int(row["step"]), float(row[name])) for row in csv_rows(tmp_path)
        ]


def log_records(content, block=32768):
    """The records of a log in LevelDB's format, after 7 bytes of W&B's own."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if block - at % block < 7:  # no room for a header
            at += block - at % block
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_wandb_holds_the_history(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=tmp_path, project="likely") as run:
        killed_and_resumed(tmp_path, integrations.WandB(run))
    wandb.teardown()  # which waits until all is written
    rows = []
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    for content in log_records(path.read_bytes()):
        record = wandb.proto.wandb_internal_pb2.Record()
        record.ParseFromString(content)
        if record.HasField("history"):
            items = record.history.item
            rows.append({i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items})
    assert [(row["_step"], row["valid"]) for row in rows] == [
        (int(row["step"]), float(row["valid"])) for row in csv_rows(tmp_path)
    ]
