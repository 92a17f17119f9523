"""CycleGAN: translation between two domains of which no pairs are known.

Zhu, Park, Isola & Efros 2017, arXiv:1703.10593. Two maps, G: A → B and F: B → A, each with a critic of
what it makes. With least squares (sec. 4, as in LSGAN) G and F minimise

    E_a (D_B(G(a)) − 1)² + E_b (D_A(F(b)) − 1)²
        + λ (E_a |F(G(a)) − a| + E_b |G(F(b)) − b|)                            (eqs. 2 and 3)
        + λ ι (E_b |G(b) − b| + E_a |F(a) − a|),                               (sec. 5.2)

and D_B minimises ½ E_b (D_B(b) − 1)² + ½ E D_B(y)², where y is a translation or, half of the time, an
earlier one out of a pool (Shrivastava et al. 2017, arXiv:1612.07828, sec. 2.3).

The losses do not say which map is meant: with every symmetry S of B, the pair S∘G, F∘S⁻¹ is as good
(Moriakov, Adler & Teuwen 2020, arXiv:2001.09061).
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, Objective, Recipe, Rows, ViewedModel, register
from likely.contract.inputs import as_rows, chunks, context_features
from likely.contract.options import NonNegative, NonNegativeInt, Positive, Widths
from likely.contract.views import Chart, Columns, RealView
from likely.core.columns import Periodic
from likely.core.domain import Domain
from likely.core.errors import DataError, DomainError, LikelyError
from likely.core.likelihood import Figure, Kind
from likely.core.random import seeded
from likely.models.gans.gan import MIN_IMAGE
from likely.nets.convolutional import Network, Shape, image_shape, image_shape_for, leaky_relu
from likely.nets.critic import frozen
from likely.nets.mlp import MLP
from likely.nets.translator import PatchCritic, Translator

NOISE = 1 / 16  # standard deviations: about 1/64 of the range of pixels


class CycleErrors(NamedTuple):
    """How rows return from their translations, in standard deviations of their columns.

    Attributes
    ----------
    error : Figure
        Mean of |F(G(a)) − a|.
    noisy : Figure
        The same with a little noise on the translation.
    gain : float
        How much the way back amplifies that noise, as a root mean square: about 1 where what a row
        needs to return can be seen in its translation, far above it where it is hidden in details.
    """

    error: Figure
    noisy: Figure
    gain: float


@register(
    "cyclegan",
    title="CycleGAN",
    constraint="two maps that return what they are given; a critic for each domain",
    paper="Zhu et al. 2017, arXiv:1703.10593",
)
class CycleGAN(ViewedModel):
    """Translation between two domains, learnt from rows of both that are not paired.

    `context` is the domain A that is translated from, `domain` the domain B that is translated to:
    `lk.unpaired(a, b)` makes such data. `sample(n, context=a)` and `translate(a)` give rows of B,
    `translate(b, back=True)` rows of A. Without a context A is normal noise, and the model a GAN with a
    way back. It has no likelihood.

    That cycles close does not make a translation right. Where the domains have symmetries, a wrong map
    is as good as the one that is meant, and what a translation should lose may be hidden in it
    (Chu, Zhmoginov & Sandler 2017, arXiv:1712.02950): look at `cycle_errors`.

    Parameters
    ----------
    domain : Domain
        B, of columns that are neither periodic nor categories.
    context : Domain, optional
        A, likewise; images have the size of those of B.
    hidden : sequence of int, optional
        Widths of the hidden layers of all networks; if they are convolutional, channels at full
        resolution, at half … None takes (128, 128, 128), or (32, 64) channels.
    blocks : int
        Residual blocks of convolutional maps, at the lowest resolution.
    network : {"auto", "mlp", "convolutional"}
        Convolutions are for images with entries of one kind; "auto" takes them from 16 × 16 pixels on.
    cycle : float
        Weight λ of the return, whose distance is in standard deviations of the columns.
    identity : float
        Weight ι, in units of λ, with which G leaves rows of B as they are, and F those of A: it keeps
        colours, and holds back maps that change much. The domains must have as many columns.
    pool : int
        How many earlier translations are kept for each critic.

    Raises
    ------
    DomainError
        If a domain has other columns, or the images are of different sizes.
    LikelyError
        If an option is out of range, or convolutions are asked for where there are no images.

    Examples
    --------
    >>> import likely as lk
    >>> import numpy as np
    >>> a, b = np.random.default_rng(0).gamma(2, size=(2, 1000, 1))
    >>> data = lk.unpaired(a, 3 * b + 1)
    >>> model = lk.gans.CycleGAN(data.domain, context=data.context, hidden=(16,))
    >>> history = lk.fit(model, data, steps=10)
    >>> model.translate(a[:5]).shape
    torch.Size([5, 1])
    """

    accepts = RealView.accepts - {Periodic}
    density = Kind.NONE
    recipe = Recipe(batch=256, rate=1e-3, betas=(0.5, 0.999), steps=10_000)

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        hidden: Widths | None = None,
        blocks: NonNegativeInt = 4,
        network: Network = "auto",
        cycle: NonNegative = 10.0,
        identity: NonNegative = 0.0,
        pool: NonNegativeInt = 50,
    ) -> None:
        images = _images(context or domain, domain, network)
        chart: Chart = "plain" if images is None else "pixels"
        super().__init__(domain, context=context)
        self.view = RealView(domain, chart)
        self.cycle, self.identity, self.pool = cycle, identity, pool
        if context is not None:
            if obstacle := self.obstacle(context):
                raise DomainError(f"context: CycleGAN does not translate {obstacle}")
            self.context_features = Columns(context, chart)  # type: ignore[assignment]
        a, b = self.context_size or self.view.dim, self.view.dim
        if identity and a != b:
            raise LikelyError(f"identity={identity}: {a} columns cannot stay as they are among {b}")
        self.images = images is not None
        if images is None:
            hidden = hidden or (128, 128, 128)
            maps: list[nn.Module] = [MLP(a, b, hidden), MLP(b, a, hidden)]
            critics: list[nn.Module] = [MLP(size, 1, hidden, leaky_relu) for size in (a, b)]
        else:
            hidden = hidden or (32, 64)
            maps = [Translator(of, to[0], hidden, blocks) for of, to in (images, images[::-1])]
            critics = [PatchCritic(shape, [2 * width for width in hidden]) for shape in images]
            self.recipe = Recipe(batch=16, rate=2e-4, betas=(0.5, 0.999), steps=10_000)
        self.maps, self.critics = nn.ModuleList(maps), nn.ModuleList(critics)
        self.load_training_state({})

    @property
    def source(self) -> RealView | None:
        """The view of A."""
        return None if self.context_features is None else self.context_features.view  # type: ignore[return-value]

    # The maps, between columns of the views.

    def there(self, a: Float[Tensor, "n a"]) -> Float[Tensor, "n b"]:
        """G."""
        return self.view.squash(self._moved(self.maps[0], a))

    def back(self, b: Float[Tensor, "n b"]) -> Float[Tensor, "n a"]:
        """F."""
        a = self._moved(self.maps[1], b)
        return a if self.source is None else self.source.squash(a)

    def _moved(self, move: nn.Module, x: Tensor) -> Tensor:
        """Vectors of equal length begin near where they are: standardised, that is a fair guess."""
        y = move(x)
        return y if self.images or y.shape != x.shape else x + y

    # The players.

    def loss(self, batch: Batch) -> Tensor:
        raise LikelyError("a CycleGAN has two players: train both of its `objectives()`")

    def objectives(self) -> list[Objective]:
        maps, critics = (list(nets.parameters()) for nets in (self.maps, self.critics))
        return [
            Objective("maps", maps, self._maps_objective),
            Objective("critics", critics, self._critics_objective),
        ]

    def _source_rows(self, batch: Batch) -> Float[Tensor, "n a"]:
        a = context_features(self, batch.context, len(batch))
        return self._noise(len(batch)) if a is None else a

    def _noise(self, n: int) -> Float[Tensor, "n a"]:
        return self.view.scale.new_empty(n, self.view.dim).normal_()

    def _maps_objective(self, batch: Batch) -> Float[Tensor, " n"]:
        a, b = self._source_rows(batch), self.view(batch.x, 0.5)[0]
        fake_a, fake_b = self.back(b), self.there(a)
        returned = _distance(self.back(fake_b), a) + _distance(self.there(fake_a), b)
        with frozen(self.critics):  # they judge, but do not learn from this
            judged = _error(self.critics[0](fake_a), 1) + _error(self.critics[1](fake_b), 1)
        loss = judged + self.cycle * returned
        if self.identity:
            kept = _distance(self.there(b), b) + _distance(self.back(a), a)
            loss = loss + self.cycle * self.identity * kept
        return loss

    def _critics_objective(self, batch: Batch) -> Float[Tensor, " n"]:
        a, b = self._source_rows(batch), self.view(batch.x)[0]
        with torch.no_grad():
            fakes = self.back(self.view(batch.x, 0.5)[0]), self.there(a)
        if batch.context is not None and self.source is not None:
            a = self.source(batch.context)[0]  # levels anywhere in their cells, as those of b
        losses = [
            (_error(critic(real), 1) + _error(critic(self._pooled(side, fake)), 0)) / 2
            for side, (critic, real, fake) in enumerate(
                zip(self.critics, (a, b), fakes, strict=True)
            )
        ]
        return losses[0] + losses[1]

    def _pooled(self, side: int, fake: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Translations, half of them replaced by earlier ones out of the pool, which they replace."""
        pool = self._pools.setdefault(str(side), fake[:0])
        if len(pool) < self.pool:
            self._pools[str(side)] = torch.cat([pool, fake[: self.pool - len(pool)]])
            return fake
        swapped = torch.randperm(len(fake), device=fake.device)[: self.pool]
        swapped = swapped[torch.rand(len(swapped), device=fake.device) < 0.5]
        places = torch.randperm(self.pool, device=fake.device)[: len(swapped)]
        self._pools[str(side)] = pool.index_copy(0, places, fake[swapped])
        return fake.index_copy(0, swapped, pool[places])

    def training_state(self) -> dict[str, Any]:
        return dict(self._pools)

    def load_training_state(self, state: dict[str, Any]) -> None:
        self._pools: dict[str, Tensor] = {
            side: pool.to(self.view.scale) for side, pool in state.items()
        }

    # Use.

    def _sample(self, n: int, context: Tensor | None) -> Rows:
        return self.view.inverse(self.there(self._noise(n) if context is None else context))

    def translate(self, x: Any, *, back: bool = False) -> Rows:
        """Translate rows of A to B, or rows of B back to A.

        Parameters
        ----------
        x : Tensor, shape (n, *context.shape), or (n, *domain.shape) to go back
        back : bool

        Returns
        -------
        Tensor, shape (n, *domain.shape), or (n, *context.shape)

        Raises
        ------
        DomainError
            If the model was built without a context.
        DataError
            If rows lie outside their domain.
        """
        columns = self._columns(x, back)
        view = self.source if back else self.view
        assert view is not None
        move = self.back if back else self.there
        with torch.no_grad():
            parts = [view.inverse(move(columns[at])) for at in chunks(self.domain, len(columns))]
        return torch.cat(parts) if parts else view.inverse(columns.new_empty(0, view.dim))

    def cycle_errors(
        self, x: Any, *, back: bool = False, noise: Positive = NOISE, seed: int | None = None
    ) -> CycleErrors:
        """How well rows return, with and without noise on their translations.

        Parameters
        ----------
        x, back
            As in `translate`; at least two rows.
        noise : float
            Its standard deviation, in those of the translation's columns.
        seed : int, optional
            Of the noise.

        Raises
        ------
        DomainError, DataError
            As `translate`.
        """
        columns = self._columns(x, back)
        if len(columns) < 2:
            raise DataError(f"cycle_errors: give at least two rows, not {len(columns)}")
        there, return_ = (self.back, self.there) if back else (self.there, self.back)
        errors, amplified, added = [], [], []
        with torch.no_grad(), seeded(seed, self.device):
            for at in chunks(self.domain, len(columns)):
                part = columns[at]
                translated = there(part)
                by = noise * torch.randn_like(translated)
                returns = [return_(y) for y in (translated, translated + by)]
                errors.append(torch.stack([_distance(y, part) for y in returns]))
                amplified.append((returns[1] - returns[0]).square().mean(1))
                added.append(by.square().mean(1))
        distance = torch.cat(errors, 1).double()
        means = [Figure(d.mean().item(), d.std().item() / len(d) ** 0.5) for d in distance]
        gain = torch.cat(amplified).double().mean() / torch.cat(added).double().mean()
        return CycleErrors(means[0], means[1], gain.sqrt().item())

    def _columns(self, x: Any, back: bool) -> Tensor:
        """Rows that a user gives, as the maps see them."""
        if self.context is None or self.context_features is None:
            raise DomainError(
                "this CycleGAN was built without a context, from noise: it translates no rows; build it "
                "with that of lk.unpaired(a, b)"
            )
        domain = self.domain if back else self.context
        x = as_rows(x, domain, "x").to(self.device)
        domain.check(x, "the rows to translate")
        return self.view(x, 0.5)[0] if back else self.context_features(x)


def _images(a: Domain, b: Domain, network: str) -> tuple[Shape, Shape] | None:
    """The shapes of the images of both domains, if convolutions are to see them."""
    sizes = [None if shape is None else shape[1:] for shape in map(image_shape, (a, b))]
    if None not in sizes and sizes[0] != sizes[1] and network != "mlp":
        first, second = (" × ".join(map(str, size or ())) for size in sizes)
        raise DomainError(
            f"images of {first} and of {second} pixels: bring them to one size, or take network='mlp'"
        )
    shapes = [image_shape_for(d, network, len(d.columns) == 1, least=MIN_IMAGE) for d in (a, b)]
    return None if shapes[0] is None or shapes[1] is None else (shapes[0], shapes[1])


def _error(judged: Tensor, wanted: float) -> Float[Tensor, " n"]:
    """Squared distance of a critic's numbers, one or one for each patch, from what is wanted."""
    return (judged - wanted).square().reshape(len(judged), -1).mean(1)


def _distance(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return (x - y).abs().mean(1)
