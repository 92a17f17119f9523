import math

import numpy as np
import pytest
import torch
from scipy import stats

import likely as lk
from likely.evaluation import marginal_distances, pair_distances

DOMAIN = lk.table(
    a=lk.Real(),
    n=lk.Integer(6),
    phi=lk.Periodic(-1, 3),
    kind=lk.Categorical(["e", "mu", "tau"]),
    one=lk.Constant(1.0),
    spin=lk.Spin(),
)


def rows(n: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(n)
    columns = [
        a + shift,
        rng.binomial(5, 1 / (1 + np.exp(-a + shift))),
        (0.6 * rng.standard_normal(n) + 2.9 + shift + 1) % 4 - 1,  # across the seam
        (rng.random(n) < 0.4 + shift / 2) + (a > 0.5),
        np.ones(n),
        2 * (rng.random(n) < 0.3 + shift / 2) - 1,
    ]
    return torch.from_numpy(np.stack(columns, 1))


def entry(frame, measure: str, *columns: str) -> lk.Figure:
    names = ["column"] if len(columns) == 1 else ["first", "second"]
    chosen = (frame["measure"] == measure) & (frame[names] == list(columns)).all(axis=1)
    (row,) = frame[chosen].to_dict("records")
    return lk.Figure(row["value"], row["stderr"])


@pytest.mark.parametrize("weighted", [False, True])
def test_columns_against_scipy(weighted):
    x, y = rows(300, 0), rows(200, 1, 0.3)
    rng = np.random.default_rng(2)
    w, v = (rng.integers(1, 5, n) if weighted else np.ones(n, int) for n in (300, 200))
    frame = marginal_distances(x, y, DOMAIN, weight_x=w, weight_y=v)
    assert set(frame["column"]) == set(DOMAIN.names) - {"one"}
    repeated = [z.numpy().repeat(u, axis=0) for z, u in ((x, w), (y, v))]
    for i, name in ((0, "a"), (1, "n")):
        p, q = (z[:, i] for z in repeated)
        wasserstein = stats.wasserstein_distance(p, q) / p.std()
        assert entry(frame, "Wasserstein-1", name).value == pytest.approx(wasserstein)
        ks = stats.ks_2samp(p, q).statistic
        assert entry(frame, "Kolmogorov–Smirnov", name).value == pytest.approx(ks)
    for i, name in ((3, "kind"), (5, "spin")):
        p, q = (np.bincount(np.int64(z[:, i]) + 1, minlength=4) / len(z) for z in repeated)
        variation = entry(frame, "total variation", name)
        assert variation.value == pytest.approx(np.abs(p - q).sum() / 2)


def test_circles_do_not_know_where_they_begin():
    rng = np.random.default_rng(3)
    x, y = (rng.vonmises(mean, 8, n) for mean, n in ((0, 300), (0.3, 200)))  # far from the cut
    frames = []
    for turn in (0.0, 3.0, -2.0):
        moved = [(z[:, None] + turn + np.pi) % (2 * np.pi) - np.pi for z in (x, y)]
        domain = lk.table(phi=lk.Periodic(-math.pi, math.pi))
        frames.append(marginal_distances(*moved, domain))
        np.testing.assert_allclose(frames[-1]["value"], frames[0]["value"])
    line = stats.wasserstein_distance(x, y) / x.std()
    assert entry(frames[0], "Wasserstein-1", "phi").value == pytest.approx(line)
    far = [np.full((5, 1), value) for value in (0.1, 3.9)]  # 0.2 apart across the seam of 4
    domain = lk.table(phi=lk.Periodic(0, 4))
    assert marginal_distances(*far, domain)["value"].tolist() == pytest.approx([0.2, 1])
    # Half the mass has to go a quarter of the way round, wherever it starts.
    x, y = np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]])
    frame = marginal_distances(x, y, domain)
    assert entry(frame, "Wasserstein-1", "phi").value == pytest.approx(1 / x.std())


def test_pairs_against_scipy_and_a_table():
    x, y = rows(400, 4).numpy(), rows(300, 5, 0.3).numpy()
    frame = pair_distances(x, y, DOMAIN)
    correlation = entry(frame, "correlation", "a", "n")
    expected = [stats.spearmanr(z[:, 0], z[:, 1]).statistic for z in (y, x)]
    assert correlation.value == pytest.approx(expected[0] - expected[1])
    tables = [np.zeros((3, 2)) for _ in "xy"]
    for table, z in zip(tables, (x, y), strict=True):
        np.add.at(table, (np.int64(z[:, 3]), np.int64(z[:, 5] > 0)), 1 / len(z))
    variation = entry(frame, "total variation", "kind", "spin").value
    assert variation == pytest.approx(np.abs(tables[0] - tables[1]).sum() / 2)
    edges = np.quantile(x[:, 0], [0.2, 0.4, 0.6, 0.8], method="median_unbiased")
    tables = [np.zeros((5, 3)) for _ in "xy"]
    for table, z in zip(tables, (x, y), strict=True):
        np.add.at(table, (np.searchsorted(edges, z[:, 0]), np.int64(z[:, 3])), 1 / len(z))
    variation = entry(frame, "total variation", "a", "kind").value
    assert variation == pytest.approx(np.abs(tables[0] - tables[1]).sum() / 2)
    assert (frame["measure"] == "correlation").sum() == 1
    assert (frame["measure"] == "total variation").sum() == 10


def test_weights_of_pairs_are_numbers_of_copies():
    x, y = rows(100, 6), rows(80, 7)
    w = np.random.default_rng(8).integers(1, 4, 100)
    weighted = pair_distances(x, y, DOMAIN, weight_x=w)
    copied = pair_distances(np.repeat(x.numpy(), w, axis=0), y, DOMAIN)
    np.testing.assert_allclose(weighted["value"], copied["value"], atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_errors_against_the_spread_of_repeated_draws(shift):
    values, errors = [], []
    for seed in range(80):
        x, y = rows(200, 2 * seed), rows(200, 2 * seed + 1, shift)
        frames = [of(x, y, DOMAIN, seed=seed) for of in (marginal_distances, pair_distances)]
        values.append(np.concatenate([frame["value"] for frame in frames]))
        errors.append(np.concatenate([frame["stderr"] for frame in frames]))
    ratio = np.mean(errors, 0) / np.std(values, 0)
    assert ((ratio > 0.7) & (ratio < 2)).all(), ratio


def test_many_categories_and_refusals():
    domain = lk.table(lk.Categorical(1000), lk.Real())
    rng = np.random.default_rng(9)
    x, y = (np.stack([rng.integers(0, 1000, 500), rng.random(500)], 1) for _ in "xy")
    assert 0 < pair_distances(x, y, domain)["value"].item() < 1
    with pytest.raises(lk.DataError, match="rows of shape"):
        marginal_distances(x[:, :1], y, domain)
    named = lk.table(a=lk.Categorical(2), b=lk.Categorical(2))
    frame = pair_distances([[0, 0], [1, 1]], [[0, 1], [1, 0]], named)
    assert frame.to_dict("records") == [
        {"first": "a", "second": "b", "measure": "total variation", "value": 1, "stderr": 0}
    ]
    assert pair_distances(x[:, 1:], y[:, 1:], lk.reals(1)).empty
