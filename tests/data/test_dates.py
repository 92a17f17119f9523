"""Columns of dates: read as numbers, modelled on the reals, and given back as dates."""

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import likely as lk
from likely.core.kinds import column_from_json, parse_column

DAYS = pd.Series(pd.date_range("2024-01-01", periods=97).repeat(3)).sample(frac=1, random_state=0)


def table(days: pd.Series) -> pd.DataFrame:
    x = np.random.default_rng(0).normal(size=len(days))
    return pd.DataFrame({"day": days.to_numpy(), "x": x})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table(DAYS).to_csv(tmp_path / "a.csv", index=False)
    return tmp_path / "a.csv"


@pytest.mark.filterwarnings("ignore:.*more than 1% of the rows")
def test_days_of_a_file_come_back_as_days(path: Path, tmp_path: Path):
    data = lk.load_data(path)
    assert data.domain.columns == (lk.Date("days"), lk.Real())
    assert (data.train.x[:, 0] % 1 == 0).all()
    model = lk.make("gaussian", data.domain)
    lk.fit(model, data, epochs=2, seed=0)
    draws = model.sample(500, seed=0, as_frame=True)
    assert draws.day.dt.normalize().equals(draws.day)
    assert abs(draws.day.mean() - DAYS.mean()) < pd.Timedelta(days=4)
    draws.to_csv(tmp_path / "b.csv", index=False)
    assert "2024-02-" in (tmp_path / "b.csv").read_text()
    rows = data.domain.rows(pd.read_csv(tmp_path / "b.csv"))
    assert torch.equal(rows[:, 0], model.sample(500, seed=0)[:, 0].double().round())


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_times_come_back_to_the_second_with_their_type(zone: str | None):
    times = pd.Series(pd.date_range("2024-01-01 12:30:05", periods=300, freq="7h", tz=zone))
    frame = pd.DataFrame({"when": times, "x": np.arange(300) + 0.5})
    domain = lk.load_data(frame, domain={"x": "positive"}).domain
    assert domain.column(0) == lk.Date("seconds")
    pd.testing.assert_series_equal(domain.frame(domain.rows(frame)).when, times, check_names=False)


def test_dates_are_found_by_infer_domain_too():
    frame = pd.DataFrame({"a": [datetime.date(2024, 5, 1)] * 2, "b": ["2024-05-01T12:30", None]})
    assert lk.infer_domain(frame).columns == (lk.Date("days"), lk.Date("seconds"))


@pytest.mark.filterwarnings("ignore:.*more than 1% of the rows")
def test_a_missing_date_comes_back_as_one():
    data = lk.load_data(table(DAYS.mask(np.arange(len(DAYS)) % 5 == 0)), missing="model")
    assert data.domain.column(0) == lk.Maybe(lk.Date())
    frame = data.domain.frame(data.train.x)
    assert 0.1 < frame.day.isna().mean() < 0.3
    assert frame.day.min() == pd.Timestamp("2024-01-01")


def test_kinds_survive_json_and_text():
    assert parse_column("maybe(date(seconds))") == lk.Maybe(lk.Date("seconds"))
    assert column_from_json(lk.Date("seconds").to_json()) == lk.Date("seconds")
    with pytest.raises(lk.DomainError, match="the unit is one of days, seconds"):
        parse_column("date(weeks)")


def test_a_date_that_cannot_be_read_is_named_with_row_and_column():
    days = DAYS.astype(str).reset_index(drop=True)
    days[7] = "2024-02-31"
    with pytest.raises(
        lk.DataError, match="row 7, column 'day': '2024-02-31' is not a date such as"
    ):
        lk.load_data(table(days))
    domain = lk.table(day="date", x="real")
    with pytest.raises(lk.DataError, match="row 7, column 'day' takes a date such as"):
        domain.rows(table(days))
    with pytest.raises(lk.DataError, match="'day' takes a date such as 1970-01-01"):
        domain.row({"day": "tomorrow", "x": 1})
    assert domain.row({"day": "1970-01-11", "x": 1}).tolist() == [10, 1]


def test_other_dates_are_refused_with_the_form_that_is_read():
    days = DAYS.dt.strftime("%d/%m/%Y")
    with pytest.raises(lk.DataError, match=r"'day' holds dates .*write dates as 2024-05-01"):
        lk.load_data(table(days))


@pytest.mark.filterwarnings("ignore:.*more than 1% of the rows")
def test_inspection_tells_dates_and_their_unit():
    found = lk.data.inspect(table(DAYS))
    column = found.columns[0]
    assert (column.kind, column.used) == ("date(days)", True)
    assert column.remark == "days since 1970-01-01, from 2024-01-01 to 2024-04-06"
    assert "gaussian" in found.models


def test_a_sentinel_among_dates_is_told_as_a_date():
    days = DAYS.reset_index(drop=True)
    days[:6] = pd.Timestamp("1900-01-01")
    with pytest.warns(UserWarning, match="'day' is 1900-01-01 in 2.06%"):
        lk.load_data(table(days))
