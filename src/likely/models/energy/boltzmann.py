"""What Boltzmann machines share: log Z by enumeration or by annealing, likelihoods and samples.

Their probability is e^(−F(x)) / Z. Annealing joins an independent base at β = 0 with the model at
β = 1 by densities e^(−F_β), each with a block Gibbs step that leaves it invariant.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from likely.contract import Rows
from likely.core.columns import Discrete
from likely.core.domain import Domain
from likely.core.errors import DensityError
from likely.core.likelihood import Estimator, Figure, Kind
from likely.core.random import seeded
from likely.core.runtime import fast_products
from likely.models.energy.partition import Unnormalised
from likely.sampling import Annealed, ais

ENUMERATED = 20  # units at most of a layer that is summed over
BLOCK = 1 << 22  # numbers at a time while it is

Beta = float | Tensor
Method = Literal["auto", "exact", "ais"]


def drawn(probability: Tensor) -> Tensor:
    """Zeros and ones."""
    return torch.rand_like(probability).lt_(probability.detach())


class BoltzmannMachine(Unnormalised):
    """A model whose log-probability is −F(x) − log Z, with units that a block Gibbs step redraws.

    log Z is exact where a layer has at most 20 binary units, and estimated by annealed importance
    sampling otherwise; such an estimate is kept, and saved, together with a checksum of the
    parameters that it belongs to. Samples are exact where log Z is. Otherwise they are the ends of
    Gibbs chains of `sample_steps`, which start at the base and reach β = 1 after half of them.

    A subclass sees states v of its own units, floating and of shape (n, units).
    """

    of_one_kind = True
    free_energy_is = Kind.EXACT  # what e^(−F(x)) is, compared with Z p(x)
    methods = Method
    effort = 10_000, 512
    validation: ClassVar[dict[str, Any]] = {"betas": 200, "chains": 50}

    def __init__(self, domain: Domain, *, sample_steps: int = 1000, **options: Any) -> None:
        super().__init__(domain, **options)
        self.sample_steps = sample_steps
        self._summed: tuple[str, Tensor] | None = None  # checksum, and log-weights of all states

    # What a subclass writes.

    @property
    @abstractmethod
    def enumerated(self) -> int:
        """Number of binary units of the smaller layer, whose states can be summed over."""

    @abstractmethod
    def _log_weight(self, states: Float[Tensor, "n enumerated"]) -> Float[Tensor, " n"]:
        """Unnormalised log-probability of states (0 or 1) of that layer."""

    @abstractmethod
    def _given(self, states: Float[Tensor, "n enumerated"]) -> Float[Tensor, "n units"]:
        """Draws of v given states of that layer."""

    @abstractmethod
    def _rows(self, v: Float[Tensor, "n units"]) -> Tensor:
        """Inverse of `_units`."""

    @abstractmethod
    def _base(self, n: int) -> Float[Tensor, "n units"]:
        """Draws at β = 0."""

    @abstractmethod
    def _log_base(self, v: Float[Tensor, "n units"]) -> Float[Tensor, " n"]:
        """Their normalised log-density."""

    @abstractmethod
    def _field(self, v: Float[Tensor, "n units"]) -> Float[Tensor, "n hidden"]:
        """What v does to the hidden units: the costly part of F and of a Gibbs step."""

    @abstractmethod
    def _free_energy(self, v: Tensor, field: Tensor, beta: Beta = 1.0) -> Tensor:
        """F_β(v)."""

    @abstractmethod
    def _gibbs(self, field: Float[Tensor, "n hidden"], beta: Beta) -> Float[Tensor, "n units"]:
        """v after a step at β from a state with this field."""

    # Density.

    @property
    def _summable(self) -> bool:
        return self.enumerated <= ENUMERATED

    @property
    def density(self) -> Kind:
        return self.free_energy_is + (Kind.EXACT if self._summable else Kind.ESTIMATE)

    def _energy(self, x: Tensor) -> Tensor:
        v, log_det = self._units(x)
        return self._free_energy(v, self._field(v)) - log_det

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        return -self._energy(x) - self._exact_log_z()

    def estimator(
        self,
        *,
        seed: int | None = None,
        method: Method = "auto",
        betas: int | None = None,
        chains: int | None = None,
    ) -> Estimator:
        """−F(x) − log Z; the options are those of `log_z`, whose error all rows share."""
        log_z = self.log_z(method=method, betas=betas, chains=chains, seed=seed)
        value, error = log_z.value, log_z.stderr
        kind = self.free_energy_is + (Kind.EXACT if error is None else Kind.ESTIMATE)
        return Estimator(lambda x, _: -self._energy(x)[None] - value, kind, error or 0.0)

    def _known_log_z(self, method: str) -> Figure | None:
        if self._summable:
            with torch.no_grad():
                return Figure(self._exact_log_z().item())
        if method == "exact":
            many = f"{self.enumerated} units of the smaller layer, of {ENUMERATED} at most"
            raise DensityError(f'{many}, are too many to enumerate: take method="ais"')
        return None

    def _anneal(self, *, chains: int, reverse: bool, **run: Any) -> Annealed:
        field = lru_cache(1)(self._field)  # both ends of an interval and the kernel need it
        exact = self._exact_states(chains) if reverse and self._summable else None
        return ais(
            lambda v: self._free_energy(v, field(v)),
            _Base(self),
            kernel=lambda v, beta: self._gibbs(field(v), beta),
            path=lambda v, beta: self._free_energy(v, field(v), beta),
            chains=chains,
            reverse=reverse,
            exact=exact,
            **run,
        )

    # Enumeration.

    def _states(self, index: Int64[Tensor, " n"]) -> Float[Tensor, "n enumerated"]:
        bits = torch.arange(self.enumerated, device=self.device)
        return (index[:, None] >> bits & 1).to(self.log_z_found.dtype)

    def _blocks(self) -> tuple[Int64[Tensor, " n"], ...]:
        """Numbers of all states, so many at a time."""
        rows = max(1, BLOCK // (self.domain.size + self.enumerated))
        return torch.arange(2**self.enumerated, device=self.device).split(rows)

    def _exact_log_z(self) -> Float[Tensor, ""]:
        """log Σ over all states; where gradients are wanted they are computed block by block."""
        if not torch.is_grad_enabled():
            return self._log_weights().logsumexp(0)

        def part(index: Tensor) -> Tensor:
            return self._log_weight(self._states(index)).logsumexp(0)

        sums: list[Any] = [checkpoint(part, i, use_reentrant=False) for i in self._blocks()]
        return torch.stack(sums).logsumexp(0)

    def _log_weights(self) -> Float[Tensor, " states"]:
        """Unnormalised log-probabilities of all states, kept until the parameters change."""
        owner = self._fingerprint()
        if self._summed is None or self._summed[0] != owner:
            parts = [self._log_weight(self._states(i)).double() for i in self._blocks()]
            self._summed = owner, torch.cat(parts)
        return self._summed[1]

    def _exact_states(self, n: int) -> Float[Tensor, "n units"]:
        """Independent draws of v."""
        cumulative = self._log_weights().softmax(0).cumsum(0)
        u = torch.rand(n, dtype=cumulative.dtype, device=self.device) * cumulative[-1]
        index = torch.searchsorted(cumulative, u, right=True).clamp_max(len(cumulative) - 1)
        return self._given(self._states(index))

    # Samples.

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        if self._summable:
            return self._rows(self._exact_states(n))
        with fast_products(self.device):
            v = self._base(n)
            for step in range(1, self.sample_steps + 1):
                v = self._gibbs(self._field(v), min(1.0, 2 * step / self.sample_steps))
        return self._rows(v)


@dataclass
class _Base:
    """The density at β = 0, as annealed importance sampling wants it."""

    model: BoltzmannMachine

    def log_prob(self, v: Tensor) -> Tensor:
        return self.model._log_base(v)

    def sample(self, n: int, *, seed: int) -> Tensor:
        with seeded(seed, self.model.device):
            return self.model._base(n)


def binary_codes(domain: Domain, x: Rows, dtype: torch.dtype) -> Tensor:
    """Binary columns or spins as zeros and ones, shape (n, size)."""
    column = domain.columns[0]
    assert isinstance(column, Discrete)
    code = x.flatten(1).to(dtype)
    return code if column.step == 1 else (code - column.low) / column.step


def binary_rows(domain: Domain, code: Shaped[Tensor, "n size"]) -> Rows:
    """Inverse of `binary_codes`, in the type of the codes."""
    column = domain.columns[0]
    assert isinstance(column, Discrete)
    return (column.low + column.step * code).reshape(-1, *domain.shape)
