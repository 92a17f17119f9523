"""Noise of measurements: p(y | A x), with the mean A x.

Gaussian noise of any covariance Σ is whitened: with r = y − A x,  rᵀ Σ⁻¹ r = ‖whiten(r)‖².
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.contract.views import LOG_TWO_PI
from likely.core.errors import DataError
from likely.core.random import seeded

Outputs = Float[Tensor, "n *out_shape"]


class Noise:
    """The distribution of y, given its mean."""

    def log_prob(self, y: Outputs, mean: Outputs) -> Float[Tensor, " n"]:
        """log p(y | mean) of each row, in nats, differentiable in the mean; either may have one row."""
        raise NotImplementedError

    def sample(self, mean: Outputs, *, seed: int | None = None) -> Outputs:
        """A y for each row of means."""
        with torch.no_grad(), seeded(seed, mean.device):
            return self._sample(mean)

    def expected(self, mean: Outputs) -> Outputs:
        """The mean of y: with a background it is more than A x."""
        return mean

    def variance(self, mean: Outputs) -> Outputs:
        """Of each entry of y."""
        raise NotImplementedError

    def pulls(self, y: Outputs, mean: Outputs) -> Outputs:
        """y less its mean, over its deviation: of mean 0 and variance 1, and independent, if it is right."""
        return (y - self.expected(mean)) / self.variance(mean).sqrt()

    def chi2(self, y: Outputs, mean: Outputs) -> Float[Tensor, " n"]:
        """χ² of each row, over all entries: its mean is their number where the mean is right."""
        return self.pulls(y, mean).flatten(1).square().sum(1)

    def check(self, y: Outputs) -> None:
        """Raise a `DataError` for a y that this noise cannot make."""

    def on(self, out_shape: Sequence[int]) -> Self:
        """The same, bound to y of this shape; a `DataError` if it does not fit."""
        return self

    def usable(self, out_shape: Sequence[int]) -> Bool[Tensor, "*out_shape"] | None:
        """Which entries have a noise above zero that is known; None for all."""
        return None

    def at(self, kept: Bool[Tensor, "*out_shape"]) -> Noise:
        """The noise of some entries of y, one after another."""
        return self

    def _sample(self, mean: Outputs) -> Outputs:
        raise NotImplementedError


class GaussianNoise(Noise):
    """Gaussian noise that does not depend on x; a subclass writes `whiten`, `colour` and `log_det`."""

    def whiten(self, r: Outputs) -> Outputs:
        """Σ^(−1/2) r: of noise, independent entries of variance 1. Linear."""
        raise NotImplementedError

    def colour(self, r: Outputs) -> Outputs:
        """Σ^(1/2) r, the inverse of `whiten`."""
        raise NotImplementedError

    def log_det(self, out_shape: Sequence[int]) -> Float[Tensor, ""]:
        """log |Σ|, of all entries."""
        raise NotImplementedError

    def log_prob(self, y: Outputs, mean: Outputs) -> Float[Tensor, " n"]:
        constant = self.log_det(y.shape[1:]) + math.prod(y.shape[1:]) * LOG_TWO_PI
        return -(self.chi2(y, mean) + constant.to(mean)) / 2

    def pulls(self, y: Outputs, mean: Outputs) -> Outputs:
        return self.whiten(y - mean)

    def _sample(self, mean: Outputs) -> Outputs:
        return mean + self.colour(torch.randn_like(mean))


class Gaussian(GaussianNoise):
    """Independent Gaussian noise.

    Parameters
    ----------
    sigma : float, or array of shape (*out_shape,)
        Standard deviation, of all entries or of each, in the units of y.

    Raises
    ------
    DataError
        If it is not above zero; of an array, where the posterior is computed.
    """

    def __init__(self, sigma: Any) -> None:
        self.sigma = torch.as_tensor(sigma, dtype=torch.float64)
        if self.sigma.ndim == 0 and not 0 < self.sigma < math.inf:
            raise DataError(f"Gaussian: sigma={sigma}: give a number above 0, in the units of y")

    def whiten(self, r: Outputs) -> Outputs:
        return r / self.sigma.to(r)

    def colour(self, r: Outputs) -> Outputs:
        return r * self.sigma.to(r)

    def log_det(self, out_shape: Sequence[int]) -> Float[Tensor, ""]:
        return 2 * self.sigma.log().expand(tuple(out_shape)).sum()

    def variance(self, mean: Outputs) -> Outputs:
        return self.sigma.to(mean).square().expand_as(mean)

    def on(self, out_shape: Sequence[int]) -> Self:
        _check_fits(self.sigma, out_shape, "Gaussian: sigma")
        return self

    def usable(self, out_shape: Sequence[int]) -> Bool[Tensor, "*out_shape"] | None:
        return ((self.sigma > 0) & self.sigma.isfinite()).expand(tuple(out_shape))

    def at(self, kept: Bool[Tensor, "*out_shape"]) -> Gaussian:
        return Gaussian(self.sigma.expand(kept.shape)[kept.to(self.sigma.device)])


class CorrelatedGaussian(GaussianNoise):
    """Stationary Gaussian noise, such as that of drizzled images; edges meet, as FFTs see them.

    Parameters
    ----------
    covariance : array of one or two dimensions
        Of two pixels by their distance, with that of distance zero, the variance, at its centre: index
        k // 2 along each axis of k pixels. In the units of y squared; what lies beyond it counts as 0.

    Raises
    ------
    DataError
        If it is not symmetric, is larger than y, or is no covariance: its spectrum must be above 0.
    """

    def __init__(self, covariance: Any) -> None:
        self.covariance = torch.as_tensor(covariance, dtype=torch.float64)
        self.spectrum: Tensor | None = None
        centre = tuple(k // 2 for k in self.covariance.shape)
        if self.covariance.ndim not in (1, 2) or not self.covariance.isfinite().all():
            raise DataError("CorrelatedGaussian: give finite covariances of one or two dimensions")
        if not self.covariance[centre] > 0:
            raise DataError(f"CorrelatedGaussian: the variance, at {centre}, must be above 0")

    @classmethod
    def of_patches(cls, patches: Any) -> Self:
        """The noise of patches that hold nothing else, by their mean periodogram.

        That is above 0, as a covariance needs; the price is that the covariance at a distance d is a part
        (1 − |d|/k) of what it is, along each axis of k pixels: take patches much wider than it reaches.

        Parameters
        ----------
        patches : array, shape (n, k) or (n, height, width)
            Of mean 0; many, or large ones.

        Raises
        ------
        DataError
            If they are not finite, have other dimensions, or are all 0.

        Examples
        --------
        >>> white = torch.randn(200, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> found = CorrelatedGaussian.of_patches(2 * white).covariance
        >>> found.shape, round(found[7, 7].item(), 1), abs(found[7, 8].item()) < 0.1
        (torch.Size([15, 15]), 4.0, True)
        """
        patches = torch.as_tensor(patches, dtype=torch.float64)
        if patches.ndim not in (2, 3) or not patches.numel() or not patches.isfinite().all():
            raise DataError("CorrelatedGaussian: give patches (n, k) or (n, height, width), finite")
        sizes, axes = patches.shape[1:], [*range(1, patches.ndim)]
        full = [2 * k - 1 for k in sizes]  # so that opposite edges don't meet
        power = torch.fft.rfftn(patches, full, axes).abs().square().mean(0) / math.prod(sizes)
        return cls(torch.fft.fftshift(torch.fft.irfftn(power, full)))

    def on(self, out_shape: Sequence[int]) -> Self:
        bound, ndim = copy.copy(self), self.covariance.ndim
        edges = tuple(out_shape[-ndim:])
        if len(edges) < ndim or any(
            k > n for k, n in zip(self.covariance.shape, edges, strict=True)
        ):
            raise DataError(
                f"CorrelatedGaussian: covariances of shape {(*self.covariance.shape,)} are larger than y, "
                f"{tuple(out_shape)}"
            )
        wide = self.covariance.new_zeros(edges)
        wide[tuple(slice(k) for k in self.covariance.shape)] = self.covariance
        shifts = [-(k // 2) for k in self.covariance.shape]
        spectrum = torch.fft.fftn(wide.roll(shifts, [*range(ndim)]))
        if spectrum.imag.abs().max() > 1e-6 * spectrum.real.abs().max():
            raise DataError("CorrelatedGaussian: the covariance is not symmetric about its centre")
        if not spectrum.real.min() > 0:
            raise DataError(
                f"CorrelatedGaussian: the spectrum reaches down to {spectrum.real.min():.3g}, so this is no "
                "covariance: give more of its tails, or add some white noise at its centre"
            )
        bound.spectrum = spectrum.real
        return bound

    def _filtered(self, r: Outputs, power: float) -> Outputs:
        assert self.spectrum is not None, "bind it to a shape first, by on(out_shape)"
        axes = [*range(-self.spectrum.ndim, 0)]
        root = self.spectrum.pow(power).to(r)
        return torch.fft.ifftn(torch.fft.fftn(r, dim=axes) * root, dim=axes).real

    def whiten(self, r: Outputs) -> Outputs:
        return self._filtered(r, -0.5)

    def colour(self, r: Outputs) -> Outputs:
        return self._filtered(r, 0.5)

    def log_det(self, out_shape: Sequence[int]) -> Float[Tensor, ""]:
        assert self.spectrum is not None
        return self.spectrum.log().expand(tuple(out_shape)).sum()

    def variance(self, mean: Outputs) -> Outputs:
        centre = tuple(k // 2 for k in self.covariance.shape)
        return self.covariance[centre].to(mean).expand_as(mean)

    def at(self, kept: Bool[Tensor, "*out_shape"]) -> DenseGaussian:
        units = torch.eye(int(kept.sum()), dtype=torch.float64)
        wide = units.new_zeros(len(units), *kept.shape)
        wide[:, kept.cpu()] = units
        return DenseGaussian(self._filtered(wide, 1.0)[:, kept.cpu()])


class DenseGaussian(GaussianNoise):
    """Gaussian noise of any covariance of the flattened y, for at most some thousand entries.

    Parameters
    ----------
    covariance : array, shape (m, m)

    Raises
    ------
    DataError
        If it is not symmetric and positive definite, or y has another number of entries.
    """

    def __init__(self, covariance: Any) -> None:
        self.covariance = torch.as_tensor(covariance, dtype=torch.float64)
        if self.covariance.ndim != 2 or self.covariance.shape[0] != self.covariance.shape[1]:
            raise DataError(f"DenseGaussian: {(*self.covariance.shape,)} is no square matrix")
        self.root, failed = torch.linalg.cholesky_ex(self.covariance)
        apart = (self.covariance - self.covariance.mT).abs().max()
        if failed or not apart <= 1e-6 * self.covariance.abs().max():
            raise DataError("DenseGaussian: the covariance is not symmetric and positive definite")

    def on(self, out_shape: Sequence[int]) -> Self:
        if math.prod(out_shape) != len(self.covariance):
            raise DataError(
                f"DenseGaussian: a covariance of {len(self.covariance)} entries, and y has {tuple(out_shape)}"
            )
        return self

    def whiten(self, r: Outputs) -> Outputs:
        root = self.root.to(r)
        return torch.linalg.solve_triangular(root, r.flatten(1).mT, upper=False).mT.reshape(r.shape)

    def colour(self, r: Outputs) -> Outputs:
        return (r.flatten(1) @ self.root.to(r).mT).reshape(r.shape)

    def log_det(self, out_shape: Sequence[int]) -> Float[Tensor, ""]:
        return 2 * self.root.diagonal().log().sum()

    def variance(self, mean: Outputs) -> Outputs:
        return self.covariance.diagonal().to(mean).reshape(mean.shape[1:]).expand_as(mean)

    def at(self, kept: Bool[Tensor, "*out_shape"]) -> DenseGaussian:
        flat = kept.flatten().cpu()
        return DenseGaussian(self.covariance[flat][:, flat])


class Poisson(Noise):
    """Counts: y/gain ~ Poisson((A x + background)/gain), so that the variance is gain · (A x + background).

    Parameters
    ----------
    background : float, or array of shape (*out_shape,)
        In the units of y, 0 or above. y holds it, and x does not.
    gain : float
        Units of y for each count.

    Raises
    ------
    DataError
        If the background is negative, or the gain not above zero.
    """

    def __init__(self, background: Any = 0.0, gain: float = 1.0) -> None:
        self.background, self.gain = torch.as_tensor(background, dtype=torch.float64), float(gain)
        if not (self.background >= 0).all():
            raise DataError(f"{type(self).__name__}: the background is negative or NaN in places")
        if not 0 < self.gain < math.inf:
            raise DataError(
                f"{type(self).__name__}: gain={gain}: give units of y per count, above 0"
            )

    def rate(self, mean: Outputs) -> Outputs:
        """Expected counts; at least about none, where x is negative."""
        counts = (mean + self.background.to(mean)) / self.gain
        return counts.clamp_min(torch.finfo(mean.dtype).eps)

    def on(self, out_shape: Sequence[int]) -> Self:
        _check_fits(self.background, out_shape, f"{type(self).__name__}: a background")
        return self

    def at(self, kept: Bool[Tensor, "*out_shape"]) -> Self:
        part = copy.copy(self)
        part.background = self.background.expand(kept.shape)[kept.to(self.background.device)]
        return part

    def log_prob(self, y: Outputs, mean: Outputs) -> Float[Tensor, " n"]:
        rate, counts = self.rate(mean), y / self.gain
        terms = torch.xlogy(counts, rate) - rate - torch.lgamma(counts + 1)
        return terms.expand(torch.broadcast_shapes(terms.shape, y.shape)).flatten(1).sum(1)

    def variance(self, mean: Outputs) -> Outputs:
        return self.rate(mean) * self.gain**2

    def expected(self, mean: Outputs) -> Outputs:
        return self.rate(mean) * self.gain

    def check(self, y: Outputs) -> None:
        if y.min() < 0:
            raise DataError(
                f"Poisson: y reaches down to {y.min():.3g}, and counts are 0 or more: do not subtract the "
                "background, but give it; with read-out noise take PoissonGaussian"
            )

    def _sample(self, mean: Outputs) -> Outputs:
        return torch.poisson(self.rate(mean)) * self.gain


class PoissonGaussian(Poisson):
    """Counts and Gaussian read-out noise, with Σ = gain · (A x + background) + σ² as a Gaussian.

    That is right where there are many counts, or the read-out dominates; draws are exact.

    Parameters
    ----------
    sigma : float
        Standard deviation of the read-out, in the units of y.
    background, gain
        As in `Poisson`.
    """

    def __init__(self, sigma: float, background: Any = 0.0, gain: float = 1.0) -> None:
        super().__init__(background, gain)
        self.sigma = float(sigma)
        if not 0 < self.sigma < math.inf:
            raise DataError(f"PoissonGaussian: sigma={sigma}: give a number above 0")

    def log_prob(self, y: Outputs, mean: Outputs) -> Float[Tensor, " n"]:
        variance = self.variance(mean)
        terms = (y - self.expected(mean)).square() / variance + variance.log() + LOG_TWO_PI
        return -terms.flatten(1).sum(1) / 2

    def variance(self, mean: Outputs) -> Outputs:
        return super().variance(mean) + self.sigma**2

    def check(self, y: Outputs) -> None:
        """Read-out noise reaches anywhere."""

    def _sample(self, mean: Outputs) -> Outputs:
        return super()._sample(mean) + self.sigma * torch.randn_like(mean)


def as_noise(value: Any) -> Noise:
    """Noise from what a user gives: a `Noise`, or a standard deviation.

    Raises
    ------
    DataError
        If it is neither.
    """
    if isinstance(value, Noise):
        return value
    try:
        return Gaussian(value)
    except (TypeError, ValueError) as error:
        raise DataError(
            "the noise: give a standard deviation, or noise of likely.inverse"
        ) from error


def _check_fits(values: Tensor, out_shape: Sequence[int], what: str) -> None:
    """Raise a `DataError` unless values are one for all entries of y, or one for each."""
    if values.ndim and tuple(values.shape) != tuple(out_shape):
        raise DataError(f"{what} of shape {(*values.shape,)}, and y has {tuple(out_shape)}")
