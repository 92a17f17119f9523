"""Adversarial networks of images: what their papers say, and what their weights and samples depend on."""

import math

import pytest
import scipy.stats
import torch
from torch import nn

import likely as lk
from likely.contract.training import Batch
from likely.core.random import seeded
from likely.models.gans.penalties import non_orthogonality
from likely.nets.normalisation import Equalised, SpectralNorm, batch_norms

IMAGES = lk.integers(4, 16, 16, layout="image")
KINDS = lk.table(kind=lk.Categorical(3))
NAMES = ["dcgan", "sngan", "biggan"]


def bars(n, seed=0):
    """Dark images with a bright bar whose place is the class."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, 3, (n, 1), generator=generator)
    x = torch.randint(0, 2, (n, 16, 16), generator=generator)
    for k in range(3):
        x[kind[:, 0] == k, :, 5 * k : 5 * k + 3] = 3
    return x, kind


def place(x):
    """The class that an image shows."""
    return torch.stack(
        [x.float()[:, :, 5 * k : 5 * k + 3].mean((1, 2)) for k in range(3)], 1
    ).argmax(1)


def data_of(n=600, context=True):
    x, c = bars(n)
    held = n // 6
    parts = [slice(0, n - held), slice(n - held, n - held // 2), slice(n - held // 2, n)]
    splits = [lk.data.Split(x[p], c[p] if context else None) for p in parts]
    return lk.Data(IMAGES, *splits, context=KINDS if context else None)


def small(name, context=KINDS, **options):
    options = {"latent": 6, "hidden": (4, 8)} | options
    model = lk.make(name, IMAGES, context=context, seed=0, **options)
    x, kind = bars(40)
    model.prepare(Batch(x, None if context is None else kind))
    return model


def test_hinge_losses():
    model = small("sngan")
    real, fake = torch.tensor([0.25, 2.0, -1.0]), torch.tensor([-1.5, 3.0, 0.0])
    torch.testing.assert_close(model.critic_loss(real, fake), torch.tensor([0.75, 4.0, 3.0]))
    torch.testing.assert_close(model.generator_loss(fake), -fake)
    # Its least value at each point, p max(0, 1 − f) + q max(0, 1 + f), is at the sign of p − q.
    f = torch.linspace(-3, 3, 601)
    for p, q in ((0.7, 0.2), (0.1, 0.4)):
        on_real, on_fake = model.critic_loss(f, -9 + 0 * f), model.critic_loss(9 + 0 * f, f)
        best = f[(p * on_real + q * on_fake).argmin()].item()
        assert best == pytest.approx(math.copysign(1, p - q))


@pytest.mark.parametrize("name", NAMES)
def test_each_player_moves_its_own_parameters_only(name):
    model = small(name, minibatch_std=True)
    batch = Batch(*bars(20))
    for objective, own, other in zip(
        model.objectives(),
        (model.critic, model.generator),
        (model.generator, model.critic),
        strict=True,
    ):
        loss = objective.loss(batch)
        assert loss.shape == (20,)
        model.zero_grad()
        loss.mean().backward()
        assert {id(p) for p in objective.parameters} == {id(p) for p in own.parameters()}
        assert all(p.grad is not None and p.grad.isfinite().all() for p in own.parameters())
        assert all(p.grad is None for p in other.parameters())


def test_real_rows_and_samples_share_a_pass_only_where_rows_do_not_see_each_other():
    assert small("sngan").together
    assert not small("sngan", minibatch_std=True).together
    assert not small("dcgan").together
    batches = []
    model = small("dcgan")
    model.critic.register_forward_hook(lambda net, inputs, f: batches.append(len(f)))
    model.objectives()[0].loss(Batch(*bars(20)))
    assert batches == [20, 20]


def test_which_layers_are_normalised():
    sn, big = small("sngan"), small("biggan")
    for net, all_of_it in ((sn.critic, True), (sn.generator, False), (big.generator, True)):
        scaled = {id(m.layer) for m in net.modules() if isinstance(m, SpectralNorm)}
        layers = {id(m) for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)}
        assert scaled == (layers if all_of_it else set())
    assert any(isinstance(m, Equalised) for m in small("dcgan", equalised=True).modules())
    start = small("dcgan").critic.head.last.weight
    assert start.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_ends_with_singular_values_and_statistics_of_the_averaged_weights(name):
    data, model = data_of(), small(name)
    history = lk.fit(model, data, steps=6, batch=32, seed=1)
    assert {"critic", "generator"} <= set(history.rows[-1])
    for module in model.modules():
        if isinstance(module, SpectralNorm):
            matrix = (module.scale() * module.layer.weight).flatten(1)
            assert torch.linalg.svdvals(matrix)[0].item() == pytest.approx(1, abs=1e-4)
    norm = next(iter(batch_norms(model.generator).values()))
    seen = []
    hook = norm.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    context = data.train.context[torch.randint(len(data.train), (2000,))]
    model.sample(2000, context=context, seed=3)
    hook.remove()
    h = torch.cat(seen).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, h.mean(1), rtol=0, atol=0.1 * h.std().item())
    torch.testing.assert_close(norm.running_var, h.var(1), rtol=0.15, atol=0)
    # A sample depends on its noise, and not on its batch.
    alone = model.generator(torch.cat([torch.ones(1, 6), torch.eye(3)[:1]], 1))
    inputs = torch.cat([torch.randn(9, 6), torch.eye(3)[torch.arange(9) % 3]], 1)
    inputs[4] = torch.cat([torch.ones(6), torch.eye(3)[0]])
    torch.testing.assert_close(model.generator(inputs)[4:5], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 12), (12, 5)])
def test_the_orthogonal_penalty_and_its_gradient(shape):
    matrix = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    gram = matrix @ matrix.T
    off = gram * (1 - torch.eye(shape[0]))
    torch.testing.assert_close(non_orthogonality(matrix), off.square().sum())
    (gradient,) = torch.autograd.grad(non_orthogonality(matrix), matrix)
    torch.testing.assert_close(gradient, 4 * off @ matrix)
    rows = torch.linalg.qr(torch.randn(6, 6).double())[0][:4]
    assert non_orthogonality(rows).item() == pytest.approx(0, abs=1e-12)


def test_a_biggan_pays_for_rows_that_are_not_orthogonal():
    losses = []
    for weight in (0.0, 0.5):
        model = small("biggan", orthogonal=weight)
        with seeded(2):
            losses.append(model.objectives()[1].loss(Batch(*bars(20))))
    pays = 0.5 * model.non_orthogonality()
    torch.testing.assert_close(losses[1] - losses[0], pays.expand(20), rtol=1e-4, atol=1e-4)


def test_truncated_noise_and_its_moments():
    model = small("biggan")
    for threshold in (0.3, 1.0, 2.5):
        with seeded(0):
            z = model._truncated(20_000, threshold).double()
        truth = scipy.stats.truncnorm(-threshold, threshold)
        assert z.abs().max() <= threshold
        n = z.numel()
        assert abs(z.mean()) < 4 * truth.std() / n**0.5
        variance = truth.var()
        spread = (truth.moment(4) - variance**2) ** 0.5
        assert abs(z.square().mean() - variance) < 4 * spread / n**0.5


def test_truncation_trades_variety():
    model = small("biggan")
    lk.fit(model, data_of(), steps=4, batch=32)
    spread = [
        model.sample(200, context=torch.tensor([1]), seed=0, **options).float().std(0).mean()
        for options in ({"truncation": 0.01}, {"truncation": 1.0}, {})
    ]
    assert spread[0] < 0.2 * spread[2]
    assert spread[0] < spread[1]
    before = model.state_dict()
    again = [model.sample(5, context=torch.tensor([1]), seed=0, truncation=0.5) for _ in "ab"]
    assert torch.equal(*again)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(lk.LikelyError, match="truncation"):
        model.sample(5, context=torch.tensor([1]), truncation=-1.0)


def test_a_conditional_dcgan_follows_its_context():
    data = data_of(1000)
    assert torch.equal(place(data.train.x), data.train.context[:, 0])
    model = lk.make("dcgan", IMAGES, context=KINDS, latent=6, hidden=(8, 16), seed=0)
    lk.fit(model, data, steps=100, batch=32, rate=1e-3, seed=0, ema=0.9)
    kind = torch.arange(90) % 3
    x = model.sample(90, context=kind[:, None], seed=0)
    assert (place(x) == kind).float().mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "steps"),
    [
        ("progan", {"hidden": (8,)}, 300),
        (
            "stylegan",
            {"hidden": (8, 16), "penalty": 3.0, "penalty_every": 4, "mapping_rate": 0.1},
            1200,
        ),
    ],
)
def test_networks_with_scaled_weights_follow_their_context(name, options, steps):
    model = small(name, **options)
    lk.fit(model, data_of(1000), steps=steps, batch=32, rate=4e-3, seed=0, ema=0.95)
    kind = torch.arange(90) % 3
    x = model.sample(90, context=kind[:, None], seed=0)
    assert (place(x) == kind).float().mean() > 0.6  # five errors above chance, 1/3


def test_augmentation_is_of_what_the_critic_sees_in_training():
    x, _ = bars(20)
    plain, changed = (small("sngan", None, augment=a) for a in ("", "translation,cutout"))
    changed.load_state_dict(plain.state_dict())
    z = plain.view(x)[0]
    assert torch.equal(plain._shown(z), z)
    assert not torch.equal(changed._shown(z), z)
    assert torch.equal(changed._seen(z), z)
    for objective in changed.objectives():
        loss = objective.loss(Batch(x)).mean()
        gradients = torch.autograd.grad(loss, objective.parameters)
        assert any(g.abs().sum() > 0 for g in gradients)


def test_pixels_are_standardised_together():
    """A border that hardly varies does not become noise, and a moved image is one of its kind."""
    x, _ = bars(200)
    x[:, 0] = 0
    x[0, 0, 0] = 1
    view = small("sngan", None).view
    view.prepare(x)
    assert len({*view.scale.tolist()}) == len({*view.shift.tolist()}) == 1
    z = view(x, 0.5)[0]
    assert z.mean().item() == pytest.approx(0, abs=0.01)
    assert z.std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(view.inverse(z), x)


@pytest.mark.parametrize(
    ("name", "domain", "options", "words"),
    [
        ("dcgan", lk.reals(2), {}, "16 to 64"),
        ("sngan", lk.reals(1, 12, 20, layout="image"), {}, "16 to 64"),
        ("biggan", lk.reals(1, 20, 80, layout="image"), {}, "16 to 64"),
        ("dcgan", IMAGES, {"hidden": (2, 2, 2, 2, 2)}, "halved less often"),
        ("sngan", IMAGES, {"augment": "flip"}, "'flip' is none of translation"),
        ("gan", lk.reals(2), {"augment": "cutout"}, "augment"),
    ],
)
def test_refusals(name, domain, options, words):
    with pytest.raises(lk.LikelyError, match=words):
        lk.make(name, domain, **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_interrupted_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)
    data, run = data_of(60), {"steps": 6, "batch": 10, "seed": 3}
    undisturbed, model, resumed = (
        lk.make(name, IMAGES, context=KINDS, seed=0, latent=6, hidden=(4, 8)) for _ in range(3)
    )
    lk.fit(undisturbed, data, **run)
    objective = model._critic_objective

    def interrupted(batch):
        if batch.step == 4:
            raise InterruptedError
        return objective(batch)

    model._critic_objective = interrupted
    with pytest.raises(InterruptedError):
        lk.fit(model, data, run=tmp_path, **run)
    lk.fit(resumed, data, run=tmp_path, **run)
    found = resumed.state_dict()
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(value, found[key]), key


@pytest.mark.slow
def test_two_processes_train_as_one():
    """Spectral norm and batch norm: the distance to the data is within the spread over seeds."""
    from likely.evaluation import energy_distance

    data = data_of(1000, context=False)
    distances = []
    for seed, devices in ((0, 1), (1, 1), (2, 1), (0, 2)):
        model = lk.make("biggan", IMAGES, latent=6, hidden=(4, 8), seed=seed)
        lk.fit(model, data, steps=100, batch=32, rate=1e-3, seed=seed, devices=devices)
        draws = model.sample(500, seed=0).flatten(1)
        distances.append(energy_distance(data.train.x.flatten(1).float(), draws.float()).value)
    spread = max(distances[:3]) - min(distances[:3])
    assert min(distances[:3]) - spread < distances[3] < max(distances[:3]) + spread
