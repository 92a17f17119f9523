"""Draws that repeat training rows are caught, and new ones are not accused."""

import numpy as np
import pytest
from scipy import stats

import likely as lk
from likely.evaluation import energy_distance, memorisation


def test_p_values_of_new_rows_are_uniform_and_errors_are_those_of_repeats():
    rng = np.random.default_rng(0)
    found = [
        memorisation(*(rng.standard_normal((n, 3)) for n in (120, 300, 100))) for _ in range(200)
    ]
    assert stats.kstest([f.p_value for f in found], "uniform").pvalue > 1e-3
    closer = np.array([f.closer.value for f in found])
    assert abs(closer.mean() - 0.5) < 4 * closer.std() / 200**0.5
    assert 0.85 < np.mean([f.closer.stderr for f in found]) / closer.std() < 1.2
    copied = np.array([f.copied.value for f in found])  # 1/20 and up to 1/101 for the quantile
    assert 0.05 - 4 * copied.std() / 200**0.5 < copied.mean() < 0.06 + 4 * copied.std() / 200**0.5
    assert 0.7 < np.sqrt(np.mean([f.copied.stderr**2 for f in found])) / copied.std() < 1.3


@pytest.mark.parametrize("part", [1.0, 0.3])
def test_a_memoriser_is_caught_though_its_draws_pass_a_test_of_two_samples(part):
    rng = np.random.default_rng(1)
    train, held = rng.standard_normal((1000, 4)), rng.standard_normal((500, 4))
    drawn = rng.standard_normal((500, 4))
    copies = int(part * 500)
    drawn[:copies] = train[rng.integers(1000, size=copies)]
    assert abs((apart := energy_distance(drawn, held)).value) < 3 * apart.stderr
    found = memorisation(drawn, train, held)
    assert found.p_value < 1e-6
    exact = part + (1 - part) / 2  # a copy is closer than any new row
    assert abs(found.closer.value - exact) < 4 * found.closer.stderr + 0.02
    copied = part + (1 - part) / 20
    assert abs(found.copied.value - copied) < 4 * found.copied.stderr


def test_rows_that_come_in_few_kinds_are_no_copies():
    rng = np.random.default_rng(2)
    found = memorisation(*(rng.integers(0, 2, (200, 3)) for _ in range(3)))
    assert found.closer.value == 0.5  # every distance is 0
    assert found.p_value == 0.5
    with pytest.raises(lk.DataError, match="at least two"):
        memorisation(np.zeros((1, 2)), np.zeros((5, 2)), np.zeros((5, 2)))
