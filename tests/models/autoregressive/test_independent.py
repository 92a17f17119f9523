"""Independent: closed-form start, dependence on a context only where there is one."""

import math

import pytest
import torch
from scipy import stats

import likely as lk
from likely.contract.training import Batch
from likely.core.columns import Categorical, Integer, Real
from likely.core.domain import table
from likely.core.errors import DataError, DomainError
from likely.models.autoregressive import Independent


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_starts_at_the_frequencies(dtype):
    domain = table(Categorical(3), Integer(4))
    x = torch.tensor([[0, 3], [0, 3], [2, 3], [1, 0]])
    model = Independent(domain).to(dtype)
    model.prepare(Batch(x, weight=torch.tensor([1.0, 1.0, 1.0, 3.0])))
    weight = torch.tensor([2 / 3, 2 / 3, 2 / 3, 2.0], dtype=dtype)  # of mean 1
    first = (torch.stack([weight[:2].sum(), weight[3], weight[2]]) + 0.1) / 4.3
    second = (torch.tensor([weight[3], 0, 0, weight[:3].sum()]) + 0.1) / 4.4
    states = torch.cartesian_prod(torch.arange(3), torch.arange(4))
    expected = torch.outer(first, second.to(dtype)).flatten().log()
    torch.testing.assert_close(model.log_prob(states), expected, atol=1e-5, rtol=0)


def test_training_hardly_moves_it():
    torch.manual_seed(3)
    x = torch.cat([torch.randn(4000, 1) - 2, 3 + 0.5 * torch.randn(4000, 1)])
    model = Independent(table(Real()))
    model.prepare(Batch(x))
    before = model.log_prob(x).mean().item()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        model.loss(Batch(x)).mean().backward()
        optimizer.step()
    after = model.log_prob(x).mean().item()
    truth = -math.log(2) - 0.5 * (1 + math.log(2 * math.pi)) - 0.5 * math.log(0.5)
    assert -0.02 < after - before < 0.05
    assert after == pytest.approx(truth, abs=0.03)


def test_a_context_matters_after_training():
    domain, context = lk.binary(2), table(Categorical(2))
    c = torch.arange(400)[:, None] % 2
    x = torch.cat([c, torch.randint(2, (400, 1))], 1)
    model = Independent(domain, context=context)
    model.prepare(Batch(x, c))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(Batch(x, c)).mean().backward()
        optimizer.step()
    assert -model.log_prob(x, c).mean().item() == pytest.approx(math.log(2), abs=0.02)
    draws = model.sample(400, context=c, seed=1)
    assert (draws[:, 0] == c[:, 0]).double().mean() > 0.98


def test_a_domain_of_constants_is_refused():
    with pytest.raises(DomainError, match="constant"):
        Independent(table(Categorical(1)))


def test_completion_keeps_the_known_and_draws_the_others():
    domain = table(Categorical(3), Integer(4))
    model = Independent(domain)
    model.prepare(Batch(torch.tensor([[0, 3], [0, 3], [2, 3], [1, 0]])))
    x = torch.tensor([[2, 9]]).expand(4000, -1)
    draws = model.complete(x, torch.tensor([True, False]), seed=1)
    assert draws.dtype == torch.int64
    assert (draws[:, 0] == 2).all()
    expected = 4000 * torch.tensor([1.1, 0.1, 0.1, 3.1], dtype=torch.float64) / 4.4
    observed = draws[:, 1].bincount(minlength=4)
    assert stats.chisquare(observed, expected).pvalue > 1e-4
    with pytest.raises(DataError, match="known entries"):
        model.complete(x, torch.tensor([True, True]))
    with pytest.raises(DataError, match="shape"):
        model.complete(x, torch.tensor([True]))
