"""The tutorial of galaxies runs, and its measurements are right about galaxies without noise."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from likely.data.galaxies import galaxies, sersic

TUTORIAL = Path(__file__).parents[3] / "docs/tutorial/galaxies.py"


@pytest.fixture(scope="module")
def tutorial():
    return runpy.run_path(str(TUTORIAL))


def test_the_emulator_runs(tutorial, tmp_path, capsys):
    out = tmp_path / "galaxies.png"
    options = ["--rows", 100, "--steps", 5, "--test", 40, "--out", out]
    table = tutorial["main"]([str(option) for option in options])
    assert out.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "nats, lower bound; of the noise alone -1453.0" in printed
    assert "times as fast as the simulator" in printed
    assert len(table) == tutorial["BINS"]


def test_measured_flux_and_radius_are_those_of_a_disc(tutorial):
    parameters = {"flux": 500.0, "radius": 3.0, "index": 0.5, "e1": 0, "e2": 0, "x": 0, "y": 0}
    found = tutorial["measure"](sersic(pd.DataFrame([parameters])))
    assert found["flux"][0] == pytest.approx(500, rel=1e-3)
    assert found["radius"][0] == pytest.approx(3, abs=0.3)  # of pixels


def test_two_surveys_of_the_simulator_agree_in_every_bin(tutorial):
    _, parameters = galaxies(300, seed=0)
    images = [galaxies(300, seed=0)[0], galaxies(300, seed=0, noise=0.5)[0]]
    table = tutorial["compared"](parameters, *images)
    for quantity in ("flux", "radius"):
        one, other = table["simulated", quantity], table["emulated", quantity]
        error = np.hypot(one["error"], other["error"])
        assert (abs(one["mean"] - other["mean"]) < 5 * error).all()
