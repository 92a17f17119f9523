"""Distributions around a direction μ of the unit sphere in m ≥ 2 dimensions, S^(m−1).

    q(z) ∝ exp(κ T(θ)),      g(θ) = exp(κ T(θ)) sin^(m−2)(θ) / Z(κ),      θ = arccos μᵀz

    T = cos θ − 1              von Mises–Fisher (Davidson et al. 2018, arXiv:1804.00891)
    T = log (1 + cos θ)/2      power spherical (De Cao & Aziz 2020, arXiv:2006.04437)

Both are exponential families in κ: with ⟨T⟩ = d log Z/dκ, the divergence from the uniform distribution is
κ⟨T⟩ − log Z(κ) + log Z(0). Draws of θ are differentiated along their quantile,

    dθ/dκ = −∂_κF(θ)/g(θ),      ∂_κF(θ) = ∫₀^θ (T − ⟨T⟩) g

(Figurnov, Mohamed & Mnih 2018, arXiv:1805.08498). Derivatives of what a rejection sampler accepts would leave
out that κ moves what is accepted. The angle has none of the singularities that μᵀz has at ±1. Sums are in
float64.
"""

import math
from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Gamma
from torch.nn import functional as F

DEPTH = 40.0  # nats by which g has fallen at the ends of integrals: e⁻⁴⁰ is below rounding
HALVINGS = 24  # of an angle, to find these ends
NODES, WEIGHTS = map(torch.from_numpy, np.polynomial.legendre.leggauss(96))
ROUNDS = 200  # of a rejection sampler that accepts two thirds


def log_area(m: int) -> float:
    """Logarithm of the area of the unit sphere in m dimensions."""
    return math.log(2) + m / 2 * math.log(math.pi) - math.lgamma(m / 2)


def around(
    mean: Float[Tensor, "n m"], angle: Float[Tensor, "draws n"]
) -> Float[Tensor, "draws n m"]:
    """Points at these angles from unit vectors, in uniform directions.

    A reflection takes the first axis to μ or −μ, whichever is further from it: there is no division by
    zero, and a jump where μ₁ = 0 only, which leaves the distribution as it is.
    """
    tangent = F.normalize(angle.new_empty(*angle.shape, mean.shape[1] - 1).normal_(), dim=2)
    point = torch.cat([angle.cos()[..., None], angle.sin()[..., None] * tangent], 2)
    sign = torch.where(mean[:, :1] < 0, -1.0, 1.0)
    normal = sign * mean
    normal[:, 0] += 1
    along = (point * normal).sum(2, keepdim=True) / normal[:, :1]
    return sign * (normal * along - point)


class Spherical(ABC):
    """One of these families, with a concentration for each of n rows.

    Parameters
    ----------
    kappa : Tensor, shape (n,)
        κ > 0.
    m : int
    """

    def __init__(self, kappa: Float[Tensor, " n"], m: int) -> None:
        self.kappa, self.m = kappa.double(), m

    @abstractmethod
    def statistic(self, angle: Tensor) -> Tensor:
        """T(θ)."""

    @property
    @abstractmethod
    def peak(self) -> Float[Tensor, " n"]:
        """The angle where g is greatest."""

    @abstractmethod
    def _draw(self, draws: int) -> Float[Tensor, "draws n"]:
        """Angles without derivatives."""

    def log_g(self, angle: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
        """Logarithm of g Z."""
        sine = torch.xlogy(torch.full_like(angle, self.m - 2), angle.sin())
        return self.kappa * self.statistic(angle) + sine

    def log_z_and_mean(self) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """log Z and ⟨T⟩, by quadrature."""
        angle, weight = _between(*self._ends)
        terms = self.log_g(angle) + weight.log()
        return terms.logsumexp(0), (terms.softmax(0) * self.statistic(angle)).sum(0)

    def divergence(self) -> Float[Tensor, " n"]:
        """KL(q‖uniform) in nats."""
        log_z, mean = self.log_z_and_mean()
        return self.kappa * mean - log_z + log_area(self.m) - log_area(self.m - 1)

    def log_prob(self, angle: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
        """Log-density on the sphere, with respect to its area, at angles from μ."""
        log_z, _ = self.log_z_and_mean()
        return self.kappa * self.statistic(angle) - log_z - log_area(self.m - 1)

    def draw(self, draws: int) -> Float[Tensor, "draws n"]:
        """Angles, with derivatives in κ."""
        with torch.no_grad():
            angle = self._draw(draws)
        if torch.is_grad_enabled() and self.kappa.requires_grad:
            return angle + self._slope(angle) * (self.kappa - self.kappa.detach())
        return angle

    @torch.no_grad()
    def _slope(self, angle: Float[Tensor, "draws n"]) -> Float[Tensor, "draws n"]:
        """dθ/dκ: the integral is over the tail beyond θ, away from the peak, where g falls."""
        left, (low, high) = angle < self.peak, self._ends
        _, mean = self.log_z_and_mean()
        t, weight = _between(
            torch.where(left, low.minimum(angle), angle),
            torch.where(left, angle, high.maximum(angle)),
        )
        ratio = (self.log_g(t) - self.log_g(angle)).exp()
        tail = ((self.statistic(t) - mean) * ratio * weight).sum(0)
        return torch.where(left, -tail, tail)

    @cached_property
    @torch.no_grad()
    def _ends(self) -> Float[Tensor, "2 n"]:
        """Angles below and above the peak where g has fallen by `DEPTH`, or 0 and π."""
        inner = torch.stack([self.peak, self.peak])
        outer = torch.stack([torch.zeros_like(self.peak), torch.full_like(self.peak, math.pi)])
        least = self.log_g(self.peak) - DEPTH
        for _ in range(HALVINGS):
            middle = (inner + outer) / 2
            inside = self.log_g(middle) > least
            inner, outer = (
                torch.where(inside, middle, inner),
                torch.where(inside, outer, middle),
            )
        return outer


class VonMisesFisher(Spherical):
    """T = cos θ − 1; ⟨μᵀz⟩ = ⟨T⟩ + 1 = I_(m/2)(κ)/I_(m/2−1)(κ)."""

    def statistic(self, angle: Tensor) -> Tensor:
        return -2 * (angle / 2).sin().square()

    @property
    def peak(self) -> Tensor:
        power, twice = torch.full_like(self.kappa, self.m - 2), 2 * self.kappa
        return torch.atan2((2 * power * (power + power.hypot(twice))).sqrt(), twice)

    def _draw(self, draws: int) -> Tensor:
        """By rejection (Wood 1994, Commun. Stat. Simul. Comput. 23, 157), written in half angles."""
        n, kappa = self.m - 1, self.kappa.repeat(draws)
        b = n / (2 * kappa + torch.full_like(kappa, n).hypot(2 * kappa))
        angle, gap = torch.empty_like(kappa), 2 * b / (1 + b)  # 1 − x₀
        left = torch.arange(len(kappa), device=kappa.device)
        for _ in range(ROUNDS):
            angle[left] = proposed = _half(torch.full_like(b[left], n / 2), n / 2, b[left])
            t, g = self.statistic(proposed), gap[left]
            log_ratio = kappa[left] * (t + g) + n * ((g - (1 - g) * t) / (g * (2 - g))).log()
            left = left[torch.rand_like(g).log() > log_ratio]  # a NaN counts as accepted
            if not len(left):
                break
        return angle.view(draws, -1)


class PowerSpherical(Spherical):
    """T = log (1 + cos θ)/2; (1 + cos θ)/2 has the distribution Beta((m − 1)/2 + κ, (m − 1)/2)."""

    def statistic(self, angle: Tensor) -> Tensor:
        return 2 * (angle / 2).cos().log()

    @property
    def peak(self) -> Tensor:
        power = self.m - 2
        return torch.atan2((power * (2 * self.kappa + power)).sqrt(), self.kappa)

    def log_z_and_mean(self) -> tuple[Tensor, Tensor]:
        """In closed form."""
        b = (self.m - 1) / 2
        a = b + self.kappa
        log_beta = a.lgamma() + math.lgamma(b) - (a + b).lgamma()
        return (self.m - 2) * math.log(2) + log_beta, a.digamma() - (a + b).digamma()

    def _draw(self, draws: int) -> Tensor:
        b = (self.m - 1) / 2
        return _half(b + self.kappa.expand(draws, -1), b, 1.0)


def _half(a: Tensor, b: float, scale: Tensor | float) -> Tensor:
    """Draws of θ with tan²(θ/2) = `scale` y/x, x ~ Gamma(a), y ~ Gamma(b): precise near 0 and π."""
    x, y = (
        Gamma(shape.nan_to_num(1.0), 1.0, validate_args=False).sample()  # NaN would never return
        for shape in (a, torch.full_like(a, b))
    )
    return 2 * torch.atan2((scale * y).sqrt(), x.sqrt())


def _between(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss–Legendre quadrature, along a new first dimension."""
    shape = (len(NODES), *[1] * low.ndim)
    nodes, weights = NODES.to(low).view(shape), WEIGHTS.to(low).view(shape)
    half = (high - low) / 2
    return low + half * (1 + nodes), half * weights
