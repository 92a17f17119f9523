"""Energy models: an epoch of a restricted Boltzmann machine, and chains on a network's energy.

The machine has 784 visible and 500 hidden units and sees 10,000 binary rows in batches of 100, with one
Gibbs step for an update; each library counts from its first step to its last. The energy of the chains is a
perceptron of 16–128–128–1 (SiLU) plus |x|²/2; what must agree there is its mean over the chains at the end.
In the row called compiled, ours takes `Langevin(compile=True)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from benchmarks.epochs import images, of_fit, of_steps
from benchmarks.suite import OURS, Options, Row, Side
from torch import Tensor, nn

from benchmarks import reference

TITLE = "Energies"
IMAGES, VISIBLE, HIDDEN, BATCH = 10_000, 784, 500, 100
CHAINS, D, STEPS = 1024, 16, 100
MACHINE = VISIBLE * HIDDEN + VISIBLE + HIDDEN


def rbm_likely(options: Options) -> Side:
    import likely as lk

    data = images(IMAGES)

    def run() -> float:
        model = lk.make("rbm", data.domain, hidden=HIDDEN, k=1, seed=0)
        return of_fit(model, data, BATCH)

    return Side(run, MACHINE, note="persistent, centred gradient", own_clock=True)


def rows() -> Tensor:
    return images(IMAGES).train.x.flatten(1).float()


def bernoulli_rbm(options: Options) -> Side:
    from sklearn.neural_network import BernoulliRBM

    x = rows().numpy()
    machine = BernoulliRBM(HIDDEN, batch_size=BATCH, n_iter=1, random_state=0)
    return Side(
        lambda: of_steps(machine, "_fit", lambda: machine.fit(x)),
        MACHINE,
        note="float32, persistent",
        own_clock=True,
    )


def qucumber(options: Options) -> Side:
    from qucumber.nn_states import PositiveWaveFunction

    x = rows().numpy()
    state = PositiveWaveFunction(VISIBLE, HIDDEN, gpu=False)

    def epoch() -> None:
        state.fit(x, epochs=1, pos_batch_size=BATCH, neg_batch_size=BATCH, k=1, lr=0.01)

    return Side(
        lambda: of_steps(state, "compute_batch_gradients", epoch),
        MACHINE,
        note="float64, which it cannot change; chains start at the data",
        own_clock=True,
    )


def plain_rbm(options: Options) -> Side:
    x = rows()
    machine = reference.RBM(VISIBLE, HIDDEN, BATCH)
    return Side(lambda: machine.epoch(x), MACHINE)


class Network(nn.Module):
    """The energy of the chains."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = reference.perceptron([D, 128, 128, 1], nn.SiLU())
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, 0] + x.square().sum(1) / 2


def start() -> Tensor:
    return torch.randn(CHAINS, D, generator=torch.Generator().manual_seed(0))


def chains(run: Callable[[], Tensor], energy: nn.Module) -> Side:
    """A side whose result is the energy where the chains end."""
    parameters = sum(p.numel() for p in energy.parameters())

    def ended() -> float:
        x = run()
        with torch.no_grad():
            return energy(x).mean().item()

    return Side(run, parameters, check=ended)


def torchebm_energy() -> Any:
    from torchebm.core import BaseModel

    class Energy(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.network = Network()

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x)

    return Energy()


def langevin_likely(options: Options, compile: bool = False) -> Side:
    from likely.sampling import Langevin

    energy, init = Network(), start()
    sampler = Langevin(0.01, compile=compile)
    side = chains(lambda: sampler.run(energy, init, STEPS, thin=STEPS).samples[:, -1], energy)
    return replace(side, compiles=compile)


def langevin_torchebm(options: Options) -> Side:
    from torchebm.samplers import LangevinDynamics

    energy, init = torchebm_energy(), start()
    sampler = LangevinDynamics(energy, step_size=0.01)
    return chains(lambda: sampler.sample(x=init, n_steps=STEPS), energy)


def langevin_plain(options: Options) -> Side:
    energy, init = Network(), start()
    return chains(lambda: reference.langevin(energy, init, 0.01, STEPS), energy)


def hmc_likely(options: Options) -> Side:
    from likely.sampling import HMC

    energy, init = Network(), start()
    sampler = HMC(0.1, leapfrogs=10)
    return chains(lambda: sampler.run(energy, init, 10, thin=10).samples[:, -1], energy)


def hmc_torchebm(options: Options) -> Side:
    from torchebm.samplers import HamiltonianMonteCarlo

    energy, init = torchebm_energy(), start()
    sampler = HamiltonianMonteCarlo(energy, step_size=0.1, n_leapfrog_steps=10)
    return chains(lambda: sampler.sample(x=init, n_steps=10), energy)


ROWS = [
    Row(
        "energy.rbm-epoch",
        "RBM 784–500, an epoch of 10,000 rows",
        {
            OURS: rbm_likely,
            "BernoulliRBM": bernoulli_rbm,
            "QuCumber": qucumber,
            "plain torch": plain_rbm,
        },
        {"BernoulliRBM": 1.8, "QuCumber": 1.8},
        bound="of 4.5 ms a step (Zen 4), products take 2.0 and uniform numbers 0.35 (one thread draws "
        "them); the rest are the norm of the gradient, the optimizer, the averaged weights, the "
        "value of the loss, the batch's rows and autograd",
    ),
    Row(
        "energy.langevin",
        "Langevin, 1,024 chains, 100 steps",
        {OURS: langevin_likely, "torchebm": langevin_torchebm, "plain torch": langevin_plain},
        {"torchebm": 1.5},
        tolerance=0.05,
        bound="the energy and its gradient by autograd, nine tenths of a step, which both libraries "
        "take from torch: products 0.6 of 1.2 ms, SiLU and its derivative 0.25; compiling fuses SiLU "
        "with what is around it: see the compiled row",
    ),
    Row(
        "energy.langevin-compiled",
        "Langevin, 1,024 chains, 100 steps, compiled",
        {OURS: partial(langevin_likely, compile=True), "torchebm": langevin_torchebm},
        {"torchebm": 1.5},
        tolerance=0.05,
        bound="products; compiled, the energy and its gradient take 1 / 1.21 of their time",
    ),
    Row(
        "energy.hmc",
        "HMC, 1,024 chains, 10 trajectories of 10 leapfrogs",
        {OURS: hmc_likely, "torchebm": hmc_torchebm},
        tolerance=0.05,
    ),
]
