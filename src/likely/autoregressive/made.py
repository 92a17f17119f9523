"""MADE: a masked autoencoder for distribution estimation.

Germain, Gregor, Murray & Larochelle (2015), arXiv:1502.03509: one network gives every conditional
of

    p(x) = Π_i p(x_{o(i)} | x_{o(1)}, …, x_{o(i−1)}),

its connections masked so that the outputs of an entry see only the entries before it in the
ordering o. Here with distributions for all kinds of columns (`likely.nets.heads`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from likely.autoregressive.completion import partly_known
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.model import CHUNK, Batch, GenerativeModel, Recipe, seeded
from likely.core.registry import register
from likely.core.view import Features
from likely.nets.heads import ColumnHeads, choose
from likely.nets.masked import MaskedMLP


@register(
    "made",
    title="masked autoencoder (MADE)",
    density="exact",
    constraint="autoregressive: an ordering of the entries, sampled one after the other",
    paper="Germain et al. 2015, arXiv:1502.03509",
)
class MADE(GenerativeModel):
    """Masked autoencoder: exact conditionals of every entry given those before it.

    With several `orders` the model is the equal mixture of the autoregressive models of these
    orderings, which share their weights: log p(x) = log 1/K Σ_k p_k(x), exactly. A training step
    takes one of them at random and descends −log p_k, whose mean over k bounds −log p from above.

    Parameters
    ----------
    domain : Domain
        Any domain.
    context : Domain, optional
    hidden : sequence of int
        Widths of the hidden layers.
    components : int
        Components of the mixtures that describe continuous columns, counts and wide integers.
    order : sequence of int, optional
        The entries, counted in row-major order, in the order in which they are generated; by
        default as they stand.
    orders : int
        Number of orderings; those after the first are random permutations. A score takes that many
        passes.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoregressive.MADE(data.domain, hidden=(64,))
    >>> history = lk.fit(model, data, steps=100)
    >>> known = torch.zeros(8, 8, dtype=torch.bool)
    >>> known[:4] = True
    >>> model.complete(data.test.x[:5], known, seed=1).shape
    torch.Size([5, 8, 8])
    """

    recipe = Recipe(batch=128, rate=2e-3, weight_decay=0.2, ema=0.995)
    orderings: Tensor

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        hidden: Sequence[int] = (256, 256),
        components: int = 10,
        order: Sequence[int] | None = None,
        orders: int = 1,
    ) -> None:
        super().__init__(
            domain,
            context=context,
            hidden=tuple(hidden),
            components=components,
            order=None if order is None else tuple(order),
            orders=orders,
        )
        first = list(range(domain.size)) if order is None else list(order)
        if sorted(first) != list(range(domain.size)):
            raise LikelyError(
                f"order: it must hold each of the {domain.size} entries 0 … {domain.size - 1} once"
            )
        if orders < 1:
            raise LikelyError(f"orders must be at least 1, not {orders}")
        generator = torch.Generator().manual_seed(0)
        others = [torch.randperm(domain.size, generator=generator) for _ in range(orders - 1)]
        self.register_buffer("orderings", torch.stack([torch.tensor(first), *others]))
        self.features = Features(domain)
        self.heads = ColumnHeads(domain, components)
        self.net = MaskedMLP(
            self.features.sizes,
            self.heads.sizes,
            order=first,
            hidden=hidden,
            context=self.context_size,
        )

    def prepare(self, batch: Batch) -> None:
        """Take scales from the training split, and start at its independent marginals."""
        super().prepare(batch)
        self.features.prepare(batch.x, batch.weight)
        self.heads.start(self.net.layers[-1], batch.x, batch.weight)

    def _log_prob_in_order(self, k: int, x: Tensor, context: Tensor | None) -> Float[Tensor, " n"]:
        masks = self.net.masks(self.orderings[k].tolist()) if k else None  # its own are the first
        outputs = self.net(self.features(x), context, masks)
        return self.heads.log_prob(outputs, x).sum(1)

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p_k of each row, of an ordering k that is drawn anew for each batch."""
        k = int(torch.randint(len(self.orderings), ())) if len(self.orderings) > 1 else 0
        return -self._log_prob_in_order(k, batch.x, self._context(batch.context, len(batch)))

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        terms = [self._log_prob_in_order(k, x, context) for k in range(len(self.orderings))]
        return torch.stack(terms).logsumexp(0) - math.log(len(terms))

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        dtype = self.heads.type_of_draws(self.dtype)
        x = self.domain.anchor.flatten().to(self.device, dtype).repeat(n, 1)
        of_row = torch.randint(len(self.orderings), (n,), device=self.device)
        for k in range(len(self.orderings)):
            rows = (of_row == k).nonzero()[:, 0]
            part = None if context is None else context[rows]
            x[rows] = self._fill(k, x[rows], torch.zeros_like(x[rows], dtype=torch.bool), part)[0]
        return x.reshape(n, *self.domain.shape)

    def complete(
        self,
        x: Shaped[Tensor, "n *shape"],
        known: Bool[Tensor, "n *shape"],
        *,
        context: Tensor | None = None,
        seed: int | None = None,
        particles: int = 64,
    ) -> Shaped[Tensor, "n *shape"]:
        """Fill what the mask `known` leaves open by draws from the conditional.

        Exact for the rows whose known entries come first in the ordering (in every ordering, where
        there are several). For the others a particle filter draws the open entries in the ordering,
        weighs each candidate by the probabilities of the known entries that follow, resamples when
        the weights become uneven, and returns one of the candidates: its distribution tends to the
        conditional as `particles` grows, at a proportional cost (Gordon, Salmond & Smith 1993,
        IEE Proc. F 140, 107).

        The other parameters and the errors are those of `GenerativeModel.complete`.

        Parameters
        ----------
        particles : int
            Candidates for a row whose known entries do not come first.
        """
        if particles < 1:
            raise LikelyError(f"particles must be at least 1, not {particles}")
        x, known = partly_known(self, self.heads, x, known)
        features = self._checked_context(context, len(x))
        result = x.clone()
        step = max(1, CHUNK // (4 * self.domain.size * particles))
        with torch.no_grad(), seeded(seed, self.device):
            for rows in torch.arange(len(x), device=self.device).split(step):
                part = None if features is None else features[rows]
                filled = self._complete(x[rows].flatten(1), known[rows].flatten(1), part, particles)
                result[rows] = filled.reshape(len(rows), *self.domain.shape)
        return result

    def _complete(self, x: Tensor, known: Tensor, context: Tensor | None, particles: int) -> Tensor:
        """Rows completed in every ordering; of these, one for each row by their posterior."""
        filled = x.expand(len(self.orderings), -1, -1).clone()
        evidence = self.net.layers[0].weight.new_zeros(len(self.orderings), len(x))
        for k, order in enumerate(self.orderings):
            later = known[:, order[1:]] & ~known[:, order[:-1]]
            for scattered, candidates in ((False, 1), (True, particles)):
                rows = (later.any(1) == scattered).nonzero()[:, 0]
                part = None if context is None else context[rows]
                filled[k, rows], evidence[k, rows] = self._fill(
                    k, x[rows], known[rows], part, candidates
                )
        return filled[choose(evidence.T), torch.arange(len(x), device=x.device)]

    def _fill(
        self, k: int, x: Tensor, known: Tensor, context: Tensor | None, particles: int = 1
    ) -> tuple[Shaped[Tensor, "n entries"], Float[Tensor, " n"]]:
        """Rows with their open entries drawn in ordering k, and estimates of log p_k(known)."""
        n = len(x)
        if context is not None:
            context = context.repeat_interleave(particles, 0)
        x, known = x.repeat_interleave(particles, 0), known.repeat_interleave(particles, 0)
        order = self.orderings[k].tolist()
        net = self.net.incremental(len(x), context, order)
        # The sum over a row's candidates is the estimate of p_k(known so far).
        log_weight = net.features.new_full((n, particles), -math.log(particles))
        some_known, all_known = known.any(0).tolist(), known.all(0).tolist()
        for i in order:
            outputs = net.outputs()
            if not all_known[i] and self.heads.sizes[i]:  # x holds the constants
                draw = self.heads.sample_entry(i, outputs).to(x)
                x[:, i] = torch.where(known[:, i], x[:, i], draw)
            net.feed(self.features.entry(i, x[:, i]))
            if some_known[i]:
                term = self.heads.log_prob_entry(i, outputs, x[:, i])
                log_weight += torch.where(known[:, i], term, 0.0).view(n, particles)
                rows, log_weight = _resample(log_weight)
                if rows is not None:
                    x = x[rows]
                    net.select(rows)
        picked = choose(log_weight) + particles * torch.arange(n, device=x.device)
        return x[picked], log_weight.logsumexp(1)


def _resample(log_weight: Tensor) -> tuple[Tensor | None, Tensor]:
    """Systematic resampling of candidates, shape (n, particles), where their weights are uneven.

    That is where the effective number of candidates is below half of them; returns the positions
    (in the flattened candidates) to go on with, None for all as they are, and the weights left.
    """
    n, particles = log_weight.shape
    total = log_weight.logsumexp(1, keepdim=True)
    weight = (log_weight - total).exp()
    uneven = weight.square().sum(1, keepdim=True) > 2 / particles
    if not uneven.any():
        return None, log_weight
    own = torch.arange(particles, device=weight.device)
    spaced = (own + torch.rand_like(total)) / particles
    picked = torch.searchsorted(weight.cumsum(1), spaced).clamp_max(particles - 1)
    first = particles * torch.arange(n, device=own.device)[:, None]
    rows = first + torch.where(uneven, picked, own)
    return rows.flatten(), torch.where(uneven, total - math.log(particles), log_weight)
