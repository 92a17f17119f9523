import numpy as np
import pytest

import likely as lk
from likely.cli import main


@pytest.fixture
def styles(tmp_path):
    rng = np.random.default_rng(0)
    paths = tmp_path / "a.npy", tmp_path / "b.npy"
    for path, low in zip(paths, (0, 100), strict=True):
        np.save(path, rng.integers(low, low + 150, (120, 16, 16), dtype=np.uint8))
    return paths


@pytest.mark.filterwarnings("default::UserWarning")
def test_two_files_are_fitted_evaluated_and_translated(styles, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("likely.evaluation.images.BATCH", 8)
    a, b = map(str, styles)
    run = str(tmp_path / "run")
    fit = ["fit", a, "--unpaired", b, "--model", "cyclegan", "--steps", "3", "--out", run]
    small = ["--set", "hidden=4,4", "--set", "blocks=1"]
    assert main([*fit, *small]) == 0
    assert "given 16×16 image" in capsys.readouterr().out
    assert main(["evaluate", run, a]) == 0
    captured = capsys.readouterr()
    assert "error of return" in captured.out
    assert "not the data" not in captured.err  # the second file is known from the run
    out = tmp_path / "translated.npy"
    assert main(["translate", run, a, "--out", str(out)]) == 0
    model = lk.load(run)
    rows = lk.data.load_rows(a, domain=model.context).x[:]
    assert np.array_equal(np.load(out), model.translate(rows).numpy())
    assert main(["translate", run, b, "--back", "--out", str(tmp_path / "back.png")]) == 0
    assert (tmp_path / "back.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["judge", run, a, "-n", "5", "--out", str(tmp_path / "judge.html")]) == 0
    capsys.readouterr()
    assert main(["sample", run, "-n", "5", "--context", a, "--out", str(out)]) == 2
    assert main([*fit[:-1], str(tmp_path / "c"), "--weight", "w"]) == 2
    assert "no weight: leave it out" in capsys.readouterr().err
    larger = tmp_path / "larger.npy"
    np.save(larger, np.zeros((50, 20, 20), np.uint8))
    assert main(["fit", a, "--unpaired", str(larger), "--model", "cyclegan", "--out", run]) == 2
    assert "images of 16 × 16 and of 20 × 20 pixels" in capsys.readouterr().err


def test_other_models_translate_nothing(tmp_path, capsys):
    rows = np.random.default_rng(0).random((50, 2))
    np.save(tmp_path / "rows.npy", rows)
    data = lk.load_data(rows)
    lk.fit(lk.make("gan", data.domain), data, steps=1, run=tmp_path / "run")
    command = ["translate", str(tmp_path / "run"), str(tmp_path / "rows.npy")]
    assert main([*command, "--out", str(tmp_path / "x.npy")]) == 2
    assert "CycleGAN can" in capsys.readouterr().err
