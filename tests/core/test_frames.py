"""Frames go in and come out the same, whatever their columns hold."""

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from pandas.testing import assert_frame_equal

import likely as lk
from likely.data import load_data, load_rows

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(size=40),
        "single": RNG.normal(size=40).astype(np.float32),
        "hit": RNG.random(40) < 0.5,
        "bit": RNG.integers(0, 2, 40),
        "spin": 2 * RNG.integers(0, 2, 40) - 1,
        "n": RNG.integers(0, 5, 40),
        "count": RNG.integers(0, 900, 40),
        "byte": RNG.integers(0, 200, 40).astype(np.uint8),
        "kind": RNG.choice(["mu", "e", "tau"], 40),
        "grade": pd.Categorical(RNG.choice(["low", "high"], 40), ["low", "mid", "high"]),
        "phi": RNG.uniform(-np.pi, np.pi, 40),
        "e": RNG.lognormal(size=40),
        "part": RNG.uniform(0, 1, 40),
    }
)
KINDS = {"phi": "periodic(-pi, pi)", "e": "positive", "part": "interval(0, 1)"}


def test_every_kind_of_column_comes_back():
    rows = load_rows(FRAME)
    domain = load_data(FRAME, domain=KINDS).domain
    assert_frame_equal(domain.frame(rows.x), FRAME)
    torch.testing.assert_close(domain.rows(FRAME), rows.x.double(), rtol=1e-6, atol=0)
    assert lk.Domain.from_json(domain.to_json()).dtypes == domain.dtypes


def test_files_give_the_types_that_their_readers_do(tmp_path):
    FRAME.to_parquet(tmp_path / "a.parquet")
    domain = load_data(tmp_path / "a.parquet").domain
    back = domain.frame(load_rows(tmp_path / "a.parquet").x)
    assert_frame_equal(back, FRAME, check_dtype=False, check_categorical=False)
    assert domain == load_data(FRAME).domain
    back.to_csv(tmp_path / "a.csv", index=False)
    again = load_rows(tmp_path / "a.csv", domain=domain).x
    torch.testing.assert_close(again, load_rows(FRAME).x, rtol=1e-12, atol=0)


def test_frames_of_polars():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"x": FRAME.x.to_numpy(), "kind": FRAME.kind.tolist()})
    assert load_data(frame).domain == lk.table(x=lk.Real(), kind=lk.Categorical(["e", "mu", "tau"]))
    assert load_data(pyarrow.table(frame)).domain.names == ("x", "kind")


def test_arrays_have_positions_for_names():
    frame = lk.table("real", lk.Integer(3)).frame(torch.tensor([[0.5, 2.0]]))
    assert list(frame.columns) == ["x0", "x1"]
    assert frame.dtypes.tolist() == [np.float32, np.int64]


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ({"x": [1.0]}, "no column 'kind'; it needs x, kind"),
        (
            {"x": [1.0, 2.0], "kind": ["e", "nu"]},
            "row 1, column 'kind' takes one of e, mu, not 'nu'",
        ),
        ({"x": ["one"], "kind": ["e"]}, "row 0, column 'x' takes a number, not 'one'"),
    ],
)
def test_frames_of_other_columns_are_refused(frame, complaint):
    domain = lk.table(x=lk.Real(), kind=lk.Categorical(["e", "mu"]))
    with pytest.raises(lk.DataError, match=complaint):
        domain.rows(pd.DataFrame(frame))
