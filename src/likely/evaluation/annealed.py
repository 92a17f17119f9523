"""Annealed flows: flows from one temperature to the next, each mended by steps of a Markov chain.

Between a simple reference r and the target there are densities f_k ∝ r^(1−β) e^(−βE) with β = β_k, from
β_0 = 0 to β_K = 1. A flow T_k carries each draw on, a kernel that leaves f_k invariant moves it there, and

    y = T_k(x),   x ← kernel_k(y),      log w ← log w + log f_k(y) + log |det ∂T_k/∂x| − log f_{k−1}(x).

Then E[w h(x)] = Z E_p[h] for any h, however good the flows are; the density of x is not known, and not
needed. With identities for T_k that is annealed importance sampling, and with flows a stochastic
normalizing flow (Wu, Köhler & Noé 2020, arXiv:2002.06707). Each flow is trained by what its step loses,

    L_k = E_{f_{k−1}}[log f_{k−1}(x) − log f_k(T_k x) − log |det|] = KL(T_k f_{k−1} ‖ f_k) − log Z_k/Z_{k−1},

on draws that the steps before have brought, with their weights, and resampled where these have spread
(Arbel, Matthews & Doucet 2021, arXiv:2102.07501; CRAFT: Matthews et al. 2022, arXiv:2201.13117). No
gradient passes through a kernel, so that any will do.
"""

from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract.inputs import chunks
from likely.contract.options import Positive, Range, check_values
from likely.contract.reference import Reference
from likely.contract.registry import make
from likely.core.errors import DomainError, LikelyError
from likely.core.numbers import whole
from likely.core.random import seeded
from likely.core.target import Target
from likely.core.weights import effective
from likely.evaluation.weighted import Weighted, with_notes
from likely.models.flows.base import Flow
from likely.sampling import HMC, Sampler
from likely.sampling.annealing import Annealing, Kernel, systematic

CLIP = 5.0  # largest norm of a gradient


@dataclass(frozen=True, eq=False, repr=False)
class AnnealedFlow:
    """Flows between temperatures, and the kernels after them.

    Attributes
    ----------
    target : Target
    flows : list of Flow
        T_1 … T_K.
    betas : Tensor, shape (K + 1,)
        Inverse temperatures, from 0 to 1.
    moves : int
        Transitions of the kernel after each flow.
    losses : Tensor, shape (steps, K)
        L_k in training, whose sum is at least −log Z up to noise.
    base : Reference
        r.
    annealing : Annealing
        f_k, and the kernels.
    """

    target: Target
    flows: list[Flow]
    betas: Float[Tensor, " temperatures"]
    moves: int
    losses: Float[Tensor, "steps flows"]
    base: Reference
    annealing: Annealing

    def sample(self, n: int, seed: int | None = None) -> Weighted:
        """Independent draws with exact weights for the target.

        Nothing is resampled here, so that the errors of `Weighted` hold.

        Parameters
        ----------
        n : int
        seed : int, optional
            The same seed gives the same draws.
        """
        n = whole("n", n)
        if n < 2:
            raise LikelyError(f"n={n}: at least 2 draws are needed")
        parts = []
        with torch.no_grad(), seeded(seed):
            for at in chunks(self.target.domain, n):
                x = self.base.sample(at.stop - at.start)
                log_weight = torch.zeros(len(x), dtype=torch.float64)
                for k in range(len(self.flows)):
                    y, gain = self._carry(k, x)
                    log_weight += gain
                    x = self._move(k, y)
                parts.append((x, log_weight, self.annealing.energy(x).double()))
        x, log_weight, energy = (torch.cat(part) for part in zip(*parts, strict=True))
        name = f"annealed {type(self.flows[0]).__name__}"
        domain = self.target.domain
        return with_notes(
            Weighted(x, log_weight, energy, model=name, target=self.target.name, domain=domain)
        )

    def _carry(self, k: int, x: Tensor) -> tuple[Tensor, Float[Tensor, " n"]]:
        """y = T(x) of the k-th flow, and what its step adds to log w."""
        before, after = self.betas[k : k + 2].tolist()
        y, log_det = self.flows[k].carry(x)
        gain = self.annealing.energy_at(before)(x) - self.annealing.energy_at(after)(y)
        return y, gain.double() + log_det

    def _move(self, k: int, y: Tensor) -> Tensor:
        for _ in range(self.moves):
            y = self.annealing.move(y, self.betas[k + 1].item())
        return y

    def _train(self, batch: int, rate: float, resample: float) -> None:
        """CRAFT, with as many steps as there is room for losses."""
        parameters = [p for flow in self.flows for p in flow.parameters()]
        optimizer = torch.optim.Adam(parameters, rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(self.losses))
        for losses in self.losses:
            optimizer.zero_grad()
            x = self.base.sample(batch)
            log_weight = torch.zeros(batch, dtype=torch.float64)
            for k in range(len(self.flows)):
                y, gain = self._carry(k, x)
                loss = -(log_weight.softmax(0) * gain).sum()
                loss.backward()
                losses[k] = loss.detach()
                log_weight, x = log_weight + gain.detach(), y.detach()
                with torch.no_grad():
                    if effective(log_weight) < resample * batch:
                        x = x[systematic(log_weight.softmax(0))]
                        log_weight = torch.zeros_like(log_weight)
                    x = self._move(k, x)
            if torch.nn.utils.clip_grad_norm_(parameters, CLIP).isfinite():
                optimizer.step()
            schedule.step()


def annealed_flow(
    target: Target,
    flow: str = "nsf-coupling",
    *,
    temperatures: int = 8,
    steps: int = 500,
    batch: int = 256,
    rate: Positive = 2e-3,
    kernel: Sampler | Kernel | None = None,
    moves: int = 1,
    resample: Annotated[float, Range(0, 1)] = 0.3,
    seed: int | None = None,
    **options: Any,
) -> AnnealedFlow:
    """Train flows between temperatures for a target (CRAFT), to draw from it with exact weights.

    Parameters
    ----------
    target : Target
        With an energy, or a density, on continuous columns.
    flow : str
        Name of a flow with layers, as in `lk.models()`: one is made for each temperature.
    temperatures : int
        How many; a pilot run places them so that each would lose the same effective sample size
        without flows, and tunes the step of a `Sampler`.
    steps, batch : int
        Of the training, and draws in each.
    rate : float
        Of Adam; it falls to zero as a cosine.
    kernel : Sampler, or callable (x, beta) -> x, optional
        Leaves f_β invariant. By default `HMC` of 5 leapfrogs.
    moves : int
        Its transitions after each flow.
    resample : float
        In training, draws are resampled where less than this part of them is effective.
    seed : int, optional
    **options
        Of the flow.

    Returns
    -------
    AnnealedFlow
        Its `sample` gives a `Weighted`.

    Raises
    ------
    LikelyError
        If the target has no energy or has a context, the kernel does not leave its density invariant, the
        flow has no layers, or an option is out of range.
    DomainError
        If the flow does not take the domain, or dequantises its columns.

    Examples
    --------
    >>> import likely as lk
    >>> target = lk.targets.double_well(4.0)
    >>> flow = lk.annealed_flow(target, temperatures=3, steps=10, seed=0, transforms=2)
    >>> flow.sample(1000, seed=1).samples.shape
    torch.Size([1000, 1])
    """
    hints = get_type_hints(annealed_flow, include_extras=True)
    given = {"temperatures": temperatures, "steps": steps, "batch": batch, "moves": moves}
    check_values("annealed_flow", given | {"rate": rate, "resample": resample}, hints, {})
    if target.context is not None:
        raise LikelyError(f"{target.name}: the energy has a context: fix its value")
    with seeded(seed):
        flows = [_made(flow, target, options) for _ in range(temperatures)]
        base = Reference(target.domain)
        x = base.sample(max(batch, 512))
        target.energies(x)
        energy = target.energy or (lambda x: -target.log_prob(x))  # type: ignore[misc]
        kernel = HMC(0.1, domain=target.domain, leapfrogs=5) if kernel is None else kernel
        annealing = Annealing(energy, base, kernel, None)
        with torch.no_grad():
            annealing.check(x)
            betas = annealing.schedule(x, temperatures)
        losses = torch.empty(steps, temperatures)
        trained = AnnealedFlow(target, flows, betas, moves, losses, base, annealing)
        with torch.enable_grad():
            trained._train(batch, rate, resample)
    return trained


def _made(name: str, target: Target, options: dict[str, Any]) -> Flow:
    model = make(name, target.domain, **options)
    if not isinstance(model, Flow) or not hasattr(model, "transforms"):
        raise LikelyError(f"flow={name!r}: this has no layers; give a flow such as nsf-coupling")
    if not model.view.exact:
        raise DomainError(
            f"{target.name}: flows carry continuous columns only: use lk.sampling.SMC or ais with Gibbs"
        )
    return model.eval()
