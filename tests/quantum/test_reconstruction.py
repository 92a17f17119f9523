"""Reconstruction against exact sums over all outcomes."""

import json
import math
from functools import reduce

import numpy as np
import pytest
import torch

import likely as lk
from likely.contract.model import GenerativeModel
from likely.core.errors import DataError, DomainError, LikelyError
from likely.core.files import read_json
from likely.core.likelihood import Kind, Likelihood
from likely.quantum import (
    MPS,
    Measurement,
    Reconstruction,
    Shots,
    dense,
    povm,
    random_mps,
    reconstruct,
    tfim,
)
from likely.quantum.baselines import MarkovChain
from likely.quantum.scoring import Scorer

pytestmark = pytest.mark.xdist_group("reconstruction")  # which shares what its fixtures fit

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


class Bound(Truth):
    """A hundredth of a nat below it, as variational models are."""

    density = Kind.LOWER
    gap, common_stderr = 0.01, 0.0

    def loss(self, batch: lk.Batch) -> torch.Tensor:
        return self.idle.square()

    def log_likelihood(
        self, x: torch.Tensor, context: torch.Tensor | None = None, **_: object
    ) -> Likelihood:
        value = self.measurement.log_prob(x) - self.gap
        return Likelihood(value, self.density, common_stderr=self.common_stderr)


class Uncertain(Bound):
    """With an error of log Z in place of that."""

    density = Kind.ESTIMATE
    gap, common_stderr = 2.0, 0.3


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
        figure = getattr(result.score, name)
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
        score = Scorer(data, data.outcomes[:10], 2000, seed).score("chain", chain, 400)[0]
        figures = [getattr(score, name) for name in exact]
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
    score = found.score
    assert score.model == "Truth"
    assert score.kl.value == pytest.approx(0, abs=1e-12)
    assert score.reverse_kl.value == pytest.approx(0, abs=1e-12)
    assert score.classical_fidelity.value == pytest.approx(1, abs=1e-12)
    assert found.density_matrix.fidelity == pytest.approx(1, abs=1e-9)
    exact = dense.density_matrix(STATE.dense(), noise)
    torch.testing.assert_close(found.density_matrix.value, exact, atol=1e-9, rtol=0)
    energy = torch.einsum("ij,ji->", exact, dense.hamiltonian(HAMILTONIAN, 4)).real.item()
    assert found.exact_energy == pytest.approx(energy, abs=1e-9)
    assert abs(score.energy.value - energy) < 4.5 * score.energy.stderr
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
    assert [score.shots for score in result.curve] == [100, 600]
    assert result.score.shots == 2850  # a twentieth is held out
    kl = [score.kl.value for score in [*result.curve, result.score]]
    assert kl[0] > kl[1] > kl[2]


def test_fresh_shots_are_not_those_of_the_fit() -> None:
    for seed in (0, 1):
        data = shots(seed=seed)
        scorer = Scorer(data, data.outcomes[:10], len(data.outcomes), 0)
        same = (scorer.fresh == data.outcomes).all(1).float().mean()
        assert same < 0.05


def test_files(result: Reconstruction, tmp_path) -> None:
    result.save(tmp_path)
    written = read_json(tmp_path / "reconstruction.json")
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
    from likely.quantum.report import page

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
    assert found.score.kl is found.score.held_out is found.density_matrix is None
    assert found.score.energy is not None
    assert found.baselines[0].kl is not None
    assert "no likelihood" in found.reasons["held_out"]
    assert found.summary()


def test_figures_of_a_bound_are_bounds(tmp_path) -> None:
    data = shots(n=300)
    found = reconstruct(
        data, Bound(Measurement(STATE, data.povm)), steps=2, draws=1000, curve=[100, 200]
    )
    score, written = found.score, found.to_json()
    assert score.kl.value == pytest.approx(0.01)  # of 0
    assert score.reverse_kl.value == pytest.approx(-0.01)
    assert score.classical_fidelity.value == pytest.approx(math.exp(0.005))  # of 1
    assert written["kl_kind"] == written["classical_fidelity_kind"] == "upper bound"
    assert written["reverse_kl_kind"] == "lower bound"
    assert written["baselines"][0]["kl_kind"] == "exact"
    assert "KL(exact‖model) ≤ 0.01" in found.summary()[0]
    assert "each an upper bound, and KL(model‖exact) is a lower bound" in " ".join(found.notes())
    columns = {column.header: [*column.cells] for column in found.rich_table().columns}
    assert columns["KL(exact‖model) (nats)"][0].startswith("≤ ")
    assert columns["KL(model‖exact) (nats)"][0].startswith("≥ −")
    assert columns["classical fidelity"][0].startswith("≤ ")
    assert columns["held-out log-likelihood (nats)"][0].startswith("≥ ")
    assert [cell[0] for cell in columns["behind (nats)"][3:7]] == ["≥"] * 4  # the baselines
    assert columns["KL(exact‖model) (nats)"][3][0].isdigit()
    found.to_html(tmp_path / "report.html")
    assert "≤ 0.01" in (tmp_path / "report.html").read_text()
    unknown = Shots(data.outcomes, data.povm)
    assert reconstruct(unknown, "independent", steps=2, draws=100).to_json()["kl_kind"] is None


def test_an_error_of_log_z_is_common_to_all() -> None:
    data = shots(n=300)
    found = reconstruct(data, Uncertain(Measurement(STATE, data.povm)), steps=2, draws=1000)
    assert found.score.kl.stderr == pytest.approx(0.3)
    fidelity = found.score.classical_fidelity
    assert fidelity.value == pytest.approx(math.e)  # E √(P/e⁻²P)
    assert fidelity.stderr == pytest.approx(math.e * 0.3 / 2)
    behind = found.baselines[0].behind
    assert behind.stderr >= 0.3
    assert "≈ 2" in found.summary()[0]


@pytest.mark.slow
def test_neighbours_on_a_ring() -> None:
    data = shots(n=300)
    found = {
        periodic: reconstruct(
            Shots(data.outcomes, data.povm, 0.0, STATE, None, {"periodic": periodic}),
            "independent", steps=2, draws=100,
        )
        for periodic in (True, False)
    }  # fmt: skip
    ring, chain = (found[p].to_json()["observables"]["sigma_z_sigma_z_neighbours"] for p in found)
    assert len(chain["value"]) == 3
    assert ring["value"][:3] == chain["value"]
    exact = [STATE.expectation({i: "z", (i + 1) % 4: "z"}) for i in range(4)]
    assert ring["exact"] == pytest.approx(exact, abs=1e-12)
    from likely.quantum.report import page

    assert "Correlators" in page(found[True])


def test_as_many_fresh_shots_are_drawn_as_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likely.quantum.scoring.SCORED_MIXED", 150)
    for noise, scored in ((0.1, 150), (0.0, 400)):
        data = shots(n=100, noise=noise)
        assert len(Scorer(data, data.outcomes[:10], 400, 0).fresh) == scored
        found = reconstruct(data, "independent", steps=2, draws=400)
        assert found.to_json()["scored"] == scored
        assert any(f"on {scored} fresh shots" in note for note in found.notes())


def test_the_summary_says_where_positivity_is_least(result: Reconstruction) -> None:
    line = next(line for line in result.summary() if "by generated outcomes" in line)
    at = " and ".join(f"site {site}" for site in result.positivity.sites)
    assert (
        f"lowest in standard errors is {str(result.positivity.value)[:5].replace('-', '−')}" in line
    )
    assert f"at {at};" in line


def test_a_matrix_that_is_not_positive_is_said_to_be_none(result: Reconstruction) -> None:
    assert result.density_matrix.smallest < 0
    assert any("may exceed 1" in line for line in result.summary())
    found = reconstruct(shots(n=300, noise=0.3), "independent", steps=2, draws=100)
    assert found.density_matrix.fidelity <= 1


def test_what_takes_too_many_outcomes_names_the_limit() -> None:
    data = shots("pauli6", 100, state=random_mps(9, bond=2, seed=0))
    own = Shots(data.outcomes, data.povm, 0.0, data.state)
    found = reconstruct(own, "independent", steps=2, draws=100)
    assert "6^9 outcomes are too many" in found.reasons["density_matrix"]
    assert "at most 8 sites" in found.reasons["density_matrix"]
    assert "needs 1,000" in found.reasons["positivity"]
    assert found.positivity is found.measured_positivity is None


@pytest.mark.slow
def test_the_default_model_beats_markov_chains() -> None:
    """On a ring, where the first site is bound to the last."""
    pytest.importorskip("tenpy")
    chain = tfim(4, periodic=True)
    data = Shots(
        Measurement(chain.state, povm("tetrahedral")).sample(3000, 1), povm("tetrahedral"),
        0.0, chain.state, chain.hamiltonian, {"seed": 1},
    )  # fmt: skip
    found = reconstruct(data, steps=500, draws=20_000)
    assert found.score.model == "rnn"
    for baseline in found.baselines:
        assert found.score.kl.value < baseline.kl.value - 2 * baseline.kl.stderr, baseline.model


def test_an_impossible_outcome_makes_the_divergence_infinite() -> None:
    ghz = MPS([np.array([[[1, 0], [0, 1]]]), np.array([[[1], [0]], [[0], [1]]])])
    data = Shots(
        Measurement(ghz, povm("computational")).sample(500, 0), povm("computational"), 0.0, ghz
    )
    found = reconstruct(data, "independent", steps=5, draws=200)
    assert found.score.reverse_kl.value == math.inf
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
    with pytest.raises(LikelyError, match="has a number twice"):
        reconstruct(data, "made", steps=1, curve=[50, 60, 50])
    few = Shots(data.outcomes[:5], data.povm)
    with pytest.raises(DataError, match="5 shots: at least"):
        reconstruct(few, "made", steps=1)
    with pytest.raises(LikelyError, match="give one budget"):
        reconstruct(data, "made", steps=1, minutes=1, draws=100)
