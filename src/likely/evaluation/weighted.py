"""What the draws of a model are worth for a target: reweighting.

With w(x) = e^(−E(x))/q(x) and draws x of the model q

    Z = E_q[w],      ⟨f⟩ = E_q[w f]/E_q[w],      E_q[log w] ≤ log Z ≤ E_p[log w].

All of that is right for any q that reaches wherever the target p does; what finite numbers of draws
of q cannot show is a part of p that q leaves out, which draws of p do.

References
----------
Nicoli et al. 2020, Phys. Rev. E 101, 023304, arXiv:1910.13496; Hackett et al. 2021, arXiv:2107.00734
(eq. 31); Albergo, Kanwar & Shanahan 2019, Phys. Rev. D 100, 034515, arXiv:1904.12072.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract import Rows
from likely.contract.abilities import Reparametrised
from likely.contract.inputs import (
    accept_context,
    accept_inside,
    as_rows,
    chunks,
    sample_with_log_prob,
)
from likely.contract.model import GenerativeModel
from likely.core.domain import Domain
from likely.core.errors import DataError, DensityError, DomainError, LikelyError
from likely.core.likelihood import Figure, Kind, mean_and_error, plain
from likely.core.numbers import whole
from likely.core.target import Target, check_values
from likely.core.weights import (
    acceptances,
    bennett,
    effective,
    largest_share,
    log_mean,
    pareto_k,
)
from likely.sampling.chain import ESS, Chain
from likely.sampling.metropolis import chain_of_draws

HEAVY = 0.7  # k̂ above which the weights' mean is not to be trusted
LARGE = 0.1  # share of the weights that one draw should not have
APART = 5.0  # nats by which log q at an image or a mode may differ
FORWARD = 1 << 12  # draws of the target, which can cost more than those of the model
LOOKED_AT = 1024  # draws whose mirror images are scored
CHAINS = 16

Observable = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class Forward:
    """What draws of the target say about the model.

    Attributes
    ----------
    log_weight : Tensor, shape (chains, draws)
    kind : {"bound", "diagnostic"}
        Of independent draws the figures are what they claim to be; chains may miss a mode, too.
    """

    log_weight: Float[Tensor, "chains draws"]
    kind: Literal["bound", "diagnostic"]
    chain: Chain | None = None

    def average(self, value: Tensor) -> Figure:
        """Mean of a number that belongs to each draw."""
        if self.chain is None:
            return Figure(*mean_and_error(value.flatten()[:, None])[:, 0].tolist())
        return self.chain.average(value.view(self.log_weight.shape))

    @property
    def ess(self) -> float:
        """1/(E_p[w] E_p[1/w]), a part of the draws."""
        log_weight = self.log_weight.flatten()
        both = log_weight.logsumexp(0) + (-log_weight).logsumexp(0)
        return math.exp(2 * math.log(len(log_weight)) - both.item())


@dataclass(frozen=True, eq=False, repr=False)
class Weighted:
    """Draws of a model with their importance weights for a target.

    Attributes
    ----------
    samples : Tensor, shape (n, *domain.shape)
        Draws of the model.
    log_weight : Tensor, shape (n,)
        −E(x) − log q(x) in nats, in float64; of an `AnnealedFlow`, what stands for it.
    energy : Tensor, shape (n,)
    forward : Forward, optional
        The same of draws of the target.
    notes : tuple of str
        What speaks against the figures, in words; empty if nothing does.
    model, target : str
        Names.
    domain : Domain, optional
    """

    samples: Rows
    log_weight: Float[Tensor, " n"]
    energy: Float[Tensor, " n"]
    forward: Forward | None = None
    notes: tuple[str, ...] = ()
    model: str = "model"
    target: str = "target"
    domain: Domain | None = None

    def __len__(self) -> int:
        return len(self.log_weight)

    @cached_property
    def log_z(self) -> Figure:
        """log Z, the log of the weights' mean, with the delta method's error s.

        It is below log Z by s²/2 in the mean.
        """
        return log_mean(self.log_weight)

    @cached_property
    def elbo(self) -> Figure:
        """E_q[log w] = log Z − KL(q ‖ p), a lower bound of log Z."""
        return _mean(self.log_weight)

    @cached_property
    def ess(self) -> float:
        """Effective part of the draws, (Σ w)²/(n Σ w²): the reverse one, which sees no lost mode."""
        return effective(self.log_weight) / len(self)

    @cached_property
    def largest_share(self) -> float:
        """The largest weight as a part of their sum."""
        return largest_share(self.log_weight)

    @cached_property
    def k_hat(self) -> float:
        """Pareto's shape of the largest weights; above 0.7 their mean is not to be trusted."""
        return pareto_k(self.log_weight)

    @cached_property
    def acceptance(self) -> Figure:
        """Mean acceptance of independence Metropolis in equilibrium, E_q[min(w, w')]/E_q[w].

        One half of the draws is paired with the other.
        """
        half = len(self) // 2
        first, second = (self.log_weight - self.log_weight.max()).exp()[: 2 * half].view(2, -1)
        least, mean = torch.minimum(first, second), (first + second) / 2
        value = least.mean() / mean.mean()
        error = (least - value * mean).std() / mean.mean() / math.sqrt(half)
        return Figure(value.item(), error.item())

    @cached_property
    def tau_int(self) -> float:
        """Integrated autocorrelation time of that chain, from streaks of rejections.

        1 + 2 Σ_t P(t rejections in a row): that of observables which are independent of the weights. In
        steps, and twice the ½ + Σ_t ρ(t) of most lattice papers.
        """
        weight = self.log_weight.softmax(0)
        return 2 * (weight / acceptances(self.log_weight)).sum().item() - 1

    @property
    def tau_bound(self) -> float:
        """What it is at most for any observable, 2 max w/E[w] − 1, from the largest weight seen.

        Liu 1996, Statistics and Computing 6, 113.
        """
        return 2 * self.largest_share * len(self) - 1

    @property
    def forward_ess(self) -> float | None:
        """1/(E_p[w] E_p[1/w]): equal to `ess` up to noise where the model reaches all of the target."""
        return None if self.forward is None else self.forward.ess

    @cached_property
    def eubo(self) -> Figure | None:
        """E_p[log w] = log Z + KL(p ‖ q), an upper bound of log Z where draws of p are exact."""
        return None if self.forward is None else self.forward.average(self.forward.log_weight)

    @cached_property
    def bennett(self) -> Figure | None:
        """log Z by Bennett's acceptance ratio, from draws of both sides."""
        if self.forward is None:
            return None
        return bennett(self.log_weight, self.forward.log_weight.flatten(), self.forward.average)

    def expect(self, f: Observable) -> Figure:
        """Expectation of f under the target, Σ w f/Σ w.

        Parameters
        ----------
        f : callable (n, *domain.shape) -> (n,)
            Of the samples.

        Returns
        -------
        Figure
            With the delta method's error; its bias falls as 1/n.

        Raises
        ------
        LikelyError
            If f does not return a number for each row.
        """
        value, weight = self._values(f), self.log_weight.softmax(0)
        mean = (weight * value).sum()
        error = (weight * (value - mean)).norm()
        return Figure(mean.item(), error.item())

    def naive(self, f: Observable) -> Figure:
        """Expectation of f under the model, without weights; f as in `expect`."""
        return _mean(self._values(f))

    def _values(self, f: Observable) -> Tensor:
        value = f(self.samples)
        check_values(value, len(self), "the observable")
        return value.double()

    def chain(self, seed: int | None = None, *, chains: int = CHAINS) -> Chain:
        """Independence Metropolis through these draws, in their order: `chain.expect(f)` has its τ_int.

        Parameters
        ----------
        seed : int, optional
            Of the acceptances.
        chains : int
            Each goes through n/chains draws, and starts at the first.

        Raises
        ------
        LikelyError
            If there are fewer than two draws for each.
        """
        if not 1 <= chains <= len(self) // 2:
            raise LikelyError(f"{chains=}: two draws for each are needed, of {len(self)}")
        draws = self.samples, self.energy, self.log_weight
        return chain_of_draws(draws, chains, seed, self.domain)

    def to_json(self) -> dict[str, Any]:
        """All figures and notes, without the draws; a number that is not finite becomes null."""
        names = ("log_z", "elbo", "eubo", "bennett", "ess", "forward_ess", "largest_share", "k_hat")
        chain = ("acceptance", "tau_int", "tau_bound")
        report = {name: plain(getattr(self, name)) for name in (*names, *chain)}
        kind = self.forward and self.forward.kind
        own = {"model": self.model, "target": self.target, "draws": len(self)}
        return own | report | {"forward": kind, "notes": list(self.notes)}

    def __repr__(self) -> str:
        lines = [
            f"{len(self):,} draws of {self.model}, weighted for {self.target}",
            f"  log Z         {self.log_z}",
            f"  ELBO          {self.elbo}  (lower bound)",
            f"  ESS           {self.ess:.3g} of the draws, largest weight {self.largest_share:.2g} of all, "
            f"k̂ {self.k_hat:.2f}",
            f"  Metropolis    acceptance {self.acceptance}, τ_int {self.tau_int:.3g} steps (twice that of "
            f"½ + Σρ), at most {self.tau_bound:.3g}",
        ]
        if self.forward is not None:
            kind = "upper bound" if self.forward.kind == "bound" else "diagnostic"
            lines[3:3] = [
                f"  EUBO          {self.eubo}  ({kind})",
                f"  Bennett       {self.bennett}  (log Z from draws of both sides)",
            ]
            lines.insert(6, f"  forward ESS   {self.forward_ess:.3g}  (from draws of the target)")
        return "\n".join([*lines, *(f"NOTE: {note}" for note in self.notes)])


def reweight(
    model: GenerativeModel,
    target: Target,
    n: int = 65_536,
    *,
    context: Any = None,
    seed: int | None = None,
    forward: Literal["auto"] | bool | Tensor | Chain = "auto",
) -> Weighted:
    """Draw from a model, and weigh the draws for a target.

    Parameters
    ----------
    model : GenerativeModel
        On the domain of the target: with an exact density, or a flow.
    target : Target
        With an energy, or a density.
    n : int
        Number of draws. The effective sample size of few is too high.
    context : optional
        One context for all draws, as in `model.sample`; it goes to a target that has one, too.
    seed : int, optional
        The same seed gives the same draws.
    forward : "auto", False, Tensor of shape (m, *domain.shape), or Chain
        Draws of the target, which show what the model leaves out: "auto" takes exact ones where the
        target can be sampled, as many as of the model but at most 4,096. A tensor counts as exact,
        independent draws; with those of a chain, such as `ParallelTempering`'s, the figures are
        diagnostics and no bounds.

    Returns
    -------
    Weighted
        Its `notes` say what speaks against the figures.

    Raises
    ------
    DomainError
        If model and target are on different domains.
    DensityError
        If the model has no exact density on its domain.
    DataError
        If the context is missing, not wanted, or outside its domain.
    LikelyError
        If the energy is not a real number for each row, or a draw has an infinite weight.

    Examples
    --------
    >>> import likely as lk
    >>> target = lk.targets.gaussian([0.0], [[2.0]])
    >>> model = lk.make("nsf-coupling", target.domain, seed=0)
    >>> history = lk.fit(model, target, steps=100, seed=0)
    >>> w = lk.reweight(model, target, 4096, seed=0)
    >>> abs(w.log_z.value - target.log_z) < 5 * w.log_z.stderr
    True
    """
    n = whole("n", n)
    if n < 2:
        raise LikelyError(f"n={n}: at least 2 draws are needed")
    if model.domain != target.domain or target.context not in (None, model.context):
        raise DomainError(
            f"the model was built for another domain or context than those of {target.name}"
        )
    if model.density != Kind.EXACT and not isinstance(model, Reparametrised):
        raise DensityError(
            f"{type(model).__name__} has no exact density (it is: {model.density}), so its draws have no "
            "weights: take a flow or an autoregressive model"
        )
    weigh = _Weigh(model, target, context)
    x, log_q = sample_with_log_prob(model, n, weigh.context, seed)
    energy = weigh.energies(x)
    log_weight = -energy - log_q.double()
    if (log_weight.isnan() | (log_weight == math.inf)).any() or log_weight.max() == -math.inf:
        raise LikelyError(
            f"{target.name}: the log-weights reach from {log_weight.min():.3g} to {log_weight.max():.3g}: "
            "the energy must be finite somewhere and −∞ nowhere, and so must log q"
        )
    found = Weighted(
        x, log_weight, energy, _forward(weigh, n, seed, forward),
        model=type(model).__name__, target=target.name, domain=model.domain,
    )  # fmt: skip
    return replace(found, notes=tuple(_notes(found, weigh)))


class _Weigh:
    """Energies and log-weights of rows, in chunks, in one context."""

    def __init__(self, model: GenerativeModel, target: Target, context: Any) -> None:
        self.model, self.target, self.context = model, target, None
        if context is not None and model.context is not None:
            rows = as_rows(context, model.context, "the context")
            if rows.numel() != model.context.size:
                raise DataError("reweight takes one context for all draws: call it once for each")
            rows = rows.reshape(model.context.shape)
            accept_context(model, rows, 1)
            self.context = rows.to(model.device)
        elif context is not None or model.context is not None:
            accept_context(model, context, 1)  # which says what is wrong

    def energies(self, x: Rows) -> Float[Tensor, " n"]:
        with torch.no_grad():
            parts = [self._energies(x[at]) for at in chunks(self.model.domain, len(x))]
        return torch.cat(parts).double()

    def _energies(self, x: Rows) -> Tensor:
        if self.target.context is None:
            return self.target.energies(x)
        assert self.context is not None
        return self.target.energies(x, self.context.expand(len(x), *self.context.shape))

    def log_q(self, x: Rows) -> Float[Tensor, " n"]:
        return self.model.log_likelihood(x, self.context).value.double()

    def __call__(self, x: Rows) -> Float[Tensor, " n"]:
        return -self.energies(x) - self.log_q(x)


def _forward(weigh: _Weigh, n: int, seed: int | None, forward: Any) -> Forward | None:
    target = weigh.target
    if isinstance(forward, Chain):
        x = forward.samples
        log_weight = weigh(accept_inside(weigh.model, x.flatten(0, 1), "forward"))
        return Forward(log_weight.view(x.shape[:2]), "diagnostic", forward)
    if isinstance(forward, str) and forward == "auto":
        if target.sample is None:
            return None
        drawn = min(n, FORWARD)
        forward = target.sample(drawn, int(torch.randint(2**62, ())) if seed is None else seed + 1)
    if forward is False:
        return None
    if isinstance(forward, str | bool):
        raise LikelyError(
            f'forward={forward!r}: give "auto", False, draws of the target, or a chain'
        )
    x = accept_inside(weigh.model, forward, "forward")
    return Forward(weigh(x)[None], "bound")


def with_notes(found: Weighted) -> Weighted:
    """The same with what its weights say against its figures."""
    return replace(found, notes=tuple(_weight_notes(found)))


def _weight_notes(found: Weighted) -> Iterator[str]:
    n = len(found)
    effective_draws = found.ess * n
    if effective_draws < ESS:
        yield f"only {effective_draws:.0f} effective draws of {n:,}: the figures and their errors are rough"
    if found.largest_share > LARGE:
        yield f"one draw has {found.largest_share:.0%} of all weight: train longer, or draw more"
    if found.k_hat > HEAVY:
        yield (
            f"k̂ = {found.k_hat:.2f} exceeds {HEAVY}: the weights' tail is so heavy that log Z is too low, "
            "and its error too small"
        )


def _notes(found: Weighted, weigh: _Weigh) -> Iterator[str]:
    """What speaks against the figures."""
    yield from _weight_notes(found)
    log_z = found.log_z.value
    if found.forward_ess is not None and found.forward_ess < found.ess / 2:
        yield (
            f"the forward ESS is {found.forward_ess:.2g}, the reverse one {found.ess:.2g}: the model misses "
            "a part of the target, and log Z is too low"
        )
    gap = _mirror_gap(found, weigh)
    if gap > APART:
        yield (
            f"the energy is the same for mirror images, and log q is lower there by {gap:.3g} nats: the "
            "model has lost their mode, and log Z is too low by up to ln 2"
        )
    modes = weigh.target.modes
    if modes is not None:
        missed = weigh(accept_inside(weigh.model, modes, "the modes")) - log_z
        if lost := int((missed > APART).sum()):
            yield (
                f"{lost} of {len(modes)} known modes are lost: log q is too low there by up to "
                f"{missed.max():.3g} nats"
            )
    if weigh.model.density == Kind.ESTIMATE:
        yield "log q comes from an integration in steps: weights and bounds hold up to its error"


def _mirror_gap(found: Weighted, weigh: _Weigh) -> float:
    """Median of log q(x) − log q(−x) over draws where the energy does not tell x from −x, else 0."""
    x, energy = found.samples[:LOOKED_AT], found.energy[:LOOKED_AT]
    with contextlib.suppress(DomainError):
        image = weigh.model.domain.mirrored(x)
        if torch.allclose(weigh.energies(image), energy, rtol=1e-4, atol=1e-3):
            log_q = -energy - found.log_weight[:LOOKED_AT]
            return (log_q - weigh.log_q(image)).median().item()
    return 0.0


def _mean(value: Float[Tensor, " n"]) -> Figure:
    return Figure(*mean_and_error(value[:, None])[:, 0].tolist())
