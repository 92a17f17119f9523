"""Errors of a comparison are those of drawing rows and seeds anew; its table and files tell all."""

import csv
import dataclasses
import json
import math
import os
import re
import signal
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import likely as lk
from likely.comparison import Comparison, Run
from likely.comparison import run as comparing
from likely.comparison.columns import measured
from likely.comparison.seeds import LEVEL, Pooled, over_seeds
from likely.core.files import read_json
from likely.core.likelihood import Kind, Likelihood
from likely.data import Data, Split
from likely.data.pictures import draw_rows
from likely.evaluation import Evaluation

DISTANCES = ("energy_distance_floor", "sliced_wasserstein", "sliced_wasserstein_floor")


@pytest.fixture(scope="module")
def data() -> lk.Data:
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    frame = {"x": x, "y": x**2 + 0.1 * rng.normal(size=400), "n": rng.integers(0, 5, 400)}
    return lk.load_data(pd.DataFrame(frame))


def _comparison(
    data: lk.Data,
    values: dict[str, np.ndarray],
    kinds: dict[str, Kind] | None = None,
    weight: torch.Tensor | None = None,
    distances: dict[str, float] | None = None,
    **common: Any,
) -> Comparison:
    """A comparison with given log-likelihoods of shape (seeds, rows), and energy distances."""
    runs = []
    for name, of_seeds in values.items():
        kind = (kinds or {}).get(name, Kind.EXACT)
        for seed, rows in enumerate(of_seeds):
            held = Likelihood(torch.from_numpy(rows), kind, **common)
            evaluation = Evaluation(
                model=name, data="", split="test", rows=len(rows), density=kind, held=held,
                weight=weight,
                values={
                    "parameters": 0, "invalid": 0.0, "sampling": lk.Figure(1.0),
                    "energy_distance": lk.Figure((distances or {}).get(name, math.nan), 0.01),
                    **dict.fromkeys(DISTANCES, lk.Figure(math.nan)),
                },
            )  # fmt: skip
            runs.append(Run(name, seed, kind, evaluation=evaluation))
    return Comparison(data, runs, {}, {"seeds": [0], "budget": {}, "jobs": 1, "seconds": 0.0})


@pytest.mark.slow
def test_the_error_is_that_of_drawing_rows_and_seeds_anew(data: lk.Data) -> None:
    rng = np.random.default_rng(1)
    seeds, rows, repeats = 4, 50, 1500
    found, claimed, gaps, claimed_gaps = [], [], [], []
    for _ in range(repeats):
        easy = 2.0 * rng.normal(size=rows)  # shared by the models: rows are easy or hard
        values = {
            name: easy
            + 0.2 * rng.normal(size=(seeds, 1))
            + 0.3 * rng.normal(size=rows)
            + 0.1 * rng.normal(size=(seeds, rows))
            for name in ("gaussian", "gmm")
        }
        comparison = _comparison(data, values)
        figure, gap = comparison.log_likelihood("gmm"), comparison.difference("gmm", "gaussian")
        found.append(figure.value)
        claimed.append(figure.stderr)
        gaps.append(gap.value)
        claimed_gaps.append(gap.stderr)
    # Variances over the repeats have a relative error of √(2/1500) = 3.7 %.
    assert np.mean(np.square(claimed)) == pytest.approx(np.var(found), rel=0.15)
    assert np.mean(np.square(claimed_gaps)) == pytest.approx(np.var(gaps), rel=0.15)
    assert np.mean(claimed_gaps) < 0.6 * np.mean(claimed)


def test_one_seed_has_the_error_of_its_rows(data: lk.Data) -> None:
    rows = np.random.default_rng(2).normal(size=30)
    figure = _comparison(data, {"gmm": rows[None]}).log_likelihood("gmm")
    assert figure.value == pytest.approx(rows.mean())
    assert figure.stderr == pytest.approx(rows.std(ddof=1) / math.sqrt(30))
    with_log_z = _comparison(data, {"gmm": rows[None]}, common_stderr=3.0).log_likelihood("gmm")
    assert with_log_z.stderr == pytest.approx(math.hypot(figure.stderr or 0, 3.0))


def test_weights_count_rows(data: lk.Data) -> None:
    rows = np.random.default_rng(3).normal(size=30)
    weight = torch.tensor([1.0] * 10 + [0.0] * 20)
    comparison = _comparison(data, {"gmm": rows[None]}, weight=weight)
    plain = _comparison(data, {"gmm": rows[None, :10]}).log_likelihood("gmm")
    weighted = comparison.log_likelihood("gmm")
    assert (weighted.value, weighted.stderr) == pytest.approx((plain.value, plain.stderr))


def test_ranking_by_likelihood_also_with_bounds(data: lk.Data) -> None:
    rows = np.random.default_rng(4).normal(size=(2, 40))
    values = {"independent": rows - 3, "nsf": rows, "gaussian": rows - 2, "made": rows * math.nan}
    comparison = _comparison(data, values, {"nsf": Kind.LOWER})
    assert comparison.ranked_by == {"log_likelihood": ["nsf", "gaussian", "independent"]}
    assert [row.model for row in comparison.rows] == ["nsf", "gaussian", "independent", "made"]
    gains = {row.model: row.gain for row in comparison.rows}
    assert gains["nsf"] is not None
    assert gains["gaussian"] is not None
    assert (gains["nsf"].value, gains["gaussian"].value) == pytest.approx((3, 1))
    assert gains["independent"] is None
    text = " ".join(comparison.summary())
    assert "nsf explains held-out rows best: at least" in text
    assert "gaussian follows, 2.0" in text


def test_what_has_no_comparable_likelihood_follows_by_energy_distance(data: lk.Data) -> None:
    rows = np.random.default_rng(5).normal(size=(2, 40))
    values = {
        "nsf": rows + 9,
        "vae": rows,
        "gmm": rows + 8,
        "made": rows - 1,
        "independent": rows - 2,
    }
    kinds = {"vae": Kind.LOWER, "nsf": Kind.ESTIMATE, "gmm": Kind.UPPER}
    distances = {"nsf": 0.3, "gmm": 0.2, "made": 0.5, "vae": 0.6, "independent": 0.9}
    comparison = _comparison(data, values, kinds, distances=distances)
    assert comparison.ranked_by == {
        "log_likelihood": ["vae", "made", "independent"],
        "energy_distance": ["gmm", "nsf"],
    }
    assert [row.model for row in comparison.rows] == ["vae", "made", "independent", "gmm", "nsf"]
    best, why, *_ = comparison.summary()
    assert "vae explains held-out rows best: at least" in best
    assert "made follows, 1.00" in best
    assert "gmm (an upper bound, which flatters), nsf (an estimate, which may flatter)" in why
    cells = {row.model: measured("log_likelihood").cell(row) for row in comparison.rows}
    signs = {name: cell.text[0] for name, cell in cells.items()}
    assert (signs["vae"], signs["nsf"], signs["gmm"]) == ("≥", "≈", "≤")
    assert [name for name, cell in cells.items() if cell.order is None] == ["gmm", "nsf"]


def test_without_any_comparable_likelihood_the_energy_distance_ranks(data: lk.Data) -> None:
    rows = np.random.default_rng(5).normal(size=(1, 40))
    distances = {"gaussian": 0.2, "gmm": 0.1}
    kinds = dict.fromkeys(distances, Kind.ESTIMATE)
    comparison = _comparison(data, {"gaussian": rows, "gmm": rows}, kinds, distances=distances)
    assert comparison.ranked_by == {"energy_distance": ["gmm", "gaussian"]}
    assert "for want of a likelihood" in comparison.summary()[0]
    x = torch.randn(200, 2)
    x[:50, 1] = 0.5
    with pytest.warns(UserWarning, match="one value"):
        atoms = lk.load_data(x)
    comparison = _comparison(atoms, {"gaussian": rows, "gmm": rows}, distances=distances)
    assert comparison.atoms == ["1"]
    assert comparison.ranked_by == {"energy_distance": ["gmm", "gaussian"]}
    assert "repeat values" in comparison.summary()[0]


def test_rows_without_density_are_named(data: lk.Data) -> None:
    rows = np.random.default_rng(6).normal(size=(2, 40))
    outside = rows.copy()
    outside[0, 3] = -math.inf
    comparison = _comparison(data, {"gaussian": rows, "made": outside})
    assert [row.model for row in comparison.rows] == ["gaussian", "made"]
    assert any("made gives 1 test rows no density" in note for note in comparison.notes)
    assert comparison.log_likelihood("made").value == -math.inf
    assert json.dumps(comparison.to_json(), allow_nan=False)
    assert "gaussian explains held-out rows best" in comparison.summary()[0]
    assert "made follows, but gives some test rows no density" in comparison.summary()[0]
    alone = _comparison(data, {"made": outside, "gmm": outside})
    assert alone.summary()[0].startswith("No model gives every test row a density")
    assert "Likelihoods of new rows" not in alone.advice()


def test_clear_is_what_a_t_test_says() -> None:
    rng = np.random.default_rng(7)
    answers = []
    for _ in range(200):
        a, b = (rng.normal(size=n) for n in rng.integers(2, 5, size=2))
        a += rng.choice([3, 10, 40])
        exact = stats.ttest_ind(a, b, equal_var=False)
        lead = over_seeds([lk.Figure(v) for v in a]) - over_seeds([lk.Figure(v) for v in b])
        assert lead.degrees == pytest.approx(exact.df)
        assert lead.clear == (exact.pvalue < LEVEL)
        answers.append(lead.clear)
    assert 40 < sum(answers) < 160
    known = Pooled(1.0, 0.3)
    assert Pooled(0.89, 0.3).clear is False
    assert Pooled(0.91, 0.3).clear is True
    assert (known - Pooled(math.nan, 0.1)).clear is None
    assert (known - Pooled(0.0, math.nan)).clear is None
    assert (known - over_seeds([lk.Figure(0.0, 0.01)])).clear is None  # one seed


def test_differences_between_few_seeds_are_rarely_called_clear(data: lk.Data) -> None:
    rng = np.random.default_rng(8)
    clear, beyond = 0, 0
    for _ in range(500):
        values = {m: rng.normal(size=(2, 1)) + rng.normal(size=20) for m in ("gaussian", "gmm")}
        comparison = _comparison(data, values)
        lead, behind = (
            comparison.difference(*p) for p in (("gaussian", "gmm"), ("gmm", "gaussian"))
        )
        clear += bool(lead.clear or behind.clear)
        beyond += abs(lead.value) > 3 * (lead.stderr or 0.0)
    # By simulation of the formulas, where rows add 0.3 times the error of seeds: 1.8 % and 5.8 %.
    assert 15 < beyond < 45
    assert clear <= 18


def test_what_one_seed_or_an_unknown_error_leaves_open(data: lk.Data) -> None:
    rows = np.random.default_rng(9).normal(size=(3, 40))
    distances = {"gaussian": 0.1, "gmm": 0.9}
    one = _comparison(data, {"gaussian": rows[:1], "gmm": rows[:1] - 5}, distances=distances)
    assert "with one seed the error excludes variation between runs" in one.summary()[0]
    assert not any("clear" in text for text in [*one.summary(), *one.advice().values()])
    bounds = {"gaussian": rows, "gmm": rows - 5}
    several = _comparison(data, bounds, {"gmm": Kind.LOWER}, distances=distances)
    assert several.advice() | {"Many samples": "", "Other data": ""} == {
        "Likelihoods of new rows": "gaussian, by a clear difference; gmm lies behind as far as its "
        "lower bound tells.",
        "Faithful samples": "By energy distance those of gaussian are best, clearly.",
        "Many samples": "",
        "Other data": "",
    }
    both = np.where(np.arange(40) == 3, -math.inf, rows)
    values = {"gaussian": rows, "gmm": both, "made": rows[:, :1] * np.full(40, 1e308)}
    assert "cannot be told" not in _comparison(data, values).advice()["Likelihoods of new rows"]


def test_gains_are_named_only_where_likelihoods_rank(data: lk.Data) -> None:
    rows = np.random.default_rng(10).normal(size=(2, 40))
    values = {"nsf": rows + 9, "gmm": rows + 8, "independent": rows}
    text = " ".join(_comparison(data, values, {"nsf": Kind.ESTIMATE}).summary())
    assert "above independent marginals, the baseline: gmm." in text


def test_models_with_draws_outside_the_domain_come_last(data: lk.Data) -> None:
    rows = np.random.default_rng(11).normal(size=(2, 40))
    distances = {"gan": 0.1, "wgan": 0.2, "ae": 0.3, "gmm": -math.inf}
    kinds = dict.fromkeys(distances, Kind.ESTIMATE)
    comparison = _comparison(data, dict.fromkeys(distances, rows), kinds, distances=distances)
    for run in comparison.runs:
        if run.name == "gan":
            run.evaluation = dataclasses.replace(
                run.evaluation, values=run.evaluation.values | {"invalid": 0.99}
            )
    assert comparison.ranked_by == {"energy_distance": ["wgan", "ae", "gan"]}
    (text, *_), advice = comparison.summary(), comparison.advice()["Faithful samples"]
    assert "Closest: wgan" in text
    assert "gan (99.0%)" in text
    assert "those of wgan are best" in advice
    assert "gan (99.0%)" in advice


@pytest.fixture(scope="module")
def compared(data: lk.Data) -> Comparison:
    return lk.compare(["gaussian", "independent", "made"], data, steps=5, seeds=2)


@pytest.mark.slow
def test_every_model_is_fitted_with_every_seed(compared: Comparison, data: lk.Data) -> None:
    assert [(run.name, run.seed) for run in compared.runs] == [
        (name, seed) for name in ("gaussian", "independent", "made") for seed in (0, 1)
    ]
    for row in compared.rows:
        assert row.seeds == 2
        assert row.diverged == 0
        scores = [run.test.value.mean().item() for run in compared.finished(row.model) if run.test]
        assert row.log_likelihood is not None
        assert row.log_likelihood.value == pytest.approx(np.mean(scores), rel=1e-5)
        assert row.seed_spread == pytest.approx(np.std(scores, ddof=1), rel=1e-3, abs=1e-6)
        for figure in ("energy_distance", "fitting", "sampling", "scoring"):
            assert math.isfinite(row.figures[figure].value)
    best = [run for run in compared.finished("made") if run is compared.best_run("made")]
    assert len(best) == 1
    again = lk.compare(["made"], data, steps=5, seeds=1, seed=1)
    (run,) = (run for run in compared.runs if (run.name, run.seed) == ("made", 1))
    assert run.test is not None
    assert again.runs[0].test is not None
    assert torch.equal(run.test.value, again.runs[0].test.value)


def test_files(compared: Comparison, tmp_path: Path) -> None:
    compared.to_html(tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert "<title>likely compare: " in page
    assert "<h2>Columns</h2>" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    for row in compared.rows:
        assert row.model in page
        assert row.constraint in page
    written = compared.to_json(tmp_path / "comparison.json")
    assert read_json(tmp_path / "comparison.json") == json.loads(json.dumps(written))
    assert [row["model"] for row in written["rows"]] == [row.model for row in compared.rows]
    assert len(written["runs"]) == 6
    compared.to_csv(tmp_path / "comparison.csv")
    with (tmp_path / "comparison.csv").open() as file:
        first = next(csv.DictReader(file))
    row = compared.rows[0]
    assert row.log_likelihood is not None
    assert first["model"] == row.model
    assert float(first["log_likelihood"]) == pytest.approx(row.log_likelihood.value)
    assert float(first["log_likelihood_stderr"]) == pytest.approx(row.log_likelihood.stderr)
    assert compared.table.loc["made", "seeds"] == 2
    text = str(compared)
    assert max(map(len, text.splitlines())) <= 120
    assert all(row.model in text for row in compared.rows)


def test_a_model_that_does_not_take_the_data_is_refused_with_the_reason() -> None:
    rng = np.random.default_rng(0)
    frame = {"kind": rng.choice(["e", "mu"], 200), "x": rng.normal(size=200)}
    data = lk.load_data(pd.DataFrame(frame))
    comparison = lk.compare(["nsf", "made"], data, steps=2, seeds=1)
    assert list(comparison.refused) == ["nsf"]
    assert "categorical" in comparison.refused["nsf"]
    assert {row.model for row in comparison.rows} == {"made", "independent"}
    assert any("nsf" in note for note in comparison.notes)
    with pytest.raises(lk.DomainError, match="categorical"):
        lk.compare(["nsf"], data)


def test_by_default_all_models_that_take_the_data(
    data: lk.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: Any, **__: Any) -> None:
        raise lk.DivergenceError("at once")

    monkeypatch.setattr(comparing, "fit", diverge)
    comparison = lk.compare(None, data, seeds=1)
    names = {run.name for run in comparison.runs}
    assert {"gaussian", "gmm", "independent", "made", "nsf"} <= names
    assert names | set(comparison.refused) == set(lk.models().index)
    assert comparison.advice() == {}
    assert comparison.summary()[0] == "No fit completed: there is nothing to rank."
    conditional = lk.load_data("digits", context="label")
    comparison = lk.compare(None, conditional, seeds=1)
    names = {run.name for run in comparison.runs}
    assert "made" in names
    assert "gmm" not in names
    assert "takes no context" in comparison.refused["gmm"]
    assert any(note.startswith("gmm was left out") for note in comparison.notes)


def test_a_run_that_diverges_is_counted(
    data: lk.Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fit = comparing.fit

    def sometimes(model: lk.GenerativeModel, data: lk.Data, *, seed: int, **options: Any) -> Any:
        if seed == 1 or isinstance(model, type(lk.make("independent", data.domain))):
            raise lk.DivergenceError("the loss is no longer finite")
        return fit(model, data, seed=seed, **options)

    monkeypatch.setattr(comparing, "fit", sometimes)
    comparison = lk.compare(["gaussian", "independent"], data, steps=2, seeds=2)
    gaussian, independent = comparison.rows
    assert (gaussian.model, gaussian.diverged, gaussian.seeds) == ("gaussian", 1, 2)
    assert (independent.diverged, independent.log_likelihood) == (2, None)
    assert sum("no longer finite" in note for note in comparison.notes) == 3
    comparison.to_html(tmp_path / "index.html")
    assert "2 of 2 diverged" in (tmp_path / "index.html").read_text()
    assert comparison.to_json()["runs"][1]["error"] == "the loss is no longer finite"


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["nfs"], {}, "nsf"),
        (["made"], {"hyperparameters": {"mad": {}}}, "made"),
        (["made"], {"hyperparameters": {"made": {"hiden": 3}}}, "hidden"),
        (["made"], {"hyperparameters": {"made": {"hidden": 3}}}, "hidden=3: give a sequence"),
        (["made"], {"seeds": 0}, "seeds=0: give a whole number above 0"),
        (["made"], {"seed": -1}, "seed=-1"),
        (["made"], {"steps": 1, "epochs": 1}, "one budget"),
        (["made"], {"steps": 0}, "steps must be above 0"),
        (["made"], {"jobs": 0, "steps": 1}, "jobs"),
        (["made"], {"jobs": -2, "steps": 1}, "jobs"),
        (["made"], {"jobs": 2, "minutes": 1}, "need a budget in steps or epochs"),
        (["made"], {"jobs": -1}, "need a budget in steps or epochs"),
        ([], {}, "none"),
    ],
)
def test_mistakes_are_found_before_any_fit(
    data: lk.Data, models: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(lk.LikelyError, match=message):
        lk.compare(models, data, **options)


@pytest.mark.parametrize(
    "error", [lk.DensityError("none"), MemoryError("no memory"), KeyError("of a user's model")]
)
def test_a_run_that_fails_loses_no_other(
    data: lk.Data, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fit = comparing.fit

    def sometimes(model: lk.GenerativeModel, data: lk.Data, *, seed: int, **options: Any) -> Any:
        if seed == 1:
            raise error
        return fit(model, data, seed=seed, **options)

    monkeypatch.setattr(comparing, "fit", sometimes)
    comparison = lk.compare(["gaussian"], data, steps=2, seeds=2)
    assert {row.model for row in comparison.rows} == {"gaussian", "independent"}
    for row in comparison.rows:
        assert (row.seeds, row.diverged, row.failed) == (2, 0, 1)
        assert row.log_likelihood is not None
    assert f"gaussian, seed 1, failed: {type(error).__name__}: {error}" in comparison.notes


def test_pictures_show_rows_of_all_classes_in_proportion_to_their_weights() -> None:
    x = torch.arange(40_000)[:, None] // 20_000  # in the order of their classes
    weight = torch.where(x[:, 0] == 1, 3.0, 1.0)
    for given, share in ((None, 0.5), (weight, 0.75)):
        split = Split(x, None, given)
        data = Data(lk.binary(1), split, split, split)
        rows = draw_rows(data.train, data.domain).x.double()
        assert len(rows) == 10_000
        assert rows.mean().item() == pytest.approx(share, abs=0.025)  # 5 σ
        assert rows[:36].mean().item() == pytest.approx(share, abs=0.4)


def test_conditional_models_are_compared_given_the_context(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    c = rng.normal(size=300)
    frame = pd.DataFrame({"x": c + 0.1 * rng.normal(size=300), "c": c})
    data = lk.load_data(frame, context="c")
    comparison = lk.compare(["made"], data, steps=2, seeds=1)
    comparison.to_html(tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert "given" in page
    assert "Real training rows in place of samples" not in page  # they have other contexts
    assert "training rows in their place" not in page


def test_the_page_is_written_after_each_model(
    data: lk.Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An interrupted comparison leaves a page of the models that were done."""
    fit = comparing.fit

    def interrupted(model: lk.GenerativeModel, *given: Any, **options: Any) -> Any:
        if isinstance(model, type(lk.make("independent", data.domain))):
            raise KeyboardInterrupt
        return fit(model, *given, **options)

    monkeypatch.setattr(comparing, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lk.compare(["gaussian"], data, steps=2, seeds=1, out=tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "still to come are independent" in page
    assert page.index("<h2>Samples</h2>") < page.index("<table")
    rows = json.loads((tmp_path / "comparison.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["gaussian"]


@pytest.mark.slow  # the classifiers and distances of images
def test_mixed_styles_stand_on_the_page(tmp_path: Path) -> None:
    x = torch.randn(60, 16, 16, generator=torch.Generator().manual_seed(0))
    parts = [lk.data.Split(x[part]) for part in (slice(0, 30), slice(30, 45), slice(45, 60))]
    data = lk.Data(lk.reals(16, 16, layout="image"), *parts)
    small = {"stylegan": {"hidden": (2,), "latent": 3}}
    comparison = lk.compare(["stylegan"], data, steps=2, seeds=1, hyperparameters=small)
    comparison.to_html(tmp_path / "index.html")
    assert "coarse styles by row" in (tmp_path / "index.html").read_text()


def test_exact_bounded_and_missing_likelihoods_stand_in_one_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2))
    data = lk.load_data(pd.DataFrame({"x": x[:, 0], "y": x[:, 0] + 0.3 * x[:, 1]}))
    comparison = lk.compare(["gaussian", "vae", "ae"], data, steps=60, seeds=2)
    rows = {row.model: row for row in comparison.rows}
    assert (rows["gaussian"].density, rows["vae"].density) == (Kind.EXACT, Kind.LOWER)
    assert comparison.ranked_by["energy_distance"] == ["ae"]
    assert set(comparison.ranked_by["log_likelihood"]) == {"gaussian", "vae", "independent"}
    assert comparison.rows[-1].model == "ae"
    for name in ("gaussian", "vae"):
        gain = rows[name].gain
        assert gain is not None
        assert gain.value == pytest.approx(comparison.difference(name, "independent").value)
    # Knowing x, y has a deviation of 0.3 instead of √1.09: −log(0.3/√1.09) = 1.25 nats.
    gain = rows["gaussian"].gain
    assert gain is not None
    assert gain.value == pytest.approx(1.25, abs=4 * (gain.stderr or 0))
    assert (rows["ae"].log_likelihood, rows["ae"].gain, rows["ae"].seed_spread) == (None,) * 3
    assert rows["ae"].distance_spread is not None
    assert "ae (none)" in " ".join(comparison.summary())
    advice = comparison.advice()
    assert advice["Likelihoods of new rows"].startswith("gaussian")
    assert "Categories: all but gaussian" in advice["Other data"]
    assert advice["Unknown entries"].startswith("gaussian and independent")
    assert "ae draws" in advice["Many samples"] or "gaussian draws" in advice["Many samples"]
    comparison.to_csv(tmp_path / "comparison.csv")
    table = pd.read_csv(tmp_path / "comparison.csv", index_col="model")
    assert table.loc["vae", "energy_distance_stderr"] > 0
    assert math.isnan(table.loc["ae", "log_likelihood"])
    page = comparison._repr_html_()
    assert "≥" in page
    assert " ± " in page.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.slow
def test_a_killed_job_ends_the_comparison_with_an_error(
    data: lk.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_run", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(lk.RunError, match="jobs=2: one of the processes was killed"):
        lk.compare(["gaussian"], data, jobs=2, steps=2, seeds=1)


@pytest.mark.slow
def test_jobs_give_the_same_figures_but_no_speeds(data: lk.Data) -> None:
    options: dict[str, Any] = {
        "steps": 60,
        "seeds": 2,
        "hyperparameters": {"made": {"hidden": (16,)}},
    }
    one = lk.compare(["made"], data, **options)
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        two = lk.compare(["made"], data, jobs=2, **options)
    assert [(run.name, run.seed) for run in one.runs] == [(run.name, run.seed) for run in two.runs]
    for alone, beside in zip(one.runs, two.runs, strict=True):
        assert alone.test is not None
        assert beside.test is not None
        assert alone.model is not None
        assert beside.model is not None
        torch.testing.assert_close(alone.test.value, beside.test.value)
        drawn = [run.model.sample(5, seed=0) for run in (alone, beside) if run.model is not None]
        torch.testing.assert_close(*drawn)
    assert one.ranked_by == two.ranked_by
    speeds = {"fitting", "sampling", "scoring"}
    for row in two.rows:
        assert row.fit_seconds is None
        assert not speeds & set(row.figures)
    assert "Many samples" not in two.advice()
    assert any("side by side" in note for note in two.notes)


def test_rows_limits_what_is_scored_of_all_models_alike(data: lk.Data) -> None:
    comparison = lk.compare(["gaussian"], data, steps=2, seeds=1, rows=21)
    held = [run.evaluation.held.value for run in comparison.runs if run.evaluation]
    assert [len(values) for values in held] == [21, 21]
    with pytest.raises(lk.LikelyError, match="rows"):
        lk.compare(["gaussian"], data, steps=2, rows=0)


def test_networks_of_ones_own_are_named(tmp_path):
    data = lk.load_data(torch.randn(100, 1), context=torch.randn(100, 4, 4))
    options = {"context_encoder": lk.nets.CNN((1, 4, 4), hidden=(4,))}
    compared = lk.compare(
        ["independent"], data, steps=5, seeds=1, hyperparameters={"independent": options}
    )
    compared.to_json(tmp_path / "comparison.json")
    (run,) = read_json(tmp_path / "comparison.json")["runs"]
    named = {"module": "cnn", "arguments": {"shape": [1, 4, 4], "outputs": 16, "hidden": [4]}}
    assert run["hyperparameters"]["context_encoder"] == named
