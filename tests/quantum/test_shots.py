"""Files of shots: round trips, users' own, and what is wrong with them."""

import json
import pickle

import numpy as np
import pytest
import torch

from likely.core.errors import ArtifactError, DataError, LikelyError
from likely.quantum.measurement import Measurement
from likely.quantum.mps import random_mps
from likely.quantum.povm import POVM, povm
from likely.quantum.shots import Shots, load

OURS = {"format": "likely shots", "version": 1, "sites": 3}
ROWS = [[0, 1, 3], [2, 2, 0]]
TERMS = [(-1.0, {0: "z", 2: "z"}), (-0.5, {1: "x"})]


@pytest.fixture
def shots():
    state = random_mps(3, bond=3, seed=0)
    outcomes = Measurement(state, povm("pauli4"), 0.1).sample(500, 0)
    return Shots(outcomes, povm("pauli4"), 0.1, state, TERMS, {"chain": "random", "seed": 0})


def test_saved_and_loaded(shots, tmp_path):
    path = tmp_path / "shots.npz"
    shots.save(path)
    again = load(path)
    assert again.outcomes.equal(shots.outcomes)
    assert again.outcomes.dtype == torch.int64
    assert again.povm.effects.equal(shots.povm.effects)
    assert (again.povm.name, again.noise) == ("pauli4", 0.1)
    assert again.hamiltonian == TERMS
    assert again.header == shots.header
    assert again.state.overlap(shots.state) == pytest.approx(1, abs=1e-13)
    log_p = [Measurement(s.state, s.povm, s.noise).log_prob(s.outcomes) for s in (shots, again)]
    torch.testing.assert_close(*log_p, rtol=0, atol=1e-12)
    with np.load(path, allow_pickle=False) as file:
        assert sorted(file.files) == [
            "effects",
            "header",
            "outcomes",
            "state_0",
            "state_1",
            "state_2",
        ]
        assert file["outcomes"].dtype == np.uint8
        header = json.loads(file["header"].item())
    assert header["hamiltonian"] == [[-1.0, {"0": "z", "2": "z"}], [-0.5, {"1": "x"}]]
    again.save(tmp_path / "again.npz")
    assert load(tmp_path / "again.npz").header == shots.header


def test_of_an_unknown_state(tmp_path):
    Shots(torch.tensor(ROWS), povm("tetrahedral")).save(tmp_path / "own.npz")
    again = load(tmp_path / "own.npz")
    assert (again.state, again.hamiltonian, again.header) == (None, None, {})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float64])
def test_outcomes_as_an_array(dtype):
    shots = Shots(np.array(ROWS, dtype), povm("tetrahedral"))
    assert shots.outcomes.dtype == torch.int64
    assert shots.outcomes.tolist() == ROWS
    with pytest.raises(DataError, match="row 1, column 0: 4"):
        Shots(np.array([[0, 1], [4, 0]], dtype), povm("tetrahedral"))


def test_users_own_files(tmp_path):
    rows = np.array(ROWS)
    np.save(tmp_path / "a.npy", rows)
    np.save(tmp_path / "b.npy", rows.astype(np.float32))
    np.savetxt(tmp_path / "c.csv", rows, fmt="%d", delimiter=",")
    np.savetxt(tmp_path / "d.txt", rows, fmt="%d")
    (tmp_path / "e.txt").write_text("0, 1, 3\n\n2, 2, 0\n")
    (tmp_path / "f.csv").write_text("a,b,c\n0,1,3\n2,2,0\n")
    np.savez(tmp_path / "g.npz", x=rows)
    np.savez(tmp_path / "h.npz", outcomes=rows.astype(np.uint16))
    for path in sorted(tmp_path.iterdir()):
        shots = load(path, "tetrahedral")
        assert shots.outcomes.tolist() == ROWS, path
        assert shots.outcomes.dtype == torch.int64
        assert shots.state is None
    effects = povm("pauli4").effects.numpy()
    np.savez(tmp_path / "i.npz", outcomes=rows, effects=effects)
    assert load(tmp_path / "i.npz").povm.rank == 4
    own = POVM("own", effects)
    assert load(tmp_path / "a.npy", own).povm is own


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "0 1 2\n0 4 1\n", "row 1, column 1: 4 is not a whole number from 0 to 3"),
        ("b.txt", "0 1 2\n0 1\n", "row 1 has 2 outcomes where row 0 has 3"),
        ("c.csv", "0,1,2\n0,1\n", "row 1 has 2 entries where 3 are expected"),
        ("d.csv", "0,1,2\n0,,2\n", "row 1, column 1: nan|missing"),
        ("e.txt", "0 1 2\n0 up 1\n", "no number"),
        ("f.txt", "0 1.5 2\n", "row 0, column 1: 1.5 is not"),
        ("g.txt", "0 -1 2\n", "row 0, column 1: -1 is not"),
        ("h.txt", "0\n1\n", "two or more sites"),
        ("i.txt", "", "two or more sites"),
        ("j.npy", "nothing", "not a readable .npy file"),
        ("k.npz", "nothing", "not a readable .npz file"),
        ("l.docx", "nothing", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_users_file(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / name, "tetrahedral")
    assert name in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "missing.npz", "tetrahedral")


def test_the_povm_is_named_once(shots, tmp_path):
    shots.save(tmp_path / "shots.npz")
    with pytest.raises(LikelyError, match="leave the POVM out"):
        load(tmp_path / "shots.npz", "tetrahedral")
    np.save(tmp_path / "own.npy", np.array(ROWS))
    with pytest.raises(LikelyError, match="name the POVM"):
        load(tmp_path / "own.npy")
    with pytest.raises(LikelyError, match="the known ones are"):
        load(tmp_path / "own.npy", "sic")
    np.savez(tmp_path / "bad.npz", outcomes=np.array(ROWS), effects=np.eye(2)[None] / 2)
    with pytest.raises(DataError, match="two or more"):
        load(tmp_path / "bad.npz")


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.savez(tmp_path / "a.npz", outcomes=np.array([Trap()], dtype=object))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap()))
    np.save(tmp_path / "c.npy", np.array([Trap()], dtype=object))
    for name in ("a.npz", "b.npz", "c.npy"):
        with pytest.raises(DataError, match=name):
            load(tmp_path / name, "tetrahedral")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"header": "{"}, ArtifactError, "damaged"),
        ({"header": "[]"}, ArtifactError, "damaged"),
        ({"header": json.dumps({"format": "likely shots", "version": 9})}, ArtifactError, "later version"),
        ({"header": json.dumps({"format": "other", "version": 1})}, ArtifactError, "not a file of shots"),
        ({"header": json.dumps(OURS | {"seed": -1})}, ArtifactError, "seed is -1"),
        ({"header": json.dumps(OURS | {"seed": "a"})}, ArtifactError, "seed is 'a'"),
        ({"outcomes": np.full((5, 3), 7)}, DataError, "row 0, column 0: 7"),
        ({"outcomes": np.array(["a", "b"])}, DataError, "not whole numbers"),
        ({"outcomes": np.array(3)}, (ArtifactError, DataError), "shots.npz"),
        ({"state_1": np.ones((2, 2, 2))}, DataError, "site 1"),
        ({"state_1": None}, ArtifactError, "damaged"),
        ({"outcomes": np.zeros((5, 2), int)}, LikelyError, "shots.npz"),
    ],
)  # fmt: skip
def test_damaged_files(shots, tmp_path, change, error, message):
    shots.save(tmp_path / "whole.npz")
    arrays = dict(np.load(tmp_path / "whole.npz")) | change
    arrays = {name: values for name, values in arrays.items() if values is not None}
    np.savez(tmp_path / "shots.npz", **arrays)
    with pytest.raises(error, match=message) as caught:
        load(tmp_path / "shots.npz")
    assert "shots.npz" in str(caught.value)
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "shots.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a readable"):
        load(tmp_path / "shots.npz")


def test_shots_that_do_not_fit_together(shots, tmp_path):
    with pytest.raises(LikelyError, match="2 sites, and a state of 3"):
        Shots(shots.outcomes[:, :2], shots.povm, state=shots.state)
    with pytest.raises(LikelyError, match="Hamiltonian's term"):
        Shots(shots.outcomes, shots.povm, hamiltonian=[(1.0, {3: "z"})])
    with pytest.raises(LikelyError, match="Hamiltonian's term"):
        Shots(shots.outcomes, shots.povm, hamiltonian=[(1.0, {1: "w"})])
    with pytest.raises(LikelyError, match="0 … 1"):
        Shots(shots.outcomes, shots.povm, noise=3)
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="cannot be written"):
        shots.save(tmp_path / "file" / "shots.npz")
