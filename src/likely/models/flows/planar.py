"""Flows of maps that move points along few directions: planar, radial, Sylvester.

Rezende & Mohamed (2015), arXiv:1505.05770; van den Berg, Hasenclever, Tomczak & Welling (2018),
arXiv:1803.05649. The maps and their equations are in `likely.nets.planar`. They go from the data to the
base: a density takes one pass, and a sample solves one equation in one unknown for each direction of each
map, which is exact too.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from likely.contract import Recipe, Widths, register
from likely.core.domain import Domain
from likely.models.flows.base import AffineFlow
from likely.models.flows.transforms import start_at_identity
from likely.nets import planar
from likely.nets.mlp import MLP

NEAR = 0.1  # size of what takes a map away from the identity at first


class FewDirections(AffineFlow):
    """A flow of maps with free parameters, or parameters that a network makes of the context.

    Parameters
    ----------
    domain : Domain
        Of real, positive, bounded, integer, count or binary columns; none may be periodic.
    context : Domain, optional
    transforms : int
        Number of maps.
    hidden : sequence of int
        Widths of the hidden layers from the context to the parameters of a map.
    """

    recipe = Recipe(batch=512, rate=1e-2)

    def __init__(
        self, domain: Domain, *, transforms: int = 16, hidden: Widths = (64,), **options: Any
    ) -> None:
        super().__init__(domain, **options)
        self.transforms = nn.ModuleList(self._map(hidden) for _ in range(transforms))

    def _map(self, hidden: Sequence[int]) -> "Map":
        raise NotImplementedError


class Map(nn.Module):
    """A map of rows and its inverse.

    Parameters
    ----------
    context : int
        Number of context features.
    hidden : sequence of int
        Widths of the network from these to changes of the parameters.
    start : Tensor
        Parameters, part by part; each may have several axes.
    """

    def __init__(self, context: int, hidden: Sequence[int], *start: Tensor) -> None:
        super().__init__()
        self.shapes = [part.shape for part in start]
        self.start = nn.Parameter(torch.cat([part.flatten() for part in start]))
        self.net = MLP(context, len(self.start), hidden) if context else None
        if self.net is not None:
            start_at_identity(self.net.layers[-1])

    def parameters_of(self, context: Tensor | None) -> list[Tensor]:
        """The parts, of all rows or with one row for each context."""
        values = self.start
        if self.net is not None and context is not None:
            values = values + self.net(context)
        parts = values.split([shape.numel() for shape in self.shapes], -1)
        return [
            part.reshape((*part.shape[:-1], *shape))
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """y and the log-determinant, shapes (n, entries) and (n,)."""
        raise NotImplementedError

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        """z, of shape (n, entries), with first derivatives."""
        raise NotImplementedError

    def inverse_with_log_det(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """z and the log-determinant of the inverse, shapes (n, entries) and (n,)."""
        z = self.inverse(y, context)
        return z, -self(z, context)[1]


@register(
    "planar",
    title="planar flow",
    density="exact; lower bound on integers",
    constraint="invertible; each map is one ridge, which suits few columns",
    paper="Rezende & Mohamed 2015, arXiv:1505.05770",
)
class Planar(FewDirections):
    """Planar flow: each map moves points along u, by a function of their place along w.

    Parameters are those of the class above: `transforms`, and `hidden` where there is a context.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("moons")
    >>> model = lk.flows.Planar(data.domain, transforms=4)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.log_prob(model.sample(5, seed=1)).shape
    torch.Size([5])
    """

    def _map(self, hidden: Sequence[int]) -> Map:
        return PlanarMap(self.view.dim, self.context_size, hidden)


class PlanarMap(Map):
    """y = z + û tanh(wᵀz + b).

    Parameters
    ----------
    entries, context : int
    hidden : sequence of int
    """

    def __init__(self, entries: int, context: int, hidden: Sequence[int]) -> None:
        u, w = NEAR * torch.randn(entries), torch.randn(entries) / math.sqrt(entries)
        super().__init__(context, hidden, u, w, torch.randn(()))

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return planar.planar(z, *self.parameters_of(context))

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        return planar.planar_inverse(y, *self.parameters_of(context))


@register(
    "radial",
    title="radial flow",
    density="exact; lower bound on integers",
    constraint="invertible; each map stretches around one centre, which suits few columns",
    paper="Rezende & Mohamed 2015, arXiv:1505.05770",
)
class Radial(FewDirections):
    """Radial flow: each map moves points away from a centre or towards it.

    Parameters are those of the class above: `transforms`, and `hidden` where there is a context.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("moons")
    >>> model = lk.flows.Radial(data.domain, transforms=4)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.log_prob(model.sample(5, seed=1)).shape
    torch.Size([5])
    """

    def _map(self, hidden: Sequence[int]) -> Map:
        return RadialMap(self.view.dim, self.context_size, hidden)


class RadialMap(Map):
    """y = z + β̂ (z − z₀)/(α + ‖z − z₀‖).

    Parameters
    ----------
    entries, context : int
    hidden : sequence of int
    """

    def __init__(self, entries: int, context: int, hidden: Sequence[int]) -> None:
        super().__init__(
            context, hidden, torch.randn(entries), torch.zeros(()), NEAR * torch.randn(())
        )

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return planar.radial(z, *self.parameters_of(context))

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        return planar.radial_inverse(y, *self.parameters_of(context))


@register(
    "sylvester",
    title="Sylvester flow",
    density="exact; lower bound on integers",
    constraint="invertible; each map is a few ridges at right angles, which suits few columns",
    paper="van den Berg, Hasenclever, Tomczak & Welling 2018, arXiv:1803.05649",
)
class Sylvester(FewDirections):
    """Sylvester flow: each map moves points along several directions, one after the other.

    Parameters
    ----------
    domain : Domain
        Of real, positive, bounded, integer, count or binary columns; none may be periodic.
    context : Domain, optional
    directions : int
        Of each map; where there are fewer columns, as many as these.
    **options
        Those of the class above: `transforms`, and `hidden` where there is a context.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("moons")
    >>> model = lk.flows.Sylvester(data.domain, transforms=4)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.log_prob(model.sample(5, seed=1)).shape
    torch.Size([5])
    """

    def __init__(self, domain: Domain, *, directions: int = 8, **options: Any) -> None:
        self.directions = directions
        super().__init__(domain, **options)

    def _map(self, hidden: Sequence[int]) -> Map:
        m = min(self.directions, self.view.dim)
        return SylvesterMap(self.view.dim, m, self.context_size, hidden)


class SylvesterMap(Map):
    """y = z + Q R̃ tanh(R Qᵀz + b), with Q by Householder reflections.

    Parameters
    ----------
    entries, directions, context : int
    hidden : sequence of int
    """

    def __init__(self, entries: int, directions: int, context: int, hidden: Sequence[int]) -> None:
        axes, size = torch.randn(directions, entries), directions * (directions + 1) // 2
        r, r_tilde = torch.randn(size) / math.sqrt(directions), NEAR * torch.randn(size)
        super().__init__(context, hidden, axes, r, r_tilde, torch.randn(directions))

    def parameters_of(self, context: Tensor | None) -> list[Tensor]:
        """Q, R, R̃ and b."""
        axes, r, r_tilde, b = super().parameters_of(context)
        m = b.shape[-1]
        triangles = planar.triangular(r, m), planar.triangular(r_tilde, m)
        return [planar.orthonormal(axes), *triangles, b]

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        q, r, r_tilde, b = self.parameters_of(context)
        return planar.sylvester(z, q, r, r_tilde, b)

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        q, r, r_tilde, b = self.parameters_of(context)
        return planar.sylvester_inverse(y, q, r, r_tilde, b)
