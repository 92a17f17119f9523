"""The loop: budgets, repeatability, resuming, skipped steps, several players, weights."""

import itertools
import json
import math
import shutil

import pytest
import torch
from torch import nn

import likely as lk
from likely.contract.model import GenerativeModel
from likely.contract.training import Batch, Objective, Recipe
from likely.core.files import read_tree
from likely.core.likelihood import Kind
from likely.core.random import seeded
from likely.core.runtime import find_device
from likely.fitting.folder import RunFolder

SMALL = {"transforms": 1, "hidden": (8,), "bins": 4, "jitter": 0.0}


def data_of(n=1000, weight=None, name=""):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(1)) @ torch.tensor(
        [[1.0, 0.5], [0, 1]]
    )
    parts = [slice(0, n - 200), slice(n - 200, n - 100), slice(n - 100, n)]
    splits = [lk.data.Split(x[p], None, None if weight is None else weight[p]) for p in parts]
    return lk.Data(lk.reals(2), *splits, name=name)


def small(domain=None):
    with seeded(7):
        return lk.make("nsf", domain or lk.reals(2), **SMALL)


def same_weights(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_the_best_weights_are_kept_and_score_what_the_history_says():
    data, model = data_of(), small()
    history = lk.fit(model, data, steps=300)
    assert history.best == max(row["valid"] for row in history.rows)
    assert history.best > history.rows[0]["valid"]
    score = model.log_prob(data.valid.x).mean().item()
    assert score == pytest.approx(history.best, abs=1e-5)
    assert not model.training
    assert history.rows_seen == 300 * 100  # an eighth of 800 rows is a batch


def test_without_a_budget_training_stops_by_itself():
    history = lk.fit(small(), data_of(300), rate=0.02)
    assert history.steps < 20_000
    assert history.rows[-1]["rate"] < 0.02


@pytest.mark.slow
def test_minutes_become_a_number_of_steps():
    history = lk.fit(small(), data_of(), minutes=0.05, early_stopping=False)
    assert 1 < history.seconds < 15  # of 3, on a machine that may be busy
    assert history.rows[-1]["rate"] < 1e-4


@pytest.mark.parametrize("budget", [{"steps": 10, "epochs": 1}, {"steps": 0}, {"minutes": -1.0}])
def test_nonsensical_budgets_are_refused(budget):
    with pytest.raises(lk.LikelyError):
        lk.fit(small(), data_of(), **budget)


def test_a_model_of_another_domain_is_refused():
    with pytest.raises(lk.DomainError, match="another domain"):
        lk.fit(small(lk.reals(3)), data_of(), steps=1)


def test_global_generator_and_threads_stay_as_they_were():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    lk.fit(small(), data_of(), steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def interrupt_at(model, step):
    """Let the loss raise once, at a step."""
    loss = model.loss

    def interrupted(batch):
        if batch.step == step:
            raise InterruptedError
        return loss(batch)

    model.loss = interrupted


@pytest.mark.parametrize("name", ["nsf", "gmm", "made"])
def test_a_resumed_run_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)
    data = data_of()

    def made():
        with seeded(7):
            return lk.make(name, data.domain, **(SMALL if name == "nsf" else {}))

    undisturbed = made()
    budget = {"epochs": 20} if name == "gmm" else {"steps": 120}
    history = lk.fit(undisturbed, data, run=tmp_path / "a", **budget)
    for step in (0, 37, 101):
        model = made()
        if name == "gmm":
            monkeypatch.setattr(
                type(model), "epoch", _interrupted_epoch(type(model).epoch, step), raising=True
            )
        else:
            interrupt_at(model, step)
        with pytest.raises(InterruptedError):
            lk.fit(model, data, run=tmp_path / "b", **budget)
        monkeypatch.undo()
        monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
        monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)
    model = made()
    resumed = lk.fit(model, data, run=tmp_path / "b", **budget)
    assert same_weights(undisturbed, model)
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.rows]
    steps = [line.split(",")[0] for line in (tmp_path / "b/history.csv").read_text().splitlines()]
    assert len(set(steps)) == len(steps)
    assert same_weights(lk.load(tmp_path / "b"), undisturbed)


def _interrupted_epoch(epoch, call):
    calls = itertools.count()

    def interrupted(self, batches):
        if next(calls) == call // 20:
            raise InterruptedError
        return epoch(self, batches)

    return interrupted


def test_what_is_done_at_the_end_is_done_again_after_a_kill(tmp_path, monkeypatch):
    # Killed after the last checkpoint and before the model is written.
    def finishing():
        model = small()
        parameter = next(model.parameters())
        model.finish = lambda batch: parameter.data.add_(torch.randn_like(parameter))
        return model

    model, again = finishing(), finishing()
    lk.fit(model, data_of(), steps=20, run=tmp_path / "a")
    monkeypatch.setattr("likely.contract.store.save", _interrupted)
    with pytest.raises(InterruptedError):
        lk.fit(finishing(), data_of(), steps=20, run=tmp_path / "b")
    monkeypatch.undo()
    lk.fit(again, data_of(), steps=20, run=tmp_path / "b")
    assert same_weights(model, again)


def _interrupted(*arguments):
    raise InterruptedError


def test_a_complete_run_is_loaded_and_another_configuration_refused(tmp_path):
    data, model = data_of(), small()
    history = lk.fit(model, data, steps=20, run=tmp_path / "run")
    again = small()
    with pytest.warns(UserWarning, match="nothing left to do"):
        assert lk.fit(again, data, steps=20, run=tmp_path / "run").rows == history.rows
    assert same_weights(again, model)
    for change in ({"steps": 21}, {"steps": 20, "seed": 1}, {"steps": 20, "rate": 0.1}):
        with pytest.raises(lk.ArtifactError, match="another configuration"):
            lk.fit(small(), data, run=tmp_path / "run", **change)
    with pytest.raises(lk.ArtifactError, match="fingerprint"):
        lk.fit(small(), data_of(1100), steps=20, run=tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("…")
    with pytest.raises(lk.ArtifactError, match="not an empty folder"):
        lk.fit(small(), data, steps=20, run=tmp_path / "other")


def test_a_run_goes_on_on_another_device(tmp_path):
    lk.fit(small(), data_of(), steps=20, run=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["fit"]["device"] == str(find_device("auto"))
    config["fit"]["device"] = "cuda:7"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="nothing left to do"):
        lk.fit(small(), data_of(), steps=20, run=tmp_path)


def test_a_run_goes_on_with_another_patch_release_only(tmp_path, monkeypatch):
    data = data_of()
    lk.fit(small(), data, steps=20, run=tmp_path / "whole")
    monkeypatch.setattr(RunFolder, "finish", _interrupted)
    with pytest.raises(InterruptedError):
        lk.fit(small(), data, steps=20, run=tmp_path / "run")
    monkeypatch.undo()
    config = tmp_path / "run" / "config.json"
    stored = json.loads(config.read_text())
    config.write_text(json.dumps(stored | {"version": "99.0.0"}))
    with pytest.raises(lk.ArtifactError, match=rf"config\.json.*99\.0\.0.*{lk.__version__}"):
        lk.fit(small(), data, steps=20, run=tmp_path / "run")
    patch = ".".join([*lk.__version__.split(".")[:2], "99"])
    config.write_text(json.dumps(stored | {"version": patch}))
    lk.fit(small(), data, steps=20, run=tmp_path / "run")
    assert same_weights(lk.load(tmp_path / "run"), lk.load(tmp_path / "whole"))


class Fragile(GenerativeModel):
    """A normal distribution by its mean and log-width, whose layer gives NaN at given steps."""

    recipe = Recipe(rate=0.05)

    def __init__(self, domain, bad=()):
        super().__init__(domain)
        self.bad = bad
        self.mean = nn.Parameter(torch.zeros(domain.size))
        self.tap = nn.Identity()

    def _log_prob(self, x, context):
        return -((self.tap(x) - self.mean) ** 2).sum(1) / 2

    def loss(self, batch):
        x = batch.x if batch.step not in self.bad else batch.x * torch.nan
        return -self._log_prob(x, None)


def test_steps_that_are_not_finite_are_skipped_and_counted():
    model = Fragile(lk.reals(2), bad=(3, 4, 10))
    history = lk.fit(model, data_of(), steps=100)
    assert history.skipped == 3
    assert history.rows[-1]["skipped"] == 3
    assert model.mean.isfinite().all()


@pytest.mark.parametrize("clip", [1e-3, 1e3])  # far below and far above every gradient's norm
def test_only_gradients_above_the_bound_are_clipped(clip):
    model = small()
    seen = []
    step = torch.optim.AdamW.step

    def watched(self, *arguments):
        seen.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        return step(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watched)
        lk.fit(model, data_of(), steps=1, batch=800, clip=clip)
    (found,) = seen
    twin = small()
    batch = data_of().train.rows(slice(None))
    twin.prepare(batch)
    twin.loss(batch).mean().backward()
    plain = torch.cat([p.grad.flatten() for p in twin.parameters()])
    assert 1e-2 < plain.norm() < 1e2
    torch.testing.assert_close(
        found, plain * min(1.0, clip / plain.norm().item()), rtol=1e-3, atol=1e-6
    )


def test_divergence_names_objective_step_and_layer():
    model = Fragile(lk.reals(2), bad=range(5, 1000))
    with pytest.raises(lk.DivergenceError, match=r"'loss'.* step 24 .*layer 'tap'"):
        lk.fit(model, data_of(), steps=100)


def test_divergence_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)
    model = small()
    loss = model.loss
    model.loss = lambda batch: loss(batch) * (torch.nan if batch.step >= 30 else 1)
    with pytest.raises(lk.DivergenceError):
        lk.fit(model, data_of(), steps=100, run=tmp_path)
    state = read_tree(tmp_path / "checkpoint" / "state.safetensors")
    assert state["state"]["history"]["steps"] >= 30
    assert all(v.isfinite().all() for v in state["model"].values())
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("name", [pytest.param("nsf", marks=pytest.mark.slow), "made", "score-sde"])
def test_bfloat16_trains_to_nearly_the_same_score(name):
    scores = {}
    for precision in ("32-true", "bf16-mixed"):
        model = lk.make(name, lk.reals(2), seed=0, hidden=(32, 32))
        history = lk.fit(model, data_of(), steps=150, precision=precision)
        assert history.skipped == 0
        scores[precision] = history.best
    assert scores["bf16-mixed"] == pytest.approx(scores["32-true"], abs=0.05)


LOWERED = {  # whose losses have more than networks
    "iwae": {},
    "vae": {"posterior": "iaf", "prior": "flow"},
    "hsic-vae": {"independent": ((0, 1), (2, 3))},
    "mmd-vae": {},
    "rbm": {},
    "dbm": {},
    "dbn": {},
}


@pytest.mark.parametrize("name", LOWERED)
def test_bfloat16_hardly_changes_a_loss(name):
    x = torch.rand(64, 4, 4).round().long()
    losses = []
    for lowered in (False, True):
        model = lk.make(name, lk.binary(4, 4), seed=0, **LOWERED[name])
        model.prepare(Batch(x))
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            loss = model.loss(Batch(x))
        loss.mean().backward()
        assert loss.dtype == torch.float32
        losses.append(loss.mean().item())
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


class HalfDead(Fragile):
    """Two objectives, one of which never has a finite loss."""

    def objectives(self):
        def dead(batch):
            return self.mean.sum() * torch.nan

        return [*super().objectives(), Objective("dead", [self.mean], dead)]


def test_one_dead_objective_of_two_is_noticed():
    with pytest.raises(lk.DivergenceError, match="'dead'"):
        lk.fit(HalfDead(lk.reals(2)), data_of(), steps=100)


class Blind(Fragile):
    """The first validation gives no number."""

    calls = 0

    def log_likelihood(self, x, context=None, *, seed=None, **estimator):
        self.calls += 1
        likelihood = super().log_likelihood(x, context, seed=seed)
        likelihood.value.mul_(torch.nan if self.calls == 1 else 1)
        return likelihood


def test_a_validation_without_a_number_is_not_the_best():
    history = lk.fit(Blind(lk.reals(2)), data_of(), steps=200)
    first, *others = [row["valid"] for row in history.rows]
    assert math.isnan(first)
    assert history.best == max(others)


class Clock:
    """A stand-in for the module `time`: each step takes as long as it is told to."""

    def __init__(self, model, seconds, now=0.0):
        self.now, loss = now, model.loss

        def timed(batch):
            self.now += seconds(self.now)
            return loss(batch)

        model.loss = timed

    def perf_counter(self):
        return self.now


# A step takes 0.1 s; after 8 of 60 s the machine is twice as fast, or half; or it changes all the time.
PACES = {
    "steady": lambda now: 0.1,
    "slower": lambda now: 0.1 if now < 8 else 0.2,
    "faster": lambda now: 0.1 if now < 8 else 0.05,
    "late": lambda now: 0.1 if now < 50 else 0.2,
    "restless": lambda now: 0.1 * 2 ** math.sin(now / 5),
}


@pytest.mark.parametrize("pace", PACES)
def test_a_fit_in_minutes_ends_on_time_when_the_machine_changes_its_pace(pace, monkeypatch):
    model = small()
    monkeypatch.setattr("likely.fitting.loop.time", Clock(model, PACES[pace]))
    history = lk.fit(model, data_of(), minutes=1, early_stopping=False)
    assert history.seconds == pytest.approx(60, abs=1.5)
    assert history.rows[-1]["step"] == history.steps
    # The rate falls without jumps, and to the end.
    rates = [row["rate"] for row in history.rows]
    assert max(b - a for a, b in itertools.pairwise(rates[2:])) <= 0
    assert rates[-1] < 0.01 * max(rates)


def test_a_first_step_that_takes_most_of_the_minutes_is_not_a_pace(monkeypatch):
    model = lk.make("nsf", lk.reals(2), **SMALL | {"jitter": 0.1}, seed=0)
    seconds = iter([20.0])
    monkeypatch.setattr("likely.fitting.loop.time", Clock(model, lambda now: next(seconds, 0.1)))
    history = lk.fit(model, data_of(), minutes=0.5, early_stopping=False)
    assert history.seconds == pytest.approx(30, abs=1.5)
    assert history.rows[-1]["rate"] < 1e-4


def test_a_run_with_minutes_resumes_with_the_same_bits(tmp_path, monkeypatch):
    # Whatever its own clock says, a resumed run repeats the decisions that it finds.
    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)
    data, model = data_of(), small()
    monkeypatch.setattr("likely.fitting.loop.time", Clock(model, PACES["restless"]))
    lk.fit(model, data, minutes=0.2, run=tmp_path / "a")
    config = json.loads((tmp_path / "a/config.json").read_text())
    decisions = config["decisions"]
    assert len(decisions) > 3
    again = small()
    interrupt_at(again, (decisions[1][0] + decisions[2][0]) // 2)
    monkeypatch.setattr("likely.fitting.loop.time", Clock(again, PACES["restless"]))
    with pytest.raises(InterruptedError):
        lk.fit(again, data, minutes=0.2, run=tmp_path / "b")
    assert json.loads((tmp_path / "b/config.json").read_text())["decisions"] == decisions[:2]
    shutil.copytree(tmp_path / "b", tmp_path / "c")

    # The clock goes on where it was.
    seconds = read_tree(tmp_path / "b/checkpoint/state.safetensors")["state"]["history"]["seconds"]
    again = small()
    monkeypatch.setattr("likely.fitting.loop.time", Clock(again, PACES["restless"], seconds))
    lk.fit(again, data, minutes=0.2, run=tmp_path / "b")
    assert same_weights(model, again)

    # Another clock, after a kill that followed the last decision but preceded its checkpoint.
    (tmp_path / "c/config.json").write_text(json.dumps(config))
    again = small()
    monkeypatch.setattr("likely.fitting.loop.time", Clock(again, lambda now: 1e-4))
    lk.fit(again, data, minutes=0.2, run=tmp_path / "c")
    after = json.loads((tmp_path / "c/config.json").read_text())["decisions"]
    assert after[: len(decisions)] == decisions


def test_a_mixture_can_be_fitted_again():
    data, moved = data_of(), data_of(900)
    model = lk.make("gmm", data.domain, components=2, seed=0)
    lk.fit(model, data)
    again = lk.fit(model, moved)
    assert len(again.rows) > 1


class Players(GenerativeModel):
    """Two players that count their turns, and no density."""

    def __init__(self, domain):
        super().__init__(domain)
        self.a, self.b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
        self.clipped = 0
        self.turns = {"a": 0, "b": 0}

    @property
    def density(self):
        return Kind.NONE

    def objectives(self):
        def clip():
            self.clipped += 1

        def turn(name, value):
            def loss(batch):
                self.turns[name] += 1
                return (value * batch.x.mean(0)).sum() ** 2

            return loss

        return [
            Objective("critic", [self.a], turn("a", self.a), after=clip),
            Objective("generator", [self.b], turn("b", self.b), every=5),
        ]


def test_several_players_each_at_its_own_pace():
    model = Players(lk.reals(2))
    history = lk.fit(model, data_of(), steps=100)
    assert model.turns == {"a": 100, "b": 20}
    assert model.clipped == 100
    assert {"critic", "generator"} <= set(history.rows[0])
    assert history.best is None
    with pytest.raises(lk.DensityError, match="compare its samples"):
        model.log_likelihood(torch.zeros(1, 2))


def test_weights_are_not_diluted_by_small_batches():
    # A binary column whose weights are very uneven: the fit finds the weighted share of ones.
    x = (torch.rand(4000, 1) < 0.5).long()
    weight = (1.5 * torch.randn(4000) + x[:, 0]).exp()
    share = (weight * x[:, 0]).sum() / weight.sum()
    split = lk.data.Split(x, None, weight)
    data = lk.Data(lk.binary(1), split, split, split)
    model = lk.make("independent", data.domain, seed=0)
    model.prepare(Batch(x))  # starts at the unweighted share
    lk.fit(model, data, steps=1000, batch=16, rate=0.02)
    assert model.log_prob(torch.ones(1, 1)).exp().item() == pytest.approx(share.item(), abs=0.02)


def test_accumulated_gradients_are_those_of_the_whole_batch():
    # A batch of 101 is not divisible, and uneven weights make rows count differently.
    data, models, seen = data_of(weight=torch.rand(1000)), [], []
    for accumulate in (1, 3):
        model = small()
        loss = model.loss
        model.loss = lambda batch, loss=loss: seen.append(len(batch)) or loss(batch)
        lk.fit(model, data, steps=50, batch=101, accumulate=accumulate)
        models.append(model)
    assert seen == [101] * 50 + [34, 34, 33] * 50
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=1e-4, atol=1e-5)
    for name, options, message in (
        ("maf", {"batch": 32, "accumulate": 33}, "accumulate=33, but a batch has fewer rows"),
        ("gmm", {"accumulate": 2}, "not trained by gradients: leave out accumulate"),
    ):
        with pytest.raises(lk.LikelyError, match=message):
            lk.fit(lk.make(name, data.domain), data, steps=1, **options)


def test_a_weight_of_two_is_a_row_repeated():
    x = torch.randn(6, 2, dtype=torch.float64)
    weight = torch.tensor([1.0, 2, 1, 0, 1, 1], dtype=torch.float64)
    repeated = x[[0, 1, 1, 2, 4, 5]]
    gradients = []
    for batch in (Batch(x, weight=weight), Batch(repeated)):
        model = small().double()
        model.prepare(batch)
        loss = model.loss(batch)
        w = torch.ones(len(loss)) if batch.weight is None else batch.weight
        ((loss * w).sum() / w.sum()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*gradients)


def test_rows_without_weight_do_not_matter_to_a_fit():
    # The same rows, once with half of them at weight zero and moved far away.
    weight = torch.ones(1000)
    weight[::2] = 0
    data = data_of(weight=weight)
    moved = data_of(weight=weight)
    for split in (moved.train, moved.valid):
        split.x[::2] += 100
    models = []
    for d in (data, moved):
        model = small()
        lk.fit(model, d, steps=30)
        models.append(model)
    grid = torch.randn(50, 2)
    torch.testing.assert_close(*[m.log_prob(grid) for m in models], rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize(
    "name", ["ncsn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vae", "nsf"))]
)
def test_a_compiled_loss_gives_the_same_weights(name):
    # All draw noise in the loss; that of the flow depends on the progress.
    weights, graphs = {}, torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for compiled in (False, True):
        model = lk.make(name, lk.reals(2), hidden=(8,), seed=0).double()
        lk.fit(model, data_of(), steps=60, precision="64-true", compile=compiled)
        weights[compiled] = list(model.parameters())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs
    torch.testing.assert_close(weights[True], weights[False], rtol=1e-9, atol=1e-9)


def test_minutes_are_not_counted_in_steps_that_compile(monkeypatch):
    model = small()
    clock = Clock(model, lambda now: 0.01)

    def slow_to_start(loss, options):
        calls = itertools.count()

        def compiled(batch):
            clock.now += 0 if next(calls) else 1.0
            return loss(batch)

        return compiled

    monkeypatch.setattr(torch, "compile", slow_to_start)
    monkeypatch.setattr("likely.fitting.loop.time", clock)
    history = lk.fit(model, data_of(), minutes=0.1, compile=True)
    # Counted in, the second would be that of usual steps, and the fit end after some four.
    assert history.seconds == pytest.approx(6, abs=0.2)


def test_a_compiled_fit_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda loss, options: loss)
    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)
    expected, model = small(), small()
    lk.fit(expected, data_of(), steps=80, compile=True)
    interrupt_at(model, 15)
    with pytest.raises(InterruptedError):
        lk.fit(model, data_of(), steps=80, compile=True, run=tmp_path)
    model = small()
    lk.fit(model, data_of(), steps=80, compile=True, run=tmp_path)
    assert same_weights(model, expected)


def test_what_cannot_be_compiled(monkeypatch):
    def fails(batch):
        raise torch._dynamo.exc.TorchDynamoException("no way")

    monkeypatch.setattr(torch, "compile", lambda loss, options: fails)
    with pytest.raises(lk.LikelyError, match=r"cannot be compiled \(no way\)"):
        lk.fit(small(), data_of(), steps=30, compile=True)
    for name, options in (("wgan-gp", {}), ("ebm", {"training": "denoising"})):
        with pytest.raises(lk.LikelyError, match="cannot follow the derivative"):
            lk.fit(lk.make(name, lk.reals(2), **options), data_of(), steps=30, compile=True)
    with pytest.raises(lk.LikelyError, match="not trained by gradients: leave out compile"):
        lk.fit(lk.make("gmm", lk.reals(2)), data_of(), compile=True)
