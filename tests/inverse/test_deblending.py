"""The tutorial of deblending runs, and what it measures of galaxies is right."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from likely.data.galaxies import gaussian_psf
from likely.inverse import Convolve

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial/deblending.py"


@pytest.fixture(scope="module")
def tutorial():
    return runpy.run_path(str(TUTORIAL))


def test_the_tutorial_runs_on_simulated_and_on_real_galaxies(tutorial, tmp_path, capsys):
    fits = pytest.importorskip("astropy.io.fits")
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(side, side)) for side in (32, 70)]
    images[0] += tutorial["pairs"](1, seed=5)[0].sum(0)
    for name, extensions in (("images", images), ("psfs", [gaussian_psf(1.8)] * 2)):
        fits.HDUList([fits.PrimaryHDU(), *map(fits.ImageHDU, extensions)]).writeto(
            tmp_path / f"{name}.fits"
        )
    out = tmp_path / "deblending.png"
    options = ["--rows", 64, "--steps", 2, "--draws", 4, "--levels", 3, "--galaxy", 0, "--out", out]
    files = ["--images", tmp_path / "images.fits", "--psfs", tmp_path / "psfs.fits"]
    tables = tutorial["main"]([str(option) for option in options + files])
    assert out.read_bytes().startswith(b"\x89PNG")
    assert [*tables] == ["simulated", "real"]
    assert "whitened residuals of adjacent pixels" in capsys.readouterr().out


def test_neighbours_lie_apart_and_carry_no_more_light(tutorial):
    both = tutorial["pairs"](40, seed=0)
    pixel = np.arange(32) - 15.5
    second = both[:, 1].clip(0)
    bright = second.sum((1, 2)) > 20
    for axis in (1, 2):
        centre = (second.sum(3 - axis) @ pixel / second.sum((1, 2)))[bright]
        assert centre.std() > 4
    peak = second[bright].reshape(bright.sum(), -1).argmax(1)
    distance = np.hypot(pixel[peak // 32], pixel[peak % 32])
    assert (distance > 4.5).all()
    assert (distance < 13.5).all()
    assert second.sum() < both[:, 0].sum()


def test_moments_are_those_of_a_gaussian_under_the_window(tutorial):
    pixel = np.arange(32) - 15.5
    place = np.stack(np.meshgrid(pixel, pixel), -1) - [0.3, -0.2]
    covariance = np.array([[6.0, 1.5], [1.5, 4.0]])
    exponent = np.einsum("yxi,ij,yxj->yx", place, np.linalg.inv(covariance), place)
    image = np.exp(-exponent / 2)
    flux, size, *e = tutorial["measure"](500 * image / image.sum())
    seen = np.linalg.inv(np.linalg.inv(covariance) + np.eye(2) / tutorial["WINDOW"] ** 2)
    trace = np.trace(seen)
    assert flux == pytest.approx(500, rel=1e-3)
    assert size == pytest.approx(np.sqrt(trace / 2), rel=1e-3)
    assert e == pytest.approx([(seen[0, 0] - seen[1, 1]) / trace, 2 * seen[0, 1] / trace], abs=1e-3)


def test_pulls_of_right_posteriors_have_mean_0_and_width_1(tutorial):
    """Truth and draws are of one distribution, and few draws count as such."""
    torch.manual_seed(0)
    light = torch.as_tensor(tutorial["pairs"](1, seed=0))[0]
    rows = light + 0.01 * torch.randn(600, 11, *light.shape)
    found = tutorial["pulls"](rows[:, 1:], rows[:, 0])
    assert np.abs(found.mean(0)).max() < 4.5 / np.sqrt(600)
    assert np.abs(found.std(0) - 1).max() < 0.1


def test_what_remains_of_a_psf_makes_it_again(tutorial):
    psf = gaussian_psf(2.2)
    narrow = Convolve(gaussian_psf(tutorial["SHARP"]))
    wide = np.pad(psf, (40 - len(psf) // 2))
    left = tutorial["remaining"](wide)
    again = narrow(torch.as_tensor(np.pad(left, 25))[None])[0].numpy()
    assert np.abs(again - wide).max() < 0.02 * psf.max()


def test_noise_of_corners_has_the_correlation_that_made_it(tutorial):
    white = torch.randn(30, 90, 90, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = torch.tensor([[0.0, 0.3, 0.0], [0.3, 1.0, 0.3], [0.0, 0.3, 0.0]])
    images = Convolve(kernel, "circular", normalise=True)(white)
    covariance = tutorial["correlated"](torch.nn.functional.pad(images, [8] * 4).numpy()).covariance
    middle = len(covariance) // 2
    assert covariance[middle, middle] == 1
    expected = 0.6 / (1 + 4 * 0.3**2) * (1 - 1 / tutorial["PATCH"])
    assert covariance[middle, middle + 1].item() == pytest.approx(expected, abs=0.03)
    assert covariance[middle, middle + 4].item() == pytest.approx(0, abs=0.03)
