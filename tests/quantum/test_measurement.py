"""Outcomes of matrix-product states: their probabilities against Born's rule, and their frequencies."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from likely.core.errors import DataError, LikelyError
from likely.quantum.chains import tfim, xxz
from likely.quantum.measurement import Measurement
from likely.quantum.mps import MPS, ghz, product, random_mps
from likely.quantum.povm import POVM, POVMS, povm

LEVEL = 1e-3  # of the χ² tests of one POVM, on all states together

RANDOM = random_mps(4, bond=3, seed=1)
STATES = {
    "complex": RANDOM,
    "real": MPS([tensor.real for tensor in RANDOM.tensors]),
    "ghz": ghz(4),
}


def outcomes(measurement):
    k = range(measurement.povm.outcomes)
    return torch.tensor(list(itertools.product(k, repeat=measurement.state.sites)))


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("name", POVMS)
@pytest.mark.parametrize("state", STATES)
def test_probabilities_are_those_of_the_dense_state(state, name, noise):
    measurement = Measurement(STATES[state], povm(name), noise)
    x, p = outcomes(measurement), measurement.probabilities()
    assert p.sum().item() == pytest.approx(1, abs=1e-13)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        log_p = measurement.log_prob(x, dtype)
        assert log_p.dtype == dtype
        torch.testing.assert_close(log_p.exp().double(), p, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("sites", "name"), [(6, "pauli6"), (8, "tetrahedral"), (8, "pauli4")])
def test_probabilities_of_more_sites(sites, name):
    measurement = Measurement(random_mps(sites, bond=6, seed=2), povm(name))
    x, p = outcomes(measurement), measurement.probabilities()
    rows = torch.randperm(len(x))[:3000]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        log_p = measurement.log_prob(x[rows], dtype)
        torch.testing.assert_close(log_p.exp().double(), p[rows], rtol=0, atol=tolerance)
        # far below the tolerance above, where most probabilities lie
        torch.testing.assert_close(log_p.double(), p[rows].log(), rtol=0, atol=1e9 * tolerance**1.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("name", "noise"), [*itertools.product(POVMS, [0.0]), ("tetrahedral", 0.3), ("pauli4", 0.1)]
)
def test_frequencies_of_outcomes(name, noise, dtype):
    n = 40_000
    for seed, state in enumerate(STATES.values()):
        measurement = Measurement(state, povm(name), noise)
        x = measurement.sample(n, seed, dtype)
        weights = measurement.povm.outcomes ** torch.arange(state.sites - 1, -1, -1)
        counts = torch.bincount((x * weights).sum(1), minlength=measurement.povm.outcomes**4)
        expected = n * measurement.probabilities()
        assert counts[expected < 1e-9].sum() == 0
        rare = expected < 5  # cells too rare for the test go together
        cells = [(c, e) for c, e in zip(counts[~rare], expected[~rare], strict=True)]
        if expected[rare].sum() > 5:
            cells.append((counts[rare].sum(), expected[rare].sum()))
        statistic = sum((c - e).item() ** 2 / e.item() for c, e in cells)
        tail = chi2.sf(statistic, len(cells) - 1)
        assert LEVEL / 2 / len(STATES) < tail < 1 - LEVEL / 2 / len(STATES)


def test_a_seed_repeats_and_chunks_do_not_matter(monkeypatch):
    measurement = Measurement(RANDOM, povm("pauli4"), 0.1)
    x = measurement.sample(50, 3)
    assert x.equal(measurement.sample(50, 3))
    assert not x.equal(measurement.sample(50, 4))
    log_p = measurement.log_prob(x)
    monkeypatch.setattr("likely.quantum.measurement.CHUNK", 7 * RANDOM.bond**2)
    torch.testing.assert_close(measurement.log_prob(x), log_p, rtol=0, atol=1e-13)
    assert measurement.sample(0, 0).shape == (0, 4)
    assert measurement.log_prob(x[:0]).shape == (0,)


def test_impossible_outcomes():
    measurement = Measurement(ghz(40), povm("computational"))
    x = measurement.sample(300, 0)
    assert (x == x[:, :1]).all()
    assert 90 < x[:, 0].sum() < 210
    assert measurement.log_prob(x).tolist() == pytest.approx([-math.log(2)] * 300, abs=1e-12)
    x[:, 20] = 1 - x[:, 20]
    assert (measurement.log_prob(x) == -math.inf).all()
    noisy = Measurement(ghz(40), povm("computational"), 0.1)
    flipped = [math.log(0.5 * 0.95**39 * 0.05)] * 300  # the other branch is 10⁻⁴⁷ times as probable
    assert noisy.log_prob(x).tolist() == pytest.approx(flipped, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("make", "name"), [(xxz, "computational"), (tfim, "pauli6")])
def test_what_symmetry_forbids_is_impossible(make, name, dtype):
    """Amplitudes that cancel do so up to rounding only."""
    pytest.importorskip("tenpy")
    measurement = Measurement(make(6).state, povm(name))
    p, log_p = measurement.probabilities(), measurement.log_prob(outcomes(measurement), dtype)
    forbidden = p < 1e-14
    assert forbidden.sum() >= 32
    assert (log_p[forbidden] == -math.inf).all()
    assert log_p[~forbidden].isfinite().all()


def test_rare_outcomes_are_possible():
    tilted = product([(1, 1e-8)] * 3)
    x, p = torch.tensor([[1, 1, 1]]), math.log(1e-48)
    assert Measurement(tilted, povm("computational")).log_prob(x).item() == pytest.approx(p)
    noisy = Measurement(product([(1, 0)] * 3), povm("computational"), 1e-9)
    assert noisy.log_prob(x).item() == pytest.approx(3 * math.log(0.5e-9))
    # Of an effect that is itself small.
    small = POVM("small", [np.diag([1, 1 - 1e-30]), np.diag([0, 1e-30])])
    assert Measurement(ghz(2), small).log_prob(x[:, :2]).item() == pytest.approx(
        math.log(0.5e-60), abs=1e-9
    )


def test_pure_and_mixed_environments_agree():
    state = random_mps(12, bond=7, seed=6)
    measurement = Measurement(state, povm("tetrahedral"))
    x = measurement.sample(200, 0)
    mixed = measurement._log_prob_mixed(x, torch.float64)
    torch.testing.assert_close(measurement.log_prob(x), mixed, rtol=0, atol=1e-11)


def test_fully_depolarised_outcomes_are_independent():
    measurement = Measurement(RANDOM, povm("pauli4"), 1.0)
    p = torch.tensor([1 / 6, 1 / 6, 1 / 6, 1 / 2], dtype=torch.float64)
    x = outcomes(measurement)
    torch.testing.assert_close(measurement.log_prob(x), p.log()[x].sum(1), rtol=0, atol=1e-12)


def test_as_a_target():
    measurement = Measurement(RANDOM, povm("tetrahedral"), 0.05)
    target = measurement.target("four spins")
    x = target.sample(100, 5)
    assert target.domain == povm("tetrahedral").domain(4)
    assert x.equal(measurement.sample(100, 5))
    assert x.equal(target.sample(100, 5))
    log_p = target.log_prob(x)
    torch.testing.assert_close(log_p, measurement.log_prob(x))
    x[0, 0], x[1, 1] = 4, -1
    torch.testing.assert_close(target.log_prob(x)[2:], log_p[2:])
    assert (target.log_prob(x)[:2] == -math.inf).all()


def test_mistakes_with_measurements():
    measurement = Measurement(RANDOM, povm("tetrahedral"))
    with pytest.raises(DataError, match="row 1, column 2: 4 is not"):
        measurement.log_prob(torch.tensor([[0, 1, 2, 3], [0, 1, 4, 3]]))
    with pytest.raises(DataError, match="shape"):
        measurement.log_prob(torch.zeros(3, 5, dtype=torch.int64))
    with pytest.raises(LikelyError, match="too many"):
        Measurement(ghz(13), povm("tetrahedral")).probabilities()
    with pytest.raises(LikelyError, match="0 … 1"):
        Measurement(RANDOM, povm("tetrahedral"), -1)
