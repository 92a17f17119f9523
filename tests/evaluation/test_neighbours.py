import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

import likely as lk
from likely.evaluation import energy_distance, neighbours


def radii(x, k) -> np.ndarray:
    return NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, k]


def brute_force(x, y, k) -> tuple[float, ...]:
    of_x, of_y = radii(x, k), radii(y, k)
    distance = np.linalg.norm(x[:, None] - y, axis=2)
    inside = [[distance[i, j] <= of_x[i] for j in range(len(y))] for i in range(len(x))]
    precision = np.mean([any(inside[i][j] for i in range(len(x))) for j in range(len(y))])
    recall = np.mean([any(distance[i, j] <= of_y[j] for j in range(len(y))) for i in range(len(x))])
    return precision, recall, np.sum(inside) / k / len(y), np.mean([any(row) for row in inside])


@pytest.mark.parametrize("k", [1, 3, 5])
def test_against_brute_force(k):
    rng = np.random.default_rng(k)
    x, y = rng.standard_normal((40, 3)), 0.7 * rng.standard_normal((31, 3)) + 0.3
    ours = neighbours(x, y, k=k)
    assert [figure.value for figure in ours] == pytest.approx(brute_force(x, y, k))


def test_discrete_rows_count_neighbours_that_are_just_as_far():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 2, (60, 6)), rng.integers(0, 2, (50, 6))
    moved = 1e4 + np.float64(x), 1e4 + np.float64(y)
    ours = [figure.value for figure in neighbours(*moved, k=3)]
    assert ours == pytest.approx(brute_force(1.0 * x, 1.0 * y, 3))


def test_what_they_tell():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((500, 2))
    same = neighbours(x, rng.standard_normal((500, 2)))
    assert abs(same.sample_density.value - 1) < 4 * same.sample_density.stderr
    assert abs(same.coverage.value - (1 - 2**-5)) < 4 * same.coverage.stderr
    narrow = neighbours(x, 0.2 * rng.standard_normal((500, 2)))
    assert narrow.precision.value > 0.99
    assert narrow.recall.value < 0.4
    assert narrow.coverage.value < 0.4
    wide = neighbours(x, 5 * rng.standard_normal((500, 2)))
    assert wide.precision.value < 0.3
    assert wide.recall.value > 0.9


@pytest.mark.parametrize("paired", [False, True])
def test_errors_against_the_spread_of_repeated_draws(paired):
    rng = np.random.default_rng(3)
    values, errors = [], []
    for seed in range(60):
        x = rng.standard_normal((150, 2))
        y = 1.3 * rng.standard_normal((150, 2)) + 0.5
        if paired:
            y = x + 0.5 * y
        figures = neighbours(x, y, paired=paired, seed=seed)
        values.append([figure.value for figure in figures])
        errors.append([figure.stderr for figure in figures])
    ratio = np.mean(errors, 0) / np.std(values, 0)  # the spread itself is known to 9 %
    assert ((ratio > 0.7) & (ratio < 1.6)).all(), ratio


def test_too_few_rows():
    with pytest.raises(lk.DataError, match="5 neighbours need 12 of each"):
        neighbours(np.zeros((11, 2)), np.zeros((19, 2)))


def test_one_far_row_and_offsets_change_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 5
    before = neighbours(x, y)
    assert before.precision.value < 0.2
    y[0] = 1e7
    assert neighbours(x, y).precision.value < 0.2
    far = 1e6 + 0.1 * rng.normal(size=(300, 2))
    assert energy_distance(far, far + 0.3).value == pytest.approx(
        energy_distance(far - 1e6, far - 1e6 + 0.3).value, rel=1e-6
    )
