"""Estimates from outcomes against dense and matrix-product results."""

import math

import pytest
import torch

from likely.core.errors import DataError, LikelyError
from likely.quantum import PAULI, POVM, Measurement, povm, random_mps
from likely.quantum.mps import product
from likely.quantum.observables import Observables, fidelity

NOISE = 0.1
STATE = random_mps(5, bond=3, seed=1)
HAMILTONIAN = [
    (0.7, {0: "z", 1: "z"}),
    (-1.2, {2: "x"}),
    (0.4, {1: "y", 3: "x", 4: "z"}),
    (2.0, {}),
]


@pytest.fixture(scope="module", params=["tetrahedral", "pauli4", "pauli6"])
def observed(request: pytest.FixtureRequest) -> Observables:
    measured = povm(request.param)
    return Observables(Measurement(STATE, measured, NOISE).sample(40_000, seed=3), measured)


def pulls(value: torch.Tensor, stderr: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    return ((value - exact) / stderr).flatten()


def test_estimates_agree_with_the_exact_values_of_the_noisy_state(observed: Observables) -> None:
    z = []
    for axis in "xyz":
        found = observed.local(axis)
        z.append(pulls(found.value, found.stderr, STATE.local(PAULI[axis], NOISE)))
    for a, b in ("xx", "zz", "xz", "zy"):
        found = observed.correlators(a, b)
        exact = STATE.correlators(PAULI[a], PAULI[b], NOISE)
        apart = ~torch.eye(5, dtype=torch.bool)
        z.append(pulls(found.value[apart], found.stderr[apart], exact[apart]))
    all_z = torch.cat(z)
    assert all_z.abs().max() < 4.5
    assert 0.6 < all_z.square().mean() < 1.5  # correlated, so the mean square is not near 1 by much


def test_the_diagonal_of_correlators_is_that_of_the_product(observed: Observables) -> None:
    same = observed.correlators("z", "z")
    torch.testing.assert_close(same.value.diagonal(), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(same.stderr.diagonal(), torch.zeros(5, dtype=torch.float64))
    mixed = observed.correlators("z", "x").value.diagonal()  # zx + xz = 0
    torch.testing.assert_close(mixed, torch.zeros(5, dtype=torch.float64))


def test_an_energy(observed: Observables) -> None:
    exact = STATE.energy(HAMILTONIAN, NOISE)
    found = observed.expectation(HAMILTONIAN)
    assert found.stderr is not None
    assert abs(found.value - exact) < 4 * found.stderr


def test_reduced_density_matrices(observed: Observables) -> None:
    for sites in ((2,), (0, 3), (3, 0)):
        found, exact = observed.reduced(*sites), STATE.reduced(sites, NOISE)
        torch.testing.assert_close(found.value, found.value.mH)
        assert abs(found.value.diagonal().sum() - 1) < 1e-12
        error = torch.view_as_real(found.stderr)
        gap = torch.view_as_real(found.value - exact).abs()
        assert (gap <= 4.5 * error + 1e-12).all()
    for sites in ((1, 1), (), (-1,), (5,), (-1, 4), (0, 1, 2)):
        with pytest.raises(LikelyError, match="one or two different sites of 0 to 4"):
            observed.reduced(*sites)


def test_operators_that_do_not_exist(observed: Observables) -> None:
    with pytest.raises(LikelyError, match="operator 'w': name x, y or z"):
        observed.local("w")
    with pytest.raises(LikelyError, match="operator 'w'"):
        observed.expectation([(1.0, {0: "w"})])


def test_standard_errors_are_those_of_repetitions() -> None:
    measured = povm("tetrahedral")
    x = Measurement(STATE, measured).sample(200 * 250, seed=5).split(250)
    z = {"local": [], "correlator": [], "energy": []}
    for part in x:
        o = Observables(part, measured)
        local, two, energy = o.local("x"), o.correlators("z", "y"), o.expectation(HAMILTONIAN)
        z["local"].append((local.value[2] - STATE.expectation({2: PAULI["x"]})) / local.stderr[2])
        exact = STATE.expectation({1: PAULI["z"], 4: PAULI["y"]})
        z["correlator"].append((two.value[1, 4] - exact) / two.stderr[1, 4])
        exact = STATE.energy(HAMILTONIAN)
        z["energy"].append((energy.value - exact) / energy.stderr)
    for name, values in z.items():
        spread = torch.tensor(values)
        assert spread.mean().abs() < 4 / math.sqrt(200), name
        assert 0.8 < spread.std() < 1.2, name  # four standard errors of 1/√400


def test_occupation_counts() -> None:
    x = torch.tensor([[0, 1], [0, 3], [2, 1], [0, 1]])
    found = Observables(x, povm("tetrahedral")).occupation
    expected = torch.tensor([[3, 0, 1, 0], [0, 3, 0, 1]]).double() / 4
    torch.testing.assert_close(found.value, expected)
    torch.testing.assert_close(found.stderr[0, 0].item(), math.sqrt(0.75 * 0.25 / 3))


@pytest.mark.parametrize(("name", "axis"), [("trine", "y"), ("computational", "x")])
def test_what_the_effects_do_not_span_has_no_value(name: str, axis: str) -> None:
    measured = povm(name)
    o = Observables(Measurement(STATE, measured).sample(1000, seed=0), measured)
    o.local("z")
    for estimate in (
        lambda: o.local(axis),
        lambda: o.correlators("z", axis),
        lambda: o.expectation([(1.0, {0: "z"}), (1.0, {1: axis})]),
    ):
        with pytest.raises(LikelyError, match="outside the span"):
            estimate()
    for estimate in (lambda: o.reduced(0), o.positivity):
        with pytest.raises(LikelyError, match="do not determine density matrices"):
            estimate()


def test_positivity_is_not_refused_to_states() -> None:
    measured = povm("tetrahedral")
    x = Measurement(STATE, measured).sample(60 * 1000, seed=7).split(1000)
    tests = [Observables(part, measured).positivity() for part in x]
    assert {test.matrices for test in tests} == {15}
    # Bonferroni: at most 5 % below 0.05; a binomial of 60 exceeds 9 with probability 1e-3.
    assert sum(test.p_value < 0.05 for test in tests) <= 9


def test_positivity_is_refused_to_what_no_state_has() -> None:
    x = torch.zeros(1000, 3, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    # A state that has outcome 0 with certainty does not exist: the largest probability is ½.
    x[:, 1] = torch.randint(4, (1000,), generator=generator)
    x[:, 2] = torch.where(torch.rand(1000, generator=generator) < 0.9, 1, 2)
    test = Observables(x, povm("tetrahedral")).positivity()
    assert test.value.value < -0.2
    assert test.p_value < 1e-6
    assert {0, 2} & {*test.sites}


def test_positivity_with_outcomes_that_are_rare() -> None:
    """None, or one, of them in half of the outcomes says little: a quarter of p-values was below 0.01."""
    spins = [(PAULI["1"] + s * PAULI[axis]) / 2 for axis in "zxy" for s in (1, -1)]
    weights = [0.998, 0.998, *[0.001] * 4]
    rare = POVM("rare", torch.stack([w * P for w, P in zip(weights, spins, strict=True)]))
    x = Measurement(product([(1, 0)] * 2), rare).sample(60 * 1000, seed=0).split(1000)
    assert sum(Observables(part, rare).positivity().p_value < 0.05 for part in x) <= 9


def test_positivity_needs_many_outcomes() -> None:
    x = Measurement(STATE, povm("tetrahedral")).sample(1000, seed=0)
    assert Observables(x, povm("tetrahedral")).positivity().matrices == 15
    with pytest.raises(LikelyError, match="999 outcomes: the test of positivity needs 1,000"):
        Observables(x[1:], povm("tetrahedral")).positivity()


def test_bad_outcomes() -> None:
    with pytest.raises(DataError, match="row 1, column 2"):
        Observables(torch.tensor([[0, 1, 2], [0, 1, 4], [0, 0, 0], [0, 0, 0]]), povm("tetrahedral"))
    with pytest.raises(DataError, match="at least 4"):
        Observables(torch.zeros(3, 2, dtype=torch.int64), povm("tetrahedral"))


def test_own_effects_span_what_they_span() -> None:
    up = (PAULI["1"] + PAULI["x"]) / 2
    along_x = POVM("x", torch.stack([up, PAULI["1"] - up]))
    o = Observables(Measurement(STATE, along_x).sample(20_000, seed=2), along_x)
    found = o.local("x")
    assert pulls(found.value, found.stderr, STATE.local(PAULI["x"])).abs().max() < 4


def test_fidelity() -> None:
    rng = torch.Generator().manual_seed(0)
    psi = torch.randn(8, dtype=torch.complex128, generator=rng)
    psi /= psi.norm()
    A = torch.randn(8, 8, dtype=torch.complex128, generator=rng)
    sigma = A + A.mH  # not positive
    sigma /= sigma.diagonal().sum()
    pure = torch.outer(psi, psi.conj())
    assert fidelity(pure, sigma) == pytest.approx((psi.conj() @ sigma @ psi).real.item(), abs=1e-12)
    p, q = torch.rand(2, 8, dtype=torch.float64, generator=rng)
    p, q = p / p.sum(), q / q.sum()
    U = torch.linalg.qr(A).Q
    rotated = [U @ torch.diag(r).to(U.dtype) @ U.mH for r in (p, q)]
    assert fidelity(rotated[0], sigma) <= 1
    # The nearest eigenvalues to 0.9, 0.3, −0.2 are 0.8, 0.2, 0.
    third = torch.diag(torch.tensor([0.9, 0.3, -0.2], dtype=torch.complex128))
    mixed = torch.diag(torch.tensor([0.5, 0.5, 0.0], dtype=torch.complex128))
    by_hand = (math.sqrt(0.5 * 0.8) + math.sqrt(0.5 * 0.2)) ** 2
    assert fidelity(mixed, third) == pytest.approx(by_hand, abs=1e-12)
    assert fidelity(*rotated) == pytest.approx((p * q).sqrt().sum().square().item(), abs=1e-10)
