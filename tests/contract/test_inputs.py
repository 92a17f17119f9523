"""The verbs take rows, contexts and numbers as users hold them."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

import likely as lk

X = np.random.default_rng(0).normal(size=(60, 2))
FAR = torch.tensor(
    [[1e3, -1e3], [1e30, 0], [-3.4e38, 3.4e38], [math.inf, 0], [math.nan, 0], [5, -5]]
)
FLOWS = ["gmm", "nsf", "nsf-coupling", "maf", "made", "realnvp", "nice", "iaf", "independent"]


@pytest.fixture(scope="module")
def data():
    return lk.load_data(X)


def prepared(name, data, **options):
    model = lk.make(name, data.domain, context=data.context, seed=0, **options)
    model.prepare(data.train.rows(slice(None)))
    return model.eval()


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x[::-1][::-1],
        lambda x: np.asfortranarray(x)[:, ::-1][:, ::-1],
        lambda x: x.astype(">f8"),
        lambda x: x.astype(np.longdouble),
        lambda x: x.tolist(),
        pd.DataFrame,
    ],
    ids=["reversed", "strided", "big-endian", "long", "list", "frame"],
)
def test_rows_in_every_form(data, convert):
    model = prepared("gmm", data)
    torch.testing.assert_close(model.log_prob(convert(X)), model.log_prob(torch.tensor(X)))
    assert lk.load_data(convert(X)).domain.size == 2


@pytest.mark.parametrize("name", FLOWS)
def test_rows_at_the_limits_of_numbers_are_never_nan(data, name):
    model = prepared(name, data)
    for values in (model.log_prob(FAR), model.log_likelihood(FAR).value):
        assert (values < math.inf).all()  # neither NaN nor infinite
        assert values[3] == values[4] == -math.inf
        assert values[5].isfinite()
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64):
        x = data.test.x[:3].to(dtype)
        torch.testing.assert_close(
            model.log_prob(x), model.log_prob(x.float()), rtol=1e-4, atol=1e-4
        )


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ["gmm", "nsf", "maf", "made", "realnvp", "nice"])
def test_log_prob_can_be_mapped_and_differentiated(data, name):
    model, x = prepared(name, data), data.test.x[:4].clone().requires_grad_()
    mapped = torch.func.vmap(torch.func.grad(lambda row: model.log_prob(row[None])[0]))(x)
    (gradient,) = torch.autograd.grad(model.log_prob(x).sum(), x)
    torch.testing.assert_close(mapped, gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize(
    "name",
    [
        "gmm",
        "made",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("nsf", "nsf-coupling", "maf", "realnvp", "nice")
        ),
    ],
)
def test_log_prob_can_be_exported(data, name):
    class LogProb(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model.log_prob(x)

    model, x = prepared(name, data), data.train.x
    exported = torch.export.export(LogProb(model), (x[:4],)).module()
    torch.testing.assert_close(exported(x[4:8]), model.log_prob(x[4:8]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["nsf", "nsf-coupling", "maf", "realnvp", "made", "vae", "iaf"])
def test_draws_are_finite_at_any_context(name):
    context = np.random.default_rng(1).normal(size=(200, 3))
    data = lk.load_data(
        context[:, :2] + 0.2 * np.random.default_rng(2).normal(size=(200, 2)), context=context
    )
    model = lk.make(name, data.domain, context=data.context, seed=0)
    lk.fit(model, data, steps=20)
    for size in (10.0, 1e4, 1e12):
        far = torch.full((3,), size)
        x = model.sample(64, context=far, seed=0)
        assert x.isfinite().all()
        assert not model.log_likelihood(x, far, seed=0).value.isnan().any()


def test_contexts_by_name_and_frames_of_samples():
    frame = pd.DataFrame({"x": X[:, 0], "kind": ["mu", "e", "tau"] * 20, "angle": X[:, 1]})
    data = lk.load_data(frame, columns="x", context=["kind", "angle"])
    model = prepared("nsf", data, transforms=1, hidden=(8,))
    coded = data.context.row({"kind": "mu", "angle": 0.5})
    draws = model.sample(3, context=coded, seed=0)
    table = pd.DataFrame({"angle": [0.5] * 3, "kind": ["mu"] * 3})
    for context in ({"kind": "mu", "angle": 0.5}, table):
        torch.testing.assert_close(model.sample(3, context=context, seed=0), draws)
    named = model.sample(3, context=coded, seed=0, as_frame=True)
    assert named["x"].tolist() == pytest.approx(draws[:, 0].tolist())
    with pytest.raises(
        lk.DataError, match=r"the context: .*'kind' takes one of e, mu, tau, not 'nu'"
    ):
        model.sample(3, context={"kind": "nu", "angle": 0.5})
    torch.testing.assert_close(
        model.log_prob(frame, frame),
        model.log_prob(data.domain.rows(frame), data.context.rows(frame)),
    )


def test_a_single_label_is_a_context():
    frame = pd.DataFrame({"x": X[:, 0], "kind": ["mu", "e", "tau"] * 20})
    data = lk.load_data(frame, columns="x", context="kind")
    model = prepared("nsf", data, transforms=1, hidden=(8,))
    expected = model.sample(3, context=[[1.0]] * 3, seed=0)
    for context in ("mu", {"kind": "mu"}, pd.Index(["mu"] * 3), pd.Series(["mu"] * 3)):
        torch.testing.assert_close(model.sample(3, context=context, seed=0), expected)


def test_numbers_of_numpy_and_round_ones(data, tmp_path):
    n, width = np.int64(3), np.int64(8)
    domains = [
        lk.integers(n + 1, 3),
        lk.categories(n, 2),
        lk.reals(n),
        lk.table(lk.Integer(n), lk.Constant(np.float32(2))),
    ]
    for i, domain in enumerate(domains):
        path = tmp_path / f"{i}.safetensors"
        lk.save(lk.make("made", domain, hidden=(width,)), path)
        assert lk.load(path).domain == domain
    model = prepared("gmm", data, components=np.arange(1, 4)[1], floor=np.float32(1e-5))
    lk.fit(model, data, steps=np.int64(2), seed=np.int64(1), batch=32.0, run=tmp_path / "run")
    assert len(model.sample(1e1)) == 10
    with pytest.raises(lk.LikelyError, match=r"n=2.5: give a whole number"):
        model.sample(2.5)
    with pytest.raises(lk.DomainError, match=r"levels=2.5: give a whole number"):
        lk.Integer(2.5)
    with pytest.raises(lk.LikelyError, match=r"steps=1.5: give a whole number"):
        lk.fit(model, data, steps=1.5)


@pytest.mark.parametrize(("n", "why"), [(-1, "negative"), (10**16, "memory")])
def test_numbers_of_draws_that_cannot_be_are_refused(n, why):
    with pytest.raises(lk.DataError, match=why):
        lk.make("gmm", lk.reals(2), components=2).sample(n)


def test_float64_as_the_default_type(data):
    torch.set_default_dtype(torch.float64)
    try:
        for name in ("gaussian", "gmm", "nsf"):
            model = lk.make(name, data.domain, seed=0)
            lk.fit(model, data, steps=2)
            assert model.sample(3, seed=0).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_networks_see_only_the_order_of_magnitude_far_out():
    view = lk.contract.views.Features(lk.reals(1))
    view.prepare(torch.randn(100, 1))
    x = torch.tensor([[1.0], [29.0], [1e4], [1e12], [-1e30]])
    y = view(x)[:, 0]
    torch.testing.assert_close(y[:2], ((x[:2, 0] - view.shift) / view.scale))
    assert (y.abs() < 110).all()
    assert y[2] < y[3]
