"""Reconstruction against exact sums over all outcomes."""

import json
import math
from functools import reduce

import numpy as np
import pytest
import torch

import likely as lk
from likely.core.errors import DataError, DomainError, LikelyError
from likely.core.likelihood import Kind
from likely.core.model import GenerativeModel
from likely.physics import (
    MPS,
    Measurement,
    Reconstruction,
    Shots,
    dense,
    povm,
    random_mps,
    reconstruct,
)
from likely.physics.baselines import MarkovChain
from likely.physics.reconstruction import _Judge

STATE = random_mps(4, bond=2, seed=4)
HAMILTONIAN = [(-1.0, {i: "z", i + 1: "z"}) for i in range(3)] + [
    (-0.5, {i: "x"}) for i in range(4)
]


def shots(
    name: str = "tetrahedral", n: int = 3000, noise: float = 0.0, state: MPS = STATE, seed: int = 0
) -> Shots:
    outcomes = Measurement(state, povm(name), noise).sample(n, seed)
    header = {"chain": "random", "seed": seed}
    return Shots(outcomes, povm(name), noise, state, HAMILTONIAN, header)


def every(k: int, sites: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.arange(k)] * sites)


class Truth(GenerativeModel):
    """The exact distribution as a model, with a parameter that moves nothing."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__(measurement.povm.domain(measurement.state.sites))
        self.measurement = measurement
        self.idle = torch.nn.Parameter(torch.zeros(()))

    def _log_prob(self, x: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        return self.measurement.log_prob(x) + 0 * self.idle

    def _sample(self, n: int, context: torch.Tensor | None) -> torch.Tensor:
        return self.measurement.sample(n, int(torch.randint(1 << 30, ())))


class Blind(Truth):
    """The same without a likelihood."""

    density = Kind.NONE

    def loss(self, batch: lk.Batch) -> torch.Tensor:
        return self.idle.square()


@pytest.fixture(scope="module")
def result() -> Reconstruction:
    made = lk.make("made", lk.categories(4, 4), seed=0, hidden=(32,))
    return reconstruct(shots(), made, steps=200, draws=20_000, curve=[100, 600])


@pytest.fixture(scope="module")
def probabilities(result: Reconstruction) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all outcomes, exact ones and the model's."""
    exact = Measurement(STATE, povm("tetrahedral")).probabilities()
    with torch.no_grad():
        return exact, result.model.log_prob(every(4, 4)).double().exp()


def test_divergences_and_fidelity_agree_with_exact_sums(
    result: Reconstruction, probabilities: tuple[torch.Tensor, torch.Tensor]
) -> None:
    p, q = probabilities
    exact = {
        "kl": (p * (p / q).log()).sum(),
        "reverse_kl": (q * (q / p).log()).sum(),
        "classical_fidelity": (p * q).sqrt().sum(),
    }
    for name, value in exact.items():
        figure = getattr(result.worth, name)
        assert abs(figure.value - value) < 4.5 * figure.stderr, name
    assert exact["kl"] > 0.005  # or else this would say little
    # While it was trained, too: the best weights were watched.
    row = max(result.history.rows, key=lambda row: row["valid"])
    assert abs(row["kl"] - exact["kl"]) < 4.5 * row["kl_stderr"]
    assert abs(row["fidelity"] - exact["classical_fidelity"]) < 4.5 * row["fidelity_stderr"]


def test_the_estimators_are_unbiased() -> None:
    data = shots(n=400)
    chain = MarkovChain(lk.categories(4, 4), order=1)
    chain.count(data.outcomes[40:], data.outcomes[:40])
    p = Measurement(STATE, data.povm).probabilities()
    q = chain.log_prob(every(4, 4)).exp()
    exact = {"kl": p @ (p / q).log(), "reverse_kl": q @ (q / p).log()}
    exact |= {"classical_fidelity": (p * q).sqrt().sum()}
    pulls = []
    for seed in range(40):
        worth = _Judge(data, data.outcomes[:10], 2000, seed).weigh("chain", chain, 400)[0]
        figures = [getattr(worth, name) for name in exact]
        pulls.append(
            [(f.value - e.item()) / f.stderr for f, e in zip(figures, exact.values(), strict=True)]
        )
    z = torch.tensor(pulls)
    assert (z.mean(0).abs() < 4 / math.sqrt(40)).all()
    assert ((z.std(0) > 0.6) & (z.std(0) < 1.5)).all()


def test_quantum_fidelity_is_the_mean_over_outcomes(
    result: Reconstruction, probabilities: tuple[torch.Tensor, torch.Tensor]
) -> None:
    psi, dual = STATE.dense().to(torch.complex128), povm("tetrahedral").dual
    expected = sum(
        q * (psi.conj() @ reduce(torch.kron, [dual[a] for a in row]) @ psi).real
        for q, row in zip(probabilities[1], every(4, 4), strict=True)
    )
    assert result.density_matrix is not None
    assert result.density_matrix.fidelity == pytest.approx(expected.item(), abs=1e-9)
    smallest = np.linalg.eigvalsh(result.density_matrix.value.numpy())[0]
    assert result.density_matrix.smallest == pytest.approx(smallest, abs=1e-9)


@pytest.mark.parametrize(("name", "noise"), [("tetrahedral", 0.0), ("pauli6", 0.2)])
def test_a_perfect_model_is_found_perfect(name: str, noise: float) -> None:
    data = shots(name, 400, noise)
    found = reconstruct(data, Truth(Measurement(STATE, data.povm, noise)), steps=2, draws=5000)
    worth = found.worth
    assert worth.model == "Truth"
    assert worth.kl.value == pytest.approx(0, abs=1e-12)
    assert worth.reverse_kl.value == pytest.approx(0, abs=1e-12)
    assert worth.classical_fidelity.value == pytest.approx(1, abs=1e-12)
    assert found.density_matrix.fidelity == pytest.approx(1, abs=1e-9)
    exact = dense.density_matrix(STATE.dense(), noise)
    torch.testing.assert_close(found.density_matrix.value, exact, atol=1e-9, rtol=0)
    energy = torch.einsum("ij,ji->", exact, dense.hamiltonian(HAMILTONIAN, 4)).real.item()
    assert found.exact_energy == pytest.approx(energy, abs=1e-9)
    assert abs(worth.energy.value - energy) < 4.5 * worth.energy.stderr
    assert all(
        baseline.behind.value > -1e-9 or baseline.behind.stderr > 0 for baseline in found.baselines
    )


def test_observables_are_set_against_the_exact_ones(result: Reconstruction) -> None:
    for axis, compared in result.local.items():
        assert compared.exact is not None
        gap = compared.measured.value - compared.exact  # of shots, so that errors hold
        assert (gap.abs() < 4.5 * compared.measured.stderr).all(), axis
    occupation = result.occupation
    assert occupation.exact is not None
    gap = occupation.measured.value - occupation.exact
    assert (gap.abs() < 4.5 * occupation.measured.stderr).all()
    assert result.positivity is not None


def test_a_learning_curve(result: Reconstruction) -> None:
    assert [worth.shots for worth in result.curve] == [100, 600]
    assert result.worth.shots == 2850  # a twentieth is held out
    kl = [worth.kl.value for worth in [*result.curve, result.worth]]
    assert kl[0] > kl[1] > kl[2]


def test_fresh_shots_are_not_those_of_the_fit() -> None:
    for seed in (0, 1):
        data = shots(seed=seed)
        judge = _Judge(data, data.outcomes[:10], len(data.outcomes), 0)
        same = (judge.fresh == data.outcomes).all(1).float().mean()
        assert same < 0.05


def test_files(result: Reconstruction, tmp_path) -> None:
    result.save(tmp_path)
    written = json.loads((tmp_path / "reconstruction.json").read_text())
    assert written == json.loads(json.dumps(result.to_json()))
    with np.load(tmp_path / "observables.npz") as arrays:
        np.testing.assert_array_equal(
            arrays["sigma_z_sigma_z_generated"], result.correlators["z"].generated.value
        )
        np.testing.assert_array_equal(arrays["density_matrix"], result.density_matrix.value)
    html = (tmp_path / "index.html").read_text()
    for section in (
        "Outcomes",
        "Training",
        "Correlators",
        "Single sites",
        "Density matrix",
        "Learning",
    ):
        assert f"<h2>{section}" in html
    assert "http" not in html.replace("http://www.w3.org", "")
    assert "Markov chain of order 3" in html


@pytest.mark.parametrize(
    ("name", "missing"), [("trine", {"sigma_y"}), ("computational", {"sigma_x", "sigma_y"})]
)
def test_what_the_effects_do_not_span_is_null_with_a_reason(name: str, missing: set[str]) -> None:
    found = reconstruct(shots(name, 300), "independent", steps=5, draws=100)
    written = found.to_json()
    for observable in ("sigma_x", "sigma_y", "sigma_z"):
        assert (written["observables"][observable] is None) == (observable in missing)
        assert (observable in written["reasons"]) == (observable in missing)
    assert written["quantum_fidelity"] is written["positivity"] is None
    assert {"density_matrix", "positivity"} <= written["reasons"].keys()
    assert (written["energy"] is None) == ("energy" in written["reasons"]) == ("sigma_x" in missing)
    assert written["exact_energy"] is not None
    assert "outside the span" in found.reasons["sigma_y"]
    from likely.physics.report import page

    assert "outside the span" in page(found)


def test_without_a_state_likelihood_and_observables_remain() -> None:
    data = shots(n=1000)
    own = Shots(data.outcomes, data.povm, hamiltonian=HAMILTONIAN)
    found = reconstruct(own, "made", steps=60, draws=1000)
    written = found.to_json()
    for name in ("kl", "reverse_kl", "classical_fidelity", "exact_energy", "quantum_fidelity"):
        assert written[name] is None
    assert "not known" in found.reasons["kl"]
    assert written["held_out"] is not None
    assert written["observables"]["sigma_x"]["exact"] is None
    assert written["positivity"]["p_value"] > 1e-4
    assert written["measured_positivity"]["p_value"] > 1e-4
    assert found.density_matrix is not None
    assert found.density_matrix.fidelity is None
    assert "above that of the best baseline" in found.summary()[0]


def test_a_model_without_likelihood() -> None:
    data = shots(n=300)
    found = reconstruct(data, Blind(Measurement(STATE, data.povm)), steps=2, draws=1000)
    assert found.worth.kl is found.worth.held_out is found.density_matrix is None
    assert found.worth.energy is not None
    assert found.baselines[0].kl is not None
    assert "no likelihood" in found.reasons["held_out"]
    assert found.summary()


def test_an_impossible_outcome_makes_the_divergence_infinite() -> None:
    ghz = MPS([np.array([[[1, 0], [0, 1]]]), np.array([[[1], [0]], [[0], [1]]])])
    data = Shots(
        Measurement(ghz, povm("computational")).sample(500, 0), povm("computational"), 0.0, ghz
    )
    found = reconstruct(data, "independent", steps=5, draws=200)
    assert found.worth.reverse_kl.value == math.inf
    assert found.to_json()["reverse_kl"] is None
    assert "impossible" in found.reasons["reverse_kl"]
    assert found.to_json()["energy"] is None
    assert "no Hamiltonian" in found.reasons["energy"]


def test_refusals() -> None:
    data = shots(n=100)
    with pytest.raises(LikelyError, match="unknown model"):
        reconstruct(data, "nothing", steps=1)
    with pytest.raises(DomainError, match="another domain"):
        reconstruct(data, lk.make("made", lk.categories(3, 4)), steps=1, draws=100)
    with pytest.raises(LikelyError, match="draws must be at least"):
        reconstruct(data, "made", steps=1, draws=3)
    for size in (5, 95):
        with pytest.raises(LikelyError, match=f"curve: {size} shots"):
            reconstruct(data, "made", steps=1, curve=[size])
    few = Shots(data.outcomes[:5], data.povm)
    with pytest.raises(DataError, match="5 shots: at least"):
        reconstruct(few, "made", steps=1)
    with pytest.raises(LikelyError, match="give one budget"):
        reconstruct(data, "made", steps=1, minutes=1, draws=100)
