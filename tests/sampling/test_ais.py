"""log Z: against exact values, for paths and kernels of all kinds."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import softplus

import likely as lk
from likely import targets as truth
from likely.sampling import HMC, MALA, SMC, Gibbs, IndependenceMetropolis, ais

WIDE = truth.gaussian([0.0, 0.0], 9 * torch.eye(2))
MIXTURE = truth.gaussian_mixture(
    [1, 2], [[-2.0, 0], [2.0, 1]], [[[0.5, 0], [0, 0.5]], [[1, 0.3], [0.3, 0.5]]]
)


@pytest.mark.parametrize("target", [truth.gaussian(), MIXTURE], ids=lambda target: target.name)
@pytest.mark.parametrize(
    "kernel",
    [pytest.param(None, marks=pytest.mark.slow, id="HMC"), pytest.param(MALA(0.5), id="MALA")],
)
def test_forward_and_reverse_enclose_log_z(target, kernel):
    result = ais(
        target.energy,
        WIDE,
        kernel=kernel,
        betas=100,
        chains=256,
        exact=target.sample(256, 1),
        seed=2,
    )
    assert result.exact
    assert abs(result.log_z.value - target.log_z) < 3 * result.log_z.stderr
    assert abs(result.reverse.value - target.log_z) < 3 * result.reverse.stderr
    assert result.log_z.stderr < 0.08
    assert not result.notes
    assert "upper bound in expectation" in str(result)
    again = ais(
        target.energy,
        WIDE,
        kernel=kernel,
        betas=100,
        chains=256,
        exact=target.sample(256, 1),
        seed=2,
    )
    assert torch.equal(again.log_weights, result.log_weights)


@pytest.mark.slow
def test_few_temperatures_are_noticed_and_the_bounds_keep_their_sides():
    narrow = truth.gaussian(torch.zeros(20), 0.01 * torch.eye(20))
    base = truth.gaussian(torch.ones(20), torch.eye(20))
    result = ais(narrow.energy, base, betas=4, exact=narrow.sample(512, 0), seed=0)
    assert result.log_z.value < narrow.log_z < result.reverse.value
    assert any("more temperatures" in note for note in result.notes)


@pytest.mark.slow
def test_adaptive_temperatures_beat_even_ones():
    narrow = truth.gaussian(torch.zeros(5), 0.01 * torch.eye(5))
    base = truth.gaussian(torch.zeros(5), torch.eye(5))
    kernel = HMC(0.1)
    adaptive = ais(narrow.energy, base, kernel=kernel, betas=60, seed=0, reverse=False)
    even = ais(
        narrow.energy, base, kernel=kernel, betas=torch.linspace(0, 1, 61), seed=0, reverse=False
    )
    assert even.reverse is None
    assert even.gap is None
    assert adaptive.ess > 2 * even.ess
    assert adaptive.betas.diff().min() > 0
    assert abs(adaptive.log_z.value - narrow.log_z) < 3 * adaptive.log_z.stderr


def test_discrete_targets_by_gibbs():
    target = truth.ising(3, 3, 2.0, 0.2)
    flat = truth.enumerated("flat", target.domain, lambda s: 0.0 * s.sum((1, 2)).double())
    result = ais(
        target.energy, flat, kernel=Gibbs(target.domain), betas=100, chains=200,
        chain_steps=20, seed=1,
    )  # fmt: skip
    assert abs(result.log_z.value - target.log_z) < 3 * result.log_z.stderr
    assert abs(result.gap.value) < 3 * result.gap.stderr
    assert not result.exact
    assert "diagnostic, from long chains" in str(result)


def test_draws_of_the_base_that_violate_several_constraints():
    # Hard-core gas on a ring of 8: 47 states, no two neighbours occupied (the eighth Lucas number).
    domain = lk.binary(8)

    def energy(s: Tensor) -> Tensor:
        return torch.where((s * s.roll(1, 1)).sum(1) > 0, torch.inf, 0.0)

    flat = truth.enumerated("flat", domain, lambda s: 0.0 * s.sum(1).double())
    for kernel in (Gibbs(domain), IndependenceMetropolis(flat)):
        options = {"betas": [0.0, 0.5, 1.0], "chains": 4000, "chain_steps": 20}
        result = ais(energy, flat, kernel=kernel, **options, seed=0)
        assert abs(result.log_z.value - math.log(47)) < 3 * result.log_z.stderr
        assert (energy(result.samples[result.log_weights.isfinite()]) == 0).all()


def test_a_base_that_reaches_beyond_the_support():
    """Half a Gaussian: exp(−x²/2) for x > 0, annealed from N(0, 4)."""

    def energy(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, x[:, 0].square() / 2, torch.inf)

    base = truth.gaussian([0.0], [[4.0]])
    log_z = math.log(math.sqrt(math.pi / 2))
    result = ais(energy, base, kernel=MALA(0.5), betas=30, chain_steps=20, seed=0)
    assert abs(result.log_z.value - log_z) < 3 * result.log_z.stderr
    # No long chain starts where it cannot move; on the way back none sees the other half of the base.
    assert abs(result.gap.value - math.log(2)) < 3 * result.gap.stderr
    chain = SMC(base, MALA(0.5)).run(energy, base.sample(2000, seed=3), 1, 4)
    assert abs(chain.info["log_z"] - log_z) < 3 * chain.info["log_z_stderr"]
    assert (chain.last > 0).all()


@pytest.mark.slow
def test_a_mode_that_long_chains_miss_shows_when_they_start_in_the_data():
    """Both runs miss the other well together, unless the chains start from both."""
    target = truth.double_well(60.0)
    base = truth.gaussian([-1.0], [[0.01]])
    betas = torch.linspace(0, 1, 61)
    kernel = HMC(0.02)
    blind = ais(target.energy, base, kernel=kernel, betas=betas, chains=200, chain_steps=50, seed=0)
    seen = ais(
        target.energy, base, kernel=kernel, betas=betas, chains=200, chain_steps=50, seed=0,
        init=target.sample(200, 1),
    )  # fmt: skip
    assert abs(blind.gap.value) < 1
    assert seen.notes
    exact = ais(
        target.energy,
        base,
        kernel=kernel,
        betas=betas,
        chains=200,
        seed=0,
        exact=target.sample(200, 1),
    )
    assert exact.reverse.value > target.log_z - 3 * exact.reverse.stderr


@pytest.mark.parametrize("seed", [0, 1])
def test_a_reverse_run_that_ends_nowhere_is_noticed(seed):
    """Long chains that start outside the support, and stay there."""
    outside = torch.full((100, 1), -1.0)
    result = ais(
        lambda x: torch.where(x[:, 0] > 0, x[:, 0].square() / 2, torch.inf),
        truth.gaussian([0.0], [[4.0]]),
        kernel=MALA(1e-4), betas=torch.linspace(0, 1, 31), init=outside, chain_steps=1, seed=seed,
    )  # fmt: skip
    assert not math.isfinite(result.gap.value)
    assert any("differ by" in note for note in result.notes)


@pytest.mark.slow
def test_the_error_of_smc_is_its_spread_and_grows_where_a_kernel_forgets_slowly():
    base = truth.gaussian([0.0] * 10, torch.eye(10))
    target = truth.gaussian([0.0] * 10, 0.01 * torch.eye(10))

    def estimates(moves: int) -> tuple[Tensor, Tensor]:
        infos = []
        for seed in range(10):
            smc = SMC(base, MALA(0.1), moves=moves)
            infos.append(smc.run(target.energy, base.sample(300, seed=seed), 1, seed).info)
        found, stderr = (
            torch.stack([i[name] for i in infos]) for name in ("log_z", "log_z_stderr")
        )
        return (found - target.log_z) / stderr, stderr

    scores, stderr = estimates(20)
    assert 0.005 < stats.chi2.cdf(scores.square().sum().item(), 10) < 0.995
    assert estimates(5)[1].mean() > 1.2 * stderr.mean()


def test_smc_estimates_log_z():
    for target in (truth.gaussian(), MIXTURE):
        smc = SMC(WIDE, HMC(0.3, leapfrogs=5))
        chain = smc.run(target.energy, WIDE.sample(2000, 4), 1, 5)
        log_z, stderr = chain.info["log_z"], chain.info["log_z_stderr"]
        assert abs(log_z - target.log_z) < 3 * stderr
        assert stderr < 0.1


class RBM:
    """E(v, h) = −vᵀW h − b·v − c·h with 20 visible and 12 hidden units, annealed from b = c = W = 0."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.W = torch.randn(20, 12, generator=generator, dtype=torch.float64) / 2
        self.b, self.c = (
            torch.randn(n, generator=generator, dtype=torch.float64) / 2 for n in (20, 12)
        )

    def path(self, v: Tensor, beta: float) -> Tensor:
        return -beta * (v @ self.b) - softplus(beta * (v @ self.W + self.c)).sum(1)

    def kernel(self, v: Tensor, beta: float) -> Tensor:
        h = torch.bernoulli(torch.sigmoid(beta * (v @ self.W + self.c)))
        return torch.bernoulli(torch.sigmoid(beta * (h @ self.W.T + self.b)))

    def enumerated(self) -> tuple[float, Tensor, Tensor]:
        """log Z, all hidden states, and their probabilities."""
        h = (torch.arange(2**12)[:, None] >> torch.arange(12) & 1).double()
        log_weight = h @ self.c + softplus(h @ self.W.T + self.b).sum(1)
        return log_weight.logsumexp(0).item(), h, log_weight.softmax(0)

    def sample(self, n: int) -> Tensor:
        _, h, p = self.enumerated()
        h = h[torch.multinomial(p, n, replacement=True)]
        return torch.bernoulli(torch.sigmoid(h @ self.W.T + self.b))


class Coins:
    """Fair coins, the RBM's path at β = 0."""

    def sample(self, n: int, *, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(2, (n, 20), generator=generator).double()

    def log_prob(self, v: Tensor) -> Tensor:
        return v.new_full((len(v),), -20 * math.log(2))


def estimate(seed: int, temperatures: int, chains: int):
    rbm = RBM(seed)
    torch.manual_seed(1000 + seed)  # not the stream that drew the weights
    result = ais(
        lambda v: rbm.path(v, 1.0), Coins(), kernel=rbm.kernel, path=rbm.path,
        betas=torch.linspace(0, 1, temperatures + 1), chains=chains, exact=rbm.sample(chains),
        seed=2000 + seed,
    )  # fmt: skip
    return result, rbm.enumerated()[0]


def test_the_free_energy_path_of_an_rbm():
    for seed in range(3):
        result, log_z = estimate(seed, 300, 100)
        assert abs(result.log_z.value - log_z) < 3.5 * result.log_z.stderr
        assert abs(result.reverse.value - log_z) < 3.5 * result.reverse.stderr


@pytest.mark.slow
def test_intervals_of_100_random_rbms_cover_log_z_at_their_level():
    results = [estimate(seed, 1000, 100) for seed in range(100)]
    covered = sum(abs(r.log_z.value - z) < 1.96 * r.log_z.stderr for r, z in results)
    assert 90 <= covered <= 99
    assert all(r.gap.value > -3 * r.gap.stderr for r, _ in results)


def test_targets_carry_the_energy_that_belongs_to_log_z():
    for target in (truth.gaussian([1.0], [[4.0]]), MIXTURE, truth.funnel(3), truth.double_well()):
        x = target.sample(20, 0)
        assert torch.allclose(target.log_prob(x), -target.energy(x) - target.log_z, atol=1e-4)
    unit = truth.gaussian([0.0], [[1.0]])
    assert unit.energy(torch.tensor([[2.0]])).item() == pytest.approx(2.0)
    assert replace(unit).log_z == pytest.approx(math.log(2 * math.pi) / 2)
    assert lk.Target is type(unit)
