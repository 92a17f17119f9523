import json
import math
import time

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import likely as lk
from likely import targets as truth
from likely.contract.model import GenerativeModel
from likely.contract.real import RealModel
from likely.core.domain import Domain
from likely.core.likelihood import Kind, Likelihood
from likely.data import Data, Split
from likely.evaluation import (
    FeatureExtractor,
    evaluate,
    forward_kl,
    held_out,
    reverse_kl,
    throughput,
)
from likely.evaluation.classes import labelled
from likely.evaluation.measures import MEASURES


class Normals(GenerativeModel):
    """N(mean + slope · context, scale²) in each column."""

    def __init__(self, domain: Domain, *, context=None, mean=0.0, scale=1.0, slope=0.0):
        super().__init__(domain, context=context)
        self.mean, self.slope = nn.Parameter(torch.tensor(mean)), slope
        self.scale = scale

    def _normal(self, n: int, context: Tensor | None) -> Normal:
        mean = self.mean if context is None else self.mean + self.slope * context[:, :1]
        return Normal(torch.zeros(n, self.domain.size) + mean, self.scale)

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        return self._normal(n, context).sample()

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self._normal(len(x), context).log_prob(x).sum(1)


class Bounded(Normals):
    @property
    def density(self) -> Kind:
        return Kind.LOWER

    def log_likelihood(self, x, context=None, *, seed=None, **estimator):
        value = self._log_prob(x, None).detach() - torch.rand(len(x))
        return Likelihood(value, Kind.LOWER, torch.ones(len(x)))


class Sampler(Normals):
    @property
    def density(self) -> Kind:
        return Kind.NONE


def data_of(domain, train, test, *, context=None, truth=None) -> Data:
    return Data(domain, train, test, test, context=context, truth=truth, name="toy")


def normal_rows(n: int, d: int, seed: int, mean=0.0, scale=1.0) -> Tensor:
    return mean + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def close(figure: lk.Figure, value: float, errors: float = 4.0) -> bool:
    return abs(figure.value - value) < errors * figure.stderr


# Divergences.


def test_divergences_of_gaussians_against_the_closed_form():
    target = truth.gaussian(torch.zeros(3), torch.eye(3))
    model = Normals(target.domain, mean=0.5, scale=2.0)
    forward = 3 * (math.log(2) + (1 + 0.25) / 8 - 0.5)
    reverse = 3 * (-math.log(2) + (4 + 0.25) / 2 - 0.5)
    assert close(forward_kl(model, target, seed=1).mean(), forward)
    assert close(reverse_kl(model, target, seed=1).mean(), reverse)
    assert forward_kl(model, target).mean().stderr < 0.02 * forward


def test_a_bound_of_the_density_bounds_the_divergences():
    target = truth.gaussian(torch.zeros(3), torch.eye(3))
    model = Bounded(target.domain)
    forward, reverse = forward_kl(model, target), reverse_kl(model, target)
    assert (forward.kind, reverse.kind) == (Kind.UPPER, Kind.LOWER)
    assert close(forward.mean(), 0.5)
    assert close(reverse.mean(), -0.5)


def test_divergences_are_infinite_where_a_support_is_missing():
    board = truth.checkerboard()
    model = Normals(board.domain, scale=2.0)
    reverse = reverse_kl(model, board, draws=4000)
    assert reverse.mean().value == math.inf
    leaked = (reverse.value == math.inf).double()
    # The model is symmetric under x → −x, which exchanges filled and empty cells.
    inside = (2 * Normal(0, 2).cdf(torch.tensor(4.0)) - 1) ** 2
    assert abs(leaked.mean() - (1 - inside / 2)) < 4 * leaked.std() / math.sqrt(4000)

    beta = truth.beta()
    uniform = Normals(beta.domain)
    uniform._log_prob = lambda x, _: torch.where(x[:, 0] < 0.5, math.log(2), -math.inf)
    assert forward_kl(uniform, beta, draws=1000).mean().value == math.inf
    with pytest.raises(lk.DensityError, match="no known density"):
        reverse_kl(model, lk.Target(model.domain, name="mystery"))
    with pytest.raises(lk.DensityError, match="cannot be sampled"):
        forward_kl(model, lk.Target(model.domain, name="mystery"))


# Held-out likelihood.


def test_held_out_likelihood_is_weighted_and_the_same_in_chunks(monkeypatch):
    x, weight = normal_rows(1000, 2, 0), torch.rand(1000)
    model = Normals(lk.reals(2))
    whole, w = held_out(model, Split(x, weight=weight))
    monkeypatch.setattr("likely.contract.inputs.CHUNK", 128)
    parts, _ = held_out(model, Split(x, weight=weight))
    assert torch.equal(whole.value, parts.value)
    expected = (weight * Normal(0, 1).log_prob(x).sum(1)).sum() / weight.sum()
    assert whole.mean(w).value == pytest.approx(expected.item(), rel=1e-6)

    some, _ = held_out(Bounded(lk.reals(2)), Split(x), rows=300, seed=1)
    assert len(some.value) == len(some.stderr) == 300
    assert some.kind == Kind.LOWER
    again, _ = held_out(Bounded(lk.reals(2)), Split(x), rows=300, seed=1)
    assert torch.equal(some.value, again.value)
    with pytest.raises(lk.DataError, match="no rows"):
        held_out(model, Split(x[:0]))


# Everything together.


@pytest.fixture(scope="module")
def plane():
    target = truth.gaussian([0, 0], torch.eye(2))
    rows = target.sample(5000, 0)
    return data_of(target.domain, Split(rows[:4000]), Split(rows[4000:]), truth=target)


def test_a_perfect_model_and_a_shifted_one(plane):
    history = lk.History(rows_seen=5000, seconds=2.0, peak_memory=3 << 20)
    perfect = evaluate(Normals(plane.domain), plane, history=history)
    assert close(perfect.log_likelihood, -plane.truth.entropy)
    assert close(perfect.train_log_likelihood, -plane.truth.entropy)
    assert perfect.forward_kl.value == pytest.approx(0, abs=1e-6)
    assert close(perfect.energy_distance, 0, 3)
    assert perfect.sliced_wasserstein.value < 2 * perfect.sliced_wasserstein_floor.value
    assert (perfect.fitting.value, perfect.parameters) == (2500, 1)
    assert (perfect.outside, perfect.leaked, perfect.invalid) == (0, 0, 0)
    assert perfect.bits_per_dimension is None
    assert min(perfect.mmd_p_value, perfect.classifier_p_value) > 0.01
    assert close(perfect.mmd, 0, 3)
    assert close(perfect.classifier_auc, 0.5, 3)
    assert close(perfect.sample_density, 1)
    for name in ("precision", "recall", "coverage"):
        difference = getattr(perfect, name).value - getattr(perfect, f"{name}_floor").value
        assert abs(difference) < 4 * getattr(perfect, name).stderr
    assert perfect.extractor is perfect.frechet_distance is perfect.class_learnt is None
    assert close(perfect.memorised, 0.5)
    assert perfect.memorised_p_value > 0.01
    assert evaluate(Normals(plane.domain), plane, split="train").memorised is None

    shifted = evaluate(Normals(plane.domain, mean=0.5), plane)
    assert close(shifted.forward_kl, 0.25)
    assert close(shifted.reverse_kl, 0.25)
    assert shifted.energy_distance.value > 5 * shifted.energy_distance.stderr
    assert shifted.sliced_wasserstein.value > 3 * shifted.sliced_wasserstein_floor.value
    assert shifted.energy_distance_floor == perfect.energy_distance_floor
    assert max(shifted.mmd_p_value, shifted.classifier_p_value) < 0.01
    assert shifted.classifier_accuracy.value > 0.55
    ours = shifted.marginals[shifted.marginals["measure"] == "Wasserstein-1"]
    assert (abs(ours["value"] - 0.5) < 4 * ours["stderr"]).all()
    assert (ours["floor"] < 0.15).all()
    for text in ("Normals on toy: test, 1,000 rows", "-2.8", "KL(truth‖model)", "2,500", "3 MiB"):
        assert text in str(perfect)


def test_evaluation_repeats_and_leaves_everything_as_it_was(plane):
    model = Normals(plane.domain, mean=0.1)
    model.frozen = nn.Dropout().eval()
    model.train()
    model.frozen.eval()
    state = torch.random.get_rng_state()
    first, second = (evaluate(model, plane, split="valid", rows=500, seed=3) for _ in range(2))
    assert first.rows == 500
    assert model.training
    assert not model.frozen.training
    assert torch.equal(state, torch.random.get_rng_state())
    timed = {"sampling", "scoring"}
    a, b = ({k: v for k, v in e.to_json().items() if k not in timed} for e in (first, second))
    assert a == b


def test_a_model_without_a_density_gets_the_rest(plane):
    ours = evaluate(Sampler(plane.domain), plane)
    assert ours.log_likelihood is ours.forward_kl is ours.scoring is None
    assert close(ours.energy_distance, 0, 3)
    assert "the model has no density" in str(ours)
    assert ours.to_json()["log_likelihood"] is None


def test_infinite_and_invalid_numbers_are_said():
    board = truth.checkerboard()
    rows = board.sample(2000, 0)
    data = data_of(board.domain, Split(rows[:1000]), Split(rows[1000:]), truth=board)

    class Broken(Normals):
        def _sample(self, n, context):
            x = super()._sample(n, context)
            x[:, 0].clamp_max_(1.9)
            x[::10] = math.nan
            return x

        def _log_prob(self, x, context):
            return super()._log_prob(x, context).where(x[:, 0] < 2, -math.inf)

    ours = evaluate(Broken(board.domain, scale=2.5), data)
    assert ours.invalid == pytest.approx(0.1)
    assert ours.outside == pytest.approx((rows[1000:, 0] >= 2).float().mean().item())
    assert ours.log_likelihood.value == -math.inf
    assert ours.forward_kl.value == math.inf
    assert ours.reverse_kl.value == math.inf
    assert 0.5 < ours.leaked < 0.8
    assert math.isfinite(ours.energy_distance.value)
    text = json.dumps(ours.to_json(), allow_nan=False)
    assert json.loads(text)["log_likelihood"] == {"value": None, "stderr": None}
    assert "10.00% of its draws" in str(ours)


def test_conditional_models_are_compared_with_their_context():
    context = torch.rand(3000, 1, generator=torch.Generator().manual_seed(1)) * 4
    x = 2 * context + normal_rows(3000, 1, 2, scale=0.5)
    domain, given = lk.reals(1), lk.reals(1)
    data = data_of(
        domain, Split(x[:2000], context[:2000]), Split(x[2000:], context[2000:]), context=given
    )
    knows = evaluate(Normals(domain, context=given, slope=2.0, scale=0.5), data)
    assert close(knows.energy_distance, 0, 3)
    # The marginal of x is about right here, but it does not move with the context.
    ignores = evaluate(
        Normals(domain, context=given, mean=x.mean().item(), scale=x.std().item()), data
    )
    assert ignores.energy_distance.value > 10 * ignores.energy_distance.stderr
    assert ignores.energy_distance.value > 20 * abs(knows.energy_distance.value)
    unconditional = evaluate(Normals(domain, mean=4.0, scale=2.4), data)
    assert unconditional.energy_distance.value < 0.1 * ignores.energy_distance.value
    assert min(knows.mmd_p_value, knows.classifier_p_value) > 0.01
    assert max(ignores.mmd_p_value, ignores.classifier_p_value) < 0.01
    with pytest.raises(lk.DataError, match="have no context"):
        evaluate(Normals(domain, context=given), data_of(domain, Split(x[:2000]), Split(x[2000:])))


def test_weights_of_rows_count_everywhere():
    def tilted(n: int, seed: int) -> Split:
        x = normal_rows(n, 1, seed)
        return Split(x, weight=(0.7 * x[:, 0]).exp())  # N(0, 1) becomes N(0.7, 1)

    data = data_of(lk.reals(1), tilted(2000, 0), tilted(1000, 1))
    ours = evaluate(Normals(data.domain, mean=0.7), data)
    assert close(ours.log_likelihood, -Normal(0, 1).entropy().item())
    assert close(ours.energy_distance, 0, 3)
    assert close(ours.energy_distance_floor, 0, 3)
    assert min(ours.mmd_p_value, ours.classifier_p_value) > 0.01
    assert (ours.marginals["value"] < 5 * ours.marginals["floor"]).all()
    plain = evaluate(Normals(data.domain), data)
    assert plain.energy_distance.value > 5 * plain.energy_distance.stderr
    assert plain.mmd_p_value < 0.01
    assert (plain.marginals["value"] > 5 * plain.marginals["stderr"]).all()
    test = data.test
    heavy = Split(test.x, weight=(torch.arange(1000) < 5) + 1e-9)
    few = evaluate(Normals(data.domain), data_of(data.domain, data.train, heavy))
    assert few.mmd is few.classifier_auc is few.precision is None
    assert "None" not in str(few)


def test_images_are_compared_by_learnt_features():
    generator = torch.Generator().manual_seed(3)
    level = torch.randint(2, (600, 1, 1), generator=generator)
    x = (torch.rand(600, 6, 6, generator=generator) < 0.2 + 0.6 * level).long()
    domain = lk.binary(6, 6)
    data = data_of(domain, Split(x[:400]), Split(x[400:]))

    class Bright(GenerativeModel):
        def _sample(self, n, context):
            return (torch.rand(n, 6, 6) < 0.8).long()

        @property
        def density(self):
            return Kind.NONE

    ours = evaluate(Bright(domain), data)
    assert ours.extractor == "autoencoder, trained for 200 steps on 400 images"
    for name in ("frechet_distance", "kernel_distance"):
        value, floor = getattr(ours, name), getattr(ours, f"{name}_floor")
        assert value.value > 5 * max(value.stderr, floor.value)
    assert ours.marginals is ours.pairs is None
    assert ours.extractor.split(",")[0] in str(ours)
    assert ours.image_auc.value > 0.65  # half of the images are dark
    assert ours.image_p_value < 0.01
    assert ours.frechet_limit.value > 5 * abs(ours.frechet_limit_floor.value)
    given = FeatureExtractor(data, steps=1)
    assert evaluate(Bright(domain), data, extractor=given).extractor == given.description


def test_what_is_drawn_for_a_class_and_what_repeats_training_rows():
    generator = torch.Generator().manual_seed(4)
    label = torch.randint(3, (1500, 1), generator=generator)
    x = 4 * label + torch.randn(1500, 2, generator=generator)
    parts = slice(0, 1000), slice(1000, 1500)
    context = lk.categories(3, 1)
    splits = [Split(x[at], label[at]) for at in parts]
    data = data_of(lk.reals(2), *splits, context=context)

    class Copies(GenerativeModel):
        """Training rows, a tenth of them for a wrong class."""

        def _sample(self, n, context):
            wanted = context.argmax(1)
            wrong = torch.rand(n) < 0.1
            wanted = torch.where(wrong, (wanted + 1) % 3, wanted)
            chosen = (wanted[:, None] == label[:1000, 0]).float().multinomial(1)[:, 0]
            return x[chosen]

        @property
        def density(self):
            return Kind.NONE

    ours = evaluate(Copies(data.domain, context=context), data)
    assert ours.class_real.value > 0.97
    assert abs(ours.class_agreement.value - 0.9) < 4 * ours.class_agreement.stderr + 0.02
    assert ours.class_real.value - 0.05 < ours.class_learnt.value < ours.class_real.value + 0.01
    assert ours.memorised_p_value < 1e-6
    assert "memorisation" in str(ours)


@pytest.mark.slow
def test_pixels_of_an_image_have_one_scale():
    # A pixel that is bright in a thousandth of the images, and one that never is, must not decide.
    domain = lk.reals(2, 2, layout="image")
    x = torch.randn(1000, 2, 2, generator=torch.Generator().manual_seed(0))
    x[:, 0, 0], x[:, 0, 1] = 0, 0
    x[0, 0, 1] = 5.0

    class Dim(Sampler):
        factor = 1.0

        def _sample(self, n, context):
            z = torch.randn(n, 2, 2)
            z[:, 0] = 0
            z[::10, 0, 1] = 5.0
            return self.factor * z

    def distance(factor):
        model = Dim(domain)
        model.factor = factor
        data = data_of(domain, Split(factor * x[:500]), Split(factor * x[500:]))
        return evaluate(model, data).energy_distance.value

    assert 0 < distance(1.0) < 1
    assert distance(100.0) == pytest.approx(distance(1.0), rel=1e-4)


def test_tables_name_the_farthest_columns():
    domain = lk.table(a=lk.Real(), b=lk.Real(), c=lk.Real())
    x = normal_rows(2000, 3, 4)
    x[:, 2] = 0.6 * x[:, 1] + 0.8 * x[:, 2]
    data = data_of(domain, Split(x[:1000]), Split(x[1000:]))
    ours = evaluate(Normals(domain), data)
    worst = ours.pairs.loc[ours.pairs["value"].abs().idxmax()]
    assert (worst["first"], worst["second"], worst["measure"]) == ("b", "c", "correlation")
    assert abs(worst["value"] + 6 / math.pi * math.asin(0.3)) < 4 * worst["stderr"]
    assert "correlation of b and c" in str(ours)
    report = json.loads(json.dumps(ours.to_json(), allow_nan=False))
    assert len(report["pairs"]) == 6
    assert report["marginals"][0]["column"] == "a"
    assert report["marginals"][0]["measure"] == "Wasserstein-1"
    assert report["mmd"]["stderr"] > 0


@pytest.mark.parametrize("name", ["score-sde", "ffjord"])
def test_the_tolerance_of_the_solver_stays_with_the_number(name):
    x = torch.randn(200, 2)
    data = lk.load_data(x, domain=lk.reals(2))
    model = lk.make(name, data.domain, hidden=(8, 8), tolerance=1e-3, seed=0)
    lk.fit(model, data, steps=1)
    assert model.log_likelihood(x[:2]).tolerance == 1e-3
    assert model.log_likelihood(x[:2], tolerance=1e-2).tolerance == 1e-2
    result = lk.evaluate(model, data, rows=20)
    assert result.solver_tolerance == 1e-3
    assert "a solver of tolerance 0.001" in str(result)
    if name == "score-sde":
        assert model.log_likelihood(x[:2], method="bound").tolerance is None


def test_bits_per_dimension_name_the_dequantisation():
    x = torch.randint(0, 8, (2000, 3), generator=torch.Generator().manual_seed(0))
    data = data_of(lk.integers(8, 3), Split(x[:1000]), Split(x[1000:]))

    class Uniform(GenerativeModel):
        def _sample(self, n, context):
            return torch.randint(0, 8, (n, 3))

        def _log_prob(self, x, context):
            return torch.full((len(x),), -3 * math.log(8))

    exact = evaluate(Uniform(data.domain), data)
    assert exact.bits_per_dimension.value == pytest.approx(3)
    assert exact.dequantisation == "none"
    assert close(exact.energy_distance, 0, 3)

    class Dequantised(RealModel):
        def _sample_real(self, n, context):
            return torch.randn(n, 3)

        def _log_prob_real(self, z, context):
            return Normal(0, 1).log_prob(z).sum(1)

    bound = evaluate(Dequantised(data.domain), data)  # normal where uniform data are normal
    assert bound.dequantisation == "uniform"
    assert bound.density == Kind.LOWER
    assert bound.bits_per_dimension.value == pytest.approx(3, abs=1e-5)
    assert "dequantisation: uniform" in str(bound)


def test_unknown_splits_are_refused(plane):
    with pytest.raises(lk.LikelyError, match="take train, valid or test"):
        evaluate(Normals(plane.domain), plane, split="tests")


# Speed.


def test_throughput_leaves_the_warm_up_out():
    calls = []

    def work() -> Tensor:
        time.sleep(0.2 if not calls else 0.01)
        calls.append(1)
        return torch.zeros(1)

    rate = throughput(work, rows=10, seconds=0.1)
    assert 400 < rate.value <= 1000
    assert 3 <= len(calls) <= 12


@pytest.mark.slow
def test_coverage_of_known_modes_is_measured():
    data = lk.load_data("eight-gaussians")
    model = lk.make("gmm", data.domain, components=8, seed=0)
    lk.fit(model, data, epochs=8)
    with torch.no_grad():
        model.logits[0] = -20.0  # the mixture loses one mode
    ev = lk.evaluate(model, data)
    assert ev.modes_covered.value == 7 / 8
    assert ev.near_modes.value > 0.95
    assert ev.mode_divergence.value == pytest.approx(math.log(8 / 7), abs=0.02)


def test_every_measure_is_an_attribute_and_a_key(plane):
    names = [measure.name for measure in MEASURES]
    assert len(set(names)) == len(names)
    assert all(measure.title and measure.meaning for measure in MEASURES)
    ours = evaluate(Sampler(plane.domain), plane, rows=50)
    assert {*names, "energy_distance_floor", "forward_kl_kind"} <= set(ours.to_json())
    assert set(names) <= set(dir(ours))
    assert ours.mmd_p_value == ours.values["mmd_p_value"]
    assert all(name in type(ours).__doc__ for name in names)
    with pytest.raises(AttributeError, match="entropy"):
        _ = ours.entropy


class Joint(Normals):
    """Rows around ±1 by their class; its probabilities of classes have the temperature `soft`."""

    soft = 2.0

    def _normal(self, n: int, context: Tensor | None) -> Normal:
        assert context is not None
        return Normal(context.expand(n, self.domain.size), 1.0)

    def classify(self, x: Tensor) -> Tensor:
        log_odds = 2 * x.sum(1) / self.soft
        return torch.stack([-log_odds / 2, log_odds / 2], 1).softmax(1)


class Posterior(Joint):
    """The same as p(y|x) alone."""

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self.classify(context).log().gather(1, x)[:, 0]

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        return self.classify(context).multinomial(1)


def test_a_classifier_of_either_form_is_measured_by_its_probabilities():
    rows, classes = lk.reals(2), lk.categories(2)
    y = torch.randint(2, (900, 1), generator=torch.Generator().manual_seed(1))
    x = normal_rows(900, 2, seed=2) + 2 * y - 1
    joint = data_of(rows, Split(x[:100], y[:100]), Split(x[100:], y[100:]), context=classes)
    swapped = data_of(classes, Split(y[:100], x[:100]), Split(y[100:], x[100:]), context=rows)
    ours = evaluate(Joint(rows, context=classes), joint, rows=500)
    also = evaluate(Posterior(classes, context=rows), swapped, rows=500)
    for name in ("accuracy", "log_loss", "brier_score", "calibration_error", "temperature"):
        assert getattr(ours, name) == getattr(also, name)
    assert close(ours.accuracy, Normal(0, 1).cdf(torch.tensor(math.sqrt(2))).item())
    assert close(ours.temperature, 0.5)
    assert close(also.log_likelihood, -ours.log_loss.value, 1e-3)
    low, high = ours.calibration_null
    assert low < high < ours.calibration_error.value
    assert f"{low:.2g} to {high:.2g}" in str(ours)
    json.dumps(ours.to_json())
    some = Split(x[100:], torch.where(torch.arange(800)[:, None] < 700, y[100:], -1))
    batch = labelled(Joint(rows, context=classes), some.rows(slice(None)))
    assert len(batch.labels) == len(batch.x) == 700  # others have no class to compare with
