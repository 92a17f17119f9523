"""Reweighting: closed forms, honest errors, and notes on what a model has lost."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

import likely as lk
from likely.contract import GenerativeModel
from likely.core.weights import acceptances, pareto_k
from likely.sampling import ParallelTempering

SHIFT, LOG_Z = 0.8, 1.5


class Normal(GenerativeModel):
    """Normal columns of width 1 around a mean."""

    def __init__(self, domain: lk.Domain, *, mean: float = 0.0) -> None:
        super().__init__(domain)
        self.mean = torch.nn.Buffer(torch.tensor(mean))

    def _sample(self, n, context):
        return self.mean + torch.randn(n, self.domain.size)

    def _log_prob(self, x, context):
        return -((x - self.mean).square() + math.log(2 * math.pi)).sum(1) / 2


def normal(log_z: float = LOG_Z) -> lk.Target:
    """A standard normal density times Z, with exact draws."""

    def energy(x):
        return (x.square().sum(1) + math.log(2 * math.pi)) / 2 - log_z

    def sample(n, seed):
        return torch.randn(n, 1, generator=torch.Generator().manual_seed(seed))

    return lk.Target(lk.reals(1), name="normal", energy=energy, sample=sample, log_z=log_z)


def within(figure, exact, errors=4.0):
    return abs(figure.value - exact) < errors * figure.stderr


@pytest.fixture(scope="module")
def shifted():
    target, n = normal(), 100_000
    draws = target.sample(n, 1)
    return lk.reweight(Normal(lk.reals(1), mean=SHIFT), target, n, seed=0, forward=draws)


def test_two_shifted_normals_have_the_figures_of_their_closed_forms(shifted):
    w = shifted
    assert within(w.log_z, LOG_Z)
    assert within(w.elbo, LOG_Z - SHIFT**2 / 2)
    assert within(w.eubo, LOG_Z + SHIFT**2 / 2)
    assert within(w.bennett, LOG_Z)
    assert w.ess == pytest.approx(math.exp(-(SHIFT**2)), rel=0.03)
    assert w.forward_ess == pytest.approx(math.exp(-(SHIFT**2)), rel=0.03)
    assert within(w.acceptance, math.erfc(SHIFT / 2))
    # 1/a averaged over the target, where a(x) = P(w' > w) + E[w'; w' < w]/w by quadrature.
    x = np.linspace(-6, 6, 4001)
    a = norm.cdf(x - SHIFT) + np.exp(SHIFT * x - SHIFT**2 / 2) * norm.sf(x)
    tau = 2 * np.trapezoid(norm.pdf(x) / a, x) - 1
    assert w.tau_int == pytest.approx(tau, rel=0.01)
    assert w.forward.kind == "bound"
    assert w.notes == ()


def test_errors_are_those_of_theory(shifted):
    n = len(shifted)
    assert shifted.log_z.stderr == pytest.approx(math.sqrt(math.expm1(SHIFT**2) / n), rel=0.1)
    assert shifted.elbo.stderr == pytest.approx(SHIFT / math.sqrt(n), rel=0.02)
    x = np.linspace(-8, 8, 4001)
    p, q = norm.pdf(x), norm.pdf(x - SHIFT)
    overlap = np.trapezoid(p * q / (p / 2 + q / 2), x)
    assert shifted.bennett.stderr == pytest.approx(math.sqrt((1 / overlap - 1) * 2 / n), rel=0.02)


def test_expectations_are_those_of_the_target_and_naive_ones_those_of_the_model(shifted):
    assert within(shifted.expect(lambda x: x[:, 0]), 0.0)
    assert within(shifted.expect(lambda x: x[:, 0] > 1), norm.sf(1))
    assert within(shifted.naive(lambda x: x[:, 0]), SHIFT)
    # Var ≈ E_q[w² x²]/n, where w q/p is normal around −SHIFT.
    error = math.sqrt(math.exp(SHIFT**2) * (1 + SHIFT**2) / len(shifted))
    assert shifted.expect(lambda x: x[:, 0]).stderr == pytest.approx(error, rel=0.15)


def test_the_chain_goes_through_the_draws_and_agrees(shifted):
    chain = shifted.chain(0, chains=20)
    assert chain.samples.shape == (20, 4999, 1)
    assert torch.isin(chain.samples, shifted.samples).all()
    assert torch.equal(chain.samples, shifted.chain(0, chains=20).samples)
    assert chain.acceptance.mean().item() == pytest.approx(shifted.acceptance.value, abs=0.01)
    mean = chain.expect(lambda x: x[:, 0])
    assert within(mean, 0.0)
    assert 1 < mean.tau_int < shifted.tau_bound
    # Digits that go with no weight have the τ of the streaks.
    noise = chain.expect(lambda x: (1e6 * x[:, 0]).frac())
    assert noise.tau_int == pytest.approx(shifted.tau_int, rel=0.15)


def test_acceptances_are_means_over_all_proposals():
    w = torch.randn(50, dtype=torch.float64)
    every = (w[None] - w[:, None]).clamp(max=0).exp().mean(1)
    torch.testing.assert_close(acceptances(w), every)


def test_the_tail_of_weights_is_seen():
    noise = torch.empty(20_000, dtype=torch.float64).exponential_()
    for k in (0.4, 1.2):
        assert pareto_k(k * noise) == pytest.approx(k, abs=0.15)
    assert pareto_k(torch.zeros(1000)) == -math.inf
    assert math.isnan(pareto_k(torch.randn(10)))


def test_errors_of_log_z_cover_at_their_nominal_rate():
    model, target = Normal(lk.reals(1), mean=SHIFT), normal()
    figures = [
        lk.reweight(model, target, 2000, seed=3 * i, forward=False).log_z for i in range(200)
    ]
    pull = np.array([(figure.value - LOG_Z) / figure.stderr for figure in figures])
    # Binomial deviations at 200 are 0.033 and 0.015.
    assert np.mean(abs(pull) < 1) == pytest.approx(0.683, abs=0.1)
    assert np.mean(abs(pull) < 1.96) == pytest.approx(0.95, abs=0.05)


def test_a_model_with_one_of_two_modes_is_told_though_its_weights_look_perfect():
    target = lk.targets.gaussian_mixture([1, 1], [[-8.0], [8.0]], [[[1.0]], [[1.0]]])
    w = lk.reweight(Normal(target.domain, mean=8.0), target, 4000, seed=0)
    assert w.ess > 0.999
    assert w.log_z.value == pytest.approx(target.log_z - math.log(2), abs=1e-3)
    assert w.forward_ess < 1e-3
    text = repr(w)
    for note in ("misses a part of the target", "mirror images", "1 of 2 known modes"):
        assert note in text, note
    # By its energy only the mirror image is left.
    blind = lk.Target(target.domain, energy=target.energy)
    (note,) = lk.reweight(Normal(target.domain, mean=8.0), blind, 4000, seed=0).notes
    assert "mirror images" in note
    # The mixture itself has nothing to be told.
    assert lk.reweight(Both(target.domain), target, 4000, seed=0).notes == ()


class Both(Normal):
    """Two equal modes at ±8."""

    def _sample(self, n, context):
        return super()._sample(n, context) + 8 * (2 * torch.randint(2, (n, 1)) - 1)

    def _log_prob(self, x, context):
        parts = [super(Both, self)._log_prob(x + at, context) for at in (-8, 8)]
        return torch.stack(parts).logsumexp(0) - math.log(2)


def test_heavy_tails_and_few_effective_draws_are_told():
    narrow = lk.Target(lk.reals(1), energy=lambda x: x.square().sum(1) / 50)
    w = lk.reweight(Normal(lk.reals(1)), narrow, 3000, seed=0)
    notes = " ".join(w.notes)
    assert w.k_hat > 0.7
    assert "k̂" in notes
    assert "effective draws" in notes
    assert "of all weight" in notes


def test_draws_of_a_chain_give_diagnostics(shifted):
    target = normal()
    chain = ParallelTempering(temperatures=3).run(
        target.energy, torch.zeros(20, 1), 500, seed=0, burn_in=200
    )
    w = lk.reweight(Normal(lk.reals(1), mean=SHIFT), target, 5000, seed=0, forward=chain)
    assert w.forward.kind == "diagnostic"
    assert "diagnostic" in repr(w)
    assert within(w.eubo, LOG_Z + SHIFT**2 / 2)
    assert within(w.bennett, LOG_Z)
    rows = lk.reweight(
        Normal(lk.reals(1), mean=SHIFT), target, 5000, seed=0, forward=target.sample(5000, 1)
    )
    assert rows.forward.kind == "bound"
    assert within(rows.eubo, LOG_Z + SHIFT**2 / 2)


def test_spins_contexts_and_integrated_densities_are_weighed():
    ising = lk.targets.ising(2, 2)
    w = lk.reweight(lk.make("made", ising.domain, seed=0), ising, 20_000, seed=0)
    assert within(w.log_z, ising.log_z)

    context = lk.table(mu=lk.Interval(-2, 2))
    family = lk.Target(
        lk.reals(1), energy=lambda x, c: ((x - c).square() / 2).sum(1), context=context
    )
    model = lk.make("nsf-coupling", family.domain, context=context, hidden=(8,), seed=0)
    w = lk.reweight(model, family, 20_000, context={"mu": 1.0}, seed=0)
    assert within(w.log_z, math.log(2 * math.pi) / 2)
    assert within(w.expect(lambda x: x[:, 0]), 1.0)

    with pytest.raises(lk.DataError, match="conditional"):
        lk.reweight(model, family, 10)
    with pytest.raises(lk.DataError, match="one context"):
        lk.reweight(model, family, 2, context=torch.zeros(2, 1))
    with pytest.raises(lk.DomainError, match="context"):
        lk.reweight(Normal(lk.reals(1)), family, 10)

    continuous = lk.make("ffjord", lk.reals(1), hidden=(8, 8), seed=0)
    w = lk.reweight(continuous, normal(), 2000, seed=0)
    assert within(w.log_z, LOG_Z)
    assert "integration" in w.notes[-1]


def test_reports_are_json(shifted):
    report = json.loads(json.dumps(shifted.to_json()))
    assert report["log_z"]["value"] == shifted.log_z.value
    assert report["forward"] == "bound"
    assert report["draws"] == 100_000


def test_what_cannot_be_weighed_is_refused():
    model, target = Normal(lk.reals(1)), normal()
    with pytest.raises(lk.DomainError, match="another domain"):
        lk.reweight(Normal(lk.reals(2)), target, 10)
    with pytest.raises(lk.DensityError, match="no exact density"):
        lk.reweight(lk.make("vae", lk.reals(1), seed=0), target, 10)
    with pytest.raises(lk.LikelyError, match="at least 2"):
        lk.reweight(model, target, 1)
    with pytest.raises(lk.LikelyError, match="neither an energy nor a density"):
        lk.reweight(model, lk.Target(lk.reals(1)), 10)
    with pytest.raises(lk.LikelyError, match="shape"):
        lk.reweight(model, lk.Target(lk.reals(1), energy=lambda x: x), 10)
    nowhere = lk.Target(lk.reals(1), energy=lambda x: torch.full((len(x),), math.inf))
    with pytest.raises(lk.LikelyError, match="log-weights reach"):
        lk.reweight(model, nowhere, 10)
    with pytest.raises(lk.LikelyError, match="forward="):
        lk.reweight(model, target, 10, forward="exact")
    with pytest.raises(lk.DataError, match="shape"):
        lk.reweight(model, target, 10, forward=torch.zeros(4, 2))
    with pytest.raises(lk.LikelyError, match="the observable"):
        lk.reweight(model, target, 10).expect(lambda x: x)


def test_a_training_that_has_lost_wells_is_told():
    target = lk.targets.many_well(6)
    model = lk.make("realnvp", target.domain, transforms=4, hidden=(16,), seed=0)
    # The free energy alone draws the flow into the deepest well, where the weights look fine.
    lk.fit(model, target, steps=150, batch=128, rate=0.01, seed=0)
    w = lk.reweight(model, target, 8192, seed=1)
    lost = w.log_z.value - target.log_z
    assert w.ess > 0.6
    assert lost == pytest.approx(target.mode_weights.max().log().item(), abs=0.03)
    notes = " ".join(w.notes)
    assert "misses a part of the target" in notes
    assert "7 of 8 known modes are lost" in notes


@pytest.mark.slow
def test_rows_beside_the_energy_keep_all_eight_wells_with_their_masses():
    target = lk.targets.many_well(6)
    rows = lk.load_data(target.sample(4000, 0), domain=target.domain)
    model = lk.make("nsf-coupling", target.domain, seed=0)
    lk.fit(model, target, data=rows, steps=1000, batch=512, seed=0)
    w = lk.reweight(model, target, 65_536, seed=1)
    assert w.notes == ()
    assert within(w.log_z, target.log_z)
    for mode, mass in zip(target.modes, target.mode_weights.tolist(), strict=True):
        found = w.expect(lambda x, at=mode: ((x * at)[:, ::2] > 0).all(1))
        assert found.value == pytest.approx(mass, abs=0.02)
        assert within(found, mass)
