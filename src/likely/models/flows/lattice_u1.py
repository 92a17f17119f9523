"""Gauge-equivariant flow of the links of U(1) in two dimensions.

Kanwar et al. 2020, Phys. Rev. Lett. 125, 121601, arXiv:2003.06413; Albergo et al. 2021, arXiv:2101.08176.
A layer moves the links θ_μ of every fourth stripe along μ, each through the plaquette on one side of it,

    P(x) = θ_μ(x) + θ_ν(x + μ̂) − θ_μ(x + ν̂) − θ_ν(x),

by a monotone map h of the circle (here a rational-quadratic spline, arXiv:2002.02428, whose inverse has
a closed form):

    θ_μ′(x) = θ_μ(x) + h(P(x)) − P(x),      log |det ∂θ′/∂θ| = Σ log h′(P(x)).

From one stripe to the next plaquettes are active (P above), frozen, frozen, and passive: these change with
the links of the stripe after. A convolutional network sees the cosines and sines of the frozen ones, and
says what h is. So plaquettes are all that matters, and the base, uniform on all links, knows no gauge
either: the density is the same after gauge transformations, and after shifts by four sites. Each four
stripes are one pixel of the network, which then has nothing to do where nothing moves.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from likely.contract import Recipe, register
from likely.core.columns import Periodic
from likely.core.domain import Domain
from likely.models.flows.base import Flow
from likely.models.flows.spline import RationalQuadraticSpline, wrap
from likely.models.flows.transforms import start_at_identity
from likely.nets.convolutional import ResidualConvolutions, circular

PERIOD = 4  # of the stripes


class GaugeCoupling(nn.Module):
    """The map of one layer; it goes from the links to the base, its inverse is the one above.

    Parameters
    ----------
    shape : (int, int)
        Sides of the lattice.
    direction : int
        μ, of the links that move.
    offset : int
        The first stripe that moves.
    bins : int
        Of the splines.
    channels, blocks : int
        Size of the network.
    context : int
        Number of context features.
    """

    def __init__(
        self,
        shape: Sequence[int],
        direction: int,
        offset: int,
        bins: int,
        channels: int,
        blocks: int,
        context: int,
    ) -> None:
        super().__init__()
        links = torch.arange(2 * math.prod(shape)).reshape(2, *shape)
        along, across = links.flip(0).mT if direction else links  # θ_μ and θ_ν, at (x_μ, x_ν)
        corners = torch.stack([along, across.roll(-1, 0), along.roll(-1, 1), across])
        stripes = corners.roll(-offset, 2).unflatten(2, (-1, PERIOD))
        self.active = nn.Buffer(stripes[..., 0].flatten(1), persistent=False)
        self.frozen = nn.Buffer(stripes[..., 1:3].flatten(1), persistent=False)
        _, height, width, _ = stripes.shape
        self.pixels = height, width
        self.h = RationalQuadraticSpline(torch.ones(self.active.shape[1], dtype=torch.bool), bins)
        sizes = 4, self.h.size, channels, blocks, context
        self.net = ResidualConvolutions(*sizes, layer=circular(height, width))
        start_at_identity(self.net.last)

    def _plaquettes(self, theta: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Active plaquettes of links with the rows last, and the parameters of their maps."""
        frozen = _plaquettes(theta, self.frozen)
        seen = torch.stack([frozen.cos(), frozen.sin()]).reshape(2, *self.pixels, 2, -1)
        image = seen.permute(4, 0, 3, 1, 2).flatten(1, 2)
        parameters = self.net(image, context).to(theta.dtype).flatten(2).permute(2, 1, 0)
        return wrap(_plaquettes(theta, self.active)), parameters

    def _moved(self, theta: Tensor, by: Tensor) -> Tensor:
        moving = self.active[0]
        return theta.index_copy(0, moving, wrap(theta.index_select(0, moving) + by)).T

    def inverse_with_log_det(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """θ′ of the rows y of links θ, and the log-determinant."""
        theta = y.T.contiguous()
        plaquettes, parameters = self._plaquettes(theta, context)
        moved, log_slope = self.h(plaquettes, parameters)
        return self._moved(theta, moved - plaquettes), log_slope.sum(0)

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        """θ′, of shape (n, links)."""
        return self.inverse_with_log_det(y, context)[0]

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """θ of the rows x of links θ′, and the log-determinant."""
        theta = x.T.contiguous()
        moved, parameters = self._plaquettes(theta, context)
        plaquettes = self.h.inverse(moved, parameters)
        log_slope = self.h(plaquettes, parameters)[1]
        return self._moved(theta, plaquettes - moved), -log_slope.sum(0)


def _plaquettes(theta: Tensor, corners: Tensor) -> Tensor:
    """Σ ±θ around squares, not wrapped, from the numbers of their links, shape (4, squares)."""
    first, second, third, fourth = theta.index_select(0, corners.flatten()).unflatten(0, (4, -1))
    return first + second - third - fourth


@register(
    "lattice-u1",
    title="gauge-equivariant flow of U(1) links in two dimensions",
    constraint="invertible; density the same under gauge transformations and shifts by four sites",
    paper="Kanwar et al. 2020, arXiv:2003.06413",
)
class LatticeU1(Flow):
    """Gauge-equivariant flow of U(1) links, mostly to be trained on an action.

    Parameters
    ----------
    domain : Domain
        Of shape (2, L₀, L₁), periodic columns of one kind with layout="lattice", as that of
        `lk.targets.u1`; the sides must be multiples of 4.
    context : Domain, optional
    transforms : int
        Number of layers; eight of them move each link once.
    bins : int
        Bins of a spline.
    channels, blocks : int
        Hidden maps and residual blocks of the convolutional networks.

    Raises
    ------
    DomainError
        If the domain has another shape, layout or kind of columns.

    Examples
    --------
    >>> import likely as lk
    >>> target = lk.targets.u1(4, beta=1.0)
    >>> model = lk.flows.LatticeU1(target.domain, transforms=8, channels=8)
    >>> history = lk.fit(model, target, steps=10)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 2, 4, 4])
    """

    accepts = frozenset({Periodic})
    of_one_kind = True
    recipe = Recipe(batch=256, rate=5e-3)

    def __init__(
        self,
        domain: Domain,
        *,
        transforms: int = 16,
        bins: int = 8,
        channels: int = 16,
        blocks: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.transforms = nn.ModuleList(
            GaugeCoupling(
                domain.shape[1:], i % 2, i // 2 % PERIOD, bins, channels, blocks, self.context_size
            )
            for i in range(transforms)
        )

    @classmethod
    def obstacle(cls, domain: Domain) -> str | None:
        links = len(domain.shape) == 3 and domain.shape[0] == 2
        fits = links and not any(length % PERIOD for length in domain.shape[1:])
        if (obstacle := super().obstacle(domain)) or (fits and domain.layout == "lattice"):
            return obstacle
        return 'anything but layout="lattice" of shape (2, L, L), the sides multiples of 4'
