"""Attacks reach what theory says, stay within their bounds, and masked gradients are noticed."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

import likely as lk
from likely.contract.model import GenerativeModel
from likely.evaluation import pgd, robustness
from likely.evaluation.robustness import _Ball

WEIGHT = torch.tensor([1.0, -0.5, 0.25, 2.0])
MEAN = torch.tensor([0.8, -0.3, 0.5, 0.9])
SPREAD = torch.tensor([1.0, 0.5, 2.0, 1.0])


class Linear(GenerativeModel):
    """Two classes by the sign of w·(x − centre), as sure as `scale` makes it."""

    def __init__(self, domain, *, context=None, scale=1.0, centre=0.0):
        super().__init__(domain, context=context)
        self.scale, self.centre = scale, centre

    def logits(self, x: Tensor) -> Tensor:
        return self.scale * ((x - self.centre).flatten(1) @ WEIGHT)

    def classify(self, x: Tensor) -> Tensor:
        self.domain.check(x)
        odds = self.logits(x)
        return torch.stack([-odds / 2, odds / 2], 1).softmax(1)


class Rounded(Linear):
    """It sees its rows on a grid, through which no gradient passes."""

    def logits(self, x):
        return super().logits((16 * x).round() / 16) + 0 * x.sum(1)


class Wavy(Linear):
    """Its gradients are those of a ripple, and say nothing about its decisions."""

    def logits(self, x):
        return super().logits(x) + 0.05 * torch.sin(1e5 * x).sum(1)


class Cut(Linear):
    """Its probabilities are detached."""

    @torch.no_grad()
    def classify(self, x):
        return super().classify(x)


def gaussian_classes(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.randint(2, (n,), generator=generator)
    noise = SPREAD * torch.randn(n, 4, generator=generator)
    return (2 * y[:, None] - 1) * MEAN + noise, y


@pytest.mark.parametrize("scale", [1.0, 10.0])  # p(y|x) rounds to 1 for most rows of the second
@pytest.mark.parametrize(("norm", "dual"), [("Linf", 1), ("L2", 2)])
def test_a_linear_classifier_of_gaussians_has_the_accuracy_of_the_closed_form(norm, dual, scale):
    x, y = gaussian_classes(4000)
    model = Linear(lk.reals(4), scale=scale)
    sizes = [0.1, 0.3, 0.8]
    found = robustness(model, x, y, sizes, norm=norm, steps=10, restarts=2)
    width = (WEIGHT * SPREAD).norm()
    for size, figure, noise in zip([0, *sizes], found.accuracy, found.random, strict=True):
        exact = stats.norm.cdf((MEAN @ WEIGHT - size * WEIGHT.norm(dual)) / width)
        assert abs(figure.value - exact) < 3 * math.sqrt(exact * (1 - exact) / len(x))
        assert figure.value <= noise.value
    assert found.notes == []
    assert found.epsilon == [0, *sizes]
    assert "2 × 10 steps of 2.5ε/10, 4,000 rows" in str(found)
    assert len(found.to_json()["accuracy"]) == 4


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize(
    "domain",
    [
        lk.table(*[lk.Interval(0, 1)] * 4),
        lk.integers(9, 4),
        lk.table(lk.Integer(9), lk.Positive(), lk.Constant(1.0), lk.Real()),
    ],
)
@pytest.mark.parametrize("gradient", ["exact", "finite"])
def test_attacked_rows_lie_in_the_domain_and_in_the_ball(domain, norm, gradient):
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(50, 4, generator=generator)
    for column, index in domain.groups:
        if isinstance(column, lk.Integer):
            x[:, index] = (9 * x[:, index]).floor()
        elif isinstance(column, lk.Constant):
            x[:, index] = 1.0
    x = x.long() if domain.discrete else x
    centre = x.double().mean(0).float()
    model = Linear(domain, centre=centre)
    y = ((x - centre) @ WEIGHT > 0).long()
    size = 2.4 if domain.discrete else 0.3
    options = {"norm": norm, "steps": 5, "gradient": gradient}
    one, more = (pgd(model, x, y, size, restarts=k, **options) for k in (1, 3))
    for found in (one, more):
        domain.check(found.x)
        assert found.x.dtype == x.dtype
        change = (found.x - x).double().flatten(1)
        reach = change.abs().amax(1) if norm == "Linf" else change.norm(dim=1)
        assert reach.max() < size + 1e-5
        assert found.accuracy.value < 0.95
    assert (more.margin >= one.margin).all()
    assert torch.equal(pgd(model, x, y, size, **options).x, pgd(model, x, y, size, **options).x)
    assert pgd(model, x, y, 0.0).accuracy == lk.Figure(1.0, 0.0)


def test_masked_gradients_are_told():
    x, y = gaussian_classes(150)
    flat = robustness(Rounded(lk.reals(4)), x, y, [0.3, 0.8], steps=5, restarts=2)
    assert any("the gradient vanishes at 100% of the rows" in note for note in flat.notes)
    wavy = robustness(Wavy(lk.reals(4)), x, y, [0.8], steps=5, restarts=2)
    assert any("an attack without gradients goes further" in note for note in wavy.notes)
    sure = robustness(Linear(lk.reals(4), scale=1e3), x, y, [0.3], steps=5, restarts=2)
    assert any("the gradient vanishes" in note for note in sure.notes)  # p(y|x) is 1, others are 0
    for found in (flat, wavy, sure):
        assert found.notes[-1].startswith("gradients are masked")
        assert "masked" in str(found)


def test_steps_have_their_length_however_small_the_gradient():
    ball = _Ball(lk.reals(4), 0.5, "L2")
    slope = 1e-35 * torch.randn(5, 4)
    torch.testing.assert_close(ball.direction(slope).norm(dim=1), torch.full((5,), 0.5))
    assert (ball.direction(torch.zeros(5, 4)) == 0).all()


def test_what_cannot_be_attacked_says_so():
    x, y = gaussian_classes(20)
    with pytest.raises(
        lk.LikelyError, match='classify has no gradients in x; take gradient="finite"'
    ):
        pgd(Cut(lk.reals(4)), x, y, 0.1)
    assert pgd(Cut(lk.reals(4)), x, y, 0.8, gradient="finite").accuracy.value < 1
    with pytest.raises(lk.DomainError, match="categorical values"):
        pgd(Linear(lk.categories(2, 4)), torch.zeros(20, 4).long(), y, 0.1)
    with pytest.raises(lk.DataError, match="19 labels of 20 rows"):
        pgd(Linear(lk.reals(4)), x, y[1:], 0.1)
    with pytest.raises(lk.DataError, match="the rows to attack"):
        pgd(Linear(lk.table(*[lk.Interval(0, 1)] * 4)), x, y, 0.1)
