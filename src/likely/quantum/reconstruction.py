"""Reconstruct a quantum state: fit a model to measurement outcomes, and say what it is worth.

Where the state is known, everything is compared with it: the model's probabilities on fresh exact
shots and on outcomes of its own, observables, and for few sites the density matrix. Where it is not,
held-out likelihood, observables and their consistency remain.

Carrasquilla, Torlai, Melko & Aolita 2019, "Reconstructing quantum states with generative models",
Nature Machine Intelligence 1, 155 (arXiv:1810.10584).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Complex128, Int64
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.contract.registry import make, name_of
from likely.core.errors import DataError, LikelyError
from likely.core.files import write_json, write_text, written_whole
from likely.core.likelihood import Figure, Kind, Likelihood, plain
from likely.data import Data
from likely.data.dataset import Split
from likely.evaluation import held_out
from likely.evaluation.likelihood import OPPOSITE
from likely.fitting import History, fit
from likely.quantum import dense
from likely.quantum.baselines import MarkovChain
from likely.quantum.measurement import Measurement
from likely.quantum.observables import Observables, Positivity, Profile, fidelity
from likely.quantum.povm import PAULI, Terms
from likely.quantum.shots import Shots

if TYPE_CHECKING:
    from rich.table import Table

LEAST_SHOTS = 40
HELD_OUT = 5_000  # shots at most to validate, and as many to test; a twentieth of few
WATCHED = 4_000  # exact shots by which a fit is watched
SCORED_MIXED = 10_000  # shots at most whose exact probability takes a density environment
ENUMERATED = 1 << 21  # outcomes at most over which is summed exactly: ten qubits of four outcomes
ORDERS = (0, 1, 2, 3)  # of the Markov chains to compare with


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What a model of outcomes is worth.

    Attributes
    ----------
    model : str
    shots : int
        That it was fitted to, those for validation included.
    density : Kind
        Of a bound, the figures below that need probabilities are bounds too: see `kinds`.
    held_out : Figure, optional
        Mean log-likelihood of held-out shots in nats; None for models without a density.
    behind : Figure, optional
        By how much that is less than the reconstruction's, over the same shots.
    kl : Figure, optional
        KL(exact‖model) in nats, on fresh exact shots; this and the next two where the state is known.
    reverse_kl : Figure, optional
        KL(model‖exact) in nats, on outcomes of the model; infinite if one of them is impossible.
    classical_fidelity : Figure, optional
        Σ √(P P_model) = E_model √(P/P_model), not squared (Carrasquilla et al. 2019).
    energy : Figure, optional
        From outcomes of the model.
    """

    model: str
    shots: int
    density: Kind
    held_out: Figure | None = None
    behind: Figure | None = None
    kl: Figure | None = None
    reverse_kl: Figure | None = None
    classical_fidelity: Figure | None = None
    energy: Figure | None = None

    @property
    def kinds(self) -> dict[str, Kind]:
        """What the figures that compare with the exact probabilities are, by their names.

        Of a likelihood that is a lower bound, KL and classical fidelity are upper bounds, and the reverse
        KL is a lower one.
        """
        turned = OPPOSITE[self.density]
        return {"kl": turned, "reverse_kl": self.density, "classical_fidelity": turned}

    def to_json(self) -> dict[str, Any]:
        """Each figure as two entries, `…` and `…_stderr`; what is not finite becomes None.

        `kl_kind`, `reverse_kl_kind` and `classical_fidelity_kind` say which of these are bounds. The
        classical fidelity is Σ √(P P_model), not squared.
        """
        entries: dict[str, Any] = {}
        for name, value in plain(self).items():
            figure = value is None or isinstance(value, dict)
            entries |= (
                {name: value and value["value"], f"{name}_stderr": value and value["stderr"]}
                if figure
                else {name: value}
            )
        known = self.kl is not None
        return entries | {
            f"{name}_kind": kind if known else None for name, kind in self.kinds.items()
        }


@dataclass(frozen=True)
class Compared:
    """Estimates from generated outcomes and from the measured ones, and the exact values if known."""

    generated: Profile
    measured: Profile
    exact: Tensor | None


@dataclass(frozen=True)
class Density:
    """The density matrix of all sites, exactly what the model's probabilities make.

    Attributes
    ----------
    value : Tensor, shape (2^N, 2^N)
        By linear inversion: its trace is 1, and eigenvalues may be negative.
    smallest : float
        Its smallest eigenvalue.
    exact : Tensor, shape (2^N, 2^N), optional
        That of the state.
    fidelity : float, optional
        (Tr √(√ρ σ √ρ))², the squared one, with the exact ρ. Of a pure state ⟨ψ|σ|ψ⟩, which may exceed 1
        where σ is not positive; for a mixed one the nearest density matrix takes the place of σ.
    """

    value: Complex128[Tensor, "d d"]
    smallest: float
    exact: Complex128[Tensor, "d d"] | None
    fidelity: float | None


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """A fitted model of a state's outcomes, and what it is worth.

    Attributes
    ----------
    model : GenerativeModel
    shots : Shots
        What it was fitted to.
    history : History
        Of the fit; where the state is known its rows hold `kl` and `fidelity`, and their errors.
    worth : Worth
    baselines : list of Worth
        The product of marginals, and Markov chains of order 1 to 3.
    curve : list of Worth
        Of the same model fitted to fewer shots.
    generated : Tensor, shape (n, sites)
        Outcomes of the model.
    local : dict of str to Compared
        ⟨σ_i⟩ by axis ("x", "y", "z"), shape (sites,).
    correlators : dict of str to Compared
        ⟨σ_i σ_j⟩ by axis, shape (sites, sites).
    occupation : Compared
        Frequency of each outcome at each site, shape (sites, k).
    measured_energy : Figure, optional
        From the shots themselves, without a model.
    exact_energy : float, optional
        Of the state as it was measured, noise included.
    scored : int, optional
        On how many fresh shots, and outcomes of the model, KL and classical fidelity were measured.
    density_matrix : Density, optional
    positivity, measured_positivity : Positivity, optional
        Of one- and two-site density matrices, from generated outcomes and from the shots themselves.
    reasons : dict of str to str
        Why what is missing is missing.
    seconds : float
        For the fit and all measurements but the learning curve.
    """

    model: GenerativeModel
    shots: Shots
    history: History
    worth: Worth
    baselines: list[Worth]
    curve: list[Worth]
    generated: Int64[Tensor, "n sites"]
    local: dict[str, Compared]
    correlators: dict[str, Compared]
    occupation: Compared
    measured_energy: Figure | None
    exact_energy: float | None
    scored: int | None
    density_matrix: Density | None
    positivity: Positivity | None
    measured_positivity: Positivity | None
    reasons: dict[str, str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All figures but whole matrices: of correlators those of nearest neighbours.

        On a ring the last of them is that of the last site and the first. `classical_fidelity` is Σ √(P
        P_model), not squared, as in Carrasquilla et al.; `quantum_fidelity` is (Tr √(√ρ σ √ρ))², squared.
        """
        of_all = self.density_matrix
        observables: dict[str, Any] = {}
        for axis in "xyz":  # null where the effects do not span it
            one, two = self.local.get(axis), self.correlators.get(axis)
            observables[f"sigma_{axis}"] = one and _listed(one)
            observables[f"sigma_{axis}_sigma_{axis}_neighbours"] = two and _listed(
                two, self.neighbours
            )
        measured = self.measured_energy
        return {
            **self.worth.to_json(),
            "exact_energy": self.exact_energy,
            "measured_energy": measured and measured.value,
            "measured_energy_stderr": measured and measured.stderr,
            "quantum_fidelity": of_all and of_all.fidelity,
            "smallest_eigenvalue": of_all and of_all.smallest,
            "positivity": self.positivity and plain(self.positivity),
            "measured_positivity": self.measured_positivity and plain(self.measured_positivity),
            "seconds": self.seconds,
            "fit_seconds": self.history.seconds,
            "steps": self.history.steps,
            "generated": len(self.generated),
            "scored": self.scored,
            "observables": observables,
            "baselines": [worth.to_json() for worth in self.baselines],
            "curve": [worth.to_json() for worth in self.curve],
            "reasons": self.reasons,
            "sites": self.shots.sites,
            "povm": self.shots.povm.name,
            "noise": self.shots.noise,
            "state": self.shots.header,
        }

    def neighbours(self, pairs: Tensor) -> Tensor:
        """Of values for all pairs of sites those of (0, 1), (1, 2) …, and on a ring of (N − 1, 0)."""
        bonds = pairs.diagonal(1)
        return torch.cat([bonds, pairs[-1:, 0]]) if self.shots.periodic else bonds

    def summary(self) -> list[str]:
        """What came out, in a few sentences."""
        from likely.quantum.report import summary

        return summary(self)

    def notes(self) -> list[str]:
        """What is to be known about the figures: what is missing, what is a bound, what they are from."""
        from likely.quantum.report import notes

        return notes(self)

    def rich_table(self) -> Table:
        """The model, those of the learning curve and the baselines, for `rich` to print."""
        from likely.quantum.report import rich_table

        return rich_table(self)

    def to_html(self, path: str | Path) -> None:
        """Write the report: one page without links to anything else."""
        from likely.quantum.report import page

        write_text(path, page(self))

    def save(self, folder: str | Path) -> None:
        """Write `index.html`, `reconstruction.json`, and `observables.npz` with all arrays."""
        folder = Path(folder)
        arrays: dict[str, Tensor | None] = {}
        named = {f"sigma_{axis}": one for axis, one in self.local.items()}
        named |= {f"sigma_{axis}_sigma_{axis}": two for axis, two in self.correlators.items()}
        for name, compared in {**named, "occupation": self.occupation}.items():
            for kind in ("generated", "measured"):
                profile: Profile = getattr(compared, kind)
                arrays |= {f"{name}_{kind}": profile.value, f"{name}_{kind}_stderr": profile.stderr}
            arrays[f"{name}_exact"] = compared.exact
        if self.density_matrix is not None:
            arrays["density_matrix"] = self.density_matrix.value
            arrays["density_matrix_exact"] = self.density_matrix.exact
        with written_whole(folder / "observables.npz") as file:
            known = {name: t.numpy() for name, t in arrays.items() if t is not None}
            np.savez_compressed(file, allow_pickle=False, **known)
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
        Numbers of shots for a learning curve, all different: for each the same model is fitted, and takes
        the whole budget once more.

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
    if len(shots.outcomes) < LEAST_SHOTS:
        raise DataError(f"{len(shots.outcomes)} shots: at least {LEAST_SHOTS} are needed")
    if draws < LEAST_SHOTS:
        raise LikelyError(f"draws must be at least {LEAST_SHOTS}, not {draws}")
    x = shots.outcomes[np.random.default_rng(seed).permutation(len(shots.outcomes))].long()
    test, x = x.tensor_split([_held(len(x))])
    for size in curve:
        if not LEAST_SHOTS <= size < len(x):
            raise LikelyError(
                f"curve: {size} shots; give numbers from {LEAST_SHOTS} to {len(x) - 1}"
            )
    if len(set(curve)) < len(curve):
        raise LikelyError(f"curve: {[*curve]} has a number twice; each would cost a fit")
    domain = shots.povm.domain(shots.sites)
    if isinstance(model, str):
        model = make(model, domain, seed=seed)
    try:
        name = name_of(model)
    except LikelyError:  # one of the user's own, without a name
        name = type(model).__name__
    untrained = [copy.deepcopy(model) for _ in curve]
    started = time.perf_counter()
    judge = _Judge(shots, test, draws, seed)

    def train(model: GenerativeModel, x: Tensor, run: Path | None) -> tuple[Data, History]:
        valid, rest = x.tensor_split([_held(len(x))])
        data = Data(domain, Split(rest), Split(valid), Split(test), name="shots")
        history = fit(
            model,
            data,
            steps=steps,
            epochs=epochs,
            minutes=minutes,
            seed=seed,
            run=run,
            progress=progress,
            watch=judge.watch if judge.truth is not None and model.density == Kind.EXACT else None,
        )
        return data, history

    folder = None if run is None else Path(run)
    before = time.perf_counter() - started
    data, history = train(model, x, folder)
    started = time.perf_counter()
    worth, generated, scores = judge.weigh(name, model, len(x))
    baselines = []
    for order in ORDERS:
        chain = MarkovChain(domain, order=order)
        chain.count(data.train.x[:], data.valid.x[:])
        title = f"Markov chain of order {order}" if order else "product of marginals"
        baselines.append(judge.weigh(title, chain, len(x), scores)[0])
    estimates, reasons = _estimate(shots, generated, judge.hamiltonian)
    density = _density(model, shots)
    if isinstance(density, str):
        reasons["density_matrix"] = density
    if worth.density == Kind.NONE:
        reasons["held_out"] = "the model has no likelihood"
    if worth.reverse_kl is not None and worth.reverse_kl.value == math.inf:
        reasons["reverse_kl"] = "infinite: some of the model's outcomes are impossible"
    seconds = before + history.seconds + time.perf_counter() - started
    smaller = []
    for size, one in zip(curve, untrained, strict=True):
        train(one, x[:size], folder and folder / f"shots-{size}")
        smaller.append(judge.weigh(name, one, size, scores)[0])
    return Reconstruction(
        model=model,
        shots=shots,
        history=history,
        worth=worth,
        baselines=baselines,
        curve=smaller,
        generated=generated.outcomes,
        **estimates,
        scored=None if judge.truth is None else judge.scored,
        density_matrix=None if isinstance(density, str) else density,
        reasons=reasons,
        seconds=seconds,
    )


def _held(n: int) -> int:
    """How many of n shots are held out, to test or to validate."""
    return min(HELD_OUT, max(2, n // 20))


class _Judge:
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
        self.hamiltonian = shots.hamiltonian
        axes = {axis for _, term in shots.hamiltonian or () for axis in term.values()}
        if not all(map(shots.povm.spans, axes)):
            self.hamiltonian = None

    def watch(self, model: GenerativeModel) -> dict[str, float]:
        """KL and classical fidelity of a model in training, always on the same fresh shots."""
        log_q = model.log_likelihood(self.fresh[:WATCHED]).value.double().cpu()
        gap = self.log_p[:WATCHED] - log_q
        kl, fidelity = _mean(gap), _mean((-gap / 2).exp())
        return {
            "kl": kl.value,
            "kl_stderr": kl.stderr or 0.0,
            "fidelity": fidelity.value,
            "fidelity_stderr": fidelity.stderr or 0.0,
        }

    def weigh(
        self, name: str, model: GenerativeModel, shots: int, reference: Likelihood | None = None
    ) -> tuple[Worth, Observables, Likelihood | None]:
        """What a model is worth, its outcomes, and its log-likelihoods of the held-out shots."""
        generated = Observables(model.sample(self.draws, seed=self.own_seed), self.shots.povm)
        worth = Worth(model=name, shots=shots, density=model.density)
        if self.hamiltonian is not None:
            worth = replace(worth, energy=generated.expectation(self.hamiltonian))
        if model.density == Kind.NONE:
            return worth, generated, None
        scores, _ = held_out(model, self.test, seed=self.seed)
        worth = replace(worth, held_out=scores.mean())
        if reference is not None:
            less = replace(scores, value=-scores.value)
            worth = replace(worth, behind=(reference + less).mean())
        if self.truth is not None:
            of_fresh = model.log_likelihood(self.fresh, seed=self.seed)
            gap = self.log_p - of_fresh.value.double().cpu()
            own = generated.outcomes[: self.scored]
            of_own = model.log_likelihood(own, seed=self.seed)
            own_gap = of_own.value.double().cpu() - self.truth.log_prob(own)
            ratio = (-own_gap / 2).exp()
            # An error of log Z, common to all, moves the logarithm of their mean by half of it.
            common = ratio.mean().item() * of_own.common_stderr / 2
            overlap = replace(of_own, value=ratio, common_stderr=common)
            worth = replace(
                worth,
                kl=replace(of_fresh, value=gap).mean(),
                reverse_kl=replace(of_own, value=own_gap).mean(),
                classical_fidelity=overlap.mean(),
            )
        return worth, generated, scores


def _mean(values: Tensor) -> Figure:
    return Likelihood(values, Kind.EXACT).mean()


def _estimate(
    shots: Shots, generated: Observables, hamiltonian: Terms | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Fields of the reconstruction that outcomes alone give, and why others are missing."""
    state, povm, noise = shots.state, shots.povm, shots.noise
    measured = Observables(shots.outcomes, povm)
    local, correlators, reasons = {}, {}, {}
    for axis in "xyz":
        sigma = PAULI[axis]
        if not povm.spans(sigma):
            reasons[f"sigma_{axis}"] = f"σ{axis} is outside the span of the effects of {povm.name}"
            continue
        local[axis] = Compared(
            generated.local(sigma),
            measured.local(sigma),
            None if state is None else state.local(sigma, noise),
        )
        correlators[axis] = Compared(
            generated.correlators(sigma, sigma),
            measured.correlators(sigma, sigma),
            None if state is None else state.correlators(sigma, sigma, noise),
        )
    occupation = exact_energy = None
    if state is not None:
        sites = [state.reduced([site], noise) for site in range(state.sites)]
        occupation = povm.probabilities(torch.stack(sites))
        if shots.hamiltonian is not None:
            exact_energy = state.energy(shots.hamiltonian, noise)
    else:
        reasons["kl"] = "the state is not known"
    if hamiltonian is None:
        reasons["energy"] = (
            "there is no Hamiltonian"
            if shots.hamiltonian is None
            else f"a term of the Hamiltonian is outside the span of the effects of {povm.name}"
        )
    tests: dict[str, Positivity | None] = {}
    for name, observed in (("positivity", generated), ("measured_positivity", measured)):
        try:
            tests[name] = observed.positivity()
        except LikelyError as error:
            tests[name], reasons[name] = None, str(error)
    return {
        "local": local,
        "correlators": correlators,
        "occupation": Compared(generated.occupation, measured.occupation, occupation),
        "measured_energy": None if hamiltonian is None else measured.expectation(hamiltonian),
        "exact_energy": exact_energy,
        **tests,
    }, reasons


def _density(model: GenerativeModel, shots: Shots) -> Density | str:
    """The density matrix that the probabilities of all outcomes make, or why there is none."""
    k, sites = shots.povm.outcomes, shots.sites
    if not shots.povm.complete:
        return f"the effects of {shots.povm.name} do not determine density matrices"
    if k**sites > ENUMERATED:
        most = max(n for n in range(sites) if k**n <= ENUMERATED)
        return f"{k}^{sites} outcomes are too many to sum over; of {k} each, at most {most} sites can be"
    if model.density != Kind.EXACT:
        return "the model's probabilities are not exact"
    outcomes = torch.cartesian_prod(*[torch.arange(k)] * sites)
    probability = model.log_likelihood(outcomes).value.double().cpu().exp()
    sigma = dense.reconstructed(probability, shots.povm)
    rho = None if shots.state is None else dense.density_matrix(shots.state.dense(), shots.noise)
    return Density(
        sigma,
        torch.linalg.eigvalsh(sigma)[0].item(),
        rho,
        None if rho is None else fidelity(rho, sigma),
    )


def _listed(
    compared: Compared, pick: Callable[[Tensor], Tensor] = lambda values: values
) -> dict[str, Any]:
    """Numbers for JSON."""
    arrays = {
        "value": compared.generated.value,
        "stderr": compared.generated.stderr,
        "measured": compared.measured.value,
        "measured_stderr": compared.measured.stderr,
        "exact": compared.exact,
    }
    return {name: None if t is None else pick(t).tolist() for name, t in arrays.items()}
