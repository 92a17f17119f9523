"""The loop: budgets, repeatability, resuming, skipped steps, several players, weights."""

import itertools

import pytest
import torch
from torch import nn

import likely as lk
from likely.core.likelihood import Kind
from likely.core.model import Batch, GenerativeModel, Objective, Recipe, seeded

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


def test_minutes_become_a_number_of_steps():
    history = lk.fit(small(), data_of(), minutes=0.05)
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


class Interrupted(Exception):
    pass


def interrupt_at(model, step):
    """Let the loss raise once, at a step."""
    loss = model.loss

    def interrupted(batch):
        if batch.step == step:
            raise Interrupted
        return loss(batch)

    model.loss = interrupted


@pytest.mark.parametrize("name", ["nsf", "gmm", "made"])
def test_a_resumed_run_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    monkeypatch.setattr("likely.fitting.run.LEAST_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.run.OVERHEAD", 1e9)
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
        with pytest.raises(Interrupted):
            lk.fit(model, data, run=tmp_path / "b", **budget)
        monkeypatch.undo()
        monkeypatch.setattr("likely.fitting.run.LEAST_INTERVAL", 0.0)
        monkeypatch.setattr("likely.fitting.run.OVERHEAD", 1e9)
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
            raise Interrupted
        return epoch(self, batches)

    return interrupted


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


def test_divergence_names_objective_step_and_layer():
    model = Fragile(lk.reals(2), bad=range(5, 1000))
    with pytest.raises(lk.DivergenceError, match=r"'loss'.* step 24 .*layer 'tap'"):
        lk.fit(model, data_of(), steps=100)


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
