"""The tutorial and the example run; the tutorial's GAN is as good as it says."""

import math
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


def run(script, *arguments):
    return runpy.run_path(str(DOCS / script))["main"]([str(a) for a in arguments])


def test_the_tutorial_runs(tmp_path, capsys):
    results = run("tutorial/gan_1d.py", "--steps", 10, "--out", tmp_path / "gan.png")
    assert (tmp_path / "gan.png").read_bytes().startswith(b"\x89PNG")
    assert "Beta(0.7, 0.7): Wasserstein-1 = " in capsys.readouterr().out
    assert all(f.stderr > 0 for figures in results.values() for f in figures.values())


def test_the_tutorials_figures_are_right_about_exact_draws():
    tutorial = runpy.run_path(str(DOCS / "tutorial/gan_1d.py"))
    for name, expected in (
        ("Gaussian", {"(mean − truth)/σ": 0.0, "FWHM/truth": 1.005}),
        ("Beta(0.7, 0.7)", {"Wasserstein-1": 0.0, "Kolmogorov–Smirnov": 0.0}),
    ):
        x = tutorial["TARGETS"][name][0].sample(100_000, 0)[:, 0].numpy()
        found = tutorial["measure"](name, x)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert abs(found[key].value - value) < 4 * found[key].stderr
    # Shifted by 0.01: F moves by the density times 0.01, the quantiles by 0.01.
    shifted = tutorial["measure"]("Beta(0.7, 0.7)", x + 0.01)
    assert abs(shifted["Wasserstein-1"].value - 0.01) < 0.002


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_tutorials_distributions_are_learnt(seed, tmp_path):
    results = run("tutorial/gan_1d.py", "--seed", seed, "--out", tmp_path / "gan.png")
    assert abs(results["Gaussian"]["(mean − truth)/σ"].value) <= 0.05
    assert abs(results["Gaussian"]["FWHM/truth"].value - 1) <= 0.05
    assert results["Beta(0.7, 0.7)"]["Wasserstein-1"].value <= 0.02
    assert results["Beta(0.7, 0.7)"]["Kolmogorov–Smirnov"].value <= 0.05


@pytest.mark.slow
def test_the_divergence_saturates_and_the_distance_does_not(tmp_path):
    picture = tmp_path / "js.png"
    rows = run("examples/jensen_shannon.py", "--steps", 300, "--points", 3, "--out", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    for theta, divergence, distance in rows:
        assert divergence.value == pytest.approx(math.log(2) if theta else 0.0, abs=0.01)
        assert distance.value == pytest.approx(abs(theta), abs=0.03)
