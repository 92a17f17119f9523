"""The result of a reconstruction, as data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex128, Int64
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.core.likelihood import Figure, Kind, plain
from likely.fitting import History
from likely.quantum.observables import Positivity, Profile
from likely.quantum.shots import Shots


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a model describes the outcomes.

    Attributes
    ----------
    model : str
    shots : int
        Number of shots that it was fitted to, those for validation included.
    density : Kind
        Where it is a bound, the figures below that need probabilities are bounds too: see `kinds`.
    held_out : Figure, optional
        Mean log-likelihood of held-out shots in nats; None for models without a density.
    behind : Figure, optional
        How far that is below the reconstruction's, over the same shots.
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
        """The kinds of the figures that compare with the exact probabilities, by their names.

        Where the likelihood is a lower bound, KL and classical fidelity are upper bounds, and the reverse
        KL is a lower one.
        """
        opposite = self.density.opposite
        return {"kl": opposite, "reverse_kl": self.density, "classical_fidelity": opposite}

    def to_json(self) -> dict[str, Any]:
        """Each figure as two entries, `…` and `…_stderr`; what is not finite becomes None.

        `kl_kind`, `reverse_kl_kind` and `classical_fidelity_kind` say which of these are bounds. The
        classical fidelity is Σ √(P P_model), not squared.
        """
        entries = plain(self)
        for name in ("held_out", "behind", "kl", "reverse_kl", "classical_fidelity", "energy"):
            figure = entries.pop(name) or {"value": None, "stderr": None}
            entries |= {name: figure["value"], f"{name}_stderr": figure["stderr"]}
        known = self.kl is not None
        return entries | {f"{n}_kind": kind if known else None for n, kind in self.kinds.items()}


@dataclass(frozen=True)
class Compared:
    """Estimates from generated outcomes and from the measured ones, and the exact values if known."""

    generated: Profile
    measured: Profile
    exact: Tensor | None

    def arrays(self) -> dict[str, Tensor | None]:
        """All arrays by name."""
        names = ("generated", "generated_stderr", "measured", "measured_stderr", "exact")
        return dict(zip(names, (*self.generated, *self.measured, self.exact), strict=True))


@dataclass(frozen=True)
class DensityMatrix:
    """The density matrix of all sites, exactly what the model's probabilities give.

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
class Result:
    """A fitted model of a state's outcomes, and how well it describes them.

    Attributes
    ----------
    model : GenerativeModel
    shots : Shots
        What it was fitted to.
    history : History
        Of the fit; where the state is known its rows hold `kl` and `fidelity`, and their errors.
    score : Score
    baselines : list of Score
        The product of marginals, and Markov chains of order 1 to 3.
    curve : list of Score
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
    density_matrix : DensityMatrix, optional
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
    score: Score
    baselines: list[Score]
    curve: list[Score]
    generated: Int64[Tensor, "n sites"]
    local: dict[str, Compared]
    correlators: dict[str, Compared]
    occupation: Compared
    measured_energy: Figure | None
    exact_energy: float | None
    scored: int | None
    density_matrix: DensityMatrix | None
    positivity: Positivity | None
    measured_positivity: Positivity | None
    reasons: dict[str, str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All figures but whole matrices: of correlators those of nearest neighbours.

        On a ring the last of them is that of the last site and the first. `classical_fidelity` is Σ √(P
        P_model), not squared, as in Carrasquilla et al.; `quantum_fidelity` is (Tr √(√ρ σ √ρ))², squared.
        """
        matrix, energy = self.density_matrix, self.measured_energy
        observables: dict[str, Any] = {}
        for axis in "xyz":  # null where the effects do not span it
            one, two = self.local.get(axis), self.correlators.get(axis)
            observables[f"sigma_{axis}"] = one and _listed(one)
            neighbours = two and _listed(two, self.neighbours)
            observables[f"sigma_{axis}_sigma_{axis}_neighbours"] = neighbours
        return {
            **self.score.to_json(),
            "exact_energy": self.exact_energy,
            "measured_energy": energy and energy.value,
            "measured_energy_stderr": energy and energy.stderr,
            "quantum_fidelity": matrix and matrix.fidelity,
            "smallest_eigenvalue": matrix and matrix.smallest,
            "positivity": plain(self.positivity),
            "measured_positivity": plain(self.measured_positivity),
            "seconds": self.seconds,
            "fit_seconds": self.history.seconds,
            "steps": self.history.steps,
            "generated": len(self.generated),
            "scored": self.scored,
            "observables": observables,
            "baselines": [score.to_json() for score in self.baselines],
            "curve": [score.to_json() for score in self.curve],
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

    def arrays(self) -> dict[str, Tensor]:
        """All arrays that are known, whole matrices too."""
        named = {f"sigma_{axis}": one for axis, one in self.local.items()}
        named |= {f"sigma_{axis}_sigma_{axis}": two for axis, two in self.correlators.items()}
        named["occupation"] = self.occupation
        arrays = {f"{n}_{kind}": t for n, of in named.items() for kind, t in of.arrays().items()}
        if self.density_matrix is not None:
            arrays["density_matrix"] = self.density_matrix.value
            arrays["density_matrix_exact"] = self.density_matrix.exact
        return {name: t for name, t in arrays.items() if t is not None}


def _listed(
    compared: Compared, pick: Callable[[Tensor], Tensor] = lambda values: values
) -> dict[str, Any]:
    """Numbers for JSON."""
    names = ("value", "stderr", "measured", "measured_stderr", "exact")
    arrays = zip(names, compared.arrays().values(), strict=True)
    return {name: None if t is None else pick(t).tolist() for name, t in arrays}
