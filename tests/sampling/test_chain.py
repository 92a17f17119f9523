"""Diagnostics against processes whose autocorrelation is known, and what goes wrong in a run."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import likely as lk
from likely import targets as truth
from likely.sampling import (
    HMC,
    MALA,
    SMC,
    Gibbs,
    IndependenceMetropolis,
    Langevin,
    ParallelTempering,
    ais,
)
from likely.sampling.chain import Chain


def normal(x: Tensor) -> Tensor:
    return x.square().sum(1) / 2


def autoregressive(rho: float, chains: int = 8, draws: int = 4000) -> Tensor:
    x = torch.empty(chains, draws)
    x[:, 0] = torch.randn(chains)
    noise = math.sqrt(1 - rho**2) * torch.randn(chains, draws)
    for t in range(1, draws):
        x[:, t] = rho * x[:, t - 1] + noise[:, t]
    return x


def chain_of(x: Tensor, domain: lk.Domain | None = None) -> Chain:
    return Chain(
        x[..., None], normal(x.flatten()[:, None]).view(x.shape), *torch.ones(2, 1), domain
    )


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_autocorrelation_time_of_an_autoregressive_process(rho):
    diagnostics = chain_of(autoregressive(rho)).diagnostics
    tau = (1 + rho) / (1 - rho)
    assert diagnostics.tau_int == pytest.approx(tau, rel=0.15)
    assert diagnostics.ess_bulk == pytest.approx(32_000 / tau, rel=0.15)
    assert abs(diagnostics.r_hat - 1) < 0.01


def test_a_chain_that_has_not_mixed_says_so():
    stuck = chain_of(torch.randn(4, 1000) + torch.tensor([0.0, 0, 0, 3])[:, None])
    assert stuck.diagnostics.r_hat > 1.4
    assert not stuck.mixed
    assert "NOT MIXED: R̂" in repr(stuck)
    drifting = chain_of(torch.randn(1, 1000) + torch.linspace(0, 3, 1000))
    assert drifting.diagnostics.r_hat > 1.1
    still = chain_of(torch.arange(4.0)[:, None].expand(4, 100))
    assert still.diagnostics.r_hat == math.inf
    assert still.diagnostics.ess_bulk == 0
    constant = chain_of(torch.ones(4, 1000))
    assert constant.diagnostics.r_hat == 1
    short = chain_of(torch.randn(4, 3))
    assert math.isnan(short.diagnostics.r_hat)
    assert "at least 4" in repr(short)


def test_angles_are_looked_at_as_points_of_a_circle():
    circle = lk.table(lk.Periodic(-math.pi, math.pi))
    angle = 0.3 * torch.randn(4, 2000)
    angle[0] += 2 * math.pi  # the same points, a turn further
    energy = torch.zeros(4, 2000)
    flat = Chain(angle[..., None], energy, *torch.ones(2, 1))
    round_ = Chain(angle[..., None], energy, *torch.ones(2, 1), circle)
    assert flat.diagnostics.r_hat > 1.1
    assert round_.diagnostics.r_hat < 1.01


def test_a_run_without_one_accepted_proposal_says_so():
    """From one point all entries are constant, and acceptances of 1e-5 are not 0."""
    chain = MALA(1.6).run(normal, torch.full((4, 20), 0.5), 200, 0)
    assert (chain.samples == 0.5).all()
    assert chain.acceptance.min() > 0
    assert "every proposal was rejected" in chain.diagnostics.notes[0]


def test_chains_that_ran_away_to_where_no_step_counts_say_so():
    """Nothing keeps them from going downhill for ever."""
    chain = HMC(0.1).run(lambda x: x[:, 0], torch.randn(64, 1), 200, 0, burn_in=100)
    assert not chain.mixed


def test_arrays_are_taken_and_fractions_of_a_step_are_not():
    assert HMC().run(normal, np.zeros((4, 2), np.float32), 10, 0).samples.shape == (4, 10, 2)
    with pytest.raises(lk.LikelyError, match="whole numbers"):
        HMC().run(normal, X, 10.5, 0)


X = torch.zeros(5, 2)
GAUSSIAN = truth.gaussian()


@pytest.mark.parametrize(
    "sampler",
    [
        Langevin(0.1),
        MALA(0.1),
        HMC(),
        ParallelTempering(HMC(), (1, 2)),
        IndependenceMetropolis(GAUSSIAN),
        SMC(GAUSSIAN, HMC()),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
@pytest.mark.parametrize(
    ("energy", "init", "steps", "message"),
    [
        (lambda x: x.square(), X, 5, r"shape \(5,\).* not a torch.float32 of shape \(5, 2\)"),
        (lambda x: x.square().sum(), X, 5, r"of shape \(\)"),
        (lambda x: 1.0, X, 5, "not float"),
        (lambda x: x[:, 0].long(), X, 5, "floating-point"),
        (lambda x: x[:, 0] / x[:, 0], X, 5, "state 0 of init is nan"),
        (lambda x: 1 / x[:, 0], X, 5, "start where it is finite"),
        (normal, X, 0, "steps=0"),
        (normal, X[:0], 5, "no chains"),
    ],
)
def test_bad_energies_and_lengths_are_refused(sampler, energy, init, steps, message):
    with pytest.raises(lk.LikelyError, match=message):
        sampler.run(energy, init, steps, 0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MALA(0.0), "step must be positive"),
        (lambda: HMC(0.1, leapfrogs=0), "at least one leapfrog"),
        (lambda: HMC(0.1, lk.binary(3)), "continuous columns"),
        (lambda: HMC(0.1, lk.Interval(0, 1)), "use lk.table"),
        (lambda: SMC(GAUSSIAN, HMC()).run(normal, X, 1), r"base\.sample"),
        (lambda: Gibbs(lk.reals(3)), "finitely many"),
        (lambda: Gibbs(lk.binary(3), [[0, 1]]), "must cover"),
        (lambda: Gibbs(lk.categories(3, 2), independent=True), "two values only"),
        (lambda: ParallelTempering(HMC(), (2, 4)), "rise from 1"),
        (lambda: SMC(GAUSSIAN, HMC(), ess=1.0), "0 < ess < 1"),
        (lambda: SMC(GAUSSIAN, HMC()).run(normal, X[:1], 1), "two particles"),
        (lambda: SMC(GAUSSIAN, Langevin(0.1)).run(normal, X, 1), "biased by its step"),
        (lambda: ais(normal, GAUSSIAN, kernel=Langevin(0.1)), "biased by its step"),
        (lambda: ais(normal, GAUSSIAN, kernel=MALA(torch.ones(512))), "one for all chains"),
        (lambda: ParallelTempering(MALA(torch.ones(2)), (1, 2)), "one for all chains"),
        (lambda: Gibbs(lk.binary(13), [range(13)]).run(normal, torch.zeros(2, 13), 1), "smaller"),
        (
            lambda: Gibbs(lk.spins(2), [[0, 1]], True).run(
                lambda s: s[:, 0] * s[:, 1], torch.ones(99, 2), 1, 0
            ),
            "interact",
        ),
        (
            lambda: Gibbs(lk.spins(2), [[0, 1]], True).run(
                lambda s: 1e4 + s[:, 0] * s[:, 1], torch.ones(99, 2), 1, 0
            ),
            "interact",
        ),
        (  # from a start in order, where few flips would show it
            lambda: Gibbs(lk.spins(16, 16), [range(256)], True).run(
                truth.ising(16, 16, 1.5).energy, torch.ones(2, 16, 16), 1, 0
            ),
            "interact",
        ),
        (
            lambda: Gibbs(lk.binary(2), None, True).run(
                lambda s: (s[:, 0] + 0.3) ** 3 + s[:, 1], torch.ones(99, 2), 1, 0
            ),
            "not linear",
        ),
        (lambda: HMC().run(lambda x: x.detach().sum(1), X, 5), "no gradient"),
        (lambda: HMC().run(lambda x: x.sum(1).float(), X.long(), 5), "floating-point states"),
        (lambda: HMC(0.1, lk.table("positive")).run(normal, -torch.ones(3, 1), 5), "init: row 0"),
        (lambda: Langevin(50.0).run(lambda x: x.pow(4).sum(1), X + 1, 50, 0), "not finite after"),
        (lambda: ais(normal, GAUSSIAN, betas=torch.tensor([0, 0.5])), "rise from 0 to 1"),
        (lambda: ais(lambda x: x, GAUSSIAN), r"of shape \(512, 2\)"),
        (lambda: ais(normal, GAUSSIAN, betas=0), "two chains or more"),
        (lambda: ais(lambda s: s.double().sum((1, 2)), truth.ising(2, 2)), "Gibbs"),
        (lambda: ais(normal, GAUSSIAN, betas=[1.0]), "rise from 0 to 1"),
        (lambda: ais(normal, GAUSSIAN, path=lambda x, beta: normal(x)), "β = 0 is not ∝ the base"),
        (  # 0 · ∞
            lambda: ais(
                lambda x: torch.where(x[:, 0] > 0, normal(x), torch.inf),
                GAUSSIAN,
                path=lambda x, beta: (
                    (1 - beta) * GAUSSIAN.energy(x)
                    + beta * torch.where(x[:, 0] > 0, normal(x), torch.inf)
                ),
            ),
            "not finite at a draw of the base",
        ),
        (
            lambda: ais(normal, GAUSSIAN, path=lambda x, beta: GAUSSIAN.energy(x)),
            "β = 1 is not the energy",
        ),
    ],
)
def test_errors_say_what_to_do(build, message):
    with pytest.raises(lk.LikelyError, match=message):
        build()


def test_rejecting_everything_is_said():
    for sampler in (MALA(1e4), HMC(1e3)):
        chain = sampler.run(normal, torch.randn(6, 40), 20, 0)
        assert torch.equal(chain.samples[:, 0], chain.last)
        assert chain.diagnostics.acceptance < 1e-6
        assert "every proposal was rejected" in repr(chain)
    far = truth.gaussian([50.0, 50.0])
    chain = IndependenceMetropolis(far).run(normal, far.sample(3, 0), 50, 0)
    assert not chain.mixed


def test_energies_that_are_nan_on_the_way_are_counted():
    def energy(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 1, torch.nan, normal(x))

    for sampler in (MALA(0.3), HMC(0.3), IndependenceMetropolis(GAUSSIAN)):
        chain = sampler.run(energy, X, 200, 0)
        assert chain.samples[..., 0].max() <= 1
        assert chain.invalid.mean() > 0.01
        assert "was NaN or −∞" in repr(chain)


@pytest.mark.parametrize("seed", range(6))
def test_one_interacting_pair_is_found_from_any_start(seed):
    gibbs = Gibbs(lk.spins(2), [[0, 1]], independent=True)

    def energy(s: Tensor) -> Tensor:
        return -1.0 * s[:, 0] * s[:, 1]  # of integers, too

    flat = truth.enumerated("flat", lk.spins(2), lambda s: 0.0 * s.sum(1).double())
    runs = [
        lambda: gibbs.run(energy, torch.ones(1, 2), 1, seed),
        lambda: ParallelTempering(gibbs, (1, 2)).run(energy, torch.ones(1, 2), 1, seed),
        lambda: SMC(flat, gibbs).run(energy, flat.sample(20, seed), 1, seed),
        lambda: ais(energy, flat, kernel=gibbs, betas=2, chains=20, seed=seed),
    ]
    for run in runs:
        with pytest.raises(lk.LikelyError, match="interact"):
            run()


@pytest.mark.parametrize("sampler", [MALA(0.1), HMC(0.1)])
def test_a_tuned_sampler_keeps_the_type_of_its_chains(sampler):
    layer = torch.nn.Linear(2, 1)  # takes float32 only

    def energy(x: Tensor) -> Tensor:
        return (normal(x) + layer(x)[:, 0].tanh()).double()

    assert sampler.run(energy, X, 2, 0, burn_in=20).samples.dtype == torch.float32


def test_swaps_of_the_burn_in_do_not_count():
    # One transition tries one of the two pairs.
    sampler = ParallelTempering(HMC(0.1, leapfrogs=3), (1, 4, 16))
    swaps = sampler.run(normal, X, 1, 0, burn_in=20).info["swaps"]
    assert swaps.isnan().sum() == 1


def test_a_single_chain_needs_twice_the_draws():
    assert "8 of a single chain" in str(MALA(0.1).run(normal, X[:1], 6, 0).diagnostics)
    assert "4 of each chain" in str(MALA(0.1).run(normal, X, 3, 0).diagnostics)


def test_means_of_observables_have_errors_that_count_autocorrelation():
    chain = chain_of(autoregressive(0.8))
    mean = chain.expect(lambda x: x[:, 0] + 1)
    assert mean.tau_int == pytest.approx(9, rel=0.15)  # (1 + ρ)/(1 − ρ)
    assert mean.stderr == pytest.approx(math.sqrt(mean.tau_int / 32_000), rel=0.05)
    assert abs(mean.value - 1) < 4 * mean.stderr
    with pytest.raises(lk.LikelyError, match="the observable"):
        chain.expect(lambda x: x)


def test_chains_are_drawn_and_go_to_arviz():
    torch.manual_seed(0)
    chain = chain_of(autoregressive(0.8))
    *_, correlation = chain.plot().axes
    lag, value = correlation.lines[0].get_data()
    assert value[:3] == pytest.approx([1, 0.64, 0.41], abs=0.05)  # of the energy x²/2: ρ² each step
    assert len(lag) == 101
    pytest.importorskip("xarray", reason="the extra arviz is not installed")
    tree = chain.to_datatree()
    assert dict(tree["posterior"].sizes) == {"chain": 8, "draw": 4000, "x_dim_0": 1}
    assert (tree["sample_stats"]["energy"].to_numpy() == chain.energy.numpy()).all()
