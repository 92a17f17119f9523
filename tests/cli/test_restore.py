"""`likely restore`: files in, a page and draws out."""

import numpy as np
import pytest
import torch
from PIL import Image

import likely as lk
from likely.cli import main
from likely.models.mixtures.gmm import GaussianMixture

fits = pytest.importorskip("astropy.io.fits")


@pytest.fixture
def run(tmp_path):
    """A prior of smooth 8 × 8 images, whose posteriors are exact."""
    edge = torch.arange(8.0)
    line = (-(edge[:, None] - edge).abs() / 3).exp()
    prior = GaussianMixture.of([1], torch.zeros(1, 8, 8), torch.kron(line, line)[None])
    lk.save(prior, tmp_path / "prior.safetensors")
    return tmp_path


def restore(run, *options):
    return main(
        ["restore", str(run / "prior.safetensors"), *map(str, options), "--out", str(run / "out")]
    )


def test_blurred_images_get_draws_and_a_page(run):
    truth = lk.load(run / "prior.safetensors").sample(1, seed=0)[0].float()
    psf = np.array([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    y = lk.inverse.Convolve(psf)(truth[None])[0] + 0.1 * torch.randn(8, 8)
    for name, pixels in (("y", y), ("psf", psf), ("truth", truth)):
        fits.writeto(run / f"{name}.fits", np.asarray(pixels))
    files = [run / "y.fits", "--psf", run / "psf.fits", "--truth", run / "truth.fits"]
    assert restore(run, *files, "--noise", 0.1, "-n", 200) == 0
    saved = np.load(run / "out" / "posterior.npz")
    assert saved["samples"].shape == (200, 8, 8)
    pull = (saved["mean"] - truth.numpy()) / saved["std"]
    assert np.abs(pull).max() < 4.5
    page = (run / "out" / "index.html").read_text()
    assert all(word in page for word in ("truth within 2σ", "χ² per pixel", "draw 8", "residual"))


def test_methods_are_compared_on_one_page(run, capsys):
    truth = lk.load(run / "prior.safetensors").sample(1, seed=0)[0]
    np.save(run / "truth.npy", truth)
    np.save(run / "y.npy", truth + 0.1 * torch.randn(8, 8))
    problem = [run / "y.npy", "--truth", run / "truth.npy", "--noise", 0.1, "-n", 40]
    assert restore(run, *problem, "--method", "exact,guided") == 0
    saved = {name: np.load(run / "out" / f"{name}.npz") for name in ("exact", "guided")}
    assert not (run / "out" / "posterior.npz").exists()
    std = saved["exact"]["std"]
    assert np.abs((saved["exact"]["mean"] - saved["guided"]["mean"]) / std).max() < 1.5
    page = (run / "out" / "index.html").read_text()
    for words in ("exact", "guided", "error of the mean", "truth within 2σ", "Deviations"):
        assert words in page
    for method, options, words in (
        ("exact,gibs", [], "unknown method 'gibs'"),
        ("exact,guided", ["--set", "steps=3"], "--set is for one method"),
        ("all", ["--set", "steps=3"], "--set is for one method"),
    ):
        assert restore(run, *problem, "--method", method, *options) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_masks_and_larger_pixels(run):
    """The right half is hidden, of an image of pixels of twice the size."""
    known = np.zeros((4, 4), np.uint8)
    known[:, :2] = 255
    Image.fromarray(known).save(run / "mask.png")
    np.save(run / "y.npy", np.ones((4, 4)))
    options = ["--scale", 2, "--mask", run / "mask.png", "--noise", 0.05]
    assert restore(run, run / "y.npy", *options) == 0
    saved = np.load(run / "out" / "posterior.npz")
    assert saved["mean"][:, :4].mean() == pytest.approx(1, abs=0.1)
    assert saved["std"][:, 6:].mean() > 2 * saved["std"][:, :4].mean()
    assert np.isnan(saved["residual"][:, 2:]).all()


def test_files_that_do_not_fit_are_refused(run, capsys):
    """Several extensions ask which; another size and missing pixels say what to do."""
    images = [fits.PrimaryHDU(np.ones((8, 8))), fits.ImageHDU(np.ones((8, 8)), name="ERR")]
    fits.HDUList(images).writeto(run / "two.fits")
    np.save(run / "small.npy", np.ones((7, 8)))
    holes = np.ones((8, 8))
    holes[2, 3] = np.nan
    np.save(run / "holes.npy", holes)
    for name, words in (
        ("two.fits", "name one extension"),
        ("small.npy", "shape (7, 8), and (8, 8) is needed"),
        ("holes.npy", "not finite at (2, 3)"),
    ):
        assert restore(run, run / name, "--noise", 0.1) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert restore(run, run / "holes.npy", "--noise", 0.1, "--missing", "mask") == 0
    assert restore(run, f"{run / 'two.fits'}::ERR", "--noise", 0.1) == 0
    assert restore(run, run / "two.fits", "--noise", "none.fits") == 2
