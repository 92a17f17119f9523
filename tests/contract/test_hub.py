"""Models on the Hugging Face Hub, which is a local folder here."""

import hashlib
import inspect
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import likely as lk
from likely.contract.hub import card


class LocalHub:
    """The three functions of `huggingface_hub` that are used, on a folder of its own."""

    def __init__(self, folder):
        self.folder, self.private = Path(folder), {}

    def create_repo(self, repo_id, *, private=None, exist_ok=False):
        assert exist_ok
        self.private.setdefault(repo_id, private)

    def upload_folder(self, *, repo_id, folder_path, revision=None, commit_message=None):
        content = b"".join(path.read_bytes() for path in sorted(Path(folder_path).iterdir()))
        oid = hashlib.sha1(content).hexdigest()
        for name in (revision or "main", oid):
            shutil.copytree(folder_path, self.folder / repo_id / name, dirs_exist_ok=True)
        return SimpleNamespace(oid=oid)

    def hf_hub_download(self, repo_id, filename, *, revision=None):
        path = self.folder / repo_id / (revision or "main") / filename
        if not path.exists():
            raise ConnectionError(f"404:\nno {revision or 'main'} of {repo_id}")
        return str(path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    local = LocalHub(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", local)
    return local


def small(seed=0):
    return lk.make("nsf", lk.reals(2), transforms=1, hidden=(8,), seed=seed)


def test_push_and_load(hub):
    first, second = small(0), small(1)
    address = lk.push(first, "ada/noise", private=True)
    lk.push(second, "ada/noise")
    assert hub.private == {"ada/noise": True}
    x = torch.randn(5, 2)
    for path, model in ((address, first), ("hf://ada/noise", second)):
        assert torch.equal(lk.load(path).log_prob(x), model.eval().log_prob(x))


def test_a_card_has_the_figures_of_an_evaluation(hub):
    data = lk.load_data(torch.randn(300, 2))
    model = small()
    evaluation = lk.evaluate(model, data)
    lk.push(model, "ada/noise", evaluation=evaluation, license="mit")
    folder = hub.folder / "ada/noise/main"
    text = (folder / "README.md").read_text()
    header = text.split("---\n")[1].splitlines()
    assert header == ["library_name: likely", "tags: [likely, flows, nsf]", "license: mit"]
    assert f"{evaluation}" in text
    assert 'lk.load("hf://ada/noise")' in text
    held = json.loads((folder / "evaluation.json").read_text())["log_likelihood"]
    assert held == pytest.approx(evaluation.to_json()["log_likelihood"])


def test_errors_say_what_to_do(hub, monkeypatch):
    with pytest.raises(lk.ArtifactError, match="hf://noise: write it as hf://user/name"):
        lk.load("hf://noise")
    with pytest.raises(lk.ArtifactError, match=r"hf://a/b@v1: .*404: no v1 of a/b; check") as error:
        lk.load("hf://a/b@v1")
    assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(lk.LikelyError, match=r"hf://a/b: this needs pip install 'likely\[hub\]'"):
        lk.load("hf://a/b")


def test_the_library_finds_a_model_in_its_cache(tmp_path, monkeypatch):
    library = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    oid, model = "0" * 40, small()
    repository = tmp_path / "models--ada--noise"
    lk.save(model, repository / "snapshots" / oid / "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(oid)
    x = torch.randn(5, 2)
    for address in ("hf://ada/noise", f"hf://ada/noise@{oid}"):
        assert torch.equal(lk.load(address).log_prob(x), model.eval().log_prob(x))
    with pytest.raises(lk.ArtifactError, match="hf://ada/other"):
        lk.load("hf://ada/other")
    # What `push` calls, and the header of its cards, are the library's.
    for name in ("create_repo", "upload_folder", "hf_hub_download"):
        known = inspect.signature(getattr(library, name)).parameters
        assert set(inspect.signature(getattr(LocalHub, name)).parameters) - {"self"} <= set(known)
    read = library.ModelCard(card(model, "ada/noise", None, "mit")).data
    assert (read.library_name, read.license, read.tags) == (
        "likely",
        "mit",
        ["likely", "flows", "nsf"],
    )
