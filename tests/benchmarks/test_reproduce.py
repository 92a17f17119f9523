"""Reproductions read our numbers from what the benchmarks print, and say where they fall short."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

import likely as lk

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))
reproduce = pytest.importorskip("benchmarks.reproduce", reason="not part of this distribution")
Row = reproduce.Row


def row(**changes):
    known = {
        "name": "a", "what": "", "theirs": -2.0, "source": "", "protocol": "", "before": "test: ",
        "command": "python script.py",
    }  # fmt: skip
    return Row(**known | changes)


@pytest.mark.parametrize(
    ("better", "value", "stderr", "verdict"),
    [
        ("higher", -1.5, 0.1, "beaten"),
        ("higher", -2.1, 0.1, "met"),
        ("higher", -2.1, None, "short"),
        ("lower", -2.5, 0.1, "beaten"),
        ("lower", -1.5, 0.1, "short"),
        ("equal", -2.2, 0.1, "met"),
        ("equal", -1.5, 0.1, "short"),
    ],
)
def test_verdicts_count_errors(better, value, stderr, verdict):
    assert row(better=better).verdict(lk.Figure(value, stderr)) == verdict


def test_the_error_of_what_was_published_counts():
    assert row(better="equal", theirs_error=0.2).verdict(lk.Figure(-1.5, 0.1)) == "met"


@pytest.mark.parametrize(
    ("text", "before", "value", "stderr"),
    [
        ("train: -81.0 ± 0.2 nats\ntest: -87.10 ± 0.21 nats (exact)", "test: ", -87.1, 0.21),
        ('{"energy": {\n  "value": -63.4,\n  "stderr": 1e-2}}', reproduce.ROWS[25].before, -63.4, 0.01),
        ("| 5 | vmf-vae-vmf-5 | 9,000 | 20.0 | -108.20 ± 0.19 | −108.43 |",
         reproduce.sphere("vmf-vae", 5, 0.0).before, -108.2, 0.19),
        ("free-8: cnf, 3 min; acceptance 0.956; log Z -11.62275 ± 0.00033 (-11.622885)", "log Z ",
         -11.62275, 0.00033),
        ("test: none", "test: ", None, None),
    ],
)  # fmt: skip
def test_numbers_are_found_in_the_output(text, before, value, stderr):
    found = row(before=before).read(text)
    assert (found and (found.value, found.stderr)) == (value and (value, stderr))


def test_rows_name_commands_that_there_are():
    """Of scripts, the options as they are written there."""
    assert len({one.name for one in reproduce.ROWS}) == len(reproduce.ROWS) >= 25
    for one in reproduce.ROWS:
        for part in one.command.format(data="data", out="out").split(" && "):
            program, *arguments = shlex.split(part)
            if program == "python":
                text = (ROOT / arguments[0]).read_text()
                options = [word for word in arguments if word.startswith("--")]
                assert all(f'"{option}"' in text for option in options), one.name


def test_a_run_is_kept_and_shown(tmp_path, monkeypatch):
    """The page has the number of the file of the run, and names rows that fall short or were not run."""
    (tmp_path / "script.py").write_text("print('test: -3.00 ± 0.10 nats')")
    rows = (row(), row(name="b", theirs=-3.1), row(name="c", command="python other.py"))
    monkeypatch.setattr(reproduce, "ROWS", rows)
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path)
    monkeypatch.setattr(reproduce, "HERE", tmp_path / "benchmarks")
    reproduce.run(rows[0], tmp_path, tmp_path / "runs")
    result = json.loads((tmp_path / "a.json").read_text())
    assert (result["value"], result["stderr"], result["resumed"]) == (-3.0, 0.1, False)
    page = reproduce.page()
    assert "1 short (a); 1 not run (c)" in page
    assert "1 met (b)" in page
    assert re.search(r"3\.00.{1,10}0\.10", page)
    rows = (row(command="python script.py --more"),)
    monkeypatch.setattr(reproduce, "ROWS", rows)
    assert reproduce.results() == {}  # of another command
