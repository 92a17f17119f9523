"""Markov chains fitted by counting."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import likely as lk
from likely.core.errors import DomainError, LikelyError
from likely.quantum.baselines import STRENGTHS, MarkovChain
from likely.targets import markov_chain


def fitted(order: int, n: int = 4000, length: int = 5, seed: int = 0) -> MarkovChain:
    truth = markov_chain(length=length)
    x = truth.sample(n, seed)
    chain = MarkovChain(truth.domain, order=order)
    chain.count(x[n // 10 :], x[: n // 10])
    return chain


def every(k: int, length: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.arange(k)] * length)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 7])
def test_probabilities_sum_to_one_and_draws_follow_them(order: int) -> None:
    chain = fitted(order)
    outcomes = every(4, 5)
    p = chain.log_prob(outcomes).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    assert (p > 0).all()
    n = 20_000
    draws = chain.sample(n, seed=1)
    for three in ([0, 1, 2], [2, 3, 4], [0, 2, 4]):
        place = torch.tensor([16, 4, 1])
        counts = torch.bincount(draws[:, three] @ place, minlength=64)
        expected = torch.bincount(outcomes[:, three] @ place, n * p, minlength=64)
        assert expected.min() > 5
        assert 1e-3 < chisquare(counts.numpy(), expected.numpy()).pvalue < 1 - 1e-3


def test_conditionals_are_those_counted_one_by_one() -> None:
    """An independent recount, context by context, with the same strength."""
    x = markov_chain(length=6).sample(300, 3)
    chain = MarkovChain(lk.categories(4, 6), order=2)
    chain.count(x, x[:50])

    def conditional(site: int, before: tuple[int, ...], a: int, strength: float) -> float:
        if before is None:
            return 0.25
        rows = [row[site] for row in x.tolist() if tuple(row[site - len(before) : site]) == before]
        lower = before[1:] if before else None
        prior = conditional(site, lower, a, strength)
        return (Counter(rows)[a] + strength * prior) / (len(rows) + strength)

    def log_prob(row: list[int], strength: float) -> float:
        return sum(
            np.log(conditional(i, tuple(row[max(0, i - 2) : i]), row[i], strength))
            for i in range(len(row))
        )

    row = x[7].tolist()
    found = chain.log_prob(x[7:8]).item()
    assert min(abs(log_prob(row, s) - found) for s in STRENGTHS) < 1e-9


def test_order_one_learns_a_markov_chain_and_order_zero_does_not() -> None:
    truth = markov_chain(length=5)
    fresh = truth.sample(20_000, 99)
    log_p = truth.log_prob(fresh)
    kl = [(log_p - fitted(order, 20_000).log_prob(fresh)).mean().item() for order in (0, 1, 2, 3)]
    # The entropy that a neighbour gives: KL of order 0 is 4 (log 4 − H(T)) nats.
    conditional = -(0.7 * np.log(0.7) + 0.3 * np.log(0.1))
    assert kl[0] == pytest.approx(4 * (np.log(4) - conditional), abs=0.05)
    # About half a nat per free parameter and row: 51 parameters of 18,000 rows.
    assert 0 < kl[1] < 0.004
    assert kl[1] < kl[2] < kl[3] < 0.05


def test_unfitted_it_is_uniform() -> None:
    chain = MarkovChain(lk.categories(3, 4), order=1)
    torch.testing.assert_close(
        chain.log_prob(every(3, 4)).exp(), torch.full((81,), 1 / 81.0).double()
    )


def test_refusals() -> None:
    with pytest.raises(LikelyError, match="order"):
        MarkovChain(lk.categories(3, 4), order=-1)
    with pytest.raises(DomainError):
        MarkovChain(lk.reals(4))
