"""Variational autoencoder.

    p(x) = ∫ p(x|z) N(z; 0, 1) dz,      q(z|x) = N(z; μ(x), diag σ(x)²)

    log p(x) ≥ ELBO(x) = E_q log p(x|z) − KL(q(z|x)‖N(0, 1))

    log p(x) ≥ E log 1/K Σ_k p(x|z_k) N(z_k; 0, 1)/q(z_k|x),      z_k ~ q(z|x)

(Kingma & Welling 2014, arXiv:1312.6114, eq. 3; Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082). The second
bound is the ELBO at K = 1 and rises with K to log p(x) (Burda, Grosse & Salakhutdinov 2016,
arXiv:1509.00519, theorem 1).

Where q or the prior p is no Gaussian, KL(q‖p) is estimated by log q(z|x) − log p(z) at the draw z. The
VampPrior is p(z) = 1/K Σ_k q(z|u_k), with learnt pseudo-inputs u_k (Tomczak & Welling 2018,
arXiv:1705.07120, eq. 9).
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import (
    LOG_TWO_PI,
    Batch,
    GenerativeModel,
    NonNegative,
    NonNegativeInt,
    Recipe,
    Rows,
    Widths,
    register,
)
from likely.contract.inputs import CHUNK, accept, accept_inside, context_features, map_chunks
from likely.contract.registry import make
from likely.core.columns import Maybe
from likely.core.domain import Domain, reals
from likely.core.errors import LikelyError
from likely.core.likelihood import Estimator, Kind, Likelihood, importance_bound, mean_and_error
from likely.core.random import seeded
from likely.models.autoencoders.base import Codes, LatentModel
from likely.models.autoencoders.posteriors import (
    MAPS,
    Draws,
    FlowPosterior,
    GaussianPosterior,
    LogProbs,
    Posterior,
)
from likely.nets.mlp import with_context


@register(
    "vae",
    title="variational autoencoder",
    constraint="entries independent given `latent` Gaussian variables",
    paper="Kingma & Welling 2014, arXiv:1312.6114",
)
class VAE(LatentModel):
    """Variational autoencoder.

    The other parameters and the errors are those of `LatentModel`.

    Parameters
    ----------
    latent : int
        Number of latent variables.
    beta : float
        Weight of the KL divergence in the loss (Higgins et al. 2017); 1 trains on the ELBO. The
        reported likelihoods are bounds of log p(x) whatever it is.
    warm_up : int
        Steps over which that weight rises from zero (Sønderby et al. 2016, arXiv:1602.02282).
    free_bits : float
        KL divergence in nats that each latent variable has for free (Kingma et al. 2016,
        arXiv:1606.04934, eq. 15); where it is estimated, that all of them have together, `latent`
        times as much.
    posterior : {"gaussian", "planar", "sylvester", "iaf"}
        q(z|x): independent Gaussians, or these carried by a flow whose parameters depend on x.
    posterior_layers : int
        Maps of that flow.
    posterior_hidden : sequence of int
        Widths of the masked networks of "iaf".
    prior : {"normal", "flow", "vamp"} or GenerativeModel
        p(z), independent of the context: N(0, 1); a RealNVP that begins near it; a VampPrior, for Gaussian
        posteriors; or a model over `reals(latent)` with an exact density, such as a flow. It is
        trained with the rest, and saved with it.
    pseudo_inputs : int
        K of "vamp"; they begin at training rows.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoencoders.VAE(data.domain, latent=8)
    >>> history = lk.fit(model, data, steps=20)
    >>> str(model.log_likelihood(data.test.x[:4], draws=64).kind)
    'lower bound'

    A posterior and a prior of one's own choice:

    >>> prior = lk.make("nsf-coupling", lk.reals(8), transforms=2, hidden=(32, 32))
    >>> model = lk.autoencoders.VAE(data.domain, latent=8, posterior="iaf", prior=prior)
    """

    accepts = LatentModel.accepts | {Maybe}
    density = Kind.LOWER
    validation: ClassVar[dict[str, Any]] = {"draws": 8}
    flat_codes: ClassVar[bool] = True  # whether codes fill R^latent
    recipe = Recipe(batch=128, rate=3e-3, weight_decay=0.01)

    def __init__(
        self,
        domain: Domain,
        *,
        beta: NonNegative = 1.0,
        warm_up: NonNegativeInt = 200,
        free_bits: NonNegative = 0.0,
        posterior: Literal["gaussian", "planar", "sylvester", "iaf"] = "gaussian",
        posterior_layers: int = 4,
        posterior_hidden: Widths = (128,),
        prior: Literal["normal", "flow", "vamp"] | GenerativeModel = "normal",
        pseudo_inputs: int = 100,
        **options: Any,
    ) -> None:
        self.map, self.layers = MAPS.get(posterior), posterior_layers  # which the encoder serves
        super().__init__(domain, **options)
        self.beta, self.warm_up, self.free_bits = beta, warm_up, free_bits
        if self.map is not None:
            maps = [self.map(self.latent, posterior_hidden, i) for i in range(posterior_layers)]
            self.maps = nn.ModuleList(maps)
        self.prior = self.pseudo_inputs = None
        if prior == "vamp":
            if self.map is not None:
                raise LikelyError(
                    f'{type(self).__name__}: prior="vamp" needs the density of posterior="gaussian"; '
                    f'with posterior="{posterior}" take prior="flow"'
                )
            inputs = self.features.size + self.context_size
            self.pseudo_inputs = nn.Parameter(torch.zeros(pseudo_inputs, inputs))
        elif prior != "normal":
            self.prior = self._accepted(prior)

    def _accepted(self, prior: str | GenerativeModel) -> GenerativeModel:
        """A model of codes."""
        codes = reals(self.latent)
        if isinstance(prior, str):
            return make("realnvp", codes, transforms=4)
        if prior.domain != codes or prior.context is not None or prior.density != Kind.EXACT:
            raise LikelyError(
                f"{type(self).__name__}: prior: give a model of lk.reals({self.latent}), the codes, with an "
                'exact density and no context, such as lk.make("realnvp", …)'
            )
        return prior

    def _encoder_outputs(self) -> int:
        maps = 0 if self.map is None else self.layers * sum(self.map.sizes(self.latent))
        return 2 * self.latent + maps

    @torch.no_grad()
    def prepare(self, batch: Batch) -> None:
        super().prepare(batch)
        if self.pseudo_inputs is not None:
            spread = torch.linspace(0, len(batch) - 1, len(self.pseudo_inputs), device=self.device)
            x = batch.x[rows := spread.long()]
            context = None if batch.context is None else batch.context[rows]
            seen = with_context(self.features(x), context_features(self, context, len(x)))
            self.pseudo_inputs.copy_(seen)

    def posterior(self, x: Rows, context: Tensor | None = None) -> Posterior:
        """q(z|x) of each row: its `mean`, which is that of `encode`, and `draw(k)`, k codes and their log q.

        Raises
        ------
        DataError
            As by `encode`.
        """
        _, x, features = accept(self, accept_inside(self, x), context)
        return self._posterior(x, features)

    # What a variant may replace: q(z|x), p(z), the divergence between them, and a penalty of codes.

    def _posterior(self, x: Tensor, context: Tensor | None) -> Posterior:
        """q(z|x)."""
        return self._posterior_of(self.features(x), context)

    def _posterior_of(self, features: Tensor, context: Tensor | None) -> Posterior:
        outputs = self.encoder(features, context)
        gaussian = GaussianPosterior.of(*outputs[:, : 2 * self.latent].chunk(2, 1))
        if self.map is None:
            return gaussian
        parameters = outputs[:, 2 * self.latent :].chunk(len(self.maps), 1)
        return FlowPosterior(gaussian, list(self.maps), parameters)

    def _log_prior(self, z: Draws) -> LogProbs:
        """log p(z)."""
        if self.prior is not None:
            return self.prior._log_prob(z.flatten(0, 1), None).view(z.shape[:2])
        if self.pseudo_inputs is not None:
            mean, std = self._pseudo_posterior()
            precision, scaled = std.square().reciprocal(), mean / std.square()
            constant = (mean * scaled + LOG_TWO_PI).sum(1) / 2 + std.log().sum(1)
            each = z @ scaled.T - z.square() @ precision.T / 2 - constant
            return each.logsumexp(2) - math.log(len(mean))
        return -(z.square() + LOG_TWO_PI).sum(2) / 2

    def _pseudo_posterior(self) -> GaussianPosterior:
        """q(z|u_k) of the pseudo-inputs, which have contexts of their own."""
        assert self.pseudo_inputs is not None
        features, context = self.pseudo_inputs.split([self.features.size, self.context_size], 1)
        found = self._posterior_of(features, context if self.context_size else None)
        assert isinstance(found, GaussianPosterior)
        return found

    def _divergence(self, q: Posterior, z: Draws, log_q: LogProbs) -> Float[Tensor, "n parts"]:
        """KL(q(z|x)‖p) of each latent variable in closed form, or of all at the first draw."""
        if isinstance(q, GaussianPosterior) and self.prior is None and self.pseudo_inputs is None:
            return q.divergence()
        return (log_q - self._log_prior(z))[0, :, None]

    def _penalty(self, q: Posterior, z: Codes, batch: Batch) -> Tensor | float:
        """What is added to the loss of each row, from the codes of all: nothing here."""
        return 0.0

    def log_prior(self, z: Codes) -> Float[Tensor, " n"]:
        """log p(z) of each code, in nats, differentiable."""
        return self._log_prior(z[None])[0]

    def sample_codes(self, n: int, *, seed: int | None = None) -> Codes:
        """Draws of p(z)."""
        with torch.no_grad(), seeded(seed, self.device):
            return self._sample_code(n, None)

    def _sample_code(self, n: int, context: Tensor | None) -> Codes:
        if self.prior is not None:
            return self.prior._sample(n, None)
        normal = self.decoder.bias.new_empty(n, self.latent).normal_()
        if self.pseudo_inputs is not None:
            mean, std = self._pseudo_posterior()
            chosen = torch.randint(len(mean), (n,), device=self.device)
            return mean[chosen] + std[chosen] * normal
        return normal

    # Training.

    def _code(self, x: Tensor, context: Tensor | None) -> Codes:
        return self._posterior(x, context).mean

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p(x|z) + β KL of each row, with one draw of z."""
        context = context_features(self, batch.context, len(batch))
        q = self._posterior(batch.x, context)
        z, log_q = q.draw(1)
        divergence = self._divergence(q, z, log_q)
        if self.free_bits:
            least = self.free_bits * (self.latent // divergence.shape[1])
            weight = torch.ones_like(z[0, :, 0]) if batch.weight is None else batch.weight.to(z)
            free = weight @ divergence < least * weight.sum()
            divergence = torch.where(free, least, divergence)
        given = self._log_prob_in_training(batch.x, z[0], context)
        return self._beta(batch.step) * divergence.sum(1) - given + self._penalty(q, z[0], batch)

    def _beta(self, step: int) -> float:
        """Weight of the divergence after so many steps."""
        return self.beta * min(1.0, (step + 1) / max(1, self.warm_up))

    def _log_prob_in_training(
        self, x: Tensor, z: Codes, context: Tensor | None
    ) -> Float[Tensor, " n"]:
        """log p(x|z) as the loss takes it."""
        return self._log_prob_given(x, z, context)

    # Bounds.

    def estimator(self, *, seed: int | None = None, draws: int = 64) -> Estimator:
        """The importance-weighted bound of each row, with K = `draws`; its error is the delta method's."""
        return Estimator(self._reduced(importance_bound, draws), Kind.LOWER)

    def elbo(
        self, x: Rows, context: Tensor | None = None, *, seed: int | None = None, draws: int = 64
    ) -> Likelihood:
        """The evidence lower bound of each row: the mean over `draws` draws, with its error."""
        value, *stderr = map_chunks(self, self._reduced(mean_and_error, draws), x, context, seed)
        return Likelihood(value, Kind.LOWER, *stderr)

    def _reduced(
        self, reduce: Callable[[Tensor], Tensor], draws: int
    ) -> Callable[[Tensor, Tensor | None], Tensor]:
        """`reduce` of the log-weights of all draws, shape (draws, n): a bound and its error."""

        def bound(x: Tensor, context: Tensor | None) -> Tensor:
            q = self._posterior(x, context)
            at_a_time = max(1, CHUNK // max(1, x.numel()))
            parts = [
                self._log_weights(x, context, *q.draw(min(at_a_time, draws - done)))
                for done in range(0, draws, at_a_time)
            ]
            return reduce(torch.cat(parts))

        return bound

    def _log_weights(
        self, x: Tensor, context: Tensor | None, z: Draws, log_q: LogProbs
    ) -> LogProbs:
        """log p(x|z) p(z)/q(z|x) for draws z ~ q(z|x)."""
        draws = len(z)
        repeated = x.expand(draws, *x.shape).flatten(0, 1)
        features = None if context is None else context.repeat(draws, 1)
        given = self._log_prob_given(repeated, z.flatten(0, 1), features).view(draws, -1)
        return given + self._log_prior(z) - log_q
