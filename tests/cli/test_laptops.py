"""What differs from laptop to laptop: modules that Windows lacks, names of folders, encodings."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import likely as lk
from likely.cli import main

ELSEWHERE = """
import sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
import likely as lk
from likely.cli import main
from likely.fitting import memory

memory.Path = lambda *_: (_ for _ in ()).throw(OSError)  # no /proc
history = lk.fit(lk.make("gaussian", lk.load_data("wine").domain), "wine", steps=1)
assert history.peak_memory == 0, history.peak_memory
model = lk.make("gaussian", lk.load_data("wine").domain)
assert "peak_memory" not in lk.evaluate(model, "wine", history=history).values
sys.exit(main(["models"]))
"""


def test_nothing_needs_modules_that_windows_lacks() -> None:
    # A pipe there has not all the characters that the tables are drawn with.
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-W", "ignore", "-c", ELSEWHERE]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode("cp1252")
    assert b"gaussian" in done.stdout


def test_folders_may_have_blanks_and_umlauts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("Meine Läufe, größer als ½")
    folder.mkdir()
    data, run, out = folder / "Ölfässer 1.csv", folder / "Lauf ß", folder / "neue Züge"
    rows = np.random.default_rng(0).normal(size=(50, 2))
    pd.DataFrame(rows, columns=["Größe in µm", "Höhe"]).to_csv(data, index=False)
    fit = ["fit", str(data), "--model", "made", "--steps", "2", "--column", "Höhe=real"]
    assert main([*fit, "--out", str(run)]) == 0
    for suffix in (".csv", ".npy", ".parquet"):
        samples, scores = out / f"Proben{suffix}", out / f"Güte{suffix}"
        assert main(["sample", str(run), "-n", "5", "--out", str(samples)]) == 0
        assert main(["score", str(run), str(data), "--out", str(scores)]) == 0
        assert samples.exists()
        assert scores.exists()
    assert list(pd.read_csv(out / "Proben.csv")) == ["Größe in µm", "Höhe"]
    assert main(["evaluate", str(run), str(data)]) == 0
    assert main(["inspect", str(run)]) == 0
    assert lk.load(run).domain.names == ("Größe in µm", "Höhe")
