"""The suite itself: sides take turns, ratios are theirs over ours, and what fails is a gap."""

import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))
suite = pytest.importorskip("benchmarks.suite", reason="not part of this distribution")

OPTIONS = suite.Options(threads=1, data=Path(), jax=Path(), repeats=3)


def side(log, name, seconds, options):
    def run():
        log.append(name)
        return seconds

    return suite.Side(run, parameters=7, check=lambda: 1.0, own_clock=True)


def missing(options):
    raise ModuleNotFoundError(name="elsewhere")


def test_sides_take_turns_and_a_library_that_is_missing_is_a_gap():
    log = []
    sides = {"likely": partial(side, log, "a", 0.2), "other": partial(side, log, "b", 0.6)}
    row = suite.Row("part.row", "some work", sides | {"third": missing}, {"other": 4.0})
    result = row.measure(OPTIONS)
    assert "".join(log) == "aabb" + 3 * "ab"  # twice to warm up
    assert result["sides"]["other"]["ratio"] == pytest.approx([3, 3, 3])
    text = "\n".join(suite.table([row], {"part.row": result}))
    assert "| **3.00** (3.00 to 3.00) | 4 **missed** | 7 / 7 |" in text
    assert "elsewhere cannot be imported" in text


def test_without_ours_there_is_no_figure():
    log = []
    row = suite.Row(
        "part.row", "some work", {"likely": missing, "other": partial(side, log, "b", 1)}
    )
    assert row.measure(OPTIONS)["sides"] == {}
    assert not log
