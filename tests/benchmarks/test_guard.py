"""A guard against slow-downs: today's code beside textbook loops that never change, in one process.

Thresholds are far below what was measured, so that only a slow-down by a factor fails here, on any machine.
"""

import math
import sys
import time
from pathlib import Path

import pytest
import torch

import likely as lk
from likely.core.runtime import fast_products
from likely.sampling import Langevin

sys.path.append(str(Path(__file__).parents[2]))
reference = pytest.importorskip("benchmarks.reference", reason="not part of this distribution")


def ratio(ours, plain, rounds=9):
    """CPU time of the plain loop over ours, the least of each in turns: other work disturbs it least."""
    ours(), plain()
    least = [math.inf, math.inf]
    for _ in range(rounds):
        for side, run in enumerate((ours, plain)):
            start = time.process_time()
            run()
            least[side] = min(least[side], time.process_time() - start)
    return least[1] / least[0]


def trained(module, loss):
    """A step of gradient descent."""
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    return lambda: reference.descend(optimizer, loss)


def test_a_training_step_of_a_flow():
    x = torch.randn(512, 32)
    plain = reference.MAF(32)
    ours = lk.make("maf", lk.reals(32), transforms=5, hidden=(128, 128))
    ours.prepare(lk.Batch(x))
    step = trained(ours, lambda: ours.loss(lk.Batch(x)).mean())

    def as_in_fit():
        with fast_products(x.device):
            step()

    assert ratio(as_in_fit, trained(plain, lambda: -plain.log_prob(x).mean())) > 0.5


def test_samples_of_an_autoregressive_flow():
    plain = reference.MAF(32)
    ours = lk.make("maf", lk.reals(32), transforms=5, hidden=(128, 128)).eval()
    assert ratio(lambda: ours.sample(256), lambda: plain.sample(256)) > 1.2


def test_an_iteration_of_a_mixture():
    n, d, k = 20_000, 16, 16
    x = torch.randn(n, d)
    ours = lk.make("gmm", lk.reals(d), components=k)
    ours.view.prepare(x)
    with torch.no_grad():
        ours.means.copy_(x[:k])
    start = torch.full((k,), 1 / k), x[:k], torch.eye(d).expand(k, d, d)
    pair = lambda: ours.epoch([lk.Batch(x)]), lambda: reference.em(x, *start)
    assert ratio(*pair) > 0.6


def test_the_reference_mixture_is_the_same():
    x = torch.randn(2000, 3) * torch.tensor([1.0, 2.0, 0.5])
    ours = lk.make("gmm", lk.reals(3), components=4)
    ours.view.prepare(x)
    z, log_det = ours.view(x)
    with torch.no_grad():
        ours.means.copy_(z[:4])
    state = torch.full((4,), 0.25), z[:4], torch.eye(3).expand(4, 3, 3)
    for _ in range(5):
        *state, log_likelihood = reference.em(z, *state)
        loss = ours.epoch([lk.Batch(x)])["loss"]
        assert loss == pytest.approx(-(log_likelihood + log_det[0]).item(), abs=1e-4)


def test_langevin_chains():
    with torch.random.fork_rng():
        net = reference.perceptron([16, 64, 64, 1], torch.nn.SiLU()).requires_grad_(False)

    def energy(x):
        return net(x)[:, 0] + x.square().sum(1) / 2

    x = torch.randn(512, 16)
    pair = (
        lambda: Langevin(0.01).run(energy, x, 50, thin=50),
        lambda: reference.langevin(energy, x, 0.01, 50),
    )
    assert ratio(*pair) > 0.4


@pytest.mark.parametrize(
    ("name", "rows", "rounds", "least"),
    [("rnn", 128, 4, 2.0), ("transformer", 64, 4, 2.0), ("made", 512, 9, 1.5)],
)
def test_sequences(name, rows, rounds, least):
    settings = {"width": 32, "layers": 2, "heads": 4} if name == "transformer" else {}
    model = lk.make(name, lk.categories(4, 32), **settings).eval()
    again = reference.rerun_made if name == "made" else reference.rerun_sequence
    assert ratio(lambda: model.sample(rows), lambda: again(model, rows), rounds) > least
