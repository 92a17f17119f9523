"""Rows without a label are kept apart, and what cannot be is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

import likely as lk

N = 100


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=N), "kind": rng.choice(["e", "mu"], N)})


def load(source, context="kind", **options):
    with pytest.warns(UserWarning, match=r"rows have no label: only semi-supervised models"):
        return lk.load_data(source, context=context, missing="unlabelled", **options)


def test_the_splits_are_those_of_the_labelled_rows(table, tmp_path):
    table.loc[::3, "kind"] = None
    path = tmp_path / "rows.csv"
    table.to_csv(path, index=False)
    data = load(path)
    with pytest.warns(UserWarning, match="left out"):
        dropped = lk.load_data(path, context="kind", missing="drop")
    assert "34 without a label" in repr(data)
    assert data.fingerprint() != dropped.fingerprint()
    for split in ("train", "valid", "test"):
        one, other = getattr(data, split), getattr(dropped, split)
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.context, other.context)
    assert data.context == dropped.context
    expected = torch.tensor(table["a"][::3].to_numpy()).float()
    torch.testing.assert_close(data.unlabelled[:, 0], expected)
    assert data.swapped().unlabelled is None


@pytest.mark.parametrize("form", ["array", "dictionary", "column"])
def test_minus_one_is_no_class(form):
    rng = np.random.default_rng(0)
    x, y = rng.integers(5, size=(N, 3, 3)), rng.integers(3, size=N)
    y[20:50] = -1
    if form == "array":
        data = load(x, y)
    elif form == "dictionary":
        data = load({"x": x, "y": y}, "y")
    else:
        data = load(pd.DataFrame({"x": x[:, 0, 0], "y": y.astype(float)}), "y")
    assert data.context.column(0) == lk.Integer(3)
    assert len(data.unlabelled) == 30
    labels = torch.cat([getattr(data, split).context for split in ("train", "valid", "test")])
    assert sorted(labels.flatten().tolist()) == sorted(y[y >= 0])


def test_every_batch_has_as_many_rows_without_a_label(table):
    table.loc[:80, "kind"] = None
    data, seen = load(table), []

    class Watched(lk.autoregressive.MADE):
        def loss(self, batch):
            seen.append(batch)
            return super().loss(batch)

    model = Watched(data.domain, context=data.context, hidden=(4,))
    lk.fit(model, data, steps=3, seed=0)
    assert all(batch.unlabelled.shape == batch.x.shape for batch in seen)
    rows = torch.cat([batch.unlabelled for batch in seen])
    assert torch.isin(rows, data.unlabelled).all()
    assert len(rows.unique()) > 10


def test_mistakes(table):
    with pytest.raises(lk.LikelyError, match="name the label, as context="):
        lk.load_data(table, missing="unlabelled")
    with pytest.raises(lk.LikelyError, match="what is predicted cannot be learnt"):
        lk.load_data(table, predict="kind", missing="unlabelled")
    with pytest.raises(lk.DataError, match="one column of classes"):
        lk.load_data(table.assign(b=1), context=["a", "kind"], missing="unlabelled")
    gaps = table.copy()
    gaps.loc[3, "a"] = None
    with pytest.raises(lk.DataError, match="row 3, column 'a': the entry is missing"):
        lk.load_data(gaps, context="kind", missing="unlabelled")
    with pytest.raises(lk.DataError, match=r"the label 'a' is real, not a class: declare its kind"):
        lk.load_data(gaps, context="a", missing="unlabelled")
    y = np.arange(40) % 2
    x, parts = (
        np.arange(40.0),
        {"train": slice(0, 20), "valid": slice(20, 30), "test": slice(30, 40)},
    )
    source = {f"x_{k}": x[s] for k, s in parts.items()} | {f"y_{k}": y[s] for k, s in parts.items()}
    source["y_test"] = np.array([0, -1] * 5)
    with pytest.raises(
        lk.DataError, match=r"test \(rows .*\): row 1 has no label, which only training"
    ):
        lk.load_data(source, context="y", missing="unlabelled")
    with pytest.raises(lk.DataError, match="take one of 'error', 'drop', 'model', 'unlabelled'"):
        lk.load_data(table, missing="keep")
