"""`likely quantum measure` and `reconstruct`, end to end."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import likely as lk
from likely.cli import main
from likely.core.files import read_json
from likely.quantum import MPS, POVMS, load

pytestmark = pytest.mark.xdist_group("quantum_command")  # which shares what its fixtures fit

KEYS = {
    "kl",
    "kl_stderr",
    "reverse_kl",
    "reverse_kl_stderr",
    "classical_fidelity",
    "classical_fidelity_stderr",
    "quantum_fidelity",
    "energy",
    "energy_stderr",
    "exact_energy",
    "held_out",
    "held_out_stderr",
    "baselines",
    "seconds",
}
SMALL = "--model made --set hidden=16,16 --steps 20 --draws 500"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shots of a known state, and of one that is not known."""
    folder = tmp_path_factory.mktemp("quantum")
    out = folder / "ghz.npz"
    assert run(f"quantum measure --chain ghz --sites 4 --shots 600 --seed 3 --out {out}") == 0
    outcomes = np.load(out)["outcomes"]
    np.savetxt(folder / "own.csv", outcomes, fmt="%d", delimiter=",")
    np.save(folder / "own.npy", outcomes)
    np.save(folder / "effects.npy", POVMS["tetrahedral"].effects.numpy())
    wrong = outcomes.astype(int)
    wrong[7, 2] = 4
    np.save(folder / "wrong.npy", wrong)
    (folder / "ragged.csv").write_text("0,1,2\n0,1\n" + "1,1,1\n" * 50)
    np.save(folder / "not-povm.npy", 2 * POVMS["tetrahedral"].effects.numpy())
    np.save(folder / "words.npy", np.array(["a", "b"]))
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(command: str) -> int:
    return main(shlex.split(command))


def test_shots_of_a_chain(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tenpy")
    command = "quantum measure --chain tfim --sites 3 --coupling 0.5 --field 2 --povm pauli4"
    assert run(f"{command} --noise 0.1 --shots 50 --seed 1 --out tfim.npz --json") == 0
    report = json.loads(capsys.readouterr().out)
    shots = load("tfim.npz")
    assert shots.outcomes.shape == (50, 3)
    assert (shots.povm.name, shots.noise) == ("pauli4", 0.1)
    assert isinstance(shots.state, MPS)
    assert shots.header["energy"] == report["energy"]
    assert shots.header["ground_energy"] == report["ground_energy"]
    assert {
        "chain": "tfim",
        "coupling": 0.5,
        "field": 2.0,
        "seed": 1,
    }.items() <= shots.header.items()
    assert len(shots.hamiltonian) == 5
    # J = ½, h = 2: second-order perturbation theory gives −3 h − 2 J²/(4 h).
    assert report["ground_energy"] == pytest.approx(-6 - 2 * 0.25 / 8, abs=0.01)
    # Noise takes a tenth of ⟨σˣ⟩ and two of ⟨σᶻσᶻ⟩.
    assert report["energy"] == pytest.approx(-6.06 * 0.9, abs=0.06)
    noisy = f"energy {report['energy']:.9f} with the noise ({report['ground_energy']:.9f} without)"
    assert run(f"{command} --noise 0.1 --shots 50 --out again.npz") == 0
    assert noisy in capsys.readouterr().out
    assert run(f"quantum reconstruct tfim.npz {SMALL} --out tfim --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exact_energy"] == pytest.approx(report["energy"], abs=1e-9)


def test_coupling_is_delta_of_xxz(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tenpy")
    command = "quantum measure --chain xxz --sites 2 --coupling 0.5 --shots 10 --out xxz.npz --json"
    assert run(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["energy"] == pytest.approx(-2.5, abs=1e-9)  # the singlet: −2 − Δ
    assert load("xxz.npz").header["delta"] == 0.5


def test_reconstruction_of_a_known_state(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"quantum reconstruct ghz.npz {SMALL} --curve 100,200 --out report"
    assert run(f"{command} --json") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report.keys() >= KEYS
    assert report["energy"] is report["exact_energy"] is None  # GHZ has no Hamiltonian
    assert "no Hamiltonian" in report["reasons"]["energy"]
    assert report["kl"] > 0
    assert report["kl_stderr"] > 0
    assert 0 < report["classical_fidelity"] < 1
    assert [point["shots"] for point in report["curve"]] == [100, 200]
    assert len(report["baselines"]) == 4
    files = {path.name for path in Path("report").iterdir()}
    assert {"index.html", "reconstruction.json", "observables.npz"} <= files
    assert {"model.safetensors", "config.json", "history.csv", "shots-100"} <= files
    assert read_json("report/reconstruction.json") == report
    assert lk.load("report").sample(3).shape == (3, 4)
    # The same command only measures again, and says so.
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert "nothing left to do" in err
    assert "KL(exact‖model)" in out
    assert "Markov chain of order 3" in out
    assert "energy: there is no Hamiltonian." in out  # the notes
    assert "on 500 fresh shots" in out
    assert run(f"{command.replace('--steps 20', '--steps 21')}") == 2
    assert "another configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["own.csv --povm tetrahedral", "own.npy --povm tetrahedral", "own.npy --povm effects.npy"],
)
def test_own_outcomes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = command.replace(" ", "-")
    assert run(f"quantum reconstruct {command} {SMALL} --out {out} --json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report.keys() >= KEYS
    assert report["kl"] is report["energy"] is report["classical_fidelity"] is None
    assert report["held_out"] < 0
    assert "needs 1,000" in report["reasons"]["positivity"]  # of 500 draws
    assert len(report["observables"]["sigma_x"]["value"]) == 4


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("reconstruct wrong.npy --povm tetrahedral", "wrong.npy.*row 7, column 2: 4"),
        ("reconstruct ragged.csv --povm tetrahedral", "ragged.csv.*row"),
        ("reconstruct own.npy --povm not-povm.npy", "not-povm.*misses the identity"),
        ("reconstruct own.npy --povm words.npy", "words.*effects"),
        ("reconstruct own.npy --povm nothing.npy", "nothing.npy"),
        ("reconstruct own.npy --povm nothing", "unknown POVM 'nothing'"),
        ("reconstruct own.npy", "own.npy.*POVM"),
        ("reconstruct absent.npz", "absent.npz"),
        ("reconstruct ghz.npz --curve 1,b", "--curve 1,b"),
        ("reconstruct ghz.npz --curve 5000", "curve: 5000 shots"),
        ("reconstruct ghz.npz --curve 100,200,100", "curve: .*twice"),
        ("reconstruct ghz.npz --set colour=1", "no option 'colour'"),
    ],
)
def test_refusals(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"quantum {command} {SMALL} --out never") == 2
    err = " ".join(capsys.readouterr().err.split())
    assert err.startswith("error: ")
    assert re.search(message, err), err
    assert not Path("never").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--sites 1 --chain ghz", "1"),
        ("--sites 1 --chain tfim", "1"),
        ("--sites 4 --chain ghz --field 2", "--field: the chain ghz has none"),
        ("--sites 4 --chain xxz --parity 1", "--parity: the chain xxz has none"),
        ("--sites 4 --chain ghz --povm not-povm.npy", "misses the identity"),
        ("--sites 4 --chain ghz --noise 1.5", "noise 1.5"),
        ("--sites 4 --chain triangle", "--chain triangle: the known ones are tfim, xxz, ghz"),
    ],
)
def test_refused_measurements(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"quantum measure {command} --shots 10 --out never.npz") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("never.npz").exists()
    assert run("quantum measure --chain ghz --sites 4 --shots 10 --out never.csv") == 2
    assert "'.csv' are not written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--noise 1.5 --out never.npz", "noise 1.5"),
        ("--noise nan --out never.npz", "noise nan"),
        ("--out own.csv/never.npz", "cannot be written"),
        ("--out folder.npz", "a folder"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_state_is_found(
    command: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder.npz").mkdir(exist_ok=True)
    monkeypatch.setattr("likely.quantum.chains._dmrg", lambda *_, **__: pytest.fail("DMRG"))
    assert run(f"quantum measure --chain tfim --sites 4 --shots 10 {command}") == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tenpy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tenpy", None)
    assert run("quantum measure --chain tfim --sites 4 --shots 10 --out never.npz") == 2
    assert "pip install 'likely[quantum]'" in capsys.readouterr().err
    assert run(f"quantum reconstruct ghz.npz {SMALL} --out without") == 0  # which needs none


def test_the_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from likely.cli import main; main(['quantum', '--help']); "
        "print([m for m in ('torch', 'numpy', 'tenpy') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip().endswith("[]")
    assert "reconstruct" in found.stdout
