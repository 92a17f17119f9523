"""Sentence VAE: exact sums over short texts, word dropout, codes, and a chain whose states are hidden."""

import math
from itertools import pairwise, product

import pytest
import torch

import likely as lk
from likely.contract import Batch
from likely.models.autoencoders import sentence_vae

TEXTS = lk.text("abc", 4)
STATES = torch.tensor([*product(range(4), repeat=4)])
ENDING = torch.tensor(  # nothing follows an end
    [all(b == 3 for a, b in pairwise(row) if a == 3) for row in STATES.tolist()]
)


def model_of(domain, seed=0, **options):
    """A small model in float64 whose codes matter."""
    small = {"latent": 1, "hidden": 12, "embedding": 6} | options
    model = lk.make("sentence-vae", domain, seed=seed, **small).double().eval()
    with torch.no_grad():
        model.decoder.output.weight.mul_(4)
        model.decoder.net.weight_ih_l0.mul_(2)
    return model


def by_quadrature(model, x):
    """log p(x) of a model with one latent variable."""
    z = torch.linspace(-7, 7, 141, dtype=torch.float64)
    with torch.no_grad():
        given = torch.stack([model._log_prob_given(x, at.expand(len(x), 1), None) for at in z])
    log_weight = -(z.square() + math.log(2 * math.pi)) / 2 + (z[1] - z[0]).log()
    return (given + log_weight[:, None]).logsumexp(0)


def test_probabilities_of_all_texts_sum_to_one_and_nothing_follows_an_end():
    model = model_of(TEXTS)
    log_p = by_quadrature(model, STATES)
    assert torch.equal(log_p.isfinite(), ENDING)
    assert ENDING.sum() == sum(3**length for length in range(5))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-6)
    assert (model.log_likelihood(STATES[~ENDING]).value == -math.inf).all()


def test_bounds_rise_with_the_draws_up_to_the_probability():
    model = model_of(TEXTS)
    x = STATES[ENDING][::3]
    exact = by_quadrature(model, x).mean().item()
    repeated = x.repeat(100, 1)
    elbo, some, many = (
        model.log_likelihood(repeated, seed=0, draws=draws).mean() for draws in (1, 4, 64)
    )
    assert elbo.value + 0.01 < some.value < many.value
    assert exact - 0.1 < many.value < exact + 0.01


def test_draws_follow_the_probabilities():
    domain = lk.text("ab", 3)
    model = model_of(domain)
    x = model.sample(4000, seed=1)
    states = torch.tensor([*product(range(3), repeat=3)])
    p = by_quadrature(model, states).exp()
    count = (x[:, None] == states).all(2).sum(0)
    expected = 4000 * p
    assert count[p == 0].sum() == 0
    error = (expected * (1 - p)).sqrt().clamp_min(1)
    assert ((count - expected).abs() < 4 * error).all()


def test_a_decoder_whose_words_are_all_dropped_sees_code_and_position_only():
    model = model_of(lk.categories(3, 4), word_dropout=1.0)
    x, y = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]])
    crossed = torch.stack([x, y, torch.cat([x[:2], y[2:]]), torch.cat([y[:2], x[2:]])])
    z = torch.tensor([[0.3]]).double().expand(4, -1)

    def mixed(log_p):  # 0 where log p(x|z) is a sum over positions
        return (log_p[0] + log_p[1] - log_p[2] - log_p[3]).abs().item()

    assert mixed(model.train()._log_prob_in_training(crossed, z, None)) < 1e-12
    assert mixed(model._log_prob_given(crossed, z, None)) > 1e-3
    seen = model.eval()._log_prob_in_training(crossed, z, None)  # in training only
    assert torch.equal(seen, model._log_prob_given(crossed, z, None))


def test_dropped_words_are_the_unknown_one_where_there_is_one():
    words = lk.text(["<unk>", "the", "cat"], 3)
    assert model_of(words).dropped == 0
    assert model_of(TEXTS).dropped == TEXTS.columns[0].levels + 1


def test_interpolations_end_at_the_texts_of_their_ends():
    model = model_of(TEXTS, latent=2)
    x = STATES[ENDING]
    x0, x1 = x[10:14], x[60:64]
    walk = model.interpolate(x0, x1, steps=5)
    assert walk.shape == (4, 5, 4)
    assert torch.equal(walk[:, 0], model.decode(model.encode(x0)))
    assert torch.equal(walk[:, -1], model.reconstruct(x1))
    assert len(TEXTS.texts(walk[0])) == 5


def test_scores_do_not_depend_on_what_is_computed_at_a_time(monkeypatch):
    model = model_of(TEXTS)
    x, z = STATES[ENDING], torch.randn(121, 1, dtype=torch.float64)
    whole = model._log_prob_given(x, z, None)
    monkeypatch.setattr(sentence_vae, "NUMBERS", 700)
    torch.testing.assert_close(model._log_prob_given(x, z, None), whole)


def test_the_weight_of_the_divergence_rises_once_or_in_cycles():
    once, cycles = (
        lk.make("sentence-vae", TEXTS, warm_up=10, beta=0.5, anneal=anneal)
        for anneal in ("linear", "cyclical")
    )
    assert [once._beta(step) for step in (0, 4, 9, 25)] == [0.05, 0.25, 0.5, 0.5]
    assert [cycles._beta(step) for step in (4, 9, 19, 20, 24)] == [0.25, 0.5, 0.5, 0.05, 0.25]


def test_training_starts_at_the_frequencies_of_symbols_up_to_the_end():
    model = lk.make("sentence-vae", TEXTS, latent=1)
    x = torch.tensor([[0, 3, 3, 3], [0, 1, 3, 3]] * 50)
    model.prepare(Batch(x))
    expected = torch.tensor([2, 1, 0, 2]) / 5
    torch.testing.assert_close(model.decoder.bias.exp(), expected, atol=2e-3, rtol=0)


def test_a_trained_bound_is_just_below_the_truth_of_a_hidden_markov_model():
    change = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    emit = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.0, 0.1, 0.3, 0.6]])
    generator = torch.Generator().manual_seed(0)

    def draw(p):
        return torch.multinomial(p, 1, generator=generator)[:, 0]

    hidden, symbols = draw(torch.full((3000, 2), 0.5)), []
    alpha = torch.full((3000, 2), 0.5)  # p(symbols so far, present state): the forward algorithm
    for _ in range(6):
        symbols.append(draw(emit[hidden]))
        hidden = draw(change[hidden])
        alpha = (alpha * emit.T[symbols[-1]]) @ change
    x, exact = torch.stack(symbols, 1), alpha.sum(1).log()
    splits = [lk.data.Split(x[at]) for at in (slice(1500), slice(1500, 2000), slice(2000, 3000))]
    data = lk.data.Data(lk.categories(4, 6), *splits)
    options = {"word_dropout": 0.0, "free_bits": 0.0, "warm_up": 50}
    model = lk.make(
        "sentence-vae", data.domain, latent=2, hidden=32, embedding=8, seed=0, **options
    )
    lk.fit(model, data, steps=250, batch=128, rate=1e-2)
    bound = model.log_likelihood(data.test.x, seed=0, draws=32)
    short = bound.value - exact[2000:]
    error = short.std().item() / math.sqrt(1000)
    assert -0.25 < short.mean().item() < 3 * error
    assert (model.kl(data.test.x) >= 0).all()


def test_only_categories_are_taken():
    with pytest.raises(lk.DomainError, match="real columns"):
        lk.make("sentence-vae", lk.reals(3))
