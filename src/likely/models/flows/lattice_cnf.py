"""Continuous flow with the symmetries of a lattice (Gerdes et al. 2023, arXiv:2207.00283).

Fields φ drawn from independent normal sites at t = 0 move until t = 1 along

    dφ_x/dt = Σ_y Σ_d Σ_f W_{df}(x − y) K_d(t) s_f(φ_y).

The features are s = B (sin ω₁φ, …, sin ω_Fφ, φ), with trainable frequencies ω, and the time kernels
K = D (1, cos πt, cos 2πt, …); B and D contract, or mix, their terms. W(r) spans the lattice and is the same
for displacements r that rotations and reflections carry into one another, so that the density has all
symmetries of the lattice; it is even, since the features are odd. W starts at 0: the identity.

Only φ_x itself enters ∂φ̇_x/∂φ_x, so that the divergence is known, and with it the density:

    ∇·φ̇ = Σ_x Σ_{df} W_{df}(0) K_d(t) s_f′(φ_x),      log q(φ(1)) = log q₀(φ(0)) − ∫₀¹ ∇·φ̇ dt.

The sum over y is a product in Fourier space; as W is even in each direction, real waves do. The paper has
49 frequencies, 20 features, 21 terms of time and 20 kernels, on a GPU; with fewer of them there are more
steps in a budget, and slower waves of time need fewer of Runge and Kutta's steps.

Steps spend their time on the sines and on the products with B; on small lattices, on the overhead of small
operations. B and D are divided by the root of the number of their inputs: by the number itself, as in the
paper, W would have to grow far before anything moves.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import Recipe, register
from likely.core.domain import Domain
from likely.core.likelihood import Estimator, Kind
from likely.models.flows.base import AffineFlow
from likely.nets.fast import Sines
from likely.nets.mlp import MLP
from likely.numerics.ode import random_times, runge_kutta

FINER = 4  # outside training there are so many times as many steps
HIGHEST = 5.0  # frequencies are uniform below it at first; fields have deviations near 1


@register(
    "lattice-cnf",
    title="continuous flow with the symmetries of a lattice",
    density="estimate (ODE)",
    constraint="smooth field; density even, and symmetric under all shifts, rotations, reflections",
    paper="Gerdes et al. 2023, arXiv:2207.00283",
)
class LatticeCNF(AffineFlow):
    """Equivariant continuous flow of a field on a periodic lattice, mostly to be trained on an action.

    Parameters
    ----------
    domain : Domain
        One or two axes of real, positive, bounded or integer columns of one kind, with layout="lattice".
    context : Domain, optional
        Such as couplings: `lk.targets.phi4(8, 8, coupling=(4, 6))` is a family.
    frequencies : int
        Of the sines.
    features, kernels : int
        To which the features and the time kernels are contracted.
    times : int
        Cosines of time.
    steps : int
        Runge–Kutta steps of training, of four evaluations each, from the base to the field. They meet at
        random times; outside training there are four times as many, of equal length. With few of them a field
        comes to err to its advantage, and a bound is none.

    Raises
    ------
    DomainError
        If the domain is no lattice of one or two axes, or has several kinds of columns.
    LikelyError
        If an option is out of range.

    Notes
    -----
    The density is that of the exact flow up to the error of the steps: compare log-likelihoods with
    those at `log_likelihood(x, steps=8 * model.steps)`. With twice as many as in training, log Z of 8 × 8
    sites was 3e-4 too high, as much as the error of 10⁵ draws; the error falls with their fourth power.

    On 8 × 8 sites a rate of 1e-2 has brought the free energy of training's
    12 steps far below its minimum, by the errors of these steps. Look at `free_energy` in the history,
    which is that of four times as many, and take more `steps` if log Z moves with them.

    Examples
    --------
    >>> import likely as lk
    >>> target = lk.targets.phi4(4, 4)
    >>> model = lk.flows.LatticeCNF(target.domain, frequencies=8)
    >>> history = lk.fit(model, target, steps=10)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 4, 4])
    """

    density = Kind.ESTIMATE
    of_one_kind = True
    # The path gradient takes twice as long, and is no better before the end: on 8 × 8 sites 100 steps of it
    # left a KL of 31, and of the other 0.3.
    energy_gradients = ("reparametrised", "path", "reinforce")
    recipe = Recipe(batch=128, rate=5e-3, betas=(0.8, 0.9))

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        context_encoder: nn.Module | str | None = None,
        frequencies: int = 12,
        features: int = 13,
        times: int = 6,
        kernels: int = 6,
        steps: int = 12,
    ) -> None:
        super().__init__(domain, context=context, context_encoder=context_encoder)
        self.steps = steps
        self.field = Field(domain.shape, frequencies, features, times, kernels, self.context_size)

    @classmethod
    def obstacle(cls, domain: Domain) -> str | None:
        is_lattice = domain.layout == "lattice" and len(domain.shape) <= 2
        where = None if is_lattice else 'anything but layout="lattice" with one or two axes'
        return super().obstacle(domain) or where

    def _times(self, steps: int | None) -> Sequence[float]:
        if steps is None and self.training:
            return random_times(self.steps)
        steps = (
            steps or FINER * self.steps
        )  # a bound must not live on the errors of training's steps
        return [i / steps for i in range(steps + 1)]

    def _log_prob_real(
        self, z: Tensor, context: Tensor | None, steps: int | None = None
    ) -> Float[Tensor, " n"]:
        start, total = runge_kutta(self.field.along(context), z, self._times(steps)[::-1])
        return self._log_prob_base(start) + total

    def _rsample_real(self, n: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        start = self._sample_base(n)
        z, total = runge_kutta(self.field.along(context), start, self._times(None))
        return z, self._log_prob_base(start) - total

    def _sample_real(self, n: int, context: Tensor | None) -> Float[Tensor, "n sites"]:
        return self._rsample_real(n, context)[0]

    def estimator(
        self, *, seed: int | None = None, draws: int = 4, steps: int | None = None
    ) -> Estimator:
        """By steps of fixed length with the exact divergence.

        Parameters
        ----------
        seed
            Without effect here.
        draws : int
            Of the noise that dequantises integers; the importance-weighted bound, as in `RealModel`.
        steps : int, optional
            By default four times the model's own; the error falls with their fourth power.
        """
        terms = partial(
            self._bound, 1 if self.view.exact else draws, steps=steps or FINER * self.steps
        )
        return Estimator(terms, Kind.ESTIMATE)


class Field(nn.Module):
    """φ̇ and its divergence; see the top of this file for the symbols.

    Parameters
    ----------
    shape : tuple of int
        Of the lattice.
    frequencies, features, times, kernels : int
        As in `LatticeCNF`.
    context : int
        Number of context features; they rescale the time kernels.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        frequencies: int,
        features: int,
        times: int,
        kernels: int,
        context: int,
    ) -> None:
        super().__init__()
        self.shape = shape
        members = F.one_hot(orbits(shape)).double().unflatten(0, shape)
        # Σ_r W(r) e^(−ikr) for each momentum k is `spectrum` times the values of W on the orbits.
        spectrum = torch.fft.fftn(members, dim=[*range(len(shape))]).real.flatten(0, -2)
        self.spectrum = nn.Buffer(spectrum.float(), persistent=False)
        for axis, length in enumerate(shape):
            self.register_buffer(f"waves{axis}", waves(length).float(), persistent=False)
        self.modes = nn.Buffer(math.pi * torch.arange(times), persistent=False)
        self.omega = nn.Parameter(HIGHEST * torch.rand(frequencies))
        self.B = nn.Parameter(nn.init.orthogonal_(torch.empty(features, frequencies + 1)))
        self.D = nn.Parameter(nn.init.orthogonal_(torch.empty(kernels, times)))
        self.W = nn.Parameter(torch.zeros(features, spectrum.shape[1], kernels))
        self.modulation = MLP(context, kernels, (32,)) if context else None

    def along(self, context: Tensor | None) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """A function of time and fields that gives φ̇ and ∇·φ̇, shapes (n, sites) and (n,)."""
        scale = None if self.modulation is None else 1 + self.modulation(context).T
        B, D = (M / math.sqrt(M.shape[1]) for M in (self.B, self.D))
        sines, line = B[:, :-1], B[:, -1]

        def field(t: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
            K = (D @ (t * self.modes).cos())[:, None]
            W = self.W @ (K if scale is None else K * scale)  # (features, orbits, 1 or n)
            phi = phi.T.contiguous()  # rows are last, so that each site's values are contiguous
            s, cosines = Sines.apply(phi, self.omega, sines)
            s = torch.addcmul(s, line[:, None, None], phi)
            rate = self._waved((self.spectrum @ W * self._waved(s)).sum(0), back=True)
            at_0 = B.T @ W[:, 0]
            slope = (at_0[:-1] * self.omega[:, None] * cosines).sum(0) + len(phi) * at_0[-1]
            return rate.T, slope

        return field

    def _waved(self, s: Float[Tensor, "... sites n"], back: bool = False) -> Tensor:
        """The amplitudes of real waves in fields, or the fields."""
        total = s
        for axis, length in enumerate(self.shape):
            matrix = getattr(self, f"waves{axis}")
            inner = math.prod(self.shape[axis + 1 :]) * s.shape[-1]
            total = (matrix.T if back else matrix) @ total.reshape(-1, length, inner)
        return total.reshape(s.shape)


def orbits(shape: tuple[int, ...]) -> Int[Tensor, " sites"]:
    """The number of each displacement's orbit under rotations and reflections; that of 0 is 0."""
    distance = [torch.arange(length) for length in shape]
    distance = [torch.minimum(r, length - r) for r, length in zip(distance, shape, strict=True)]
    place = torch.stack(torch.meshgrid(*distance, indexing="ij"), -1).flatten(0, -2)
    if len({*shape}) == 1:
        place = place.sort(1).values
    return place.unique(dim=0, return_inverse=True)[1]


def waves(length: int) -> Float[Tensor, "length length"]:
    """Real waves on a ring, an orthogonal matrix; those of momenta k and length − k are a pair."""
    k = torch.arange(length, dtype=torch.float64)
    phase = 2 * math.pi * torch.outer(k, k) / length
    basis = torch.where(2 * k[:, None] <= length, phase.cos(), phase.sin())
    return basis / basis.norm(dim=1, keepdim=True)
