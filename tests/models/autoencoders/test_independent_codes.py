"""Codes that are independent: total correlation by minibatches and by a critic, HSIC."""

import itertools
import math

import pytest
import torch

import likely as lk
from likely.contract.training import Batch
from likely.models.autoencoders.beta_tc_vae import log_densities, total_correlation
from likely.models.autoencoders.factor_vae import FactorVAE, shuffled
from likely.models.autoencoders.hsic_vae import gaussian, hsic
from likely.models.autoencoders.posteriors import GaussianPosterior

pytestmark = pytest.mark.xdist_group("autoencoders")

WEIGHTS = torch.tensor([1, 2, 0.5, 1, 0.25, 1.25], dtype=torch.float64)


def correlated(n, rho, dtype=torch.float64):
    torch.manual_seed(0)
    u = torch.randn(n, 2, dtype=dtype)
    return torch.stack([u[:, 0], rho * u[:, 0] + math.sqrt(1 - rho**2) * u[:, 1]], 1)


# Total correlation by minibatches.


@pytest.mark.parametrize("weight", [torch.ones(6).double(), WEIGHTS])
def test_densities_of_codes_by_minibatches_have_no_bias(weight):
    """All batches that hold a row, against the sum over all rows."""
    torch.manual_seed(0)
    mean = torch.randn(6, 2, dtype=torch.float64)
    q = GaussianPosterior(mean, 0.3 + torch.rand_like(mean))
    z = q.draw(1)[0][0]
    found = []
    for others in itertools.combinations(range(1, 6), 2):
        at = torch.tensor([0, *others])
        part = GaussianPosterior(q.mean[at], q.std[at])
        joint, each = log_densities(part, z[at], weight[at], rows=6)
        found.append(torch.cat([joint[:1], each[0]]).exp())
    terms = q.log_probs(z[0])
    exact = weight / 6 @ torch.cat([terms.sum(1, keepdim=True), terms], 1).exp()
    torch.testing.assert_close(torch.stack(found).mean(0), exact)
    joint, each = log_densities(q, z, weight, None)  # of all rows
    torch.testing.assert_close(torch.cat([joint[:1], each[0]]).exp(), exact)


def test_total_correlation_of_gaussian_codes_is_that_of_their_correlations():
    noise, rho = 0.4, 0.8
    mean = correlated(2000, rho / (1 - noise**2)) * math.sqrt(1 - noise**2)
    q = GaussianPosterior(mean, torch.full_like(mean, noise))
    found = total_correlation(q, q.draw(1)[0][0], None, None).mean().item()
    assert found == pytest.approx(-math.log(1 - rho**2) / 2, abs=0.05)


def test_beta_tc_vae_is_a_vae_with_a_penalty_that_knows_the_number_of_training_rows(monkeypatch):
    x = torch.randn(64, 3)
    losses = []
    for name, penalty in (("vae", {}), ("beta-tc-vae", {"penalty": 2.0})):
        model = lk.make(name, lk.reals(3), latent=2, warm_up=0, seed=0, **penalty)
        model.prepare(Batch(x))
        torch.manual_seed(1)
        losses.append(model.loss(Batch(x, rows=500)))
    torch.manual_seed(1)
    q = model._posterior(x, None)
    expected = 2 * total_correlation(q, q.draw(1)[0][0], None, 500)
    torch.testing.assert_close(losses[1], losses[0] + expected)
    seen = []
    monkeypatch.setattr(
        type(model), "_penalty", lambda self, q, z, batch: seen.append(batch.rows) or 0
    )
    data = lk.load_data(x, domain=lk.reals(3))
    lk.fit(model, data, steps=2, batch=16)
    assert seen == [len(data.train)] * 2
    with pytest.raises(lk.LikelyError, match="factor-vae"):
        lk.make("beta-tc-vae", lk.reals(3), posterior="iaf")


# Total correlation by a critic.


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_the_critic_finds_the_total_correlation_of_a_gaussian(rho, monkeypatch):
    def given(self, x, context):
        return GaussianPosterior(x, torch.full_like(x, 1e-3))

    monkeypatch.setattr(FactorVAE, "_posterior", given)
    model = lk.make("factor-vae", lk.reals(2), latent=2, critic_hidden=(64, 64), seed=0)
    critic = model.objectives()[0]
    optimizer = torch.optim.Adam(critic.parameters, 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    x = correlated(200_000, rho, torch.float32)
    for step in range(1500):
        optimizer.zero_grad()
        critic.loss(Batch(x[torch.randint(len(x), (1024,))], step=step)).backward()
        optimizer.step()
        schedule.step()
    exact = -math.log(1 - rho**2) / 2
    found = model.critic(x, None).mean().item()
    assert found == pytest.approx(exact, abs=0.05 * exact + 0.01)


def test_the_critic_of_factors_and_the_autoencoder_leave_each_other_alone():
    x = torch.randn(64, 3)
    model = lk.make("factor-vae", lk.reals(3), latent=2, posterior="iaf", prior="flow", seed=0)
    model.prepare(Batch(x))
    critic, autoencoder = model.objectives()
    for objective in (critic, autoencoder):
        model.zero_grad()
        objective.loss(Batch(x)).mean().backward()
        moved = {id(p) for p in model.parameters() if p.grad is not None}
        assert moved == {id(p) for p in objective.parameters}
    both = [id(p) for objective in (critic, autoencoder) for p in objective.parameters]
    assert sorted(both) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_shuffled_codes_keep_weighted_marginals_and_lose_their_dependence():
    torch.manual_seed(0)
    z = torch.arange(4.0)[:, None].repeat(5000, 3)
    weight = torch.tensor([0.0, 1.0, 1.0, 2.0]).repeat(5000)
    found = shuffled(z, weight)
    share = torch.stack([(found == k).float().mean(0) for k in range(4)])
    expected = torch.tensor([0, 0.25, 0.25, 0.5])[:, None].expand(-1, 3)
    torch.testing.assert_close(share, expected, rtol=0, atol=0.02)
    assert (found.T.corrcoef() - torch.eye(3)).abs().max() < 0.04


# HSIC.


@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_hsic_is_the_mean_over_different_rows(weight):
    torch.manual_seed(0)
    k, l = (gaussian(torch.randn(6, d, dtype=torch.float64)) for d in (1, 2))  # noqa: E741
    w = torch.ones(6).double() if weight is None else weight
    sums = dict.fromkeys((2, 3, 4), 0.0)
    for count in sums:
        for i, j, *more in itertools.permutations(range(6), count):
            first, second = {2: (i, j), 3: (i, *more), 4: tuple(more)}[count]
            product = w[[i, j, *more]].prod() * k[i, j] * l[first, second]
            sums[count] += product.item() / math.perm(6, count)
    found = hsic(k, l, weight).item()
    assert found == pytest.approx(sums[2] - 2 * sums[3] + sums[4], abs=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_hsic_of_a_bivariate_normal(rho):
    x = correlated(40 * 500, rho).view(40, 500, 2)
    found = torch.stack([hsic(gaussian(u[:, :1]), gaussian(u[:, 1:]), None) for u in x])
    gamma = math.pi / 8  # of exp(−γ δ²): the mean distance is 2/√π
    a = 1 + 4 * gamma
    exact = (
        (a**2 - (4 * gamma * rho) ** 2) ** -0.5
        + 1 / a
        - 2 * (a**2 - (2 * gamma * rho) ** 2) ** -0.5
    )
    error = found.std().item() / math.sqrt(len(found))
    assert found.mean().item() == pytest.approx(exact, abs=4 * error)
    assert error < 0.001


def test_groups_of_latents_are_each_independent_of_all_before():
    x = torch.randn(32, 5)
    model = lk.make(
        "hsic-vae", lk.reals(5), latent=4, independent=((0,), (1, 3), (2,)), penalty=2.0
    )
    z = torch.randn(32, 4)
    expected = hsic(gaussian(z[:, :1]), gaussian(z[:, [1, 3]]), None) + hsic(
        gaussian(z[:, [0, 1, 3]]), gaussian(z[:, 2:3]), None
    )
    torch.testing.assert_close(model._penalty(None, z, Batch(x)), 2 * expected)
    for wrong in ("labels", ((0, 1), (1, 2)), ((0,), (4,)), ((0,), ()), 3, ()):
        with pytest.raises(lk.LikelyError, match="independent="):
            lk.make("hsic-vae", lk.reals(5), latent=4, independent=wrong)
    with pytest.raises(lk.LikelyError, match="there is none"):
        lk.make("hsic-vae", lk.reals(5), independent="context")


def test_labels_of_a_context_are_equal_or_not():
    context = lk.table(u=lk.Real(), kind=lk.Categorical(3), v=lk.Real())
    model = lk.make("hsic-vae", lk.reals(2), context=context, seed=0)
    c = torch.cat([torch.randn(20, 1), torch.randint(0, 3, (20, 1)), torch.randn(20, 1)], 1)
    model.prepare(Batch(torch.randn(20, 2), c))
    numbers = (c[:, [0, 2]] - c[:, [0, 2]].mean(0)) / c[:, [0, 2]].std(0, correction=0)
    expected = gaussian(numbers) * (c[:, 1:2] == c[:, 1])
    torch.testing.assert_close(model._context_kernel(c), expected, rtol=1e-4, atol=1e-5)


def test_codes_forget_a_context():
    """A code of one label per cluster is of no use to the decoder, which is told it."""
    torch.manual_seed(0)
    label = torch.randint(0, 2, (1500, 1))
    x = 4 * label + torch.randn(1500, 3)
    kinds = lk.table(label=lk.Categorical(2))
    parts = [slice(0, 1000), slice(1000, 1250), slice(1250, 1500)]
    data = lk.Data(lk.reals(3), *(lk.data.Split(x[p], label[p]) for p in parts), context=kinds)
    found = []
    for penalty in (0.0, 100.0):
        model = lk.make(
            "hsic-vae",
            data.domain,
            context=kinds,
            latent=2,
            hidden=(32,),
            penalty=penalty,
            beta=0.1,
            seed=0,
        )
        lk.fit(model, data, steps=200, seed=0)
        z = model.encode(data.test.x, data.test.context).detach()
        same = (data.test.context == data.test.context.T).float()
        found.append(hsic(gaussian(z), same, None).item())
    assert found[0] > 0.004
    assert abs(found[1]) < found[0] / 4
