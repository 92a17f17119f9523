"""Hopfield network: patterns as minima of an energy, recalled by going downhill.

Hopfield 1982, PNAS 79, 2554, for P patterns ξ^μ of N spins ±1:

    E(s) = −½ Σ_{i≠j} J_ij s_i s_j,      s_i ← sign Σ_j J_ij s_j,  one spin after another

    Hebb's rule       J = ΞᵀΞ / N, which recalls up to P ≈ 0.138 N random patterns
                      (Amit, Gutfreund & Sompolinsky 1985)
    pseudo-inverse    J = Ξ⁺Ξ, the projector on the patterns (Personnaz, Guyon & Dreyfus 1985): each of
                      up to N linearly independent patterns is a fixed point

Both are J = AᵀA. With one Gaussian unit m for each row of A the network is a Boltzmann machine of two
layers (Barra, Bernacchia, Santucci & Contucci 2012): e^(½β ‖As‖²) ∝ ∫ dm e^(−½ m² + √β mᵀA s).
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from likely.contract import Positive, Rows, register
from likely.contract.inputs import accept_partly_known
from likely.core.columns import Binary, Spin
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.likelihood import Figure
from likely.core.random import seeded
from likely.models.energy.boltzmann import Beta, BoltzmannMachine, binary_codes, binary_rows, drawn
from likely.models.energy.patterns import AssociativeMemory

Storage = Literal["hebbian", "pseudo-inverse"]

SWEEPS = 100  # after which a recall that has not settled ends
TIE = 1e-5  # a field below this counts as zero


@register(
    "hopfield",
    title="Hopfield network",
    density="exact up to 20 spins, else an estimate",
    constraint="pairwise couplings by a formula; stores few patterns",
    paper="Hopfield 1982",
)
class Hopfield(AssociativeMemory, BoltzmannMachine):
    """Binary Hopfield network, which stores rows of the training split as patterns.

    As a distribution it is Boltzmann's, p(s) ∝ e^(−E(s)/T): exact up to 20 spins, by annealed
    importance sampling beyond. Its wells lie at the patterns, at their negatives and at mixtures of
    them; how often the patterns occurred in the data it does not know.

    Parameters
    ----------
    domain : Domain
        Of spins, or of binary columns, whose zeros count as −1.
    storage : {"hebbian", "pseudo-inverse"}
        Which couplings hold the patterns: Hebb's rule, or those of which each is a fixed point.
    patterns : int, optional
        How many rows are stored, drawn at random; by default a tenth of the number of spins, which
        Hebb's rule can just hold.
    temperature : float
        T, in units of the coupling.
    sample_steps : int
        Gibbs steps of a sample, where the states cannot be enumerated.

    Raises
    ------
    LikelyError
        If an option is out of range.

    Examples
    --------
    >>> import torch
    >>> import likely as lk
    >>> x = lk.targets.ising(10, 10, 5.0).sample(20, 0)
    >>> network = lk.energy.Hopfield(lk.spins(10, 10), storage="pseudo-inverse", patterns=20)
    >>> network.store(x)
    >>> known = torch.arange(100).view(10, 10) < 70
    >>> bool((network.complete(x, known, seed=0) == x).double().mean() > 0.9)
    True
    """

    accepts = frozenset({Binary, Spin})

    def __init__(
        self,
        domain: Domain,
        *,
        storage: Storage = "hebbian",
        patterns: int | None = None,
        temperature: Positive = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.storage, self.temperature = storage, temperature
        self.room = max(1, domain.size // 10) if patterns is None else patterns
        self.factor = nn.Buffer(torch.zeros(self.room, domain.size))  # A

    # Storage and recall.

    def _store(self, x: Rows) -> None:
        xi, _ = self._units(x)
        if self.storage == "hebbian":
            a = xi / math.sqrt(self.domain.size)
        else:
            _, singular, right = torch.linalg.svd(xi.double(), full_matrices=False)
            a = right[singular > 1e-6 * singular.max()].to(xi)
        self.factor.zero_()[: len(a)] = a

    @property
    def couplings(self) -> Float[Tensor, "spins spins"]:
        """J, with zeros on its diagonal."""
        return (self.factor.T @ self.factor).fill_diagonal_(0)

    @torch.no_grad()
    def recall(self, x: Rows, *, seed: int | None = None) -> Rows:
        """The states where rows come to rest when their spins follow their fields, one by one.

        Each sweep goes through the spins in a random order; the energy falls until a minimum is
        reached, or 100 sweeps are over.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        seed : int, optional
            Of the orders.

        Raises
        ------
        DataError
            If a row lies outside the domain.
        LikelyError
            If nothing is stored.
        """
        s, _ = self._units(self._accept_for_recall(x))
        with seeded(seed, self.device):
            return self._rows(self._settled(s, torch.zeros_like(s, dtype=torch.bool)))

    @torch.no_grad()
    def complete(
        self, x: Rows, known: Tensor, *, context: Tensor | None = None, seed: int | None = None
    ) -> Rows:
        """Recall what the mask `known` leaves open; the known spins stay.

        The open spins start along the field of the known ones. The result is a minimum of the energy,
        not a draw at the temperature. Parameters and errors are those of `Completes.complete`.
        """
        x, known, _ = accept_partly_known(self, x, known, context)
        known = known.flatten(1)
        s = torch.where(known, self._units(x)[0], 0.0)
        with seeded(seed, self.device):
            start = s @ self.couplings + 1e-6 * torch.randn_like(s)  # noise settles what is open
            return self._rows(self._settled(torch.where(known, s, start.sign()), known))

    def _settled(self, s: Float[Tensor, "n spins"], fixed: Bool[Tensor, "n spins"]) -> Tensor:
        couplings, s = self.couplings, s.T.clone()
        for _ in range(SWEEPS):
            before = s.clone()
            for i in torch.randperm(len(s)).tolist():
                field = couplings[i] @ s
                s[i] = torch.where(fixed[:, i] | (field.abs() < TIE), s[i], field.sign())
            if torch.equal(before, s):
                break
        return s.T

    # The distribution.

    def _units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s = 2 * binary_codes(self.domain, x, self.factor.dtype) - 1
        return s, s.new_zeros(len(s))

    def _rows(self, v: Tensor) -> Tensor:
        return binary_rows(self.domain, (v > 0).long())

    def _field(self, v: Tensor) -> Tensor:
        return v @ self.factor.T

    def _free_energy(self, v: Tensor, field: Tensor, beta: Beta = 1.0) -> Tensor:
        return beta * (self.factor.square().sum() - field.square().sum(-1)) / (2 * self.temperature)

    def _gibbs(self, field: Tensor, beta: Beta) -> Tensor:
        root = math.sqrt(beta / self.temperature)
        m = root * field + torch.randn_like(field)
        return 2 * drawn((2 * root * m @ self.factor).sigmoid()) - 1

    def _base(self, n: int) -> Tensor:
        return 2 * drawn(self.factor.new_full((n, self.domain.size), 0.5)) - 1

    def _log_base(self, v: Tensor) -> Tensor:
        return v.new_full((len(v),), -self.domain.size * math.log(2))

    @property
    def enumerated(self) -> int:
        return self.domain.size

    def _given(self, states: Tensor) -> Tensor:
        return 2 * states - 1

    def _log_weight(self, states: Tensor) -> Tensor:
        v = self._given(states)
        return -self._free_energy(v, self._field(v))


def capacity(
    loads: Sequence[float],
    *,
    units: int = 500,
    storage: Storage = "hebbian",
    flipped: float = 0.15,
    networks: int = 1,
    seed: int | None = None,
) -> list[Figure]:
    """The capacity curve: how well random patterns are recalled, by how many there are.

    Parameters
    ----------
    loads : sequence of float
        Patterns per unit, P/N.
    units : int
        N.
    storage : {"hebbian", "pseudo-inverse"}
    flipped : float
        Fraction of the spins that start with the wrong sign. From the patterns themselves small networks
        remember much beyond their capacity: 0.70 at a load of 0.18 with 500 units, 0.34 with 2,000.
    networks : int
        How many to average over; with one, the error is that of the mean over its patterns.
    seed : int, optional

    Returns
    -------
    list of Figure
        Mean overlap ξ·s/N of pattern and recalled state at each load: 1 where nothing is lost.

    References
    ----------
    Amit, Gutfreund & Sompolinsky 1985, Physical Review Letters 55, 1530.
    """
    domain, figures = Domain((units,), (Spin(),)), []
    with seeded(seed):
        for load in loads:
            if not load > 0:
                raise LikelyError(f"capacity: loads must be above 0, not {load}")
            overlaps = []
            for _ in range(networks):
                patterns = max(1, round(load * units))
                network = Hopfield(domain, storage=storage, patterns=patterns)
                xi = 2 * torch.randint(2, (patterns, units)) - 1
                network.store(xi)
                start = torch.where(torch.rand(xi.shape) < flipped, -xi, xi)
                overlaps.append((network.recall(start) * xi).double().mean(1))
            m = torch.stack([o.mean() for o in overlaps]) if networks > 1 else overlaps[0]
            error = (m.std() / math.sqrt(len(m))).item() if len(m) > 1 else None
            figures.append(Figure(m.mean().item(), error))
    return figures
