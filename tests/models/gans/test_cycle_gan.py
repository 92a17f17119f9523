"""Translations: maps that are known exactly, the losses by hand, and what must not leak."""

import math

import numpy as np
import pytest
import torch

import likely as lk
from likely.contract.inputs import context_features
from likely.contract.training import Batch
from likely.core.random import seeded
from likely.nets.translator import PatchCritic, Translator


def mixture(n, seed):
    """Three groups of unequal size and shape: no map but the identity carries them into themselves."""
    generator = torch.Generator().manual_seed(seed)
    group = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), n, True, generator=generator)
    centre = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.5, -2.5]])[group]
    width = torch.tensor([[0.3, 0.8], [0.6, 0.2], [0.25, 0.25]])[group]
    return centre + width * torch.randn(n, 2, generator=generator)


MATRIX, SHIFT = torch.tensor([[1.0, -0.5], [0.4, 0.8]]), torch.tensor([3.0, -1.0])


def affine(a):
    return a @ MATRIX.T + SHIFT


def off(found, true):
    """Largest root mean square error of a column, in its standard deviations."""
    return ((found - true).square().mean(0).sqrt() / true.std(0)).max().item()


@pytest.mark.slow
def test_an_affine_map_of_a_mixture_without_symmetry_is_found_both_ways():
    data = lk.unpaired(mixture(4000, 0), affine(mixture(4000, 1)))
    model = lk.make("cyclegan", data.domain, context=data.context, hidden=(64, 64), seed=1)
    a, b = mixture(2000, 2), affine(mixture(2000, 2))
    model.prepare(data.train.rows(slice(None)))
    before = [
        off((a - a.mean(0)) / a.std(0) * b.std(0) + b.mean(0), b),
        off((b - b.mean(0)) / b.std(0) * a.std(0) + a.mean(0), a),
    ]
    lk.fit(model, data, steps=1500, seed=1)
    after = off(model.translate(a), b), off(model.translate(b, back=True), a)
    assert min(before) > 0.4  # scales alone are not the map
    assert max(after) < 0.12
    found = lk.evaluate(model, data, rows=400)
    assert found.cycle_error.value < 0.02
    assert found.noisy_cycle_error.value < 0.1
    assert 0.5 < found.return_gain < 2  # nothing is hidden
    assert found.energy_distance.value < 0.02


def test_a_monotone_map_matches_quantiles():
    rng = np.random.default_rng(0)

    def quantile(a):  # of the standard normal, to those of B
        return np.exp(0.3 * a) + 0.2 * a

    a, other = rng.standard_normal((2, 4000, 1))
    data = lk.unpaired(a, quantile(other))
    model = lk.make("cyclegan", data.domain, context=data.context, hidden=(32, 32), seed=0)
    lk.fit(model, data, steps=1000, batch=128, rate=2e-3, seed=0)
    grid = torch.linspace(-2, 2, 81)[:, None]
    out, true = model.translate(grid), torch.from_numpy(quantile(grid.numpy()))
    assert (out.diff(dim=0) > 0).all()
    assert off(out, true) < 0.15
    assert off(model.translate(true, back=True), grid) < 0.15


def test_equal_domains_stay_as_they_are():
    data = lk.unpaired(mixture(3000, 0), mixture(3000, 1))
    model = lk.make(
        "cyclegan", data.domain, context=data.context, hidden=(32,), identity=0.5, seed=0
    )
    lk.fit(model, data, steps=400, seed=0)
    a = mixture(1000, 2)
    assert off(model.translate(a), a) < 0.15
    assert off(model.translate(a, back=True), a) < 0.15


def tiny(domain=None, context=None, **options):
    given = {"hidden": (8,), "seed": 0} | options
    context = context or lk.reals(3)
    return lk.make("cyclegan", domain or lk.reals(2), context=context, **given)


def test_losses_by_hand():
    model = tiny(lk.reals(3), identity=0.3, cycle=7.0, pool=0).double()
    batch = Batch(torch.randn(20, 3).double(), 2 + torch.randn(20, 3).double())
    model.prepare(batch)
    a, b = context_features(model, batch.context, 20), model.view(batch.x)[0]
    there, back = model.there, model.back

    def distance(x, y):
        return (x - y).abs().mean(1)

    judged = [critic(move).squeeze(1) for critic, move in zip(model.critics, (back(b), there(a)))]  # noqa: B905
    returned = distance(back(there(a)), a) + distance(there(back(b)), b)
    kept = distance(there(b), b) + distance(back(a), a)
    expected = sum((d - 1) ** 2 for d in judged) + 7 * returned + 2.1 * kept
    maps, critics = model.objectives()
    torch.testing.assert_close(maps.loss(batch), expected)
    real = [critic(side).squeeze(1) for critic, side in zip(model.critics, (a, b), strict=True)]
    expected = sum((r - 1) ** 2 + f**2 for r, f in zip(real, judged, strict=True)) / 2
    torch.testing.assert_close(critics.loss(batch), expected)
    assert {*maps.parameters} == {*model.maps.parameters()}
    assert {*critics.parameters} == {*model.critics.parameters()}
    for objective, others in ((maps, model.critics), (critics, model.maps)):
        model.zero_grad()
        objective.loss(batch).mean().backward()
        assert all(p.grad is None for p in others.parameters())


def test_half_of_what_a_full_pool_gives_is_older():
    model = tiny(pool=40)
    first = torch.arange(40.0)[:, None]
    assert torch.equal(model._pooled(0, first), first)
    share = []
    for turn in range(1, 60):
        fake = first + 40 * turn
        given = model._pooled(0, fake)
        kept = model.training_state()["0"]
        share.append((given < 40 * turn).double().mean().item())
        assert len(torch.cat([given, kept]).unique()) == 80  # nothing is lost or doubled at a turn
    assert abs(np.mean(share) - 0.5) < 4 * 0.5 / math.sqrt(59 * 40)
    other = tiny(pool=40)
    other.load_training_state(model.training_state())
    with seeded(1):
        given = model._pooled(0, first)
    with seeded(1):
        assert torch.equal(other._pooled(0, first), given)


def test_pairs_do_not_leak_and_all_rows_are_used():
    a = torch.arange(1000.0)[:, None]
    data = lk.unpaired(a, torch.cat([a + 0.5] * 2))
    assert (len(data.train), len(data.valid), len(data.test)) == (1600, 100, 100)
    for split in (data.train, data.valid, data.test):
        x, context = split.x[:, 0], split.context[:, 0]
        assert abs(np.corrcoef(x, context)[0, 1]) < 4 / math.sqrt(len(x))
    counts = torch.bincount(data.train.context[:, 0].long(), minlength=1000)
    assert set(counts.tolist()) == {0, 2}  # the smaller set comes twice, without held-out rows
    assert data.fingerprint() == lk.unpaired(a, torch.cat([a + 0.5] * 2)).fingerprint()
    assert data.fingerprint() != lk.unpaired(a, torch.cat([a + 0.5] * 2), seed=1).fingerprint()


def test_a_map_that_hides_rows_in_small_numbers_is_found_out():
    model = tiny(lk.reals(3), lk.reals(3))
    model.there = lambda a: 0.01 * a
    model.back = lambda b: 100 * b
    a = torch.randn(500, 3)
    found = model.cycle_errors(a, seed=0)
    assert found.error.value < 1e-6
    assert found.gain == pytest.approx(100, rel=1e-3)
    expected = 100 / 16 * math.sqrt(2 / math.pi)
    assert found.noisy.value == pytest.approx(expected, rel=0.05)
    assert model.cycle_errors(a, back=True, seed=0).gain == pytest.approx(0.01, rel=1e-3)


def images(n, side=16, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, channels, side, side) if channels > 1 else (n, side, side)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def test_images_of_several_channels_and_a_resumed_run(tmp_path, monkeypatch):
    data = lk.unpaired(images(60), images(70, channels=3, seed=1))
    options = {"hidden": (4, 8), "blocks": 1, "pool": 5, "seed": 0}
    model = lk.make("cyclegan", data.domain, context=data.context, **options)
    assert all(isinstance(net, Translator) for net in model.maps)
    assert all(isinstance(net, PatchCritic) for net in model.critics)
    lk.fit(model, data, steps=6, seed=0)
    assert model.translate(data.test.context).shape == data.test.x.shape
    assert model.translate(data.test.x, back=True).shape == data.test.context.shape
    assert len(model.source.scale.unique()) == len(model.view.shift.unique()) == 1
    assert model.view.scale[0].item() == pytest.approx(data.train.x.double().std().item(), rel=0.01)

    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)
    run = {"steps": 6, "seed": 0, "run": tmp_path}
    again = lk.make("cyclegan", data.domain, context=data.context, **options)
    loss = again._critics_objective

    def interrupted(batch):
        if batch.step == 4:
            raise InterruptedError
        return loss(batch)

    again._critics_objective = interrupted
    with pytest.raises(InterruptedError):
        lk.fit(again, data, **run)
    resumed = lk.make("cyclegan", data.domain, context=data.context, **options)
    lk.fit(resumed, data, **run)
    for key, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_odd_sizes_come_back():
    x = torch.randn(2, 3 * 17 * 21)
    assert Translator((3, 17, 21), 1, (4, 6, 8), 2)(x).shape == (2, 17 * 21)
    assert PatchCritic((3, 17, 21), (4, 6))(x).shape[0] == 2


def test_without_a_context_rows_come_from_noise():
    model = lk.make("cyclegan", lk.reals(2), hidden=(8,), seed=0)
    lk.fit(model, mixture(500, 0), steps=3)
    assert model.sample(7, seed=0).shape == (7, 2)
    with pytest.raises(lk.DomainError, match="without a context"):
        model.translate(torch.zeros(2, 2))
    with pytest.raises(lk.LikelyError, match="CycleGAN can"):
        lk.make("gan", lk.reals(2)).translate(torch.zeros(2, 2))


def test_refusals(tmp_path):
    small, large = (lk.integers(256, side, side, layout="image") for side in (28, 32))
    with pytest.raises(lk.DomainError, match="images of 28 × 28 and of 32 × 32 pixels"):
        tiny(large, small)
    assert tiny(large, small, network="mlp").maps[0](torch.zeros(1, 28 * 28)).shape == (1, 32 * 32)
    with pytest.raises(lk.DomainError, match="does not translate categorical columns"):
        tiny(context=lk.categories(3, 4))
    with pytest.raises(lk.LikelyError, match=r"identity=0\.5: 3 columns cannot stay"):
        tiny(identity=0.5)
    with pytest.raises(lk.LikelyError, match="convolutional"):
        tiny(network="convolutional")
    with pytest.raises(lk.DataError, match="the rows to translate"):
        tiny(lk.binary(2)).translate(torch.full((2, 2), 7), back=True)
    with pytest.raises(lk.DataError, match="at least two rows"):
        tiny().cycle_errors(torch.zeros(1, 3))
    (tmp_path / "empty").mkdir()
    for empty, words in (
        (np.zeros((0, 2)), "the array is empty"),
        (tmp_path / "empty", "empty: holds no images"),
    ):
        with pytest.raises(lk.DataError, match=words):
            lk.unpaired(empty, np.random.default_rng(0).random((50, 2)))
        with pytest.raises(lk.DataError, match=words):
            lk.unpaired(np.random.default_rng(0).random((50, 2)), empty)
