"""Names of devices."""

import pytest
import torch

import likely as lk
from likely.core.runtime import find_device


@pytest.mark.parametrize(("cuda", "expected"), [(False, "cpu"), (True, "cuda")])
def test_auto_never_takes_the_gpu_of_a_mac(cuda, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("auto") == torch.device(expected)
    assert find_device("mps") == torch.device("mps")


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "abacus", "cuda:x", "xpu"):
        with pytest.raises(lk.LikelyError, match=rf"device='{name}'.*auto, cpu, cuda"):
            find_device(name)


def test_a_model_is_loaded_to_a_device(tmp_path):
    lk.save(lk.make("gaussian", lk.reals(2)), tmp_path / "m.safetensors")
    assert lk.load(tmp_path / "m.safetensors", device="cpu").device == torch.device("cpu")
    with pytest.raises(lk.LikelyError, match="device='abacus'"):
        lk.load(tmp_path / "m.safetensors", device="abacus")
