"""InfoGAN: the bound on the mutual information, and codes that are found again."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr
from torch.nn import functional as F

import likely as lk
from likely.contract.training import Batch
from likely.models.gans.infogan import NARROWEST


def small(domain=None, **options):
    options = {"latent": 2, "hidden": (32, 32), "continuous": 0, "categories": (3,)} | options
    model = lk.make("infogan", domain or lk.reals(2), seed=0, **options)
    model.prepare(Batch(torch.randn(50, *model.domain.shape)))
    return model


def outputs(model, posterior):
    """Outputs of Q that mean these probabilities."""
    return posterior.log()


def test_the_bound_at_the_best_recogniser_is_the_mutual_information():
    """Of a known channel p(x|c), by summation; any other recogniser is below it."""
    channel = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]]).double()
    model = small()
    joint = channel / 3  # p(c, x)
    p_x = joint.sum(0)
    information = (joint * (joint / (p_x / 3)).log()).sum()
    c, x = torch.cartesian_prod(torch.arange(3), torch.arange(3)).unbind(1)

    def bound(posterior):
        return (
            joint.flatten() * model.bounds(outputs(model, posterior)[x], F.one_hot(c, 3)).sum(0)
        ).sum()

    best = (joint / p_x).T  # q(c|x)
    assert bound(best).item() == pytest.approx(information.item(), abs=1e-12)
    for other in (torch.full((3, 3), 1 / 3).double(), torch.rand(3, 3).double().softmax(1)):
        assert bound(other) < information
    assert bound(torch.full((3, 3), 1 / 3).double()).item() == pytest.approx(0, abs=1e-12)


def test_the_bound_of_a_continuous_code():
    model = small(categories=(), continuous=1)
    c = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[:, None]
    # Of a code that cannot be seen: log N(c; 0, 1/3) + log 2, whose mean is what the bound loses.
    spread = math.log(math.expm1(3**-0.5 - NARROWEST))
    posterior = torch.tensor([0.0, spread]).double().expand(len(c), 2)
    found = model.bounds(posterior, c).sum(0).mean().item()
    assert found == pytest.approx(math.log(2) - math.log(2 * math.pi * math.e / 3) / 2, abs=1e-4)
    assert found < 0
    # Of one that is seen with error σ: at least log(2/σ√(2πe)).
    noisy = c + 0.1 * torch.randn_like(c)
    narrow = torch.full_like(c, math.log(math.expm1(0.1 - NARROWEST)))
    found = model.bounds(torch.cat([noisy, narrow], 1), c).sum(0).mean().item()
    assert found == pytest.approx(math.log(2 / 0.1) - math.log(2 * math.pi * math.e) / 2, abs=0.01)


def test_codes_are_uniform_and_what_the_generator_sees():
    model = small(categories=(2, 5), continuous=2)
    codes = model._draw_codes(20_000)
    model.codes.check(codes)
    counts = [codes[:, i].long().bincount() / 20_000 for i in range(2)]
    assert [len(c) for c in counts] == [2, 5]
    assert all((c - 1 / len(c)).abs().max() < 0.02 for c in counts)
    assert (codes[:, 2:].var(0) - 1 / 3).abs().max() < 0.01
    seen = model._features(torch.tensor([[1.0, 3.0, -0.5, 0.25]]))
    assert seen.tolist() == [[0, 1, 0, 0, 0, 1, 0, -0.5, 0.25]]
    assert model._noise(3).shape == (3, model.noise) == (3, 2 + 9)


def test_each_player_moves_its_own_parameters_and_both_serve_the_bound():
    batch = Batch(torch.randn(40, 2))
    free, bound = small(information=0.0), small(information=0.7)
    for model in (free, bound):
        model.prepare(batch)
    for i, (own, other) in enumerate(
        ((bound.critic, bound.generator), (bound.generator, bound.critic))
    ):
        slopes = []
        for model in (free, bound):
            objective = model.objectives()[i]
            torch.manual_seed(3)
            loss = objective.loss(batch)
            assert loss.shape == (40,)
            slopes.append(torch.autograd.grad(loss.mean(), objective.parameters, allow_unused=True))
        assert {id(p) for p in objective.parameters} == {id(p) for p in own.parameters()}
        assert not {id(p) for p in objective.parameters} & {id(p) for p in other.parameters()}
        assert all(g is not None for g in slopes[1])
        assert any(not torch.equal(a, b) for a, b in zip(*slopes, strict=True))


def test_samples_of_given_codes():
    model = small(lk.reals(3), categories=(3,), continuous=1)
    # The generator shows its noise and the code.
    model.generator.forward = lambda h: torch.stack([h[:, 0], h[:, 2:5].argmax(1), h[:, 5]], 1)
    model.view.prepare(torch.tensor([[-1.0], [1.0]]).expand(2, 3))
    x = model.sample(200, codes={"c1": 2, "c2": -0.5}, seed=0)
    assert torch.equal(x[:, 1:], torch.tensor([2.0, -0.5]).expand(200, 2))
    assert x[:, 0].std() > 0.5
    # More rows than one chunk: each has its own.
    n = 50_000
    codes = torch.stack([torch.arange(n) % 3, torch.linspace(-1, 1, n)], 1)
    x = model.sample(n, codes=codes, seed=0)
    torch.testing.assert_close(x[:, 1:], codes)
    assert torch.equal(model.sample(7, seed=1), model.sample(7, seed=1))
    for wrong, words in (
        ({"c1": 3, "c2": 0.0}, "c1"),
        (torch.tensor([0.0, 1.5]), "c2"),
        (torch.zeros(4, 2), "shape"),
    ):
        with pytest.raises(lk.DataError, match=words):
            model.sample(5, codes=wrong)


def test_posteriors_of_codes():
    model = small(categories=(2, 4), continuous=3)
    found = model.encode(torch.randn(6, 2))
    assert [p.shape for p in found.categories] == [(6, 2), (6, 4)]
    assert all(torch.allclose(p.sum(1), torch.ones(6)) for p in found.categories)
    assert found.mean.shape == found.std.shape == (6, 3)
    assert (found.std > 0).all()
    with pytest.raises(lk.DataError, match="finite"):
        model.encode(torch.full((2, 2), math.nan))


def test_images_and_contexts():
    domain = lk.integers(4, 16, 16, layout="image")
    kinds = lk.table(kind=lk.Categorical(2))
    model = lk.make("infogan", domain, context=kinds, hidden=(4, 8), latent=3, seed=0)
    assert model.recipe.betas == (0.5, 0.999)
    assert model.critic_rate == 2e-4
    batch = Batch(torch.randint(0, 4, (20, 16, 16)), torch.randint(0, 2, (20, 1)))
    model.prepare(batch)
    for objective in model.objectives():
        assert objective.loss(batch).isfinite().all()
    assert model.figures(batch)["information"] < math.log(10)
    x = model.sample(4, context=torch.tensor([1]), codes=torch.tensor([3, 0.0, 1.0]), seed=0)
    assert x.shape == (4, 16, 16)
    assert model.encode(x, torch.ones(4, 1)).mean.shape == (4, 2)


def test_there_must_be_a_code():
    with pytest.raises(lk.LikelyError, match="give categories"):
        lk.make("infogan", lk.reals(2), categories=(), continuous=0)
    with pytest.raises(lk.LikelyError, match="categories"):
        lk.make("infogan", lk.reals(2), categories=(1,))


def ring(n, seed):
    """Eight Gaussians on a ring of unequal radii, and which of them each row is of."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, 8, (n,), generator=generator)
    radius, angle = 1.5 + 0.25 * kind, 2 * math.pi * kind / 8
    centre = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return centre + 0.1 * torch.randn(n, 2, generator=generator), kind


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_codes_find_the_modes_of_a_ring(seed):
    x, _ = ring(8000, 0)
    model = lk.make("infogan", lk.reals(2), categories=(8,), continuous=0, seed=seed)
    history = lk.fit(model, lk.load_data(x), steps=400, seed=seed)
    bounds = [row["information"] for row in history.rows]
    assert max(bounds) <= math.log(8)
    assert bounds[-1] >= math.log(8) - 0.02
    x, kind = ring(4000, 1)
    code = model.encode(x).categories[0].argmax(1)
    table = torch.zeros(8, 8).index_put_((code, kind), torch.ones(4000), accumulate=True)
    pairs = linear_sum_assignment(table.numpy(), maximize=True)
    assert table[pairs].sum() / 4000 >= 0.99


@pytest.mark.slow
def test_a_continuous_code_follows_an_arc():
    def arc(n, seed):
        generator = torch.Generator().manual_seed(seed)
        t = torch.rand(n, generator=generator)
        x = torch.stack([(math.pi * t).cos(), (math.pi * t).sin()], 1)
        return x + 0.05 * torch.randn(n, 2, generator=generator), t

    model = lk.make("infogan", lk.reals(2), categories=(), continuous=1, seed=0)
    lk.fit(model, lk.load_data(arc(8000, 0)[0]), steps=600, seed=0)
    x, t = arc(2000, 1)
    assert abs(spearmanr(model.encode(x).mean[:, 0], t)[0]) >= 0.95
    along = model.sample(2000, codes=torch.linspace(-1, 1, 2000)[:, None], seed=0)
    assert abs(along.norm(dim=1).mean() - 1) < 0.03
