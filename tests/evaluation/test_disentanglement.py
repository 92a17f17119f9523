"""Measures of disentanglement on codes whose values are known."""

import math

import numpy as np
import pytest

import likely as lk
from likely.evaluation import (
    active_units,
    attribute_predictability,
    dci,
    factor_vae_score,
    mutual_information_gap,
)

FACTORS = np.indices((3, 4, 8)).reshape(3, -1).T.repeat(6, 0)  # each combination six times
ORACLE = (FACTORS - FACTORS.mean(0)) / FACTORS.std(0)
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(len(ORACLE), 3))


def test_codes_that_are_the_factors():
    assert mutual_information_gap(ORACLE, FACTORS) == pytest.approx(1, abs=1e-12)
    assert dci(ORACLE, FACTORS) == pytest.approx((1, 1, 1), abs=0.01)
    assert factor_vae_score(ORACLE, FACTORS, votes=300).value == 1
    assert attribute_predictability(ORACLE[:, :1] > 0, FACTORS[:, :1] > 1) == pytest.approx(1)
    assert attribute_predictability(ORACLE, FACTORS) > 0.2


def test_factors_that_are_each_in_two_variables():
    twice = np.concatenate([ORACLE, -ORACLE], 1)
    assert mutual_information_gap(twice, FACTORS) == pytest.approx(0, abs=1e-12)
    assert attribute_predictability(twice, FACTORS) == pytest.approx(0, abs=0.02)
    found = dci(twice, FACTORS)
    assert found.disentanglement == pytest.approx(1, abs=0.01)
    # Shared evenly, an importance has the entropy log 2 of at most log 6.
    assert found.completeness == pytest.approx(1 - math.log(2) / math.log(6), abs=0.1)


def test_two_factors_that_are_rotated_into_each_other():
    factors = np.indices((8, 8)).reshape(2, -1).T
    mixed = np.stack([factors.sum(1), factors[:, 0] - factors[:, 1]], 1)
    assert mutual_information_gap(factors, factors) == pytest.approx(1, abs=1e-12)
    assert mutual_information_gap(mixed, factors) < 0.02
    # I(sum; factor) = H(sum) − log 8 exactly, as the 15 sums fall into different bins.
    p = np.bincount(factors.sum(1)) / 64
    share = -(p * np.log(p)).sum() / math.log(8) - 1
    one = np.stack([factors.sum(1), np.zeros(64)], 1)
    assert mutual_information_gap(one, factors) == pytest.approx(share, abs=1e-12)


def test_codes_that_know_nothing():
    assert mutual_information_gap(NOISE, FACTORS) < 0.05
    assert attribute_predictability(NOISE, FACTORS) < 0.1
    assert factor_vae_score(NOISE, FACTORS, votes=600).value < 0.6
    assert dci(NOISE, FACTORS).disentanglement < 0.3


def test_constant_codes_score_zero():
    constant = np.ones((len(FACTORS), 2))
    assert mutual_information_gap(constant, FACTORS) == 0
    assert attribute_predictability(constant, FACTORS) == 0
    assert factor_vae_score(constant, FACTORS).value == 0
    found = dci(constant, FACTORS)
    assert (found.disentanglement, found.completeness) == (0, 0)
    assert active_units(constant) == 0


def test_order_and_signs_of_variables_do_not_matter():
    codes = ORACLE + 0.8 * NOISE
    other = codes[:, [2, 0, 1]] * [1, -1, 1]
    first, second = (mutual_information_gap(z, FACTORS) for z in (codes, other))
    assert first == pytest.approx(second, abs=0.01)  # the ends of bins belong to one side
    scores = [factor_vae_score(z, FACTORS, votes=200) for z in (codes, other)]
    assert scores[0] == scores[1]
    lines = [attribute_predictability(z, FACTORS) for z in (codes, other)]
    assert lines[0] == pytest.approx(lines[1], abs=0.02)


def test_a_single_variable_and_factors_that_do_not_vary():
    labels = np.array([["a", "x"], ["b", "x"]] * 50)
    codes = (labels[:, :1] == "a").astype(float)
    assert mutual_information_gap(codes, labels) == pytest.approx(1)
    assert factor_vae_score(codes, labels, votes=10).value == 1
    assert dci(codes, labels) == pytest.approx((1, 1, 1))
    rare = (np.arange(100) == 3)[:, None]  # in one of the halves only
    scores = [attribute_predictability(codes, rare, seed=seed) for seed in range(4)]
    assert 0 in scores
    with pytest.raises(lk.DataError, match="none varies"):
        mutual_information_gap(codes, labels[:, 1:])
    with pytest.raises(lk.DataError, match="factors of shape"):
        dci(codes[:5], labels)
    with pytest.raises(lk.DataError, match="finite"):
        active_units([[math.nan]])


def test_active_units_are_those_that_vary_with_the_row():
    assert active_units(ORACLE * [1, 0.2, 0.05]) == 2


def test_labels_that_a_model_does_not_see_are_factors():
    data = lk.load_data("digits", context="label")
    options = {"latent": 3, "network": "mlp", "hidden": (16,), "seed": 0}
    model = lk.make("ae", data.domain, **options)
    lk.fit(model, lk.load_data("digits"), steps=300)
    rows = len(data.test)
    found = lk.evaluate(model, data, rows=rows)
    batch = data.test.rows(slice(None))
    codes = model.encode(batch.x).detach()
    assert found.active_units == active_units(codes) > 0
    gap = mutual_information_gap(codes, batch.context.reshape(rows, 1))
    assert found.mutual_information_gap == pytest.approx(gap, abs=0.02)  # bins of float32 codes
    conditional = lk.make("ae", data.domain, context=data.context, **options)
    found = lk.evaluate(conditional, data, rows=50)
    assert found.active_units is not None
    assert found.mutual_information_gap is None
