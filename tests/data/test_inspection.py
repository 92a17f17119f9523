"""What `inspect` says of columns, and that what it proposes can be loaded."""

import warnings

import numpy as np
import pandas as pd
import pytest

import likely as lk

ROWS = 300


@pytest.fixture
def table():
    """Columns of every sort, good and bad."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": np.arange(ROWS) + 1000,
            "uid": [f"ev{i:05d}" for i in range(ROWS)],
            "hash": rng.integers(2**60, 2**62, ROWS),
            "event": 10**9 + rng.permutation(10 * ROWS)[:ROWS] // 2,
            "run": 325_000,
            "when": ["12:30"] * ROWS,
            "day": [f"2024-05-{i % 28 + 1:02d}" for i in range(ROWS)],
            "jets": [list(range(i % 3)) for i in range(ROWS)],
            "slip": ["3.1"] * (ROWS - 1) + ["high"],
            "empty": [None] * ROWS,
            "rare": np.where(rng.random(ROWS) < 0.7, np.nan, rng.normal(size=ROWS)),
            "x": rng.normal(size=ROWS),
            "e": rng.exponential(size=ROWS),
            "u": rng.uniform(size=ROWS),
            "phi": rng.uniform(-np.pi, np.pi, ROWS),
            "n": rng.integers(0, 5, ROWS).astype(float),
            "kind": rng.choice(["el", "mu"], ROWS),
            "weight": rng.uniform(0.5, 1, ROWS),
        }
    )
    frame.loc[3, "x"], frame.loc[5, "n"] = np.nan, np.inf
    return frame


def columns_of(found):
    return {column.name: column for column in found.columns}


def test_each_bad_column_is_named_with_its_reason_and_left_out(table):
    columns = columns_of(lk.data.inspect(table))
    reasons = {
        "id": "running number",
        "uid": "names of the rows, such as 'ev00000'",
        "hash": "names of the rows",
        "event": "names of the rows",
        "run": "never changes",
        "when": "12:30",
        "jets": "list values",
        "slip": "row 299: 'high'",
        "empty": "is empty",
        "rare": "missing in most rows",
    }
    for name, reason in reasons.items():
        assert not columns[name].used
        assert columns[name].remark.startswith("left out: "), name
        assert reason in columns[name].remark
        assert "--columns" not in columns[name].remark
    assert {name for name, column in columns.items() if not column.used} == set(reasons)


def test_good_columns_are_described(table):
    columns = columns_of(lk.data.inspect(table))
    assert (columns["x"].kind, columns["x"].missing, columns["x"].distinct) == ("real", 1, 299)
    assert columns["x"].low == table["x"].min()
    assert columns["n"].missing == 1
    assert columns["kind"].kind == "categorical(2)"
    declared = {name: c.declared for name, c in columns.items() if c.declared}
    assert declared == {"e": "positive", "n": "integer(5)"}
    assert "periodic(-pi,pi)" in columns["phi"].remark
    assert columns["day"].kind == "date(days)"
    assert columns["day"].remark == "days since 1970-01-01, from 2024-05-01 to 2024-05-28"
    assert columns["phi"].suggested == "periodic(-pi,pi)"
    assert "--weight weight" in columns["weight"].remark
    assert not columns["u"].remark


def test_the_options_load_what_was_found(table, tmp_path):
    table.to_parquet(tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        found = lk.data.inspect(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = lk.load_data(source, **found.options)
        assert data.domain == found.data.domain
        assert data.domain.names == ("day", "x", "e", "u", "phi", "n", "kind", "weight")
        assert len(data.train) == len(found.data.train)
        assert "made" in found.models
        assert "nsf" not in found.models  # kind
        assert any("2 of 300 rows" in warning for warning in found.warnings)


def test_columns_go_where_dropping_rows_would_leave_none():
    x = np.random.default_rng(0).normal(size=(40, 3))
    x[:19, 0] = x[20:, 1] = np.nan
    found = lk.data.inspect(x)
    assert "too few rows" in columns_of(found)["1"].remark
    assert found.options == {"columns": ["0", "2"], "missing": "drop"}


def test_what_has_no_columns(tmp_path):
    digits = lk.data.inspect("digits")
    (entries,) = digits.columns
    assert (entries.kind, entries.low, entries.high) == ("integer(17)", 0, 16)
    assert (digits.rows, digits.shape, digits.options) == (1797, (8, 8), {})
    assert digits.others == ["label"]
    (tmp_path / "play.txt").write_text("to be or not to be, " * 400)
    play = lk.data.inspect(tmp_path / "play.txt")
    assert "transformer" in play.models
    assert not play.columns


def test_what_cannot_be_loaded_says_why():
    few = lk.data.inspect(np.random.default_rng(0).normal(size=(5, 2)))
    assert few.data is None
    assert "at least 10 are needed" in few.warnings[0]
    days = lk.data.inspect(pd.DataFrame({"day": ["2024-05-01"] * 20}))
    assert days.warnings == ["no column can be read"]
    with pytest.raises(lk.DataError, match="there is no such file"):
        lk.data.inspect("nowhere.csv")


def test_positive_is_proposed_for_each_column_over_decades_with_a_tail():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({f"e{i}": rng.lognormal(0, 1.5, 500) for i in range(20)})
    frame["u"] = rng.uniform(0, 1, 500)
    found = lk.data.inspect(frame)
    assert found.options["domain"] == dict.fromkeys(frame.columns.drop("u"), "positive")


def test_remarks_are_whole_sentences():
    rng = np.random.default_rng(0)
    hashes = rng.integers(2**60, 2**62, 100) // 2**57 * 2**57
    found = lk.data.inspect(pd.DataFrame({"h": hashes, "x": rng.normal(size=100)}))
    assert found.columns[0].remark == "has whole numbers beyond 2⁵³, which are rounded"
