"""PixelCNN: what a pixel sees, exact sums, caches against the whole network, completions of images."""

import itertools
import math

import pytest
import torch
from scipy import stats

import likely as lk
from likely.contract.training import Batch
from likely.core.errors import DataError, DomainError, LikelyError
from likely.models.autoregressive import Independent, PixelCNN

LEVEL = 1e-4  # of each goodness-of-fit test
BITS = lk.binary(3, 3, layout="image")
BIT_IMAGES = torch.tensor(list(itertools.product([0, 1], repeat=9))).view(-1, 3, 3)
COLOURS = lk.integers(4, 2, 2, 1, layout="image")  # two channels of 2 × 1 pixels
COLOUR_IMAGES = torch.tensor(list(itertools.product(range(4), repeat=4))).view(-1, 2, 2, 1)
SMALL = {"channels": 4, "first_kernel": 3, "dilations": (1, 2), "components": 3}
MODES = [{}, {"colours": "mixture"}]


def pixelcnn(domain=BITS, dtype=torch.float64, spread=0.4, **options):
    """A model with random weights, away from its start."""
    model = PixelCNN(domain, **{**SMALL, **options}).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
        model.net.layers[-1].weight.mul_(0.2)  # or conditionals would be nearly certain
    return model.eval()


@pytest.mark.parametrize("options", [{}, {"kernel": 5, "dilations": (1,)}], ids=["3", "5"])
def test_a_pixel_sees_all_before_it_in_its_field_and_nothing_else(options):
    # The field: rows above up to `reach`, as far to both sides, and to the left in its own row.
    model = pixelcnn(lk.binary(7, 7, layout="image"), **options)
    reach = 1 + (model.layers[1].taps - 1) * sum(model.hyperparameters.get("dilations"))
    maps = torch.randn(1, 1, 7, 7, dtype=torch.float64)
    h = lambda maps: model._hidden(maps, None)[0].flatten(1).sum(0)  # noqa: E731
    seen = torch.autograd.functional.jacobian(h, maps).view(49, 49) != 0
    places = torch.cartesian_prod(torch.arange(7), torch.arange(7))
    down, right = (places[:, None] - places).unbind(2)  # from what is seen to who sees
    before = (down > 0) | ((down == 0) & (right > 0))
    assert not seen[~before].any()
    assert not seen[down > reach].any()
    assert seen[before & (down <= reach) & (right.abs() <= reach)].all()


@pytest.mark.parametrize("options", MODES)
def test_channels_see_the_pixels_before_and_the_channels_before(options):
    model, x = pixelcnn(COLOURS, **options), COLOUR_IMAGES[27:28]
    terms = model.conditionals(x).flatten()
    order = model.orderings[0].tolist()
    assert order == [0, 2, 1, 3]  # both channels of the upper pixel, then of the lower one
    for place, entry in enumerate(order):
        changed = x.flatten().clone()
        changed[entry] = (changed[entry] + 1) % 4
        moved = model.conditionals(changed.view_as(x)).flatten() != terms
        assert not moved[order[:place]].any()
        assert moved[order[place + 1 :]].all()


@pytest.mark.parametrize(
    ("domain", "images", "options"),
    [
        (BITS, BIT_IMAGES, {}),
        (COLOURS, COLOUR_IMAGES, {}),
        (COLOURS, COLOUR_IMAGES, {"colours": "mixture"}),
        (lk.categories(3, 2, 2, layout="image"), None, {}),
        (lk.binary(1, 6, layout="image"), None, {}),  # smaller than what a pixel could see
        (lk.binary(6, 1, layout="image"), None, {"dilations": (4,)}),
        (lk.integers(5, 1, 1, layout="image"), None, {}),
    ],
    ids=["bits", "colours", "mixture", "categories", "row", "column", "pixel"],
)
def test_sums_to_one(domain, images, options):
    if images is None:
        levels = range(domain.column(0).levels)
        images = torch.tensor(list(itertools.product(levels, repeat=domain.size)))
        images = images.view(-1, *domain.shape)
    model = pixelcnn(domain, **options)
    value = model.log_prob(images)
    assert value.exp().sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(model.conditionals(images).flatten(1).sum(1), value.detach())


@pytest.mark.parametrize("levels_and_channels", [(8, 3), (256, 1)])
def test_a_mixture_that_colours_share_sums_to_one_in_float32(levels_and_channels):
    levels, channels = levels_and_channels
    domain = lk.integers(levels, channels, 1, 1, layout="image")
    pixels = torch.tensor(list(itertools.product(range(levels), repeat=channels)))
    model = pixelcnn(domain, torch.float32, colours="mixture")
    model.heads.prepare(torch.randint(levels, (500, channels)))
    for log_scale in (-7.0, -3.0, 0.0, 3.0):
        with torch.no_grad():
            model.net.layers[-1].bias.normal_(std=2)
            size = channels * model.components  # of the means, and of the widths behind them
            model.net.layers[-1].bias[model.components + size :][:size] = log_scale
        total = model.log_prob(pixels.view(-1, channels, 1, 1)).double().exp().sum().item()
        assert total == pytest.approx(1, abs=1e-6)


def test_colours_share_their_component():
    # With components far apart, a pixel has both channels from the same one.
    model = pixelcnn(
        lk.integers(100, 2, 1, 1, layout="image"), spread=0.0, colours="mixture", components=2
    )
    with torch.no_grad():
        model.net.layers[-1].weight.zero_()
        means, slope = [-2.0, 2.0, -2.0, 2.0], [0.0, 0.0]
        bias = torch.tensor([0.0, 0.0, *means, *[-3.0] * 4, *slope], dtype=torch.float64)
        model.net.layers[-1].bias.copy_(bias)
        model.heads.heads[0].shift.fill_(50.0)
        model.heads.heads[0].scale.fill_(10.0)
    upper = model.sample(400, seed=1).flatten(1) > 50
    assert (upper[:, 0] == upper[:, 1]).all()
    assert 0.4 < upper.double().mean() < 0.6


CASES = [
    (lk.binary(4, 5, layout="image"), {}),
    (lk.integers(4, 3, 3, 4, layout="image"), {}),
    (lk.integers(70, 3, 3, 4, layout="image"), {"colours": "mixture"}),
    (lk.reals(2, 3, 3), {"kernel": 5, "first_kernel": 5}),
    (lk.binary(4, 1, layout="image"), {}),
    (lk.Domain((2, 3, 3), (lk.Periodic(-math.pi, math.pi),), layout="lattice"), {}),
]
NAMES = ["binary", "levels", "mixture", "reals", "column", "links"]


@pytest.mark.parametrize("context", [None, lk.table(lk.Categorical(3))], ids=["", "classes"])
@pytest.mark.parametrize(("domain", "options"), CASES, ids=NAMES)
def test_caches_draw_what_the_whole_network_draws(domain, options, context, same_as_rerun):
    model = pixelcnn(domain, spread=0.2, context=context, **options)
    same_as_rerun(model)


def test_sampling_takes_no_pass_of_the_whole_network(monkeypatch):
    model = pixelcnn()
    monkeypatch.setattr(PixelCNN, "_hidden", None)
    assert model.sample(2).shape == (2, 3, 3)
    assert model.sample(0).shape == (0, 3, 3)


@pytest.mark.parametrize("hidden", [(0, 1, 2), (6, 7, 8), (0, 4, 8)], ids=str)
def test_completions_fit_the_conditional(hidden):
    model = pixelcnn(spread=0.5)
    known = torch.ones(9, dtype=torch.bool)
    known[list(hidden)] = False
    known, n = known.view(3, 3), 500
    row = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, 0]])
    filled, ess = model.complete_with_ess(row.expand(n, 3, 3), known, seed=3)
    assert (filled[:, known] == row[known]).all()
    states = BIT_IMAGES[(row == BIT_IMAGES)[:, known].all(1)]
    expected = n * model.log_prob(states).detach().softmax(0)
    observed = (filled[:, None] == states).flatten(2).all(2).sum(0)
    common = expected >= 5
    rare = torch.stack([observed[~common].sum(), expected[~common].sum()])
    statistic = ((observed - expected).square() / expected)[common].sum()
    statistic = statistic + (rare[0] - rare[1]).square() / rare[1].clamp_min(1)
    assert stats.chi2.sf(statistic.item(), len(states) - 1) > LEVEL
    if hidden == (6, 7, 8):  # nothing known follows
        assert ess.isinf().all()
    else:
        assert (ess >= 1).all()
        assert (ess < 64 - 1e-6).all()


def test_the_effective_number_of_candidates():
    known = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)
    even = pixelcnn()
    even.prepare(Batch(BIT_IMAGES))  # pixels are independent: what is known says nothing
    ess = even.complete_with_ess(BIT_IMAGES[:5], known, seed=0)[1]
    torch.testing.assert_close(ess, torch.full((5,), 64.0, dtype=torch.float64))
    sharp = pixelcnn(spread=0.5)
    with torch.no_grad():
        sharp.net.layers[-1].weight.mul_(2)
    few = sharp.complete_with_ess(BIT_IMAGES[::5], known, seed=0)[1]
    assert few.min() < 63


def test_a_symmetric_model_of_spins():
    model = pixelcnn(lk.spins(3, 3), symmetric=True)
    spins = 2 * BIT_IMAGES - 1
    value = model.log_prob(spins)
    torch.testing.assert_close(value, model.log_prob(-spins))
    assert value.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_training_starts_at_independent_marginals():
    x = (torch.rand(300, 3, 3) < torch.linspace(0.1, 0.9, 9).view(3, 3)).long()
    model, independent = PixelCNN(BITS, **SMALL), Independent(BITS)
    for each in (model, independent):
        each.prepare(Batch(x))
    torch.testing.assert_close(model.log_prob(x), independent.log_prob(x))


def test_training_learns_what_lies_to_the_upper_right():
    # Where one stack alone is blind: each row is the one above, moved by two to the left.
    torch.manual_seed(1)
    model = PixelCNN(lk.binary(4, 6, layout="image"), **{**SMALL, "channels": 8})
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(150):
        top = torch.randint(2, (64, 12))
        x = torch.stack([top[:, 2 * i : 2 * i + 6] for i in range(4)], 1)
        optimizer.zero_grad()
        loss = model.loss(Batch(x)).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(12 * math.log(2), abs=0.5)


def test_what_is_refused():
    for options in ({"kernel": 4}, {"first_kernel": 6}):
        with pytest.raises(LikelyError, match="odd"):
            PixelCNN(BITS, **options)
    with pytest.raises(LikelyError, match="kernel"):
        PixelCNN(BITS, kernel=1)
    with pytest.raises(DomainError, match="two or three axes"):
        PixelCNN(lk.binary(9))
    mixed = lk.Domain((1, 2), (lk.Integer(3), lk.Binary()), layout="image")
    with pytest.raises(DomainError, match="different kinds"):
        PixelCNN(mixed)
    for domain in (BITS, lk.categories(3, 2, 2, layout="image")):
        with pytest.raises(DomainError, match="mixture"):
            PixelCNN(domain, colours="mixture")
    with pytest.raises(DataError, match="shape"):
        pixelcnn().complete(BIT_IMAGES[:2], torch.ones(3, 2, dtype=torch.bool))
