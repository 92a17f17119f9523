"""Figures of detection against closed forms and scikit-learn, and scores against what they should be."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

import likely as lk
from likely.contract.training import Batch
from likely.data import Data, Split
from likely.evaluation import (
    Outside,
    auroc,
    detect_outside,
    detection,
    ood_scores,
    outside_images,
    typicality_test,
)


def gaussian(d: int) -> lk.GenerativeModel:
    """N(0, 1) in d columns."""
    model = lk.make("gaussian", lk.reals(d))
    x = torch.randn(50_000, d, generator=torch.Generator().manual_seed(5))
    model.prepare(Batch((x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T))
    return model


def test_shifted_gaussians_have_the_area_of_the_closed_form_and_its_error():
    shift, n, m = 0.7, 120, 200
    exact = stats.norm.cdf(shift / math.sqrt(2))
    threshold = stats.norm.ppf(0.95)
    z, fpr = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = detection(rng.normal(size=n), rng.normal(size=m) + shift, seed=seed)
        z.append((found.auroc.value - exact) / found.auroc.stderr)
        fpr.append((found.fpr95.value, found.fpr95.stderr))
    assert stats.binomtest(int((np.abs(z) < 1.96).sum()), 200, 0.95).pvalue > 1e-3
    assert abs(np.mean(z)) < 4 / math.sqrt(200)
    value, error = np.transpose(fpr)
    # The threshold is that of so many rows that at least 95 % pass.
    assert abs(value.mean() - stats.norm.cdf(threshold - shift)) < 0.03
    assert 0.8 < error.mean() / value.std() < 1.25


@pytest.mark.parametrize("levels", [None, 7, 1])  # of tied scores
@pytest.mark.parametrize("n", [60, 700])
def test_areas_and_rates_against_scikit_learn(levels, n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=n), rng.normal(size=2 * n) + 0.5
    if levels:
        a, b = (np.clip(np.round(part * 2), 0, levels - 1) for part in (a, b))
    found = detection(a, b)
    scores, outside = np.concatenate([a, b]), np.repeat([0, 1], [n, 2 * n])
    assert found.auroc.value == pytest.approx(roc_auc_score(outside, scores))
    even = np.repeat([2.0, 1.0], [n, 2 * n])
    precision = average_precision_score(outside, scores, sample_weight=even)
    assert found.aupr.value == pytest.approx(precision)
    passing, told = roc_curve(1 - outside, -scores, drop_intermediate=False)[1::-1]
    assert found.fpr95.value == pytest.approx(told[np.argmax(passing >= 0.95)])


def test_ties_infinities_and_missing_scores():
    assert auroc([0, 1], [1, 1]) == lk.Figure(0.75, auroc([0, 1], [1, 1]).stderr)
    assert detection([1, 1, 1], [1, 1]).auroc.value == 0.5
    certain = detection([0, 1, 2], [math.inf, math.inf])
    assert (certain.auroc.value, certain.aupr.value, certain.fpr95.value) == (1, 1, 0)
    with pytest.raises(lk.DataError, match="missing"):
        auroc([0, math.nan], [1, 2])
    with pytest.raises(lk.DataError, match="two at least"):
        auroc([0], [1, 2])


@pytest.mark.parametrize("size", [1, 20])
def test_p_values_of_typicality_are_uniform_inside_and_small_outside(size):
    p, away = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        inside, rows = (stats.norm.logpdf(rng.normal(size=k)) for k in (200, size))
        p.append(typicality_test(inside, rows, draws=199, seed=seed))
        centre = stats.norm.logpdf(np.zeros(size))  # the likeliest point, as no row is
        away.append(typicality_test(inside, centre, draws=199, seed=seed))
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert size == 1 or np.mean(away) < 0.02
    assert typicality_test([0.0, 1.0, 2.0], [-math.inf]) < 0.01


def test_scores_of_a_gaussian():
    model = gaussian(3)
    x = 2 * torch.randn(100, 3)
    scores = ood_scores(model, x, held=torch.randn(20_000, 3))
    normal = stats.norm.logpdf(x.numpy()).sum(1)
    np.testing.assert_allclose(scores["gradient"], x.norm(dim=1), rtol=1e-3)
    np.testing.assert_allclose(scores["likelihood"], -normal, rtol=1e-3)
    entropy = 1.5 * math.log(2 * math.pi * math.e)
    np.testing.assert_allclose(scores["typicality"], abs(-normal - entropy), atol=0.05)
    assert set(ood_scores(model, x)) == {"likelihood", "gradient"}
    bounded = lk.make("gaussian", lk.table(lk.Positive()))
    bounded.prepare(Batch(torch.rand(50, 1) + 0.5))
    scores = ood_scores(bounded, torch.tensor([[1.0], [-1.0]]))
    assert all(value.isinf().tolist() == [False, True] for value in scores.values())


def test_which_scores_a_model_has():
    x = torch.rand(10, 2)
    pixels = lk.integers(5, 2)
    ebm = lk.make("ebm", lk.reals(2), hidden=(8,))
    scores = ood_scores(ebm, x)  # without an estimate of log Z
    torch.testing.assert_close(scores["likelihood"], ebm.free_energy(x).detach().double())
    assert "gradient" in scores
    levels = torch.randint(5, (10, 2))
    assert set(ood_scores(lk.make("nsf", pixels), levels)) == {"likelihood", "gradient"}
    assert set(ood_scores(lk.make("made", pixels), levels)) == {"likelihood"}
    assert set(ood_scores(lk.make("ae", lk.reals(2)), x)) == {"likelihood"}
    for model in (lk.make("gan", lk.reals(2)), lk.make("nsf", lk.reals(2), context=lk.reals(1))):
        with pytest.raises(lk.DensityError, match="has no score"):
            ood_scores(model, x)


def test_images_outside_lie_in_the_domain():
    generator = torch.Generator().manual_seed(1)
    for domain in (
        lk.integers(17, 8, 8, layout="image"),
        lk.binary(1, 6, 5, layout="image"),
        lk.reals(3, 4, 4, layout="image"),
        lk.categories(3, 4, 4, layout="image"),
    ):
        levels = getattr(domain.column(0), "levels", None)
        x = torch.rand(20, *domain.shape, generator=generator)
        x = x if levels is None else (x * levels).long()
        sets = outside_images(x, domain, seed=2)
        ordered = not isinstance(domain.column(0), lk.Categorical)
        names = ["noise", "constant", "shuffled", *["inverted", "blurred"] * ordered]
        assert list(sets) == names
        for rows in sets.values():
            domain.check(rows)
            assert rows.dtype == x.dtype
        assert torch.equal(sets["shuffled"].flatten(1).sort().values, x.flatten(1).sort().values)
        assert (sets["constant"].flatten(1).amin(1) == sets["constant"].flatten(1).amax(1)).all()
        if ordered:
            low, high = (0, levels - 1) if levels else (x.min(), x.max())
            torch.testing.assert_close(sets["inverted"], low + high - x)
    with pytest.raises(lk.DomainError, match="pixels of one kind"):
        outside_images(torch.rand(5, 3), lk.reals(3))


def test_the_wrong_direction_is_told_in_words():
    """A model of noise finds its centre likelier than its own rows."""
    model = gaussian(40)
    rows = torch.randn(900, 40)
    data = Data(model.domain, *(Split(part) for part in rows.split(300)), name="noise")
    found = detect_outside(model, data, {"small": 0.2 * rows, "large": 2 * rows}, rows=200)
    assert len(found.inside["likelihood"]) == 200
    assert found.found["likelihood"]["small"].auroc.value == 0
    assert found.found["typicality"]["small"].auroc.value > 0.99
    assert found.found["likelihood"]["large"].auroc.value == 1
    (note, *_) = found.notes
    assert note.startswith("by likelihood, rows of small (0)")
    assert "large" not in note
    text = str(found)
    assert "more usual than held-out rows" in text
    assert found.to_json()["outside"]["likelihood"]["small"]["auroc"]["value"] == 0
    with pytest.raises(lk.DataError, match="no rows outside"):
        detect_outside(model, data)
    with pytest.raises(lk.DataError, match="odd: rows of shape"):
        detect_outside(model, data, {"odd": rows[:, :3]})
    far = Outside({"s": torch.zeros(5)}, {"far": {"s": torch.tensor([math.inf, 1.0])}})
    assert far.notes == ["50.0% of far lie outside the domain: these are told for certain"]
