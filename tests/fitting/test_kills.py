"""A run that is killed again and again ends with the same bits as one that is left alone."""

import csv
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import likely as lk
from likely.core.files import read_tree

KILLS = 20


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bits(tmp_path):
    np.save(tmp_path / "x.npy", lk.targets.rings().sample(20_000, 0))

    def fit(out):
        command = [sys.executable, "-m", "likely", "fit", str(tmp_path / "x.npy")]
        options = ["--model", "nsf", "--set", "transforms=1", "--set", "hidden=(32,)"]
        budget = ["--steps", "30000", "--seed", "3"]
        with (tmp_path / "errors").open("w") as errors:
            return subprocess.Popen(
                [*command, *options, *budget, "--out", str(tmp_path / out)],
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    assert fit("alone").wait() == 0, (tmp_path / "errors").read_text()
    moments, progressed = random.Random(0), 0
    for _ in range(KILLS):
        process = fit("killed")
        with pytest.raises(subprocess.TimeoutExpired):  # it does not end before it is killed
            process.wait(moments.uniform(2, 6))
        process.kill()
        process.wait()
        checkpoint = tmp_path / "killed" / "checkpoint" / "state.safetensors"
        progressed += checkpoint.exists() and read_tree(checkpoint)["state"]["history"]["steps"] > 0
    assert progressed >= 15
    assert fit("killed").wait() == 0, (tmp_path / "errors").read_text()

    expected, got = (lk.load(tmp_path / name).state_dict() for name in ("alone", "killed"))
    for key, value in expected.items():
        assert torch.equal(value, got[key]), key
    with (tmp_path / "killed" / "history.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file)]
    assert len(set(steps)) == len(steps)
    with (tmp_path / "alone" / "history.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == steps
