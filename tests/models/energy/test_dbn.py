"""Deep belief networks against enumeration of all their units, and against the machines they are made of."""

import itertools
import math

import pytest
import scipy.stats
import torch

import likely as lk
from likely.contract.training import Batch
from likely.core.random import seeded
from likely.models.energy import DBN, RBM, boltzmann

BITS = lk.binary(6)


def states(n):
    return torch.tensor([*itertools.product([0, 1], repeat=n)]).double()


def network(domain=BITS, hidden=(4, 3), scale=0.8, **options):
    """With normal parameters, in float64."""
    with seeded(0):
        model = DBN(domain, hidden=hidden, **options).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, scale)
    return model.eval()


def joint(layer):
    """log e^(−E) of all states of a machine, visible × hidden."""
    v, h = (states(n) for n in layer.weight.shape)
    a, b = layer.visible_bias, layer.hidden_bias
    return (v @ a)[:, None] + h @ b + v @ layer.weight @ h.T


def log_prob(model):
    """log p(v) of all states."""
    *below, top = model.layers
    log_p = joint(top).logsumexp(1).log_softmax(0)
    for layer in reversed(below):
        log_p = (joint(layer).log_softmax(0) + log_p).logsumexp(1)
    return log_p.detach()


@pytest.mark.parametrize("hidden", [(4, 3), (4, 3, 5)])
@pytest.mark.parametrize("untied", [False, True])
def test_bounds_lie_below_the_probabilities_and_their_weights_average_to_them(hidden, untied):
    # With a random recognition the weights of larger parameters would have long tails.
    model, x = network(hidden=hidden, scale=0.3 if untied else 0.8, fine_tuning=0.5), states(6)
    model.untied.fill_(untied)
    exact = log_prob(model)
    assert exact.logsumexp(0).item() == pytest.approx(0, abs=1e-10)
    draws = model.log_likelihood(x.repeat(1000, 1), seed=0).value.view(1000, -1)
    error = draws.std(0) / math.sqrt(len(draws))
    assert (draws.mean(0) < exact + 3 * error).all()
    weight = (draws - exact).exp()
    t = (weight.mean(0) - 1) / (weight.std(0) / math.sqrt(len(weight)))
    assert t.square().mean() < 2  # 64 normal numbers, or nearly
    tighter = model.log_likelihood(x, seed=0, draws=1000)
    assert tighter.kind == lk.Kind.LOWER
    assert ((tighter.value - exact).abs() < 5 * tighter.stderr + 1e-3).all()
    assert tighter.value.mean() > draws.mean()


def test_the_bound_is_the_mean_of_its_terms_over_all_hidden_states():
    model, x, h = network(), states(6), states(4)
    layer, top = model.layers
    given = joint(layer).log_softmax(0)
    q = joint(layer).log_softmax(1)
    bound = (q.exp() * (given + joint(top).logsumexp(1).log_softmax(0) - q)).sum(1).detach()
    assert (bound < log_prob(model)).all()
    draws = model.log_likelihood(x.repeat(1000, 1), seed=0).value.view(1000, -1)
    t = (draws.mean(0) - bound) / (draws.std(0) / math.sqrt(len(draws)))
    assert t.square().mean() < 2
    v = x[:, None].expand(-1, len(h), -1).flatten(0, 1)
    found = layer._log_given(v, h.repeat(len(x), 1)).view(len(x), len(h))
    torch.testing.assert_close(found, given, rtol=0, atol=1e-10)


def test_a_layer_upside_down_on_top_makes_the_machine_below():
    model, x = network(hidden=(4, 6)), states(6)
    layer = model.layers[0]
    layer.prepared.fill_(True)
    expected = RBM(BITS, hidden=4).double()
    expected.load_state_dict(layer.state_dict())
    exact = expected.log_prob(x)
    torch.testing.assert_close(model.log_likelihood(x).value, exact.detach())  # the first alone
    with seeded(1):
        model._prepare_layer(1, Batch(x))
    assert model.depth == 2
    torch.testing.assert_close(log_prob(model), exact.detach(), rtol=0, atol=1e-10)
    # q is the posterior, and so each draw gives the probability.
    torch.testing.assert_close(
        model.log_likelihood(x, seed=0).value, exact.detach(), rtol=0, atol=1e-10
    )


def test_a_larger_layer_on_top_starts_close_to_the_machine_below():
    model, x = DBN(BITS, hidden=(4, 14)).double(), states(6)
    with seeded(0), torch.no_grad():
        for parameter in model.layers[0].parameters():
            parameter.normal_(0, 0.8)
        model.layers[0].prepared.fill_(True)
        exact = model.log_likelihood(x).value
        model._prepare_layer(1, Batch(x))
    assert (log_prob(model) - exact).abs().max() < 0.01


def differences(f, parameters, step=1e-5):
    """Central differences of a number by parameters."""
    for parameter in parameters:
        flat = parameter.detach().view(-1)
        slopes = []
        for i in range(len(flat)):
            values = []
            for sign in (1, -1):
                flat[i] += sign * step
                values.append(f().item())
                flat[i] -= sign * step
            slopes.append((values[0] - values[1]) / (2 * step))
        yield torch.tensor(slopes, dtype=flat.dtype).view_as(parameter)


@pytest.mark.parametrize("domain", [BITS, lk.reals(2)])
def test_fine_tuning_follows_the_gradients_of_bound_and_recognition(domain, monkeypatch):
    model = network(domain, fine_tuning=0.5)
    top = model.top
    model.untied.fill_(True)
    x = states(6)[5:25] if domain is BITS else torch.randn(20, 2, dtype=torch.float64)
    up, down = model._up_down()

    def bound():
        with seeded(0):
            return model._log_weight(x).mean() - top._exact_log_z()

    # All states, as often as they are probable: the model's part of the gradient without noise.
    h = states(4)
    p = joint(top).logsumexp(1).softmax(0).detach()
    monkeypatch.setattr(top, "_model_draws", lambda p: (h, top._field(h), top._field(h).sigmoid()))
    monkeypatch.setattr(
        top,
        "_gradients",
        lambda c, *rest: RBM._gradients(top, torch.cat([c[:-16], c[:-16].sum() * -p]), *rest),
    )
    top.centred = False
    with seeded(0):
        loss = up.loss(Batch(x)).mean()
    gradients = torch.autograd.grad(-loss, up.parameters)
    for expected, found in zip(differences(bound, up.parameters), gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)

    monkeypatch.setattr(top, "_fantasies", lambda: states(4))

    def asleep():
        with seeded(1):
            return down.loss(Batch(x))

    gradients = torch.autograd.grad(asleep(), down.parameters)
    for expected, found in zip(differences(asleep, down.parameters), gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("domain", [BITS, lk.reals(2)])
def test_untying_changes_nothing_at_first(domain):
    model = network(domain, fine_tuning=0.5)
    x = states(6) if domain is BITS else torch.randn(20, 2, dtype=torch.float64)
    tied = model.log_likelihood(x, seed=0).value
    model._untie(Batch(x))
    torch.testing.assert_close(model.log_likelihood(x, seed=0).value, tied)
    with torch.no_grad():
        model.recognition[0].bias.add_(1)
    assert (model.log_likelihood(x, seed=0).value != tied).all()


@pytest.mark.parametrize("exact", [True, False])
def test_samples_follow_the_probabilities(exact, monkeypatch):
    model = network()
    model.top.sample_steps = 40
    expected = 4000 * log_prob(model).exp()
    if not exact:
        monkeypatch.setattr(boltzmann, "ENUMERATED", 0)
    x = model.sample(4000, seed=0)
    observed = (x[:, None] == states(6)).all(2).sum(0)
    keep = expected > 5
    statistic = ((observed - expected)[keep].square() / expected[keep]).sum().item()
    assert scipy.stats.chi2.sf(statistic, int(keep.sum()) - 1) > 1e-4


def test_the_error_of_log_z_is_shared_and_makes_the_bound_an_estimate(monkeypatch):
    model, x = network(), states(6)
    exact = model.log_likelihood(x, seed=0)
    assert (exact.kind, exact.common_stderr, model.density) == (lk.Kind.LOWER, 0, lk.Kind.LOWER)
    monkeypatch.setattr(boltzmann, "ENUMERATED", 0)
    found = model.log_likelihood(x, seed=0, betas=100, chains=50)
    assert found.kind == model.density == lk.Kind.ESTIMATE
    difference = found.value - exact.value
    torch.testing.assert_close(difference, difference[:1].expand(64))
    assert 0 < abs(difference[0]) < 4 * found.common_stderr


def training(n=1000):
    domain = lk.spins(3, 3)
    return lk.load_data(lk.targets.ising(3, 3, 3.0).sample(n, 0), domain=domain)


@pytest.mark.parametrize("at", [5, 12, 18])
def test_a_killed_run_goes_on_bit_by_bit_in_any_stage(at, tmp_path, monkeypatch):
    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)

    class Killed(Exception):
        pass

    data = training()
    plain, killed, resumed = (
        lk.make("dbn", data.domain, hidden=(5, 4), fine_tuning=0.3, seed=0) for _ in range(3)
    )
    whole = lk.fit(plain, data, steps=20)
    for objectives in ("_of_layer", "_up_down"):
        first = getattr(killed, objectives)

        def counted(*arguments, first=first):
            made = first(*arguments)

            def loss(batch, own=made[0].loss):
                if batch.step == at:
                    raise Killed
                return own(batch)

            made[0].loss = loss
            return made

        monkeypatch.setattr(killed, objectives, counted)
    with pytest.raises(Killed):
        lk.fit(killed, data, steps=20, run=tmp_path)
    history = lk.fit(resumed, data, steps=20, run=tmp_path)
    assert (history.steps, history.best) == (whole.steps, whole.best)
    expected = plain.state_dict()
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_each_stage_gains_on_correlated_spins():
    data, kept = training(4000), []
    model = lk.make("dbn", data.domain, hidden=(12, 9), fine_tuning=0.4, seed=0)

    def watch(average):
        kept.append({k: v.clone() for k, v in average.state_dict().items()})
        return {}

    history = lk.fit(model, data, steps=1000, watch=watch)  # validated each 50 steps
    valid = [row["valid"] for row in history.rows]
    assert valid[5] > valid[0] + 0.2
    assert abs(valid[6] - valid[5]) < 0.1  # the second layer starts as the first upside down
    assert valid[-1] > valid[11] + 0.2
    moved = [
        {k for k in after if k.endswith("weight") and not torch.equal(before[k], after[k])}
        for before, after in itertools.pairwise(kept)
    ]
    layers, recognition = ["layers.0.weight", "layers.1.weight"], "recognition.0.weight"
    assert moved[2] == {layers[0]}
    assert moved[8] == {layers[1]}
    assert moved[-1] == {*layers, recognition}
    encoded = model.encode(data.test.x)
    assert encoded.shape == (len(data.test.x), 9)
    assert ((encoded > 0) & (encoded < 1)).all()


def test_machines_of_ones_own_are_layers_and_are_saved(tmp_path):
    own = RBM(lk.binary(4), hidden=3, k=2, negatives="cd")
    model = DBN(lk.reals(2), hidden=(4, own))
    assert model.layers[1] is own
    assert isinstance(model.layers[0], lk.energy.GaussianRBM)
    data = lk.load_data(torch.randn(200, 2), domain=lk.reals(2))
    lk.fit(model, data, steps=20)
    x = data.test.x
    lk.save(model, tmp_path / "model.safetensors")
    again = lk.load(tmp_path / "model.safetensors")
    assert again.layers[1].k == 2
    assert torch.equal(again.log_likelihood(x, seed=0).value, model.log_likelihood(x, seed=0).value)
    assert torch.equal(again.sample(9, seed=0), model.sample(9, seed=0))


def test_bad_layers_and_domains_are_refused():
    for hidden, words in (
        ((4, RBM(lk.binary(5), hidden=3)), r"layer 2 is a RBM over 5 columns.*lk.binary\(4\)"),
        ((RBM(lk.binary(5), hidden=3), 4), "layer 1 is a RBM over 5 columns.*domain of the data"),
        ((4, lk.make("made", lk.binary(4))), "layer 2 is a MADE: give"),
        ((4, RBM(lk.spins(4), hidden=3)), "layer 2"),
        ((4,), "two layers or more"),
        ((4, 0), "hidden"),
        (4, "hidden"),
    ):
        with pytest.raises(lk.LikelyError, match=words):
            lk.make("dbn", BITS, hidden=hidden)
    for domain in (lk.integers(3, 4), lk.table(lk.Binary(), lk.Real())):
        with pytest.raises(lk.DomainError):
            lk.make("dbn", domain)
