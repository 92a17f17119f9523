"""Glow: generative flow with invertible 1×1 convolutions (Kingma & Dhariwal 2018, arXiv:1807.03039).

A step of the flow is an ActNorm, a 1×1 convolution, whose matrix mixes the channels, and an affine coupling
of one half of the channels to the other (table 1):

    y = eˢ ⊙ (x + b),     y = P L (U + diag ± eˢ) x,     y₁ = x₁,  y₂ = x₂ ⊙ exp s(x₁) + t(x₁).

A level squeezes the image, which trades 2×2 pixels for four channels, takes some steps, and lets half of
the channels go on to the next level (fig. 2b). Those that leave, z₂, are normal given those that go on,

    p(z₂|z₁) = N(μ(z₁), σ(z₁)²),

which is an affine coupling of z₂ to z₁, too, with the base N(0, 1); so μ and σ of the last level are an
ActNorm. All networks start at zero.

The scale is not the sigmoid(s' + 2) of the authors' code, which can only shrink and may come arbitrarily
close to zero, so that samples run off to infinity, but that of the other flows here (`Affine`), which is
bounded on both sides and 1 at first.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from likely.contract import Batch, NonNegative, Recipe, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.models.flows.affine import Affine
from likely.models.flows.base import AffineFlow
from likely.models.flows.images import squeezed
from likely.models.flows.linear import LU, ActNorm
from likely.nets.convolutional import Shape, image_shape
from likely.nets.noise import zeroed


@register(
    "glow",
    title="flow with invertible 1×1 convolutions",
    density="exact; lower bound on integers",
    constraint="invertible; half of the channels move at a time",
    paper="Kingma & Dhariwal 2018, arXiv:1807.03039",
)
class Glow(AffineFlow):
    """Glow: affine couplings between learned mixtures of channels, at several scales.

    Where rows are no images they are images of one pixel, and so are images with constant pixels, which are
    no part of the density, and grey ones with an odd edge, which have no channels to mix.

    Parameters
    ----------
    domain : Domain
        Of real, positive, bounded, integer, count or binary columns; none may be periodic.
    context : Domain, optional
    levels : int, optional
        How often the image is squeezed; never where an edge is odd. None squeezes to edges of 4 to 7 pixels,
        but twice if that is possible.
    transforms : int, optional
        Steps of the flow at each level. None takes 8, or 6 if an edge is below 16 pixels.
    channels : int
        Of the hidden maps of the couplings' networks.
    view : {"bijections", "affine"}, optional
        What finitely many levels become, as in `RealModel`. None takes "affine" for images, as published
        figures do, and "bijections" for other rows.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.flows.Glow(data.domain, transforms=2, channels=8)
    >>> history = lk.fit(model, data, steps=5)
    >>> model.sample(5, seed=1, temperature=0.7).shape
    torch.Size([5, 8, 8])
    """

    def __init__(
        self,
        domain: Domain,
        *,
        levels: int | None = None,
        transforms: int | None = None,
        channels: int = 64,
        view: Literal["bijections", "affine"] | None = None,
        **options: Any,
    ) -> None:
        shape = image_shape(domain)
        view = view or ("bijections" if shape is None else "affine")
        super().__init__(domain, view=view, **options)
        if shape is None or self.view.dim < domain.size or (shape[0] == 1 and _odd(shape)):
            shape = self.view.dim, 1, 1
        else:
            # A convolution takes as long for many small batches as for a few large ones.
            self.recipe = Recipe(batch=64, rate=1e-3)
        edge = min(shape[1:])
        levels = levels or max(2, int(math.log2(edge / 4)))
        transforms = transforms or (6 if edge < 16 else 8)
        layers: list[nn.Module] = []
        for entries, last in _levels(shape, levels):
            size = len(entries)
            for _ in range(transforms):
                rotation = nn.init.orthogonal_(torch.empty(size, size))
                step = [ActNorm(size), LU(rotation), self._coupling(entries, (channels, channels))]
                layers += [OnImage(entries, transform) for transform in step]
            top = ActNorm(size) if last else self._coupling(entries, ())
            layers.append(OnImage(entries, top))
        self.transforms = nn.ModuleList(layers)

    def _coupling(self, entries: Tensor, hidden: Sequence[int]) -> "ChannelCoupling":
        return ChannelCoupling(entries.shape, hidden, self.context_size)

    def prepare(self, batch: Batch) -> None:
        """Take scales from rows of the training split, those of each ActNorm from what comes to it."""
        super().prepare(batch)
        z = self._flipped(self.view(batch.x)[0])
        hooks = [
            module.register_forward_pre_hook(lambda norm, x: norm.prepare(x[0], batch.weight))
            for module in self.modules()
            if isinstance(module, ActNorm)
        ]
        with torch.no_grad():
            self._transformed(z, context_features(self, batch.context, len(z)))
        for hook in hooks:
            hook.remove()

    def _sample(self, n: int, context: Tensor | None, *, temperature: NonNegative = 1.0) -> Tensor:
        """Draws; a temperature multiplies the standard deviations of the base, and of all that leaves."""
        z = self._inverted(temperature * self._sample_base(n), context)
        return self.view.inverse(self._flipped(z))


class OnImage(nn.Module):
    """A transform of some entries of a row, arranged as an image; the others stay.

    Parameters
    ----------
    entries : Tensor of int, shape (channels, height, width)
    transform : Module
        Of tensors of shape (n, channels, height, width).
    """

    def __init__(self, entries: Tensor, transform: nn.Module) -> None:
        super().__init__()
        self.entries = nn.Buffer(entries, persistent=False)
        self.transform = transform

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """y and the log-determinant, shapes (n, entries) and (n,)."""
        return self._placed(x, *self.transform(self._image(x), context))

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        """x, of shape (n, entries)."""
        return self.inverse_with_log_det(y, context)[0]

    def inverse_with_log_det(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """x and the log-determinant of the inverse, shapes (n, entries) and (n,)."""
        inverse: Callable[..., Any] = self.transform.inverse_with_log_det  # type: ignore[assignment]
        return self._placed(y, *inverse(self._image(y), context))

    def _image(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.entries.flatten()).unflatten(1, self.entries.shape)

    def _placed(self, x: Tensor, image: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
        return x.index_copy(1, self.entries.flatten(), image.flatten(1)), log_det


class ChannelCoupling(nn.Module):
    """The first half of the channels stays, and the others move affinely given those.

    Networks see a channel of ones, too, from which convolutions know where the image ends.

    Parameters
    ----------
    shape : (channels, height, width)
    hidden : sequence of int
        Maps between the convolutions, of which only the first and the last are wider than a pixel.
    context : int
        Number of context features.
    """

    def __init__(self, shape: Sequence[int], hidden: Sequence[int], context: int) -> None:
        super().__init__()
        self.staying = shape[0] // 2
        moving = shape[0] - self.staying
        self.affine = Affine(torch.zeros(moving, dtype=torch.bool))
        widths = [self.staying + 1 + context, *hidden, self.affine.size * moving]
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            kernel = [1 if 0 < i < len(hidden) or edge == 1 else 3 for edge in shape[1:]]
            padding = [width // 2 for width in kernel]
            layers += [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.ReLU()]  # type: ignore[arg-type]
        self.net = nn.Sequential(*layers[:-1])
        zeroed(self.net[-1])

    def _parameters_of(self, staying: Tensor, context: Tensor | None) -> Tensor:
        seen = [staying, staying.new_ones(len(staying), 1, *staying.shape[2:])]
        if context is not None:
            seen.append(context[..., None, None].expand(-1, -1, *staying.shape[2:]))
        parameters = self.net(torch.cat(seen, 1)).to(staying.dtype)
        return parameters.unflatten(1, (self.affine.size, -1))

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """y, in the shape of x, and the log-determinant, of shape (n,)."""
        staying, moving = x.tensor_split([self.staying], 1)
        moved, log_slope = self.affine(moving, self._parameters_of(staying, context))
        return torch.cat([staying, moved], 1), log_slope.flatten(1).sum(1)

    def inverse_with_log_det(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """x and the log-determinant of the inverse."""
        staying, moved = y.tensor_split([self.staying], 1)
        parameters = self._parameters_of(staying, context)
        moving = self.affine.inverse(moved, parameters)
        log_slope = self.affine(moving, parameters)[1]
        return torch.cat([staying, moving], 1), -log_slope.flatten(1).sum(1)


def _levels(shape: Shape, levels: int) -> Iterator[tuple[Tensor, bool]]:
    """For each level the entries that its steps act on, as an image, and whether it is the last one."""
    entries = torch.arange(math.prod(shape)).reshape(shape)
    if _odd(shape):
        yield entries, True
        return
    last = False
    while not last:
        levels -= 1
        entries = squeezed(entries)
        last = not levels or _odd(entries.shape)
        yield entries, last
        entries = entries[: len(entries) // 2]


def _odd(shape: Sequence[int]) -> bool:
    """Whether an edge of an image is odd, so that it cannot be squeezed."""
    return bool(shape[1] % 2 or shape[2] % 2)
