"""A part of the campaign in some minutes: good and bad inputs, kills of every family, hardships."""

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks")]


@pytest.mark.parametrize(("part", "n"), [("good_inputs", 500), ("bad_inputs", 1000)])
def test_inputs(part, n):
    tools, part = importlib.import_module("tools"), importlib.import_module(part)
    counts, failures = tools.tally(part.cases(n, first=123_456))
    assert not failures
    assert counts["result"] > n / 10


def test_kills():
    kills = importlib.import_module("kills")  # it registers a model
    counts, failures = kills.tally(100, first=1019)  # the first one is of two processes
    assert not failures
    assert counts["kills"] >= 100
    assert counts["power cuts"] > 20


def test_hardship():
    counts, failures = importlib.import_module("hardship").tally(10)
    assert not failures
    assert sum(counts.values()) == 10
