"""Joint energy-based model: a classifier whose logits are also an energy of what it classifies.

Grathwohl et al. 2020, arXiv:1912.03263. The logits f(x)[y] of a network define

    p(x, y) = e^(f(x)[y]) / Z,    p(x) = Σ_y e^(f(x)[y]) / Z,    p(y|x) = e^(f(x)[y]) / Σ_y' e^(f(x)[y']),

and training maximises log p(y|x) + log p(x) (eqs. 4 to 8). A number that is added to all logits of a row
changes p(x) alone. Here f stands on the Gaussian base of an `EBM`, so that Z is finite, and its chains draw
from p(x).

The published recipe (`training="sgld"`) has no base, and its chains make steps

    x ← x + ∂/∂x log Σ_y e^(f(x)[y]) + 0.01 ξ,    ξ ~ N(0, 1),

from where a buffer of earlier ones left off. Langevin steps of this length that drew from p(x) would have
noise √2 ξ: these are at the temperature 0.01²/2 = 5·10⁻⁵, all but an ascent. What is learned gives samples,
and scores that tell rows from others, but −f is no −log p.

p(x|y) = e^(f(x)[y]) / Z_y needs Z_y = Z p(y), which is not Z/K. It comes from the same weighted chains as Z:
Z_y = E[w p(y|x)].
"""

from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import Batch, NonNegative, Range, Rows, register
from likely.contract.inputs import accept_inside, chunks, context_features
from likely.core.columns import Column, Discrete
from likely.core.domain import Domain
from likely.core.errors import AbilityError, DensityError, DomainError, LikelyError
from likely.core.likelihood import Estimator, Kind, importance_bound
from likely.core.runtime import fast_products
from likely.models.energy.ebm import EBM, Method
from likely.sampling import Annealed, Langevin
from likely.sampling.annealing import systematic
from likely.sampling.sampler import Energy

STEP, NOISE = 1.0, 0.01  # of the published steps …
TEMPERATURE = NOISE**2 / (2 * STEP)  # … which makes this
RESTARTS = 0.05  # of chains, for each update
DATA_NOISE = 0.03  # standard deviations, on rows that chains are compared with
GAP, FAR = (
    100.0,
    10.0,
)  # of energies, and of chains from the data, above which training has diverged


class Codes(nn.Module):
    """What a model sees of a class: its code, in place of the `Features` of a context."""

    size = 1

    def __init__(self, column: Column) -> None:
        super().__init__()
        if not isinstance(column, Discrete) or not column.levels or column.levels < 2:
            raise DomainError(f"context: JEM needs two classes or more, not {column.describe()}")
        self.column, self.classes = column, column.levels

    def prepare(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Nothing to learn."""

    def forward(self, x: Tensor) -> Float[Tensor, "n 1"]:
        return self.column.code(x.flatten(1))


@register(
    "jem",
    title="joint energy-based model",
    constraint="that of an ebm; the class is the context",
    density="estimate; none with SGLD",
    paper="Grathwohl et al. 2020, arXiv:1912.03263",
)
class JEM(EBM):
    """Classifier and energy-based model in one: p(x, y) of rows x and their classes y.

    `context` is the class: one column of K ≥ 2 classes. `classify(x)` gives p(y|x); `sample(n)` and
    `log_likelihood(x)` are those of p(x), `sample(n, context=y)` and `log_likelihood(x, y)` those of p(x|y).
    Without a context in the model there is one logit, and it is an `EBM`. Where the data have rows without
    a class, log p(x) is learnt from these, which should be the most, and log p(y|x) from the others.

    The errors of log Z_y that classes do not share are those of single rows in `log_likelihood(x, y)`: in
    the mean over rows whose classes are as frequent as the model's, they cancel.

    In `fit` the history has `accuracy` and `cross_entropy` of the validation split, and `rollbacks`, if the
    training diverged and was taken back.

    Parameters
    ----------
    domain : Domain
        As of an `EBM`.
    context : Domain, optional
        One column of categories, or of other discrete values.
    training : {"likelihood", "sgld"}
        With "likelihood" chains are at the temperature 1, and log p(x) is one. "sgld" is the published
        recipe, with steps of 1 and noise of 0.01 standard deviations of a column (20 steps: `k=20`): its
        temperature is 5·10⁻⁵, so that the energy is no −log p, and there is no likelihood; `free_energy`
        still tells rows from others.
    generative : float
        Weight of log p(x) in the loss. With 0 this is the plain classifier, without chains and without a
        likelihood; its `free_energy` is −log Σ_y e^(f(x)[y]).
    buffer : int
        Chains that "sgld" keeps; each update moves as many as a batch has rows.

    Raises
    ------
    DomainError
        If the context is not one column of two classes or more.
    LikelyError
        If an option is out of range, or there is nothing to learn.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits", context="label")
    >>> model = lk.energy.JEM(data.domain, context=data.context, hidden=(32,), k=1, proposals=1)
    >>> history = lk.fit(model, data, steps=20, batch=64)
    >>> model.classify(data.test.x[:5]).shape
    torch.Size([5, 10])
    """

    takes_context = True
    context_optional = True

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        training: Literal["likelihood", "sgld"] = "likelihood",
        generative: NonNegative = 1.0,
        buffer: Annotated[int, Range(1)] = 10_000,
        **options: Any,
    ) -> None:
        if options.get("context_encoder") is not None:
            raise LikelyError(
                "context_encoder: the context of JEM is the class itself: leave it out"
            )
        super().__init__(domain, context=context, **options)
        if context is None and not generative:
            raise LikelyError("generative=0 leaves nothing to learn without a class as the context")
        self.generative, self.buffer = generative, buffer
        self.bare = training == "sgld" or not generative  # without a base
        if self.bare:
            self.density = Kind.NONE
        if context is not None:
            self.context_features = Codes(context.column(0))  # type: ignore[assignment]
            self.log_z_classes = nn.Buffer(torch.zeros(2, self.outputs))  # values and errors

    @property
    def outputs(self) -> int:
        if self.context is None:
            return 1
        if self.context.size != 1:
            columns = self.context.size
            raise DomainError(f"context: JEM takes one column, the class, not {columns}")
        return Codes(self.context.column(0)).classes

    # The energy.

    def _logits(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        return -self.network(z)

    def _logits_of(self, x: Rows) -> Float[Tensor, "n classes"]:
        parts = [self._logits(self.view(x[at], 0.5)[0]) for at in chunks(self.domain, len(x))]
        return torch.cat(parts or [x.new_zeros(0, self.outputs)])

    def _logits_at(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        return self._logits(u if self.bare else self.base.columns(u))

    def _f(self, u: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        return -self._logits_at(u).logsumexp(1)

    def _given(self, y: Int64[Tensor, " n"]) -> Energy:
        """f of n rows, or of several times n, given their classes."""

        def f(u: Tensor) -> Tensor:
            rows = y.repeat(len(u) // len(y))[:, None]
            return -self._logits_at(u).gather(1, rows)[:, 0]

        return f

    def _at(self, beta: Tensor | float = 1.0, f: Energy | None = None) -> Energy:
        if not self.bare:
            return super()._at(beta, f)
        own = f or self._f
        return lambda u: beta * own(u)

    # Training.

    def prepare(self, batch: Batch) -> None:
        super().prepare(batch)
        if self.bare:  # coordinates are standardised columns
            self.base.mean.zero_()
            self.base.factor.copy_(torch.eye(self.view.dim))

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p(y|x) − log p(x), the latter up to log Z and by chains, row by row."""
        terms = []
        if self.generative:  # first, since it may take the parameters back
            if batch.unlabelled is None:
                own = super().loss(batch)
            else:  # weights are those of other rows
                own = super().loss(replace(batch, x=batch.unlabelled)).mean().expand(len(batch))
            terms.append(self.generative * own)
        codes = context_features(self, batch.context, len(batch))
        if codes is not None:
            logits = self._logits(self.view(batch.x)[0])
            terms.append(F.cross_entropy(logits, codes[:, 0].long(), reduction="none"))
        return torch.stack(terms).sum(0)

    def _contrast(self, data: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        return super()._contrast(data + DATA_NOISE * torch.randn_like(data) if self.bare else data)

    @torch.no_grad()
    def _negatives(self, data: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        if not self.bare:
            return super()._negatives(data)
        if self._chains is None:
            self._chains = self.base.sample(self.buffer)[None]
        chains = self._chains[0].to(data)
        place = torch.randperm(len(chains), device=data.device)[: len(data)]
        fresh = torch.rand(len(place), 1, device=data.device) < RESTARTS
        u = torch.where(fresh, self.base.sample(len(place)), chains[place])
        with torch.autocast(self.device.type, enabled=False), fast_products(self.device):
            chains[place] = self._ascended(u, self.k)
        self._chains = chains[None]
        return chains[place]

    def _ascended(
        self, u: Float[Tensor, "n d"], steps: int, f: Energy | None = None
    ) -> Float[Tensor, "n d"]:
        """After the published steps: Langevin ones at their temperature."""
        energy = self._at(1 / TEMPERATURE, f)
        *_, move = islice(Langevin(STEP * TEMPERATURE).walk(energy, u), steps)
        return move.x

    def _symptoms(
        self, data: Tensor, f_data: Tensor, draws: Tensor, f_draws: Tensor
    ) -> dict[str, tuple[float, float]]:
        if not self.bare:
            return super()._symptoms(data, f_data, draws, f_draws)
        gap = (f_data.mean() - f_draws.mean()).abs().item()
        return {"energy gap": (gap, GAP), "chains": (draws.square().mean().sqrt().item(), FAR)}

    def figures(self, batch: Batch) -> dict[str, float]:
        """Accuracy, and mean cross-entropy in nats."""
        codes = context_features(self, batch.context, len(batch))
        if codes is None:
            return {}
        log_p, y = self._logits_of(batch.x).log_softmax(1), codes[:, 0].long()
        right = (log_p.argmax(1) == y).double().mean()
        return {"accuracy": right.item(), "cross_entropy": F.nll_loss(log_p, y).item()}

    # Use.

    def classify(self, x: Any) -> Float[Tensor, "n classes"]:
        """p(y|x) of rows x, differentiable; levels stand in the middle of their cells.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)

        Raises
        ------
        AbilityError
            If the model was built without classes.
        DataError
            If x has the wrong shape, or lies outside the domain.
        """
        if self.context is None:
            raise AbilityError("JEM without a context knows no classes: give context=data.context")
        return self._logits_of(accept_inside(self, x)).softmax(1)

    def estimator(
        self,
        *,
        seed: int | None = None,
        method: Method = "auto",
        betas: int | None = None,
        chains: int | None = None,
        draws: int = 16,
    ) -> Estimator:
        """log p(x), or log p(x|y) given a class.

        Parameters
        ----------
        seed, method, betas, chains, draws
            As of an `EBM`.
        """
        marginal = super().estimator(
            seed=seed, method=method, betas=betas, chains=chains, draws=draws
        )
        common, draws = marginal.common_stderr, 1 if self.view.exact else draws
        classes = cache(lambda: self._log_z_of_classes(method))

        def terms(x: Tensor, codes: Tensor | None) -> Tensor:
            if codes is None:
                return marginal.terms(x, None)
            y = codes[:, 0].long()
            f, (log_z, error) = self._given(y), classes()[:, y]
            value, *stderr = importance_bound(
                torch.stack([-self._energy(x, f) for _ in range(draws)])
            )
            own = (error.square() - common**2).clamp_min(0)  # what it does not share
            return torch.stack([value - log_z, (own + sum(e.square() for e in stderr)).sqrt()])

        return Estimator(terms, Kind.ESTIMATE, common)

    def _log_z_of_classes(self, method: Method) -> Float[Tensor, "2 classes"]:
        """log Z_y and their errors, by the way that log Z took."""
        if method == "ais" or not self._integrates(method):
            return self.log_z_classes
        each = torch.arange(self.outputs, device=self.device).split(1)
        found = [self.base.integral(self._given(y)) for y in each]
        return self.log_z_classes.new_tensor([(z.value, z.stderr) for z in found]).T

    def _integrates(self, method: str) -> bool:
        return not self.bare and super()._integrates(method)

    def _anneal(self, **run: Any) -> Annealed:
        if self.bare:
            why = 'with training="sgld", at a temperature of 5e-5, or generative=0'
            raise DensityError(f"JEM: the energy is no −log p {why}: compare free_energy instead")
        return super()._anneal(**run)

    def _weighed(self, found: Annealed) -> None:
        if self.context is not None:
            log_p = self._logits_at(found.samples).log_softmax(1).double()
            self._classes_found = importance_bound(found.log_weights[:, None] + log_p)

    def _keep(self, found: Annealed, betas: int, chains: int) -> None:
        super()._keep(found, betas, chains)
        if self.context is not None:
            self.log_z_classes.copy_(self._classes_found)

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        """Ends of chains of f, or of f[y]."""
        y = None if context is None else context[:, 0].long()
        f = None if y is None else self._given(y)
        with fast_products(self.device):
            if self.bare:
                return self._rows(self._ascended(self.base.sample(n), self.sample_steps, f))
            if y is None:
                return super()._sample(n, None)
            u, step = self._arrivals(n)
            # Draws of p(x), resampled by p(y|x).
            log_p = self._logits_at(u).log_softmax(1)
            start = torch.rand(self.outputs, 1, device=u.device)
            chosen = systematic(log_p.T.softmax(1), start)
            order = torch.randperm(len(u), device=u.device)[:n]
            return self._rows(self._walked(u[chosen[y, order]], step, f))
