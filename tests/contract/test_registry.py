"""Names of models, and what their options take."""

from pathlib import Path

import numpy as np
import pytest

import likely as lk
from likely.contract.model import GenerativeModel
from likely.contract.registry import Entry, find, make, name_of
from likely.contract.store import load, save
from likely.core.files import read_tensors


def test_a_model_has_the_name_that_presets_most(tmp_path: Path) -> None:
    model = make("nsf", lk.reals(2), coupling=True, transforms=2, hidden=(8,))
    assert name_of(model) == "nsf-coupling"
    assert name_of(make("nsf", lk.reals(2))) == "nsf"
    assert name_of(make("gmm", lk.reals(2), components=1)) == "gaussian"
    save(model, tmp_path / "model.safetensors")
    assert read_tensors(tmp_path / "model.safetensors")[1]["model"]["name"] == "nsf-coupling"
    assert load(tmp_path / "model.safetensors").hyperparameters == model.hyperparameters


def test_a_model_of_a_script_belongs_to_the_user() -> None:
    mine = type("Mine", (GenerativeModel,), {"__module__": "__main__"})
    assert Entry("mine", mine, "", "", "", "", {}).family == "user"
    assert find("nsf").family == "flows"


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("nsf", "transforms", 0),
        ("nsf", "transforms", 2.0),
        ("nsf", "transforms", True),
        ("nsf", "coupling", 1),
        ("nsf", "bound", float("nan")),
        ("nsf", "bound", "5"),
        ("nsf", "hidden", 64),
        ("nsf", "hidden", "64"),
        ("nsf", "hidden", (64, 0)),
        ("gmm", "covariance", "big"),
        ("made", "order", (0, -1)),
        ("made", "orders", 0),
    ],
)
def test_values_that_an_option_does_not_take(name: str, option: str, value: object) -> None:
    with pytest.raises(lk.LikelyError, match=f": {option}=") as error:
        make(name, lk.reals(2), **{option: value})
    assert not isinstance(error.value, lk.DomainError)


def test_values_that_an_option_takes() -> None:
    make("nsf", lk.reals(2), transforms=np.int64(1), hidden=[8, 8], bound=3, coupling=False)
    make("made", lk.reals(2), order=(1, 0), hidden=(8,))
    make("made", lk.reals(2), order=None, hidden=(8,))
