"""Codes that together look like the prior: the discrepancy in closed form, InfoVAE, WAE."""

import math

import pytest
import scipy.integrate
import torch

import likely as lk
from likely.contract.training import Batch
from likely.evaluation import mmd
from likely.models.autoencoders.mmd import SCALES, mmd_to_normal

pytestmark = pytest.mark.xdist_group("autoencoders")


def exact_mmd(kernel, s, d):
    """Of N(0, s²) and N(0, 1) in d dimensions; E exp(−γ‖z − z′‖²) = (1 + 2γ v)^(−d/2), v that of z − z′."""

    def of(gamma):
        def mean(v):
            return (1 + 2 * gamma * v) ** (-d / 2)

        return mean(2 * s**2) - 2 * mean(1 + s**2) + mean(2)

    each = [2 * d * scale for scale in SCALES]
    if kernel == "rbf":
        return sum(of(1 / c) for c in each) / len(each)
    integrals = [
        scipy.integrate.quad(lambda t, c=c: math.exp(-t) * of(t / c), 0, math.inf, limit=200)[0]
        for c in each
    ]
    return sum(integrals) / len(each)


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
@pytest.mark.parametrize("d", [1, 8])
@pytest.mark.parametrize("s", [0.5, 1.0, 2.0])
def test_the_discrepancy_is_estimated_without_bias(kernel, d, s):
    torch.manual_seed(0)
    batches = s * torch.randn(600, 32, d, dtype=torch.float64)
    found = torch.stack([mmd_to_normal(z, None, kernel) for z in batches])
    error = found.std().item() / math.sqrt(len(found))
    assert error < 0.005
    assert found.mean().item() == pytest.approx(exact_mmd(kernel, s, d), abs=4 * error)


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
def test_weights_of_the_discrepancy_are_repeats(kernel):
    """Pairs of a row with its own repeat are left out, as a pair of a row with itself is."""
    torch.manual_seed(0)
    z, count = torch.randn(400, 3, dtype=torch.float64), torch.randint(0, 4, (400,))
    weight = count / count.double().mean()
    repeated = mmd_to_normal(z.repeat_interleave(count, 0), None, kernel)
    assert mmd_to_normal(z, weight, kernel).item() == pytest.approx(repeated.item(), abs=0.005)
    moved = z + (count[:, None] == 3)
    assert mmd_to_normal(moved, weight, kernel) > mmd_to_normal(moved, None, kernel) + 0.01


def test_info_vae_is_a_vae_with_a_penalty():
    x = torch.randn(64, 3)
    losses, model = [], None
    for name, options in (
        ("vae", {}),
        ("info-vae", {"penalty": 7.0}),
        ("mmd-vae", {"penalty": 7.0}),
    ):
        model = lk.make(name, lk.reals(3), latent=2, warm_up=0, seed=0, **options)
        model.prepare(Batch(x))
        torch.manual_seed(1)
        losses.append(model.loss(Batch(x)))
    torch.manual_seed(1)
    q = model._posterior(x, None)
    z, _ = q.draw(1)
    penalty = 7 * mmd_to_normal(z[0], None, "rbf")
    torch.testing.assert_close(losses[1], losses[0] + penalty)
    torch.testing.assert_close(losses[2], losses[0] + penalty - q.divergence().sum(1))
    with pytest.raises(lk.LikelyError, match="leave out prior"):
        lk.make("info-vae", lk.reals(3), prior="flow")


def ring(n=4000):
    torch.manual_seed(0)
    angle = 2 * math.pi * torch.rand(n)
    x = torch.stack([4 * angle.cos(), angle.sin(), 0.1 * torch.randn(n)], 1)
    parts = [x[: n // 2], x[n // 2 : 3 * n // 4], x[3 * n // 4 :]]
    return lk.Data(lk.reals(3), *(lk.data.Split(part) for part in parts))


@pytest.mark.parametrize("name", ["wae-mmd", pytest.param("wae-gan", marks=pytest.mark.slow)])
def test_codes_of_wasserstein_autoencoders_look_like_the_prior(name):
    data = ring()
    found = {}
    for which in (name, "ae"):
        model = lk.make(which, data.domain, latent=2, hidden=(32, 32), scale=0.5, seed=0)
        lk.fit(model, data, steps=400, batch=128, seed=0, rate=3e-3)
        z = model.encode(data.test.x).detach()
        found[which] = mmd(z[:500], torch.randn(500, 2), replicates=2, permutations=1)[0].value
        assert model.density == lk.Kind.NONE
    assert found[name] < 0.3 * found["ae"]
    assert abs(found[name]) < 0.02


def test_the_critic_of_codes_and_the_autoencoder_leave_each_other_alone():
    x = torch.randn(64, 3)
    kinds = lk.table(label=lk.Categorical(2))
    model = lk.make("wae-gan", lk.reals(3), context=kinds, latent=2, seed=0)
    batch = Batch(x, torch.randint(0, 2, (64, 1)))
    model.prepare(batch)
    critic, autoencoder = model.objectives()
    critic.loss(batch).mean().backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {"critic"}
    model.zero_grad()
    autoencoder.loss(batch).mean().backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {"encoder", "decoder", "heads"}
    parameters = {id(p) for objective in (critic, autoencoder) for p in objective.parameters}
    assert parameters == {id(p) for p in model.parameters()}


def test_samples_of_a_wasserstein_autoencoder_have_normal_codes():
    model = lk.make("wae-mmd", lk.reals(3), latent=2, seed=0)
    x = 5 + torch.randn(100, 3)
    model.prepare(Batch(x))
    model.finish(Batch(x))
    z = model._sample_code(20_000, None)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), rtol=0, atol=0.03)
    torch.testing.assert_close(z.T.cov(), torch.eye(2), rtol=0, atol=0.04)
