"""Mode coverage against counts that are known."""

import math

import pytest
import torch

import likely as lk
from likely.evaluation.modes import class_coverage, mode_coverage
from likely.targets import gaussian_mixture

CENTRES = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


def test_counts_and_their_errors():
    x = torch.cat([CENTRES[0].expand(60, 2), CENTRES[1].expand(20, 2), CENTRES[2].expand(2, 2)])
    x = torch.cat([x, torch.full((18, 2), 5.0)])  # near none
    found = mode_coverage(x + 0.1, CENTRES, 0.1)
    assert (found.covered, found.reached, found.modes) == (2, 3, 3)
    assert found.near.value == pytest.approx(0.82)
    assert found.near.stderr == pytest.approx((0.82 * 0.18 / 100) ** 0.5)
    parts = [60 / 82, 20 / 82, 2 / 82]
    assert [share.value for share in found.shares] == pytest.approx(parts)
    expected = sum(part * math.log(3 * part) for part in parts)
    assert found.divergence.value == pytest.approx(expected)
    weighted = mode_coverage(x, CENTRES, 0.1, weights=[60, 20, 2])
    assert weighted.divergence.value == pytest.approx(0, abs=1e-12)
    assert weighted.covered == 3


def test_classes_are_counted_like_modes():
    labels = torch.tensor([0] * 60 + [1] * 20 + [2] * 2)
    found, at_modes = class_coverage(labels, 3), mode_coverage(CENTRES[labels], CENTRES, 0.1)
    assert found == at_modes
    assert class_coverage(labels, 5).reached == 3
    for labels, message in [([0, 3], "from 0 to 2"), ([], "for each sample"), ([0.5], "for each")]:
        with pytest.raises(lk.DataError, match=message):
            class_coverage(torch.tensor(labels), 3)


def test_the_truth_covers_its_own_modes():
    weights = [0.5, 0.3, 0.2]
    truth = gaussian_mixture(weights, CENTRES, 0.2**2 * torch.eye(2).expand(3, 2, 2))
    n, found = 5000, []
    for seed in range(40):
        x = truth.sample(n, seed)
        found.append(mode_coverage(x, truth.modes, 0.2, weights=weights))
    near = 1 - math.exp(-4.5)
    errors = [(f.near.value - near) / f.near.stderr for f in found]
    assert abs(sum(errors)) / 40**0.5 < 3
    # Twice the divergence, times n, follows χ² with two degrees of freedom.
    mean = sum(2 * f.near.value * n * f.divergence.value for f in found) / 40
    assert abs(mean - 2) < 4 * (4 / 40) ** 0.5
    spread = torch.tensor([f.divergence.value for f in found]).std().item()
    assert 0.5 < spread / found[0].divergence.stderr < 1.6


def test_the_divergences_error_far_from_the_truth():
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(200):
        index = torch.multinomial(
            torch.tensor([0.7, 0.2, 0.1]), 1000, replacement=True, generator=generator
        )
        found.append(mode_coverage(CENTRES[index], CENTRES, 0.1).divergence)
    spread = torch.tensor([f.value for f in found]).std().item()
    assert 0.85 < spread / found[0].stderr < 1.15


def test_no_sample_is_near():
    found = mode_coverage(torch.full((9, 2), 50.0), CENTRES, 0.1)
    assert (found.covered, found.near.value) == (0, 0.0)
    assert math.isnan(found.divergence.value)


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (torch.zeros(5, 3), {}),
        (torch.zeros(0, 2), {}),
        (torch.zeros(5, 2), {"width": 0.0}),
        (torch.zeros(5, 2), {"weights": [1.0, 2.0]}),
        (torch.zeros(5, 2), {"weights": [1.0, 2.0, 0.0]}),
    ],
)
def test_refusals(x, options):
    with pytest.raises(lk.DataError, match="mode_coverage"):
        mode_coverage(x, CENTRES, **{"width": 0.1, **options})
