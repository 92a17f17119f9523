"""A study of a lattice: observables with errors that hold the exact values, its page, its command."""

import json
import runpy
from pathlib import Path

import pytest

import likely as lk
from likely.cli.main import main
from likely.lattice.study import run_reference


@pytest.fixture(scope="module")
def found():
    target = lk.targets.phi4(2, 2, mass2=1.0, coupling=0.5)
    return lk.lattice.study(
        target, "realnvp", steps=100, draws=4096, hyperparameters={"transforms": 4}
    )


def test_observables_agree_with_the_exact_ones(found):
    exact = [row for row in found.rows if row.exact is not None]
    assert [row.name for row in exact] == ["susceptibility", "phi2"]
    for row in exact:
        for figure in (row.reweighted, row.metropolis, row.reference):
            assert abs(figure.value - row.exact) < 4 * figure.stderr
    w = found.weighted
    assert abs(w.log_z.value - found.target.log_z) < 4 * w.log_z.stderr


def test_page_and_files(found, tmp_path):
    found.save(tmp_path)
    page = (tmp_path / "index.html").read_text()
    for word in ("susceptibility", "Correlator", "log-weights", "effective sample size"):
        assert word.lower() in page.lower()
    report = json.loads((tmp_path / "lattice.json").read_text())
    assert report["log_z_exact"] == found.target.log_z
    assert (tmp_path / "draws.npz").exists()


def test_a_reference_of_spins():
    target = lk.targets.ising(3, 3, temperature=3.0)
    chain = run_reference(target, 0.5, seed=0)
    mean = chain.expect(lambda s: s.double().mean((1, 2)).square())
    p = target.log_prob
    states = lk.targets.ising(3, 3, temperature=3.0).sample(4000, 0).double()
    exact = states.mean((1, 2)).square()
    error = (mean.stderr**2 + exact.var().item() / len(exact)) ** 0.5
    assert abs(mean.value - exact.mean().item()) < 4 * error
    assert p is not None


def test_the_command(tmp_path, capsys):
    words = "lattice phi4 --size 4,4 --model realnvp --set transforms=2 --steps 20 --draws 512 --no-reference"
    out = tmp_path / "report"
    assert main([*words.split(), "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["settings"]["shape"] == [4, 4]
    assert (out / "index.html").exists()
    assert main([*words.split(), "--out", str(out)]) == 0  # only loads the run
    assert "susceptibility" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("phi4 --size a,b", "write it as 8,8"),
        ("phi4 --size 4,4 --mass2 -1 --coupling 0", "no lower bound"),
        ("ising --size 4,4 --model vae", "cannot be trained on an energy"),
        ("u1 --beta -1", "must be positive"),
    ],
)
def test_wrong_words(words, why, tmp_path, capsys):
    assert main(["lattice", *words.split(), "--steps", "2", "--out", str(tmp_path / "x")]) == 2
    assert why in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x").exists()


def test_other_targets_need_observables():
    with pytest.raises(lk.LikelyError, match="give observables"):
        lk.lattice.study(lk.Target(lk.reals(1), energy=lambda x: x[:, 0] ** 2), "nsf")


def test_the_tutorial_runs(tmp_path, capsys, monkeypatch):
    picture = tmp_path / "phi4.png"
    words = f"phi4.py --minutes 0.02 --draws 500 --out {picture}"
    monkeypatch.setattr("sys.argv", words.split())
    tutorial = Path(__file__).parents[2] / "docs/tutorial/phi4.py"
    runpy.run_path(str(tutorial), run_name="__main__")
    assert picture.exists()
    assert "χ₂ =" in capsys.readouterr().out
