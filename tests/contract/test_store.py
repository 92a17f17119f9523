"""Files: whole or not at all, checked, and never executed."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import likely as lk
from likely.core import files
from likely.core.files import read_tree, write_tree


@pytest.fixture
def saved(tmp_path):
    model = lk.make("nsf", lk.reals(2), transforms=1, hidden=(8, 8))
    lk.save(model, tmp_path / "model.safetensors")
    return model, tmp_path / "model.safetensors"


def test_round_trip_keeps_type_and_configuration(tmp_path):
    domain = lk.table(a=lk.Positive(), k=lk.Constant(0.1), phi=lk.Periodic(-3, 3))
    model = lk.make(
        "nsf", domain, context=lk.table(lk.Categorical(["e", "mu"])), hidden=(8,)
    ).double()
    lk.save(model, tmp_path / "m.safetensors")
    twin = lk.load(tmp_path / "m.safetensors")
    assert (twin.domain, twin.context, twin.hyperparameters) == (
        model.domain,
        model.context,
        model.hyperparameters,
    )
    for key, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key])
        assert value.dtype == twin.state_dict()[key].dtype


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "garbage", "missing"])
def test_damage_is_noticed(saved, damage):
    _, path = saved
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[-5] ^= 1
        path.write_bytes(content)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else b"\x80\x04garbage" * 50)
    with pytest.raises(lk.ArtifactError, match=r"model\.safetensors"):
        lk.load(path)


class Trap:
    def __reduce__(self):
        return open, ("executed", "w")


def test_a_pickle_is_refused_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(lk.ArtifactError, match="another kind"):
        lk.load(path)
    torch.save({"x": Trap()}, path)
    with pytest.raises(lk.ArtifactError, match="another kind"):
        lk.load(path)
    assert not (tmp_path / "executed").exists()


FULL_DISK = """
import resource, sys, likely as lk
model = lk.make("nsf", lk.reals(4))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    lk.save(model, sys.argv[1])
except lk.ArtifactError as error:
    print(error)
"""


def test_a_full_disk_leaves_what_was_there(saved):
    model, path = saved
    before = path.read_bytes()
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in result.stdout
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    assert lk.load(path).hyperparameters == model.hyperparameters


def test_tree_round_trip(tmp_path):
    tree = {
        "a": [torch.arange(3), {"b": None, 1: "x"}],
        "nan": float("inf"),
        "same": torch.zeros(0, 2),
        "flag": torch.tensor(True),
        "t": 0.1,
    }
    write_tree(tmp_path / "tree.safetensors", tree)
    back = read_tree(tmp_path / "tree.safetensors")
    assert torch.equal(back["a"][0], tree["a"][0])
    assert back["a"][1] == tree["a"][1]
    assert back["same"].shape == (0, 2)
    assert back["flag"].dtype == torch.bool
    assert (back["t"], back["nan"]) == (0.1, float("inf"))


def rewritten(path, change):
    """The same file with another description."""
    tensors, description = files.read_tensors(path)
    change(description)
    files.write_tensors(path, tensors, description)
    return path


UNKNOWN = {
    "unknown model 'nfs': did you mean nsf": lambda d: d["model"].update(name="nfs"),
    "no option 'knots'": lambda d: d["model"]["hyperparameters"].update(knots=3),
    "unknown column kind 'angle'": lambda d: d["model"]["domain"]["columns"][0].update(
        kind="angle"
    ),
    "unknown layout 'graph'": lambda d: d["model"]["domain"].update(layout="graph"),
    "'period'": lambda d: d["model"]["domain"]["columns"][0].update(period=3),
    "not a model that lk.save wrote": lambda d: d.clear(),
}


@pytest.mark.parametrize("message", UNKNOWN)
def test_what_a_file_holds_that_is_unknown_is_named(saved, message):
    path = rewritten(saved[1], UNKNOWN[message])
    with pytest.raises(lk.ArtifactError, match=r"model\.safetensors") as error:
        lk.load(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_another_version_says_so_where_it_cannot_be_built(saved):
    def newer(description):
        description["version"] = "7.1.0"
        description["model"]["name"] = "teleport"

    with pytest.raises(lk.ArtifactError, match=r"'teleport'.*likely 7\.1\.0 wrote it"):
        lk.load(rewritten(saved[1], newer))


def test_formats_are_numbered(saved, monkeypatch):
    model, path = saved
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert metadata.pop("format") == "1"
    save_file(tensors, path, metadata)  # as 0.1.0 wrote it
    assert lk.load(path).hyperparameters == model.hyperparameters
    monkeypatch.setattr(files, "FORMAT", 2)
    lk.save(model, path)
    monkeypatch.undo()
    with pytest.raises(lk.ArtifactError, match=r"model\.safetensors: of format 2.*update likely"):
        lk.load(path)


def test_json_is_numbered_too(tmp_path, monkeypatch):
    data = lk.load_data(torch.randn(100, 2))
    run = tmp_path / "run"

    def fit():
        return lk.fit(lk.make("gmm", data.domain, components=1, seed=0), data, run=run)

    monkeypatch.setattr(files, "FORMAT", 2)
    fit()
    monkeypatch.undo()
    with pytest.raises(lk.ArtifactError, match=r"config\.json: of format 2.*update likely"):
        fit()


X = [
    [-1.1258398294448853, 0.7389242053031921, 1.5129494667053223],
    [-1.152360200881958, 1.0049309730529785, 0.4247395992279053],
    [-0.2505785822868347, 1.206749439239502, 2.5525712966918945],
    [-0.4338788092136383, 1.0391888618469238, 0.40327882766723633],
]
KEPT = {  # what 0.1.0 gave for these rows, given labels 1, 1, 0, 1
    "nsf": [-3.323881149291992, -3.027129650115967, -2.722001314163208, -2.597184419631958],
    "made": [-3.687868118286133, -3.6230826377868652, -2.7052624225616455, -3.064390182495117],
}


@pytest.mark.parametrize("name", KEPT)
def test_a_file_of_an_earlier_version_gives_the_same_likelihoods(name):
    model = lk.load(Path(__file__).parent / f"files/{name}-0.1.0.safetensors")
    found = model.log_prob(torch.tensor(X), torch.tensor([[1], [1], [0], [1]]))
    torch.testing.assert_close(found, torch.tensor(KEPT[name]), atol=1e-5, rtol=0)


def test_a_run_without_a_model_is_told_by_name(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    for path in (tmp_path / "run", tmp_path / "run" / "model.safetensors"):
        with pytest.raises(lk.ArtifactError, match=r"interrupted.*likely fit … --out") as error:
            lk.load(path)
        assert f"{tmp_path / 'run'}: " in str(error.value)


def test_the_same_model_is_the_same_bytes(saved):
    model, path = saved
    contents = {path.read_bytes()}
    for _ in range(20):
        lk.save(model, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1
