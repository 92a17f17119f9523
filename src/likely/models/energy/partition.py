"""What models that know their density up to log Z share: an estimate of it, kept with its parameters."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from likely.contract.inputs import accept
from likely.contract.model import GenerativeModel
from likely.core.domain import Domain
from likely.core.errors import EstimateWarning
from likely.core.files import checksum
from likely.core.likelihood import Figure
from likely.sampling import Annealed
from likely.sampling.ais import low_ess


class Unnormalised(GenerativeModel):
    """A model whose log-probability is −F(x) − log Z.

    An estimate of log Z by annealed importance sampling is kept, and saved, together with a checksum
    of the parameters that it belongs to.

    A subclass writes `_energy`, which is F, and `annealed`, which calls `_keep`.
    """

    takes_context = False
    log_z_found: Tensor
    log_z_effort: Tensor
    log_z_owner: Tensor

    def __init__(self, domain: Domain, *, context: Domain | None = None) -> None:
        super().__init__(domain, context=context)
        # log Z, its standard error, and the effective number of chains.
        self.register_buffer("log_z_found", torch.zeros(3))
        self.register_buffer("log_z_effort", torch.zeros(2, dtype=torch.int64))  # betas, chains
        self.register_buffer("log_z_owner", torch.zeros(32, dtype=torch.uint8))

    @abstractmethod
    def _energy(self, x: Shaped[Tensor, "n *shape"]) -> Float[Tensor, " n"]:
        """F(x)."""

    @abstractmethod
    def annealed(
        self,
        *,
        betas: int,
        chains: int,
        reverse: bool = True,
        init: Shaped[Tensor, "n *shape"] | None = None,
        seed: int | None = None,
    ) -> Annealed:
        """log Z by annealed importance sampling, forwards and backwards."""

    def free_energy(self, x: Shaped[Tensor, "n *shape"]) -> Float[Tensor, " n"]:
        """F(x) = −log p(x) − log Z in nats, differentiable; infinite outside the domain.

        Where columns are dequantised it is that of one draw of the noise.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        """
        inside, x, _ = accept(self, x, None)
        return torch.where(inside, self._energy(x), math.inf)

    def _estimated_log_z(self, betas: int, chains: int, seed: int | None) -> Figure:
        """The estimate that is there for these parameters, if it took as much effort; or a new one.

        An `EstimateWarning` says if its error is too small.
        """
        if not self._knows(betas, chains):
            self.annealed(betas=betas, chains=chains, seed=seed, reverse=False)
        value, stderr, ess = self.log_z_found.tolist()
        if note := low_ess(ess, int(self.log_z_effort[1])):
            warnings.warn(f"log Z: {note}", EstimateWarning, stacklevel=4)
        return Figure(value, stderr)

    def _keep(self, found: Annealed, betas: int, chains: int) -> None:
        """Remember an estimate, unless there is a better one."""
        if self._knows(betas + 1, chains) or self._knows(betas, chains + 1):
            return
        self.log_z_found.copy_(torch.tensor([found.log_z.value, found.log_z.stderr, found.ess]))
        self.log_z_effort.copy_(torch.tensor([betas, chains]))
        self.log_z_owner.copy_(self._owner())

    def _knows(self, betas: int, chains: int) -> bool:
        """Whether there is an estimate for these parameters that took as much effort."""
        least = torch.tensor([betas, chains])
        enough = bool((self.log_z_effort.cpu() >= least).all())
        return enough and torch.equal(self._owner(), self.log_z_owner.cpu())

    def _owner(self) -> Tensor:
        return torch.frombuffer(bytearray.fromhex(self._fingerprint()), dtype=torch.uint8)

    def _fingerprint(self) -> str:
        """Checksum of all that the probabilities depend on."""
        state = self.state_dict().items()
        return checksum({name: t for name, t in state if not name.startswith("log_z")})
