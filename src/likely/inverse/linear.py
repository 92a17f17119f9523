"""Measurements in the columns of a prior's view, and the systems that guidance solves there.

    y = h(z) + n,      h = A ∘ view⁻¹,      n ~ N(0, Σ),      J = Σ^(−½) ∂h/∂z

so that an operator acts on the data's own units, a prior on its own, and noise has unit variance. If z is
N(m, V), the whitened y is N(Σ^(−½) h(m), 1 + J V Jᵀ) to first order, exactly where A and the view are
affine; then

    E[z|y] = m + V Jᵀ (1 + J V Jᵀ)⁻¹ Σ^(−½) (y − h(m)),

and the system is solved by conjugate gradients, each row by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.contract import RealView
from likely.core.columns import Constant, Real
from likely.inverse.noise import GaussianNoise
from likely.inverse.problem import Problem

Rows = Float[Tensor, "n columns"]
Map = Callable[[Rows], Rows]

ROUNDING = 1e-3  # by which 1 may be missed


def conjugate_gradients(
    apply: Map, b: Rows, *, tolerance: float = 1e-4, iterations: int = 100
) -> tuple[Rows, Bool[Tensor, "n 1"]]:
    """x of S x = b in each row, where S, by which `apply` multiplies rows, is 1 and more in any direction.

    A row stops when its residual is a part `tolerance` of b. The second answer is false where a direction
    has shown that S is not as it should be, as with the slope of a network, or where the residual grew.
    """
    x, r, p = torch.zeros_like(b), b, b
    square = first = (r * r).sum(1, keepdim=True)
    goal, sound = tolerance**2 * square, torch.ones_like(square, dtype=torch.bool)
    for _ in range(iterations):
        moves = sound & (square > goal)
        if not moves.any():
            break
        product = apply(p)
        curvature = (p * product).sum(1, keepdim=True)
        sound = sound & ~(moves & (curvature < (1 - ROUNDING) * (p * p).sum(1, keepdim=True)))
        step = torch.where(moves & sound, square / curvature, 0.0)
        x, r = x + step * p, r - step * product
        before, square = square, (r * r).sum(1, keepdim=True)
        p = r + torch.where(step != 0, square / before, 0.0) * p
    return x, sound & (square <= first)


@dataclass(frozen=True)
class Measurement:
    """A problem seen from the columns z of a view.

    Attributes
    ----------
    problem : Problem
        Other noise than Gaussian is linearised as Gaussian, of its variance at h(z).
    view : RealView
    """

    problem: Problem
    view: RealView

    def residual(self, z: Rows) -> Rows:
        """y − h(z)."""
        return (self.problem.y - self._mean(z)).flatten(1)

    def whitened(self, z: Rows) -> Rows:
        """Σ^(−½) (y − h(z))."""
        noise, mean = self.problem.noise, self._mean(z)
        residual = self.problem.y - mean
        if isinstance(noise, GaussianNoise):
            return noise.whiten(residual).flatten(1)
        assert noise is not None
        return (residual / noise.variance(mean.detach()).sqrt()).flatten(1)

    def log_prob(self, z: Rows) -> Float[Tensor, " n"]:
        """log p(y|z)."""
        return self.problem.log_likelihood(self._data(z))

    @property
    def gaussian(self) -> bool:
        """Whether y is a Gaussian around an affine function of z, so that nothing is approximated here."""
        affine = self.view.domain.kinds <= {Real, Constant} and self.problem.operator.linear
        return affine and isinstance(self.problem.noise, GaussianNoise)

    def _data(self, z: Rows) -> Float[Tensor, "n *shape"]:
        return self.view.inverse(z, rounded=False)

    def _mean(self, z: Rows) -> Float[Tensor, "n *out_shape"]:
        return self.problem.predict(self._data(z)).to(z.dtype)


class Linearised:
    """The whitened residual Σ^(−½) (y − h) near some rows z, which is linear there: its value and −J.

    Parameters
    ----------
    residual : callable
        Of rows z, shape (n, dim), giving shape (n, m).
    z : Tensor, shape (n, dim)
    """

    def __init__(self, residual: Map, z: Rows) -> None:
        with torch.enable_grad():
            self._z = z.detach().requires_grad_()
            self._value = residual(self._z)
            # Jᵀw is linear in w, so that its own derivative is J.
            self._w = torch.zeros_like(self._value, requires_grad=True)
            self._pulled = _derivative(self._value, self._z, self._w, create_graph=True)
        self.value = self._value.detach()

    def push(self, v: Rows) -> Rows:
        """J v of each row."""
        return -_derivative(self._pulled, self._w, v)

    def pull(self, w: Rows) -> Rows:
        """Jᵀ w of each row."""
        return -_derivative(self._value, self._z, w)

    def solved(self, spread: Map, iterations: int = 100) -> tuple[Rows, Bool[Tensor, "n 1"]]:
        """(1 + J V Jᵀ)⁻¹ Σ^(−½) (y − h), where `spread` multiplies rows by V; and where V is sound."""
        return conjugate_gradients(
            lambda w: w + self.push(spread(self.pull(w))), self.value, iterations=iterations
        )


def _derivative(of: Tensor, by: Tensor, weight: Tensor, create_graph: bool = False) -> Tensor:
    return torch.autograd.grad(
        of, by, weight, retain_graph=True, create_graph=create_graph, materialize_grads=True
    )[0]
