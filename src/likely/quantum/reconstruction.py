"""Reconstruct a quantum state: fit a model to measurement outcomes, and measure how good it is.

Where the state is known, everything is compared with it: the model's probabilities on fresh exact
shots and on outcomes of its own, observables, and for few sites the density matrix. Where it is not,
held-out likelihood, observables and their consistency remain.

Carrasquilla, Torlai, Melko & Aolita 2019, "Reconstructing quantum states with generative models",
Nature Machine Intelligence 1, 155 (arXiv:1810.10584).
"""

import copy
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.contract.registry import make
from likely.core.errors import DataError, LikelyError
from likely.core.files import write_json, write_text, written_whole
from likely.core.likelihood import Kind
from likely.data import Data
from likely.data.dataset import Split
from likely.evaluation.evaluate import name_in_reports
from likely.fitting import History, fit
from likely.quantum import dense, report
from likely.quantum.baselines import MarkovChain
from likely.quantum.observables import Observables, fidelity
from likely.quantum.povm import Terms
from likely.quantum.result import Compared, DensityMatrix, Result
from likely.quantum.scoring import Scorer
from likely.quantum.shots import Shots

MIN_SHOTS = 40
HELD_OUT = 5_000  # shots at most to validate, and as many to test; a twentieth of few
ENUMERATED = 1 << 21  # outcomes at most over which is summed exactly: ten qubits of four outcomes
ORDERS = (0, 1, 2, 3)  # of the Markov chains to compare with


class Reconstruction(Result):
    """A `Result` that shows itself."""

    def summary(self) -> list[str]:
        """What came out, in a few sentences."""
        return report.summary(self)

    def notes(self) -> list[str]:
        """What a reader must know about the figures: what is missing, and what is a bound."""
        return report.notes(self)

    def rich_table(self) -> Table:
        """The model, those of the learning curve and the baselines, for `rich` to print."""
        return report.rich_table(self)

    def to_html(self, path: str | Path) -> None:
        """Write the report: one page without links to anything else."""
        write_text(path, report.page(self))

    def save(self, folder: str | Path) -> None:
        """Write `index.html`, `reconstruction.json`, and `observables.npz` with all arrays."""
        folder = Path(folder)
        with written_whole(folder / "observables.npz") as file:
            arrays = {name: tensor.numpy() for name, tensor in self.arrays().items()}
            np.savez_compressed(file, allow_pickle=False, **arrays)
        write_json(folder / "reconstruction.json", self.to_json())
        self.to_html(folder / "index.html")


def reconstruct(
    shots: Shots,
    model: str | GenerativeModel = "rnn",
    *,
    steps: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    progress: bool = False,
    draws: int = 100_000,
    curve: Sequence[int] = (),
    device: str = "auto",
) -> Reconstruction:
    """Fit a model to shots, and measure it, and baselines, against the state where that is known.

    Parameters
    ----------
    shots : Shots
        A twentieth of them, at most 5,000, is held out, and as much of the others validates.
    model : str or GenerativeModel
        Any model of unordered categories, by its name or untrained on `shots.povm.domain(sites)`.
    steps, epochs, minutes : number, optional
        The budget, as in `fit`.
    seed : int
        Of the initial weights, the fit, the splits and all draws.
    run : path, optional
        Folder of the run, as in `fit`; those of the learning curve go into folders of it.
    progress : bool
        Show a progress bar.
    draws : int
        Outcomes of the model, and fresh shots of the state, that are drawn to measure it. With noise,
        or effects that are not of rank one, at most 10,000 of them enter KL and fidelity: their exact
        probabilities take longer.
    curve : sequence of int
        Numbers of shots for a learning curve, all different: for each the same model is fitted with
        the whole budget.
    device : str
        Where to compute, as in `fit`.

    Returns
    -------
    Reconstruction
        With a density matrix and a quantum fidelity where the POVM is complete, the model's probabilities
        are exact, and all its outcomes can be summed over, kᴺ ≤ 2²¹: up to ten sites with four outcomes,
        nine with five, eight with six.

    Raises
    ------
    DataError
        If there are fewer than forty shots.
    DomainError
        If the model does not take the outcomes.
    LikelyError
        If an option is out of range.
    """
    if len(shots.outcomes) < MIN_SHOTS:
        raise DataError(f"{len(shots.outcomes)} shots: at least {MIN_SHOTS} are needed")
    if draws < MIN_SHOTS:
        raise LikelyError(f"draws must be at least {MIN_SHOTS}, not {draws}")
    x = shots.outcomes[np.random.default_rng(seed).permutation(len(shots.outcomes))].long()
    test, x = x.tensor_split([_held(len(x))])
    for size in curve:
        if not MIN_SHOTS <= size < len(x):
            raise LikelyError(f"curve: {size} shots; give numbers from {MIN_SHOTS} to {len(x) - 1}")
    if len(set(curve)) < len(curve):
        raise LikelyError(f"curve: {[*curve]} has a number twice; each would cost a fit")
    domain = shots.povm.domain(shots.sites)
    if isinstance(model, str):
        model = make(model, domain, seed=seed)
    name = name_in_reports(model)
    untrained = [copy.deepcopy(model) for _ in curve]
    started = time.perf_counter()
    scorer = Scorer(shots, test, draws, seed)
    training: dict[str, Any] = {"steps": steps, "epochs": epochs, "minutes": minutes}
    training |= {"seed": seed, "device": device, "progress": progress}

    def train(model: GenerativeModel, x: Tensor, run: Path | None) -> tuple[Data, History]:
        valid, rest = x.tensor_split([_held(len(x))])
        data = Data(domain, Split(rest), Split(valid), Split(test), name="shots")
        known = scorer.truth is not None and model.density == Kind.EXACT
        watch = scorer.watch if known else None
        return data, fit(model, data, run=run, watch=watch, **training)

    folder = None if run is None else Path(run)
    before = time.perf_counter() - started
    data, history = train(model, x, folder)
    started = time.perf_counter()
    score, generated, log_q = scorer.score(name, model, len(x))
    baselines = []
    for order in ORDERS:
        chain = MarkovChain(domain, order=order)
        chain.count(data.train.x[:], data.valid.x[:])
        title = f"Markov chain of order {order}" if order else "product of marginals"
        baselines.append(scorer.score(title, chain, len(x), log_q)[0])
    estimates, reasons = _estimate(shots, model, generated, scorer.hamiltonian)
    if score.density == Kind.NONE:
        reasons["held_out"] = "the model has no likelihood"
    if score.reverse_kl is not None and score.reverse_kl.value == math.inf:
        reasons["reverse_kl"] = "infinite: some of the model's outcomes are impossible"
    seconds = before + history.seconds + time.perf_counter() - started
    smaller = []
    for size, one in zip(curve, untrained, strict=True):
        train(one, x[:size], folder and folder / f"shots-{size}")
        smaller.append(scorer.score(name, one, size, log_q)[0])
    return Reconstruction(
        model=model,
        shots=shots,
        history=history,
        score=score,
        baselines=baselines,
        curve=smaller,
        generated=generated.outcomes,
        **estimates,
        scored=None if scorer.truth is None else scorer.scored,
        reasons=reasons,
        seconds=seconds,
    )


def _held(n: int) -> int:
    """How many of n shots are held out, to test or to validate."""
    return min(HELD_OUT, max(2, n // 20))


def _estimate(
    shots: Shots, model: GenerativeModel, generated: Observables, hamiltonian: Terms | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Fields of the reconstruction that say what the state is like, and why others are missing."""
    state, povm, noise = shots.state, shots.povm, shots.noise
    measured = Observables(shots.outcomes, povm)
    fields: dict[str, Any] = {"local": {}, "correlators": {}, "exact_energy": None}
    reasons = {}
    for axis in "xyz":
        if not povm.spans(axis):
            reasons[f"sigma_{axis}"] = f"σ{axis} is outside the span of the effects of {povm.name}"
            continue
        exact = None if state is None else state.local(axis, noise)
        fields["local"][axis] = Compared(generated.local(axis), measured.local(axis), exact)
        exact = None if state is None else state.correlators(axis, axis, noise)
        pairs = [source.correlators(axis, axis) for source in (generated, measured)]
        fields["correlators"][axis] = Compared(pairs[0], pairs[1], exact)
    occupation = None
    if state is None:
        reasons["kl"] = "the state is not known"
    else:
        sites = [state.reduced([site], noise) for site in range(state.sites)]
        occupation = povm.probabilities(torch.stack(sites))
        if shots.hamiltonian is not None:
            fields["exact_energy"] = state.energy(shots.hamiltonian, noise)
    fields["occupation"] = Compared(generated.occupation, measured.occupation, occupation)
    fields["measured_energy"] = None
    if hamiltonian is not None:
        fields["measured_energy"] = measured.expectation(hamiltonian)
    else:
        reasons["energy"] = (
            "there is no Hamiltonian"
            if shots.hamiltonian is None
            else f"a term of the Hamiltonian is outside the span of the effects of {povm.name}"
        )
    for name, measure in (
        ("positivity", generated.positivity),
        ("measured_positivity", measured.positivity),
        ("density_matrix", partial(_density_matrix, model, shots)),
    ):
        try:
            fields[name] = measure()
        except LikelyError as error:
            fields[name], reasons[name] = None, str(error)
    return fields, reasons


def _density_matrix(model: GenerativeModel, shots: Shots) -> DensityMatrix:
    """The density matrix that the probabilities of all outcomes make; LikelyError if they do not."""
    k, sites = shots.povm.outcomes, shots.sites
    if not shots.povm.complete:
        raise LikelyError(f"the effects of {shots.povm.name} do not determine density matrices")
    if k**sites > ENUMERATED:
        most = int(math.log(ENUMERATED, k))
        raise LikelyError(f"{k}^{sites} outcomes are too many to sum over: at most {most} sites")
    if model.density != Kind.EXACT:
        raise LikelyError("the model's probabilities are not exact")
    outcomes = torch.cartesian_prod(*[torch.arange(k)] * sites)
    probability = model.log_likelihood(outcomes).value.double().cpu().exp()
    sigma = dense.reconstructed(probability, shots.povm)
    smallest = torch.linalg.eigvalsh(sigma)[0].item()
    if shots.state is None:
        return DensityMatrix(sigma, smallest, None, None)
    rho = dense.density_matrix(shots.state.dense(), shots.noise)
    return DensityMatrix(sigma, smallest, rho, fidelity(rho, sigma))
