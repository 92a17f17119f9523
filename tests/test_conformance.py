"""Every registered model keeps the contract; registering a model is enough to have it checked here.

The families' own tests look closer at their parts (Jacobians, masks, estimators). Models in files of
your own are checked by `pytest tests/test_conformance.py --models-from my_model.py`.
"""

import functools
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import scipy.stats
import torch

import likely as lk
from likely.contract.registry import entries, find
from likely.contract.store import build, configuration
from likely.contract.training import Batch
from likely.core.likelihood import Kind
from likely.core.random import seeded
from likely.models.autoregressive.base import Autoregressive
from likely.nets.masked import MaskedMLP
from likely.targets import gaussian_mixture, markov_chain

DTYPES = [torch.float32, torch.float64]
REPEATS = [torch.float64]  # of what float32 shows: these take the time of a second fit
ESTIMATES = 40  # of a probability that is estimated
LEVEL = 1e-3 / (len(entries()) * len(DTYPES))  # Bonferroni over all runs of a statistical test

PLANE = lk.reals(2)
RING = lk.reals(2, layout="lattice")  # the plane, for models of lattices only
PLANES = PLANE, RING
# Bounds that floating point does not hold exactly.
BOUNDED = lk.table(u=lk.Interval(-0.1, 0.7), phi=lk.Periodic(-math.pi, math.pi))
INTERVALS = lk.table(u=lk.Interval(-0.1, 0.7), v=lk.Interval(0, 0.1))
TRUTH = gaussian_mixture(
    [0.3, 0.7], [[-1.0, 0.5], [1.5, -0.5]], [[[0.3, 0.1], [0.1, 0.4]], [[0.5, -0.2], [-0.2, 0.3]]]
)
CLASSES = lk.table(lk.Categorical(3))
LEVELS = lk.table(lk.Integer(3), lk.Binary(), lk.Integer(4))
SYMBOLS = lk.table(lk.Integer(3), lk.Binary(), lk.Categorical(4))
CHAIN = markov_chain([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6], [0.3, 0.4, 0.3]], length=3)
SEQUENCE = CHAIN.domain
BITS = lk.binary(4)
LINKS = lk.Domain((2, 4, 4), (lk.Periodic(-math.pi, math.pi),), layout="lattice")
IMAGE = lk.integers(4, 16, 16, layout="image")  # for models of larger images only
LONG = [  # more entries, for what depends on their order
    lk.table(lk.Real(), lk.Periodic(-math.pi, math.pi), lk.Real(), lk.Interval(0, 0.1), lk.Real()),
    lk.reals(5),
]
# Of the default size these would take a third of the time.
SMALL = {
    "transformer": {"width": 32, "layers": 2, "heads": 2},
    "pixelcnn": {"channels": 4, "dilations": (1,), "components": 3},
    "pixelrnn": {"hidden": 4, "layers": 1, "components": 3},
    "score-sde": {"hidden": (32, 32)},
    "flow-matching": {"hidden": (32, 32)},
    "glow": {"transforms": 3, "channels": 32},
    "lattice-cnf": {"frequencies": 4, "features": 5, "kernels": 3, "times": 3, "steps": 6},
    "sentence-vae": {"latent": 2, "hidden": 32, "embedding": 8},
    "lattice-u1": {"transforms": 2, "channels": 4},
    "jem": {"hidden": (16, 16), "k": 2, "proposals": 2, "sample_steps": 20},
    "infogan": {"hidden": (32, 32)},
    "dbn": {"hidden": (6, 4)},
    "dbm": {"hidden": (6, 4)},
    "dcgan": {"hidden": (4,)},
    "sngan": {"hidden": (2,), "latent": 4},
    "biggan": {"hidden": (2,), "latent": 4},
    "progan": {"hidden": (2,), "latent": 4},
    "stylegan": {"hidden": (2,), "latent": 4},
}
EVEN = {"lattice-cnf"}  # densities that are even whatever the context
CLASSIFIERS = {"jem"}  # whose context is a class, and no other column
TRANSLATORS = {"cyclegan"}  # whose context is a domain with a real view, and rows of it no pairs
# Losses with a penalty, whose bounds are those of "vae".
PENALISED = ["beta-tc-vae", "factor-vae", "hsic-vae", "info-vae", "mmd-vae"]
NOISY = {"so3-vae"}  # few draws are far from the mean: its own tests integrate over rotations
LOOSE = {"dbm", "ddpm", "vq-vae"}  # bounds whose exponential is below the density even in the mean
CONTEXT = lk.table(kind=lk.Categorical(2), angle=lk.Periodic(0, 1), scale=lk.Real())
CELLS = 240  # of the grids along an edge
LABELS = {
    PLANE: "plane",
    RING: "ring",
    BOUNDED: "bounded",
    INTERVALS: "intervals",
    CLASSES: "classes",
    LEVELS: "levels",
    SYMBOLS: "symbols",
    SEQUENCE: "sequence",
    BITS: "bits",
    LINKS: "links",
    IMAGE: "image",
    LONG[0]: "long",
    LONG[1]: "long-reals",
}


# Which models a test is for.


@functools.cache
def example(name, domain):
    return lk.make(name, domain, context=CONTEXT if find(name).cls.needs_context else None)


def exact(name, domain):
    return example(name, domain).density == Kind.EXACT


def scored(name, domain):
    return example(name, domain).density != Kind.NONE


def lower_bound(name, domain):
    """A bound on reals whose exponential is an estimate of the density."""
    return example(name, domain).density == Kind.LOWER and name not in LOOSE | NOISY


def anything(name, domain):
    return True


def trains_on_energies(name, domain):
    return bool(find(name).cls.energy_gradients)


def takes_context(name, domain):
    return find(name).cls.takes_context


def shifts_with_context(name, domain):
    return takes_context(name, domain) and name not in EVEN | CLASSIFIERS | TRANSLATORS


def for_each(*domains, where=anything, dtypes=(None,), slow=(), context=None):
    """Run a test for each model on the first of the domains that it takes (with the context), in each type.

    The test is left out where the property does not apply: `where(name, domain)`. Types and names in
    `slow` repeat what the others show: models that have been trained are in float32, as users' are.
    """

    def mark(test):
        test.cases = domains, where, dtypes, slow, context
        return test

    return mark


def pytest_generate_tests(metafunc):
    domains, where, dtypes, slow, context = metafunc.function.cases
    arguments = [a for a in ("name", "domain", "dtype") if a in metafunc.fixturenames]
    cases = []
    for name in models_from(metafunc.config.getoption("models_from")):
        offered = (*domains, RING) if PLANE in domains else domains
        domain = next((d for d in offered if find(name).takes(d, context)), None)
        if domain is None or not where(name, domain):
            continue
        for dtype in dtypes:
            given = {"name": name, "domain": domain, "dtype": dtype}
            words = [name, LABELS[domain], str(dtype).rpartition(".")[2]]
            cases.append(
                pytest.param(
                    *(given[a] for a in arguments),
                    id="-".join(words[: len(arguments)]),
                    # One worker has all of a model's cases, and fits it once.
                    marks=[
                        pytest.mark.xdist_group(name),
                        *[pytest.mark.slow] * (dtype in slow or name in slow),
                    ],
                )
            )
    metafunc.parametrize(arguments, cases)


def models_from(files):
    """All models, or those of the user's files."""
    stems = {Path(file).stem for file in files}
    return [n for n, e in entries().items() if not stems or e.cls.__module__ in stems]


def rows(domain, n, dtype=torch.float32, seed=0):
    """Rows of a domain that are neither uniform nor independent."""
    generator = torch.Generator().manual_seed(seed)
    if domain in PLANES:
        return TRUTH.sample(n, seed).to(dtype)
    if domain == SEQUENCE:
        return CHAIN.sample(n, seed)
    u = torch.rand(n, domain.size, generator=generator, dtype=torch.float64)
    u[:, 1:] = (u[:, 1:] + u[:, :1].square()) / 2
    columns = []
    for i, value in enumerate(u.unbind(1)):
        column = domain.column(i)
        if isinstance(column, lk.Real):
            columns.append(value.to(dtype))
        elif column.discrete:
            columns.append((value * column.levels).floor())
        else:
            inner = (column.low + (column.high - column.low) * value).to(dtype)
            columns.append(inner.clamp(column.low, column.high))
    x = torch.stack(columns, 1).reshape(n, *domain.shape)
    return x.long() if domain.discrete else x.to(dtype)


def contexts(n):
    generator = torch.Generator().manual_seed(1)
    c = torch.rand(n, 3, generator=generator)
    c[:, 0] = (c[:, 0] > 0.5).float()
    return c


def states(domain):
    """All rows of a small discrete domain."""
    levels = [range(domain.column(i).levels) for i in range(domain.size)]
    return torch.tensor(list(itertools.product(*levels)))


def shifted(domain, x, by):
    """Rows moved upwards by a context of 0 or 1."""
    return x + 3 * by if domain in PLANES else (x + by.long()).clamp_max(2)


def data_of(domain, dtype=torch.float32, n=1500, context=False):
    x = rows(domain, n, dtype)
    c = None
    if context:
        c = contexts(n)
        x = shifted(domain, x, c[:, :1]) if domain in (*PLANES, SEQUENCE, CLASSES) else x
    parts = [slice(0, n - 400), slice(n - 400, n - 200), slice(n - 200, n)]
    splits = [lk.data.Split(x[p], None if c is None else c[p]) for p in parts]
    return lk.Data(domain, *splits, context=CONTEXT if context else None)


@pytest.fixture(scope="module")
def fitted():
    """Models after a short training, made once for all tests."""
    models = {}

    def get(name, domain, dtype, context=False):
        key = name, domain, dtype, context
        if key not in models:
            data = data_of(domain, dtype, context=context)
            with seeded(0):
                model = made(name, domain, context=data.context)
            precision = "64-true" if dtype == torch.float64 else "32-true"
            lk.fit(model, data, steps=40, batch=128, precision=precision)
            models[key] = model
        return models[key]

    return get


def made(name, domain, **options):
    return lk.make(name, domain, **SMALL.get(name, {}), **options)


def untrained(name, domain, dtype, x=None, context=False):
    """A model that has seen the data once, with parameters away from their start."""
    x = rows(domain, 300, dtype) if x is None else x
    with seeded(1):
        model = made(name, domain, context=CONTEXT if context else None).to(dtype)
        model.prepare(Batch(x, contexts(len(x)) if context else None))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.03 * torch.randn_like(parameter))
    return model.eval()


def grid(domain, points):
    """Midpoints of the cells of a grid on a two-dimensional domain, cells' areas, and edges."""
    if domain in PLANES:
        edges = [
            torch.sinh(torch.linspace(-6, 6, points + 1, dtype=torch.float64)) for _ in range(2)
        ]
    else:
        # Finer towards the bounds, where densities may diverge like a power.
        s = torch.linspace(0, 1, points + 1, dtype=torch.float64)
        s = s**3 * (10 - 15 * s + 6 * s**2)
        edges = [c.low + (c.high - c.low) * s for c in domain.columns]
    middle = [(e[1:] + e[:-1]) / 2 for e in edges]
    weight = torch.outer(edges[0].diff(), edges[1].diff()).flatten()
    return torch.cartesian_prod(*middle), weight, edges


@functools.cache
def masses(model, domain, dtype):
    """Probability of each cell of the grid, by the midpoint rule."""
    x, weight, _ = grid(domain, CELLS)
    return model.log_likelihood(x.to(dtype)).value.double().exp() * weight  # in chunks


@for_each(BOUNDED, INTERVALS, PLANE, where=exact, dtypes=DTYPES, slow=REPEATS)
def test_density_integrates_to_one(name, domain, dtype, fitted):
    mass = masses(fitted(name, domain, dtype), domain, dtype).sum().item()
    assert mass == pytest.approx(1, abs=5e-3)


@pytest.mark.slow
@for_each(BOUNDED, INTERVALS, PLANE, where=exact, dtypes=DTYPES, slow=[torch.float32])
def test_untrained_density_integrates_to_one(name, domain, dtype):
    mass = masses(untrained(name, domain, dtype), domain, dtype).sum().item()
    assert mass == pytest.approx(1, abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True])
@for_each(PLANE, where=exact, dtypes=DTYPES)
def test_density_on_the_plane_integrates_to_one(name, domain, trained, dtype, fitted):
    model = fitted(name, domain, dtype) if trained else untrained(name, domain, dtype)
    mass = masses(model, domain, dtype).sum().item()
    assert mass == pytest.approx(1, abs=5e-3)


@for_each(PLANE, where=lower_bound, dtypes=DTYPES, slow=[*REPEATS, *PENALISED])
def test_a_lower_bound_has_at_most_unit_mass(name, domain, dtype, fitted):
    model = fitted(name, domain, dtype)
    x, weight, _ = grid(PLANE, 60)
    bounds = [model.log_likelihood(x.to(dtype), seed=seed).value.double() for seed in range(5)]
    # Exponentials of noisy bounds: their mean is an estimate of the density without bias.
    mass = (torch.stack(bounds).exp().mean(0) * weight).sum().item()
    assert 0.9 < mass < 1.01


@for_each(SYMBOLS, LEVELS, SEQUENCE, BITS, where=scored, dtypes=DTYPES, slow=REPEATS)
def test_probabilities_of_a_discrete_domain(name, domain, dtype, fitted):
    # After a few steps a bound that is a mean knows that there are levels, not where.
    total = total_probability(name, domain, fitted(name, domain, dtype))
    assert name not in LOOSE or total > 1e-3


@pytest.mark.slow
@for_each(SYMBOLS, LEVELS, SEQUENCE, BITS, where=scored, dtypes=DTYPES, slow=[torch.float32])
def test_untrained_probabilities_of_a_discrete_domain(name, domain, dtype):
    total_probability(name, domain, untrained(name, domain, dtype))


def total_probability(name, domain, model):
    """The sum over all states, checked to be 1, or at most 1 for a bound that is a mean."""
    exact = model.density == Kind.EXACT
    repeats = 1 if exact else ESTIMATES
    likelihood = model.log_likelihood(states(domain).repeat(repeats, 1), seed=0)
    # The exponential of a bound is an estimate of the probability without bias.
    values = likelihood.value.double().view(repeats, -1)
    if name in LOOSE:  # that of their mean is below it
        total = values.mean(0).exp().sum().item()
        assert total < 1.01
        return total
    masses = values.exp().sum(1)
    error = (
        0
        if exact
        else math.hypot(masses.std().item() / math.sqrt(repeats), likelihood.common_stderr)
    )
    assert masses.mean().item() == pytest.approx(1, abs=5 * error + 1e-5)
    return masses.mean().item()


@for_each(BOUNDED, INTERVALS, PLANE, where=exact, dtypes=DTYPES, slow=REPEATS)
def test_samples_follow_the_density(name, domain, dtype, fitted):
    model = fitted(name, domain, dtype)
    n, coarse = 10_000, 8
    x = model.sample(n, seed=1)
    assert x.dtype == dtype
    assert domain.contains(x).all()
    x = x.double()
    edges = grid(domain, CELLS)[2]
    # χ² over cells of equal expected content in the first column, then in the second.
    p = masses(model, domain, dtype).reshape(CELLS, CELLS)
    first = torch.searchsorted(p.sum(1).cumsum(0), torch.arange(1, coarse) / coarse)
    second = torch.searchsorted(p.sum(0).cumsum(0), torch.arange(1, coarse) / coarse)
    cuts = [[0, *c.add(1).tolist(), CELLS] for c in (first, second)]
    expected = torch.stack(
        [
            p[a:b, c:d].sum()
            for a, b in itertools.pairwise(cuts[0])
            for c, d in itertools.pairwise(cuts[1])
        ]
    )
    place = [torch.bucketize(x[:, i].contiguous(), edges[i][cuts[i][1:-1]]) for i in range(2)]
    observed = torch.bincount(coarse * place[0] + place[1], minlength=coarse**2).double()
    # Quadrature errors of half a per cent are allowed for in the total.
    expected = n * expected / expected.sum()
    keep = expected > 5
    statistic = ((observed - expected)[keep] ** 2 / expected[keep]).sum().item()
    assert scipy.stats.chi2.sf(statistic, int(keep.sum()) - 1) > LEVEL


@for_each(SYMBOLS, LEVELS, SEQUENCE, BITS, where=exact, dtypes=DTYPES, slow=REPEATS)
def test_samples_of_a_discrete_domain_follow_the_probabilities(name, domain, dtype, fitted):
    model = fitted(name, domain, dtype)
    n = 10_000
    x = model.sample(n, seed=2)
    assert x.dtype == torch.int64
    all_states = states(domain)
    observed = (x[:, None] == all_states).all(2).sum(0).double()
    with torch.no_grad():
        expected = n * model.log_prob(all_states).double().exp()
    keep = expected > 5
    statistic = ((observed - expected)[keep] ** 2 / expected[keep]).sum().item()
    assert scipy.stats.chi2.sf(statistic, int(keep.sum()) - 1) > LEVEL


@for_each(PLANE, SEQUENCE, where=scored, dtypes=DTYPES, slow=REPEATS)
def test_likelihood_is_never_better_than_the_truth(name, domain, dtype, fitted):
    truth = TRUTH if domain in PLANES else CHAIN
    model = fitted(name, domain, dtype)
    n = 5000 if model.density == Kind.EXACT else 1000  # bounds and estimates take longer
    x = rows(domain, n, dtype, 7)
    likelihood = model.log_likelihood(x, seed=0)
    difference = truth.log_prob(x if domain.discrete else x.double()) - likelihood.value.double()
    error = math.hypot(difference.std().item() / math.sqrt(n), likelihood.common_stderr)
    if likelihood.kind != Kind.UPPER:
        assert difference.mean().item() >= -3 * error
    # E_q[p/q] = 1: the model covers the target's support.
    if likelihood.kind == Kind.EXACT:
        y = model.sample(5_000, seed=3)
        with torch.no_grad():
            ratio = (
                truth.log_prob(y if domain.discrete else y.double()) - model.log_prob(y).double()
            ).exp()
        assert abs(ratio.mean().item() - 1) < 4 * ratio.std().item() / math.sqrt(len(y)) + 1e-3


@for_each(BOUNDED, INTERVALS, where=exact, dtypes=DTYPES)
def test_rows_outside_the_support(name, domain, dtype, fitted):
    model = fitted(name, domain, dtype)
    x = rows(domain, 6, dtype)
    x[1, 0], x[3, 1], x[4, 0] = 7.0, math.inf, math.nan
    x.requires_grad_()
    log_prob = model.log_prob(x)
    outside = torch.tensor([False, True, False, True, True, False])
    assert (log_prob[outside] == -math.inf).all()
    inside = log_prob[~outside]
    assert inside.isfinite().all()
    gradients = torch.autograd.grad(
        inside.sum(), [x, *(p for p in model.parameters() if p.requires_grad)], allow_unused=True
    )
    assert all(g.isfinite().all() for g in gradients if g is not None)


@for_each(PLANE)
def test_large_offsets_keep_their_precision(name, domain):
    # Seconds since 1970, spread over some minutes: float32 has a step of 128 s there.
    x = 1.7e9 + 580 * rows(domain, 1000, torch.float64)
    model = untrained(name, domain, torch.float32, x)
    draws = model.sample(1000, seed=0)
    ratio = draws.double().std(0) / x.std(0)
    least = 0.01 if model.density == Kind.NONE else 0.5  # a generator may start narrow
    assert ((ratio > least) & (ratio < 2)).all()
    assert all(column.unique().numel() > 980 for column in draws.unbind(1))


def masked_networks(name, domain):
    return [module for module in example(name, domain).modules() if isinstance(module, MaskedMLP)]


@for_each(*LONG, where=masked_networks)
def test_masked_networks_see_only_the_entries_before(name, domain):
    for net in masked_networks(name, domain):
        net.double().eval()
        entry_of_input = torch.arange(len(net.inputs)).repeat_interleave(torch.tensor(net.inputs))
        x = torch.randn(7, len(entry_of_input), dtype=torch.float64)
        before = net(x).split(net.outputs, 1)
        for position in range(len(net.order)):
            changed = torch.isin(entry_of_input, torch.tensor(net.order[position:]))
            after = net(torch.where(changed, x + torch.randn_like(x), x)).split(net.outputs, 1)
            assert all(torch.equal(before[i], after[i]) for i in net.order[: position + 1])
            assert not any(torch.equal(before[i], after[i]) for i in net.order[position + 1 :])


@for_each(SEQUENCE, where=lambda name, _: issubclass(find(name).cls, Autoregressive))
def test_conditionals_and_completion_of_autoregressive_models(name):
    order = (2, 0, 1)
    with seeded(1):
        model = made(name, SEQUENCE, order=order).double()
        model.prepare(Batch(rows(SEQUENCE, 300)))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.eval()
    x = states(SEQUENCE)
    terms, log_prob = model.conditionals(x), model.log_prob(x).detach()
    torch.testing.assert_close(terms.sum(1), log_prob, rtol=1e-10, atol=1e-10)
    for place, entry in enumerate(order):  # the later entries do not matter, the earlier ones do
        changed = x.clone()
        changed[:, list(order[place:])] = (changed[:, list(order[place:])] + 1) % 3
        after = model.conditionals(changed)
        assert torch.equal(after[:, list(order[:place])], terms[:, list(order[:place])])
        changed = x.clone()
        changed[:, entry] = (changed[:, entry] + 1) % 3
        later = list(order[place + 1 :])
        assert not later or not torch.equal(model.conditionals(changed)[:, later], terms[:, later])
    n = 200
    for known in ([2, 0], [1]):  # first in the ordering, and last
        mask = torch.zeros(3, dtype=torch.bool)
        mask[known] = True
        given = torch.tensor([1, 0, 2])
        draws = model.complete(given.expand(n, 3), mask, seed=0)
        matching = x[(x[:, mask] == given[mask]).all(1)]
        expected = n * log_prob[(x[:, mask] == given[mask]).all(1)].softmax(0)
        observed = (draws[:, None] == matching).all(2).sum(0)
        assert observed.sum() == n
        statistic = ((observed - expected).square() / expected)[expected > 5].sum().item()
        assert scipy.stats.chi2.sf(statistic, len(matching) - 1) > LEVEL


@for_each(LONG[0], PLANE, BITS, where=trains_on_energies)
def test_what_trains_on_an_energy_does(name, domain):
    """Draws come with the density that they have, and a step on an energy moves every parameter."""
    model = untrained(name, domain, torch.float64)
    gradients = model.energy_gradients
    if "path" in gradients or "reparametrised" in gradients:
        with seeded(0):
            x, log_prob = model.rsample_with_log_prob(50)
        again, same = model.rsample_with_log_prob(50, seed=0)
        assert torch.equal(x, again)
        assert torch.equal(log_prob, same)
        assert domain.contains(x).all()
        tolerance = 1e-10 if exact(name, domain) else 1e-3
        expected = model._log_prob(x.detach(), None)
        torch.testing.assert_close(log_prob, expected, rtol=tolerance, atol=tolerance)
        assert x.requires_grad
    target = lk.Target(domain, energy=lambda x: x.double().flatten(1).square().sum(1) / 2)
    before = {key: value.clone() for key, value in model.named_parameters()}
    model = model.float()
    history = lk.fit(model, target, steps=2, batch=32)
    assert math.isfinite(history.rows[-1]["free_energy"])
    assert any((value.double() != before[key]).any() for key, value in model.named_parameters())


@pytest.mark.parametrize("scale", [0.1, 1, 10, 100])
@for_each(*LONG, where=lambda name, domain: hasattr(example(name, domain), "transforms"))
def test_transforms_are_bijections_with_the_right_jacobian(name, domain, scale):
    model = untrained(name, domain, torch.float64)
    z = scale * torch.randn(5, model.view.dim, dtype=torch.float64)
    z = torch.where(model.view.periodic, (z + math.pi) % (2 * math.pi) - math.pi, z)
    for transform in model.transforms:
        y, log_det = transform(z, None)
        # Rows do not see one another, so that the sum over them has all their Jacobians.
        jacobian = torch.autograd.functional.jacobian(
            lambda z, f=transform: f(z, None)[0].sum(0), z
        )
        expected = torch.linalg.slogdet(jacobian.transpose(0, 1))[1]
        torch.testing.assert_close(log_det, expected, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(transform.inverse(y, None), z, rtol=1e-7, atol=1e-7)


@for_each(
    BOUNDED,
    INTERVALS,
    SEQUENCE,
    PLANE,
    CLASSES,
    where=lambda name, domain: takes_context(name, domain) and exact(name, domain),
    dtypes=DTYPES,
    context=CONTEXT,
)
def test_gradients_with_respect_to_the_context(name, domain, dtype):
    model = untrained(name, domain, dtype, context=True)
    x, context = rows(domain, 6, dtype), contexts(6).to(dtype).requires_grad_()
    x[1, 0] = 7 if domain.discrete or domain.column(0).bounded else math.nan
    if not domain.discrete:
        x[3, 1], x[4, 0] = math.inf, math.nan
    log_prob = model.log_prob(x, context)
    inside = log_prob.isfinite()
    assert inside.tolist() == [i not in ([1] if domain.discrete else [1, 3, 4]) for i in range(6)]
    for total in (log_prob[inside].sum(), log_prob.sum()):
        (gradient,) = torch.autograd.grad(total, context, retain_graph=True)
        assert gradient.isfinite().all()
        assert (gradient[~inside] == 0).all()


@for_each(PLANE, SEQUENCE, BITS, LINKS, where=exact, dtypes=DTYPES, slow=REPEATS)
def test_a_row_scores_the_same_alone_and_in_a_batch(name, domain, dtype, fitted):
    model = fitted(name, domain, dtype)
    x = rows(domain, 20, dtype)
    with torch.no_grad():
        together = model.log_prob(x)
        alone = torch.cat([model.log_prob(row[None]) for row in x])
        trained_mode = model.train().log_prob(x)
        model.eval()
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(alone, together, rtol=tolerance, atol=tolerance)
    if not any(isinstance(m, torch.nn.Dropout) for m in model.modules()):
        torch.testing.assert_close(trained_mode, together, rtol=0, atol=0)


@for_each(PLANE, BITS, where=lambda name, domain: not takes_context(name, domain))
def test_a_context_that_a_model_does_not_take(name, domain):
    with pytest.raises(lk.DomainError, match="no context"):
        lk.make(name, domain, context=CONTEXT)


@for_each(PLANE, SEQUENCE, CLASSES, where=shifts_with_context, context=CONTEXT)
def test_context_changes_the_conditional_and_may_not_be_absent(name, domain, fitted):
    model = fitted(name, domain, torch.float32, context=True)
    low, high = torch.tensor([0.0, 0.2, 0.5]), torch.tensor([1.0, 0.2, 0.5])
    x = rows(domain, 200)
    x = torch.cat([x, shifted(domain, x, torch.ones(1))])
    first = torch.arange(400) < 200
    verbs = [lambda: model.sample(2)]
    if model.density != Kind.NONE:

        def score(x, context):
            return model.log_likelihood(x, context, seed=0).value

        verbs.append(lambda: model.log_likelihood(x))
        difference = score(x, low) - score(x, high)
        assert difference[first].mean() > difference[~first].mean() + 0.1
        seam = [torch.tensor([0.0, angle, 0.5]) for angle in (0.0, 1.0)]
        # The steps of an adaptive solver turn rounding into a part of its tolerance.
        near = 5 * model.tolerance if hasattr(model, "tolerance") else None
        torch.testing.assert_close(score(x, seam[0]), score(x, seam[1]), rtol=near, atol=near)
        from_lists = score(x.tolist(), high.tolist()).float()
        torch.testing.assert_close(from_lists, score(x, high), rtol=near, atol=near)
    shift = model.sample(200, context=high, seed=0) - model.sample(200, context=low, seed=0)
    assert shift.double().mean() > 0.1
    for verb in verbs:
        with pytest.raises(lk.DataError, match="context"):
            verb()
    with pytest.raises(lk.DataError, match="'kind'"):
        model.sample(2, context=torch.tensor([5.0, 0.2, 0.5]))


@for_each(BOUNDED, INTERVALS, PLANE, SEQUENCE, BITS, LINKS, IMAGE, dtypes=DTYPES, slow=REPEATS)
def test_seeded_runs_repeat_bitwise(name, domain, dtype):
    data, models = data_of(domain, dtype), []
    for _ in range(2):
        with seeded(3):
            model = made(name, domain)
        precision = "64-true" if dtype == torch.float64 else "32-true"
        lk.fit(model, data, steps=5, batch=64, seed=4, precision=precision)
        models.append(model)
    for key, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[key]), key
    state = torch.get_rng_state()
    assert torch.equal(models[0].sample(10, seed=5), models[1].sample(10, seed=5))
    assert not torch.equal(models[0].sample(10, seed=5), models[0].sample(10, seed=6))
    assert torch.equal(torch.get_rng_state(), state)


LOADER = """
import importlib, sys, torch, likely as lk
from pathlib import Path
torch.set_num_threads(int(sys.argv[1]))
for file in sys.argv[2:]:
    sys.path.insert(0, str(Path(file).parent))
    importlib.import_module(Path(file).stem)
for line in sys.stdin:
    path, expected = line.split()
    model = lk.load(path)
    x, score, draws = torch.load(expected, weights_only=True)
    if score is not None and not torch.equal(model.log_likelihood(x, seed=0).value, score):
        print("other scores", flush=True)
    elif not torch.equal(model.sample(16, seed=1), draws):
        print("other samples", flush=True)
    else:
        print("equal", flush=True)
"""


@pytest.fixture(scope="module")
def fresh_process(pytestconfig):
    """A process, one for all models, that tells whether a saved model gives what was expected."""
    files = pytestconfig.getoption("models_from")
    command = [sys.executable, "-c", LOADER, str(torch.get_num_threads()), *files]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:

        def answer(*paths):
            it.stdin.write(f"{' '.join(map(str, paths))}\n")
            it.stdin.flush()
            return it.stdout.readline().strip()

        yield answer
        it.stdin.close()


@for_each(BOUNDED, INTERVALS, PLANE, SEQUENCE, BITS, LINKS, IMAGE, dtypes=DTYPES, slow=REPEATS)
def test_saved_models_score_and_sample_bitwise_in_a_fresh_process(
    name, domain, dtype, fitted, fresh_process, tmp_path
):
    model = fitted(name, domain, dtype)
    paths = tmp_path / "model.safetensors", tmp_path / "expected.pt"
    lk.save(model, paths[0])
    x = rows(domain, 50, dtype)
    score = None if model.density == Kind.NONE else model.log_likelihood(x, seed=0).value
    torch.save((x, score, model.sample(16, seed=1)), paths[1])
    assert fresh_process(*paths) == "equal"


@for_each(PLANE, SEQUENCE, BITS, LINKS, IMAGE)
def test_configuration_builds_the_same_model(name, domain):
    model = lk.make(name, domain)
    config = json.loads(json.dumps(configuration(model)))
    twin = build(config)
    assert configuration(twin) == configuration(model)
    assert {k: v.shape for k, v in twin.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


@for_each(PLANE, SEQUENCE, BITS, LINKS, IMAGE)
def test_refusals_are_clear(name, domain):
    entry = find(name)
    unordered = lk.table(lk.Real(), lk.Categorical(3))
    if not entry.takes(unordered):
        with pytest.raises(
            lk.DomainError, match=r"columns( of different kinds.*)?; these models do: .*made"
        ):
            lk.make(name, unordered)
    model = lk.make(name, domain)
    if model.density == Kind.NONE:
        with pytest.raises(lk.DensityError, match="no likelihood"):
            model.log_likelihood(torch.zeros(3, 2))
    else:
        with pytest.raises(lk.DataError, match="shape"):
            model.log_likelihood(torch.zeros(3, 7))
    with pytest.raises(lk.DataError, match="without a context"):
        model.sample(2, context=torch.zeros(2, 3))
    with pytest.raises(lk.LikelyError, match="no option 'nonsense'"):
        lk.make(name, PLANE, nonsense=1)
