"""Mixtures of rows with missing entries: what is missing is integrated out."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import MultivariateNormal

import likely as lk

D = 4
KINDS = {
    "full": ("gmm", {"components": 2}),
    "diagonal": ("gmm", {"components": 2, "covariance": "diagonal"}),
    "tied": ("gmm", {"components": 2, "covariance": "tied"}),
    "mfa": ("mfa", {"components": 2, "factors": 2}),
    "deep": ("deep-gmm", {"components": (2, 2), "factors": (2, 1)}),
}
HOLES = lk.table(*["maybe(real)"] * D)


def truth() -> MultivariateNormal:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(D, D, generator=generator, dtype=torch.float64)
    mean = torch.tensor([3.0, -20.0, 0.5, 1.0], dtype=torch.float64)
    return MultivariateNormal(mean, a @ a.T + 0.3 * torch.eye(D))


def rows(n: int, seed: int = 0) -> torch.Tensor:
    """Draws of the truth, a fifth of the entries missing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        x = truth().sample((n,))
        return x.masked_fill(torch.rand(n, D) < 0.2, math.nan)


def present(x: torch.Tensor, normal: MultivariateNormal) -> torch.Tensor:
    """The closed form: the marginal density of the entries that are present."""
    values = []
    for row in x:
        here = ~row.isnan()
        if not here.any():
            values.append(row.new_zeros(()))
            continue
        covariance = normal.covariance_matrix[here][:, here]
        values.append(MultivariateNormal(normal.mean[here], covariance).log_prob(row[here]))
    return torch.stack(values)


def fitted(kind: str, domain: lk.Domain = HOLES, epochs: int = 4) -> lk.GenerativeModel:
    name, options = KINDS[kind]
    x = rows(600)
    if domain != HOLES:
        x = x[~x.isnan().any(1)]
    model = lk.make(name, domain, seed=0, **options).double()
    data = lk.Data(domain, *[lk.data.Split(part) for part in (x[:-100], x[-100:-50], x[-50:])])
    lk.fit(model, data, epochs=epochs, seed=0, precision="64-true")
    return model


@pytest.mark.parametrize("name", ["gaussian", pytest.param("mfa", marks=pytest.mark.slow)])
def test_a_gaussian_with_a_fifth_of_holes_scores_what_is_present_as_the_closed_form(name: str):
    data = lk.load_data(rows(4000).numpy(), missing="model", seed=0)
    options = {} if name == "gaussian" else {"components": 1, "factors": 3}
    model = lk.make(name, data.domain, seed=0, **options)
    lk.fit(model, data, epochs=60, seed=0)
    test = rows(1500, seed=9)
    found = model.log_prob_present(test).double()
    exact = present(test, truth())
    assert (exact - found).mean().item() == pytest.approx(0, abs=0.02)
    entropy = 4 * (0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    pattern = (model.log_prob(test).double() - found).mean().item()
    assert pattern == pytest.approx(entropy, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_integrated_out(kind: str):
    """The marginal over one entry by quadrature, on a domain that has no holes too."""
    model = fitted(kind, lk.reals(D))
    x = rows(6, seed=1).nan_to_num(0.5)
    t = torch.linspace(-80, 80, 8001, dtype=torch.float64)
    for i in (0, 3):
        hole = x.clone()
        hole[:, i] = math.nan
        for row, value in zip(x, model.log_prob_present(hole), strict=True):
            line = row.repeat(len(t), 1)
            line[:, i] = t
            total = (model.log_prob(line).logsumexp(0) + math.log(t[1] - t[0])).item()
            assert value.item() == pytest.approx(total, abs=1e-6)
    assert torch.allclose(model.log_prob_present(x), model.log_prob(x), atol=1e-8)
    assert model.log_prob_present(torch.full((1, D), math.nan)).item() == pytest.approx(0, abs=1e-9)
    assert model.log_prob_present(torch.tensor([[math.inf, 0, 0, 0]])).item() == -math.inf


@pytest.mark.parametrize("kind", KINDS)
def test_em_climbs_and_stops_where_the_gradient_vanishes(kind: str):
    model, x = fitted(kind), rows(600)[:200]
    batch = lk.Batch(x)
    losses = [model.epoch([batch])["loss"] for _ in range(80)]
    assert all(after <= before + 1e-9 for before, after in pairwise(losses))
    loss = -model.log_prob(x).mean()
    assert loss.item() == pytest.approx(losses[-1], abs=1e-3)
    gradients = torch.autograd.grad(loss, [*model.parameters()])
    assert max(g.abs().max().item() for g in gradients) < 0.05


def test_the_atoms_and_the_density_integrate_to_one():
    domain = lk.table("maybe(positive)", "real")
    model = lk.make("gmm", domain, components=2, seed=0).double()
    torch.manual_seed(0)
    x = torch.stack([torch.rand(200).add(0.5), torch.randn(200)], 1).double()
    x[::3, 0] = math.nan
    model.prepare(lk.Batch(x))
    u = torch.linspace(-6, 6, 600, dtype=torch.float64)
    first, second = torch.meshgrid(u, u, indexing="ij")
    values = torch.stack([first.exp(), second], -1).flatten(0, 1)
    step = (u[1] - u[0]).item()
    with torch.no_grad():
        both = (model.log_prob(values) + first.flatten()).exp().sum().item() * step**2
        hole = torch.stack([torch.full_like(u, math.nan), u], 1)
        one = model.log_prob(hole).exp().sum().item() * step
    assert one == pytest.approx(67 / 200, abs=0.01)
    assert one + both == pytest.approx(1, abs=1e-3)


def test_samples_have_the_shares_of_what_is_missing():
    model = fitted("full")
    share = model.sample(4000, seed=0).isnan().double().mean(0)
    assert (share - 0.2).abs().max() < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_completions_have_the_moments_of_the_conditional(kind: str):
    """By weights p(open | known) ∝ p(x) on a grid."""
    model = fitted(kind)
    row = torch.tensor([3.0, math.nan, 0.5, 1.0], dtype=torch.float64)
    draws = model.complete(row.repeat(4000, 1), ~row.isnan(), seed=0)
    assert (draws[:, [0, 2, 3]] == row[[0, 2, 3]]).all()
    t = torch.linspace(-60, 20, 4001, dtype=torch.float64)
    line = row.repeat(len(t), 1)
    line[:, 1] = t
    p = model.log_prob(line).softmax(0)
    mean = (p @ t).item()
    std = math.sqrt((p @ t.square()).item() - mean**2)
    assert draws[:, 1].mean().item() == pytest.approx(mean, abs=5 * std / 60)
    assert draws[:, 1].std().item() == pytest.approx(std, rel=0.1)


def test_responsibilities_take_holes_and_levels_are_dequantised():
    domain = lk.table("maybe(integer(9))", "maybe(integer(9))")
    x = torch.arange(180).reshape(90, 2).remainder(9).double()
    x[::4, 0] = math.nan
    data = lk.Data(domain, *[lk.data.Split(x)] * 3)
    model = lk.make("gmm", domain, components=3, seed=0)
    lk.fit(model, data, epochs=3, seed=0)
    assert model.responsibilities(x, seed=0).sum(1).allclose(torch.ones(90))
    assert str(model.log_likelihood(x, seed=0).kind) == "lower bound"
    draws = model.sample(200, seed=0)
    domain.check(draws)
    assert draws.isnan().any()
    with pytest.raises(lk.DensityError):
        model.log_prob_present(x)
