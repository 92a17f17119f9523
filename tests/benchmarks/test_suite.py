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
    assert "| **3.00** (3.00 to 3.00) | 3 | 4 **missed** | 7 / 7 |" in text
    assert "elsewhere cannot be imported" in text


def test_without_ours_there_is_no_figure():
    log = []
    row = suite.Row(
        "part.row", "some work", {"likely": missing, "other": partial(side, log, "b", 1)}
    )
    assert row.measure(OPTIONS)["sides"] == {}
    assert not log


def test_a_check_that_fails_is_a_gap_and_the_times_stay():
    def unchecked(options):
        def check():
            raise ArithmeticError("no result")

        return suite.Side(lambda: 0.5, parameters=8, check=check, own_clock=True)

    sides = {"likely": partial(side, [], "a", 0.25), "other": unchecked}
    row = suite.Row("part.row", "some work", sides)
    result = row.measure(OPTIONS)
    assert result["sides"]["other"]["ratio"] == pytest.approx([2, 2, 2])
    text = "\n".join(suite.table([row], {"part.row": result}))
    assert "ArithmeticError: no result" in text
    assert "the numbers of parameters differ" in text


def test_a_library_works_in_a_process_of_its_own():
    processes, flows = (
        pytest.importorskip("benchmarks.processes"),
        pytest.importorskip("benchmarks.flows"),
    )
    (row,) = (row for row in flows.ROWS if row.name == "flows.realnvp-density-6")
    with processes.Processes(OPTIONS) as prepare:
        there, here = prepare(row, "likely"), row.sides["likely"](OPTIONS)
        assert there.parameters == here.parameters
        assert 0 < there.seconds(3) < 10
        with pytest.raises(suite.Gap, match="nobody"):
            prepare(row, "nobody")
        assert prepare.running["likely"].process.poll() is None
    assert prepare.running["likely"].process.poll() == 0


def test_goals_name_what_is_missing_and_parts_measured_elsewhere():
    run = pytest.importorskip("benchmarks.run", reason="not part of this distribution")
    at = {"threads": 2, "commit": "abc", "versions": {"torch": "2"}, "processor": "a"}
    ratio = {"ratio": [2.0, 2.5, 3.0]}
    name = "flows.maf-train-63"
    stored = {
        "flows": {
            "conditions": at | {"date": "2026-01-01 10:00"},
            "rows": {name: {"sides": {"zuko": ratio, "nflows": ratio}}},
        },
        "gans": {"conditions": at | {"date": "2026-01-02 10:00", "threads": 1}, "rows": {}},
    }
    lines = run.goals(stored)
    (line,) = [line for line in lines if "MAF" in line and "step, 512" in line]
    assert line.endswith("| 2.50 (2.00 to 3.00) | 1.3 | held, without flowjax † |")
    assert any(line.startswith("| fit of NSF") and "not measured" in line for line in lines)
