"""Likelihood: kinds combine as stated, and means carry all errors."""

import math

import pytest
import torch

from likely.core.likelihood import Figure, Kind, Likelihood


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        (Kind.EXACT, Kind.EXACT, Kind.EXACT),
        (Kind.EXACT, Kind.LOWER, Kind.LOWER),
        (Kind.UPPER, Kind.EXACT, Kind.UPPER),
        (Kind.LOWER, Kind.LOWER, Kind.LOWER),
        (Kind.LOWER, Kind.UPPER, Kind.ESTIMATE),
        (Kind.EXACT, Kind.ESTIMATE, Kind.ESTIMATE),
        (Kind.ESTIMATE, Kind.LOWER, Kind.ESTIMATE),
        (Kind.NONE, Kind.EXACT, Kind.NONE),
    ],
)
def test_kinds_combine(a, b, kind):
    assert a + b == kind
    assert b + a == kind


def test_mean_of_a_sum_has_both_kinds_of_error():
    value = torch.tensor([0.0, 2.0, 4.0, 6.0], dtype=torch.float64)
    a = Likelihood(value, Kind.EXACT)
    b = Likelihood(value, Kind.ESTIMATE, torch.full((4,), 0.1), common_stderr=0.5)
    mean = (a + b).mean()
    assert mean.value == 6.0
    assert mean.stderr == pytest.approx(math.hypot((2 * value).std().item() / 2, 0.5))


def test_a_sum_is_as_coarse_as_its_coarser_solver():
    value = torch.zeros(2)
    exact = Likelihood(value, Kind.EXACT)
    fine, coarse = (Likelihood(value, Kind.ESTIMATE, tolerance=t) for t in (1e-5, 1e-3))
    assert (exact + exact).tolerance is None
    assert (exact + fine).tolerance == 1e-5
    assert (fine + coarse).tolerance == 1e-3


def test_weight_two_is_a_row_repeated_in_the_mean():
    value = torch.randn(5, dtype=torch.float64)
    weighted = Likelihood(value, Kind.EXACT).mean(torch.tensor([1.0, 2, 1, 1, 0]))
    repeated = Likelihood(value[[0, 1, 1, 2, 3]], Kind.EXACT).mean()
    assert weighted.value == pytest.approx(repeated.value)


def test_standard_error_covers_at_its_rate():
    # 2,000 means of 50 rows: 68.3 % within one standard error, give or take 4 times 1.04 %.
    torch.manual_seed(0)
    figures = [Likelihood(torch.randn(50), Kind.EXACT).mean() for _ in range(2000)]
    rate = sum(abs(f.value) < f.stderr for f in figures) / 2000
    assert 0.63 < rate < 0.73


def test_figures_are_printed_to_the_digits_that_mean_something():
    assert str(Figure(-12.34567, 0.0123)) == "-12.346 ± 0.012"
    assert str(Figure(1234.5, 20.0)) == "1234 ± 20"
    assert Figure(math.inf, math.nan).to_json() == {"value": None, "stderr": None}
