"""What score models share: a network that finds the noise in a noisy row, at every noise level.

Rows are real columns z₀ of about unit variance (`RealView`), and a noisy one is

    z = z₀ + σ ε,      ε ~ N(0, 1).

The mean of the noise given z is the score of the noisy density (Tweedie's formula; Vincent 2011), so that
a regression onto ε, denoising score matching, learns it:

    ∇_z log p_σ(z) = −E[ε|z]/σ      argmin_ε̂ E‖ε̂(z, σ) − ε‖² = E[ε|z].

The network F sees the row at unit variance, u = z/√(1 + σ²), and only what a Gaussian does not explain is
left to it:

    ε̂(z, σ) = s u + α F(u, log σ)      with      α = 1/√(1 + σ²),   s = σ α,

so that α² + s² = 1 (Karras, Aittala, Aila & Laine 2022, arXiv:2206.00364, table 1, with data of unit
variance). A process that shrinks its rows, z_t = α_t z₀ + s_t ε with whatever α_t and s_t, is asked at
z_t/α_t and σ = s_t/α_t.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import RealView, ViewedModel, Widths
from likely.contract.inputs import accept_context
from likely.core.columns import Periodic
from likely.core.domain import Domain
from likely.core.errors import DataError, LikelyError
from likely.nets.convolutional import image_shape, image_shape_for
from likely.nets.noise import LOG_SIGMA, NoiseMLP
from likely.nets.own import OwnNetwork
from likely.nets.unet import UNet

ScoreNetwork = Literal["auto", "mlp", "unet"]
Columns = Float[Tensor, "n dim"]  # of the view
PerRow = Float[Tensor, " n"]

POOLED = 256  # rows that are compared with all others at a time
MIN_IMAGE = 8  # pixels along an edge above which "auto" uses a U-Net


class ScoreModel(ViewedModel):
    """A model whose network predicts the noise in rows: a base for the family.

    A subclass writes `loss` and `_sample_real`, in the view's columns.

    Parameters
    ----------
    domain : Domain
        Of columns that have a real view, periodic ones excepted. Levels of an image are dequantised
        on one linear scale.
    context : Domain, optional
        What the distribution is conditional on.
    network : {"auto", "mlp", "unet"} or Module
        A perceptron, or a U-Net where rows are images with entries of one kind; "auto" takes it on
        images of at least 8 × 8. Or a module of one's own, of which a copy is taken: it sees rows of unit
        variance of shape (n, *domain.shape), their noise levels (n,), mostly between 0 and 1, and the
        features of the context or None; it gives what is in the shape of the rows.
    hidden : sequence of int, optional
        Widths of the perceptron's layers, or channels of the U-Net at each resolution; (128, 128, 128)
        and (32, 64) by default.

    Raises
    ------
    DomainError
        If the columns are not of those kinds, or all constant.
    LikelyError
        If an option is out of range.
    """

    accepts = RealView.accepts - {Periodic}
    dequantisation = "uniform"

    def __init__(
        self,
        domain: Domain,
        *,
        network: ScoreNetwork | nn.Module = "auto",
        hidden: Widths | None = None,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.view = RealView(domain, "pooled" if image_shape(domain) else "bijections")
        self.dim = self.view.dim
        self.net: nn.Module
        if isinstance(network, nn.Module):
            context = torch.zeros(2, self.context_size) if self.context_size else None
            self.net = OwnNetwork(network, domain, self.dim, self.dim, torch.zeros(2), context)
            return
        image = image_shape_for(domain, network, len(domain.columns) == 1, least=MIN_IMAGE)
        if image is None:
            self.net = self._perceptron(hidden or (128, 128, 128))
        else:
            self.net = UNet(image, hidden or (32, 64), self.context_size)

    def _perceptron(self, hidden: Sequence[int]) -> NoiseMLP:
        return NoiseMLP(self.dim, hidden, self.context_size)

    def noise_prediction(self, z: Columns, sigma: PerRow, context: Tensor | None) -> Columns:
        """ε̂ of rows z = z₀ + σ ε, each with a σ of its own or all with one; the context as features."""
        alpha = (1 + sigma.square()).rsqrt()[:, None]
        u, s = alpha * z, alpha * sigma[:, None]
        return s * u + alpha * self.net(u, self._level(sigma), context)

    def _level(self, sigma: PerRow) -> PerRow:
        """A noise level as the network sees it, mostly between 0 and 1."""
        low, high = LOG_SIGMA
        return (sigma.log() - low) / (high - low)

    def missed(self, z: Columns, sigma: PerRow, context: Tensor | None) -> Columns:
        """ε̂ − ε of clean rows z to which one draw of noise σ ε is added."""
        noise = torch.randn_like(z)
        return self.noise_prediction(z + sigma[:, None] * noise, sigma, context) - noise

    def pooled_error(self, z: Columns, sigma: PerRow) -> PerRow:
        """‖ε̂ − E[ε|y, rows]‖² of noisy rows y = z ± σ ε, the mean over both signs.

        Any of the rows may have become y, in proportion to the density of the noise that it takes. The
        mean over all, for independent rows that are worth the same, is the regression onto ε with less
        noise in it, much less in few columns (Xu, Tong & Jaakkola 2023, arXiv:2302.00670, eq. 6). Where
        no other row is near, opposite signs cancel most of what is left.
        """
        sigma = sigma.repeat(2)
        noise = torch.randn_like(z)
        y = z.repeat(2, 1) + sigma[:, None] * torch.cat([noise, -noise])
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            parts = zip(y.split(POOLED), sigma.split(POOLED), strict=True)
            origin = torch.cat([pooled_origin(part, z, level) for part, level in parts])
            target = (y - origin) / sigma[:, None]
        error = (self.noise_prediction(y, sigma, None) - target).square().sum(1)
        return error.view(2, -1).mean(0)

    def score(self, z: Columns, sigma: float, context: Tensor | None = None) -> Columns:
        """∇_z log p_σ(z), where p_σ is the density of rows with noise of standard deviation σ.

        Parameters
        ----------
        z : Tensor, shape (n, dim)
            Rows in the columns of `model.view`, of unit variance: `model.view(x)[0]`.
        sigma : float
            Positive, on the same scale.
        context : Tensor, optional
            As in `sample`.

        Raises
        ------
        DataError
            If z has another shape, or the context is missing, not wanted, or outside its domain.
        LikelyError
            If sigma is not positive.
        """
        z = torch.as_tensor(z).to(self.device, self.view.scale.dtype)
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise DataError(f"score: z has shape {tuple(z.shape)}, not (n, {self.dim})")
        if not 0 < sigma < math.inf:
            raise LikelyError(f"score: sigma must be positive, not {sigma}")
        level = z.new_full((1,), sigma)
        return -self.noise_prediction(z, level, accept_context(self, context, len(z))) / sigma


def pooled_origin(y: Columns, z: Columns, sigma: Float[Tensor, " m"]) -> Columns:
    """The mean of the rows z, in proportion to how often noise of σ makes y of them.

    Neither distances nor means are products of matrices: σ may be far below their rounding.
    """
    far = torch.cdist(y, z, compute_mode="donot_use_mm_for_euclid_dist").div_(sigma[:, None])
    weight = far.square_().mul_(-0.5).softmax(1)
    return torch.stack([(weight * column).sum(1) for column in z.T], 1)
