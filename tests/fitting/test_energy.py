"""Training on an energy: unbiased gradients, exact minima, resumed runs, and errors in words."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import likely as lk
from likely.contract.inputs import sample_with_log_prob
from likely.contract.reference import Reference
from likely.core.files import read_tree
from likely.core.weights import log_mean
from likely.fitting.energy import ESTIMATES
from likely.fitting.folder import RunFolder


def gaussian(d: int = 2) -> lk.Target:
    """A correlated normal distribution, by its energy only."""
    precision = torch.eye(d, dtype=torch.float64) + 0.5
    log_z = d / 2 * math.log(2 * math.pi) - precision.logdet().item() / 2

    def energy(x, context=None):
        return ((x.double() - 1) @ precision * (x.double() - 1)).sum(1) / 2

    return lk.Target(lk.reals(d), name="normal", energy=energy, log_z=log_z)


def own_energy(model):
    """The energy −log q of a model, with its weights held fixed."""
    frozen = lk.make("nsf-coupling", model.domain, transforms=2, hidden=(8,)).double()
    frozen.load_state_dict(model.state_dict())
    frozen.requires_grad_(False)
    return lambda x, context=None: -frozen._log_prob(x, None)


def gradient(model, name, energy, n):
    model.zero_grad()
    _, surrogate = ESTIMATES[name](model, energy, n, None)
    surrogate.mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_the_path_gradient_vanishes_where_the_model_is_the_target():
    torch.manual_seed(0)
    model = lk.make("nsf-coupling", lk.reals(2), transforms=2, hidden=(8,), seed=0).double()
    energy = own_energy(model)
    assert gradient(model, "path", energy, 64).abs().max() < 1e-6
    assert gradient(model, "reparametrised", energy, 64).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["nsf-coupling", "realnvp", "maf"])
def test_the_three_gradients_have_the_same_mean(name):
    torch.manual_seed(0)
    model = lk.make(name, lk.reals(2), transforms=2, hidden=(4,), seed=0).double()
    energy = gaussian().energy
    found = {
        kind: torch.stack([gradient(model, kind, energy, 1024) for _ in range(40)])
        for kind in ESTIMATES
    }
    for kind in ("path", "reinforce"):
        difference = found[kind].mean(0) - found["reparametrised"].mean(0)
        error = sum(found[k].var(0) / 40 for k in (kind, "reparametrised")).sqrt()
        pull = difference[error > 0] / error[error > 0]
        assert pull.abs().max() < 4.5  # of some 60 entries, at a level of 1e-3 in all


def test_reinforce_has_no_bias_against_enumeration():
    torch.manual_seed(0)
    target = lk.targets.ising(2, 2)
    model = lk.make("made", target.domain, hidden=(6,), seed=0).double()
    states = torch.cartesian_prod(*[torch.tensor([-1, 1])] * 4).reshape(-1, 2, 2)
    log_q = model.log_prob(states)
    free_energy = (log_q.exp() * (log_q + target.energy(states))).sum()
    exact = torch.autograd.grad(free_energy, list(model.parameters()), allow_unused=True)
    exact = torch.cat([g.flatten() for g in exact if g is not None])
    # Two draws a batch, where a baseline that holds the draw itself would halve the gradient.
    found = torch.stack(
        [gradient(model, "reinforce", lambda x, context: target.energy(x), 2) for _ in range(1000)]
    )
    error = found.std(0) / math.sqrt(len(found))
    pull = (found.mean(0) - exact)[error > 0] / error[error > 0]
    assert pull.abs().max() < 4.5
    assert (found.mean(0) - exact).norm() < 0.35 * exact.norm()  # halved, it would be 0.5


def test_the_free_energy_of_a_normal_target_falls_to_its_minimum():
    target = gaussian(3)
    model = lk.make("maf", target.domain, transforms=2, hidden=(16,), seed=0)
    history = lk.fit(model, target, steps=300, rate=0.01, batch=256, seed=0)
    assert target.log_z - history.best < 2e-3
    last = history.rows[-1]
    assert last["ess"] > 0.99
    assert last["free_energy"] == pytest.approx(-target.log_z, abs=5e-3)
    assert last["valid"] == -last["free_energy"]


def test_spins_are_trained_and_annealed():
    target = lk.targets.ising(3, 3, temperature=2.5)
    model = lk.make("made", target.domain, seed=0)
    history = lk.fit(model, target, steps=300, batch=200, seed=0)
    assert -0.02 < history.best - target.log_z < 1e-3


def test_a_spin_glass_against_enumeration():
    target = lk.targets.sherrington_kirkpatrick(10, beta=2.0)
    model = lk.make("made", target.domain, hidden=(40,), symmetric=True, seed=0)
    history = lk.fit(model, target, steps=250, batch=256, rate=1e-2, seed=0)
    assert -0.03 < history.best - target.log_z < 1e-3
    x, log_q = sample_with_log_prob(model, 1 << 13, seed=1)
    log_z = log_mean(-target.energy(x) - log_q)
    assert abs(log_z.value - target.log_z) < 4 * log_z.stderr < 0.02


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rnn", {"hidden": 8}),
        ("transformer", {"width": 16, "layers": 1, "heads": 2}),
    ],
)
def test_networks_over_sequences_are_trained_on_spins(name, options):
    target = lk.targets.ising(2, 2, temperature=2.5)
    model = lk.make(name, target.domain, symmetric=True, seed=0, **options)
    history = lk.fit(model, target, steps=200, batch=256, rate=1e-2, seed=0)
    assert -0.03 < history.best - target.log_z < 1e-3


def test_draws_and_their_density_are_those_of_one_network():
    training = []

    def energy(x):
        training.append(model.training)
        return x.double().sum(1)

    domain = lk.binary(3)
    model = lk.make("transformer", domain, width=8, layers=1, heads=1, dropout=0.5, seed=0)
    lk.fit(model, lk.Target(domain, energy=energy), steps=3, batch=8, seed=0)
    assert len(training) > 3
    assert not any(training)  # there is no dropout


def test_rows_beside_the_energy_hold_a_mode_that_it_alone_would_lose():
    target = lk.targets.double_well(barrier=6.0)
    energy = lk.Target(target.domain, name="well", energy=target.energy)
    rows = lk.load_data(target.sample(400, 0), domain=target.domain)
    model = lk.make("nsf", target.domain, transforms=2, hidden=(16,), seed=0)
    history = lk.fit(model, energy, data=rows, steps=200, batch=128, seed=0)
    right = (model.sample(2000, seed=0) > 0).double().mean().item()
    assert right == pytest.approx(0.5, abs=0.1)
    assert {"rows", "free_energy"} <= history.rows[-1].keys()


def fitted(run=None, kill_at=None):
    """A fit with a checkpoint after each step, in which the energy may kill the process."""
    calls = 0

    def energy(x):
        nonlocal calls
        calls += 1
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return (x - 1).square().sum(1)

    target = lk.Target(lk.reals(2), name="normal", energy=energy)
    model = lk.make("realnvp", target.domain, transforms=2, hidden=(8,), seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "due", lambda self: True)
        lk.fit(model, target, steps=120, seed=0, run=run)
    return model


def test_a_run_on_an_energy_that_was_killed_resumes_bit_by_bit(tmp_path):
    code = f"import test_energy; test_energy.fitted({str(tmp_path)!r}, kill_at=100)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=False)
    assert done.returncode == -signal.SIGKILL
    checkpoint = read_tree(tmp_path / "checkpoint" / "state.safetensors")
    assert 0 < checkpoint["state"]["history"]["steps"] < 120
    whole, resumed = fitted(), fitted(tmp_path)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_contexts_are_drawn_from_their_domain():
    def energy(x, context):
        return ((x - context).square() / 2).sum(1)

    context = lk.table(mu=lk.Interval(-2, 2))
    target = lk.Target(lk.reals(1), name="shifted", energy=energy, context=context)
    model = lk.make(
        "nsf-coupling", target.domain, context=context, transforms=2, hidden=(16,), seed=0
    )
    lk.fit(model, target, steps=300, seed=0)
    for mu in (-1.5, 1.5):
        x = model.sample(2000, context={"mu": mu}, seed=0)
        assert x.mean().item() == pytest.approx(mu, abs=0.15)


def test_large_energies_can_be_cut():
    target = lk.Target(lk.reals(1), name="steep", energy=lambda x: x[:, 0] ** 8)
    model = lk.make("realnvp", target.domain, transforms=1, hidden=(8,), seed=0)
    history = lk.fit(model, target, steps=60, energy_cut=10.0, seed=0)
    assert history.rows[-1]["cut"] > 0


def test_a_pilot_run_finds_the_scale():
    target = lk.Target(
        lk.reals(2), name="far", energy=lambda x: ((x - 300) / 40).square().sum(1) / 2
    )
    model = lk.make("realnvp", target.domain, transforms=2, hidden=(8,), seed=0)
    history = lk.fit(model, target, steps=60, pilot=True, seed=0)
    assert history.rows[-1]["ess"] > 0.5


@pytest.mark.parametrize("domain", [
    lk.reals(2), lk.spins(2, 2), lk.integers(5, 3),
    lk.table(phi=lk.Periodic(-1, 3), e=lk.Positive(), u=lk.Interval(2, 5), k=lk.Categorical(3)),
])  # fmt: skip
def test_the_reference_is_normalised(domain):
    reference = Reference(domain)
    torch.manual_seed(0)
    x = reference.sample(4000)
    assert domain.contains(x).all()
    other = Reference(domain)
    log_p = other.log_prob(x)
    assert log_p.isfinite().all()
    if domain.discrete:
        states = len(x.flatten(1).unique(dim=0))
        torch.testing.assert_close(log_p, torch.full_like(log_p, -math.log(states)))


BAD = {
    "a row of numbers": (lambda x: x, "shape"),
    "a float": (lambda x: 1.0, "not a tensor"),
    "NaN": (lambda x: x[:, 0] * math.nan, "NaN"),
    "complex numbers": (lambda x: x[:, 0] + 1j, "not a real number"),
    "integers": (lambda x: x[:, 0].long(), "not a real number"),
}


@pytest.mark.parametrize("what", BAD)
def test_energies_that_are_no_numbers_are_refused(what):
    energy, why = BAD[what]
    model = lk.make("realnvp", lk.reals(2), seed=0)
    with pytest.raises(lk.LikelyError, match=why):
        lk.fit(model, lk.Target(lk.reals(2), name="bad", energy=energy), steps=5)


def test_an_energy_without_a_bottom_is_told():
    target = lk.Target(lk.reals(2), name="bottomless", energy=lambda x: -x.square().sum(1))
    model = lk.make("realnvp", target.domain, transforms=4, hidden=(8,), seed=0)
    with pytest.raises(lk.DivergenceError, match=r"has dived to .* no lower bound"):
        lk.fit(model, target, steps=3000, rate=0.05, early_stopping=False)


def test_what_cannot_be_trained_on_an_energy_is_refused():
    target = gaussian()
    with pytest.raises(
        lk.LikelyError, match=r"GaussianMixture cannot be trained on an energy: take one of .*nsf"
    ):
        lk.fit(lk.make("gmm", target.domain, components=2), target, steps=2)
    with pytest.raises(lk.LikelyError, match="no energy"):
        lk.fit(lk.make("nsf", target.domain), lk.Target(target.domain, name="empty"), steps=2)
    with pytest.raises(lk.DomainError, match="another domain"):
        lk.fit(lk.make("nsf", lk.reals(3)), target, steps=2)
    with pytest.raises(lk.LikelyError, match="not to rows"):
        lk.fit(lk.make("nsf", lk.reals(3)), torch.randn(40, 3), steps=2, gradient="path")
    with pytest.raises(lk.LikelyError, match="data: these are rows beside an energy"):
        lk.fit(lk.make("nsf", lk.reals(3)), torch.randn(40, 3), data=torch.randn(40, 3), steps=2)
    with pytest.raises(lk.DataError, match=r"shape \(3,\) where the declared domain has \(2,\)"):
        lk.fit(lk.make("nsf", target.domain), target, data=torch.randn(40, 3), steps=2)
    rows = lk.load_data(torch.randn(40, 3))
    with pytest.raises(lk.DomainError, match="another domain or context than the data's"):
        lk.fit(lk.make("nsf", target.domain), target, data=rows, steps=2)
    with pytest.raises(lk.LikelyError, match="MADE has reinforce"):
        lk.fit(lk.make("made", lk.spins(2, 2)), lk.targets.ising(2, 2), steps=2, gradient="path")
