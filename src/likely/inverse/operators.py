"""Operators A of measurements y = A(x) + noise: masks, blurs, coarser pixels, matrices, any callable.

All act on rows in the data's own units, and are differentiable. A linear one has its adjoint, which
is the pull-back of vectors by automatic differentiation: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ whatever A does.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from likely.core.errors import AbilityError, DataError
from likely.inverse.psf import PSF, as_psf

Rows = Float[Tensor, "n *shape"]
Outputs = Float[Tensor, "n *out_shape"]
Mode = Literal["valid", "zero", "circular"]


class SVD(NamedTuple):
    """A = U diag(s) Vᵀ of flattened rows, with r = min(m, d) singular values, falling."""

    u: Float[Tensor, "m r"]
    s: Float[Tensor, " r"]
    v: Float[Tensor, "d r"]


class Operator:
    """A(x), of rows; `A @ B` is A after B.

    An operator takes rows of any shape that suits it. `on(shape)` binds it to one, which checks that it
    does; only then `shape`, `out_shape`, and of a linear one `adjoint`, `matrix` and `svd` are known.

    Attributes
    ----------
    linear : bool
    shape, out_shape : tuple of int, optional
        Of a row x and of its y, once it is bound.
    dtype : torch.dtype, optional
        Of the rows that it was bound with.
    """

    linear = True
    shape: tuple[int, ...] | None = None
    out_shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None

    def __call__(self, x: Rows) -> Outputs:
        raise NotImplementedError

    def __matmul__(self, inner: Any) -> Operator:
        return Composition(self, as_operator(inner))

    @property
    def seen(self) -> Bool[Tensor, "*out_shape"] | None:
        """Which entries of y depend on x at all; None for all of them."""
        return None

    @torch.no_grad()
    def on(self, shape: Sequence[int], like: Tensor | None = None) -> Self:
        """The same, bound to rows of this shape.

        Parameters
        ----------
        shape : sequence of int
        like : Tensor, optional
            Of the type and device of rows; by default torch's default type.

        Raises
        ------
        DataError
            If it does not take rows of this shape, or is not what it claims to be.
        """
        bound = copy.copy(self)
        bound.shape = tuple(shape)
        zero = torch.zeros(2, *bound.shape) if like is None else like.new_zeros(2, *bound.shape)
        bound.dtype, bound.out_shape = zero.dtype, tuple(self._tried(zero).shape[1:])
        return bound

    def _tried(self, x: Rows) -> Outputs:
        return self(x)

    def adjoint(self, y: Outputs) -> Rows:
        """Aᵀ y.

        Raises
        ------
        AbilityError
            If A is not linear, or not bound to a shape.
        """
        zero = y.new_zeros(len(y), *self._bound)
        return torch.func.vjp(self.__call__, zero)[1](y)[0]

    def matrix(self, like: Tensor | None = None) -> Float[Tensor, "m d"]:
        """A as a matrix that takes flattened rows, in float64 or the type of `like`; errors as above."""
        shape = self._bound
        like = torch.empty(0, dtype=torch.float64) if like is None else like
        d = math.prod(shape)
        units = torch.eye(d, dtype=like.dtype, device=like.device).reshape(d, *shape)
        return self(units).flatten(1).mT

    def svd(self, like: Tensor | None = None) -> SVD:
        """The singular value decomposition of `matrix`: for at most some thousand entries."""
        u, s, vh = torch.linalg.svd(self.matrix(like), full_matrices=False)
        return SVD(u, s, vh.mT)

    @property
    def _bound(self) -> tuple[int, ...]:
        if not self.linear:
            raise AbilityError(f"{type(self).__name__} is not linear: it has no adjoint")
        if self.shape is None:
            raise AbilityError(f"{type(self).__name__}: bind it to a shape first, by on(shape)")
        return self.shape


class Identity(Operator):
    """A x = x: denoising."""

    def __call__(self, x: Rows) -> Outputs:
        return x


class Mask(Operator):
    """A x = x where `known`, and 0 elsewhere: these entries of y may hold anything, NaN too.

    Parameters
    ----------
    known : array of bool, shape (*shape,), or any that broadcasts to it

    Raises
    ------
    DataError
        If it is not of true and false, or 1 and 0.
    """

    def __init__(self, known: Any) -> None:
        known = torch.as_tensor(known)
        if ((known != 0) & (known != 1)).any():
            raise DataError("Mask: give true or 1 where x is known, and false or 0 elsewhere")
        self.known = known.bool()

    def __call__(self, x: Rows) -> Outputs:
        _check_fits(self.known.shape, x, "Mask: a mask")
        return torch.where(self.known.to(x.device), x, 0)

    @property
    def seen(self) -> Bool[Tensor, "*out_shape"] | None:
        return self.known if self.out_shape is None else self.known.expand(self.out_shape)


class Select(Operator):
    """The entries of a row that are `kept`, one after another: what a `Mask` keeps, without the rest.

    Parameters
    ----------
    kept : Tensor of bool, shape (*shape,)
    """

    def __init__(self, kept: Bool[Tensor, "*shape"]) -> None:
        self.kept = kept

    def __call__(self, x: Rows) -> Outputs:
        return x[:, self.kept.to(x.device)]


class Downsample(Operator):
    """Means over boxes of factor × factor pixels in the last two axes, or of `factor` entries of one.

    Parameters
    ----------
    factor : int

    Raises
    ------
    DataError
        If an axis is not a multiple of the factor.
    """

    def __init__(self, factor: int) -> None:
        if int(factor) != factor or factor < 1:
            raise DataError(f"Downsample: the factor is a whole number above 0, not {factor}")
        self.factor = int(factor)

    def __call__(self, x: Rows) -> Outputs:
        axes = min(2, x.ndim - 1)
        *kept, edges = x.shape[:-axes], x.shape[-axes:]
        if any(edge % self.factor for edge in edges):
            raise DataError(
                f"Downsample: {' × '.join(map(str, edges))} is not a multiple of {self.factor}: crop x"
            )
        boxes = [part for edge in edges for part in (edge // self.factor, self.factor)]
        return x.reshape(*kept[0], *boxes).mean([-1] if axes == 1 else [-3, -1])


class Convolve(Operator):
    """Convolution with a point-spread function over the last axes, each channel for itself.

    (A x)_i = Σ_j psf_j x_{i + c − j}, where c is the PSF's centre: `(k − 1)/2` of an odd number k of
    pixels, and k/2 of an even one, which is where FFT-shifted arrays have theirs. An even PSF whose
    light is symmetric about (k − 1)/2 thus shifts by half a pixel; pad it to an odd one to avoid that.

    Parameters
    ----------
    psf : array of one or two dimensions, file name, or kernel of astropy
        Of the same pixel scale as x; it sums to 1. A file as in `lk.load_data`: "psf.fits::EXTENSION".
    mode : {"zero", "valid", "circular"}
        What lies beyond the edges of x: nothing; nobody knows, so that y has only the pixels that need none
        of it, and k − 1 fewer along each axis; or the opposite edge, as FFTs see it.
    normalise : bool
        Divide the PSF by its sum.

    Raises
    ------
    DataError
        If the PSF has negative or no finite values, does not sum to 1, or is larger than x.
    """

    def __init__(self, psf: PSF, mode: Mode = "zero", *, normalise: bool = False) -> None:
        if mode not in ("zero", "valid", "circular"):
            raise DataError(f'Convolve: mode={mode!r}: take "zero", "valid" or "circular"')
        self.psf, self.mode = as_psf(psf, normalise), mode

    def __call__(self, x: Rows) -> Outputs:
        axes = [*range(-self.psf.ndim, 0)]
        sizes, size = list(x.shape[-self.psf.ndim :]), list(self.psf.shape)
        if x.ndim - 1 < len(axes) or any(k > n for k, n in zip(size, sizes, strict=True)):
            raise DataError(
                f"Convolve: a PSF of {' × '.join(map(str, size))} pixels is larger than x, "
                f"{' × '.join(map(str, x.shape[1:]))}: crop the PSF around its centre, and normalise it"
            )
        if self.mode == "circular":
            return self._product(x, self.transfer(sizes, x), sizes)
        # A circle so large that nothing goes round it.
        full = [n + k - 1 for n, k in zip(sizes, size, strict=True)]
        y = self._product(x, torch.fft.rfftn(self.psf.to(x), full), full)
        for axis, n, k in zip(axes, sizes, size, strict=True):
            y = (
                y.narrow(axis, k // 2, n)
                if self.mode == "zero"
                else y.narrow(axis, k - 1, n - k + 1)
            )
        return y

    def transfer(self, sizes: Sequence[int], like: Tensor) -> Tensor:
        """The eigenvalues of the circular convolution: what multiplies `torch.fft.rfftn` of rows.

        Parameters
        ----------
        sizes : sequence of int
            Of the last axes of x, as many as the PSF has.
        like : Tensor
            Of the type and device of x.
        """
        wide = self.psf.new_zeros(*sizes)
        wide[tuple(slice(k) for k in self.psf.shape)] = self.psf
        shifts = [-(k // 2) for k in self.psf.shape]
        return torch.fft.rfftn(wide.roll(shifts, [*range(wide.ndim)]).to(like))

    def _product(self, x: Tensor, transfer: Tensor, sizes: Sequence[int]) -> Tensor:
        axes = [*range(-self.psf.ndim, 0)]
        spectrum = torch.fft.rfftn(x, sizes, axes) * transfer
        return torch.fft.irfftn(spectrum, sizes, axes)


class Linear(Operator):
    """y = M x, of flattened rows.

    Parameters
    ----------
    matrix : array, shape (m, d) or (*out_shape, d)

    Raises
    ------
    DataError
        If it is no finite matrix, or rows have another number of entries than d.
    """

    def __init__(self, matrix: Any) -> None:
        self.weights = torch.as_tensor(matrix)
        if self.weights.ndim < 2 or not self.weights.isfinite().all():
            raise DataError("Linear: give a matrix of finite numbers, (m, d)")

    def __call__(self, x: Rows) -> Outputs:
        flat = x.flatten(1)
        if flat.shape[1] != self.weights.shape[-1]:
            raise DataError(
                f"Linear: the matrix takes {self.weights.shape[-1]} entries, and x has {flat.shape[1]}"
            )
        return torch.tensordot(flat, self.weights.to(x), ([1], [self.weights.ndim - 1]))


class Function(Operator):
    """Any callable on rows that torch can differentiate.

    Parameters
    ----------
    function : callable (n, *shape) -> (n, *out_shape)
        Each row for itself.
    linear : bool
        Whether it is linear, which `on` tries.

    Raises
    ------
    DataError
        If it raises an error, or does not give a finite row for each row.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], *, linear: bool = False) -> None:
        self.function, self.linear = function, linear

    def __call__(self, x: Rows) -> Outputs:
        y = self.function(x.to(self.dtype or x.dtype))  # its own tensors have one type
        return y.to(x) if isinstance(y, Tensor) else y

    def _tried(self, x: Rows) -> Outputs:
        try:
            y = self(x)
        except Exception as error:  # whatever a user's function may raise
            raise DataError(
                f"the operator fails on rows of shape {(*x.shape,)}: {error}"
            ) from error
        if not isinstance(y, Tensor) or y.shape[:1] != x.shape[:1]:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise DataError(f"the operator made {got} of {len(x)} rows: one row for each is needed")
        if self.linear:
            generator = torch.Generator(x.device).manual_seed(0)
            a, b = (x + torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
                    for _ in range(2))  # fmt: skip
            apart = (self(a - 2 * b) - (self(a) - 2 * self(b))).abs().max()
            if not apart <= 1e-3 * self(a).abs().max().clamp_min(1e-30):
                raise DataError("the operator is not linear: leave linear=True out")
        return y


class Composition(Operator):
    """`outer` after `inner`."""

    def __init__(self, outer: Operator, inner: Operator) -> None:
        self.outer, self.inner = outer, inner
        self.linear = outer.linear and inner.linear

    def on(self, shape: Sequence[int], like: Tensor | None = None) -> Self:
        bound = copy.copy(self)
        bound.inner = self.inner.on(shape, like)
        bound.outer = self.outer.on(bound.inner.out_shape, like)  # type: ignore[arg-type]
        bound.shape, bound.out_shape = bound.inner.shape, bound.outer.out_shape
        return bound

    def __call__(self, x: Rows) -> Outputs:
        return self.outer(self.inner(x))

    @property
    def seen(self) -> Bool[Tensor, "*out_shape"] | None:
        return self.outer.seen


def as_operator(value: Any) -> Operator:
    """An operator from what a user gives.

    Parameters
    ----------
    value : Operator, callable, physics of deepinv, or None
        None is the identity. A physics is taken without its noise; one that has an adjoint is linear.

    Raises
    ------
    DataError
        If it is none of these.
    """
    if value is None:
        return Identity()
    if isinstance(value, Operator):
        return value
    if callable(getattr(value, "A", None)):
        return Function(value.A, linear=hasattr(value, "A_adjoint"))
    if callable(value):
        return Function(value)
    kind = type(value).__name__
    raise DataError(f"the operator is a {kind}: give one of likely.inverse, or a callable on rows")


def _check_fits(shape: Sequence[int], x: Shaped[Tensor, "n *shape"], what: str) -> None:
    """Raise a `DataError` unless `shape` broadcasts to that of rows."""
    try:
        fits = torch.broadcast_shapes(shape, x.shape[1:]) == x.shape[1:]
    except RuntimeError:
        fits = False
    if not fits:
        raise DataError(f"{what} of shape {(*shape,)} does not fit rows of {(*x.shape[1:],)}")
