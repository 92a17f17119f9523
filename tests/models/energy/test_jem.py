"""Joint energy-based models against quadrature, closed forms and what a training must survive."""

import math

import pytest
import torch
from test_ebm import EDGES, PLANE, chi_square, plane
from torch.distributions import MultivariateNormal

import likely as lk
from likely.contract.abilities import Classifies
from likely.contract.training import Batch
from likely.core.errors import AbilityError
from likely.core.random import seeded
from likely.models.energy import EBM, JEM
from likely.models.energy.jem import NOISE
from likely.models.energy.rollback import KEPT

CLASSES = 3
CONTEXT = lk.table(kind=lk.Categorical(CLASSES))
MEANS = torch.tensor([[-1.5, 0.0], [1.0, 1.2], [1.0, -1.2]], dtype=torch.float64)
WIDTHS = torch.tensor([0.5, 0.4, 0.6], dtype=torch.float64)
PRIOR = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def truth(x):
    """log p(x, y) of normal classes."""
    covariance = WIDTHS.square()[:, None, None] * torch.eye(2, dtype=torch.float64)
    return MultivariateNormal(MEANS, covariance).log_prob(x[:, None]) + PRIOR.log()


def draws(n, seed):
    with seeded(seed):
        y = PRIOR.multinomial(n, replacement=True)
        x = MEANS[y] + WIDTHS[y, None] * torch.randn(n, 2, dtype=torch.float64)
    return x, y[:, None]


def random_model(scale=0.4, **options):
    """In float64, with the scales of the classes and a network of random weights."""
    with seeded(0):
        model = JEM(PLANE, context=CONTEXT, hidden=(16, 16), **options).double()
        model.prepare(Batch(*draws(500, 0)))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, scale)
    return model


@torch.no_grad()
def joint(model, cells=300):
    """log p(x, y) at nodes of a grid by quadrature, the nodes, log of a cell's area, and log Z."""
    nodes, log_area = plane(PLANE, cells)
    each = torch.arange(CLASSES).split(1)
    log_p = -torch.stack([model._energy(nodes, model._given(y)) for y in each], 1)
    log_z = log_p.logsumexp((0, 1)) + log_area
    return log_p - log_z, nodes, log_area, log_z.item()


@pytest.mark.parametrize("method", ["integral", "ais"])
def test_likelihoods_agree_with_quadrature(method):
    model = random_model()
    log_p, nodes, log_area, log_z = joint(model)
    found = model.log_z(method=method, betas=100, chains=500, seed=0)
    assert abs(found.value - log_z) < 4 * found.stderr
    at = slice(None, None, 997)
    x, y = nodes[at], torch.arange(len(nodes[at]))[:, None] % CLASSES
    options = {"method": method, "betas": 100, "chains": 500}
    marginal = model.log_likelihood(x, **options)
    assert marginal.kind == lk.Kind.ESTIMATE
    assert marginal.common_stderr == found.stderr
    difference = marginal.value - log_p[at].logsumexp(1)
    torch.testing.assert_close(difference, difference[:1].expand_as(x[:, 0]), rtol=0, atol=1e-8)
    given = model.log_likelihood(x, y, **options)
    log_prior = log_p.logsumexp(0) + log_area
    expected = (log_p[at] - log_prior).gather(1, y)[:, 0]
    error = (given.stderr.square() + given.common_stderr**2).sqrt()
    assert ((given.value - expected).abs() < 4 * error).all()
    assert (log_prior.exp() - 1 / CLASSES).abs().max() > 0.05  # which log Z/K would miss
    posterior = (log_p[at] - log_p[at].logsumexp(1, keepdim=True)).exp()
    torch.testing.assert_close(model.classify(x), posterior)


def test_a_number_added_to_all_logits_cancels_in_the_posterior_only():
    model = random_model()
    x = draws(50, 1)[0]
    p, energy, logits = model.classify(x), model.free_energy(x), model._logits
    model._logits = lambda z: logits(z) + z[:, :1].sin()
    torch.testing.assert_close(model.classify(x), p)
    shift = model.view(x)[0][:, 0].sin()
    torch.testing.assert_close(model.free_energy(x), energy - shift)


def test_the_loss_has_the_gradient_of_both_likelihoods():
    model = random_model(scale=0.3)
    x, y = draws(300, 1)
    parameters = list(model.network.parameters())

    def exact():
        *_, log_z = joint(model, 120)
        marginal = -model.free_energy(x) - log_z
        posterior = model.classify(x).log().gather(1, y)
        return -(marginal.mean() + posterior.mean()).item()

    log_p, nodes, *_ = joint(model, 400)
    with seeded(0):
        exact_draws = nodes[log_p.logsumexp(1).softmax(0).multinomial(200_000, replacement=True)]
    model._negatives = lambda data: model._units(exact_draws)[0]
    model.eval()  # no chains to judge
    gradients = torch.autograd.grad(model.loss(Batch(x, y)).mean(), parameters)
    size = torch.stack([g.norm() for g in gradients]).norm()
    for seed in range(4):
        with seeded(seed), torch.no_grad():
            along = [torch.randn_like(p) for p in parameters]
            length = torch.stack([v.norm() for v in along]).norm()
            values = []
            for step in (1e-4, -2e-4):
                for parameter, v in zip(parameters, along, strict=True):
                    parameter.add_(step * v)
                values.append(exact())
            for parameter, v in zip(parameters, along, strict=True):
                parameter.add_(1e-4 * v)
        expected = (values[0] - values[1]) / 2e-4
        found = sum((g * v).sum() for g, v in zip(gradients, along, strict=True)).item()
        assert abs(found - expected) < 2e-3 * size * length / math.sqrt(30)


def test_rows_without_a_class_count_for_the_density_and_the_others_for_the_posterior():
    model = random_model()
    (x, y), others = draws(40, 1), draws(40, 2)[0]

    def gradients(loss):
        model.load_training_state({})
        with seeded(3):
            value = loss()
        return torch.autograd.grad(value, list(model.network.parameters()))

    density = gradients(lambda: EBM.loss(model, Batch(others)).mean())
    posterior = gradients(lambda: -model.classify(x).log().gather(1, y).mean())
    found = gradients(lambda: model.loss(Batch(x, y, unlabelled=others)).mean())
    for a, b, c in zip(found, density, posterior, strict=True):
        torch.testing.assert_close(a, b + c)


@pytest.mark.slow
def test_a_short_fit_learns_the_joint_density():
    splits = [lk.data.Split(*draws(n, i)) for i, n in enumerate((20_000, 2000, 10))]
    splits = [lk.data.Split(s.x.float(), s.context) for s in splits]
    data = lk.Data(PLANE, *splits, context=CONTEXT)
    model = lk.make("jem", PLANE, context=CONTEXT, hidden=(32, 32), seed=0)
    history = lk.fit(model, data, steps=300, batch=256)
    x, y = draws(5000, 7)
    exact = truth(x)
    log_p = model.classify(x.float()).log().double()
    log_prior = (exact - exact.logsumexp(1, keepdim=True)).exp()
    kl = (log_prior * (log_prior.log() - log_p)).sum(1).mean()  # of p(y|x)
    assert 0 < kl < 0.02
    marginal = exact.logsumexp(1) - model.log_likelihood(x.float()).value.double()
    assert 0 < marginal.mean() < 0.05
    given = exact.gather(1, y)[:, 0] - PRIOR.log()[y[:, 0]]
    assert abs((given - model.log_likelihood(x.float(), y).value.double()).mean()) < 0.06
    best = (exact.argmax(1) == y[:, 0]).double().mean()
    assert history.rows[-1]["accuracy"] > best - 0.03
    assert history.rows[-1]["cross_entropy"] > 0


def test_samples_follow_the_density_and_that_of_a_class():
    model = random_model(sample_steps=50)
    log_p, nodes, log_area, _ = joint(model)
    x = model.sample(2000, seed=0)
    assert chi_square(x, nodes, log_p.logsumexp(1), log_area, EDGES) > 1e-3
    x = model.sample(1800, context=torch.arange(1800)[:, None] % CLASSES, seed=0)
    for y in range(CLASSES):
        own = log_p[:, y] - log_p[:, y].logsumexp(0) - log_area
        assert chi_square(x[y::CLASSES], nodes, own, log_area, EDGES) > 1e-3
        assert chi_square(x[(y + 1) % CLASSES :: CLASSES], nodes, own, log_area, EDGES) < 1e-3


def test_chains_keep_the_density():
    model = random_model()
    log_p, nodes, log_area, _ = joint(model)
    with seeded(1):
        start = model.base.sample(1500)
        for _ in range(25):
            u = model._negatives(start)
    assert chi_square(model._rows(u), nodes, log_p.logsumexp(1), log_area, EDGES) > 1e-3


# The published recipe.


def test_published_steps_climb_with_little_noise():
    model = random_model(training="sgld", scale=0.2)
    u = torch.randn(2000, 2, dtype=torch.float64).requires_grad_()
    energy = -model._logits(u).logsumexp(1)  # no base
    (slope,) = torch.autograd.grad(energy.sum(), u)
    torch.testing.assert_close(
        model.free_energy(model._rows(u)), energy - model.view(model._rows(u))[1]
    )
    with seeded(0), torch.no_grad():
        noise = (model._ascended(u.detach(), 1) - (u - slope)) / NOISE
    assert noise.mean().abs() < 4 / math.sqrt(noise.numel())
    assert abs(noise.std() - 1) < 4 / math.sqrt(2 * noise.numel())


def test_each_update_moves_some_of_the_buffer():
    model = random_model(training="sgld", buffer=100, k=1)
    x = torch.zeros(30, 2, dtype=torch.float64)
    with seeded(0):
        model._negatives(x)
        before = model._chains[0].clone()
        u = model._negatives(x)
    moved = (model._chains[0] != before).any(1)
    assert moved.sum() == 30
    assert torch.equal(model._chains[0][moved].sort(0).values, u.sort(0).values)


def test_the_buffer_is_training_state(tmp_path):
    batch = Batch(*draws(30, 1))
    model, twin = (random_model(training="sgld", buffer=100, k=2) for _ in range(2))
    model.loss(batch)
    lk.core.files.write_tree(tmp_path / "state", model.training_state())
    twin.load_training_state(lk.core.files.read_tree(tmp_path / "state"))
    losses = []
    for m in (model, twin):
        torch.manual_seed(3)
        losses.append(m.loss(batch))
    assert torch.equal(*losses)
    assert torch.equal(model._chains, twin._chains)
    assert not any("chain" in name for name in model.state_dict())


def test_a_published_training_that_diverges_is_taken_back_and_told():
    x, y = draws(2000, 0)
    data = lk.load_data(x.float(), domain=PLANE, context=y)
    options = {"hidden": (16,), "training": "sgld", "buffer": 200, "k": 2}
    model = lk.make("jem", PLANE, context=data.context, seed=0, **options)
    loss = model.loss

    def disturbed(batch):
        if batch.step == 2 * KEPT + 20 and not model.rollbacks.count:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(100)
        return loss(batch)

    model.loss = disturbed
    with pytest.warns(UserWarning, match="back to the last good state"):
        history = lk.fit(model, data, steps=2 * KEPT + 60, batch=64)
    del model.loss
    assert history.rows[-1]["rollbacks"] == model.rollback_count == 1
    assert history.rows[-1]["accuracy"] > 0.9
    assert model.sample(5, context=torch.tensor([1]), seed=0).isfinite().all()


def test_without_chains_it_is_the_plain_classifier():
    data = lk.load_data("digits", context="label")
    options = {"hidden": (64,), "generative": 0.0}
    model = lk.make("jem", data.domain, context=data.context, seed=0, **options)
    lk.fit(model, data, steps=100, batch=128)
    right = model.classify(data.test.x[:]).argmax(1) == data.test.context[:, 0]
    assert right.double().mean() > 0.9
    assert model._chains is None


def test_probabilities_have_gradients_in_the_rows():
    for options in ({}, {"pooled": True}):
        domain = lk.integers(4, 16, 16, layout="image")
        x = torch.randint(4, (20, 16, 16))
        model = JEM(domain, context=CONTEXT, hidden=(4, 8), **options)
        model.prepare(Batch(x, torch.randint(3, (20, 1))))
        x = x.float().requires_grad_()
        (gradient,) = torch.autograd.grad(model.classify(x)[:, 0].sum(), x)
        assert gradient.abs().amax() > 0


def test_what_is_saved_classifies_and_knows_its_normalisers(tmp_path):
    model = random_model()
    x, y = draws(20, 3)
    options = {"method": "ais", "betas": 20, "chains": 50, "seed": 0}
    expected = model.log_likelihood(x, y, **options).value
    lk.save(model, tmp_path / "model.safetensors")
    twin = lk.load(tmp_path / "model.safetensors")
    assert torch.equal(twin.log_likelihood(x, y, **options).value, expected)
    assert torch.equal(twin.classify(x), model.classify(x))
    assert isinstance(model, Classifies)


# Bad input.


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (lk.table(kind=lk.Categorical(1)), "two classes or more"),
        (lk.table(a=lk.Categorical(2), b=lk.Real()), "one column, the class, not 2"),
        (lk.reals(1), "two classes or more"),
    ],
)
def test_what_is_no_class_is_refused(context, message):
    with pytest.raises(lk.DomainError, match=message):
        JEM(PLANE, context=context)


def test_other_refusals():
    model = random_model()
    with pytest.raises(lk.DataError, match="'kind'"):
        model.sample(2, context=torch.tensor([3]))
    with pytest.raises(lk.DataError, match="'kind'"):
        model.log_likelihood(torch.zeros(2, 2), torch.tensor([-1]))
    with pytest.raises(lk.DataError, match="shape"):
        model.classify(torch.zeros(2, 3))
    with pytest.raises(AbilityError, match="no classes"):
        JEM(PLANE).classify(torch.zeros(2, 2))
    with pytest.raises(lk.LikelyError, match="nothing to learn"):
        JEM(PLANE, generative=0)
    with pytest.raises(lk.LikelyError, match="'likelihood', 'sgld'"):
        JEM(PLANE, training="denoising")
    published = random_model(training="sgld")
    with pytest.raises(lk.DensityError, match="no likelihood"):
        published.log_likelihood(torch.zeros(2, 2))
    for verb in (published.log_z, published.annealed):
        with pytest.raises(lk.DensityError, match="no −log p"):
            verb()
    model = JEM(PLANE, context=lk.table(kind=lk.Categorical(["cat", "dog"])))
    with pytest.raises(lk.DataError, match="zebra"):
        model.sample(2, context="zebra")
