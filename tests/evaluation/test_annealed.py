"""Annealed flows: exact weights, whatever the flows are, and what training makes of them."""

import math

import pytest
import torch

import likely as lk
from likely.contract.training import Batch
from likely.core.random import seeded
from likely.sampling import HMC, Langevin

GAUSSIAN = lk.targets.gaussian([1.0], [[0.25]])


def test_affine_flows_between_gaussians_give_equal_weights():
    made = lk.annealed_flow(GAUSSIAN, "realnvp", temperatures=3, steps=1, transforms=1, seed=0)
    # f_β ∝ N(0, 1)^(1−β) N(1, ¼)^β has the precision 1 + 3β and the mean 4β/(1 + 3β).
    precision = 1 + 3 * made.betas
    mean, deviation = 4 * made.betas / precision, precision.rsqrt()
    for k, flow in enumerate(made.flows):
        slope = deviation[k + 1] / deviation[k]
        raw = 2 * torch.atanh(slope.log() / 2)  # the scale of `Affine`
        shift = mean[k + 1] - slope * mean[k]
        last = flow.transforms[0].net.layers[-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(torch.stack([shift, raw]))
    w = made.sample(1000, seed=0)
    expected = torch.full_like(w.log_weight, GAUSSIAN.log_z)
    torch.testing.assert_close(w.log_weight, expected, rtol=0, atol=1e-4)
    assert w.expect(lambda x: x[:, 0]).value == pytest.approx(1, abs=0.06)


def test_training_makes_the_weights_nearly_equal():
    spread = []
    for steps in (1, 60):
        made = lk.annealed_flow(
            GAUSSIAN, "realnvp", temperatures=2, steps=steps, rate=0.05, transforms=1, seed=0
        )
        spread.append(made.sample(1000, seed=0).log_weight.std().item())
    assert spread[0] > 0.5
    assert spread[1] < 0.1
    assert -made.losses[-10:].sum(1).mean() == pytest.approx(GAUSSIAN.log_z, abs=0.05)


def test_weights_are_exact_with_any_flows_and_kernel():
    target = lk.targets.double_well(2.0, tilt=0.5)
    made = lk.annealed_flow(
        target, temperatures=3, steps=1, transforms=2, hidden=(8,), kernel=HMC(0.3, leapfrogs=2)
    )
    with torch.no_grad(), seeded(1):
        for flow in made.flows:
            for parameter in flow.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    w = made.sample(20_000, seed=0)
    assert w.log_weight.std() > 0.1
    assert w.log_z.value == pytest.approx(target.log_z, abs=4 * w.log_z.stderr)
    mean = w.expect(lambda x: x[:, 0])
    assert mean.value == pytest.approx(target.mean.item(), abs=4 * mean.stderr)
    torch.testing.assert_close(made.sample(20_000, seed=0).samples, w.samples, rtol=0, atol=0)


def test_carried_rows_have_the_log_determinant_of_their_map():
    domain = lk.table(lk.Real(), lk.Positive(), lk.Interval(0, 2))
    with seeded(0):
        model = lk.make("nsf-coupling", domain, transforms=2, hidden=(8,)).double()
        x = torch.rand(200, 3, dtype=torch.float64) + 0.5
        model.prepare(Batch(x))
        for parameter in model.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    x = x[:3]
    y, log_det = model.carry(x)
    jacobian = torch.autograd.functional.jacobian(lambda x: model.carry(x)[0].sum(0), x)
    expected = torch.linalg.slogdet(jacobian.transpose(0, 1))[1]
    torch.testing.assert_close(log_det, expected, rtol=1e-6, atol=1e-6)
    assert domain.contains(y).all()


def free_energy_error(seed, n):
    """In kT, of the difference between the wells of a molecule; and log Z, divided by its error."""
    target = lk.targets.double_well_plane()
    made = lk.annealed_flow(
        target,
        temperatures=5,
        steps=40,
        batch=128,
        rate=0.01,
        transforms=2,
        hidden=(16,),
        seed=seed,
    )
    w = made.sample(n, seed=seed + 1)
    left, right = target.mode_weights.tolist()
    share = w.expect(lambda x: (x[:, 0] > 0).float()).value
    error = math.log((1 - share) / share) - math.log(left / right)
    return error, (w.log_z.value - target.log_z) / w.log_z.stderr


def test_free_energy_between_the_wells_of_a_molecule():
    error, pull = free_energy_error(0, 10_000)
    assert abs(error) < 0.2
    assert abs(pull) < 4


@pytest.mark.slow
def test_repeated_free_energies_have_less_bias_and_spread_than_published():
    """Wu, Köhler & Noé 2020: 0.15 and 0.61 kT over ten repeats, of a flow with Metropolis steps."""
    errors = torch.tensor([free_energy_error(seed, 2000)[0] for seed in range(10)])
    assert abs(errors.mean()) < 0.15
    assert errors.std() < 0.3


def test_log_z_of_a_ring_of_phi4():
    target = lk.targets.phi4(8)
    made = lk.annealed_flow(
        target, temperatures=3, steps=40, batch=128, rate=0.01, transforms=2, hidden=(16,), seed=0
    )
    w = made.sample(8000, seed=1)
    assert w.log_z.value == pytest.approx(target.log_z, abs=4 * w.log_z.stderr)
    assert w.log_z.stderr < 0.03
    phi2 = w.expect(lk.targets.phi2)
    assert phi2.value == pytest.approx(target.observables["phi2"], abs=4 * phi2.stderr)
    assert w.notes == ()


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (lk.Target(lk.reals(1)), {}, "neither an energy nor a density"),
        (GAUSSIAN, {"kernel": Langevin(0.1)}, "biased by its step: use MALA or HMC"),
        (GAUSSIAN, {"flow": "ffjord"}, "no layers"),
        (GAUSSIAN, {"flow": "vae"}, "no layers"),
        (GAUSSIAN, {"temperatures": 0}, "temperatures=0"),
        (GAUSSIAN, {"batch": 0}, "batch=0"),
        (GAUSSIAN, {"resample": 2}, "resample=2"),
        (lk.targets.phi4(4, coupling=(1.0, 2.0)), {}, "context"),
        (lk.targets.ising(4), {}, "continuous columns only"),
    ],
)
def test_what_cannot_be_done_is_refused(target, options, message):
    with pytest.raises(lk.LikelyError, match=message):
        lk.annealed_flow(target, **{"flow": "realnvp", "steps": 1} | options)
