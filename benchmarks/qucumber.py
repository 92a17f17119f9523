"""The 10-site Ising chain of QuCumber's first tutorial, from 10,000 shots in the σᶻ basis.

    python benchmarks/qucumber.py FOLDER

FOLDER holds the tutorial's files `Tutorial1_TrainPosRealWaveFunction__tfim1d_data.txt` and `…_psi.txt`. The
wave function has no signs, so that a model of the outcomes is a model of the state. Printed are the
Kullback–Leibler divergence of the model from the exact probabilities, a sum over all 1,024 outcomes; the
classical fidelity Σ √(P P_model), not squared (the convention of Carrasquilla et al. 2019,
arXiv:1810.10584); and the quantum fidelity, which is its square, |⟨ψ|ψ_model⟩|² with ψ_model = √P_model.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch

import likely as lk
from likely.quantum.povm import povm
from likely.quantum.shots import load

NAME = "Tutorial1_TrainPosRealWaveFunction__tfim1d_{}.txt"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="rnn")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    shots = load(arguments.folder / NAME.format("data"), povm=povm("computational"))
    psi = np.loadtxt(arguments.folder / NAME.format("psi"))[:, 0]
    p = torch.tensor(psi**2)
    states = torch.tensor(list(itertools.product((0, 1), repeat=shots.sites)))
    for seed in range(arguments.seeds):
        domain = shots.povm.domain(shots.sites)
        data = lk.load_data(shots.outcomes.numpy(), domain=domain, seed=seed)
        model = lk.make(arguments.model, domain, seed=seed)
        history = lk.fit(model, data, steps=arguments.steps, seed=seed)
        log_q = model.log_likelihood(states).value.double()
        kl = (p * (p.log() - log_q)).sum().item()
        fidelity = (p.sqrt() * (log_q / 2).exp()).sum().item()
        print(
            f"seed {seed}: KL {kl:.4f} nats, classical fidelity {fidelity:.4f}, quantum fidelity "
            f"{fidelity**2:.4f}, {history.steps} steps in {history.seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
