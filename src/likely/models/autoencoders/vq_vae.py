"""Vector-quantised variational autoencoder: a row as a grid of codes, and a prior over such grids.

    k_j(x) = argmin_k ‖z_j(x) − e_k‖² at each place j of the grid,      e_k(x) = (e_{k_1}, …, e_{k_J})

    loss = −log p(x|e_k(x)) + β Σ_j ‖z_j(x) − e_{k_j}‖²

(van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937). The gradient goes through the choice of k
straight to the encoder's z, as if e_k were z; of the codebook e, moving averages take the place of a
gradient (`likely.nets.codebook`). Then a prior p(k) learns the grids of the training rows. As p(x) is a sum
over all grids,

    log p(x) ≥ log p(x|e_k(x)) + log p(k(x)).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from likely.contract import (
    Batch,
    GenerativeModel,
    NonNegative,
    Objective,
    Range,
    Recipe,
    Rows,
    register,
)
from likely.contract.inputs import accept, accept_inside, chunks, context_features
from likely.contract.registry import make
from likely.contract.training import Stage
from likely.core.domain import Domain, categories, reals
from likely.core.errors import LikelyError
from likely.core.likelihood import Estimator, Kind
from likely.models.autoencoders.base import Codes, LatentModel
from likely.nets.codebook import Codebook
from likely.nets.convolutional import Shape, halved
from likely.nets.critic import frozen

EDGE = 8  # of the largest grid that an image gets by default
Grids = Int[Tensor, "n *grid"]


@register(
    "vq-vae",
    title="vector-quantised autoencoder with a prior over its codes",
    constraint="entries independent given a grid of `codes` possible vectors; one grid for each row",
    paper="van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937",
)
class VQVAE(LatentModel):
    """Vector-quantised autoencoder; a prior over its codes gives a likelihood and samples.

    `fit` trains the autoencoder for the first part of its budget and the prior for the second; until
    then the prior is uniform. `encode` gives the vectors of a row's grid, and `indices` their numbers.
    In a loop of your own, call `after` of the objective after each step: it moves the codebook.

    The other parameters and the errors are those of `LatentModel`.

    Parameters
    ----------
    latent : int
        Places of the grid of a row that is no image. On an image it is what is left after halving
        the resolution for each of `hidden`; by default once, and until no edge is above 8.
    codes : int
        K, the number of vectors.
    dim : int
        Length of each.
    beta : float
        How strongly z is held to its vector.
    decay : float
        γ of the averages that move the vectors, from 0 to below 1.
    restart : float
        Below which part of the mean use a vector is moved to where an encoder's output is; 0 for never.
    prior : str or GenerativeModel
        p(k): "uniform"; or a model of the grids with an exact density by its name, such as "made",
        "independent" or "transformer"; or the model itself, over `lk.categories(codes, *grid)`, and
        with a context over `lk.reals` of its features, where there is one. It is saved with this model.
    share : float
        Part of the budget for the autoencoder.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoencoders.VQVAE(data.domain, codes=32)
    >>> history = lk.fit(model, data, steps=40)
    >>> model.indices(data.test.x[:5]).shape
    torch.Size([5, 4, 4])
    >>> str(model.log_likelihood(data.test.x[:5]).kind)
    'lower bound'
    """

    density = Kind.LOWER
    recipe = Recipe(batch=128, rate=2e-3, steps=10_000)
    averaged = ("codebook.vectors", "codebook.counts")

    def __init__(
        self,
        domain: Domain,
        *,
        latent: int = 4,
        codes: Annotated[int, Range(2)] = 64,
        dim: int = 16,
        beta: NonNegative = 0.25,
        decay: Annotated[float, Range(0, 1, open="high")] = 0.99,
        restart: Annotated[float, Range(0, 1, open="high")] = 0.1,
        prior: str | GenerativeModel = "made",
        share: Annotated[float, Range(0, 1, open="both")] = 0.5,
        **options: Any,
    ) -> None:
        self.dim = dim  # which `_build` needs
        super().__init__(domain, latent=latent, **options)
        self.beta, self.share = beta, share
        self.codebook = Codebook(codes, dim, decay, restart)
        self.prior = None if prior == "uniform" else self._accepted(prior)
        self.seen: tuple[Tensor, Tensor, Tensor | None] | None = None  # by the last loss

    def _build(
        self, hidden: Sequence[int] | None, shape: Shape | None, grid: int | None = None
    ) -> None:
        self.grid: tuple[int, ...] = (self.latent,)
        if shape is not None:
            if hidden is None:  # narrow at full resolution, where convolutions take longest
                times = max(1, math.ceil(math.log2(max(shape[1:]) / EDGE)))
                hidden = (64,) if times == 1 else (32, *[64] * (times - 1))
            self.grid = tuple(halved(edge, len(hidden))[-1] for edge in shape[1:])
        self.latent = self.dim * math.prod(self.grid)
        super()._build(hidden, shape, self.dim)

    def _accepted(self, prior: str | GenerativeModel) -> GenerativeModel:
        """A model of grids."""
        codes, given = len(self.codebook.vectors), self.context_size
        grids, context = categories(codes, *self.grid), reals(given) if given else None
        if not isinstance(prior, GenerativeModel):
            prior = make(str(prior), grids, context=context)
        if prior.domain != grids or prior.context != context or prior.density != Kind.EXACT:
            shape = ", ".join(map(str, (codes, *self.grid)))
            raise LikelyError(
                f"{type(self).__name__}: prior: give a model of lk.categories({shape}), the codes, with "
                f"{f'the context lk.reals({given})' if context else 'no context'} and an exact density, such "
                'as lk.make("made", …)'
            )
        return prior

    @torch.no_grad()
    def prepare(self, batch: Batch) -> None:
        """Begin with vectors that the encoder gives for training rows."""
        super().prepare(batch)
        context = context_features(self, batch.context, len(batch))
        at = chunks(self.domain, len(batch))[0]
        z = self._vectors(batch.x[at], None if context is None else context[at])
        self.codebook.start(z.flatten(0, 1))

    # The code: vectors as rows of the codebook, or as one long code of a row, channels first.

    def _vectors(self, x: Tensor, context: Tensor | None) -> Float[Tensor, "n places dim"]:
        """z_j of each row."""
        return self.encoder(self.features(x), context).unflatten(1, (self.dim, -1)).mT

    def _nearest(self, z: Float[Tensor, "n places dim"]) -> Int[Tensor, "n places"]:
        return self.codebook.nearest(z.flatten(0, 1)).view(z.shape[:2])

    def _code_of(self, k: Int[Tensor, "n places"]) -> Codes:
        return self.codebook.vectors[k].mT.flatten(1)

    def _code(self, x: Tensor, context: Tensor | None) -> Codes:
        return self._code_of(self._nearest(self._vectors(x, context)))

    def _sample_code(self, n: int, context: Tensor | None) -> Codes:
        if self.prior is None or not self.prior.prepared:
            k = torch.randint(len(self.codebook.vectors), (n, *self.grid), device=self.device)
        else:
            k = self.prior._sample(n, context_features(self.prior, context, n))
        return self._code_of(k.flatten(1))

    @torch.no_grad()
    def indices(self, x: Rows, context: Tensor | None = None) -> Grids:
        """Which vector of the codebook stands at each place of a row's grid.

        Raises
        ------
        DataError
            If x or the context have the wrong shape, or a row lies outside the domain.
        """
        _, x, features = accept(self, accept_inside(self, x), context)
        return self._indices(x, features)

    def _indices(self, x: Tensor, context: Tensor | None) -> Grids:
        k = [
            self._nearest(self._vectors(x[at], None if context is None else context[at]))
            for at in chunks(self.domain, len(x)) or [slice(0)]
        ]
        return torch.cat(k).unflatten(1, self.grid)

    # Training.

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p(x|e_k) + β Σ_j ‖z_j − e_{k_j}‖² of each row."""
        context = context_features(self, batch.context, len(batch))
        z = self._vectors(batch.x, context)
        k = self._nearest(z)
        e = self.codebook.vectors[k]
        straight = z + (e - z).detach()
        weight = batch.weight
        if weight is not None:
            weight = weight.repeat_interleave(z.shape[1])
        self.seen = z.detach().flatten(0, 1), k.flatten(), weight
        given = self._log_prob_given(batch.x, straight.mT.flatten(1), context)
        return self.beta * (z - e).square().sum((1, 2)) - given

    def _move_codebook(self) -> None:
        assert self.seen is not None
        self.codebook.update(*self.seen)
        self.seen = None

    def objectives(self) -> list[Objective]:
        """The autoencoder's; the prior has a stage of its own."""
        with frozen(self.prior or nn.Module()):
            trained = [p for p in self.parameters() if p.requires_grad]
        return [Objective("loss", trained, self.loss, after=self._move_codebook)]

    def stages(self) -> list[Stage]:
        """The autoencoder, then the prior over its codes."""
        if self.prior is None:
            return super().stages()
        prior = Stage(self._prior_objectives, 1 - self.share, self._prepare_prior)
        return [Stage(self.objectives, self.share), prior]

    @torch.no_grad()
    def _coded(self, batch: Batch) -> Batch:
        """What the prior sees of a batch."""
        context = context_features(self, batch.context, len(batch))
        return replace(batch, x=self._indices(batch.x, context), context=context)

    def _prepare_prior(self, batch: Batch) -> None:
        if self.prior is not None and not self.prior.prepared:
            self.prior.prepare(self._coded(batch))

    def _prior_objectives(self) -> list[Objective]:
        """The prior's own, on grids, with the weight decay that its recipe recommends."""
        assert self.prior is not None
        recommended = self.prior.recipe.weight_decay

        def of_grids(own: Objective) -> Objective:
            decay = recommended if own.weight_decay is None else own.weight_decay
            loss = own.loss
            return replace(
                own, name="prior", loss=lambda batch: loss(self._coded(batch)), weight_decay=decay
            )

        return [of_grids(objective) for objective in self.prior.objectives()]

    # The bound.

    def estimator(self, *, seed: int | None = None) -> Estimator:
        """log p(x|e_k) + log p(k) of each row at its own k."""
        return Estimator(lambda x, context: self._bound(x, context)[None], Kind.LOWER)

    def _bound(self, x: Tensor, context: Tensor | None) -> Float[Tensor, " n"]:
        k = self._nearest(self._vectors(x, context))
        given = self._log_prob_given(x, self._code_of(k), context)
        if self.prior is None or not self.prior.prepared:
            return given - k.shape[1] * math.log(len(self.codebook.vectors))
        features = context_features(self.prior, context, len(k))
        return given + self.prior._log_prob(k.unflatten(1, self.grid), features)
