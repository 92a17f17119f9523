"""InfoGAN: a GAN whose samples show a code that the generator was given.

Chen et al. 2016, arXiv:1606.03657. Beside noise z the generator sees a code c, of independent categories and
numbers in [−1, 1]. Nothing in the game keeps it from ignoring c; so its samples x = G(z, c) must tell what c
was: a recogniser Q(c|x) makes

    L_I = E_{c, z} log Q(c|G(z, c)) + H(c) ≤ I(c; G(z, c))

as large as it can, and the game is  min_{G,Q} max_D  V(D, G) − λ L_I  (eq. 5 and 6 there). The bound is tight
where Q is the posterior.

Q shares all but the last layers with the critic, and learns in the critic's turn: so the shared layers
serve L_I, too, as in the authors' code. Of a number in [−1, 1] it gives a mean and a standard deviation;
with the deviation held at 1 the bound could not exceed ln 2 − ½ ln 2π < 0. Q never sees real rows in
training.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import (
    LOG_TWO_PI,
    Batch,
    NonNegative,
    NonNegativeInt,
    Range,
    Recipe,
    Rows,
    Widths,
    register,
)
from likely.contract.inputs import accept_inside, as_rows, context_features, map_chunks, of_each
from likely.core.columns import Categorical, Column, Interval
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.gans.dcgan import start_small
from likely.models.gans.gan import GAN
from likely.nets.adversarial import DCFeatures, DCGenerator, doubling
from likely.nets.convolutional import Shape, leaky_relu
from likely.nets.critic import CODE, frozen
from likely.nets.mlp import MLP, with_context

NARROWEST = 0.05  # standard deviation of a code


class CodePosterior(NamedTuple):
    """Q(c|x) of each row.

    Attributes
    ----------
    categories : list of Tensor, shape (n, k)
        Probabilities of each category of each categorical code.
    mean, std : Tensor, shape (n, continuous)
        Of the continuous codes.
    """

    categories: list[Tensor]
    mean: Tensor
    std: Tensor


@register(
    "infogan",
    title="GAN with codes that its samples show",
    constraint="none on the generator, but that its samples tell its code",
    paper="Chen et al. 2016, arXiv:1606.03657",
)
class InfoGAN(GAN):
    """GAN whose codes are found in its samples, and, by `encode`, in data.

    The history has the bound on the mutual information as `information`, in nats. Codes are c1, c2 …,
    the categorical ones first.

    Parameters
    ----------
    domain, context, latent, network, critic_steps, penalty, penalty_every, augment
        As in `GAN`, and so are its limits.
    hidden : sequence of int, optional
        Widths of the hidden layers of both networks; if they are convolutional, channels at half the
        resolution, at a quarter … None takes (128, 128, 128), or 64, 128 … channels.
    critic_rate : float, optional
        Learning rate of the critic and the recogniser; None takes 2·10⁻⁴ for images, and else that of the
        fit.
    categories : sequence of int
        Number of categories of each categorical code, all of them equally probable.
    continuous : int
        Number of continuous codes, uniform in [−1, 1].
    information : float
        Weight λ of the bound on the mutual information of categorical codes.
    continuous_information : float
        The same of continuous codes, whose information has no limit, so that a generator would give up the
        data for it.

    Raises
    ------
    LikelyError
        If there is no code, or an option is out of range.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("eight-gaussians")
    >>> model = lk.gans.InfoGAN(data.domain, categories=(8,), continuous=0)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.sample(5, codes={"c1": 3}, seed=1).shape
    torch.Size([5, 2])
    >>> model.encode(data.test.x[:4]).categories[0].shape
    torch.Size([4, 8])
    """

    critic: "Recogniser"

    def __init__(
        self,
        domain: Domain,
        *,
        categories: Annotated[Sequence[int], Range(2)] = (10,),
        continuous: NonNegativeInt = 2,
        information: NonNegative = 1.0,
        continuous_information: NonNegative = 0.1,
        **options: Any,
    ) -> None:
        self.categories, self.continuous = list(categories), continuous
        kinds: list[Column] = [Categorical(k) for k in categories]
        kinds += [Interval(-1, 1)] * continuous
        if not kinds:
            raise LikelyError("infogan: give categories or continuous codes, or take gan")
        names = tuple(f"c{i + 1}" for i in range(len(kinds)))
        self.codes = Domain((len(kinds),), tuple(kinds), names=names)
        super().__init__(domain, **options)
        self.weights = information, continuous_information
        if self.image is not None:
            self.recipe = Recipe(batch=128, rate=1e-3, betas=(0.5, 0.999), steps=6_000)
            self.critic_rate = self.critic_rate or 2e-4

    @property
    def noise(self) -> int:
        return self.latent + sum(self.categories) + self.continuous

    def networks(self, image: Shape | None, hidden: Widths | None) -> tuple[nn.Module, nn.Module]:
        given, inputs = self.context_size, self.noise + self.context_size
        posteriors = sum(self.categories) + 2 * self.continuous
        if image is None or self.image is None:
            widths = hidden or (128, 128, 128)
            trunk: nn.Module = MLP(self.view.dim + self.circles, CODE, widths, leaky_relu)
            generator: nn.Module = MLP(inputs, self.view.dim, widths)
            return generator, Recogniser(trunk, CODE, given, posteriors)
        widths = hidden or doubling(image, 64)
        features, generator = DCFeatures(self.image, widths), DCGenerator(inputs, image, widths)
        start_small(features)
        start_small(generator)
        return generator, Recogniser(features, features.size, given, posteriors)

    # The code.

    @property
    def normals(self) -> int | None:
        """None: its codes are not normal."""
        return None

    def _noise(self, n: int) -> Float[Tensor, "n noise"]:
        """z, and a code."""
        return torch.cat([super()._noise(n), self._features(self._draw_codes(n))], 1)

    def _draw_codes(self, n: int) -> Float[Tensor, "n codes"]:
        u = torch.rand(n, self.codes.size, dtype=self.view.scale.dtype, device=self.device)
        levels = torch.tensor(self.categories, device=u.device)
        count = len(self.categories)
        return torch.cat([(u[:, :count] * levels).floor(), 2 * u[:, count:] - 1], 1)

    def _features(self, codes: Float[Tensor, "n codes"]) -> Tensor:
        """What the generator sees of codes: categories one-hot, then numbers."""
        count = len(self.categories)
        hot = [F.one_hot(codes[:, i].long(), k) for i, k in enumerate(self.categories)]
        return torch.cat([*hot, codes[:, count:]], 1).to(self.view.scale)

    def bounds(self, posterior: Tensor, features: Tensor) -> Float[Tensor, "2 n"]:
        """log Q(c|x) + H(c) of categories and of numbers, given Q's outputs and codes' features.

        The mean of each is at most I(c; x), and so is that of their sum L_I.
        """
        *logits, mean, spread = posterior.split(self._outputs, 1)
        *hot, numbers = features.split([*self.categories, self.continuous], 1)
        std = _deviation(spread)
        normal = -((numbers - mean) / std).square() / 2 - std.log() - LOG_TWO_PI / 2
        categorical = normal.new_zeros(len(normal))
        for c, logit in zip(hot, logits, strict=True):
            categorical = categorical + (c * logit.log_softmax(1)).sum(1) + math.log(logit.shape[1])
        return torch.stack([categorical, (normal + math.log(2)).sum(1)])

    def _gain(self, posterior: Tensor, noise: Tensor) -> Float[Tensor, " n"]:
        """λ L_I, row by row."""
        categorical, continuous = self.bounds(posterior, noise[:, self.latent :])
        return self.weights[0] * categorical + self.weights[1] * continuous

    @property
    def _outputs(self) -> list[int]:
        """Number of outputs of Q for each categorical code, for all means and all deviations."""
        return [*self.categories, self.continuous, self.continuous]

    # The game.

    def _critic_objective(self, batch: Batch) -> Float[Tensor, " n"]:
        context = context_features(self, batch.context, len(batch))
        noise = self._noise(len(batch))
        real = self._shown(self._real(batch.x))
        with torch.no_grad():
            fake = self._shown(self._seen(self._generated(noise, context)))
        twice = None if context is None else context.repeat(2, 1)
        numbers, posterior = self.critic.both(torch.cat([real, fake]), twice)
        loss = self.critic_loss(*numbers.chunk(2)) + self._penalty(batch, real, fake, context)
        return loss - self._gain(posterior.chunk(2)[1], noise)

    def _generator_objective(self, batch: Batch) -> Float[Tensor, " n"]:
        context = context_features(self, batch.context, len(batch))
        noise = self._noise(len(batch))
        fake = self._shown(self._seen(self._generated(noise, context)))
        with frozen(self.critic):
            numbers, posterior = self.critic.both(fake, context)
        return self.generator_loss(numbers) - self._gain(posterior, noise)

    def figures(self, batch: Batch) -> dict[str, float]:
        """The bound on the mutual information, in nats."""
        context = context_features(self, batch.context, len(batch))
        noise = self._noise(len(batch))
        posterior = self.critic.both(self._seen(self._generated(noise, context)), context)[1]
        bounds = self.bounds(posterior, noise[:, self.latent :])
        return {"information": bounds.sum(0).mean().item()}

    # Use.

    def encode(self, x: Rows, context: Tensor | None = None) -> CodePosterior:
        """Q(c|x), the posterior of the codes of rows.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        context : Tensor, shape (n, *context.shape), optional

        Raises
        ------
        DataError
            If a row lies outside the domain, or the context is missing or not wanted.
        """
        x = accept_inside(self, x)

        def outputs(x: Tensor, context: Tensor | None) -> Tensor:
            return self.critic.both(self._real(x), context)[1].T

        found = map_chunks(self, outputs, x, context, seed=0).T
        *logits, mean, spread = found.split(self._outputs, 1)
        return CodePosterior([logit.softmax(1) for logit in logits], mean, _deviation(spread))

    def sample(self, n: int, *, codes: Any = None, **sampling: Any) -> Any:
        """Draw from the model, given codes if there are some; otherwise as `GenerativeModel.sample`.

        Parameters
        ----------
        n : int
        codes : Tensor, shape (n, codes) or (codes,), or a dictionary or frame by their names, optional
            Categories as 0, 1 …, then numbers in [−1, 1]; one row serves all draws.
        **sampling
            As in `GenerativeModel.sample`.

        Raises
        ------
        DataError
            If the codes have another shape, or lie outside their ranges.
        """
        if codes is not None:
            codes = as_rows(codes, self.codes, "the codes").to(self.device)
            codes = of_each(codes, self.codes.shape, n, "the codes have")
            self.codes.check(codes, "the codes")
        return super().sample(n, codes=codes, **sampling)

    def _sample(self, n: int, context: Tensor | None, *, codes: Tensor | None = None) -> Tensor:
        """Draws; codes have a row for each."""
        noise = self._noise(n)
        if codes is not None:
            noise = torch.cat([noise[:, : self.latent], self._features(codes)], 1)
        return self.view.inverse(self._generated(noise, context))


class Recogniser(nn.Module):
    """A critic that also recognises codes: shared layers, then f(u, c) and the outputs of Q.

    Parameters
    ----------
    trunk : Module
        The shared layers.
    features, context, posteriors : int
        Numbers of outputs of the trunk, of features of the context, and of outputs of Q.
    """

    def __init__(self, trunk: nn.Module, features: int, context: int, posteriors: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.judge = MLP(features + context, 1, (CODE,), leaky_relu)
        self.recognise = MLP(features + context, posteriors, (CODE,), leaky_relu)

    def both(self, u: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The critic's number of each row, and the outputs of Q."""
        h = with_context(leaky_relu(self.trunk(u)), context)
        return self.judge(h).squeeze(1), self.recognise(h)

    def forward(self, u: Tensor, context: Tensor | None) -> Float[Tensor, " n"]:
        return self.judge(with_context(leaky_relu(self.trunk(u)), context)).squeeze(1)


def _deviation(spread: Tensor) -> Tensor:
    return NARROWEST + F.softplus(spread)
