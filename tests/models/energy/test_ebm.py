"""Energy-based models against quadrature, closed forms and what a training must survive."""

import math

import pytest
import scipy.stats
import torch
from torch.distributions import MultivariateNormal

import likely as lk
from likely import targets as truth
from likely.contract.training import Batch
from likely.core.random import seeded
from likely.models.energy import EBM
from likely.models.energy.base import GaussianBase
from likely.models.energy.denoising import COOLING, cooling, levels
from likely.models.energy.rollback import IN_A_ROW, KEPT, Rollback
from likely.nets.normalisation import SpectralNorm
from likely.targets import gaussian_mixture

PLANE = lk.reals(2)
CYLINDER = lk.table(x=lk.Real(), phi=lk.Periodic(-math.pi, math.pi))


def random_model(domain=PLANE, scale=0.4, **options):
    """In float64, with the scales of correlated normal rows and a network of random weights."""
    with seeded(0):
        model = EBM(domain, hidden=(16, 16), **options).double()
        x = torch.randn(500, domain.size, dtype=torch.float64)
        x[:, 1:] = 0.4 * x[:, 1:] + 0.5 * x[:, :1]
        model.prepare(Batch(x))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, scale)
    return model


def grid(low, high, cells):
    """Midpoints of a grid on a box, and log of a cell's area."""
    edges = [
        torch.linspace(a, b, cells + 1, dtype=torch.float64) for a, b in zip(low, high, strict=True)
    ]
    x = torch.cartesian_prod(*((e[1:] + e[:-1]) / 2 for e in edges))
    return x, math.log(math.prod(b - a for a, b in zip(low, high, strict=True)) / cells**2)


def plane(domain, cells=300):
    if domain == PLANE:
        return grid((-9, -9), (9, 9), cells)
    return grid((-9, -math.pi), (9, math.pi), cells)


@torch.no_grad()
def normalised(model, x, log_area):
    """log-densities at nodes of a grid, normalised by quadrature, and that log Z."""
    log_p = -torch.cat([model.free_energy(part).double() for part in x.split(1 << 16)])
    log_z = log_p.logsumexp(0) + log_area
    return log_p - log_z, log_z.item()


def chi_square(x, nodes, log_p, log_area, edges):
    """p-value of draws in the cells that the edges make, given the density at nodes of a grid."""

    def cell(y):
        place = [torch.bucketize(column.contiguous(), edges) for column in y.double().unbind(1)]
        return place[0] * (len(edges) + 1) + place[1]

    cells = (len(edges) + 1) ** 2
    mass = torch.zeros(cells, dtype=torch.float64)
    mass.index_add_(0, cell(nodes), (log_p + log_area).exp())
    observed = torch.bincount(cell(x), minlength=cells).double()
    expected = len(x) * mass / mass.sum()
    few = expected < 10
    observed = torch.cat([observed[~few], observed[few].sum()[None]])
    expected = torch.cat([expected[~few], expected[few].sum()[None]]).clamp_min(1e-9)
    statistic = ((observed - expected).square() / expected)[expected > 1].sum().item()
    return scipy.stats.chi2.sf(statistic, int((expected > 1).sum()) - 1)


EDGES = torch.linspace(-2.5, 2.5, 11, dtype=torch.float64)


def test_the_energy_is_a_network_on_a_gaussian():
    model = random_model()
    x = torch.randn(50, 2, dtype=torch.float64)
    z, log_det = model.view(x)
    covariance = model.base.factor @ model.base.factor.T
    normal = MultivariateNormal(model.base.mean, covariance)
    expected = model.network(z)[:, 0] - normal.log_prob(z) - log_det
    torch.testing.assert_close(model.free_energy(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("domain", [PLANE, CYLINDER])
def test_log_z_agrees_with_quadrature(domain):
    model = random_model(domain)
    nodes, log_area = plane(domain)
    log_p, log_z = normalised(model, nodes, log_area)
    for method in ("ais", "integral"):
        found = model.log_z(method=method, betas=100, chains=200, seed=0)
        assert 0 < found.stderr < 0.1
        assert abs(found.value - log_z) < 4 * found.stderr
    likelihood = model.log_likelihood(nodes[::7])
    assert likelihood.kind == lk.Kind.ESTIMATE
    assert likelihood.common_stderr == found.stderr
    shift = likelihood.value - log_p[::7]
    torch.testing.assert_close(shift, shift.mean().expand_as(shift), rtol=0, atol=1e-8)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("shift", [1, 3, 4])
def test_the_integral_reaches_into_the_tails_of_the_base(shift, d):
    """E e^(shift u) = e^(shift²/2), most of which lies around u = shift."""
    found = GaussianBase(torch.zeros(d, dtype=torch.bool)).integral(lambda u: -shift * u[:, 0])
    assert abs(found.value - shift**2 / 2) < 4 * found.stderr + 1e-4
    assert found.stderr < 0.03


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:log Z")  # of some seeds
def test_intervals_of_annealed_importance_sampling_cover_log_z():
    model, errors = random_model(), []
    nodes, log_area = plane(PLANE, 150)
    for seed in range(50):
        with seeded(seed), torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.3)
        found = model.log_z(method="ais", betas=20, chains=100, seed=seed)
        errors.append((found.value - normalised(model, nodes, log_area)[1]) / found.stderr)
    covered = sum(abs(error) < 1.96 for error in errors)
    assert covered >= 43  # fewer have probability 0.003 if 95 % is right
    square = sum(error**2 for error in errors)
    assert 0.005 < scipy.stats.chi2.cdf(square, 50) < 0.995


@pytest.mark.parametrize("domain", [PLANE, CYLINDER])
@pytest.mark.parametrize("replicas", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_chains_of_a_training_keep_the_density(domain, replicas):
    model = random_model(domain, replicas=replicas)
    nodes, log_area = plane(domain)
    log_p, _ = normalised(model, nodes, log_area)
    with seeded(1):
        start = model.base.sample(2500)
        assert chi_square(model._rows(start), nodes, log_p, log_area, EDGES) < 1e-6
        for _ in range(40):
            draws = model._negatives(start)
    assert chi_square(model._rows(draws), nodes, log_p, log_area, EDGES) > 1e-3


@pytest.mark.parametrize("domain", [PLANE, CYLINDER])
def test_samples_follow_the_density(domain):
    model = random_model(domain)
    nodes, log_area = plane(domain)
    x = model.sample(2500, seed=0)
    log_p, _ = normalised(model, nodes, log_area)
    assert chi_square(x, nodes, log_p, log_area, EDGES) > 1e-3
    assert model.sample(7, seed=1).shape == (7, 2)


def test_the_loss_has_the_gradient_of_the_likelihood():
    model = random_model(scale=0.3)
    data = gaussian_mixture([1.0], [[0.5, 0.0]], [[[0.3, 0.0], [0.0, 0.3]]]).sample(2000, 0)
    nodes, log_area = plane(PLANE, 150)
    exact = model.free_energy(data).mean() + (-model.free_energy(nodes)).logsumexp(0) + log_area
    parameters = list(model.parameters())
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(exact, parameters)])
    with seeded(0):
        model._chains = model.base.sample(10_000)[None]
        for _ in range(30):
            model._negatives(model._chains[0])
        gradients = torch.autograd.grad(model.loss(Batch(data)).mean(), parameters)
    found = torch.cat([g.flatten() for g in gradients])
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_denoising_learns_the_data_with_the_noise():
    def target(covariance):
        return gaussian_mixture([0.4, 0.6], [[-0.8, 0.0], [0.8, 0.3]], [covariance.tolist()] * 2)

    own = 0.1 * torch.eye(2, dtype=torch.float64)
    data = lk.load_data(target(own).sample(20_000, 0).float(), domain=PLANE)
    model = lk.make("ebm", PLANE, training="denoising", noise=(0.5,), hidden=(64, 64), seed=0)
    lk.fit(model, data, steps=300, rate=3e-3, batch=256)
    noise = (0.5 * model.view.scale.double()).square().diag()
    nodes, log_area = grid((-6, -6), (6, 6), 200)
    log_q, _ = normalised(model, nodes.float(), log_area)

    def divergence(covariance):
        log_p = target(covariance).log_prob(nodes)
        return (log_p.exp() * (log_p - log_q)).sum().item() * math.exp(log_area)

    assert divergence(own + noise) < 0.02
    assert divergence(own) > 0.1


def test_several_levels_of_noise():
    model = random_model(training="denoising", noise=(0.1, 0.5))
    loss = model.loss(Batch(torch.randn(200, 2, dtype=torch.float64)))
    assert loss.shape == (200,)
    loss.mean().backward()
    assert model.network.net.layers[0].weight.grad.isfinite().all()


def test_denoising_at_many_levels_has_its_known_bias():
    """Of normal data, ∇E = z/σ₀² Σ w σ²/(1 + σ²) with w ∝ σ⁻² N(z; 0, 1 + σ²): in few columns no score."""
    low, high = 0.5, 2.0
    data = lk.load_data(torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0)))
    options = {"training": "denoising", "hidden": (32, 32), "frequencies": ()}
    radii = torch.tensor([0.5, 1.0, 1.5, 2.0])
    z = radii[:, None] * torch.tensor([0.6, 0.8])

    def slopes(**given):
        model = lk.make("ebm", PLANE, seed=0, **options, **given)
        lk.fit(model, data, steps=400, batch=512, rate=1e-2, ema=0.98)
        x = (z * model.view.scale + model.view.shift).requires_grad_()
        (slope,) = torch.autograd.grad(model.free_energy(x).sum(), x)
        return ((slope * model.view.scale) * z).sum(1) / radii

    sigma = low * (high / low) ** ((torch.arange(2000) + 0.5) / 2000)
    variance = 1 + sigma.square()
    weight = (-radii[:, None].square() / (2 * variance)).exp() / variance / sigma.square()
    shrunk = (weight * sigma.square() / variance).sum(1) / weight.sum(1)
    biased, score = radii * shrunk / low**2, radii / (1 + low**2)
    many = slopes(noise=(low, high), spacing="geometric", quadratic=True)
    torch.testing.assert_close(many, biased, rtol=0.1, atol=0.05)
    assert ((biased - score) > 0.25 * score).all()
    torch.testing.assert_close(slopes(noise=(low,)), score, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("spacing", ["geometric", "linear"])
def test_each_row_has_a_level_of_its_own(spacing):
    rows = torch.zeros(500, 2, dtype=torch.float64)
    found = levels(rows, (0.1, 3.0), spacing)[:, 0].sort().values
    part = (found / 0.1).log() / math.log(30) if spacing == "geometric" else (found - 0.1) / 2.9
    assert torch.equal((500 * part).floor(), torch.arange(500.0, dtype=torch.float64))


def test_a_quadratic_head_falls_at_most_linearly():
    model = random_model(scale=2.0, quadratic=True, frequencies=())
    direction = torch.randn(500, 2, dtype=torch.float64)
    near, far = (model.network(t * direction)[:, 0] / t**2 for t in (1e3, 1e6))
    assert (far > -1e-3).all()
    torch.testing.assert_close(near, far, rtol=0.05, atol=0.05 * far.mean().item())


def test_cooled_samples_of_a_gaussian_energy_have_the_variance_of_its_recursion():
    options = {"noise": (0.5, 1.0), "spacing": "linear", "temperature": 10.0, "sample_steps": 108}
    model = random_model(training="denoising", **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    with pytest.raises(lk.DensityError, match="no likelihood"):
        model.log_likelihood(torch.zeros(2, 2))
    temperatures = cooling(10.0, 108)
    assert (len(temperatures), temperatures[19], temperatures[100]) == (108, 10, 1)
    base = model.base.factor @ model.base.factor.T
    s, axes = torch.linalg.eigh(base)
    step, v = COOLING * 0.25, s
    for t in temperatures:
        v = (1 - step / s).square() * v + 2 * step * t
    expected = (1 - 0.25 / s).square() * v
    z = model.view(model.sample(5000, seed=0))[0] @ axes
    found = z.var(0)
    assert ((found / expected - 1).abs() < 4 * math.sqrt(2 / 5000)).all()
    assert ((expected / s - 1).abs() > 0.3).all()


def test_pooled_columns_share_one_scale():
    domain = lk.integers(4, 16, 16, layout="image")
    x = torch.randint(4, (64, 16, 16))
    x[:, 0] = 0
    model = EBM(domain, pooled=True, hidden=(4, 8))
    model.prepare(Batch(x))
    assert (model.view.scale == model.view.scale[0]).all()


# Divergence.


def test_a_diverged_training_is_taken_back_and_goes_on():
    data = lk.load_data(truth.target("eight-gaussians").sample(3000, 0), domain=PLANE)
    model = lk.make("ebm", PLANE, hidden=(32, 32), seed=0)
    loss, seen = model.loss, []

    def disturbed(batch):
        if batch.step == 2 * KEPT + 20 and not model.rollbacks.count:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(30)
        value = loss(batch)
        seen.append(value.mean().item())
        return value

    model.loss = disturbed
    with pytest.warns(UserWarning, match="back to the last good state"):
        lk.fit(model, data, steps=2 * KEPT + 60, batch=64, ema=0.9, early_stopping=False)
    del model.loss
    assert model.rollbacks.count == 1
    assert max(map(abs, seen)) < 12
    score = model.log_likelihood(data.test.x, seed=0).mean().value
    start = lk.make("ebm", PLANE, hidden=(32, 32), seed=0)
    start.prepare(Batch(data.train.x))
    assert score > start.log_likelihood(data.test.x, seed=0).mean().value


def test_a_training_that_always_diverges_is_given_up():
    data = lk.load_data(truth.target("eight-gaussians").sample(3000, 0), domain=PLANE)
    model = lk.make("ebm", PLANE, hidden=(32, 32), seed=0)
    with (
        pytest.warns(UserWarning, match="energy"),
        pytest.raises(lk.DivergenceError, match="lower rate"),
    ):
        lk.fit(model, data, steps=400, batch=64, rate=30.0)


def test_a_rollback_returns_to_a_state_that_is_old_enough():
    guard, parameter = Rollback(), torch.zeros(())
    good, bad = {"gap": (1.0, 2.0)}, {"gap": (math.nan, 2.0)}
    for step in range(2 * KEPT + 10):
        parameter.fill_(step)
        assert not guard.check(good, [parameter])
    guard.load(guard.state())
    with pytest.warns(UserWarning, match="gap nan"):
        assert guard.check(bad, [parameter])
    assert parameter == KEPT
    for _ in range(IN_A_ROW - 1):
        with pytest.warns(UserWarning, match="gap nan"):
            assert guard.check(bad, [parameter])
    with pytest.raises(lk.DivergenceError, match="lower rate"):
        guard.check(bad, [parameter])
    assert guard.count == IN_A_ROW


def test_chains_are_training_state_and_not_saved(tmp_path):
    model = random_model(replicas=2)
    batch = Batch(torch.randn(20, 2, dtype=torch.float64))
    model.loss(batch)
    assert not any("chain" in name for name in model.state_dict())
    lk.core.files.write_tree(tmp_path / "state", model.training_state())
    twin = random_model(replicas=2)
    twin.load_training_state(lk.core.files.read_tree(tmp_path / "state"))
    for m in (model, twin):
        torch.manual_seed(3)
        m.loss(batch)
    assert torch.equal(model._chains, twin._chains)
    assert torch.equal(model._step, twin._step)
    model.load_training_state({})
    assert model._chains is None


# Fits.


def fitted(name, steps, rows, cells, **options):
    target = truth.target(name)
    splits = (lk.data.Split(target.sample(n, i).float()) for i, n in enumerate((rows, 2000, 10)))
    data = lk.Data(PLANE, *splits)
    model = lk.make("ebm", PLANE, seed=0)
    lk.fit(model, data, steps=steps, **options)
    nodes, log_area = grid((-6, -6), (6, 6), cells)
    log_q, log_z = normalised(model, nodes.float(), log_area)
    log_p = target.log_prob(nodes)
    inside = log_p > -math.inf
    kl = (log_p.exp() * (log_p - log_q))[inside].sum().item() * math.exp(log_area)
    return model, target, nodes, log_q, log_area, log_z, kl


@pytest.mark.slow
def test_a_short_fit():
    *_, kl = fitted("eight-gaussians", 250, 20_000, 400, batch=256)
    assert 0 < kl < 0.05


@pytest.mark.parametrize("options", [{}, {"spectral_norm": True, "energy_l2": 0.01}])
def test_images_and_stabilisers(options):
    domain = lk.integers(4, 16, 16, layout="image")
    x = torch.randint(4, (64, 16, 16))
    model = EBM(domain, hidden=(4, 8), k=1, proposals=1, **options)
    model.prepare(Batch(x))
    model.loss(Batch(x)).mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert any(isinstance(m, torch.nn.Conv2d) for m in model.modules())


def test_spectral_norm_brings_the_largest_singular_values_to_one():
    model = EBM(lk.reals(2), hidden=(16, 16), spectral_norm=True)
    x = torch.randn(50, 2)
    model.prepare(Batch(x))
    model.loss(Batch(x))  # a power iteration in each pass
    layers = [m for m in model.network.modules() if isinstance(m, SpectralNorm)]
    matrices = [layer.scale() * layer.layer.weight for layer in layers]
    largest = torch.stack([torch.linalg.svdvals(matrix)[0] for matrix in matrices])
    torch.testing.assert_close(largest, torch.ones(3), rtol=0.02, atol=0)


def test_the_penalty_is_the_mean_square_of_f_over_data_and_draws():
    x = torch.randn(50, 2)
    losses = []
    for weight in (0.0, 0.3):
        with seeded(0):
            model = EBM(lk.reals(2), hidden=(16,), energy_l2=weight)
            model.prepare(Batch(x))
            losses.append(model.loss(Batch(x)))
            f_data, f_draws = model._f(model._units(x)[0]), model._f(model._chains[0])
    expected = 0.3 * (f_data.square() + f_draws.square().mean())
    torch.testing.assert_close(losses[1] - losses[0], expected, rtol=1e-4, atol=1e-5)


def test_chains_without_an_energy_are_taken_back():
    x = torch.randn(50, 2)
    model = EBM(lk.reals(2), hidden=(16,))
    model.prepare(Batch(x))
    model.loss(Batch(x))
    before = [p.detach().clone() for p in model.network.parameters()]
    with torch.no_grad():
        next(model.network.parameters()).fill_(math.nan)
    with pytest.warns(UserWarning, match="diverged"):
        assert model.loss(Batch(x)).isfinite().all()
    assert model.rollback_count == 1
    for now, then in zip(model.network.parameters(), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eight-gaussians", "rings", "checkerboard"])
def test_the_plane_is_learned_and_long_chains_agree(name):
    # With the defaults. Of 20,000 rows the masses of eight pieces would be uncertain by 1.9 %, and
    # 600 cells along an edge would miss a fifth of the checkerboard's divergence.
    model, target, nodes, log_q, log_area, log_z, kl = fitted(name, 5000, 500_000, 1200)
    assert 0 < kl < 0.02
    for method in ("ais", "integral"):
        found = model.log_z(method=method, betas=500, chains=1000, seed=0)
        assert abs(found.value - log_z) < 4 * found.stderr
    draws = model.sample(10_000, seed=1)  # none of the training's chains
    edges = torch.linspace(-4, 4, 17, dtype=torch.float64)
    assert chi_square(draws, nodes, log_q, log_area, edges) > 1e-3

    def part(x):  # which separate piece of the target a point belongs to
        if name == "rings":
            return torch.bucketize(x.double().norm(dim=1), torch.tensor([1.5, 2.5]).double())
        return torch.cdist(x.double(), target.modes).argmin(1)

    pieces = 3 if name == "rings" else 8
    mass = torch.zeros(pieces, dtype=torch.float64)
    mass.index_add_(0, part(nodes), (log_q + log_area).exp())
    assert (pieces * mass - 1).abs().max() < 0.02
    drawn = torch.bincount(part(draws), minlength=pieces) / len(draws)
    stderr = math.sqrt((pieces - 1) / len(draws))  # of pieces * drawn
    assert (pieces * drawn - 1).abs().max() < 0.02 + 3 * stderr


@pytest.mark.slow
def test_digits_from_long_chains_look_like_digits():
    from sklearn.datasets import load_digits

    data = lk.load_data("digits")
    model = lk.make("ebm", data.domain, seed=0)
    lk.fit(model, data, steps=3000)
    draws = model.sample(300, seed=1).flatten(1).double()
    images, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    seen = data.train.x[:].flatten(1).double()
    distance = torch.cdist(draws, seen).amin(1).median()
    fresh = torch.cdist(data.test.x[:].flatten(1).double(), seen).amin(1).median()
    base = model._rows(model.base.sample(300)).flatten(1).double()
    assert distance < (fresh + torch.cdist(base, seen).amin(1).median()) / 2
    shown = torch.bincount(labels[torch.cdist(draws, images).argmin(1)], minlength=10)
    assert shown.min() >= 3
    found = model.annealed(seed=2, init=data.train.x[:256])
    assert abs(found.gap.value) < 0.1 + 4 * found.gap.stderr


# Bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "give a whole number above 0"),
        ({"sample_steps": 0}, "give a whole number above 0"),
        ({"replicas": -1}, "give a whole number above 0"),
        ({"network": "residual"}, "'auto', 'mlp', 'convolutional'"),
        ({"network": "convolutional"}, "takes images"),
        ({"training": "magic"}, "'likelihood', 'denoising'"),
        ({"energy_l2": -1.0}, "0 or more"),
        ({"frequencies": (0,)}, "frequencies"),
        ({"temperature": 2.0}, 'temperature belongs to training="denoising"'),
        ({"spacing": "linear"}, 'spacing belongs to training="denoising"'),
        ({"training": "denoising", "temperature": 0.5}, "1 or more"),
        ({"noise": ()}, "finite numbers above 0, at least 1"),
        ({"noise": (0.1, 0.0)}, "finite numbers above 0, at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(lk.LikelyError, match=message):
        EBM(PLANE, **options)


def test_other_refusals():
    with pytest.raises(lk.DomainError, match="categorical"):
        EBM(lk.categories(3, 4))
    with pytest.raises(lk.DomainError, match="constant"):
        EBM(lk.table(lk.Constant(1.0)))
    model = random_model()
    with pytest.raises(lk.LikelyError, match="draws"):
        model.log_likelihood(torch.zeros(2, 2), draws=0)
    with pytest.raises(lk.LikelyError, match="two chains or more"):
        model.log_z(method="ais", betas=0)
    with pytest.raises(lk.LikelyError, match="'auto', 'ais', 'integral'"):
        model.log_z(method="exact")
