"""What `likely models NAME` says about options."""

import inspect
from typing import Annotated

import pytest

import likely as lk
from likely.contract.describe import options_of
from likely.contract.options import Range, wanted
from likely.contract.registry import entries


@pytest.mark.parametrize("name", [n for n, entry in entries().items() if entry.family != "user"])
def test_every_option_of_every_model_is_described(name):
    for option in options_of(name):
        assert option.default is not inspect.Parameter.empty, option
        assert option.takes, option
        assert option.line.endswith((".", "…")), option
        assert "\n" not in option.text


def test_defaults_are_those_of_the_name():
    found = {
        name: {o.name: o.default for o in options_of(name)} for name in ("nsf", "nsf-coupling")
    }
    assert (found["nsf"]["coupling"], found["nsf-coupling"]["coupling"]) == (False, True)
    model = lk.make("nsf", lk.reals(2))
    assert found["nsf"] == model.hyperparameters


def test_texts_come_from_the_class_that_describes_an_option():
    options = {option.name: option for option in options_of("wgan")}
    assert options["latent"].text.startswith("Dimension of the generator's normal noise")
    assert options["hidden"].line.endswith("None takes (128, 128, 128), or (32, 64) channels.")


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number above 0"),
        (
            Annotated[float, Range(0, 1)] | None,
            "a finite number of 0 or more and at most 1, or None",
        ),
        (bool, "True or False"),
        (lk.Domain, ""),
    ],
)
def test_annotations_in_words(hint, words):
    assert wanted(hint) == words
