"""Normalizing flows: a simple base density carried by bijections.

    log p(x) = log p_base(f(x)) + log |det ∂f/∂x|,        f = f_T ∘ … ∘ f_1

(Rezende & Mohamed 2015, arXiv:1505.05770; Papamakarios et al. 2021, arXiv:1912.02762, eq. 3).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import LOG_TWO_PI, Batch, RealModel, RealView, Recipe, Rows
from likely.contract.inputs import accept, accept_context, accept_inside, context_features
from likely.core.columns import Periodic
from likely.core.domain import Domain
from likely.core.errors import DensityError, LikelyError
from likely.core.likelihood import Kind
from likely.core.random import seeded
from likely.models.flows.dequantisation import VariationalNoise
from likely.models.flows.linear import LU
from likely.models.flows.spline import wrap
from likely.models.flows.transforms import Autoregressive, Bijection, VectorCoupling, half

LOG_TWO = math.log(2)

Linear = Literal["lu"] | None


class Flow(RealModel):
    """A flow on the real view of a domain; a subclass fills `transforms`.

    The base is normal on the line and uniform on the circle. A transform is a module whose call
    gives (y, log-determinant) and whose `inverse` goes back; both take context features.

    Where `jitter` is above 0, training adds normal noise of that standard deviation to the standardised
    columns at first, and none at the end: it keeps a flow from growing spikes on single rows (Rothfuss
    et al. 2019, arXiv:1907.08982), and leaves no bias behind.

    With `symmetric`, the density is ½[q(x) + q(−x)], where q is that of the transforms and −x the row with
    all signs turned round (`Domain.mirrored`).

    Parameters
    ----------
    domain : Domain
    symmetric : bool
        Whether a row and its mirror image have the same density.
    dequantisation : {"uniform", "variational"}
        Where in its cell a level lies: anywhere, or where couplings learn to put it, which makes the bound
        tighter and each step slower (`VariationalNoise`).

    Raises
    ------
    DomainError
        If `symmetric`, and a column has no mirror image.
    LikelyError
        If `dequantisation` is variational, and there are no columns of whole numbers.
    """

    energy_gradients: ClassVar[tuple[str, ...]] = ("path", "reparametrised", "reinforce")
    transforms: nn.ModuleList
    jitter: float = 0.0
    recipe = Recipe(batch=512, rate=2e-3)

    def __init__(
        self,
        domain: Domain,
        *,
        symmetric: bool = False,
        dequantisation: Literal["uniform", "variational"] = "uniform",
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.symmetric, self.dequantisation = symmetric, dequantisation
        learned = dequantisation == "variational"
        self.noise = VariationalNoise(self.view, self.context_size) if learned else None
        if symmetric:
            domain.mirrored(domain.anchor[None])

    def prepare(self, batch: Batch) -> None:
        if self.symmetric:  # no shift: what the view maps to −z is then the mirror image
            x = torch.cat([batch.x, self.domain.mirrored(batch.x)])
            context, weight = (
                None if part is None else torch.cat([part, part])
                for part in (batch.context, batch.weight)
            )
            batch = replace(batch, x=x, context=context, weight=weight)
        super().prepare(batch)

    def _couplings(
        self,
        bijection: Callable[[Tensor], Bijection],
        count: int,
        hidden: Sequence[int],
        linear: Linear = None,
    ) -> list[nn.Module]:
        """Couplings of columns, whose halves take turns, with bijections made from `periodic`."""
        periodic, context = self.view.periodic, self.context_size
        halves = [half(self.view.dim, i) for i in range(count)]
        layers = [
            VectorCoupling(bijection(periodic[moves]), periodic, moves, hidden, context)
            for moves in halves
        ]
        return self._mixed(layers, linear)

    def _autoregressive(
        self,
        bijection: Callable[[Tensor], Bijection],
        count: int,
        hidden: Sequence[int],
        linear: Linear = None,
    ) -> list[nn.Module]:
        """Autoregressive transforms, whose ordering turns round from one to the next."""
        periodic, context = self.view.periodic, self.context_size
        orders = [range(self.view.dim)[:: (-1) ** i] for i in range(count)]
        layers = [Autoregressive(bijection(periodic), order, hidden, context) for order in orders]
        return self._mixed(layers, linear)

    def _mixed(self, layers: Sequence[nn.Module], linear: Linear) -> list[nn.Module]:
        """Layers, with linear maps of all columns between them where those are asked for."""
        if linear is None:
            return list(layers)
        if self.view.periodic.any():
            raise LikelyError('linear="lu" cannot mix angles with other columns: leave it out')
        first, *others = layers
        mixed = [(LU(torch.eye(self.view.dim)), layer) for layer in others]
        return [first, *chain.from_iterable(mixed)]

    def _log_prob_base(self, u: Tensor) -> Tensor:
        u, circle = u.T, self.view.periodic.to(u)[:, None]
        return -((1 - circle) * u.square() + (1 + circle) * LOG_TWO_PI).sum(0) / 2

    def _transformed(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows after all transforms, and the log-determinant."""
        log_det = z.new_zeros(len(z))
        for transform in self.transforms:
            z, term = transform(z, context)
            log_det = log_det + term
        return z, log_det

    def _log_prob_real(self, z: Tensor, context: Tensor | None) -> Tensor:
        u, log_det = self._transformed(z, context)
        return self._log_prob_base(u) + log_det

    def _viewed(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Columns of the view, levels at random in their cells, and the log-determinant less log q(u|x)."""
        if self.noise is None:
            return self.view(x)
        place, log_q = self.noise(self.view(x, 0.5)[0], context)
        z, log_det = self.view(x, place)
        return z, log_det - log_q

    def _log_prob(self, x: Tensor, context: Tensor | None, **options: Any) -> Tensor:
        z, log_det = self._viewed(x, context)
        return self._log_prob_mixed(z, context, **options) + log_det

    def _log_prob_mixed(self, z: Tensor, context: Tensor | None, **options: Any) -> Tensor:
        """As `_log_prob_real`, of the mixture with the mirror image where that is asked for."""
        if not self.symmetric:
            return self._log_prob_real(z, context, **options)
        context = None if context is None else torch.cat([context, context])
        both = self._log_prob_real(torch.cat([z, -z]), context, **options)
        return torch.logaddexp(*both.chunk(2)) - LOG_TWO

    def _flipped(self, z: Tensor) -> Tensor:
        """Rows, or with probability ½ their mirror images, of a symmetric flow."""
        return torch.where(torch.rand_like(z[:, :1]) < 0.5, z, -z) if self.symmetric else z

    def carry(self, x: Rows, context: Tensor | None = None) -> tuple[Rows, Float[Tensor, " n"]]:
        """Rows that the transforms make of rows of the same domain, and the log-determinant."""
        z, log_det = self.view(x)
        z, term = self._transformed(z, context)
        y = self.view.inverse(z)
        return y, log_det + term - self.view(y)[1]

    @torch.no_grad()
    def pit(self, x: Rows, context: Tensor | None = None) -> Float[Tensor, "n dim"]:
        """Probability integral transform: numbers that are uniform on (0, 1) where the flow is right.

        They are the images of rows in the base space, each through the base's distribution function.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        context : Tensor, optional
            As in `log_prob`.

        Returns
        -------
        Tensor, shape (n, dim)
            One column for each of the flow's real view: constant ones are left out.

        Raises
        ------
        DensityError
            If columns are dequantised: within a level, the flow need not be uniform; or if the flow is a
            mixture with its mirror image.
        DataError
            If x or the context have the wrong shape, or lie outside their domains.
        """
        if self.density != Kind.EXACT:
            raise DensityError("pit: the flow dequantises its discrete columns: use ranks")
        if self.symmetric:
            raise DensityError("pit: a symmetric flow is a mixture, which has no one base space")
        _, x, features = accept(self, accept_inside(self, x, "the rows to be transformed"), context)
        z, _ = self._transformed(self.view(x)[0], features)
        u = torch.where(self.view.periodic, z / (2 * math.pi) + 0.5, torch.special.ndtr(z))
        return u.cpu()

    def loss(self, batch: Batch) -> Tensor:
        context = context_features(self, batch.context, len(batch))
        z, log_det = self._viewed(batch.x, context)
        if self.jitter:
            z = z + self.jitter * math.sqrt(1 - batch.progress) * torch.randn_like(z)
            z = torch.where(self.view.periodic, wrap(z), z)
        return -self._log_prob_mixed(z, context) - log_det

    def _sample_base(self, n: int) -> Tensor:
        normal = self.view.scale.new_empty(n, self.view.dim).normal_()
        angle = (2 * torch.rand_like(normal) - 1) * math.pi
        return torch.where(self.view.periodic, angle, normal)

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        return self.view.inverse(self._flipped(self._sample_real(n, context)))

    def _sample_real(self, n: int, context: Tensor | None) -> Tensor:
        return self._inverted(self._sample_base(n), context)

    def _inverted(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Rows of the view's columns that all transforms carry to z."""
        for transform in reversed(self.transforms):
            z = transform.inverse(z, context)  # type: ignore[operator]
        return z

    @property
    def normals(self) -> int | None:
        """As in `Generates`; None where the base is not normal, or a row is no smooth map of it."""
        rough = self.symmetric or not self.view.exact or bool(self.view.periodic.any())
        return None if rough or not hasattr(self, "transforms") else self.view.dim

    def generate(self, z: Float[Tensor, "n normals"]) -> Rows:
        """The rows of numbers of the base."""
        return self.view.inverse(self._inverted(z, None))

    def rsample_with_log_prob(
        self, n: int, *, context: Any = None, seed: int | None = None
    ) -> tuple[Rows, Float[Tensor, " n"]]:
        """Draws and their log-density, both with gradients in the parameters; see `Reparametrised`."""
        if not self.view.exact:
            raise DensityError(
                f"{type(self).__name__} dequantises discrete columns: its draws have no gradient"
            )
        features = accept_context(self, context, n)
        with seeded(seed, self.device):
            z, log_prob = self._rsample_real(n, features)
            if self.symmetric:
                mirrored = self._log_prob_real(-z, features)
                log_prob = torch.logaddexp(log_prob, mirrored) - LOG_TWO
                z = self._flipped(z)
        x = self.view.inverse(z)
        return x, log_prob + self.view(x)[1]

    def _rsample_real(self, n: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Draws in the view's columns, and their log-density there."""
        z = self._sample_base(n)
        log_prob = self._log_prob_base(z)
        for transform in reversed(self.transforms):
            z, log_det = transform.inverse_with_log_det(z, context)  # type: ignore[operator]
            log_prob = log_prob - log_det
        return z, log_prob


class AffineFlow(Flow):
    """A flow of affine maps; a map that stretches a circle does not close, so it takes no angles."""

    accepts = RealView.accepts - {Periodic}


def check_vector(linear: Linear) -> None:
    """Raise a `LikelyError` for linear maps between couplings of an image or a lattice."""
    if linear is not None:
        raise LikelyError(
            f'linear="{linear}" mixes all columns, which convolutional couplings do not: leave it out, or '
            'take "glow", which mixes the channels of an image'
        )
