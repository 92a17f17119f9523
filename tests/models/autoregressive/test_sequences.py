"""Networks over sequences of symbols: conditionals, causality, carried state, completion, sharpening."""

import itertools

import pytest
import torch

import likely as lk
from likely.contract.training import Batch
from likely.core.random import seeded

OPTIONS = {
    "rnn-gru": ("rnn", {"hidden": 12, "layers": 2}),
    "rnn-tensor": ("rnn", {"hidden": 6}),
    "rnn-lstm": ("rnn", {"hidden": 12, "cell": "lstm", "embedding": 5}),
    "transformer-rotary": ("transformer", {"width": 16, "layers": 2, "heads": 2}),
    "transformer-learned": (
        "transformer",
        {"width": 16, "layers": 2, "heads": 2, "positions": "learned"},
    ),
}
ORDER = (3, 0, 4, 1, 2)
DOMAIN = lk.categories(3, 5)
STATES = torch.tensor(list(itertools.product(range(3), repeat=5)))
CONTEXT = lk.table(lk.Real(), lk.Real())


def model_of(key, domain=DOMAIN, context=None, **more):
    """A model with weights away from their start, in float64."""
    name, options = OPTIONS[key]
    with seeded(0):
        model = lk.make(name, domain, context=context, **options, **more).double()
        x = domain.anchor.long() + torch.zeros(20, *domain.shape, dtype=torch.int64)
        model.prepare(Batch(x, torch.randn(20, 2) if context else None))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
            # The data's marginals were those of a constant.
            model.marginals.copy_(0.3 * torch.randn_like(model.marginals))
    return model.eval()


@pytest.mark.parametrize("key", OPTIONS)
def test_probabilities_sum_to_one_in_any_ordering(key):
    model = model_of(key, order=ORDER)
    with torch.no_grad():
        assert model.log_prob(STATES).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("key", OPTIONS)
def test_a_conditional_sees_only_the_entries_before_it_in_the_ordering(key):
    model = model_of(key, order=ORDER)
    x = STATES[::7]
    before = model.conditionals(x)
    torch.testing.assert_close(before.sum(1), model.log_prob(x).detach())
    for place, entry in enumerate(ORDER):
        y = x.clone()
        y[:, ORDER[place:]] = (y[:, ORDER[place:]] + 1) % 3
        after = model.conditionals(y)
        assert torch.equal(after[:, ORDER[:place]], before[:, ORDER[:place]])
        z = x.clone()
        z[:, entry] = (z[:, entry] + 1) % 3
        later = list(ORDER[place + 1 :])
        if later:
            assert (model.conditionals(z)[:, later] - before[:, later]).abs().max() > 1e-4


@pytest.mark.parametrize("key", OPTIONS)
@pytest.mark.parametrize("context", [None, CONTEXT])
def test_a_carried_state_gives_the_conditionals_of_the_whole_sequence(key, context):
    model = model_of(key, context=context, order=ORDER)
    with seeded(1):
        features = None if context is None else torch.randn(len(STATES), 2, dtype=torch.float64)
    walk = model._walk(0, len(STATES), features)
    rows = torch.arange(len(STATES)).flip(0)
    terms = torch.zeros(STATES.shape, dtype=torch.float64)
    x = STATES
    for place, i in enumerate(ORDER):
        terms[:, i] = model.heads.log_prob_entry(i, walk.outputs(), x[:, i])
        walk.feed(model._input(i, x[:, i]))
        if place == 2:  # go on with the rows in another order
            x, terms = x[rows], terms[rows]
            walk.select(rows)
    expected = model._terms(0, STATES, features)[rows]
    torch.testing.assert_close(terms, expected.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("key", OPTIONS)
@pytest.mark.parametrize("known", [(3, 0), (1, 2)])  # first in the ordering, and last
def test_completion_follows_the_conditional(key, known):
    model = model_of(key, order=ORDER)
    mask = torch.zeros(5, dtype=torch.bool)
    mask[list(known)] = True
    given = model.sample(1, seed=3)[0]  # a typical one: what is rare takes more candidates
    n = 500
    draws = model.complete(given.expand(n, 5), mask, seed=0, particles=256)
    assert (draws[:, mask] == given[mask]).all()
    matching = STATES[(STATES[:, mask] == given[mask]).all(1)]
    with torch.no_grad():
        expected = n * model.log_prob(matching).softmax(0)
    observed = (draws[:, None] == matching).all(2).sum(0)
    statistic = ((observed - expected).square() / expected)[expected > 4].sum().item()
    # χ² of at most 26 degrees of freedom at a level of 1e-4
    assert statistic < 61.7


def test_completion_of_made_agrees_with_its_conditionals():
    model = lk.make("made", DOMAIN, hidden=(20,), order=ORDER, seed=0)
    terms = model.conditionals(STATES)
    torch.testing.assert_close(terms.sum(1), model.log_prob(STATES).detach())
    with pytest.raises(lk.LikelyError, match="orders=1"):
        lk.make("made", DOMAIN, orders=2).conditionals(STATES)


def test_sharpened_draws():
    model = model_of("rnn-gru")
    first = model.logits(0, model._walk(0, 1, None).h)[0].detach()
    n = 20_000

    def marginal(**options):
        x = model.sample(n, seed=3, **options)[:, 0]
        return torch.bincount(x, minlength=3).double() / n

    for temperature in (0.3, 1.0, 4.0):
        expected = (first / temperature).softmax(0)
        torch.testing.assert_close(marginal(temperature=temperature), expected, rtol=0, atol=0.015)
    ranked = first.softmax(0).sort(descending=True)
    p, likeliest = ranked.values, ranked.indices
    assert marginal(top_k=1)[likeliest[0]] == 1
    two = marginal(top_k=2)
    assert two[likeliest[2]] == 0
    assert two[likeliest[0]].item() == pytest.approx((p[0] / (p[0] + p[1])).item(), abs=0.015)
    just_above = (p[0] + 1e-6).item()  # the likeliest one does not reach it alone
    torch.testing.assert_close(marginal(top_p=just_above), two)
    assert marginal(top_p=p[0].item())[likeliest[0]] == 1
    torch.testing.assert_close(marginal(top_p=1.0), marginal())


@pytest.mark.parametrize(
    ("verb", "options", "message"),
    [
        ("sample", {"temperature": 0}, "temperature="),
        ("sample", {"top_k": 0}, "top_k="),
        ("sample", {"top_k": 1.5}, "top_k="),
        ("sample", {"top_p": 1.5}, "top_p="),
    ],
)
def test_sharpening_out_of_range(verb, options, message):
    with pytest.raises(lk.LikelyError, match=message):
        getattr(model_of("rnn-gru"), verb)(3, **options)


def test_sequences_longer_than_a_window():
    model = model_of("rnn-gru")
    prompt = torch.tensor([2, 0, 1, 1, 2, 0, 1])
    x = model.generate(300, 12, prompt=prompt, seed=0)
    assert x.shape == (300, 12)
    assert (x[:, :7] == prompt).all()
    # The first new symbol follows the last half window.
    walk = model._walk(0, 1, None)
    for i, code in enumerate((0, 1)):
        walk.feed(model._input(i, torch.tensor([code])))
    expected = 300 * walk.outputs()[0].softmax(0)
    observed = torch.bincount(x[:, 7], minlength=3)
    assert ((observed - expected).square() / expected).sum() < 18.4  # χ², level 1e-4
    with pytest.raises(lk.DataError, match="holds 9"):
        model.generate(2, 12, prompt=[9, 0])
    with pytest.raises(lk.LikelyError, match="length 3, and the prompt has 7"):
        model.generate(2, 3, prompt=prompt)
    for other in (lk.make("rnn", lk.text("ab", 5)), lk.make("rnn", DOMAIN, order=ORDER)):
        with pytest.raises(lk.LikelyError, match="of a running sequence"):
            other.generate(2, 12)


def test_a_tiny_temperature_draws_the_likeliest_symbol():
    model = model_of("rnn-gru")
    greedy = model.sample(20, seed=0, top_k=1)
    assert torch.equal(model.sample(20, seed=0, temperature=1e-45), greedy)


@pytest.mark.parametrize("domain", [lk.binary(2, 3), lk.spins(2, 3), lk.integers(5, 6)])
def test_all_kinds_of_symbols(domain):
    for key in OPTIONS:
        model = model_of(key, domain)
        x = model.sample(50, seed=0)
        assert domain.contains(x).all()
        levels = [
            [
                domain.column(0).low + domain.column(0).step * k
                for k in range(domain.column(0).levels)
            ]
        ]
        if domain.size == 6 and domain.column(0).levels == 2:
            states = torch.tensor(list(itertools.product(*levels * 6))).reshape(-1, *domain.shape)
            with torch.no_grad():
                assert model.log_prob(states).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rnn", {"order": (0, 1, 2, 3, 3)}, "each of the 5 entries"),
        ("rnn", {"layers": 4}, "at most 3"),
        ("rnn", {"cell": "tanh"}, "'gru'"),
        ("rnn", {"cell": "tensor", "layers": 2}, "one layer"),
        ("transformer", {"width": 20, "heads": 4}, "even number"),
        ("transformer", {"dropout": 1.0}, "dropout="),
        ("transformer", {"positions": "none"}, "'rotary'"),
    ],
)
def test_options_out_of_range(name, options, message):
    with pytest.raises(lk.LikelyError, match=message):
        lk.make(name, DOMAIN, **options)


def test_columns_of_several_kinds_are_refused():
    with pytest.raises(lk.DomainError, match=r"different kinds or numbers of levels; .*made"):
        lk.make("rnn", lk.table(lk.Binary(), lk.Categorical(3)))


@pytest.mark.slow
def test_training_starts_at_the_marginals_and_learns_the_rest():
    data = lk.load_data("markov-chain")
    model = lk.make("rnn", data.domain, hidden=24, seed=0)
    model.prepare(Batch(data.train.x))
    independent = lk.make("independent", data.domain)
    independent.prepare(Batch(data.train.x))
    start = model.log_likelihood(data.test.x).value.mean().item()
    assert start == pytest.approx(
        independent.log_likelihood(data.test.x).value.mean().item(), abs=1e-4
    )
    lk.fit(model, data, steps=300)
    score = model.log_likelihood(data.test.x)
    gap = -data.truth.entropy - score.mean().value
    assert gap < 0.03 + 3 * score.mean().stderr
