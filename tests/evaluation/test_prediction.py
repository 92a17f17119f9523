"""Trees that learn from draws know as much of real rows as these draws tell."""

import numpy as np
import pytest

import likely as lk
from likely.evaluation import explained

DOMAIN = lk.table(x=lk.Real(), y=lk.Positive(), kind=lk.Categorical(3))


def _rows(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = np.exp(3 * x)  # heavy tails must not count
    return np.stack([x, y, np.digitize(x, [-0.5, 0.5])], 1)


def test_draws_that_are_right_teach_and_independent_ones_do_not() -> None:
    held = _rows(300, 1)
    right = explained(_rows(600, 2), held, DOMAIN)
    assert 0.95 < right.value < 1
    mixed = np.random.default_rng(3).permuted(_rows(600, 2), axis=0)
    wrong = explained(mixed, held, DOMAIN)
    assert wrong.value < 0.1
    assert wrong.stderr is not None
    assert 0 < wrong.stderr < 0.1


def test_draws_of_one_class_only_teach_what_they_can() -> None:
    drawn = _rows(600, 2)
    drawn[:, 2] = 1
    assert 0.5 < explained(drawn, _rows(300, 1), DOMAIN).value < 0.75  # two of three columns


def test_a_single_column_has_nothing_to_be_told_from() -> None:
    with pytest.raises(lk.DataError, match="two columns"):
        explained(np.zeros((30, 1)), np.zeros((30, 1)), lk.reals(1))


def test_tables_are_evaluated_beside_real_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    data = lk.load_data(np.stack([x, x + 0.1 * rng.normal(size=400)], 1))
    model = lk.make("independent", data.domain)
    lk.fit(model, data, steps=20, seed=0)
    found = lk.evaluate(model, data)
    assert found.explained.value < 0.3
    assert found.explained_floor.value > 0.6  # from as few rows as there are to test
