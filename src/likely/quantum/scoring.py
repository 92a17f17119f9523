"""Measure how well models describe the outcomes of a measurement."""

from dataclasses import replace

import numpy as np
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.core.likelihood import Kind, Likelihood
from likely.data.dataset import Split
from likely.evaluation import held_out
from likely.quantum.measurement import Measurement
from likely.quantum.observables import Observables
from likely.quantum.result import Score
from likely.quantum.shots import Shots

WATCHED = 4_000  # exact shots by which a fit is watched
SCORED_MIXED = 10_000  # shots at most whose exact probability takes a density environment


class Scorer:
    """Measures models on the same held-out shots, the same fresh ones, and outcomes of their own."""

    def __init__(self, shots: Shots, test: Tensor, draws: int, seed: int) -> None:
        self.shots, self.test, self.draws, self.seed = shots, Split(test), draws, seed
        # Mixed with the seed of the shots, lest these are drawn once more.
        entropy = [seed, shots.header.get("seed") or 0]
        fresh_seed, self.own_seed = np.random.SeedSequence(entropy).generate_state(2).tolist()
        self.truth, self.scored = None, draws
        if shots.state is not None:
            self.truth = Measurement(shots.state, shots.povm, shots.noise)
            if not self.truth.seen.rank_one:
                self.scored = min(draws, SCORED_MIXED)
            self.fresh = self.truth.sample(self.scored, fresh_seed)
            self.log_p = self.truth.log_prob(self.fresh)
        axes = {axis for _, term in shots.hamiltonian or () for axis in term.values()}
        self.hamiltonian = shots.hamiltonian if all(map(shots.povm.spans, axes)) else None

    def watch(self, model: GenerativeModel) -> dict[str, float]:
        """KL and classical fidelity of a model in training, always on the same fresh shots."""
        of_fresh = model.log_likelihood(self.fresh[:WATCHED])
        gap = self.log_p[:WATCHED] - of_fresh.value.double().cpu()
        columns: dict[str, float] = {}
        for name, values in (("kl", gap), ("fidelity", (-gap / 2).exp())):
            figure = Likelihood(values, Kind.EXACT).mean()
            columns |= {name: figure.value, f"{name}_stderr": figure.stderr or 0.0}
        return columns

    def score(
        self, name: str, model: GenerativeModel, shots: int, reference: Likelihood | None = None
    ) -> tuple[Score, Observables, Likelihood | None]:
        """The score of a model, its outcomes, and its log-likelihoods of the held-out shots."""
        generated = Observables(model.sample(self.draws, seed=self.own_seed), self.shots.povm)
        energy = None if self.hamiltonian is None else generated.expectation(self.hamiltonian)
        score = Score(model=name, shots=shots, density=model.density, energy=energy)
        if model.density == Kind.NONE:
            return score, generated, None
        log_q, _ = held_out(model, self.test, seed=self.seed)
        score = replace(score, held_out=log_q.mean())
        if reference is not None:
            score = replace(score, behind=(reference + replace(log_q, value=-log_q.value)).mean())
        if self.truth is not None:
            of_fresh = model.log_likelihood(self.fresh, seed=self.seed)
            gap = self.log_p - of_fresh.value.double().cpu()
            own = generated.outcomes[: self.scored]
            of_own = model.log_likelihood(own, seed=self.seed)
            own_gap = of_own.value.double().cpu() - self.truth.log_prob(own)
            ratio = (-own_gap / 2).exp()
            # An error of log Z, common to all, moves the logarithm of their mean by half of it.
            common = ratio.mean().item() * of_own.common_stderr / 2
            score = replace(
                score,
                kl=replace(of_fresh, value=gap).mean(),
                reverse_kl=replace(of_own, value=own_gap).mean(),
                classical_fidelity=replace(of_own, value=ratio, common_stderr=common).mean(),
            )
        return score, generated, log_q
