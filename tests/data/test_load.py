"""Splits, columns, contexts, weights, missing entries, and the warnings."""

import dataclasses
import math
import warnings

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch

import likely as lk
from likely.data import Data, Split, load_data, load_rows

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(1000, 3))
EVENTS = pd.DataFrame(
    {
        "phi": RNG.uniform(-math.pi, math.pi, 1000),
        "pt": RNG.lognormal(size=1000),
        "n": RNG.integers(6, size=1000),
        "kind": RNG.choice(["e", "mu"], 1000),
        "w": RNG.uniform(size=1000),
    }
)


def caught(source, **options):
    """The data, and the warnings."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        data = load_data(source, **options)
    assert all(warning.filename == __file__ for warning in record)
    return data, [str(warning.message) for warning in record]


def everything(data):
    return torch.cat([data.train.x, data.valid.x, data.test.x])


# Splits.


@pytest.mark.parametrize(
    ("n", "sizes"), [(10, (8, 1, 1)), (19, (17, 1, 1)), (1000, (800, 100, 100))]
)
def test_splits_share_the_rows_out(n, sizes):
    data = load_data(np.arange(n)[:, None] + 0.5)
    assert (len(data.train), len(data.valid), len(data.test)) == sizes
    assert sorted(everything(data).flatten().tolist()) == [i + 0.5 for i in range(n)]


def test_splits_are_shuffled_by_the_seed():
    first, again, other = (load_data(NORMAL, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.test.x, again.test.x)
    assert not torch.equal(first.test.x, other.test.x)
    assert not torch.equal(everything(first), torch.from_numpy(NORMAL).float())
    # Positions in the file of the test rows are those of a uniform draw: mean and spread.
    index = load_data(np.arange(100_000)[:, None] + 0.0).test.x.numpy() / 100_000
    assert index.mean() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 10_000))
    assert index.std() == pytest.approx(math.sqrt(1 / 12), abs=0.01)


def test_missing_splits_come_from_the_training_rows():
    data = load_data({"train": NORMAL[:500], "valid": NORMAL[500:600]})
    assert (len(data.train), len(data.valid), len(data.test)) == (450, 100, 50)
    torch.testing.assert_close(data.valid.x, torch.from_numpy(NORMAL[500:600]).float())
    assert len(torch.cat([data.train.x, data.test.x]).unique(dim=0)) == 500


def test_fingerprint_sees_rows_splits_and_domain():
    changed = NORMAL.copy()
    changed[77, 1] += 1e-3
    sources = [
        load_data(NORMAL),
        load_data(NORMAL),
        load_data(changed),
        load_data(NORMAL, seed=1),
        load_data(NORMAL, domain={0: "interval(-9, 9)"}),
        load_data(NORMAL, weight=np.full(1000, 2.0)),
    ]
    prints = [source.fingerprint() for source in sources]
    assert prints[0] == prints[1]
    assert len(set(prints)) == len(prints) - 1


# Rows of a split.


def test_rows_by_any_index():
    x, context, weight = torch.randn(20, 2), torch.randn(20, 1), torch.rand(20)
    split = Split(x, context, weight)
    for index in (torch.tensor([3, 1]), np.array([3, 1]), slice(1, 4)):
        batch = split.rows(index)
        for part, rows in ((batch.x, x), (batch.context, context), (batch.weight, weight)):
            assert torch.equal(part, rows[index])
    assert split.in_memory


def test_subset_is_random_and_in_random_order():
    split = Split(torch.arange(1000.0)[:, None].expand(-1, 4))
    everything = split.subset(4000).x[:, 0]
    assert torch.equal(everything.sort().values, split.x[:, 0])
    assert everything[:300].mean() == pytest.approx(499.5, abs=4 * 288 / math.sqrt(300))
    some = split.subset(1203, seed=1).x[:, 0]
    assert len(some) == len(some.unique()) == 300
    assert torch.equal(some, split.subset(1203, seed=1).x[:, 0])
    assert not torch.equal(some, split.subset(1203, seed=2).x[:, 0])
    assert some[:100].mean() == pytest.approx(499.5, abs=4 * 288 / math.sqrt(100))
    assert some.mean() == pytest.approx(499.5, abs=4 * 288 / math.sqrt(300))
    assert len(split.subset(1)) == 1


def test_splits_in_memory_are_checked_and_made_tensors():
    x, good = np.array([[0.5], [1.5]]), np.array([1.0, 0.0])
    domain, given = lk.table(lk.Positive()), lk.integers(3, 1)
    of = Split(x, np.array([[0], [2]]), good)
    data = Data(domain, of, of, of, context=given)
    assert data.train.rows(slice(None)).x.tolist() == x.tolist()
    assert (data.test.x.dtype, data.test.context.dtype) == (torch.float64, torch.int64)
    for wrong, message in [
        (Split(-x, of.context), "test split: row 0, column 0: -0.5 is not"),
        (Split(x[:, 0], of.context), "rows of shape"),
        (Split(x, of.context + 1), "the context of the test split: row 1"),
        (Split(x, of.context[:1]), "2 rows, but a context of 1"),
        (Split(x), "give a context and its domain"),
        (Split(x, of.context, good + math.inf), "finite"),
        (Split(x, of.context, good[:1]), "a weight of 1"),
        (Split(x, of.context, good[:, None]), "one weight"),
    ]:
        with pytest.raises(lk.DataError, match=message):
            Data(domain, of, of, wrong, context=given)
    with pytest.raises(lk.DataError, match="give a context and its domain"):
        Data(domain, of, of, of)


def test_some_columns_of_a_source_with_a_domain_of_its_own():
    data = load_data("eight-gaussians", columns=[0])
    assert data.domain.shape == (1,)
    assert data.truth is None
    assert load_data("eight-gaussians", columns=[0, 1]).domain.size == 2


def test_a_negative_seed_is_refused():
    with pytest.raises(lk.LikelyError, match="seed=-1"):
        load_data(NORMAL, seed=-1)


def test_order_is_a_permutation():
    split = Split(torch.zeros(500, 1))
    order = split.order(3)
    assert sorted(order.tolist()) == list(range(500))
    assert torch.equal(order, split.order(3))
    assert not torch.equal(order, split.order(4))


# Columns, contexts, weights.


def test_columns_context_and_weight_by_name():
    data = load_data(
        EVENTS,
        domain={"phi": "periodic(-pi, pi)", "pt": lk.Positive(), "n": "count"},
        context=["kind", "n"],
        weight="w",
    )
    assert data.domain == lk.table(phi=lk.Periodic(-math.pi, math.pi), pt=lk.Positive())
    assert data.context == lk.table(kind=lk.Categorical(["e", "mu"]), n=lk.Count())
    table = EVENTS.set_index(EVENTS.phi.astype(np.float32))
    rows = table.loc[data.train.x[:, 0].numpy()]
    np.testing.assert_allclose(data.train.x[:, 1], rows.pt, rtol=1e-6)
    np.testing.assert_allclose(data.train.weight, rows.w, rtol=1e-6)
    assert data.train.context[:, 1].tolist() == rows.n.tolist()
    assert data.train.context[:, 0].tolist() == (rows.kind == "mu").astype(int).tolist()
    assert data.train.context.dtype == torch.int64
    assert data.train.x.dtype == torch.float32


def test_columns_by_position():
    data = load_data(NORMAL, columns=[2], context=0, weight=np.abs(NORMAL[:, 1]))
    assert data.domain == lk.Domain((1,), (lk.Real(),), names=("2",))
    assert data.context == lk.Domain((1,), (lk.Real(),), names=("0",))
    order = np.argsort(NORMAL[:, 2])
    at = order[np.searchsorted(NORMAL[order, 2].astype(np.float32), data.test.x[:, 0].numpy())]
    np.testing.assert_allclose(data.test.context[:, 0], NORMAL[at, 0], rtol=1e-6)
    np.testing.assert_allclose(data.test.weight, np.abs(NORMAL[at, 1]), rtol=1e-6)
    named = load_data(EVENTS, columns=[1, "phi"], domain={0: "interval(-4, 4)"})
    assert named.domain == lk.table(pt=lk.Real(), phi=lk.Interval(-4, 4))


def test_context_as_an_array():
    angle = np.linspace(0, 6, 1000)
    data = load_data(NORMAL, context=angle, context_domain=lk.table("periodic(0, 2*pi)"))
    assert data.context == lk.table(lk.Periodic(0, 2 * math.pi))
    images = RNG.normal(size=(1000, 2, 2))
    assert load_data(NORMAL, context=images).context == lk.reals(2, 2)
    assert load_data(NORMAL, context=EVENTS[["n"]]).context == lk.table(n=lk.Integer(6))


def test_declared_domains():
    flat = (NORMAL[:, :1] > 0).repeat(4, 1).astype(float)
    data = load_data(flat, domain=lk.binary(2, 2, layout="image"))
    assert data.train.x.shape == (800, 2, 2)
    assert data.train.x.dtype == torch.int64
    wanted = lk.table(n="integer(9)", phi="real")
    data = load_data(EVENTS, domain=wanted)  # columns by name, in this order
    assert data.domain == wanted
    assert data.train.x[:, 0].max() == 5
    letters = pd.DataFrame({"k": [1.0, 2.0] * 10})
    rows = load_rows(letters, domain={"k": "categorical(2, 1)"})
    assert rows.x.flatten().tolist() == [1, 0] * 10


def test_rows_are_read_in_the_domain_of_a_model():
    fitted = load_data(EVENTS, context="kind", columns=["pt", "n"])
    rows = load_rows(EVENTS[::-1], domain=fitted.domain, context_domain=fitted.context)
    assert len(rows) == 1000
    np.testing.assert_allclose(rows.x[:, 0], EVENTS.pt[::-1], rtol=1e-6)
    assert rows.context.flatten().tolist() == (EVENTS.kind[::-1] == "mu").astype(int).tolist()
    assert len(load_rows(EVENTS[:1], domain=fitted.domain)) == 1


def test_builtin_labels():
    data = load_data("digits", context="label")
    assert data.domain == lk.integers(17, 8, 8, layout="image")
    assert data.context.column(0).levels == 10
    assert len(data.train) == 1439
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    by_image = {tuple(image): label for image, label in zip(images, labels, strict=True)}
    found = [by_image[tuple(image)] for image in data.test.x.flatten(1).double().numpy()]
    assert found == data.test.context.flatten().tolist()


def test_two_valued_numbers_of_any_type():
    bits = RNG.integers(2, size=(50, 3))
    for kind in (bool, np.int8, np.uint8, np.float32, float):
        assert load_data(bits.astype(kind)).domain == lk.binary(3)
    for kind in (np.int8, float):
        assert load_data((2 * bits - 1).astype(kind)).domain.column(0) == lk.Spin()
    assert caught(bits + 1.0)[0].domain == lk.reals(3)
    frame = pd.DataFrame({"hit": pd.array([True, None, False] * 10, dtype="boolean")})
    assert caught(frame, missing="drop")[0].domain == lk.table(hit=lk.Binary())


# Precision.


def test_float64_where_it_matters():
    spread = NORMAL[:, :1]
    assert load_data(spread).train.x.dtype == torch.float32
    assert load_data(spread * 1e-30).train.x.dtype == torch.float32
    assert load_data(spread + 1e4).train.x.dtype == torch.float64  # rounding to 5e-4
    assert load_data(spread * 1e-50).train.x.dtype == torch.float64
    big = pd.DataFrame({"id": np.arange(1000) + 2**30, "x": NORMAL[:, 0]})
    data, (note,) = caught(big)
    assert "'id' looks like a running number" in note
    assert data.train.x.dtype == torch.float64
    assert set(data.train.x[:, 0].tolist()) <= set(big.id.tolist())
    tiny = np.abs(spread).copy()
    tiny[5] = 1e-60  # not positive in float32
    assert load_data(tiny, domain={0: "positive"}).train.x.dtype == torch.float64


# Missing entries.


def test_missing_rows_are_dropped_and_counted():
    frame = EVENTS.assign(n=EVENTS.n.astype("Int64"))
    frame.loc[[3, 8], "pt"] = [np.nan, np.inf]
    frame.loc[9, "kind"] = None
    frame.loc[[9, 10], "n"] = None
    data, notes = caught(frame, missing="drop")
    assert notes == ["the data: 4 of 1000 rows have missing or infinite entries and are left out"]
    assert data.domain.column(2) == lk.Integer(6)
    kept = frame.drop([3, 8, 9, 10]).phi.to_numpy(np.float32)
    assert sorted(everything(data)[:, 0].tolist()) == sorted(kept.tolist())
    weight = np.ones(1000)
    weight[0] = np.nan
    data, notes = caught(NORMAL, weight=weight, context=frame.pt, missing="drop")
    assert notes == ["the data: 3 of 1000 rows have missing or infinite entries and are left out"]
    split = {"train": NORMAL[:500].copy(), "test": NORMAL[500:].copy()}
    split["train"][:100, 1] = split["test"][7, 0] = np.nan
    data, notes = caught(split, missing="drop")
    assert (len(data.train), len(data.valid), len(data.test)) == (360, 40, 499)


# Warnings.


def test_no_warning_without_a_reason():
    for source in (NORMAL, EVENTS, "digits", "rings", "eight-gaussians", np.round(NORMAL, 3)):
        assert caught(source)[1] == []


def test_constants():
    frame = EVENTS.assign(run=0.1, version=3)
    data, notes = caught(frame)
    assert notes == [
        "the data: column 'run' never changes: it stays as a constant, which contributes nothing to a "
        "likelihood"
    ]
    assert data.domain.column(5) == lk.Constant(0.1)
    assert data.domain.column(6) == lk.Integer(4)  # discrete ones are no trouble
    data.domain.check(data.train.x)
    assert caught({"train": np.c_[NORMAL, 0 * NORMAL[:, 0]], "test": np.c_[NORMAL, NORMAL[:, 0]]})[
        0
    ].domain == lk.reals(4)
    whole = caught(EVENTS[["n"]].assign(run=0.5))[0]
    assert whole.train.x[:, 1].tolist() == [0.5] * 800  # among whole numbers, not rounded to one
    images = RNG.uniform(size=(100, 2, 2))
    images[:, 0, 0] = 0.5
    data, notes = caught(images)
    assert data.domain == lk.reals(2, 2)
    assert len(notes) == 1
    assert "1% of the rows on one value" in notes[0]


def test_atoms():
    x = NORMAL.copy()
    x[:11, 1] = 0.25
    notes = caught(x)[1]
    assert len(notes) == 1
    assert notes[0].startswith("the data: column 1 has more than 1% of the rows on one value")
    x[10, 1] = 0.26  # now it is exactly 1 %
    assert caught(x)[1] == []
    small = NORMAL[:50].copy()
    small[:4, 0] = 1.5
    assert caught(small)[1] == []
    small[:5, 0] = 1.5
    assert len(caught(small)[1]) == 1
    (note,) = caught(np.floor(5 * NORMAL))[1]
    assert "columns 0, 1, 2 holds whole numbers: count from 0 and declare integer(levels)" in note


def test_sentinels():
    x = NORMAL.copy()
    x[[4, 70], 2] = -999
    x[5, 2] = 99
    (note,) = caught(x)[1]
    assert note.startswith("the data: column 2 is -999 in 0.20% of the rows, far from the rest")
    counts = pd.DataFrame({"n": np.r_[EVENTS.n, 9999, 9999]})
    assert "column 'n' is 9999" in caught(counts)[1][0]
    spread = NORMAL * 3000
    spread[:3, 0] = 999  # well inside
    assert caught(spread)[1] == []


def test_data_can_be_made_by_hand():
    splits = [Split(torch.randn(n, 2)) for n in (5, 3, 2)]
    data = Data(lk.reals(2), *splits)
    assert data.fingerprint() != dataclasses.replace(data, valid=splits[2]).fingerprint()


def test_rows_that_are_stored_by_columns_become_contiguous():
    """A batch of rows in pieces would take ten times as long to gather."""
    by_columns = Split(torch.arange(12.0).reshape(2, 6).T)
    data = Data(lk.reals(2), by_columns, by_columns, by_columns)
    assert data.train.x.is_contiguous()
    assert torch.equal(data.train.x, by_columns.x)


def test_names_of_rows_among_numbers_are_told():
    rng = np.random.default_rng(0)
    event = rng.choice(10**8, 1000) + 2**25
    frame = pd.DataFrame({"event": event, "x": NORMAL[:, 0]})
    (note,) = caught(frame.astype({"event": float}))[1]
    assert note.startswith("the data: column 'event' looks like names of the rows")
    assert caught(frame, context="event")[1] == []  # a choice
    assert caught(frame.assign(event=event // 10**5))[1] == []


def test_all_columns_that_cannot_be_read_are_named():
    slips = ["1.5"] * 15 + ["high"] * 5
    frame = pd.DataFrame(dict.fromkeys("abcdefg", slips) | {"x": range(20)})
    with pytest.raises(lk.DataError, match=r"column 'a'.*; nor can b, c, d, e, … be read"):
        load_data(frame)


def test_the_way_out_of_ambiguous_numbers_suits_what_is_declared():
    frame = pd.DataFrame({"n": ["1,200", "3,400"] * 10})
    with pytest.raises(lk.DataError, match=r"thousands=',', or declare the column categorical"):
        load_data(frame)
    with pytest.raises(lk.DataError, match=r"decimal=','\) or thousands=','$"):
        load_data(frame, domain={"n": "count"})


def test_a_table_without_rows_is_called_so():
    with pytest.raises(lk.DataError, match="the data: the table has no rows"):
        load_data(pyarrow.table({"x": pyarrow.array([], pyarrow.float64())}))
