"""Matrix-product states against state vectors, and vectors against density matrices."""

import itertools
import math

import numpy as np
import pytest
import torch

from likely.core.errors import DataError, LikelyError
from likely.quantum import dense
from likely.quantum.mps import MPS, from_dense, ghz, product, random_mps
from likely.quantum.povm import PAULI, POVMS, povm

X, Y, Z = (PAULI[axis] for axis in "xyz")


def real(state):
    return MPS([tensor.real for tensor in state.tensors])


STATES = {
    "complex": random_mps(5, bond=5, seed=1),
    "real": real(random_mps(5, bond=3, seed=2)),
    "ghz": ghz(5),
    "product": product([(1, 0), (1, 1), (1, -1j), (0, 1), (3, 4j)]),
}


def mean(rho, factors):
    return torch.trace(rho @ dense.operator(factors, 5)).item()


def test_bits_and_signs():
    state = product([(1, 0), (0, 1), (1, 1), (1, 1j)])
    assert state.local(Z).tolist() == pytest.approx([1, -1, 0, 0], abs=1e-14)
    assert state.local(X).tolist() == pytest.approx([0, 0, 1, 0], abs=1e-14)
    assert state.local(Y).tolist() == pytest.approx([0, 0, 0, 1], abs=1e-14)
    first = product([(0, 1), (1, 0), (1, 0)]).dense()
    assert first.abs().argmax() == 4  # site 0 is the most significant bit


def test_gauge_and_norm_are_brought_to_a_right_canonical_form():
    rng = np.random.default_rng(0)
    shapes = [(1, 2, 3), (3, 2, 5), (5, 2, 4), (4, 2, 1)]
    tensors = [rng.normal(size=shape) for shape in shapes]
    vector = np.einsum("asb,btc,cud,dve->stuv", *tensors).flatten()
    state = MPS([1e3 * tensor for tensor in tensors])
    expected = torch.from_numpy(vector / np.linalg.norm(vector))
    torch.testing.assert_close(state.dense(), expected, rtol=0, atol=1e-14)
    for tensor in state.tensors:
        unit = torch.einsum("asb,csb->ac", tensor, tensor.conj())
        torch.testing.assert_close(unit, torch.eye(len(unit), dtype=unit.dtype), rtol=0, atol=1e-14)
        assert tensor.dtype == torch.float64


def test_long_chains_neither_overflow_nor_vanish():
    tensors = [1e-30 * tensor for tensor in ghz(300).tensors]
    state = MPS(tensors)
    assert state.overlap(ghz(300)) == pytest.approx(1, abs=1e-12)
    assert state.expectation({0: Z, 299: Z}) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", STATES)
def test_vectors_and_back(name):
    state = STATES[name]
    vector = state.dense()
    assert vector.norm().item() == pytest.approx(1, abs=1e-14)
    again = from_dense(vector.numpy())
    assert again.bond <= 4
    torch.testing.assert_close(again.dense(), vector, rtol=0, atol=1e-14)
    assert abs(state.overlap(again)) == pytest.approx(1, abs=1e-14)


def test_overlap_conjugates_the_other_state():
    a, b = STATES["complex"], random_mps(5, bond=2, seed=4)
    expected = torch.linalg.vecdot(b.dense(), a.dense()).item()
    assert a.overlap(b) == pytest.approx(expected, abs=1e-14)
    expected = torch.linalg.vecdot(STATES["real"].dense().to(torch.complex128), a.dense()).item()
    assert a.overlap(STATES["real"]) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_expectations_and_correlators_are_those_of_the_dense_state(name, noise):
    state = STATES[name]
    rho = dense.density_matrix(state.dense(), noise)
    tilted = 0.3 * PAULI["1"] + X - 0.5 * Y + 2 * Z
    for factors in (
        {},
        {2: X},
        {0: Y, 4: tilted},
        {1: X, 2: Y, 3: Z},
        dict.fromkeys(range(5), tilted),
    ):
        assert state.expectation(factors, noise) == pytest.approx(
            mean(rho, factors).real, abs=1e-13
        )
    for a, b in ((Z, Z), (X, Y), (tilted, X)):
        values = state.correlators(a, b, noise)
        for i, j in itertools.product(range(5), repeat=2):
            factors = {i: a @ b} if i == j else {i: a, j: b}
            assert values[i, j].item() == pytest.approx(mean(rho, factors).real, abs=1e-13)
    for sites in ([3], [1, 4], [4, 1], [0, 2, 3]):
        matrix = state.reduced(sites, noise)
        keep = [5 * row + site for row in (0, 1) for site in sites]
        letters = list(range(10))
        for site in set(range(5)) - set(sites):
            letters[5 + site] = site
        expected = torch.einsum(rho.reshape([2] * 10), letters, [letters[k] for k in keep])
        torch.testing.assert_close(matrix, expected.reshape(matrix.shape), rtol=0, atol=1e-13)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_energies_are_those_of_the_dense_state(noise):
    terms = [(0.7, {0: "z", 1: "z"}), (-1.2, {2: "x"}), (0.4, {1: "y", 3: X, 4: "z"}), (2.0, {})]
    state = STATES["complex"]
    rho = dense.density_matrix(state.dense(), noise)
    exact = torch.trace(rho @ dense.hamiltonian(terms, 5)).real.item()
    assert state.energy(terms, noise) == pytest.approx(exact, abs=1e-13)


def test_noise_of_the_dense_state_is_that_of_its_kraus_operators():
    p = 0.3
    rho = torch.outer(STATES["complex"].dense(), STATES["complex"].dense().conj())
    expected = rho
    for site in range(5):
        kraus = [dense.operator({site: PAULI[axis]}, 5) for axis in "xyz"]
        expected = (1 - 3 * p / 4) * expected + p / 4 * sum(k @ expected @ k for k in kraus)
    noisy = dense.density_matrix(STATES["complex"].dense(), p)
    torch.testing.assert_close(noisy, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", POVMS)
def test_born_rule_on_all_outcomes_and_its_inverse(name):
    measured = povm(name)
    vector = random_mps(3, seed=5).dense()
    p = dense.probabilities(vector, measured)
    outcomes = list(itertools.product(range(measured.outcomes), repeat=3))
    for probability, outcome in zip(p.tolist(), outcomes, strict=True):
        effect = dense.operator(dict(enumerate(measured.effects[list(outcome)])), 3)
        assert probability == pytest.approx(
            (vector.conj() @ effect @ vector).real.item(), abs=1e-15
        )
    rho = dense.reconstructed(p, measured)
    expected = torch.outer(vector, vector.conj())
    assert torch.allclose(rho, expected, rtol=0, atol=1e-13) == measured.complete
    projected = dense.probabilities(rho, measured)  # the same outcomes in any case
    torch.testing.assert_close(projected, p, rtol=0, atol=1e-14)


def test_ghz_correlations():
    state = ghz(30)
    assert state.bond == 2
    torch.testing.assert_close(state.correlators(Z, Z), torch.ones(30, 30, dtype=torch.float64))
    assert state.local(Z).abs().max() < 1e-14
    assert state.expectation(dict.fromkeys(range(30), X)) == pytest.approx(1, abs=1e-13)
    assert state.expectation(dict.fromkeys(range(30), X), 0.1) == pytest.approx(0.9**30, abs=1e-13)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([], "at least one tensor"),
        ([np.ones((1, 2, 2)), np.ones((3, 2, 1))], r"site 1.*\(3, 2, 1\).*\(2, 2, right\)"),
        ([np.ones((1, 2, 2)), np.ones((2, 2, 2))], "last bond has length 2"),
        ([np.ones((1, 3, 1))], "site 0"),
        ([np.full((1, 2, 1), math.nan)], "not finite"),
        ([np.zeros((1, 2, 1)), np.ones((1, 2, 1))], "zero"),
    ],
)
def test_what_is_no_state_is_refused(tensors, message):
    with pytest.raises(DataError, match=message):
        MPS(tensors)


def test_other_mistakes_with_states():
    with pytest.raises(LikelyError, match="at most 20 sites"):
        ghz(21).dense()
    with pytest.raises(LikelyError, match="site 3: there are sites 0 to 2"):
        ghz(3).expectation({3: X})
    with pytest.raises(LikelyError, match="0 … 1"):
        ghz(3).expectation({1: X}, noise=2)
    with pytest.raises(LikelyError, match="3 and 4 sites"):
        ghz(3).overlap(ghz(4))
    with pytest.raises(LikelyError, match="not all different"):
        ghz(3).reduced([1, 1])
    with pytest.raises(LikelyError, match="at least 2 sites"):
        random_mps(1)
    with pytest.raises(LikelyError, match="bond 0"):
        random_mps(3, bond=0)
    for vector in (np.ones(6), np.ones(1), np.ones((2, 2))):
        with pytest.raises(DataError, match="2, 4, 8"):
            from_dense(vector)
    with pytest.raises(DataError, match="not finite"):
        from_dense([1, math.nan])
    with pytest.raises(DataError, match="zero"):
        from_dense(np.zeros(4))
    with pytest.raises(LikelyError, match="too many"):
        dense.density_matrix(ghz(13).dense())
    with pytest.raises(LikelyError, match="too many"):
        dense.probabilities(ghz(10).dense(), povm("pauli6"))
    with pytest.raises(LikelyError, match="too many"):  # before it takes the memory
        dense.hamiltonian([(1.0, {0: "z"})], 40)
    with pytest.raises(LikelyError, match="not a power"):
        dense.reconstructed(torch.ones(5) / 5, povm("pauli4"))
