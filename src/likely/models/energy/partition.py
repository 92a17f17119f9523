"""What models that know their density up to log Z share: an estimate of it, kept with its parameters."""

import math
import warnings
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import GenerativeModel, Rows, options
from likely.contract.inputs import accept, as_rows
from likely.core.domain import Domain
from likely.core.errors import EstimateWarning
from likely.core.files import checksum
from likely.core.likelihood import Figure
from likely.core.random import seeded
from likely.sampling import Annealed
from likely.sampling.ais import low_ess


class Unnormalised(GenerativeModel):
    """A model whose log-probability is −F(x) − log Z.

    An estimate of log Z by annealed importance sampling is kept, and saved, together with a checksum
    of the parameters that it belongs to.

    A subclass writes `_energy`, which is F; `_units`, what its samplers move; `_anneal`, their run from
    a base; and `_known_log_z`, where log Z need not be estimated.
    """

    takes_context = False
    methods: ClassVar[Any]  # ways to log Z, a Literal
    effort: ClassVar[tuple[int, int]]  # temperatures and chains by default

    def __init__(self, domain: Domain, *, context: Domain | None = None) -> None:
        super().__init__(domain, context=context)
        # log Z, its standard error, and the effective number of chains.
        self.log_z_found = nn.Buffer(torch.zeros(3))
        self.log_z_effort = nn.Buffer(torch.zeros(2, dtype=torch.int64))  # betas, chains
        self.log_z_owner = nn.Buffer(torch.zeros(32, dtype=torch.uint8))

    @abstractmethod
    def _energy(self, x: Rows) -> Float[Tensor, " n"]:
        """F(x)."""

    @abstractmethod
    def _units(self, x: Rows) -> tuple[Float[Tensor, "n units"], Tensor]:
        """States v of what the samplers move, and log |dv/dx|."""

    @abstractmethod
    def _anneal(self, *, chains: int, reverse: bool, **run: Any) -> Annealed:
        """`ais` with these options; `init` holds states v."""

    @abstractmethod
    def _known_log_z(self, method: str) -> Figure | None:
        """log Z where "auto", or the method that is asked for, does without annealing."""

    def free_energy(self, x: Rows) -> Float[Tensor, " n"]:
        """F(x) = −log p(x) − log Z in nats, differentiable; infinite outside the domain.

        Where columns are dequantised it is that of one draw of the noise.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        """
        inside, x, _ = accept(self, x, None)
        return torch.where(inside, self._energy(x), math.inf)

    def log_z(
        self,
        *,
        method: str = "auto",
        betas: int | None = None,
        chains: int | None = None,
        seed: int | None = None,
    ) -> Figure:
        """log Z in nats, with its standard error unless it is exact.

        An annealed estimate for the same parameters, made before with as many temperatures and chains
        or more, is returned again; `annealed` makes a new one, and says more about it. An
        `EstimateWarning` says if its error is too small.

        Parameters
        ----------
        method : {"auto", "ais", "exact", "integral"}
            By annealed importance sampling. Or, of Boltzmann machines, exactly, by enumeration of a
            layer: "auto" enumerates up to 20 units. Or, of an `EBM`, by the mean of e^(−f) over
            low-discrepancy points of the base, whose error is that between independent scramblings:
            "auto" integrates in up to three columns.
        betas, chains : int, optional
            Temperatures and chains of annealed importance sampling; by default as in `annealed`.
        seed : int, optional
            Of those chains.

        Raises
        ------
        DensityError
            If the method is "exact" and each layer has more units than that.
        LikelyError
            If the method is "integral" and there are too many columns, or it is not one of the model's.
        """
        options.check_values("log_z", {"method": method}, {"method": self.methods}, {})
        if method != "ais" and (known := self._known_log_z(method)):
            return known
        betas, chains = self._effort(betas, chains)
        if not self._knows(betas, chains):
            self.annealed(betas=betas, chains=chains, seed=seed, reverse=False)
        value, stderr, ess = self.log_z_found.tolist()
        if note := low_ess(ess, int(self.log_z_effort[1])):
            warnings.warn(f"log Z: {note}", EstimateWarning, stacklevel=3)
        return Figure(value, stderr)

    def annealed(
        self,
        *,
        betas: int | None = None,
        chains: int | None = None,
        reverse: bool = True,
        init: Rows | None = None,
        seed: int | None = None,
    ) -> Annealed:
        """log Z by annealed importance sampling, forwards and backwards.

        Parameters
        ----------
        betas, chains : int, optional
            Temperatures and chains: 10,000 and 512 of Boltzmann machines by default, 200 and 256 of an
            `EBM`, with a step of HMC at each temperature.
        reverse : bool
            Whether to run backwards, too: from exact samples where a layer can be enumerated, and
            else from chains of 1,000 steps.
        init : Tensor, shape (n, *domain.shape), optional
            Where those chains start, such as training rows; by default at the forward run's ends.
        seed : int, optional

        Returns
        -------
        Annealed
            Its `samples` are states of the visible units, or rows of the domain of an `EBM`.

        References
        ----------
        Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks".
        """
        betas, chains = self._effort(betas, chains)
        with torch.no_grad(), seeded(seed, self.device):
            if init is not None:
                init = self._units(as_rows(init, self.domain, "init").to(self.device))[0]
            found = self._anneal(betas=betas, chains=chains, reverse=reverse, init=init)
        if not (self._knows(betas + 1, chains) or self._knows(betas, chains + 1)):
            self._keep(found, betas, chains)
        return found

    def _effort(self, betas: int | None, chains: int | None) -> tuple[int, int]:
        default = self.effort
        return default[0] if betas is None else betas, default[1] if chains is None else chains

    def _keep(self, found: Annealed, betas: int, chains: int) -> None:
        """Remember an estimate that is the best so far."""
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
