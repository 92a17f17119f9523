"""Samplers against targets that are known exactly: on the last states of independent chains."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

import likely as lk
from likely import targets as truth
from likely.core.random import seeded
from likely.sampling import (
    HMC,
    MALA,
    SMC,
    Gibbs,
    IndependenceMetropolis,
    Langevin,
    ParallelTempering,
    PartialRedraw,
)

CORRECTED = ("MALA", "HMC", "ParallelTempering", "IndependenceMetropolis", "SMC")
TARGETS = ("gaussian", "banana", "double-well")
LEVEL = 0.01 / (len(CORRECTED) * len(TARGETS) * 2)  # Bonferroni over all tests and coordinates
CHI = 0.74414  # phi4_exact(8, 8, mass2=-4, coupling=8)
CHAINS = 2000

EASY = {  # barriers that chains cross, so that a start in one place is forgotten
    "gaussian": truth.gaussian([1.0, -1.0], [[1.0, 0.9], [0.9, 2.0]]),
    "banana": truth.banana(1.0, 0.5, 0.5),
    "double-well": truth.double_well(1.5, 0.3),
}


def wide(target: truth.Target) -> truth.Target:
    d = target.domain.size
    return truth.gaussian(target.mean, 1.5 * target.covariance + 0.5 * torch.eye(d))


def sampler(name: str, target: truth.Target):
    return {
        "MALA": lambda: MALA(0.1),
        "HMC": lambda: HMC(0.1, leapfrogs=8),
        "ParallelTempering": lambda: ParallelTempering(MALA(0.1), (1, 2, 4)),
        "IndependenceMetropolis": lambda: IndependenceMetropolis(wide(target)),
        "SMC": lambda: SMC(wide(target), HMC(0.1, leapfrogs=4)),
    }[name]()


def whitened(x: Tensor, name: str, target: truth.Target) -> list[tuple[Tensor, object]]:
    """Independent coordinates with their exact distribution functions."""
    x = x.double()
    if name == "gaussian":
        z = torch.linalg.solve_triangular(
            torch.linalg.cholesky(target.covariance), (x - target.mean).T, upper=False
        )
        return [(z[0], stats.norm.cdf), (z[1], stats.norm.cdf)]
    if name == "banana":
        rest = (x[:, 1] - 0.5 * (x[:, 0].square() - 1)) / 0.5
        return [(x[:, 0], stats.norm.cdf), (rest, stats.norm.cdf)]
    grid = torch.linspace(-4, 4, 40_001, dtype=torch.float64)
    mass = target.log_prob(grid[:, None]).exp().cumsum(0) * 2e-4

    def cdf(values):
        return torch.from_numpy(values).add(4).div(2e-4).round().long().clamp(0, 40_000).numpy()

    return [(x[:, 0], lambda values: mass.numpy()[cdf(values)])]


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("method", CORRECTED)
def test_corrected_samplers_draw_from_their_target(method, name):
    target = EASY[name]
    init = torch.full((CHAINS, target.domain.size), 0.8)
    if method in ("IndependenceMetropolis", "SMC"):
        init = wide(target).sample(CHAINS, seed=5)
    length = {"burn_in": 0, "thin": 1} if method == "SMC" else {"burn_in": 100, "thin": 40}
    steps = 4 * length["thin"]
    chain = sampler(method, target).run(target.energy, init, steps, 7, **length)
    assert chain.samples.shape == (CHAINS, 4, target.domain.size)
    assert torch.allclose(chain.energy[:, -1], target.energy(chain.last), atol=1e-4)
    for values, cdf in whitened(chain.last, name, target):
        assert stats.kstest(values.numpy(), cdf).pvalue > LEVEL


def chi_square(x: Tensor, target: truth.Target) -> float:
    """p-value of states of a small discrete target."""
    sites = target.domain.size
    low, step = target.domain.column(0).low, target.domain.column(0).step
    levels = target.domain.column(0).levels
    power = levels ** torch.arange(sites)
    states = torch.arange(levels**sites)[:, None] // power % levels * step + low
    p = target.log_prob(states.view(-1, *target.domain.shape)).exp()
    codes = ((x.flatten(1).long() - low) // step * power).sum(1)
    return stats.chisquare(torch.bincount(codes, minlength=len(p)).numpy(), (p * len(x)).numpy())[1]


ISING = truth.ising(2, 3, 2.5, 0.2)
POTTS = truth.enumerated(
    "potts", lk.categories(3, 4), lambda s: -0.9 * (s == s.roll(1, 1)).sum(1).double()
)
BITS = truth.enumerated(
    "bits", lk.binary(6), lambda s: (s.double().cumsum(1) - 1).square().sum(1) / 4
)


@pytest.mark.parametrize(
    ("gibbs", "target"),
    [
        (Gibbs(ISING.domain), ISING),
        (Gibbs(POTTS.domain), POTTS),
        (Gibbs(BITS.domain), BITS),
        (Gibbs(ISING.domain, [[0, 1, 2], [3, 4, 5]]), ISING),
        (Gibbs(POTTS.domain, [[0, 1], [1, 2], [3]]), POTTS),
        (Gibbs(BITS.domain, [[5, 4], [0, 1, 2, 3]]), BITS),
        (Gibbs(truth.ising(2, 4).domain, [[0, 2, 5, 7], [1, 3, 4, 6]], True), truth.ising(2, 4)),
        (ParallelTempering(Gibbs(BITS.domain), (1, 3)), BITS),
        (IndependenceMetropolis(truth.ising(2, 3, 5.0)), ISING),
    ],
    ids=lambda value: type(value).__name__ if not hasattr(value, "name") else value.name,
)
def test_discrete_samplers_draw_from_their_target(gibbs, target):
    init = target.modes[:1].expand(10_000, *target.domain.shape)
    chain = gibbs.run(target.energy, init, 25, 3, thin=25)
    assert chain.samples.dtype == torch.int64
    assert 0.01 / 18 < chi_square(chain.last, target) < 1 - 0.01 / 18


def test_the_bias_of_unadjusted_langevin_is_the_known_one():
    step = 0.4
    chain = Langevin(step).run(lambda x: x.square().sum(1) / 2, torch.zeros(20_000, 2), 60, 1)
    variance = chain.last.double().var(0)
    error = math.sqrt(2 / 20_000) / (1 - step / 2)
    assert (variance - 1 / (1 - step / 2)).abs().max() < 3 * error
    slower = Langevin(torch.full((20_000,), step)).run(
        lambda x: x.square().sum(1) / 2, torch.zeros(20_000, 2), 60, 1
    )
    assert torch.equal(slower.samples, chain.samples)


def test_tempering_finds_both_wells_where_langevin_does_not():
    target = truth.double_well(15.0, 0.3)
    init = torch.full((500, 1), -1.0)
    plain = Langevin(0.004).run(target.energy, init, 2000, 0, thin=100)
    assert (plain.samples < 0).all()
    tempering = ParallelTempering(MALA(0.01), (1, 2, 4, 8, 16))
    chain = tempering.run(target.energy, init, 500, 0, burn_in=200, thin=100)
    left = (chain.last < 0).double().mean()
    p = target.mode_weights[0]
    assert abs(left - p) < 3.5 * (p * (1 - p) / 500).sqrt()
    assert chain.info["swaps"].min() > 0.3
    assert chain.info["step"].diff().min() > 0


def test_tempering_finds_its_own_temperatures():
    target = truth.double_well(15.0, 0.3)
    init = target.modes[:1].expand(200, 1)
    chain = ParallelTempering().run(target.energy, init, 300, 0, burn_in=200, thin=10)
    left, p = (chain.last < 0).double().mean(), target.mode_weights[0]
    assert abs(left - p) < 3.5 * (p * (1 - p) / 200).sqrt()
    assert chain.info["temperatures"].tolist() == pytest.approx([2.0**k for k in range(8)])
    # In many dimensions energies differ so much that temperatures must stand closer.
    normal = ParallelTempering(MALA(), temperatures=5)
    chain = normal.run(lambda x: x.square().sum(1) / 2, torch.zeros(50, 60), 200, 0, burn_in=300)
    temperatures, swaps = chain.info["temperatures"], chain.info["swaps"]
    assert temperatures[0] == 1
    assert (temperatures[1:] / temperatures[:-1]).min() > 1.1
    assert temperatures[-1] < 6
    assert (swaps - 0.4).abs().max() < 0.1


def test_given_temperatures_stay():
    chain = ParallelTempering(MALA(), (1, 3)).run(
        lambda x: x.square().sum(1) / 2, torch.zeros(20, 60), 20, 0, burn_in=50
    )
    assert chain.info["temperatures"].tolist() == [1, 3]
    with pytest.raises(lk.LikelyError, match="must rise from 1, and be two at least"):
        ParallelTempering(temperatures=1)


@pytest.mark.parametrize("sampler", [HMC, MALA, Langevin, ParallelTempering])
def test_samplers_need_no_arguments(sampler):
    chain = sampler().run(
        lambda x: x.square().sum(1) / 2, torch.zeros(200, 2), 300, 0, burn_in=300, thin=300
    )
    assert chain.last.var().item() == pytest.approx(1.0, abs=0.25)


def test_particles_keep_the_weights_of_wells_they_cannot_cross():
    target = truth.double_well(15.0, 0.6)
    base = truth.gaussian([0.0], [[4.0]])
    chain = SMC(base, MALA(0.05)).run(target.energy, base.sample(4000, seed=1), 1, 2)
    p = target.mode_weights[0]
    assert p > 0.7
    assert abs((chain.last < 0).double().mean() - p) < 0.03
    assert abs(chain.info["log_z"] - target.log_z) < 3 * chain.info["log_z_stderr"]


@pytest.mark.parametrize("temperature", [1.5, 2.27, 3.5])
def test_ising_energies_are_kaufmans(temperature):
    target = truth.ising(16, 16, temperature)
    mean = truth.kaufman(16, 16, temperature)[1] / temperature
    chess = torch.arange(256).view(16, 16)
    odd = (chess // 16 + chess % 16) % 2 == 1
    gibbs = Gibbs(target.domain, [chess[odd].tolist(), chess[~odd].tolist()], independent=True)
    if temperature < 2 or temperature > 3:  # at the critical point local moves are slow
        init = torch.ones(200, 16, 16)
        chain = gibbs.run(target.energy, init, 200, 2, burn_in=100, thin=10)
        energy = chain.energy.double().mean(1)
        assert abs(energy.mean() - mean) < 3 * energy.std() / math.sqrt(len(energy))
    energy = target.energy(target.sample(300, 4))
    assert abs(energy.mean() - mean) < 3 * energy.std() / math.sqrt(len(energy))


@pytest.mark.slow
def test_phi4_gives_the_reference_susceptibility():
    target = truth.phi4()
    hmc = HMC(0.1, leapfrogs=8)
    chain = hmc.run(target.energy, torch.randn(1024, 8, 8) / 2, 160, 1, burn_in=100, thin=5)
    chi = truth.susceptibility(chain.samples.flatten(0, 1)).view(1024, -1).mean(1).double()
    error = chi.std() / math.sqrt(len(chi))
    assert error < 0.008
    assert abs(chi.mean() - CHI) < 3 * error


@pytest.mark.slow
def test_free_field_has_the_propagator_of_its_momentum():
    target = truth.phi4(4, 4, mass2=0.5, coupling=0.0)
    chain = HMC(0.1).run(target.energy, torch.randn(4000, 4, 4), 60, 1, burn_in=100, thin=60)
    chi = truth.susceptibility(chain.last).double()
    assert abs(chi.mean() - 1) < 3 * math.sqrt(2 / 4000)  # 1/(2 m²) at zero momentum
    wave = torch.fft.fft2(chain.last.double())[:, 1, 2].abs().square() / 16
    expected = 1 / (2 * 0.5 + 4 * (1 - math.cos(math.pi / 2)) + 4 * (1 - math.cos(math.pi)))
    assert abs(wave.mean() - expected) < 3 * wave.std() / math.sqrt(4000)


DOMAIN = lk.table(lk.Positive(), lk.Interval(-1, 2), lk.Periodic(-math.pi, math.pi))


def bounded(x: Tensor) -> Tensor:
    """Gamma(3), a scaled Beta(2, 1) and von Mises(1.5); no value at all outside the domain."""
    g, b, phi = x.unbind(1)
    inside = (g > 0) & (b >= -1) & (b <= 2)
    e = g - 2 * g.log() - ((b + 1) / 3).log() - 1.5 * phi.cos()
    return torch.where(inside, e, torch.nan)


@pytest.mark.parametrize("sampler", [MALA(0.1, DOMAIN), HMC(0.2, DOMAIN)], ids=["MALA", "HMC"])
def test_bounds_and_periods_are_respected(sampler):
    init = torch.tensor([[1.0, 0.0, 3.0]]).expand(3000, 3)
    chain = sampler.run(bounded, init, 160, 3, burn_in=100, thin=40)
    DOMAIN.check(chain.samples.flatten(0, 1))
    g, b, phi = chain.last.double().numpy().T
    level = 0.01 / 6
    assert stats.kstest(g, stats.gamma(3).cdf).pvalue > level
    assert stats.kstest((b + 1) / 3, stats.beta(2, 1).cdf).pvalue > level
    assert stats.kstest(phi, stats.vonmises(1.5).cdf).pvalue > level
    assert torch.allclose(chain.energy[:, -1], bounded(chain.last), atol=1e-3, rtol=1e-3)


def test_langevin_crosses_the_seam_and_stays_inside():
    init = torch.tensor([[1.0, 0.0, 3.0]]).expand(3000, 3)
    chain = Langevin(0.005, DOMAIN).run(bounded, init, 400, 3, thin=40)
    DOMAIN.check(chain.samples.flatten(0, 1))
    assert (chain.samples[:, 0, 2] < 0).any()  # from 3 to the other side of π


@pytest.mark.usefixtures("compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_gradients_make_the_same_chains():
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1)
    ).double()

    def energy(x):
        return network(x)[:, 0] + bounded(x)

    init = torch.tensor([[1.0, 0.0, 3.0]], dtype=torch.float64).expand(50, 3)
    for method in (Langevin, MALA, HMC):
        plain, compiled = (
            method(0.01, DOMAIN, compile=on).run(energy, init, 10, seed=1) for on in (False, True)
        )
        torch.testing.assert_close(compiled.samples, plain.samples, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(compiled.energy, plain.energy, rtol=1e-10, atol=1e-12)
        assert not compiled.samples.requires_grad
    assert all(p.grad is None for p in network.parameters())


def test_hmc_tunes_step_and_mass():
    scale = torch.tensor([0.01, 1.0, 100.0])
    chain = HMC(1.0).run(
        lambda x: (x / scale).square().sum(1) / 2, 3 * scale * torch.ones(500, 1), 400, 1,
        burn_in=400, thin=20,
    )  # fmt: skip
    assert chain.info["scale"] / scale == pytest.approx(torch.ones(3), rel=0.2)
    assert 0.7 < chain.diagnostics.acceptance < 0.95
    assert chain.mixed


@pytest.mark.slow
def test_hmc_is_not_misled_by_angles_that_go_round_and_round():
    """On its covering line an angle wanders off, and its mass must not follow."""
    domain = lk.table(lk.Periodic(-math.pi, math.pi), lk.Real())
    chain = HMC(0.2, domain).run(
        lambda x: x[:, 1].square() / 2 - 0.3 * x[:, 0].cos(),
        torch.zeros(50, 2), 250, 1, burn_in=500,
    )  # fmt: skip
    assert chain.info["scale"][0] < 2
    assert chain.info["step"] > 0.1
    assert chain.mixed


def test_states_without_a_shape_of_their_own():
    init = torch.zeros(1000)
    for sampler in (Langevin(0.1), MALA(0.5), HMC(0.5), ParallelTempering(MALA(0.5), (1, 2))):
        chain = sampler.run(lambda x: x.square() / 2, init, 30, 0)
        assert chain.samples.shape == (1000, 30)
        assert chain.last.var().item() == pytest.approx(1.0, abs=0.2)


def test_gibbs_rejects_an_energy_of_minus_infinity():
    chain = Gibbs(lk.binary(2)).run(
        lambda s: torch.where(s.sum(1) == 2, -math.inf, 0.0), torch.zeros(50, 2).long(), 20, 0
    )
    assert (chain.samples.sum(2) < 2).all()
    assert "NaN or −∞" in "".join(chain.diagnostics.notes)


def test_a_burn_in_of_one_step_leaves_the_step_as_it_was():
    for method in (MALA(0.3), HMC(0.3)):
        chain = method.run(lambda x: x.square().sum(1) / 2, torch.ones(4, 2), 4, 0, burn_in=1)
        assert chain.info["step"] == pytest.approx(0.3)


def test_the_same_seed_gives_the_same_bits_and_no_setting_is_left_changed():
    target = EASY["gaussian"]
    init = torch.linspace(-1, 1, 20).view(10, 2)
    state = torch.random.get_rng_state()
    for method in CORRECTED:
        one, two, other = (
            sampler(method, target).run(target.energy, init, 8, seed, burn_in=5)
            for seed in (3, 3, 4)
        )
        assert torch.equal(one.samples, two.samples)
        assert not torch.equal(one.samples, other.samples)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


def test_double_precision_is_kept_and_parameters_get_no_gradients():
    net = torch.nn.Linear(2, 1, dtype=torch.float64)
    init = torch.zeros(4, 2, dtype=torch.float64)

    def energy(x: Tensor) -> Tensor:
        return net(x)[:, 0].square() + x.square().sum(1)

    for method in (Langevin(0.1), MALA(0.1), HMC(), ParallelTempering(HMC(), (1, 2))):
        chain = method.run(energy, init, 4, 0, burn_in=3)
        assert chain.samples.dtype == chain.energy.dtype == torch.float64
        assert not chain.samples.requires_grad
    assert net.weight.grad is None


def crude(symmetric: bool = True, orders: int = 1) -> lk.GenerativeModel:
    """An autoregressive model of 2 × 3 spins far from any target."""
    model = lk.make("made", ISING.domain, symmetric=symmetric, orders=orders, hidden=(12,), seed=0)
    with torch.no_grad(), seeded(0):
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("symmetric", [False, True])
def test_partial_redraws_leave_the_target_as_it_is(symmetric):
    init = ISING.sample(4 * CHAINS, 3)
    chain = PartialRedraw(crude(symmetric)).run(ISING.energy, init, 20, 7, thin=20)
    assert 0.1 < chain.acceptance.mean() < 0.9
    assert chi_square(chain.last, ISING) > LEVEL


def test_partial_redraws_of_a_perfect_model_are_all_accepted():
    model = crude()
    chain = PartialRedraw(model).run(lambda x: -model.log_prob(x), model.sample(50, seed=1), 20, 7)
    assert chain.acceptance.min() > 1 - 1e-5
    assert (chain.samples[:, 1:] != chain.samples[:, :-1]).any()


def test_partial_redraws_need_one_ordering():
    with pytest.raises(lk.LikelyError, match="orders=1"):
        PartialRedraw(crude(orders=2))
