"""Pictures show the numbers they were given, follow the page's colours and change nothing global."""

import base64
import io
import math
import re
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.contour import ContourSet
from PIL import Image

import likely as lk
from likely import report as pictures

ROWS = 300


def _rows(domain: lk.Domain, n: int = ROWS) -> torch.Tensor:
    """Random rows of any domain."""
    generator = torch.Generator().manual_seed(0)
    x = torch.empty(n, domain.size, dtype=torch.float64)
    for index in range(domain.size):
        column = domain.column(index)
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        if isinstance(column, lk.Constant):
            x[:, index] = column.value
        elif column.discrete:
            levels = getattr(column, "levels", None) or 200
            x[:, index] = column.low + column.step * (u * levels).floor()
        elif isinstance(column, lk.Interval):
            x[:, index] = column.low + (column.high - column.low) * u
        elif isinstance(column, lk.Positive):
            x[:, index] = (6 * u - 3).exp()
        else:
            x[:, index] = u - 0.5
    x = x.reshape(n, *domain.shape)
    return x.long() if domain.discrete else x.float()


TABLE = lk.table(
    phi=lk.Periodic(-math.pi, math.pi),
    e=lk.Positive(),
    n=lk.Count(),
    k=lk.Constant(3.0),
    kind=lk.Categorical(["e", "mu"]),
    a_name_that_is_much_too_long=lk.Integer(17),
    z=lk.Real(),
)
TWO = lk.table(phi=lk.Real(), n=lk.Integer(4))
DOMAINS = {
    "images": [
        lk.integers(17, 8, 8, layout="image"),
        lk.integers(256, 3, 6, 5, layout="image"),
        lk.reals(2, 6, 5, layout="image"),
        lk.spins(8, 8),
        lk.categories(3, 8, 8, layout="lattice"),
    ],
    "sequences": [
        lk.categories(4, 50),
        lk.categories(30, 12),
        lk.binary(12, layout="sequence"),
        lk.text("abc", 9),
    ],
    "density": [lk.reals(2), lk.table(x=lk.Positive(), c=lk.Constant(1.0), y=lk.Interval(0, 1))],
    "corner": [TABLE, lk.reals(1), lk.reals(30), lk.binary(2), lk.table(n=lk.Integer(1000))],
}
CASES = [(form, domain) for form, domains in DOMAINS.items() for domain in domains]


@pytest.mark.parametrize(("form", "domain"), CASES, ids=[f"{f}-{d}" for f, d in CASES])
def test_every_domain_has_a_picture_that_embeds(form: str, domain: lk.Domain) -> None:
    before = dict(mpl.rcParams)
    assert pictures.form(domain) == form
    x = _rows(domain)
    figure = pictures.draw_samples(x, domain, reference=x[: ROWS // 2])
    uri = pictures.to_uri(figure)
    assert dict(mpl.rcParams) == before
    kind, _, content = uri.partition("base64,")
    assert kind == "data:image/svg+xml;"
    svg = base64.b64decode(content).decode()
    assert ET.fromstring(svg).tag.endswith("svg")
    assert "prefers-color-scheme" in svg
    assert not re.search(r"http(?!://www\.w3\.org/)", svg)
    assert pictures.INK not in svg


def test_the_same_picture_is_the_same_bytes() -> None:
    x = _rows(TWO)
    first, second = (pictures.to_uri(pictures.draw_samples(x, TWO, reference=x)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("domain", [lk.reals(1), lk.reals(2), lk.reals(3), lk.reals(4, 4)])
@pytest.mark.parametrize("value", [0.0, 1e30, math.nan, math.inf])
def test_samples_of_a_broken_model_are_drawn(domain: lk.Domain, value: float) -> None:
    broken = torch.full((5, *domain.shape), value)
    real = _rows(domain)
    for reference in (None, real):
        assert pictures.draw_samples(broken, domain, reference=reference)
    assert pictures.to_png(pictures.draw_samples(broken, domain, reference=real), dpi=50)


def test_an_image_grid_holds_the_images_in_order() -> None:
    domain = lk.binary(2, 3, layout="image")
    x = _rows(domain, 4)
    (axes,) = pictures.draw_samples(x, domain).axes
    pixels = np.asarray(axes.images[0].get_array())
    tiles = [pixels[top : top + 2, left : left + 3] for top in (0, 3) for left in (0, 4)]
    np.testing.assert_array_equal(np.stack(tiles)[..., 0], x.numpy().astype(float))
    assert (pixels[2, :, 3] == 0).all()  # gaps are transparent
    assert (np.stack(tiles)[..., 3] == 1).all()


def test_a_density_map_integrates_to_the_part_inside() -> None:
    x = _rows(lk.reals(2), 2000)
    x[:500] += 100
    axes, *_ = pictures.draw_samples(x, lk.reals(2), reference=x[500:]).axes
    (mesh,) = axes.collections
    across, up = mesh.get_coordinates()[0, :, 0], mesh.get_coordinates()[:, 0, 1]
    cells = np.asarray(mesh.get_array()).reshape(len(up) - 1, len(across) - 1)
    total = (cells * np.diff(across) * np.diff(up)[:, None]).sum()
    inside = (x[500:] < torch.tensor([across[-1], up[-1]])) & (
        x[500:] > torch.tensor([across[0], up[0]])
    )
    assert total == pytest.approx(inside.all(1).sum().item() / 2000)


def test_a_frame_that_cuts_off_samples_says_so() -> None:
    x = _rows(lk.reals(2))
    far = torch.where(torch.arange(ROWS)[:, None] < ROWS // 4, x + 100, x)
    figure = pictures.draw_samples(far, lk.reals(2), reference=x)
    assert "25% of the samples" in figure.get_supxlabel()
    assert pictures.draw_samples(x, lk.reals(2), reference=x).get_supxlabel() == ""


def test_png_is_an_image_on_white() -> None:
    image = Image.open(io.BytesIO(pictures.to_png(pictures.draw_samples(_rows(TABLE), TABLE))))
    assert image.format == "PNG"
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def _history(valid: list[float] | None, loss: list[float]) -> pd.DataFrame:
    steps = range(50, 50 * len(loss) + 1, 50)
    rows = {"step": steps, "epoch": 1.0, "seconds": 1.0, "loss": loss, "rate": 1e-3, "skipped": 0}
    return pd.DataFrame(rows | {"valid": [None] * len(loss) if valid is None else valid})


def test_training_shows_what_was_recorded() -> None:
    history = _history([-3.0, -2.0, -1.5], [4.0, 2.5, 1.0])
    (axes,) = pictures.draw_training([history, history]).axes
    curves = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(curves["training"].get_ydata(), [4.0, 2.5, 1.0])
    np.testing.assert_array_equal(curves["validation"].get_ydata(), [3.0, 2.0, 1.5])
    np.testing.assert_array_equal(curves["validation"].get_xdata(), [50, 100, 150])
    assert "nats" in axes.get_ylabel()


@pytest.mark.parametrize("loss", [[1.0], [1.0, 1.0, 1.0], [math.inf, 2.0, 1.0], [math.nan]])
def test_training_without_a_likelihood_has_no_nats(loss: list[float]) -> None:
    (axes,) = pictures.draw_training([_history(None, loss)]).axes
    assert axes.get_ylabel() == "loss"
    assert len(axes.lines) == (0 if math.isnan(loss[0]) else 1)


@pytest.mark.parametrize("valid", [None, [-3.0, -2.0, -1.5]])
def test_players_against_each_other_have_an_axis_of_their_own(valid: list[float] | None) -> None:
    history = _history(valid, [0.0] * 3).drop(columns="loss")
    history["critic"], history["generator"] = [-8.0, -2.0, -1.0], [3.0, math.nan, 2.0]
    losses, *others = pictures.draw_training([history, history]).axes
    assert losses.get_ylabel() == "loss"
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["critic", "generator"]
    np.testing.assert_array_equal(losses.lines[0].get_ydata(), [-8.0, -2.0, -1.0])
    np.testing.assert_array_equal(losses.lines[2].get_ydata(), [3.0, 2.0])
    assert [axes.get_ylabel() for axes in others] == (["−log-likelihood (nats)"] if valid else [])
    for axes in others:
        assert [line.get_ydata().tolist() for line in axes.lines] == [[3.0, 2.0, 1.5]] * 2


def test_texts_are_shown_as_symbols() -> None:
    domain = lk.text("ab$\n", 7)
    x = torch.tensor([[0, 1, 2, 3, 4, 0, 0], [4] * 7, [1] * 7])
    lines = [text.get_text() for text in pictures.draw_samples(x, domain).texts]
    assert lines == ["ab$↵", "(empty)", "bbbbbbb"]
    words = lk.categories([f"w{i}" for i in range(12)], 8)
    lines = [text.get_text() for text in pictures.draw_samples(_rows(words), words).texts]
    assert re.fullmatch(r"(w\d+ ){7}w\d+", lines[0])
    long = lk.categories(30, 800)
    figure = pictures.draw_samples(_rows(long, 9), long)
    assert len(figure.texts) == 24
    assert figure.texts[5].get_text().endswith("…")
    assert pictures.to_uri(figure)


def test_likelihoods_and_scores() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=100)
    values[3] = -math.inf
    assert pictures.to_uri(pictures.draw_likelihoods(values, values[:10]))
    assert pictures.to_uri(pictures.draw_likelihoods(np.full(3, -math.inf), np.full(3, 1.0)))
    figure = pictures.draw_scores(
        ["a", "b"], [-1.0, -2.0], [0.1, math.nan], marks=["o", ">"], colors=["C0", "C1"],
        label="nats", reference=("real", -0.5),
    )  # fmt: skip
    (axes,) = figure.axes
    assert "real" in [text.get_text() for text in axes.texts]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first one is on top


def test_a_square_of_mixed_styles() -> None:
    mixed = torch.arange(9.0).view(3, 3, 1, 1, 1).expand(-1, -1, 1, 4, 4)
    figure = pictures.draw_style_mixing(mixed, lk.reals(1, 4, 4, layout="image"))
    shown = figure.axes[0].images[0].get_array()[2::5, 2::5, 1]  # a pixel of each; green rises
    assert shown.shape == (3, 3)
    assert (np.diff(shown.flatten()) >= 0).all()


def test_decisions_are_drawn_as_they_were_given():
    confidence, accuracy = np.array([0.5, 0.8, 1.0]), np.array([0.4, 0.9, 1.0])
    figure = pictures.draw_reliability(confidence, accuracy, 0.05 * accuracy, np.array([9, 9, 2]))
    dots = figure.axes[0].collections[-1]
    np.testing.assert_allclose(dots.get_offsets(), np.stack([confidence, accuracy], 1))
    assert dots.get_sizes()[0] > 4 * dots.get_sizes()[2]
    figure = pictures.draw_detection(
        np.array([0.0, 1.0, 2.0, 3.0]), {"a": np.array([2.0, np.inf]), "b": np.array([-1.0, -1.0])}
    )
    a, b = (figure.axes[1].lines[i].get_xydata() for i in (0, 1))
    assert np.trapezoid(*a.T[::-1]) == 1 - (1 + 0.5) / 8  # a tie counts half
    assert np.trapezoid(*b.T[::-1]) == 0
    assert a[0].tolist() == [0, 0]
    assert a[-1].tolist() == [1, 1]
    curves = {"attack": ([1.0, 0.5], [0.0, 0.1]), "noise": ([1.0, 0.9], [0.0, 0.0])}
    figure = pictures.draw_robustness([0, 0.1], curves)
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["attack", "noise"]
    assert figure.axes[0].get_ylabel() == "accuracy"


def test_contours_hold_what_they_say_and_ratios_are_of_counts() -> None:
    rng = np.random.default_rng(0)
    real, drawn = (torch.from_numpy(rng.normal(size=(20_000, 3))) for _ in range(2))
    drawn[:, 2] *= 2
    figure = pictures.draw_samples(drawn, lk.reals(3), reference=real)
    contours = [c for axes in figure.axes for c in axes.collections if isinstance(c, ContourSet)]
    assert len(contours) == 6  # of real rows and of draws, in three panels
    for rows, contour in zip((real, drawn), contours, strict=False):
        outer, inner = contour.get_paths()
        held = [path.contains_points(rows[:, :2].numpy()).mean() for path in (outer, inner)]
        assert held == pytest.approx([0.865, 0.393], abs=0.04)  # bins of a fifth of σ
    (panel,) = figure.axes[8].child_axes
    middle = panel.lines[1].get_xydata()
    at_zero = middle[np.abs(middle[:, 0]).argmin(), 1]
    assert at_zero == pytest.approx(2, abs=0.1)  # the densities at 0 of σ = 1 and σ = 2


def test_correlations_stand_beside_each_other() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=500)
    real = torch.from_numpy(np.stack([x, x**3, rng.integers(0, 2, 500)], 1))
    domain = lk.table(a=lk.Real(), b=lk.Real(), c=lk.Binary())
    left, right, _ = pictures.draw_correlations(real, -real, domain).axes
    assert left.images[0].get_array().tolist() == [[1, 1], [1, 1]]  # ranks, and no binary column
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["a", "b"]
    assert right.get_title() == "samples"


def test_ranks_are_drawn_with_their_band() -> None:
    u = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    (axes,) = pictures.draw_ranks(u, lk.evaluation.rank_band(200), ["a", "b"]).axes
    assert len(axes.lines) == 2
    at, off = axes.lines[0].get_data()
    assert off[24] == pytest.approx((u[:, 0] <= at[24]).double().mean().item() - at[24])
    assert pictures.to_uri(axes.figure)


def test_data_and_histories_draw_themselves() -> None:
    data = lk.load_data("digits")
    assert len(data.plot().axes[0].images) == 1
    history = lk.fit(lk.make("gaussian", data.domain), data, steps=3, seed=0)
    assert history.plot().axes[-1].get_xlabel() == "step"
