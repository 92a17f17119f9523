"""Training on an energy: the reverse Kullback–Leibler divergence, for models of which no rows are known.

With w(x) = e^(−E(x))/q(x) and x ~ q the variational free energy

    F = E_q[log q(x) + E(x)] = −log Z + KL(q ‖ p) ≥ −log Z

falls by one of three estimates of its gradient, all without bias:

reparametrised  that of log q(x) + E(x) along x = g_θ(z)
path            the same without its part at fixed x, whose mean is zero: it vanishes, draw by draw, at q = p
                (Roeder, Wu & Duvenaud 2017, arXiv:1703.09194; Vaitl et al. 2022, arXiv:2206.09016)
reinforce       (l − l̄) ∂ log q(x) with l = log q + E, and l̄ the mean over the other draws of the batch
                (Wu, Wang & Zhang 2019, PRL 122, 080602; Białas et al. 2024, CPC 298, 109094)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract.abilities import FitsByEpochs, Reparametrised
from likely.contract.inputs import context_features, sample_with_log_prob
from likely.contract.model import GenerativeModel
from likely.contract.reference import Reference
from likely.contract.registry import entries
from likely.contract.training import Batch, Objective, Stage
from likely.core.errors import DivergenceError, DomainError, LikelyError
from likely.core.random import seeded
from likely.core.target import Target
from likely.core.weights import effective, largest_share
from likely.data import Data
from likely.fitting.plan import Plan
from likely.fitting.sources import VALID_ENTRIES, VALID_SEED, DataSource, Score
from likely.sampling import HMC

EPOCH = 100  # steps that count as one where there are no rows
PREPARE_ROWS = 2048
VALID_DRAWS = 1 << 13
DIVE = 1e6  # deviations of the first log-weights below the first free energy: there is no bottom

Energy = Callable[[Tensor, Tensor | None], Float[Tensor, " n"]]
Estimate = Callable[
    [GenerativeModel, Energy, int, Tensor | None], tuple[Float[Tensor, " n"], Float[Tensor, " n"]]
]


def reparametrised(
    model: GenerativeModel, energy: Energy, n: int, context: Tensor | None
) -> tuple[Tensor, Tensor]:
    """log q + E of n draws, and a surrogate whose gradient estimates that of F; here they are one."""
    x, log_q = cast(Reparametrised, model).rsample_with_log_prob(n, context=context)
    value = log_q + energy(x, context)
    return value.detach(), value


def path(
    model: GenerativeModel, energy: Energy, n: int, context: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `reparametrised`, for the path gradient."""
    x, _ = cast(Reparametrised, model).rsample_with_log_prob(n, context=context)
    with torch.enable_grad():  # also where a loss is only looked at
        at = x.detach().requires_grad_()
        value = model._log_prob(at, context_features(model, context, n)) + energy(at, context)
        (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), (slope * x).flatten(1).sum(1)


def reinforce(
    model: GenerativeModel, energy: Energy, n: int, context: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `reparametrised`, for the gradient by the score of q, with a leave-one-out baseline."""
    x = model.sample(n, context=context)
    log_q = model._log_prob(x, context_features(model, context, n))
    value = log_q.detach() + energy(x, context)
    advantage = (value - value.mean()) * (n / max(n - 1, 1))
    return value, advantage * log_q


ESTIMATES: dict[str, Estimate] = {
    "path": path,
    "reparametrised": reparametrised,
    "reinforce": reinforce,
}


@dataclass(eq=False)
class EnergySource:
    """Batches for a fit to an energy: numbers of draws, with contexts, and rows where there are some.

    Parameters
    ----------
    target : Target
        With an energy.
    plan : Plan
    data : Data, optional
        Rows whose negative log-likelihood is added to the free energy.
    """

    target: Target
    plan: Plan
    data: Data | None = None

    def __post_init__(self) -> None:
        self.rows = None if self.data is None else DataSource(self.data)
        self.reference = Reference(self.target.domain)
        self.contexts = None if self.target.context is None else Reference(self.target.context)
        self.cut_draws = 0
        self.bottom: float | None = None

    # What the loop asks for.

    def __len__(self) -> int:
        return EPOCH * self.plan.batch if self.rows is None else len(self.rows)

    def order(self, seed: int) -> Tensor:
        return torch.arange(len(self)) if self.rows is None else self.rows.order(seed)

    def batch(self, index: Tensor) -> Batch:
        if self.rows is not None:
            return self.rows.batch(index)
        return Batch(torch.empty(len(index), 0), self._contexts(len(index)))

    def held_out(self) -> Batch:
        return Batch(torch.empty(0, 0)) if self.rows is None else self.rows.held_out()

    def prepare(self, seed: int) -> Batch:
        """Rows that start the model: given ones, those of a pilot run, or the reference's."""
        if self.rows is not None:
            return self.rows.prepare(seed)
        with seeded(seed):
            context = self._contexts(2 * PREPARE_ROWS)
            x = self._pilot(seed) if self.plan.pilot else self.reference.rows(PREPARE_ROWS)
        return Batch(x, context)

    def stages(self, model: GenerativeModel) -> list[Stage]:
        """One stage, whose loss is the free energy."""
        gradient = self.plan.gradient
        assert gradient is not None
        parameters = [p for p in model.parameters() if p.requires_grad]

        def loss(batch: Batch) -> Tensor:
            model.eval()  # without dropout: draws and their density are those of one network
            value, surrogate = ESTIMATES[gradient](
                model, self._annealed(batch.progress), len(batch), batch.context
            )
            if batch.progress >= self.plan.annealing:
                self._look_down(value)  # before numbers overflow, which would tell nothing
            total = (value + surrogate - surrogate.detach()).mean()
            if self.rows is None:
                return total
            model.train()
            return total + batch.mean(model.loss(batch))

        return [Stage(lambda: [Objective("free energy", parameters, loss)])]

    def score(self, model: GenerativeModel) -> Score:
        """−F on fixed noise, and what the log-weights of the draws look like."""
        enough = min(VALID_DRAWS, EPOCH * self.plan.batch // 8)  # for a small part of the time
        n = max(256, min(enough, VALID_ENTRIES // model.domain.size))
        with torch.no_grad(), seeded(VALID_SEED, model.device):
            context = self._contexts(n, model.device)
            x, log_q = sample_with_log_prob(model, n, context)
            value = log_q.double() + self.energy(x, context).double()
        free_energy, deviation = value.mean().item(), value.std().item()
        self._look_down(value)
        figures = {
            "free_energy": free_energy,
            "std_log_weight": deviation,
            "ess": effective(-value) / n,
            "largest_weight": largest_share(-value),
        }
        if self.plan.energy_cut is not None:
            figures["cut"] = float(self.cut_draws)
        score = -free_energy
        if self.rows is not None:
            rows = self.rows.score(model)
            assert rows.value is not None
            figures["rows"] = rows.value
            score += rows.value
        return Score(score, deviation / math.sqrt(n), figures)

    # Energies.

    def energy(self, x: Tensor, context: Tensor | None = None) -> Float[Tensor, " n"]:
        """The target's energy of rows, checked, and cut if that is asked for.

        Raises
        ------
        LikelyError
            If it is not a real number for each row.
        """
        value = self.target.energies(x, context)
        cut = self.plan.energy_cut
        if cut is None:
            return value
        above = value > cut
        self.cut_draws += int(above.sum())
        return torch.where(above, cut + torch.where(above, value - cut, 0.0).log1p(), value)

    def _annealed(self, progress: float) -> Energy:
        """β E − (1 − β) log r, where β rises from 0 to 1 and r is the reference."""
        annealing = self.plan.annealing
        if progress >= annealing:
            return self.energy
        beta = progress / annealing

        def energy(x: Tensor, context: Tensor | None) -> Tensor:
            value = self.energy(x, context)
            return beta * value - (1 - beta) * self.reference.log_prob(x).to(value)

        return energy

    def _look_down(self, value: Float[Tensor, " n"]) -> None:
        """Raise if the mean of log q + E has dived below that of the first draws."""
        free_energy = value.mean().item()
        if self.bottom is None and math.isfinite(free_energy):
            self.bottom = free_energy - DIVE * (1 + value.std(correction=0).item())
        if self.bottom is not None and free_energy < self.bottom:
            raise DivergenceError(
                f"{self.target.name}: the free energy has dived to {free_energy:.3g}: the energy has no "
                "lower bound where the model draws; bound the domain, or mend the energy"
            )

    def _contexts(self, n: int, device: torch.device | None = None) -> Tensor | None:
        return None if self.contexts is None else self.contexts.sample(n).to(device)

    def _pilot(self, seed: int) -> Tensor:
        """States of a short run of HMC from the reference."""
        if self.target.domain.discrete:
            return self.reference.rows(PREPARE_ROWS)
        if self.target.context is not None:
            raise LikelyError("pilot: the energy has a context; leave pilot out")
        start = self.reference.sample(PREPARE_ROWS // 8)
        sampler = HMC(0.1, domain=self.target.domain)
        assert self.target.energy is not None
        chain = sampler.run(self.target.energy, start, 80, seed, burn_in=200, thin=10)
        return chain.samples.flatten(0, 1)

    def checksum(self) -> str:
        return self.target.name if self.rows is None else self.rows.checksum()

    def describe(self) -> dict[str, Any]:
        """The target by its energies of a few fixed states, to four digits."""
        with seeded(0), torch.no_grad():
            x = self.reference.sample(8)
            value = self.energy(x, self._contexts(8))
        energies = [f"{e:.4g}" for e in value.tolist()]
        rows = None if self.rows is None else self.rows.describe()
        return {"source": self.target.name, "energies": energies, "rows": rows}


def check_target(model: GenerativeModel, target: Target) -> None:
    """Raise if a model cannot be trained on a target's energy.

    Raises
    ------
    DomainError
        If they are on different domains.
    LikelyError
        If there is no energy, or the family can't; the message names those that can.
    """
    if target.energy is None:
        raise LikelyError(
            f"{target.name}: there is no energy; draw rows from it by lk.load_data(target)"
        )
    if model.domain != target.domain or model.context != target.context:
        raise DomainError(
            f"the model was built for another domain or context than those of {target.name}: build it with "
            "lk.make(name, target.domain, context=target.context)"
        )
    if not model.energy_gradients or isinstance(model, FitsByEpochs):
        able = [
            name
            for name, entry in entries().items()
            if entry.cls.energy_gradients and entry.takes(target.domain)
        ]
        rows = ", or draw rows from it with lk.load_data(target)" if target.sample else ""
        raise LikelyError(
            f"{type(model).__name__} cannot be trained on an energy: take one of {', '.join(able)}{rows}"
        )
