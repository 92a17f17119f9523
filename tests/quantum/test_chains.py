"""Ground states by DMRG, free fermions and exact diagonalisation: each tests the others."""

import builtins
import json
import logging
import math
import warnings

import pytest
import torch

from likely.core.errors import LikelyError
from likely.quantum import dense
from likely.quantum.chains import ghz, tfim, xxz
from likely.quantum.free_fermions import FreeFermions
from likely.quantum.measurement import Measurement
from likely.quantum.povm import PAULI, povm

X, Z = PAULI["x"], PAULI["z"]
SIGNS = [(1, 1), (1, 0.4), (-1, 0.7), (-0.5, -2), (1, -1), (0, 1)]


@pytest.fixture(scope="module")
def critical():
    return tfim(50)


def bonds(sites, periodic):
    return [(i, (i + 1) % sites) for i in range(sites if periodic else sites - 1)]


def ising(sites, coupling, field, periodic):
    """H, written out independently of the chain's own list of terms."""
    H = sum(-coupling * dense.operator({i: Z}, sites) @ dense.operator({j: Z}, sites)
            for i, j in bonds(sites, periodic))  # fmt: skip
    return H + sum(-field * dense.operator({i: X}, sites) for i in range(sites))


def lowest(H, Q, value):
    """Levels and first eigenvector of H where the conserved Q has a value."""
    outside = Q - value * torch.eye(len(H))
    return torch.linalg.eigh(H + 100 * outside @ outside)


def flips(sites):
    return dense.operator(dict.fromkeys(range(sites), X), sites)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(("coupling", "field"), SIGNS)
@pytest.mark.parametrize("sites", [2, 3, 6])
def test_free_fermions_against_exact_diagonalisation(sites, coupling, field, periodic):
    H, P = ising(sites, coupling, field, periodic), flips(sites)
    energies = []
    for parity in (1, -1):
        values, vectors = lowest(H, P, parity)
        free = FreeFermions(sites, coupling, field, periodic, parity)
        energies.append(free.energy)
        assert free.energy == pytest.approx(values[0].item(), abs=1e-11)
        if values[1] - values[0] < 1e-6:
            continue  # one of several states
        psi = vectors[:, 0]
        for axis in "xyz":
            matrix = free.correlators(axis)
            for i in range(sites):
                for j in range(i + 1, sites):
                    pair = dense.operator({i: PAULI[axis], j: PAULI[axis]}, sites)
                    expected = (psi.conj() @ pair @ psi).real.item()
                    assert matrix[i, j] == pytest.approx(expected, abs=1e-10)
                    assert matrix[j, i] == matrix[i, j]
            assert (matrix.diagonal() == 1).all()
        for i, mean in enumerate(free.local()):
            expected = (psi.conj() @ dense.operator({i: X}, sites) @ psi).real.item()
            assert mean == pytest.approx(expected, abs=1e-10)
    assert FreeFermions(sites, coupling, field, periodic).energy == min(energies)


def test_eight_sites_by_three_ways():
    free, chain = FreeFermions(8, 1, 0.8, True), tfim(8, 1, 0.8, True)
    values, vectors = lowest(ising(8, 1, 0.8, True), flips(8), 1)
    assert chain.energy == pytest.approx(values[0].item(), abs=1e-11)
    assert free.energy == pytest.approx(values[0].item(), abs=1e-11)
    fidelity = torch.linalg.vecdot(vectors[:, 0], chain.state.dense().to(vectors.dtype)).abs()
    assert fidelity.item() == pytest.approx(1, abs=1e-11)


def test_limits_of_the_chain():
    """Free spins, a classical magnet, and the infinite ring at its critical point, −4/π a site."""
    free = FreeFermions(40, 0, 2.5)
    assert free.energy == pytest.approx(-100, abs=1e-11)
    assert free.local().tolist() == pytest.approx([1] * 40, abs=1e-12)
    assert FreeFermions(40, 1, 0).energy == pytest.approx(-39, abs=1e-12)
    assert FreeFermions(41, -1, 0, periodic=True).energy == pytest.approx(-39, abs=1e-12)
    exact = -2 / math.sin(math.pi / (2 * 400))  # Σ over momenta in closed form
    assert FreeFermions(400, periodic=True).energy == pytest.approx(exact, abs=1e-9)
    with pytest.raises(LikelyError, match="at least 2 sites"):
        FreeFermions(1)
    with pytest.raises(LikelyError, match="parity 0"):
        FreeFermions(4, parity=0)
    with pytest.raises(LikelyError, match="field nan"):
        FreeFermions(4, 1, math.nan)


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize(
    ("sites", "coupling", "field", "periodic"),
    [
        (2, 1, 0.7, True),
        (3, 1, 1, True),
        pytest.param(20, 1, 1, False, marks=pytest.mark.slow),
        pytest.param(20, -300, -200, False, marks=pytest.mark.slow),
        (24, 1, 0.05, False),  # the sectors differ by 10⁻³¹ in energy
        (12, 1, 0, False),
        (12, 0, -1, False),
    ],
)
def test_dmrg_against_free_fermions(sites, coupling, field, periodic, parity):
    chain = tfim(sites, coupling, field, periodic, parity)
    free = FreeFermions(sites, coupling, field, periodic, parity)
    scale = max(abs(coupling), abs(field))
    assert chain.energy == pytest.approx(free.energy, abs=1e-10 * scale)
    assert chain.state.expectation(dict.fromkeys(range(sites), X)) == pytest.approx(
        parity, abs=1e-11
    )
    assert chain.parameters["parity"] == parity
    if 0 in (coupling, field) and chain.energy > FreeFermions(sites, coupling, field).energy + 1e-6:
        return  # one of several states
    local = chain.state.local(X)
    assert local.tolist() == pytest.approx(free.local().tolist(), abs=1e-7)
    for axis in "xyz":
        correlators = chain.state.correlators(PAULI[axis], PAULI[axis])
        expected = torch.from_numpy(free.correlators(axis))
        torch.testing.assert_close(correlators, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("parity", [1, -1])
def test_a_frustrated_ring(parity):
    """An odd number of antiferromagnetic bonds; the lowest level of one sector is degenerate."""
    chain, free = (make(9, -0.02, 0.01, True, parity) for make in (tfim, FreeFermions))
    values, _ = lowest(ising(9, -0.02, 0.01, True), flips(9), parity)
    assert chain.energy == pytest.approx(values[0].item(), abs=1e-12)
    assert free.energy == pytest.approx(values[0].item(), abs=1e-12)


def test_the_parity_of_the_ground_state_is_the_default():
    for sites, field, parity in ((5, 1, 1), (5, -1, -1), (6, -1, 1), (4, 0, 1)):
        chain = tfim(sites, 1, field)
        assert chain.parameters["parity"] == parity
        assert chain.energy == pytest.approx(FreeFermions(sites, 1, field).energy, abs=1e-11)


@pytest.mark.slow
def test_the_critical_chain_of_fifty_sites(critical):
    assert critical.energy == pytest.approx(-63.301189155, abs=1e-9)
    assert critical.energy == pytest.approx(FreeFermions(50).energy, abs=1e-9)
    assert critical.state.tensors[20].dtype == torch.float64
    assert critical.state.bond <= 40
    assert critical.state.local(X)[25].item() == pytest.approx(0.64655, abs=1e-5)
    expected = torch.from_numpy(FreeFermions(50).correlators("z"))
    torch.testing.assert_close(critical.state.correlators(Z, Z), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_entropy_of_its_tetrahedral_outcomes(critical):
    """62.582 nats; with the field's sign or the axes the other way round it is another."""
    measurement = Measurement(critical.state, povm("tetrahedral"))
    log_p = measurement.log_prob(measurement.sample(30_000, 0))
    error = log_p.std().item() / math.sqrt(30_000)
    assert error < 0.02
    assert -log_p.mean().item() == pytest.approx(62.582, abs=3 * math.hypot(error, 0.006))


@pytest.mark.slow
def test_energy_from_outcomes_through_the_dual_frame(critical):
    measured = povm("tetrahedral")
    x = Measurement(critical.state, measured, 0.1).sample(20_000, 1)
    value = {axis: measured.estimator(PAULI[axis])[x] for axis in "xz"}
    energy = sum(
        coefficient * math.prod([value[axis][:, site] for site, axis in factors.items()])
        for coefficient, factors in critical.hamiltonian
    )
    exact = critical.state.energy(critical.hamiltonian, 0.1)
    error = energy.std().item() / math.sqrt(len(x))
    assert energy.mean().item() == pytest.approx(exact, abs=3 * error)
    assert exact > critical.energy + 5


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("delta", [-1.2, -0.6, 1])
@pytest.mark.parametrize("sites", [2, pytest.param(5, marks=pytest.mark.slow), 6])
def test_xxz_against_exact_diagonalisation(sites, delta, periodic):
    H = sum(
        factor * dense.operator({i: PAULI[axis]}, sites) @ dense.operator({j: PAULI[axis]}, sites)
        for i, j in bonds(sites, periodic)
        for axis, factor in (("x", 1), ("y", 1), ("z", delta))
    )
    M = sum(dense.operator({i: Z}, sites) for i in range(sites))
    levels = {m: lowest(H, M, m)[0][0].item() for m in range(-sites, sites + 1, 2)}
    chain = xxz(sites, delta, periodic)
    assert chain.energy == pytest.approx(min(levels.values()), abs=1e-10)
    assert levels[chain.parameters["magnetisation"]] == pytest.approx(chain.energy, abs=1e-10)
    excited = xxz(sites, delta, periodic, magnetisation=2 - sites)
    assert excited.energy == pytest.approx(levels[2 - sites], abs=1e-10)
    assert excited.state.local(Z).sum().item() == pytest.approx(2 - sites, abs=1e-10)


def test_xxz_at_delta_zero_is_free():
    """Two copies of half a hopping chain: Σ −4 |cos k| over k = π m/(N + 1)."""
    sites = 12
    exact = -sum(2 * abs(2 * math.cos(math.pi * m / (sites + 1))) for m in range(1, sites + 1)) / 2
    assert xxz(sites, 0.0).energy == pytest.approx(exact, abs=1e-9)


def test_a_chain_describes_itself():
    chain = tfim(3, 2, 1, periodic=True)
    json.dumps([chain.name, chain.parameters, chain.energy, chain.hamiltonian])
    assert (-2, {2: "z", 0: "z"}) in chain.hamiltonian
    assert len(chain.hamiltonian) == 6
    H = dense.hamiltonian(chain.hamiltonian, 3)
    torch.testing.assert_close(H, ising(3, 2, 1, True))
    cat = ghz(4)
    assert (cat.energy, cat.hamiltonian) == (None, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfim(1), "at least 2 sites"),
        (lambda: xxz(0), "at least 2 sites"),
        (lambda: ghz(1), "at least 2 sites"),
        (lambda: tfim(4, parity=2), "parity 2"),
        (lambda: tfim(4, 0, 0), "both zero"),
        (lambda: tfim(4, math.nan), "coupling nan"),
        (lambda: xxz(4, math.inf), "delta inf"),
        (lambda: xxz(4, magnetisation=1), "magnetisation 1: .* one of -4, -2 … 4"),
        (lambda: xxz(4, magnetisation=6), "magnetisation 6"),
    ],
)
def test_what_is_no_chain_is_refused(make, message):
    with pytest.raises(LikelyError, match=message):
        make()


def test_a_missing_extra_is_named(monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("tenpy"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for make in (tfim, xxz):
        with pytest.raises(LikelyError, match=r"pip install 'likely\[quantum\]'"):
            make(4)
    assert ghz(4).state.bond == 2


def test_chains_that_do_not_converge_are_refused(monkeypatch):
    monkeypatch.setattr("likely.quantum.chains.SWEEPS", 1)
    with pytest.raises(LikelyError, match="did not converge"):
        xxz(12, periodic=True)


def test_tenpy_is_quiet_and_its_settings_are_put_back(caplog, capfd):
    logger = logging.getLogger("tenpy")
    logger.setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tfim(6, 1, 0.5)
    assert logger.level == logging.DEBUG
    logger.setLevel(logging.NOTSET)
    assert not caught
    assert not [record for record in caplog.records if record.name.startswith("tenpy")]
    assert capfd.readouterr() == ("", "")
