"""A run that is killed again and again ends with the same bits as one that is left alone."""

import csv
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import likely as lk
from likely.core.artifact import read_tree

KILLS = 20


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bits(tmp_path):
    x = np.random.default_rng(0).normal(size=(3000, 3)) @ np.array(
        [[1, 0.5, 0], [0, 1, 2], [0, 0, 1]]
    )
    np.save(tmp_path / "x.npy", x)

    def fit(out):
        command = [sys.executable, "-m", "likely.cli", "fit", str(tmp_path / "x.npy")]
        options = ["--model", "nsf", "--set", "transforms=1", "--set", "hidden=(16,)"]
        return subprocess.Popen(
            [*command, *options, "--steps", "15000", "--seed", "3", "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    alone = fit(tmp_path / "alone")
    assert alone.wait(600) == 0, alone.stderr.read()

    moments, progressed = random.Random(0), 0
    for _ in range(KILLS):
        process = fit(tmp_path / "killed")
        try:
            process.wait(moments.uniform(1.5, 7.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            pytest.fail(f"ended before it was killed: {process.stderr.read()}")
        checkpoint = tmp_path / "killed" / "checkpoint" / "state.safetensors"
        progressed += checkpoint.exists() and read_tree(checkpoint)["history"]["steps"] > 0
    assert progressed >= 15
    last = fit(tmp_path / "killed")
    assert last.wait(600) == 0, last.stderr.read()

    expected, got = (lk.load(tmp_path / name).state_dict() for name in ("alone", "killed"))
    for key, value in expected.items():
        assert torch.equal(value, got[key]), key
    with (tmp_path / "killed" / "history.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file)]
    assert len(set(steps)) == len(steps)
    with (tmp_path / "alone" / "history.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == steps
