"""Columns with missing entries: an atom beside a density, in heads, features, data and frames."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import likely as lk
from likely.contract.views import Features
from likely.core.kinds import column_from_json, parse_column

NAN = math.nan


def frame(n: int = 300) -> pd.DataFrame:
    """A table of all sorts, a fifth of it missing."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "e": rng.exponential(size=n),
            "n": rng.integers(0, 5, n),
            "kind": rng.choice(["a", "b", "c"], n),
        }
    ).astype({"n": "Int64"})
    return table.mask(rng.random(table.shape) < 0.2)


@pytest.fixture(scope="module")
def data() -> lk.Data:
    return lk.load_data(frame(), domain={"e": "positive"}, missing="model")


@pytest.mark.parametrize("kind", [lk.Real(), lk.Interval(0, 2), lk.Categorical(["e", "mu"])])
def test_a_kind_survives_json_and_text(kind: lk.Real):
    column = lk.Maybe(kind)
    assert column_from_json(column.to_json()) == column
    assert parse_column("maybe(interval(0, 2))") == lk.Maybe(lk.Interval(0, 2))
    assert parse_column("Maybe(categorical(e, mu))").of.labels == ("e", "mu")


@pytest.mark.parametrize("text", ["maybe", "maybe(unreal)", "maybe(maybe(real))"])
def test_malformed_kinds_are_refused(text: str):
    with pytest.raises(lk.DomainError, match="maybe"):
        parse_column(text)


def test_networks_see_zeros_and_an_indicator():
    domain = lk.table("maybe(real)", "maybe(categorical(3))", "real")
    x = torch.tensor([[2.0, 1, 3], [NAN, NAN, 3]])
    assert Features(domain)(x).tolist() == [[2, 0, 0, 1, 0, 0, 3], [0, 1, 0, 0, 0, 1, 3]]


def test_scales_are_those_of_what_is_present():
    features = Features(lk.table("maybe(real)"))
    features.prepare(torch.tensor([[NAN], [1.0], [3.0], [NAN]]))
    assert (features.shift.item(), features.scale.item()) == (2, 1)


@pytest.mark.parametrize("name", ["made", "independent"])
def test_the_atoms_and_the_densities_beside_them_sum_to_one(name: str):
    domain = lk.table(x="maybe(interval(0, 1))", b="maybe(binary)", k="maybe(categorical(one))")
    model = lk.make(name, domain, seed=0).double()
    with torch.no_grad():  # away from the start, where all is even
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    t = (torch.arange(500, dtype=torch.float64) + 0.5) / 500
    x = torch.cat([t, torch.tensor([NAN])])
    measure = torch.cat([torch.full_like(t, 1 / 500), torch.ones(1)])
    total = 0.0
    for b in (0.0, 1.0, NAN):
        for k in (0.0, NAN):
            others = torch.tensor([b, k]).expand(len(x), 2)
            with torch.no_grad():
                density = model.log_prob(torch.cat([x[:, None], others], 1)).exp()
            total += (measure @ density).item()
    assert total == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize(("name", "draws"), [("made", None), ("vae", 256)])
def test_what_is_learnt_is_not_better_than_the_truth_and_nearly_as_good(name: str, draws: int):
    """y is missing where x is positive, and equal to x but for noise where it is not."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=3000)
    y = np.where(x > 0, np.nan, x + 0.5 * rng.normal(size=3000))
    data = lk.load_data(np.stack([x, y], 1), missing="model")
    assert data.domain.columns == (lk.Real(), lk.Maybe(lk.Real()))
    options = {"components": 3} if draws is None else {"latent": 2}
    model = lk.make(name, data.domain, hidden=(32,), seed=0, **options)
    lk.fit(model, data, steps=150, rate=1e-2, seed=0)
    test = data.test.x.double()
    z = (test[:, 1] - test[:, 0]) / 0.5
    normal = math.log(2 * math.pi) / 2
    given = torch.where(z.isnan(), 0.0, -z.square() / 2 - normal - math.log(0.5))
    truth = given - test[:, 0].square() / 2 - normal
    found = model.log_likelihood(data.test.x, seed=0, **({"draws": draws} if draws else {}))
    gap = truth - found.value
    stderr = gap.std() / math.sqrt(len(gap))
    assert -3 * stderr < gap.mean() < (0.15 if draws is None else 0.6)


def test_completions_are_not_missing(data: lk.Data):
    x = data.test.x
    for name in ("made", "independent"):
        model = lk.make(name, data.domain, seed=0)
        lk.fit(model, data, steps=5, seed=0)
        filled = model.complete(x, ~x.isnan(), seed=0)
        assert data.domain.present.contains(filled).all()
        assert torch.equal(filled[~x.isnan()], x[~x.isnan()])


def test_others_are_refused_with_the_names_of_those_that_can(data: lk.Data):
    with pytest.raises(lk.DomainError, match=r"NSF .*maybe columns.*independent.*made.*vae"):
        lk.make("nsf", data.domain)
    with pytest.raises(lk.DomainError, match="PixelCNN does not take"):
        lk.autoregressive.PixelCNN(lk.table("maybe(real)"))


# Data.


def test_columns_with_missing_entries_are_inferred_and_others_stay():
    table = frame().assign(full=[i // 2 for i in range(300)])
    kinds = lk.load_data(table, missing="model", columns=["x", "full"]).domain.columns
    assert kinds == (lk.Maybe(lk.Real()), lk.Integer(150))


def test_missing_entries_are_an_error_unless_the_column_is_declared():
    table = frame()[["x", "e"]]
    with pytest.raises(lk.DataError, match="missing='model'"):
        lk.load_data(table)
    table.loc[5, "x"] = np.inf
    declared = {"x": "maybe(real)", "e": "maybe(positive)"}
    with pytest.raises(lk.DataError, match="row 5, column 'x': the entry is infinite"):
        lk.load_data(table, domain=declared)
    table.loc[5, "x"] = 0.0
    assert len(lk.load_data(table, domain=declared).train) == 240


def test_frames_come_back_with_types_and_shares(data: lk.Data):
    model = lk.make("independent", data.domain, seed=0)
    lk.fit(model, data, steps=1, seed=0)
    draws, table = model.sample(4000, seed=0, as_frame=True), frame()
    assert list(draws.dtypes) == list(table.dtypes)
    assert (draws.isna().mean() - table.isna().mean()).abs().max() < 0.04
    assert set(draws.kind.dropna()) == {"a", "b", "c"}
    assert draws.n.dropna().between(0, 4).all()
    rows = data.domain.rows(draws)
    pd.testing.assert_frame_equal(data.domain.frame(rows), draws)


def test_whole_numbers_of_a_file_stay_whole(tmp_path: Path):
    (tmp_path / "a.csv").write_text("n,x\n" + "".join(f"3,{i}.5\n,{i}.1\n0,\n" for i in range(20)))
    data = lk.load_data(tmp_path / "a.csv", missing="model")
    assert list(data.domain.frame(data.train.x).dtypes.astype(str)) == ["Int64", "float64"]


def test_a_context_may_be_missing():
    table = frame()[["x", "kind"]]
    data = lk.load_data(table[table.x.notna()], context="kind", missing="model")
    model = lk.make("made", data.domain, context=data.context, hidden=(8,), seed=0)
    lk.fit(model, data, steps=2, seed=0)
    assert model.sample(3, context={"kind": None}, seed=0).shape == (3, 1)
    assert model.sample(3, context={"kind": "a"}, seed=0).shape == (3, 1)
    with pytest.raises(lk.DataError, match="takes one of a, b, c"):
        model.sample(3, context={"kind": "d"})


def test_evaluation_and_pictures_take_holes(data: lk.Data):
    model = lk.make("independent", data.domain, seed=0)
    lk.fit(model, data, steps=1, seed=0)
    found = lk.evaluate(model, data, seed=0)
    assert found.classifier_auc.value > 0
    from likely.evaluation import marginal_distances

    table = marginal_distances(data.train.x, data.test.x, data.domain)
    missing = table[table.measure == "missing"].set_index("column").value
    share = data.train.x.isnan().double().mean(0) - data.test.x.isnan().double().mean(0)
    assert missing.to_numpy() == pytest.approx(share.abs().numpy())
    from likely.report import draw_samples

    draw_samples(model.sample(200, seed=0), data.domain, reference=data.test.x)
