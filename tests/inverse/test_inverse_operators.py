"""Operators: adjoints, matrices, FFTs and edges against sums written out, and point-spread functions."""

from itertools import product

import numpy as np
import pytest
import torch

import likely as lk
from likely.core.errors import AbilityError
from likely.inverse import Convolve, Downsample, Function, Identity, Linear, Mask, Select
from likely.inverse.operators import as_operator
from likely.inverse.psf import as_psf


def psf(*size):
    values = torch.rand(*size, dtype=torch.float64) + 0.1
    return values / values.sum()


def operators(shape):
    last = shape[-1]
    return [
        Identity(),
        Mask(torch.rand(shape) < 0.5),
        Select(torch.rand(shape) < 0.5),
        Linear(torch.randn(3, int(np.prod(shape)), dtype=torch.float64)),
        Function(lambda x: x.cumsum(-1) + 2 * x.flip(-1), linear=True),
        *(Convolve(psf(last - 2), mode) for mode in ("zero", "valid", "circular")),
        *(
            Convolve(psf(*size), mode)
            for mode in ("zero", "valid", "circular")
            for size in ((2, 3), (4, 4), (1, 3))
            if len(shape) > 1
        ),
        *([Downsample(2)] if all(edge % 2 == 0 for edge in shape[-2:]) else []),
        Mask(torch.rand(shape) < 0.5) @ Convolve(psf(3), "circular"),
        Convolve(psf(2)) @ Mask(torch.rand(shape) < 0.5),
    ]


@pytest.mark.parametrize("shape", [(7,), (6,), (6, 8), (5, 7), (4, 5), (3, 4, 6)], ids=str)
def test_adjoints_have_the_inner_products_and_matrices_the_rows(shape):
    x = torch.randn(4, *shape, dtype=torch.float64)
    for operator in operators(shape):
        bound = operator.on(shape, x)
        y = torch.randn(4, *bound.out_shape, dtype=torch.float64)
        with torch.no_grad():
            forward = (bound(x) * y).flatten(1).sum(1)
            back = (x * bound.adjoint(y)).flatten(1).sum(1)
            dense = x.flatten(1) @ bound.matrix().mT
        assert torch.allclose(forward, back, atol=1e-12), type(operator)
        assert torch.allclose(dense, bound(x).flatten(1), atol=1e-12), type(operator)


def convolved(x, kernel, mode):
    """The sum Σ_j psf_j x_{i + c − j}, pixel by pixel."""
    (h, w), (kh, kw) = x.shape, kernel.shape
    if mode == "valid":
        rows, columns, centre = range(kh - 1, h), range(kw - 1, w), (0, 0)
    else:
        rows, columns, centre = range(h), range(w), (kh // 2, kw // 2)
    y = torch.zeros(len(rows), len(columns), dtype=x.dtype)
    for (a, i), (b, j) in product(enumerate(rows), enumerate(columns)):
        for k, m in product(range(kh), range(kw)):
            p, q = i + centre[0] - k, j + centre[1] - m
            if mode == "circular":
                y[a, b] += kernel[k, m] * x[p % h, q % w]
            elif 0 <= p < h and 0 <= q < w:
                y[a, b] += kernel[k, m] * x[p, q]
    return y


@pytest.mark.parametrize("size", [(3, 3), (2, 2), (4, 3), (1, 5), (5, 6)], ids=str)
@pytest.mark.parametrize("mode", ["zero", "valid", "circular"])
def test_convolutions_are_the_sum_and_colours_do_not_mix(mode, size):
    x, kernel = torch.randn(2, 3, 5, 6, dtype=torch.float64), psf(*size)
    y = Convolve(kernel, mode)(x)
    assert torch.allclose(y[1, 2], convolved(x[1, 2], kernel, mode), atol=1e-12)


@pytest.mark.parametrize("k", [3, 4])
def test_the_centre_of_a_psf_moves_nothing(k):
    delta = torch.zeros(k, k)
    delta[k // 2, k // 2] = 1
    x = torch.randn(2, 6, 7)
    for mode in ("zero", "circular"):
        assert torch.allclose(Convolve(delta, mode)(x), x, atol=1e-6)


def test_transfer_and_svd_are_those_of_the_dense_matrix():
    blur = Convolve(psf(3, 2), "circular").on((4, 5))
    u, s, v = blur.svd()
    assert torch.allclose(u @ torch.diag(s) @ v.mT, blur.matrix(), atol=1e-12)
    half = blur.transfer((4, 5), torch.empty(0, dtype=torch.float64)).abs()
    full = torch.cat([half, half[:, 1:3]], 1)  # the frequencies that rfft leaves out, by symmetry
    assert torch.allclose(full.flatten().sort().values, s.sort().values, atol=1e-12)


def test_downsampling_is_the_mean_of_each_box():
    x = torch.arange(24.0).reshape(1, 4, 6)
    assert torch.equal(Downsample(2)(x)[0, 0], torch.tensor([3.5, 5.5, 7.5]))


def test_a_physics_with_an_adjoint_counts_as_linear_and_without_one_does_not():
    class Physics:
        def A(self, x):  # noqa: N802
            return 2 * x

    class Linearised(Physics):
        def A_adjoint(self, y):  # noqa: N802
            return 2 * y

    assert as_operator(Linearised()).linear
    assert not as_operator(Physics()).linear
    with pytest.raises(AbilityError, match="not linear"):
        as_operator(torch.sin).on((3,)).adjoint(torch.ones(1, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Convolve(-psf(3, 3), normalise=True), "negative"),
        (lambda: Convolve(2 * psf(3, 3)), "sums to 2"),
        (lambda: Convolve(psf(3, 3) * torch.nan), "not finite"),
        (lambda: Convolve(psf(2, 2, 2)), "one or two dimensions"),
        (lambda: Convolve(psf(3, 3), "same"), "mode"),
        (lambda: Convolve(psf(9, 3)).on((8, 8)), "larger than x"),
        (lambda: Downsample(3).on((8, 9)), "multiple of 3"),
        (lambda: Downsample(0), "above 0"),
        (lambda: Mask(torch.full((3,), 0.5)), "true or 1"),
        (lambda: Mask(torch.ones(3)).on((4,)), "does not fit"),
        (lambda: Linear(torch.ones(2, 3)).on((4,)), "takes 3 entries"),
        (lambda: Linear(torch.full((2, 3), torch.nan)), "finite"),
        (lambda: Function(lambda x: x + 1, linear=True).on((3,)), "not linear"),
        (lambda: Function(lambda x: x @ torch.ones(4, 2)).on((3,)), "fails on rows"),
        (lambda: Function(lambda x: x.sum()).on((3,)), "one row for each"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(lk.DataError, match=message):
        make()


def test_psfs_come_from_arrays_files_and_kernels_of_astropy(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    convolution = pytest.importorskip("astropy.convolution")
    values = psf(3, 5).numpy()
    fits.PrimaryHDU(values).writeto(tmp_path / "one.fits")
    assert np.allclose(as_psf(tmp_path / "one.fits"), values)
    several = [fits.PrimaryHDU(), fits.ImageHDU(values, name="A"), fits.ImageHDU(values, name="B")]
    fits.HDUList(several).writeto(tmp_path / "two.fits")
    assert np.allclose(as_psf(f"{tmp_path}/two.fits::B"), values)
    with pytest.raises(lk.DataError, match=r"holds 2 images: name one extension"):
        as_psf(tmp_path / "two.fits")
    kernel = convolution.Gaussian2DKernel(1.0)
    assert np.allclose(as_psf(kernel, normalise=True), kernel.array / kernel.array.sum())
