"""The games: losses and penalties against formulas, and who moves whom."""

import copy
import math

import pytest
import torch
from torch import nn

import likely as lk
from likely.contract.inputs import context_features
from likely.contract.training import Batch
from likely.core.random import seeded
from likely.models.gans.penalties import distance_from_unit_slope, squared_gradient

NAMES = ["gan", "gan-minimax", "gan-gp", "lsgan", "wgan", "wgan-gp"]
MIXED = lk.table(
    a=lk.Real(),
    b=lk.Positive(),
    c=lk.Interval(-0.1, 0.7),
    d=lk.Periodic(0, 3),
    e=lk.Constant(4.0),
    f=lk.Integer(5),
    g=lk.Spin(),
    h=lk.Count(),
)


def rows(n):
    u = torch.rand(n, 8)
    columns = [3 * u[:, 0] + 9, u[:, 1].exp(), 0.8 * u[:, 2] - 0.1, 3 * u[:, 3], 0 * u[:, 4] + 4]
    columns += [(5 * u[:, 5]).floor(), 2 * (u[:, 6] > 0.5) - 1, (9 * u[:, 7]).floor()]
    return torch.stack(columns, 1)


def small(name, domain=None, **options):
    return lk.make(name, domain or lk.reals(2), latent=3, hidden=(16, 16), seed=0, **options)


@pytest.mark.parametrize(
    ("name", "critic", "generator"),
    [
        (
            "gan",
            lambda d, g: -math.log(d) - math.log(1 - g),
            lambda d, g: -math.log(g),
        ),
        (
            "gan-minimax",
            lambda d, g: -math.log(d) - math.log(1 - g),
            lambda d, g: math.log(1 - g),
        ),
    ],
)
def test_losses_by_the_discriminators_probabilities(name, critic, generator):
    model = small(name)
    for d, g in [(0.5, 0.5), (0.9, 0.2), (0.3, 0.999)]:
        real, fake = (torch.tensor([p], dtype=torch.float64).logit() for p in (d, g))
        assert model.critic_loss(real, fake).item() == pytest.approx(critic(d, g), rel=1e-12)
        assert model.generator_loss(fake).item() == pytest.approx(generator(d, g), rel=1e-9)


def test_losses_of_the_other_games():
    real, fake = torch.tensor([0.25, 2.0]), torch.tensor([-1.0, 3.0])
    model = small("lsgan")
    torch.testing.assert_close(
        model.critic_loss(real, fake), torch.tensor([(0.75**2 + 1) / 2, 5.0])
    )
    torch.testing.assert_close(model.generator_loss(fake), torch.tensor([2.0, 2.0]))
    for name in ("wgan", "wgan-gp"):
        model = small(name)
        torch.testing.assert_close(model.critic_loss(real, fake), torch.tensor([-1.25, 1.0]))
        torch.testing.assert_close(model.generator_loss(fake), -fake)


def test_the_value_at_the_best_critic_is_the_jensen_shannon_divergence():
    model = small("gan")
    x = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    certain = torch.full_like(x, 800.0)  # a number whose term is log 1

    def integral(y):
        return torch.trapezoid(y, x).item()

    for m in (0.0, 1.5):  # the model is N(0, 1), the data N(m, 1)
        data, fake = (torch.exp(-((x - at) ** 2) / 2) / math.sqrt(2 * math.pi) for at in (m, 0.0))
        f = m * x - m**2 / 2
        on_data, on_fake = model.critic_loss(f, -certain), model.critic_loss(certain, f)
        value = -integral(data * on_data + fake * on_fake)
        entropies = [integral(torch.special.entr(p)) for p in ((data + fake) / 2, data, fake)]
        divergence = entropies[0] - (entropies[1] + entropies[2]) / 2
        assert value == pytest.approx(2 * divergence - math.log(4), abs=1e-9)
        assert (m == 0) == (abs(value + math.log(4)) < 1e-9)


def test_penalty_of_a_linear_and_a_quadratic_critic():
    a, u = torch.tensor([3.0, -4.0]), torch.randn(50, 2)
    fake = torch.randn(50, 2)
    torch.testing.assert_close(squared_gradient(lambda u: u @ a, u), torch.full((50,), 25.0))
    torch.testing.assert_close(
        distance_from_unit_slope(lambda u: u @ a, u, fake), torch.full((50,), 16.0)
    )
    quadratic = squared_gradient(lambda u: u.square().sum(1) / 2, u)
    torch.testing.assert_close(quadratic, u.square().sum(1))
    # Along the line from the origin to a point the slope is part · |u|, and part is uniform.
    unit = nn.functional.normalize(torch.randn(200_000, 2))
    penalty = distance_from_unit_slope(
        lambda u: u.square().sum(1) / 2, torch.zeros(200_000, 2), unit
    )
    assert abs(penalty.mean().item() - 1 / 3) < 4 * (4 / 45 / 200_000) ** 0.5


def test_penalties_have_gradients_even_where_recording_is_off_or_the_critic_flat():
    scale = torch.tensor(2.0, requires_grad=True)
    u = torch.randn(9, 2)
    with torch.no_grad():
        penalty = squared_gradient(lambda u: scale * u[:, 0], u)
    (gradient,) = torch.autograd.grad(penalty.mean(), scale)
    assert gradient.item() == 4.0
    flat = torch.tensor(0.0, requires_grad=True)
    penalty = distance_from_unit_slope(lambda u: flat * u[:, 0], u, u)
    assert torch.equal(penalty, torch.ones(9))
    assert torch.autograd.grad(penalty.mean(), flat)[0].isfinite()


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("context", [None, lk.reals(1)], ids=["alone", "given"])
@pytest.mark.parametrize("name", ["gan-gp", "wgan-gp"])
def test_one_pass_of_the_critic_is_one_for_real_rows_and_one_for_samples(
    name, context, dtype, rtol
):
    model = small(name, context=context).to(dtype)
    given = None if context is None else torch.randn(40, 1, dtype=dtype)
    batch = Batch(torch.randn(40, 2, dtype=dtype), given)
    model.prepare(batch)
    critic = model.objectives()[0]
    with seeded(0):
        loss = critic.loss(batch)
    with seeded(0):
        seen, real = context_features(model, given, 40), model.view(batch.x)[0]
        with torch.no_grad():
            fake = model._sample_real(40, seen)
        plain = model.critic_loss(model.critic(real, seen), model.critic(fake, seen))
        plain = plain + model.penalties(real, fake, seen)
    torch.testing.assert_close(loss, plain, rtol=rtol, atol=rtol)
    for a, b in zip(
        torch.autograd.grad(loss.mean(), critic.parameters),
        torch.autograd.grad(plain.mean(), critic.parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", NAMES)
def test_each_player_moves_its_own_parameters_only(name):
    model = small(name)
    batch = Batch(torch.randn(40, 2))
    model.prepare(batch)
    critic, generator = model.objectives()
    assert generator.every == (2 if name.startswith("wgan") else 1)
    for objective, own, other in (
        (critic, model.critic, model.generator),
        (generator, model.generator, model.critic),
    ):
        assert {id(p) for p in objective.parameters} == {id(p) for p in own.parameters()}
        loss = objective.loss(batch)
        assert loss.shape == (40,)
        model.zero_grad()
        loss.mean().backward()
        assert any(p.grad.abs().sum() > 0 for p in own.parameters())
        assert all(p.grad is None for p in other.parameters())


def test_weights_are_clipped_after_every_step():
    data = lk.load_data(torch.randn(300, 2))
    model = small("wgan", bound=0.05)
    objectives = model.objectives()
    largest = []

    def after():
        before = max(p.abs().max().item() for p in model.critic.parameters())
        objectives[0].after()
        largest.append((before, max(p.abs().max().item() for p in model.critic.parameters())))

    spied = [lk.Objective(o.name, o.parameters, o.loss, o.every, after) for o in objectives[:1]]
    model.objectives = lambda: [*spied, objectives[1]]
    lk.fit(model, data, steps=30, batch=64)
    assert len(largest) == 30
    assert max(before for before, _ in largest) > 0.05
    assert max(now for _, now in largest) == pytest.approx(0.05)
    # The average of clipped weights is within the bound, too.
    assert max(p.abs().max().item() for p in model.critic.parameters()) < 0.0500001


def test_any_number_of_critic_steps():
    data = lk.load_data(torch.randn(300, 2))
    model = small("gan-gp", critic_steps=3)
    calls = {"critic": 0, "generator": 0}
    objectives = model.objectives()
    for objective in objectives:

        def counted(batch, name=objective.name, loss=objective.loss):
            calls[name] += 1
            return loss(batch)

        objective.loss = counted
    model.objectives = lambda: objectives
    history = lk.fit(model, data, steps=30, batch=32)
    assert calls == {"critic": 30, "generator": 10}
    assert {"critic", "generator"} <= set(history.rows[-1])
    assert history.rows[-1]["valid"] is None


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_every_kind_of_column_lie_in_the_domain(name):
    x = rows(400)
    model = small(name, MIXED)
    model.prepare(Batch(x))
    with torch.no_grad():
        model.generator.layers[-1].weight.mul_(30)  # so that it reaches the ends
    draws = model.sample(3000, seed=0)
    assert MIXED.contains(draws).all()
    assert set(draws[:, 5].tolist()) == {0, 1, 2, 3, 4}
    assert set(draws[:, 6].tolist()) == {-1, 1}
    for objective in model.objectives():
        assert objective.loss(Batch(x)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_view_and_its_inverse(dtype):
    x = rows(2000).to(dtype)
    view = small("gan", MIXED).view.to(dtype)
    view.prepare(x)
    z = view(x)[0]
    assert z.shape == (2000, 7)
    assert z.dtype == dtype
    line = ~view.periodic
    torch.testing.assert_close(z[:, line].mean(0), torch.zeros(6, dtype=dtype), rtol=0, atol=0.05)
    torch.testing.assert_close(z[:, line].std(0), torch.ones(6, dtype=dtype), rtol=0.05, atol=0)
    torch.testing.assert_close(view.inverse(z), x, rtol=1e-5, atol=1e-5)
    # A generator reaches both ends of bounded columns, and no further.
    for y, column, end in ((-60.0, 2, -0.1), (60.0, 2, 0.7), (-60.0, 4, 0.0), (60.0, 4, 4.0)):
        row = view.inverse(view.squash(torch.full((1, 7), y, dtype=dtype)))[0]
        assert row[column + (column > 3)].item() == pytest.approx(end, abs=1e-6)


def test_a_critic_sees_no_seam():
    model = small("gan", lk.table(a=lk.Periodic(0, 3), b=lk.Real()))
    low, high = torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 1.0]])
    torch.testing.assert_close(model._seen(model.view(low)[0]), model._seen(model.view(high)[0]))


def test_images_take_convolutions_and_context():
    context = lk.table(kind=lk.Categorical(3))
    for domain in (
        lk.integers(17, 8, 8, layout="image"),
        lk.reals(3, 7, 5),
        lk.Domain((1, 6, 6), (lk.Periodic(0, 1),), layout="image"),
    ):
        options = {"context": context, "latent": 4, "seed": 0}
        model = lk.make("gan-gp", domain, hidden=(4, 8), network="convolutional", **options)
        assert any(isinstance(m, nn.Conv2d) for m in model.critic.modules())
        assert any(isinstance(m, nn.Conv2d) for m in model.generator.modules())
        x = torch.rand(20, *domain.shape)
        x = (17 * x).floor().long() if domain.discrete else x
        batch = Batch(x, torch.randint(0, 3, (20, 1)))
        model.prepare(batch)
        for objective in model.objectives():
            assert objective.loss(batch).shape == (20,)
        draws = model.sample(6, context=torch.tensor([2]), seed=0)
        assert draws.shape == (6, *domain.shape)
        assert domain.contains(draws).all()


def test_a_conditional_gan_follows_its_context():
    c = torch.randint(0, 2, (3000, 1))
    x = 0.3 * torch.randn(3000, 1) + 4.0 * c - 2
    parts = [slice(0, 2400), slice(2400, 2700), slice(2700, 3000)]
    kinds = lk.table(kind=lk.Categorical(2))
    data = lk.Data(lk.reals(1), *(lk.data.Split(x[p], c[p]) for p in parts), context=kinds)
    model = small("gan-gp", data.domain, context=kinds, penalty=0.1)
    lk.fit(model, data, steps=600, batch=128, rate=2e-3)
    low, high = (model.sample(2000, context=torch.tensor([k]), seed=0) for k in (0, 1))
    assert abs(low.mean() + 2) < 0.3
    assert abs(high.mean() - 2) < 0.3
    with pytest.raises(lk.DataError, match="conditional"):
        model.sample(3)


def test_weights_of_rows_count():
    x = torch.randn(4000, 1)
    weight = (0.8 * x[:, 0]).exp()  # which makes it N(0.8, 1)
    parts = [slice(0, 3000), slice(3000, 3500), slice(3500, 4000)]
    data = lk.Data(lk.reals(1), *(lk.data.Split(x[p], None, weight[p]) for p in parts))
    model = small("gan-gp", data.domain, penalty=0.1)
    lk.fit(model, data, steps=600, batch=128, rate=2e-3)
    assert abs(model.sample(4000, seed=0).mean() - 0.8) < 0.2


def test_a_penalty_trains_in_bfloat16():
    data = lk.load_data("rings")
    history = lk.fit(small("wgan-gp", data.domain), data, steps=5, precision="bf16-mixed")
    assert (history.steps, history.skipped) == (5, 0)


def test_no_likelihood():
    model = small("gan")
    for verb in (model.log_prob, model.log_likelihood, model.anomaly_score):
        with pytest.raises(lk.DensityError, match="GAN has no"):
            verb(torch.zeros(3, 2))


def test_critic_gap():
    model = small("wgan-gp", lk.reals(1))
    model.critic.forward = lambda u, context: 2 * u[:, 0]
    model.generator.forward = lambda noise: noise[:, :1]
    x = 3 + torch.randn(20_000, 1)
    gap = model.critic_gap(x, seed=0)
    assert abs(gap.value - 6) < 4 * gap.stderr
    assert gap.stderr == pytest.approx((8 / 20_000) ** 0.5, rel=0.02)
    assert gap == model.critic_gap(x, seed=0)
    with pytest.raises(lk.DataError, match="two rows"):
        model.critic_gap(x[:1])
    with pytest.raises(lk.DataError, match="finite"):
        model.critic_gap(torch.full((3, 1), math.nan))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gan", {"network": "convolutional"}),
        ("gan", {"penalty": -1.0}),
        ("wgan", {"bound": 0.0}),
        ("gan", {"critic_steps": 0}),
    ],
)
def test_refusals(name, options):
    (option,) = options
    with pytest.raises(lk.LikelyError, match=option):
        lk.make(name, lk.reals(2), **options)


def test_constant_data_are_refused():
    with pytest.raises(lk.DomainError, match="constant"):
        lk.make("gan", lk.table(a=lk.Constant(3.0)))


@pytest.mark.parametrize("name", ["gan-gp", "wgan"])
def test_a_run_that_was_interrupted_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    data = lk.load_data(torch.randn(500, 2))
    whole = small(name)
    lk.fit(whole, data, steps=20, batch=64, seed=3)
    twin = small(name)
    original = twin.objectives

    class Stop(Exception):
        pass

    def stopping():
        critic, generator = original()
        loss, calls = critic.loss, []

        def counted(batch):
            calls.append(1)
            if len(calls) == 13:
                raise Stop
            return loss(batch)

        critic.loss = counted
        return [critic, generator]

    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)
    twin.objectives = stopping
    with pytest.raises(Stop):
        lk.fit(twin, data, steps=20, batch=64, seed=3, run=tmp_path / "run")
    resumed = small(name)
    lk.fit(resumed, data, steps=20, batch=64, seed=3, run=tmp_path / "run")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    again = lk.load(tmp_path / "run")
    assert torch.equal(again.sample(9, seed=1), whole.sample(9, seed=1))
    assert copy.deepcopy(again).hyperparameters == whole.hyperparameters
