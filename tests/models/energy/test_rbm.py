"""Restricted Boltzmann machines against enumeration, central differences and autograd."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

import likely as lk
from likely.contract.training import Batch
from likely.core.random import seeded
from likely.models.energy import RBM, GaussianRBM, boltzmann
from likely.targets import gaussian_mixture, ising

BITS = lk.binary(5)


def states(n):
    return torch.tensor([*itertools.product([0, 1], repeat=n)])


def machine(domain=BITS, scale=0.8, seed=0, cls=RBM, **options):
    """With normal parameters, in float64."""
    with seeded(seed):
        model = cls(domain, **options).double()
        x = torch.randint(2, (40, *domain.shape)) if domain.discrete else torch.randn(40, 2)
        model.prepare(Batch(x if domain.discrete else x.double()))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, scale)
    return model.eval()


def joint(model):
    """e^(−E) of all states of a machine with zeros and ones, visible × hidden, in numpy."""
    W, a, b = (p.detach().numpy() for p in (model.weight, model.visible_bias, model.hidden_bias))
    v, h = states(W.shape[0]).numpy(), states(W.shape[1]).numpy()
    return np.exp((v @ a)[:, None] + h @ b + v @ W @ h.T)


@pytest.mark.parametrize("hidden", [3, 7])  # the sum runs over hidden or over visible states
def test_probabilities_are_those_of_the_joint_distribution(hidden):
    model = machine(hidden=hidden)
    weight = joint(model)
    assert model.log_z().value == pytest.approx(math.log(weight.sum()), abs=1e-12)
    expected = torch.from_numpy(np.log(weight.sum(1) / weight.sum()))
    torch.testing.assert_close(model.log_prob(states(5)), expected, rtol=0, atol=1e-12)
    p = torch.from_numpy(weight @ states(hidden).numpy() / weight.sum(1, keepdims=True))
    torch.testing.assert_close(model.encode(states(5)), p, rtol=0, atol=1e-12)
    spins = RBM(lk.spins(5), hidden=hidden).double()
    spins.load_state_dict(model.state_dict())
    torch.testing.assert_close(spins.log_prob(2 * states(5) - 1), expected, rtol=0, atol=1e-12)


def test_gaussian_units_make_a_mixture_of_gaussians():
    model = machine(lk.reals(2), cls=GaussianRBM, hidden=3)
    W, a, b, z = (p.detach().numpy() for p in model._trained)
    h = states(3).numpy()
    mean, variance = a + h @ W.T, np.exp(z)
    log_weight = h @ b + ((mean**2 - a**2) / (2 * variance)).sum(1)
    log_weight -= np.logaddexp.reduce(log_weight)
    x = torch.randn(50, 2, dtype=torch.float64) * 3
    y, log_det = (t.detach().numpy() for t in model.view(x))
    normal = scipy.stats.norm(mean, np.sqrt(variance)).logpdf(y[:, None]).sum(2)
    expected = np.logaddexp.reduce(normal + log_weight, 1) + log_det
    np.testing.assert_allclose(model.log_prob(x).detach(), expected, rtol=1e-10)


@pytest.mark.parametrize("cls", [RBM, GaussianRBM])
def test_gradients_of_the_free_energy(cls):
    model = machine(BITS if cls is RBM else lk.reals(2), cls=cls, hidden=4)
    x = states(5)[:9] if cls is RBM else torch.randn(9, 2, dtype=torch.float64)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(model.free_energy(x).sum(), parameters)
    step = 1e-5
    for parameter, gradient in zip(parameters, gradients, strict=True):
        flat = parameter.detach().view(-1)
        for i in range(len(flat)):
            values = []
            for sign in (1, -1):
                flat[i] += sign * step
                values.append(model.free_energy(x).sum().item())
                flat[i] -= sign * step
            assert gradient.view(-1)[i].item() == pytest.approx(
                (values[0] - values[1]) / (2 * step), abs=1e-7
            )


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(torch.float64, 1e-10, 1e-12), (torch.float32, 1e-4, 1e-5)]
)
@pytest.mark.parametrize("cls", [RBM, GaussianRBM])
def test_the_loss_has_the_gradients_of_its_free_energies(cls, dtype, rtol, atol):
    domain = BITS if cls is RBM else lk.reals(2)
    x = states(5)[3:15] if cls is RBM else torch.randn(12, 2, dtype=dtype)
    weight = torch.rand(12, dtype=dtype)
    model = machine(domain, cls=cls, hidden=4, centred=False).to(dtype)
    found, value = [], []
    for centred in (False, True):
        model.centred = centred
        with seeded(1):
            model.load_training_state({})
            loss = model.loss(Batch(x))
        found.append(torch.autograd.grad((weight * loss).sum(), model._trained))
        value.append(loss.detach())
    with seeded(1), torch.no_grad():
        model.load_training_state({})
        v, _ = model._units(x)
        v_model = model._model_draws(model._field(v).sigmoid())[0]
    gap = model._free_energy(v, model._field(v)) - (
        model._free_energy(v_model, model._field(v_model)).mean()
    )
    for values in value:
        torch.testing.assert_close(values, gap.detach(), rtol=rtol, atol=atol)
    plain = torch.autograd.grad((weight * gap).sum(), model._trained)
    for a, b in zip(found[0], plain, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)
    # Centred: by Melchior et al.'s equations from the plain ones.
    mu, lam = model.visible_mean, model.hidden_mean
    d_w = plain[0] - torch.outer(plain[1], lam) - torch.outer(mu, plain[2])
    expected = d_w, plain[1] - d_w @ lam, plain[2] - mu @ d_w, *plain[3:]
    for a, b in zip(found[1], expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "options", [{"negatives": "cd"}, {"negatives": "persistent"}, {"negatives": "tempered"}]
)
@pytest.mark.parametrize("cls", [RBM, GaussianRBM])
def test_contrastive_divergence_is_the_exact_gradient_in_expectation(cls, options):
    # Many chains and enough steps: what is left is noise, whose size the chains themselves tell.
    domain = BITS if cls is RBM else lk.reals(2)
    model = machine(domain, 0.5, cls=cls, hidden=3, centred=False, k=15, temperatures=4, **options)
    x = states(5).repeat(100, 1) if cls is RBM else torch.randn(3000, 2, dtype=torch.float64)
    x = x[: 3000 // 2]
    exact = torch.autograd.grad(-model.log_prob(x).mean(), model._trained)
    draws = []
    with seeded(2):
        for _ in range(12):
            loss = model.loss(Batch(x)).mean()
            draws.append(torch.autograd.grad(loss, model._trained))
    for i, expected in enumerate(exact):
        sample = torch.stack([d[i] for d in draws[2:]])
        error = sample.std(0) / math.sqrt(len(sample))
        t = (sample.mean(0) - expected) / error
        level = scipy.stats.t.isf(1e-3 / 25 / 2, len(sample) - 1)
        assert t.abs().max() < level


@pytest.mark.slow
def test_annealed_importance_sampling_agrees_with_enumeration():
    z = []
    for seed in range(8):
        with seeded(seed):
            model = RBM(lk.binary(20), hidden=12)
            torch.nn.init.normal_(model.weight, std=0.5)
            torch.nn.init.normal_(model.visible_bias, std=0.5)
        found = model.annealed(betas=500, chains=200, seed=seed)
        exact = model.log_z().value
        assert found.exact
        z += [(f.value - exact) / f.stderr for f in (found.log_z, found.reverse)]
        assert found.gap.value > -3 * found.gap.stderr
    # Sixteen standard normal numbers, or nearly.
    assert 3 < np.square(z).sum() < 40
    gaussian = machine(lk.reals(2), cls=GaussianRBM, hidden=4)
    found = gaussian.annealed(betas=500, chains=500, seed=0)
    assert abs(found.log_z.value - gaussian.log_z().value) < 4 * found.log_z.stderr


@pytest.mark.slow
def test_intervals_of_annealed_importance_sampling_cover_at_their_rate():
    covered = 0
    for seed in range(100):
        with seeded(seed):
            model = RBM(lk.binary(20), hidden=12)
            torch.nn.init.normal_(model.weight, std=0.5)  # biases 0
        found = model.annealed(betas=300, chains=100, seed=seed)
        error = found.log_z.value - model.log_z().value
        covered += abs(error) < 1.96 * found.log_z.stderr
        assert found.gap.value > -3 * found.gap.stderr
    assert 90 <= covered <= 99


def test_a_poor_estimate_of_log_z_warns_whenever_it_is_used(tmp_path):
    model = lk.make("rbm", lk.binary(24), hidden=24, seed=0)
    with torch.no_grad():
        model.weight.normal_(0, 3)
    with pytest.warns(lk.EstimateWarning, match=r"log Z: the weights of 100 chains are worth \d"):
        model.log_likelihood(torch.zeros(1, 24).long(), betas=5, chains=100, seed=0)
    lk.save(model, tmp_path / "model.safetensors")
    for kept in (model, lk.load(tmp_path / "model.safetensors")):
        with pytest.warns(lk.EstimateWarning, match="worth"):
            kept.log_z(betas=5, chains=100)


@pytest.mark.parametrize("exact", [True, False])
def test_samples_follow_the_probabilities(exact, monkeypatch):
    model = machine(hidden=6, sample_steps=40)
    expected = 4000 * model.log_prob(states(5)).exp().detach()
    if not exact:
        monkeypatch.setattr(boltzmann, "ENUMERATED", 0)
    x = model.sample(4000, seed=0)
    observed = (x[:, None] == states(5)).all(2).sum(0)
    keep = expected > 5
    statistic = ((observed - expected)[keep].square() / expected[keep]).sum().item()
    assert scipy.stats.chi2.sf(statistic, int(keep.sum()) - 1) > 1e-4


def test_tempered_chains_find_both_modes():
    # Two patterns that single steps hardly ever leave.
    model = RBM(lk.binary(12), hidden=1, negatives="tempered", temperatures=8, k=30).double()
    with torch.no_grad():
        model.weight.fill_(4)
        model.visible_bias.fill_(-2)
        model.hidden_bias.fill_(-24)
    up = model.log_prob(torch.ones(1, 12).long()).exp().item()
    x = torch.zeros(200, 12).long()
    model.loss(Batch(x))
    _, _, p = model._model_draws(torch.zeros(200, 1).double())
    model.negatives, model.betas = "cd", model.betas[:1]
    _, _, stuck = model._model_draws(model._field(x.double()).sigmoid())
    assert up > 0.04
    assert 0.35 < p.mean() < 0.65
    assert stuck.mean() < 0.1


def test_the_estimate_of_log_z_is_kept_with_its_parameters(tmp_path, monkeypatch):
    model = machine(hidden=4).float()
    x = states(5)
    exact = model.log_likelihood(x)
    monkeypatch.setattr(boltzmann, "ENUMERATED", 0)
    assert model.density == lk.Kind.ESTIMATE
    first = model.log_likelihood(x, seed=0, betas=100, chains=50)
    assert first.kind == lk.Kind.ESTIMATE
    assert abs((first.value - exact.value)[0]) < 4 * first.common_stderr
    again = model.log_likelihood(x, seed=1, betas=100, chains=20)
    assert torch.equal(again.value, first.value)
    lk.save(model, tmp_path / "rbm.safetensors")
    loaded = lk.load(tmp_path / "rbm.safetensors")
    monkeypatch.setattr(RBM, "annealed", None)
    assert torch.equal(loaded.log_likelihood(x, betas=100, chains=50).value, first.value)
    monkeypatch.undo()
    monkeypatch.setattr(boltzmann, "ENUMERATED", 0)
    more = model.log_likelihood(x, seed=2, betas=200, chains=50)
    assert not torch.equal(more.value, first.value)
    with torch.no_grad():
        model.hidden_bias.add_(1)
    other = model.log_likelihood(x, seed=2, betas=100, chains=50)
    assert abs(other.value.double().exp().sum().item() - 1) < 0.2


@pytest.fixture(scope="module")
def spins() -> tuple[lk.Target, lk.Data]:
    truth = ising(3, 3, 3.0)
    return truth, lk.load_data(truth.sample(4000, 0), domain=truth.domain)


def fitted_rbm(spins, *, weight_decay=0.0, steps=800, **options):
    truth, data = spins
    model = lk.make("rbm", truth.domain, hidden=16, seed=0, **options)
    lk.fit(model, data, steps=steps, weight_decay=weight_decay)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"negatives": "cd", "k": 1}, marks=pytest.mark.slow),
        pytest.param({"negatives": "tempered", "k": 1, "temperatures": 4}, marks=pytest.mark.slow),
    ],
    ids=["persistent", "cd", "tempered"],
)
def test_fit_learns(spins, options):
    x = spins[0].sample(4000, 1)
    model = fitted_rbm(spins, **options)
    assert -model.log_likelihood(x).value.mean() + spins[0].log_prob(x).mean() < 0.2


def test_penalties_do_what_they_say(spins):
    x = spins[0].sample(4000, 1)
    plain = fitted_rbm(spins, steps=200)
    decayed = fitted_rbm(spins, steps=200, weight_decay=0.3)
    sparse = fitted_rbm(spins, steps=200, sparsity=1.0, activity=0.1)
    assert decayed.weight.norm() < plain.weight.norm() / 2
    assert sparse.encode(x).mean() < 0.3 < plain.encode(x).mean()


@pytest.mark.slow
def test_gaussian_units_learn_two_modes():
    truth = gaussian_mixture(
        [0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], (np.eye(2) * 0.3)[None].repeat(2, 0)
    )
    data = lk.load_data(truth.sample(3000, 0), domain=lk.reals(2))
    model = lk.make("gaussian-rbm", data.domain, hidden=4, seed=0)
    lk.fit(model, data, steps=1500, rate=0.01)
    x = truth.sample(2000, 1)
    assert (truth.log_prob(x) - model.log_likelihood(x).value).mean() < 0.1
    assert ((model.sample(2000, seed=0)[:, 0] > 0).float().mean() - 0.5).abs() < 0.1


def test_chains_are_part_of_the_training_state():
    model, x = machine(hidden=4), states(5)
    with seeded(0):
        model.loss(Batch(x))
        state = {k: v.clone() for k, v in model.training_state().items()}
        generator = torch.get_rng_state()
        expected = model.loss(Batch(x))
        model.load_training_state(state)
        torch.set_rng_state(generator)
        assert torch.equal(model.loss(Batch(x)), expected)
    assert not any("chain" in name for name in model.state_dict())


def test_reconstructions():
    model = RBM(lk.spins(5), hidden=4).double()
    x = 2 * states(5) - 1
    p = model.encode(x)
    expected = 2 * (model.visible_bias + p @ model.weight.T).sigmoid() - 1
    torch.testing.assert_close(model.reconstruct(x), expected.detach())


def test_bad_input():
    with pytest.raises(lk.DomainError, match="real columns"):
        lk.make("rbm", lk.reals(3))
    with pytest.raises(lk.DomainError, match="integer columns"):
        lk.make("rbm", lk.integers(3, 4))
    model = lk.make("rbm", BITS, hidden=3)
    with pytest.raises(lk.DataError, match=r"row 1, column 2: 0\.5"):
        model.prepare(Batch(torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0.5, 0, 0]])))
    with pytest.raises(lk.DataError, match="2 is not a whole number from 0 to 1"):
        lk.fit(model, torch.full((50, 5), 2))
    assert model.log_likelihood(torch.full((1, 5), 2)).value.item() == -math.inf
    assert model.free_energy(torch.full((1, 5), 2)).item() == math.inf
    for options, words in (
        ({"k": 0}, "k=0"),
        ({"negatives": "some"}, "negatives"),
        ({"temperatures": 1}, "temperatures=1"),
        ({"activity": 1.0}, "activity"),
    ):
        with pytest.raises(lk.LikelyError, match=words):
            lk.make("rbm", BITS, **options)
    large = lk.make("rbm", lk.binary(30), hidden=30)
    with pytest.raises(lk.DensityError, match="30 units"):
        large.log_likelihood(torch.zeros(2, 30), method="exact")
    with pytest.raises(lk.DensityError, match="use log_likelihood"):
        large.log_prob(torch.zeros(2, 30))
    with pytest.raises(lk.LikelyError, match="method"):
        model.log_likelihood(torch.zeros(2, 5), method="guess")
