"""The vector-quantised autoencoder against enumeration; its stages, its gradient, its priors."""

import itertools
import math

import pytest
import torch

import likely as lk
from likely.contract.training import Batch

pytestmark = pytest.mark.xdist_group("autoencoders")

PIXELS = lk.binary(4, 4, layout="image")  # 2 × 2 codes


def pictures(n=600, seed=0):
    """Bars: rows or columns of a 4 × 4 image, some pixels flipped."""
    generator = torch.Generator().manual_seed(seed)
    on = (torch.rand(n, 4, generator=generator) < 0.5).long()
    x = on[:, None].expand(n, 4, 4)
    x = torch.where(torch.rand(n, 1, 1, generator=generator) < 0.5, x, x.mT)
    return x ^ (torch.rand(n, 4, 4, generator=generator) < 0.05).long()


def bars():
    x = pictures()
    return lk.Data(
        PIXELS, *(lk.data.Split(x[p]) for p in (slice(400), slice(400, 500), slice(500, 600)))
    )


def small(domain=PIXELS, **options):
    return lk.make("vq-vae", domain, **{"codes": 4, "dim": 3, "hidden": (8,), "seed": 0, **options})


@pytest.fixture(scope="module")
def fitted():
    model = small()
    lk.fit(model, bars(), steps=200)
    return model


@torch.no_grad()
def all_grids(model):
    """Every grid of codes, its log p(k), and the logits of the pixels given it."""
    k = torch.tensor([*itertools.product(range(4), repeat=4)])
    log_prior = model.prior.log_prob(k.view(-1, 2, 2)).double()
    return k, log_prior, model.decoder(model._code_of(k), None).double()


def test_the_bound_is_below_the_sum_over_all_grids(fitted):
    _, log_prior, logits = all_grids(fitted)
    assert log_prior.exp().sum().item() == pytest.approx(1, abs=1e-5)
    x = pictures(200, seed=1)
    pixels = torch.distributions.Bernoulli(logits=logits)
    joint = pixels.log_prob(x.flatten(1)[:, None].double()).sum(2) + log_prior
    bound = fitted.log_likelihood(x)
    assert bound.kind == lk.Kind.LOWER
    gap = joint.logsumexp(1) - bound.value
    assert gap.min() > -1e-4
    assert gap.mean() < 2  # it is no empty statement
    # Row by row it is the term of the row's own grid.
    own = (fitted.indices(x).flatten(1) * torch.tensor([64, 16, 4, 1])).sum(1)
    torch.testing.assert_close(
        bound.value.double(), joint[torch.arange(200), own], rtol=0, atol=1e-4
    )


def test_samples_follow_prior_and_decoder(fitted):
    _, log_prior, logits = all_grids(fitted)
    mean = log_prior.exp() @ logits.sigmoid()
    n = 20_000
    found = fitted.sample(n, seed=0).flatten(1).double().mean(0)
    error = (mean * (1 - mean) / n).sqrt()
    assert ((found - mean).abs() < 4.5 * error).all()


def test_a_dead_code_is_back_within_an_epoch():
    data = lk.load_data("digits")
    model = lk.make("vq-vae", data.domain, decay=0.9, seed=0)  # over less than an epoch
    model.prepare(Batch(data.train.x))
    model.codebook.vectors[7] = 1e3
    lk.fit(model, data, epochs=2, ema=0.0, early_stopping=False)  # one for the autoencoder
    assert model.codebook.vectors.norm(dim=1).max() < 100


def test_the_gradient_of_a_code_is_the_encoders():
    model = small(beta=0.0).double()
    batch = Batch(pictures(20))
    model.prepare(batch)
    outputs = []
    handle = model.encoder.register_forward_hook(lambda *seen: outputs.append(seen[2]))
    loss = model.loss(batch).sum()
    handle.remove()
    (through,) = torch.autograd.grad(loss, outputs)
    code = model._code(batch.x, None).detach().requires_grad_()
    (direct,) = torch.autograd.grad(-model._log_prob_given(batch.x, code, None).sum(), code)
    torch.testing.assert_close(through, direct)
    # The other term: β times the square of what choosing a vector loses.
    model.beta = 0.25
    lost = (outputs[0] - code).square().sum(1)
    torch.testing.assert_close(
        model.loss(batch), 0.25 * lost - model._log_prob_given(batch.x, code, None)
    )


@pytest.mark.parametrize("at", [7, 15])
def test_a_killed_run_goes_on_bit_by_bit_in_either_stage(at, tmp_path, monkeypatch):
    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)

    class Killed(Exception):
        pass

    plain, killed, resumed = small(), small(), small()
    whole = lk.fit(plain, bars(), steps=20)
    verb = "loss" if at < 10 else "_coded"
    original = getattr(killed, verb)

    def dying(batch):
        if batch.step == at:
            raise Killed
        return original(batch)

    monkeypatch.setattr(killed, verb, dying)
    with pytest.raises(Killed):
        lk.fit(killed, bars(), steps=20, run=tmp_path)
    history = lk.fit(resumed, bars(), steps=20, run=tmp_path)
    assert history.steps == whole.steps
    assert history.best == whole.best
    expected = plain.state_dict()
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_the_second_stage_moves_the_prior_only():
    model, kept = small(), []

    def watch(average):
        kept.append({k: v.clone() for k, v in average.state_dict().items()})
        return {}

    lk.fit(model, bars(), steps=200, watch=watch)  # validated each 50 steps
    for stage, (before, after) in enumerate(itertools.pairwise(kept)):
        moved = {k.startswith("prior") for k in before if not torch.equal(before[k], after[k])}
        assert moved == ({False}, {True}, {True})[stage]


def test_codes_of_digits_are_in_use_and_their_prior_gains():
    data = lk.load_data("digits")
    model = lk.make("vq-vae", data.domain, codes=16, dim=8, hidden=(16,), seed=0)
    lk.fit(model, data, steps=200)
    used = model.indices(data.train.x).unique().numel()
    assert used >= 0.95 * 16
    given = -model.reconstruction_error(data.test.x)
    prior = (model.log_likelihood(data.test.x).value - given).mean().item()
    assert prior > -16 * math.log(16) + 10


def test_without_a_second_stage_the_prior_is_uniform():
    model = small(prior="uniform")
    lk.fit(model, bars(), steps=20)
    x = pictures(20)
    prior = model.log_likelihood(x).value + model.reconstruction_error(x)
    torch.testing.assert_close(prior, torch.full((20,), -4 * math.log(4)), rtol=0, atol=1e-4)
    assert model.prior is None


@pytest.mark.parametrize(
    ("name", "options"),
    [("transformer", {"width": 16, "layers": 1, "heads": 2}), ("independent", {})],
)
def test_a_prior_of_ones_own_sees_the_context_and_is_saved(name, options, tmp_path):
    domain, context = lk.reals(3), lk.table(kind=lk.Categorical(2))
    width = small(domain, context=context, prior="uniform").context_size
    prior = lk.make(name, lk.categories(4, 6), context=lk.reals(width), **options)
    model = small(domain, context=context, latent=6, prior=prior, hidden=(16,))
    c = torch.arange(300)[:, None] % 2
    x = torch.randn(300, 3) + 4 * c
    splits = [lk.data.Split(x[p], c[p]) for p in (slice(200), slice(200, 250), slice(250, 300))]
    lk.fit(model, lk.Data(domain, *splits, context=context), steps=300, batch=100)
    low, high = model.log_likelihood(x, c).value, model.log_likelihood(x, 1 - c).value
    assert low.mean() > high.mean() + 1
    draws = model.sample(300, context=torch.ones(1), seed=0)
    assert draws.mean().item() == pytest.approx(4, abs=0.6)
    lk.save(model, tmp_path / "model.safetensors")
    again = lk.load(tmp_path / "model.safetensors")
    assert torch.equal(again.log_likelihood(x, c).value, low)
    assert torch.equal(again.sample(300, context=torch.ones(1), seed=0), draws)


def test_a_prior_that_does_not_fit_is_refused():
    for prior in (
        lk.make("made", lk.categories(4, 3)),
        lk.make("vae", lk.categories(4, 2, 2)),
        "vae",
    ):
        with pytest.raises(
            lk.LikelyError, match=r"prior: give a model of lk.categories\(4, 2, 2\)"
        ):
            small(prior=prior)
    with pytest.raises(lk.LikelyError, match="unknown model"):
        small(prior="nonsense")


@pytest.mark.slow
def test_two_processes_have_one_codebook():
    alone, together = small(restart=0.0), small(restart=0.0)
    lk.fit(alone, bars(), steps=40)
    lk.fit(together, bars(), steps=40, devices=2)
    torch.testing.assert_close(together.state_dict(), alone.state_dict(), rtol=1e-3, atol=1e-4)
