"""Classes and numbers from the command: fit, score, classify."""

import json

import numpy as np
import pandas as pd
import pytest

import likely as lk
from likely.cli.main import main


def test_a_classifier_of_images_is_fitted_scored_and_used(tmp_path, capsys):
    run, scores, out = (str(tmp_path / name) for name in ("run", "scores.npy", "classes.csv"))
    fit = [
        "fit",
        "digits",
        "--model",
        "classifier",
        "--set",
        "hidden=4,4",
        "--steps",
        "5",
        "--out",
        run,
    ]
    assert main([*fit, "--predict", "label"]) == 0
    capsys.readouterr()
    assert main(["score", run, "digits", "--out", scores, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    model, rows = lk.load(run), lk.data.load_rows("digits", predict="label")
    log_prob = model.log_likelihood(rows.x, rows.context).value
    np.testing.assert_allclose(np.load(scores), log_prob, rtol=1e-5)
    assert report["mean"]["value"] == pytest.approx(log_prob.mean().item(), rel=1e-5)
    images = tmp_path / "new.npy"
    np.save(images, rows.context[:20].numpy().astype(np.uint8))
    assert main(["classify", run, str(images), "--out", out]) == 0
    table, expected = pd.read_csv(out), model.classify(rows.context[:20])
    assert list(table) == ["class", *map(str, range(10))]
    np.testing.assert_allclose(table.iloc[:, 1:], expected.detach(), rtol=1e-5)
    assert (table["class"] == expected.argmax(1).numpy()).all()
    np.save(images, np.zeros((20, 9, 9), np.uint8))
    capsys.readouterr()
    assert main(["classify", run, str(images), "--out", out]) == 2
    assert "(9, 9)" in capsys.readouterr().err


def test_a_table_names_what_is_predicted(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    kind = np.where(x[:, 0] > 0, "mu", "e")
    table = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "kind": kind, "mass": x @ [1, 2]})
    path = tmp_path / "events.csv"
    table.to_csv(path, index=False)
    for model, predict in (("classifier", "kind"), ("regressor", "mass")):
        run = str(tmp_path / model)
        fit = [
            "fit",
            str(path),
            "--model",
            model,
            "--predict",
            predict,
            "--steps",
            "3",
            "--out",
            run,
        ]
        assert main(fit) == 0
        fitted = lk.load(run)
        assert fitted.domain.names == (predict,)
        assert predict not in fitted.context.names
        assert len(fitted.context.names) == 3
    capsys.readouterr()
    command = ["fit", str(path), "--model", "classifier", "--out", str(tmp_path / "none")]
    assert main([*command, "--columns", "kind"]) == 2
    assert "--predict COLUMN" in capsys.readouterr().err
    assert main([*command, "--predict", "kind", "--context", "a"]) == 2
    assert "all that is not predicted is the context" in capsys.readouterr().err
    run = str(tmp_path / "regressor")
    assert main(["classify", run, str(path), "--out", str(tmp_path / "no.csv")]) == 2
    assert "cannot classify rows; classifiers and jem can" in capsys.readouterr().err
