"""Simulated galaxies: their light, its shape, the PSF and the noise, against closed forms."""

import numpy as np
import pytest
from scipy.special import gamma, gammaincinv

import likely as lk
from likely.data.galaxies import NOISE, PARAMETERS, galaxies, gaussian_psf, moffat_psf, sersic


def galaxy(**parameters):
    disc = {"flux": 100.0, "radius": 3.0, "index": 1.0, "e1": 0.0, "e2": 0.0, "x": 0.0, "y": 0.0}
    return {name: np.array([value]) for name, value in (disc | parameters).items()}


def moments(image):
    """Flux, centre, and the matrix of second moments around it."""
    image = image.astype(float)
    pixel = np.arange(len(image)) - (len(image) - 1) / 2
    x, y = np.meshgrid(pixel, pixel)
    flux = image.sum()
    centre = np.array([(image * x).sum(), (image * y).sum()]) / flux
    dx, dy = x - centre[0], y - centre[1]
    xx, xy, yy = ((image * product).sum() / flux for product in (dx * dx, dx * dy, dy * dy))
    return flux, centre, np.array([[xx, xy], [xy, yy]])


@pytest.mark.parametrize("index", [0.5, 1.0, 2.5, 4.0])
def test_half_of_the_flux_lies_within_the_half_light_radius(index):
    # So large that few pixels lie on the circle; what counts is the normalisation, and b.
    image = sersic(galaxy(radius=40.0, index=index, x=0.2), side=480)[0].astype(float)
    pixel = np.arange(480) - 239.5
    inside = (pixel - 0.2) ** 2 + pixel[:, None] ** 2 < 40**2
    assert image[inside].sum() == pytest.approx(50, abs=0.1)
    within_edges = {0.5: 100, 1.0: 99.9, 2.5: 95, 4.0: 85}[index]
    assert within_edges * 0.9999 < image.sum() < 100.1


@pytest.mark.parametrize(("index", "error"), [(1.0, 1e-3), (2.5, 0.02), (4.0, 0.15)])
def test_flux_of_the_pixels_around_a_cusp(index, error):
    """Against rings of an eccentric ellipse, drawn at quantiles of the flux: no grid, no cusp."""
    parameters = {"radius": 1.5, "index": index, "e1": 0.3, "e2": -0.2, "x": 0.31, "y": -0.17}
    image = sersic(galaxy(**parameters))[0]
    quantile = (np.arange(1000) + 0.5) / 1000
    b = gammaincinv(2 * index, 0.5)
    r = 1.5 * (gammaincinv(2 * index, quantile) / b) ** index
    turn = np.exp(2j * np.pi * np.arange(500) * (np.sqrt(5) - 1) / 2)
    circle = (r[:, None] * turn * np.exp(2j * np.pi * np.arange(1000)[:, None] / np.pi)).flatten()
    e = 0.3 - 0.2j
    ellipse = (circle + e * circle.conj()) / np.sqrt(1 - abs(e) ** 2) + 0.31 - 0.17j
    edges = np.arange(33) - 16
    expected = np.histogram2d(ellipse.imag, ellipse.real, (edges, edges))[0] * 100 / ellipse.size
    noise = 0.02  # of the rings
    np.testing.assert_allclose(image, expected, atol=error + noise)


@pytest.mark.parametrize("index", [0.5, 1.0, 1.5])
def test_second_moments(index):
    e = 0.2 - 0.1j
    flux, centre, found = moments(
        sersic(galaxy(index=index, e1=e.real, e2=e.imag, x=0.3, y=-0.4), side=128)[0]
    )
    b = gammaincinv(2 * index, 0.5)
    width = 3.0**2 / 2 * gamma(4 * index) / gamma(2 * index) / b ** (2 * index)
    stretch = np.array([[1 + e.real, e.imag], [e.imag, 1 - e.real]]) / np.sqrt(1 - abs(e) ** 2)
    expected = width * stretch @ stretch + np.eye(2) / 12  # of the pixels
    assert flux == pytest.approx(100, rel=1e-4)
    np.testing.assert_allclose(centre, [0.3, -0.4], atol=3e-3)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_a_gaussian_behind_a_gaussian_is_a_wider_one():
    side, sigma = 33, 1.3
    s2 = 2.0**2 / (2 * np.log(2))  # half of the light within 2 pixels
    sharp, blurred = (
        moments(sersic(galaxy(index=0.5, radius=2.0, x=0.25), side=side, psf=psf)[0])
        for psf in (None, gaussian_psf(sigma))
    )
    np.testing.assert_allclose(sharp[2], (s2 + 1 / 12) * np.eye(2), atol=2e-3)
    np.testing.assert_allclose(blurred[2] - sharp[2], sigma**2 * np.eye(2), atol=2e-3)
    radius = np.sqrt(2 * np.log(2) * (s2 + sigma**2))
    wider = sersic(galaxy(index=0.5, radius=radius, x=0.25), side=side)
    narrow = sersic(galaxy(index=0.5, radius=2.0, x=0.25), side=side, psf=gaussian_psf(sigma))
    np.testing.assert_allclose(narrow, wider, atol=1e-3)


def test_a_psf_may_be_any_image_and_shifts_as_it_does():
    psf = np.zeros((3, 7))
    psf[0, 5] = 4.0  # up by one, right by two; its sum is set to one
    blurred = galaxy(index=0.5, radius=3.0)
    moved = sersic(blurred, psf=psf)[0]
    np.testing.assert_allclose(moved[:-1, 2:], sersic(blurred)[0][1:, :-2], atol=2e-3)
    half = moffat_psf(4.0)[12, 12:]  # twelve pixels on either side
    assert np.interp(2.0, np.arange(13), half) == pytest.approx(half[0] / 2)


def test_noise_and_parameters_of_the_survey():
    images, parameters = galaxies(40, seed=3)
    silent, same = galaxies(40, noise=0.0, seed=3)
    assert parameters.equals(same)
    assert tuple(parameters.columns) == PARAMETERS
    noise = images - silent
    assert noise.var() == pytest.approx(NOISE**2, abs=5 * np.sqrt(2 / noise.size))
    assert abs(np.corrcoef(noise[:, :-1].flatten(), noise[:, 1:].flatten())[0, 1]) < 0.02
    assert not np.array_equal(galaxies(40, seed=4)[0], images)


def test_parameters_are_a_context(monkeypatch):
    monkeypatch.setattr("likely.data.builtin.galaxies", lambda seed: galaxies(50, seed=seed))
    data = lk.load_data("galaxies", context="parameters", context_domain={"flux": "positive"})
    assert data.domain == lk.reals(32, 32, layout="image")
    assert data.context.names == PARAMETERS
    assert data.context.column(0) == lk.Positive()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"radius": -1.0}, r"row 0: radius must be positive"),
        ({"e1": 0.8, "e2": 0.7}, r"row 0: e1² \+ e2² must be below 1"),
        ({"x": 3.0}, r"row 0: x and y must lie from −½ to ½"),
        ({"index": np.nan}, r"row 0: index must lie from 0.3 to 8"),
    ],
)
def test_wrong_parameters_are_named(wrong, message):
    with pytest.raises(lk.DataError, match=message):
        sersic(galaxy(**wrong))


def test_what_is_missing_is_named():
    disc = galaxy()
    with pytest.raises(lk.DataError, match="an image with odd sides"):
        sersic(disc, psf=np.ones((4, 4)))
    del disc["e2"]
    with pytest.raises(lk.DataError, match="e2: not there"):
        sersic(disc)
