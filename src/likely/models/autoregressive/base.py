"""What autoregressive models have in common: sampling, completing rows, several orderings.

p(x) = Π_i p(x_{o(i)} | x_{o(1)}, …, x_{o(i−1)})   for an ordering o of the entries
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from likely.contract import Batch, GenerativeModel, Range, Rows, options
from likely.contract.inputs import CHUNK, accept_partly_known, as_rows, context_features, map_chunks
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.random import seeded
from likely.nets.heads import ColumnHeads, choose
from likely.sampling.annealing import systematic

Draw = Callable[[int, Tensor], Tensor]  # an entry and its outputs, to a draw of it
# Log-likelihoods of values, shape (n,), of an entry that has been measured with noise.
Evidence = Mapping[int, Callable[[Tensor], Tensor]]


class Walk(Protocol):
    """A pass of n rows through a network, entry by entry in an ordering."""

    def outputs(self) -> Float[Tensor, "n size"]:
        """Outputs of the present entry, given the entries fed so far."""

    def feed(self, values: Tensor) -> None:
        """Take the present entry and move on to the next one."""

    def select(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat."""


class Autoregressive(GenerativeModel):
    """A model with a conditional for each entry given those before it in an ordering.

    A subclass sets `heads`, and writes `_terms` and `_walk`. With several orderings the model is the
    equal mixture of the autoregressive models of these, which share their weights:
    log p(x) = log 1/K Σ_k p_k(x), exactly. A training step takes one of them at random and descends
    −log p_k, whose mean over k bounds −log p from above. A symmetric model is the equal mixture of
    this and its mirror image, ½ [p(x) + p(x̄)] (Wu, Wang & Zhang 2019, PRL 122, 080602).

    Parameters
    ----------
    domain, context : Domain
    order : sequence of int, optional
        The entries, counted in row-major order, in the order in which they are generated; by
        default as they stand.
    orders : int
        Number of orderings K; those after the first are random permutations.
    symmetric : bool
        Rows and their mirror images (`Domain.mirrored`) are equally probable, as those of spins are
        without a field; a score passes through the network twice.

    Raises
    ------
    DomainError
        If the model is to be symmetric, and a column has no mirror image.
    """

    energy_gradients = ("reinforce",)
    heads: ColumnHeads

    def __init__(
        self,
        domain: Domain,
        *,
        order: Annotated[Sequence[int], Range(0)] | None = None,
        orders: int = 1,
        symmetric: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        if symmetric:
            domain.mirrored(domain.anchor[None])
        self.symmetric = symmetric
        first = list(range(domain.size)) if order is None else list(order)
        if sorted(first) != list(range(domain.size)):
            raise LikelyError(f"order: it must hold each of the {domain.size} entries once")
        generator = torch.Generator().manual_seed(0)
        others = [torch.randperm(domain.size, generator=generator) for _ in range(orders - 1)]
        self.orderings = nn.Buffer(torch.stack([torch.tensor(first), *others]))

    # What a subclass writes.

    def _terms(self, k: int, x: Tensor, context: Tensor | None) -> Float[Tensor, "n entries"]:
        """Log-probability of each entry given those before it in ordering k."""
        raise NotImplementedError

    def _walk(self, k: int, n: int, context: Tensor | None) -> Walk:
        """A pass of n rows in ordering k; nothing is recorded for gradients."""
        raise NotImplementedError

    def _input(self, i: int, x: Tensor) -> Tensor:
        """What a `Walk` is fed of entry i, from its values, shape (n,)."""
        return x

    # Likelihood.

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p_k of each row, of an ordering k that is drawn for each batch."""
        k = int(torch.randint(len(self.orderings), ())) if len(self.orderings) > 1 else 0
        return -self._log_prob_in(k, batch.x, context_features(self, batch.context, len(batch)))

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        terms = [self._log_prob_in(k, x, context) for k in range(len(self.orderings))]
        return torch.stack(terms).logsumexp(0) - math.log(len(terms))

    def _log_prob_in(self, k: int, x: Tensor, context: Tensor | None) -> Float[Tensor, " n"]:
        """log p_k, of rows and their mirror images together where these are equally probable."""
        if not self.symmetric:
            return self._terms(k, x, context).sum(1)
        both = torch.cat([x, self.domain.mirrored(x)])
        terms = self._terms(k, both, None if context is None else context.repeat(2, 1)).sum(1)
        return torch.logaddexp(*terms.chunk(2)) - math.log(2)

    @property
    def _mixed(self) -> bool:
        """Whether this is a mixture, over orderings or mirror images."""
        return len(self.orderings) > 1 or self.symmetric

    @property
    def in_order(self) -> bool:
        """Whether each entry is given those before it in row-major order."""
        return not self._mixed and bool(self.orderings.diff().eq(1).all())

    def conditionals(self, x: Rows, context: Tensor | None = None) -> Float[Tensor, "n *shape"]:
        """Log-probability of each entry given those before it in the ordering; their sum is log p.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        context : Tensor, optional
            As in `log_prob`.

        Returns
        -------
        Tensor, shape (n, *domain.shape)
            Nats; −inf in rows outside the support.

        Raises
        ------
        LikelyError
            If there are several orderings or the model is symmetric: a mixture has no such terms.
        """
        if self._mixed:
            raise LikelyError("conditionals: a mixture has none; take orders=1 and symmetric=False")

        inside = self.domain.contains(as_rows(x, self.domain, "x").to(self.device))
        values = map_chunks(self, lambda x, c: self._terms(0, x, c).T, x, context).T
        values = torch.where(inside[:, None], values, -math.inf)
        return values.reshape(len(values), *self.domain.shape)

    # Sampling and completion.

    def _draw(self) -> Draw:
        """How an entry is drawn from its conditional; keywords are options of `sample`."""
        return self.heads.sample_entry

    def _sample(self, n: int, context: Tensor | None, **sampling: Any) -> Tensor:
        options.check(f"{type(self).__name__}.sample", self._draw, sampling)
        draw = self._draw(**sampling)
        dtype = self.heads.type_of_draws(self.dtype)
        x = self.domain.anchor.flatten().to(self.device, dtype).repeat(n, 1)
        of_row = torch.randint(len(self.orderings), (n,), device=self.device)
        for k in range(len(self.orderings)):
            rows = (of_row == k).nonzero()[:, 0]
            part = None if context is None else context[rows]
            unknown = torch.zeros_like(x[rows], dtype=torch.bool)
            x[rows] = self._fill(k, x[rows], unknown, part, draw, 1, {})[0]
        x = x.reshape(n, *self.domain.shape)
        if not self.symmetric:
            return x
        turned = torch.rand(n, *[1] * len(self.domain.shape), device=x.device) < 0.5
        return torch.where(turned, self.domain.mirrored(x), x)

    def complete(
        self,
        x: Rows,
        known: Tensor,
        *,
        context: Tensor | None = None,
        seed: int | None = None,
        particles: int = 64,
        **sampling: Any,
    ) -> Rows:
        """Fill what the mask `known` leaves open by draws from the conditional.

        An open entry of a column that may be missing is drawn given that it is not.

        Exact for the rows whose known entries come first in the ordering (in every ordering, where
        there are several). For the others a particle filter draws the open entries in the ordering,
        weighs each candidate by the probabilities of the known entries that follow, resamples when
        the weights become uneven, and returns one of the candidates: its distribution tends to the
        conditional as `particles` grows, at a proportional cost (Gordon, Salmond & Smith 1993,
        IEE Proc. F 140, 107).

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
            Known entries are returned as they are; open ones may hold anything, NaN too.
        known : Tensor of bool, shape (n, *domain.shape) or (*domain.shape,)
        context : Tensor, optional
            As in `sample`.
        seed : int, optional
            The same seed gives the same draws.
        particles : int
            Candidates for a row whose known entries do not come first.
        **sampling
            Options of `sample`. Sharpened conditionals serve to draw; candidates are still weighed by
            the model's own.

        Raises
        ------
        DataError
            If a shape is wrong, or a known entry or the context lies outside its domain.
        LikelyError
            If an option is unknown or out of range.
        """
        return self.complete_with_ess(
            x, known, context=context, seed=seed, particles=particles, **sampling
        )[0]

    def complete_with_ess(
        self,
        x: Rows,
        known: Tensor,
        *,
        context: Tensor | None = None,
        seed: int | None = None,
        particles: int = 64,
        evidence: Evidence | None = None,
        **sampling: Any,
    ) -> tuple[Rows, Float[Tensor, " n"]]:
        """What `complete` gives, and from how many candidates each row was effectively chosen.

        The other parameters and the errors are those of `complete`.

        Parameters
        ----------
        evidence : mapping of int to callable (n,) -> (n,), optional
            What measurements say of open entries, counted in row-major order: the log-likelihood of their
            values, which weighs candidates, too.

        Returns
        -------
        Tensor, shape (n, *domain.shape), and Tensor, shape (n,)
            The effective sample size is 1/Σ_a W_a² of the weights W_a that descendants of the initial
            candidates a have at the end: from 1, where all descend from one and more particles are
            needed, to `particles`. It is infinite where the completion is exact.
        """
        owner = f"{type(self).__name__}.complete"
        options.check(owner, self._draw, sampling)
        options.check(owner, self.complete, {"particles": particles})
        from_outputs = self._draw(**sampling)

        def draw(i: int, outputs: Tensor) -> Tensor:
            return from_outputs(i, self.heads.as_present(outputs, i))

        dtype = self.heads.type_of_draws(self.dtype)
        x, known, features = accept_partly_known(self, x, known, context, dtype)
        result, flat = x.flatten(1).clone(), known.flatten(1)
        ess = torch.full((len(x),), math.inf, dtype=self.parameter_dtype, device=x.device)
        ordered = flat[:, self.orderings]
        scattered = (ordered[..., 1:] & ~ordered[..., :-1]).flatten(1).any(1)
        scattered = scattered | bool(evidence)
        with torch.no_grad(), seeded(seed, self.device):
            for candidates, group in ((1, ~scattered), (particles, scattered)):
                entries = self.domain.size * (1 if candidates == 1 else 4 * candidates)
                for rows in group.nonzero()[:, 0].split(max(1, CHUNK // entries)):
                    part = None if features is None else features[rows]
                    given = result[rows], flat[rows], part, candidates, draw, evidence or {}
                    result[rows], found = self._filled(*given)
                    if candidates > 1:
                        ess[rows] = found
        return result.reshape(x.shape), ess

    def _filled(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None,
        particles: int,
        draw: Draw,
        evidence: Evidence,
    ) -> tuple[Tensor, Tensor]:
        """Rows completed in each part of the mixture, and their effective sample sizes.

        Of the parts, one for each row by their posterior.
        """
        turns = (False, True) if self.symmetric else (False,)
        parts = [(k, turned) for k in range(len(self.orderings)) for turned in turns]
        filled = x.expand(len(parts), -1, -1).clone()
        log_evidence = x.new_zeros(len(filled), len(x), dtype=self.parameter_dtype)
        ess = torch.empty_like(log_evidence)
        for part, (k, turned) in enumerate(parts):
            y = self.domain.mirrored(x) if turned else x
            given = k, y, known, context, draw, particles, evidence, turned
            y, log_evidence[part], ess[part] = self._fill(*given)
            filled[part] = self.domain.mirrored(y) if turned else y
        picked = choose(log_evidence.T), torch.arange(len(x), device=x.device)
        return filled[picked], ess[picked]

    def _fill(
        self,
        k: int,
        x: Tensor,
        known: Tensor,
        context: Tensor | None,
        draw: Draw,
        particles: int,
        evidence: Evidence,
        turned: bool = False,
    ) -> tuple[Shaped[Tensor, "n entries"], Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Rows with their open entries drawn in ordering k, estimates of log p_k(known), and ESS.

        Evidence speaks of these rows, or of their mirror images where they are turned.
        """
        n = len(x)
        if context is not None:
            context = context.repeat_interleave(particles, 0)
        x, known = x.repeat_interleave(particles, 0), known.repeat_interleave(particles, 0)
        order = self.orderings[k].tolist()
        walk = self._walk(k, len(x), context)
        # The sum over a row's candidates is the estimate of p_k(known so far).
        log_weight = x.new_full((n, particles), -math.log(particles), dtype=self.parameter_dtype)
        ancestor = torch.arange(particles, device=x.device).expand(n, -1)
        some_known, all_known = known.any(0).tolist(), known.all(0).tolist()
        for i in order:
            outputs = walk.outputs()
            if not all_known[i] and self.heads.sizes[i]:  # x holds the constants
                drawn = draw(i, outputs).to(x)
                x[:, i] = torch.where(known[:, i], x[:, i], drawn) if some_known[i] else drawn
            walk.feed(self._input(i, x[:, i]))
            if some_known[i]:
                term = self.heads.log_prob_entry(i, outputs, x[:, i])
                log_weight += torch.where(known[:, i], term, 0.0).view(n, particles)
            if i in evidence:
                values = (self.domain.mirrored(x) if turned else x)[:, i]
                log_weight += evidence[i](values).view(n, particles)
            if some_known[i] or i in evidence:
                rows, log_weight = _resample(log_weight)
                if rows is not None:
                    x, ancestor = x[rows], ancestor.flatten()[rows].view(n, -1)
                    walk.select(rows)
        picked = choose(log_weight) + particles * torch.arange(n, device=x.device)
        mass = torch.zeros_like(log_weight).scatter_add_(1, ancestor, log_weight.softmax(1))
        return x[picked], log_weight.logsumexp(1), 1 / mass.square().sum(1)


def _resample(log_weight: Tensor) -> tuple[Tensor | None, Tensor]:
    """Systematic resampling of candidates, shape (n, particles), where their weights are uneven.

    That is where the effective number of candidates is below half of them; returns the positions
    (in the flattened candidates) to continue with, None for all as they are, and the weights left.
    """
    n, particles = log_weight.shape
    total = log_weight.logsumexp(1, keepdim=True)
    weight = (log_weight - total).exp()
    uneven = weight.square().sum(1, keepdim=True) > 2 / particles
    if not uneven.any():
        return None, log_weight
    own = torch.arange(particles, device=weight.device)
    picked = systematic(weight, torch.rand_like(total))
    first = particles * torch.arange(n, device=own.device)[:, None]
    rows = first + torch.where(uneven, picked, own)
    return rows.flatten(), torch.where(uneven, total - math.log(particles), log_weight)
