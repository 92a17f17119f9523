"""Domains: supports, JSON, parsing, messages."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

import likely as lk
from likely.core.kinds import parse_column

EVERYTHING = lk.table(
    a=lk.Real(),
    b=lk.Positive(),
    c=lk.Interval(-1, 2),
    d=lk.Periodic(-math.pi, math.pi),
    e=lk.Integer(17),
    f=lk.Count(),
    g=lk.Categorical(["e", "mu"]),
    h=lk.Categorical(5),
    i=lk.Binary(),
    j=lk.Spin(),
    k=lk.Constant(2.5),
)


@pytest.mark.parametrize(
    "domain",
    [
        EVERYTHING,
        lk.reals(1, 28, 28),
        lk.spins(4, 4),
        lk.text("abc", 7),
        lk.integers(256, 3, 8, 8),
        lk.categories(4, 50),
        lk.binary(3, 2, layout="lattice"),
    ],
)
def test_json_round_trip(domain):
    assert lk.Domain.from_json(domain.to_json()) == domain


def test_anchor_lies_inside_and_other_points_do_not():
    anchor = EVERYTHING.anchor[None]
    assert EVERYTHING.contains(anchor).all()
    outside = [math.nan, 0.0, 2.1, 3.2, 17.0, -1.0, 2.0, 0.5, 2.0, 0.0, 2.0]
    for i, value in enumerate(outside):
        x = anchor.clone()
        x[0, i] = value
        assert not EVERYTHING.contains(x).any(), EVERYTHING.name(i)


def test_message_names_row_column_value_and_support():
    x = EVERYTHING.anchor.repeat(4, 1)
    x[2, 4] = 17
    with pytest.raises(
        lk.DataError, match=r"f\.csv: row 12, column 'e': 17 is not a whole .* 0 to 16"
    ):
        EVERYTHING.check(x, "f.csv", first_row=10)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("real", lk.Real()),
        ("interval(0, 1)", lk.Interval(0, 1)),
        ("periodic(-pi,pi)", lk.Periodic(-math.pi, math.pi)),
        ("periodic(0, 2*pi)", lk.Periodic(0, 2 * math.pi)),
        ("integer(17)", lk.Integer(17)),
        ("categorical(e, mu)", lk.Categorical(["e", "mu"])),
        ("categorical(3)", lk.Categorical(3)),
        ("count", lk.Count()),
    ],
)
def test_columns_from_text(text, column):
    assert parse_column(text) == column


@pytest.mark.parametrize(
    "text", ["rael", "interval(0", "interval(1, 0)", "interval(0)", "integer(x)"]
)
def test_bad_column_text_is_refused(text):
    with pytest.raises(lk.DomainError):
        parse_column(text)


def test_a_row_by_names_and_labels():
    domain = lk.table(kind=lk.Categorical(["e", "mu"]), energy=lk.Positive())
    assert domain.row({"energy": 2.5, "kind": "mu"}).tolist() == [1.0, 2.5]
    assert domain.row(["e", "3"]).tolist() == [0.0, 3.0]
    for bad in ({"kind": "tau", "energy": 1}, {"kind": "e"}, ["e", "much"]):
        with pytest.raises(lk.DataError):
            domain.row(bad)


def test_inference():
    frame = pd.DataFrame(
        {
            "x": [0.5, 1.5],
            "n": [3, 200],
            "big": [3, 5000],
            "kind": ["b", "a"],
            "flag": [True, False],
        }
    )
    kinds = [lk.Real(), lk.Integer(201), lk.Count(), lk.Categorical(["a", "b"]), lk.Binary()]
    assert list(lk.infer_domain(frame).columns) == kinds
    images = np.zeros((2, 8, 8), np.uint8)
    images[0] = 7
    assert lk.infer_domain(images) == lk.integers(256, 8, 8, layout="image")
    assert lk.infer_domain(torch.tensor([[1, -1], [1, 1]])) == lk.Domain((2,), (lk.Spin(),))


@pytest.mark.parametrize(
    ("kind", "example"), [("integer", r"integer\(17\), for 0 to 16"), ("real(3)", "real$")]
)
def test_a_wrong_kind_shows_how_to_write_it(kind, example):
    with pytest.raises(lk.DomainError, match=f"wrong arguments; write {example}"):
        lk.table(x=kind)


def test_mirror_images():
    domain = lk.table(
        x=lk.Real(), phi=lk.Periodic(-1, 1), b=lk.Binary(), n=lk.Integer(5), c=lk.Constant(7)
    )
    x = torch.tensor([[2.0, 0.25, 1, 0, 7], [-1.0, -1, 0, 3, 7]])
    torch.testing.assert_close(
        domain.mirrored(x), torch.tensor([[-2.0, -0.25, 0, 4, 7], [1.0, 1, 1, 1, 7]])
    )
    assert torch.equal(lk.spins(2).mirrored(torch.tensor([[1, -1]])), torch.tensor([[-1, 1]]))
    for column in (lk.Positive(), lk.Categorical(3), lk.Count()):
        with pytest.raises(lk.DomainError, match="no mirror image"):
            lk.table(x=column).mirrored(torch.ones(1, 1))
