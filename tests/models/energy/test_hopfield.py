"""Hopfield networks against their energies, closed-form mixtures and the capacity that is known."""

import itertools
import math

import pytest
import scipy.stats
import torch

import likely as lk
from likely.contract.training import Batch
from likely.core.random import seeded
from likely.models.energy import Hopfield, ModernHopfield, capacity


def patterns(n, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randint(2, (n, size), generator=generator) - 1


def network(xi, **options):
    model = Hopfield(lk.spins(xi.shape[1]), patterns=len(xi), **options).double()
    model.store(xi)
    return model.eval()


def states(n):
    return torch.tensor([*itertools.product([-1, 1], repeat=n)])


@pytest.mark.parametrize("storage", ["hebbian", "pseudo-inverse"])
def test_couplings_and_probabilities(storage):
    xi = patterns(3, 9)
    model = network(xi, storage=storage, temperature=0.7)
    X = xi.double()
    J = X.T @ X / 9 if storage == "hebbian" else torch.linalg.pinv(X) @ X
    J = J.fill_diagonal_(0)
    torch.testing.assert_close(model.couplings, J)
    s = states(9).double()
    energy = -torch.einsum("ni,ij,nj->n", s, J, s) / 2 / 0.7
    torch.testing.assert_close(model.free_energy(states(9)), energy)
    expected = energy.neg().log_softmax(0)
    torch.testing.assert_close(model.log_prob(states(9)), expected)
    found = model.annealed(betas=300, chains=500, seed=0)
    assert abs(found.log_z.value - model.log_z().value) < 4 * found.log_z.stderr
    # The block Gibbs step keeps the distribution.
    with seeded(0):
        v = model._exact_states(5000)
        for _ in range(3):
            v = model._gibbs(model._field(v), 1.0)
    observed = (v[:, None].long() == states(9)).all(2).sum(0)
    n = 5000 * expected.exp()
    keep = n > 5
    statistic = ((observed - n)[keep].square() / n[keep]).sum().item()
    assert scipy.stats.chi2.sf(statistic, int(keep.sum()) - 1) > 1e-4


def test_recall_goes_downhill_to_a_fixed_point():
    model = network(patterns(30, 100))
    start = patterns(50, 100, seed=1)
    end = model.recall(start, seed=0)
    assert (model.free_energy(end) <= model.free_energy(start)).all()
    field = end.double() @ model.couplings
    assert (end * field > -1e-10).all()
    assert torch.equal(model.recall(end, seed=1), end)
    assert torch.equal(model.recall(start, seed=0), end)


def test_the_pseudo_inverse_holds_correlated_patterns():
    xi = patterns(40, 100)
    xi[1:20] = torch.where(torch.rand(19, 100) < 0.15, -xi[0], xi[0])
    assert not torch.equal(network(xi).recall(xi, seed=0), xi)
    model = network(xi, storage="pseudo-inverse")
    assert torch.equal(model.recall(xi, seed=0), xi)


@pytest.mark.slow
def test_capacity_of_hebbs_rule():
    low, high = capacity([0.12, 0.18], networks=6, seed=0)
    assert low.value - 2 * low.stderr > 0.95
    assert high.value + 2 * high.stderr < 0.6
    (inverse,) = capacity([0.25], units=100, storage="pseudo-inverse", flipped=0.05, seed=0)
    assert inverse.value > 0.99


def test_completion_keeps_what_is_known():
    xi = patterns(4, 60).view(4, 6, 10)
    model = Hopfield(lk.spins(6, 10), patterns=4)
    model.store(xi)
    known = torch.zeros(6, 10, dtype=torch.bool)
    known[:3] = True
    x = torch.where(known, xi, 7)
    assert torch.equal(model.complete(x, known, seed=0), xi)
    wrong = xi.clone()
    wrong[:, 0, 0] *= -1
    assert torch.equal(model.complete(wrong, known, seed=0)[:, :3], wrong[:, :3])
    with pytest.raises(lk.DataError, match="-1 or 1"):
        model.complete(torch.zeros(2, 6, 10), known)
    with pytest.raises(lk.DataError, match="shape"):
        model.complete(xi, known[:2])


def test_fit_stores_rows_of_positive_weight():
    x = patterns(400, 30)
    weight = torch.zeros(400)
    weight[::2] = 1
    split = lk.data.Split(x, weight=weight)
    data = lk.Data(lk.spins(30), split, split, split)
    model = lk.make("hopfield", data.domain, storage="pseudo-inverse", patterns=5)
    history = lk.fit(model, data)
    assert history.rows[0]["stored"] == 5
    assert model.density == lk.Kind.ESTIMATE
    overlap = (x.float() @ model.factor.T).square().sum(1) / 30  # 1 for what is stored
    assert (overlap[::2] > 1 - 1e-4).sum() == 5
    assert (overlap[1::2] < 0.9).all()
    with pytest.raises(lk.DataError, match="to store"):
        model.epoch([Batch(x, weight=torch.zeros(400))])
    with pytest.raises(lk.DataError, match="6 rows for 5"):
        model.store(x[:6])


def continuous(beta=1.5, n=6, dim=3):
    model = ModernHopfield(lk.reals(dim), patterns=8, beta=beta).double()
    with seeded(0):
        x = torch.randn(n, dim, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0])
        model.prepare(Batch(x))
        model.epoch([Batch(x)])
    return model.eval(), x


def test_the_continuous_networks_density_is_a_mixture():
    model, x = continuous()
    X, _ = model.view(x)
    y = torch.randn(40, 3, dtype=torch.float64) * 2
    z, log_det = model.view(y)
    weight = (0.75 * X.square().sum(1)).softmax(0)
    normal = torch.distributions.Normal(X, 1 / math.sqrt(1.5))
    expected = (normal.log_prob(z[:, None]).sum(2) + weight.log()).logsumexp(1) + log_det
    torch.testing.assert_close(model.log_prob(y), expected)
    # −βE is its logarithm, up to a constant.
    constant = model.log_prob(y) - log_det + 1.5 * model.energy(z)
    torch.testing.assert_close(constant, constant[:1].expand(40))


def test_the_softmax_update_goes_downhill_and_recalls():
    model, x = continuous(beta=20)
    start = x + 0.3 * torch.randn_like(x)
    end = model.recall(start)
    energies = [model.energy(model.view(t)[0]) for t in (start, end)]
    assert (energies[1] <= energies[0] + 1e-12).all()
    xi, X = model.view(start)[0], model.view(x)[0]
    torch.testing.assert_close(model.view(end)[0], (20 * xi @ X.T).softmax(1) @ X)
    # Orthogonal patterns of equal norm are recalled after one step.
    model.patterns[:3] = 2 * torch.eye(3)
    model.stored.fill_(3)
    cue = model.view.inverse(2 * torch.eye(3).double() + 0.3)
    torch.testing.assert_close(model.view(model.recall(cue))[0], 2 * torch.eye(3).double())


def test_completions_are_draws_from_the_conditional():
    model, x = continuous()
    known = torch.tensor([True, False, False])
    row = x[:1].expand(20_000, 3)
    y = model.complete(row, known, seed=0)
    assert torch.equal(y[:, 0], row[:, 0])
    grid = torch.linspace(-40, 40, 801, dtype=torch.float64)
    plane = torch.cartesian_prod(grid, grid)
    points = torch.cat([x[:1, :1].expand(len(plane), 1), plane], 1)
    p = model.log_likelihood(points).value.softmax(0)
    for column in range(2):
        mean = (p * plane[:, column]).sum()
        variance = (p * (plane[:, column] - mean).square()).sum()
        assert abs(y[:, 1 + column].mean() - mean) < 4 * (variance / len(y)).sqrt()
        assert abs(y[:, 1 + column].var() / variance - 1) < 0.05


@pytest.mark.slow
def test_completions_of_discrete_columns_follow_the_samples():
    # A cell is wide here: the conditional is not that of one point in it.
    x = (torch.rand(64, 2, generator=torch.Generator().manual_seed(0)) < 0.5).long()
    x[:, 1] = torch.where(torch.arange(64) % 5 > 0, x[:, 0], x[:, 1])
    model = lk.make("modern-hopfield", lk.binary(2), patterns=64, beta=2.0)
    model.store(x)
    n = 200_000
    y = model.sample(n, seed=0).double()
    for value in (0, 1):
        given = y[y[:, 0] == value, 1]
        row = torch.tensor([value, 0]).expand(n, 2)
        filled = model.complete(row, torch.tensor([True, False]), seed=1)[:, 1].double()
        error = math.hypot(given.std() / len(given) ** 0.5, filled.std() / n**0.5)
        assert abs(given.mean() - filled.mean()) < 4 * error


def test_options_out_of_range():
    for name, options in (
        ("hopfield", {"temperature": 0.0}),
        ("hopfield", {"storage": "all"}),
        ("modern-hopfield", {"beta": -1.0}),
    ):
        domain = lk.reals(2) if name == "modern-hopfield" else lk.spins(5)
        with pytest.raises(lk.LikelyError, match=next(iter(options))):
            lk.make(name, domain, **options)
    with pytest.raises(lk.LikelyError, match="loads"):
        capacity([0.0])


@pytest.mark.parametrize(
    ("name", "domain"), [("hopfield", lk.spins(40)), ("modern-hopfield", lk.reals(50))]
)
def test_rows_that_are_stored_are_recalled_and_nothing_before(name, domain):
    model = lk.make(name, domain, patterns=3)
    x = torch.randn(3, domain.size)
    x = x.sign().long() if domain.discrete else 5 * x
    with pytest.raises(lk.LikelyError, match="nothing is stored yet"):
        model.recall(x)
    model.store(x)
    torch.testing.assert_close(model.recall(x), x, rtol=0, atol=1e-2)
    with pytest.raises(lk.DataError, match="4 rows for 3 patterns"):
        model.store(torch.cat([x, x[:1]]))
