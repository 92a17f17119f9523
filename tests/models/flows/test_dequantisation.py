"""Variational dequantisation: unit mass, a tighter bound, and a refusal where there are no levels."""

import itertools

import pytest
import torch

import likely as lk
from likely.core.columns import Binary, Count, Integer, Real
from likely.core.domain import Domain
from likely.core.random import seeded


def rough(name, domain, view="bijections", **options):
    """A model whose noise is far from uniform."""
    with seeded(0):
        model = lk.make(name, domain, dequantisation="variational", view=view, **options)
        with torch.no_grad():
            for parameter in model.noise.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
    return model


DOMAINS = {
    "columns": Domain((2,), (Integer(3), Binary())),
    "an image": lk.integers(4, 1, 2, layout="image"),
    "a squeezed image": Domain((2, 2), (Binary(),) * 4, layout="image"),
}


@pytest.mark.parametrize("where", DOMAINS)
@pytest.mark.parametrize("name", ["realnvp", "maf", "ffjord"])
def test_importance_weights_add_up_to_one_over_all_levels(name, where):
    """E_q [p(x + u)/q(u|x)] is the mass that p gives a cell, whatever q is."""
    domain = DOMAINS[where]
    model = rough(name, domain)
    levels = [range(domain.column(i).levels) for i in range(domain.size)]
    x = torch.tensor(list(itertools.product(*levels))).reshape(-1, *domain.shape)
    draws = 200 if name == "ffjord" else 1000
    with torch.no_grad(), seeded(1):
        weights = model._log_prob(x.repeat(draws, *[1] * len(domain.shape)), None).exp()
    total = weights.double().reshape(draws, -1).sum(1)
    error = float(total.std() / draws**0.5)
    assert error < 0.05
    assert abs(float(total.mean()) - 1) < 3 * error


def test_noise_has_the_density_that_it_says():
    """Of one column in a cell: the density of u by its histogram."""
    noise = rough("realnvp", lk.integers(4, 1)).noise
    with torch.no_grad(), seeded(2):
        u, log_q = noise(torch.full((200_000, 1), 0.4), None)
    assert ((u > 0) & (u < 1)).all()
    which = (10 * u[:, 0]).long()
    # A bin's share is the mean of q there times its width: 1/q has the mean width/share.
    share = torch.bincount(which, minlength=10) / len(u)
    width = torch.zeros(10).index_add(0, which, (-log_q).exp()) / len(u)
    assert torch.allclose(width, torch.full((10,), 0.1), rtol=0.03)
    assert share.max() > 1.2 * share.min()


def test_what_is_continuous_gets_no_noise():
    domain = Domain((3,), (Real(), Integer(5), Count()))
    model = rough("maf", domain)
    u, _ = model.noise(torch.randn(50, 3), None)
    assert (u[:, 0] == 0).all()
    assert (u[:, 1:] > 0).all()
    assert model._log_prob(torch.tensor([[0.3, 2.0, 7.0]]), None).isfinite().all()


def test_learned_noise_tightens_the_bound():
    """Levels that are all but certain: uniform noise leaves a gap that learned noise closes."""
    corners = torch.tensor([[0, 0, 3], [3, 0, 0], [1, 2, 3]])
    data = lk.load_data(corners.repeat(200, 1), domain=lk.integers(4, 3))
    bounds = []
    for how in ("uniform", "variational"):
        model = lk.make("realnvp", data.domain, dequantisation=how, transforms=2, seed=0)
        lk.fit(model, data, steps=80, batch=128, seed=0)
        bounds.append(model.log_likelihood(data.test.x, seed=0, draws=1).value.mean())
    assert lk.evaluate(model, data, seed=0).dequantisation == "variational"
    assert bounds[1] > bounds[0] + 0.1


def test_classes_reach_the_noise():
    context = lk.categories(3, 1)
    model = rough("realnvp", lk.integers(8, 2, 2, layout="image"), context=context)
    x, classes = torch.ones(300, 2, 2, dtype=torch.long), torch.arange(3).repeat_interleave(100)
    value = model.log_likelihood(x, context=classes[:, None], seed=0, draws=1).value
    assert len(value.reshape(3, 100).mean(1).unique()) == 3


def test_there_must_be_levels():
    with pytest.raises(lk.LikelyError, match="no columns of whole numbers"):
        lk.make("nice", lk.reals(2), dequantisation="variational")
    with pytest.raises(lk.LikelyError, match="dequantisation"):
        lk.make("nice", lk.integers(4, 2), dequantisation="learned")
