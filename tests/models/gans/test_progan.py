"""ProGAN: when levels fade in, what the critic pays, and one run that goes on in mid-fade."""

import pytest
import torch

import likely as lk
from likely.contract.training import Batch
from likely.core.random import seeded

IMAGES = lk.integers(4, 16, 16, layout="image")


def data_of(n=120):
    x = torch.randint(0, 4, (n, 16, 16), generator=torch.Generator().manual_seed(0))
    parts = [slice(0, n - 40), slice(n - 40, n - 20), slice(n - 20, n)]
    return lk.Data(IMAGES, *(lk.data.Split(x[part]) for part in parts))


def small(**options):
    options = {"latent": 4, "hidden": (2, 3), "seed": 0} | options
    return lk.make("progan", IMAGES, **options)


def test_levels_follow_the_budget():
    """Of three stages the later two fade for their first half."""
    model = small()
    assert [stage.share for stage in model.stages()] == pytest.approx([1 / 3] * 3)
    expected = {0: 0, 0.3: 0, 1 / 3: 0, 5 / 12: 0.5, 0.5: 1, 0.6: 1, 2 / 3: 1, 0.75: 1.5, 0.9: 2}
    for progress, grown in ({**expected, 1: 2}).items():
        model.grow(progress)
        found = model.generator.grown.item(), model.growing.grown.item()
        assert found == pytest.approx((grown, grown), abs=1e-6)


def test_a_fit_trains_all_levels_and_ends_fully_grown():
    data, model = data_of(), small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    levels = []
    model.critic.register_forward_hook(lambda *_: levels.append(model.generator.level()[0]))
    history = lk.fit(model, data, steps=12, batch=16, seed=0)
    assert history.skipped == 0
    assert sorted(set(levels)) == [0, 1, 2]
    assert model.generator.level() == (2, 1.0)
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    x = model.sample(200, seed=0)
    assert x.shape == (200, 16, 16)
    assert (x[:, ::2] != x[:, 1::2]).any()  # the last level adds details


def test_a_young_model_draws_images_of_few_pixels():
    model = small()
    model.prepare(Batch(data_of().train.x))
    model.grow(0.2)
    x = model.sample(20, seed=0)
    assert torch.equal(x, x[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2))


def test_what_the_critic_pays():
    """f(G) − f(x) + ε f(x)² + λ (‖∇f‖ − 1)², and the slope of a critic stays when it grows."""
    model = small(minibatch_std=False)
    x = data_of().train.x[:10]
    model.prepare(Batch(x))
    with torch.no_grad():
        real, fake = model.critic(model._real(x), None), torch.randn(10)
        loss = model.critic_loss(real, fake)
    torch.testing.assert_close(loss, fake - real + 1e-3 * real.square())
    model.grow(1.0)
    u = model._real(x)
    penalties = []
    for progress in (1 / 3 - 1e-6, 1 / 3 + 1e-6):
        model.grow(progress)
        with seeded(0):
            penalties.append(model.penalties(u, -u, None))
    torch.testing.assert_close(*penalties, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("step", [8, 14])
def test_a_run_resumes_in_mid_fade(step, tmp_path, monkeypatch):
    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)
    data, budget = data_of(), {"steps": 18, "batch": 16, "seed": 0}
    undisturbed, model = small(), small()
    lk.fit(undisturbed, data, run=tmp_path / "a", **budget)
    objective = model._critic_objective

    def interrupted(batch):
        if batch.step == step:
            assert 0 < model.generator.level()[1] < 1
            raise InterruptedError
        return objective(batch)

    model._critic_objective = interrupted
    with pytest.raises(InterruptedError):
        lk.fit(model, data, run=tmp_path / "b", **budget)
    resumed = small()
    lk.fit(resumed, data, run=tmp_path / "b", **budget)
    expected, found = undisturbed.state_dict(), resumed.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_refusals():
    with pytest.raises(lk.LikelyError, match=r"pad images to \(20, 32\), or give fewer widths"):
        lk.make("progan", lk.reals(1, 18, 30, layout="image"))
    assert lk.make("progan", lk.reals(1, 18, 30, layout="image"), hidden=(4,)) is not None
    with pytest.raises(lk.LikelyError, match="16 to 64"):
        lk.make("progan", lk.reals(2))
