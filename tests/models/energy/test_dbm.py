"""Deep Boltzmann machines against enumeration of all their units, and against restricted ones."""

import itertools
import math

import pytest
import scipy.stats
import torch

import likely as lk
from likely.contract.training import Batch
from likely.core.random import seeded
from likely.models.energy import DBM, RBM, boltzmann
from likely.models.energy.dbm import _Copied

BITS = lk.binary(6)


def states(n):
    return torch.tensor([*itertools.product([0, 1], repeat=n)]).double()


def machine(hidden=(4, 3), scale=0.8, **options):
    """With normal parameters, in float64, and a mean field that converges."""
    with seeded(0):
        model = DBM(BITS, hidden=hidden, **{"mean_field": 1000, **options}).double()
        model.prepare(Batch(torch.randint(2, (40, 6))))
        with torch.no_grad():
            for parameter in model._trained:
                parameter.normal_(0, scale)
            if model.connected is not None:
                model.weight.mul_(model.connected)
    return model.eval()


def joint(model):
    """−E of all states of all layers, shape (2^v, 2^h¹, …), from the equation."""
    layers = [states(n) for n in model.sizes]
    count = len(layers)

    def along(t, *axes):
        return t.reshape([t.shape[axes.index(i)] if i in axes else 1 for i in range(count)])

    total = sum(along(s @ model._bias_of(i), i) for i, s in enumerate(layers))
    for i in range(count - 1):
        total = total + along(layers[i] @ model._block(model.weight, i) @ layers[i + 1].T, i, i + 1)
    return total.detach()


def exact_log_prob(model):
    weights = joint(model)
    return weights.flatten(1).logsumexp(1).log_softmax(0)


DEPTHS = pytest.mark.parametrize("hidden", [(4, 3), (3, 2, 2), (2, 3, 2, 2)])


@DEPTHS
def test_log_z_and_samples_are_those_of_the_joint_distribution(hidden):
    model = machine(hidden)
    assert model.log_z().value == pytest.approx(
        joint(model).logsumexp((*range(len(hidden) + 1),)).item()
    )
    assert model.log_z().stderr is None
    x = model.sample(4000, seed=0)
    observed = (x[:, None] == states(6)).all(2).sum(0)
    expected = 4000 * exact_log_prob(model).exp()
    keep = expected > 5
    statistic = ((observed - expected)[keep].square() / expected[keep]).sum().item()
    assert scipy.stats.chi2.sf(statistic, int(keep.sum()) - 1) > 1e-4


@DEPTHS
def test_the_bound_is_that_of_the_best_product_and_its_gap_is_measured(hidden):
    model, x = machine(hidden), states(6)
    exact = exact_log_prob(model)
    found = model.log_likelihood(x)
    assert found.kind == model.density == lk.Kind.LOWER
    assert (found.value < exact).all()
    gap = model.mean_field_gap(x)
    assert gap.value == pytest.approx((exact - found.value).mean().item(), abs=1e-9)
    # The bound, as a sum over all states of the product that the codes describe.
    means = model.encode(x).detach().split(hidden, 1)
    log_q = torch.zeros(len(x), *[1] * len(hidden), dtype=torch.float64)
    for i, mean in enumerate(means):
        s = states(hidden[i])
        part = mean.log() @ s.T + (1 - mean).log() @ (1 - s).T
        log_q = log_q + part.reshape(len(x), *[2**n if j == i else 1 for j, n in enumerate(hidden)])
    bound = (log_q.exp() * (joint(model) - log_q)).flatten(1).sum(1) - model.log_z().value
    torch.testing.assert_close(found.value, bound, rtol=0, atol=1e-9)
    # No other product near it is better.
    even = model._units(x)[0].requires_grad_()
    mu = even[:, 6:]
    entropy = torch.special.entr(mu).sum(1) + torch.special.entr(1 - mu).sum(1)
    (slope,) = torch.autograd.grad(
        (entropy - model._free_energy(even, model._field(even))).sum(), even
    )
    assert slope[:, 6:].abs().max() < 1e-5


def test_without_upper_weights_it_is_a_restricted_machine():
    model, x = machine(), states(6)
    with torch.no_grad():
        model._block(model.weight, 1).zero_()
    rbm = RBM(BITS, hidden=4).double()
    with torch.no_grad():
        rbm.weight.copy_(model._block(model.weight, 0))
        rbm.visible_bias.copy_(model._bias_of(0))
        rbm.hidden_bias.copy_(model._bias_of(1))
    upper = torch.nn.functional.softplus(model._bias_of(2)).sum().item()
    assert model.log_z().value == pytest.approx(rbm.log_z().value + upper, abs=1e-12)
    torch.testing.assert_close(
        model.log_likelihood(x).value, rbm.log_prob(x).detach(), rtol=0, atol=1e-12
    )
    assert model.mean_field_gap(x).value == pytest.approx(0, abs=1e-12)


def gradients(model, x, centred):
    """Those of the loss, with all states, as often as they are probable, for the chains."""
    model.centred = centred
    e, _ = model._units(x)
    all_even = states(sum(model.sizes[::2]))
    p = -model._free_energy(all_even, model._field(all_even))
    c = torch.cat([torch.full((len(x),), 1 / len(x), dtype=torch.float64), -p.softmax(0).detach()])
    v = torch.cat([e, all_even])
    offsets = centred * model.visible_mean, centred * model.hidden_mean
    with torch.no_grad():
        return model._gradients(c, v, model._field(v).sigmoid(), *offsets)


@DEPTHS
def test_gradients_are_those_of_the_bound(hidden):
    model, x = machine(hidden), states(6)[7:29]
    found = gradients(model, x, centred=False)
    step = 1e-5
    for parameter, gradient in zip(model._trained, found, strict=True):
        flat = parameter.detach().view(-1)
        absent = parameter is model.weight and model.connected is not None
        for i in range(len(flat)):
            if absent and not model.connected.view(-1)[i]:
                assert gradient.reshape(-1)[i] == 0
                continue
            values = []
            for sign in (1, -1):
                flat[i] += sign * step
                values.append(model.log_likelihood(x).value.mean().item())
                flat[i] -= sign * step
            expected = (values[0] - values[1]) / (2 * step)
            assert gradient.reshape(-1)[i].item() == pytest.approx(expected, abs=2e-7)


@DEPTHS
def test_centred_gradients_are_those_of_centred_parameters(hidden):
    model, x = machine(hidden), states(6)[7:29]
    with torch.no_grad():
        model.visible_mean.uniform_(0.2, 0.8)
        model.hidden_mean.uniform_(0.2, 0.8)
    mu, lam = model.visible_mean, model.hidden_mean
    d_w, d_a, d_b = gradients(model, x, centred=False)
    connected = torch.ones_like(d_w) if model.connected is None else model.connected
    # Ascent in W, a + Wλ and b + Wᵀμ.
    step_w = connected * (d_w - torch.outer(d_a, lam) - torch.outer(mu, d_b))
    expected = step_w, d_a - step_w @ lam, d_b - step_w.T @ mu
    for a, b in zip(gradients(model, x, centred=True), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_the_loss_takes_these_gradients_from_its_chains():
    model, x = machine(k=20), states(6)[7:29]
    exact = gradients(model, x, centred=True)
    rows, draws = x.repeat(20, 1), []
    with seeded(2):
        for _ in range(12):
            loss = model.loss(Batch(rows)).mean()
            draws.append(torch.autograd.grad(-loss, model._trained))
    for i, expected in enumerate(exact):
        sample = torch.stack([d[i] for d in draws[2:]])
        t = (sample.mean(0) - expected) / (sample.std(0) / math.sqrt(len(sample)))
        assert t.abs().max() < scipy.stats.t.isf(1e-3 / 60 / 2, len(sample) - 1)


def test_annealing_brackets_log_z_from_exact_samples(monkeypatch):
    model, x = machine(), states(6)
    exact, bound = model.log_z().value, model.log_likelihood(x)
    gap = model.mean_field_gap(x)
    found = model.annealed(betas=200, chains=200, seed=0)
    assert found.exact
    assert found.log_z.value - 3 * found.log_z.stderr < exact
    assert exact < found.reverse.value + 3 * found.reverse.stderr
    assert abs(found.gap.value) < 0.2
    monkeypatch.setattr(boltzmann, "ENUMERATED", 0)
    assert model.density == lk.Kind.ESTIMATE
    estimated = model.log_likelihood(x, betas=200, chains=200, seed=0)
    assert estimated.kind == lk.Kind.ESTIMATE
    difference = estimated.value - bound.value
    assert 0 < difference.abs().max() < 4 * estimated.common_stderr
    annealed = model.mean_field_gap(x[:20], betas=50, chains=50, seed=0)
    monkeypatch.undo()
    assert annealed.value == pytest.approx(model.mean_field_gap(x[:20]).value, abs=0.02)
    assert gap.stderr > 0
    started = model.annealed(betas=20, chains=20, init=x.long(), seed=0)
    assert started.samples.shape == (20, 9)


@pytest.mark.parametrize("copies", [(2, 1), (1, 2)])
def test_a_unit_with_copies_is_so_many_equal_units(copies):
    with seeded(0):
        model = _Copied(lk.binary(3), hidden=2, copies=copies, centred=False).double()
        torch.nn.init.normal_(model.weight)
        torch.nn.init.normal_(model.visible_bias)
        torch.nn.init.normal_(model.hidden_bias)
    plain = RBM(lk.binary(3 * copies[0]), hidden=2 * copies[1]).double()
    with torch.no_grad():
        plain.weight.copy_(model.weight.repeat(*copies))
        plain.visible_bias.copy_(model.visible_bias.repeat(copies[0]))
        plain.hidden_bias.copy_(model.hidden_bias.repeat(copies[1]))
    x = states(3)
    alike = x.repeat(1, copies[0])
    v, _ = model._units(x)
    torch.testing.assert_close(model._free_energy(v, model._field(v)), plain.free_energy(alike))
    # Gradients of the tied parameters, and conditional means of draws in both directions.
    c = torch.linspace(-1, 1, len(x)).double()
    tied = torch.autograd.grad((c * model._free_energy(v, model._field(v))).sum(), model._trained)
    found = model._gradients(
        -c, v, model._hidden_expected(model._field(v)), 0 * v[0], torch.zeros(2).double()
    )
    for a, b in zip(found, tied, strict=True):
        torch.testing.assert_close(a, b)
    with seeded(1):
        h = model._hidden_draw(model._hidden_expected(model._field(v))).double()
        many = h[:1].repeat(20_000, 1)
        drawn = model._visible_given(many).mean(0)
    p = model._visible_input(h[:1], 1.0).sigmoid()[0]
    assert (h.unique() <= copies[1]).all()
    assert (drawn - copies[0] * p).abs().max() < 0.02
    copied = torch.randint(2, (50, 3))
    model.prepare(Batch(copied))
    torch.testing.assert_close(
        model.visible_bias.sigmoid(), copied.double().mean(0), atol=0.01, rtol=0
    )


def training(n=2000):
    return lk.load_data(lk.targets.ising(3, 3, 3.0).sample(n, 0), domain=lk.spins(3, 3))


@pytest.mark.parametrize(
    "options", [{}, {"hidden": (10, 8, 6), "pretraining": 0.5, "negatives": "tempered", "k": 1}]
)
def test_fit_learns_spins(options):
    data = training(4000)
    model = lk.make("dbm", data.domain, **{"hidden": (10, 8), "seed": 0, **options})
    history = lk.fit(model, data, steps=500)
    valid = [row["valid"] for row in history.rows]
    assert valid[-1] > valid[0] + 1
    rows = data.test.x[:5]
    assert model.reconstruct(rows).shape == rows.shape
    assert model.encode(rows).shape == (5, sum(model.layers))


def test_composed_machines_share_the_input_of_the_layers_between_them():
    model = machine((3, 2, 2), pretraining=0.5)
    with torch.no_grad():
        for layer in model.stack.layers:
            for parameter in layer.parameters():
                parameter.normal_()
    model._compose(None)
    first, inner, last = model.stack.layers
    for i, (layer, part) in enumerate(((first, 1), (inner, 0.5), (last, 1))):
        torch.testing.assert_close(model._block(model.weight, i), part * layer.weight)
    torch.testing.assert_close(model._bias_of(0), first.visible_bias)
    torch.testing.assert_close(model._bias_of(1), (first.hidden_bias + inner.visible_bias) / 2)
    torch.testing.assert_close(model._bias_of(3), last.hidden_bias)
    assert [layer.copies for layer in model.stack.layers] == [(2, 1), (1, 1), (1, 2)]


@pytest.mark.parametrize("at", [3, 8, 15])
def test_a_killed_run_goes_on_bit_by_bit_in_any_stage(at, tmp_path, monkeypatch):
    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)

    class Killed(Exception):
        pass

    data = training()
    plain, killed, resumed = (
        lk.make("dbm", data.domain, hidden=(5, 4), pretraining=0.5, seed=0) for _ in range(3)
    )
    whole = lk.fit(plain, data, steps=20)
    for module in (killed, *killed.stack.layers):

        def dying(batch, own=module.loss):
            if batch.step == at:
                raise Killed
            return own(batch)

        monkeypatch.setattr(module, "loss", dying)
    with pytest.raises(Killed):
        lk.fit(killed, data, steps=20, run=tmp_path)
    history = lk.fit(resumed, data, steps=20, run=tmp_path)
    assert (history.steps, history.best) == (whole.steps, whole.best)
    expected = plain.state_dict()
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_bad_input():
    for options, words in (
        ({"hidden": (4,)}, "at least 2 of them"),
        ({"hidden": 4}, "hidden"),
        ({"negatives": "cd"}, "negatives"),
        ({"pretraining": 1.0}, "pretraining"),
        ({"mean_field": 0}, "mean_field"),
    ):
        with pytest.raises(lk.LikelyError, match=words):
            lk.make("dbm", BITS, **options)
    for domain in (lk.reals(3), lk.integers(3, 4)):
        with pytest.raises(lk.DomainError, match="columns"):
            lk.make("dbm", domain)
    model = machine()
    with pytest.raises(lk.DataError, match="2"):
        model.mean_field_gap(torch.full((1, 6), 2))
    with pytest.raises(lk.LikelyError, match="layer 1 is a DBM"):
        lk.make("dbn", BITS, hidden=(model, 3))
