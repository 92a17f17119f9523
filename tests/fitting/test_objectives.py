"""What objectives and stages say about their training: own settings, turns, averages, phases."""

import pytest
import torch
from torch import nn

import likely as lk
from likely.contract import registry
from likely.contract.model import GenerativeModel
from likely.contract.training import Objective, Recipe, Stage
from likely.core.likelihood import Kind


def data_of(n=400):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(1))
    return lk.Data(lk.reals(2), *(lk.data.Split(x[p::3]) for p in range(3)))


class Toy(GenerativeModel):
    """Two parameters that fall by the rate at each step: Adam's first steps do so exactly."""

    recipe = Recipe(rate=0.01, clip=1e9)

    def __init__(self, domain):
        super().__init__(domain)
        self.first, self.second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.register_buffer("seen", torch.zeros(1))
        self.losses = []

    density = Kind.NONE

    def falling(self, name):
        def loss(batch):
            self.losses.append((name, batch.step))
            return getattr(self, name).sum()

        return loss

    def objectives(self):
        return [
            Objective("a", [self.first], self.falling("first"), steps=3),
            Objective("b", [self.second], self.falling("second"), rate=0.05, betas=(0.0, 0.9)),
        ]

    def _sample(self, n, context):
        return torch.zeros(n, 2)


def test_objectives_have_rates_and_turns_of_their_own():
    model = Toy(lk.reals(2))
    history = lk.fit(model, data_of(), steps=40, ema=0.0)
    assert model.losses.count(("first", 5)) == 3
    assert model.losses.count(("second", 5)) == 1
    # Over a budget, both fall in proportion to rate × turns.
    assert (model.second / model.first).item() == pytest.approx(0.05 / (3 * 0.01), rel=1e-3)
    assert history.rows[-1]["step"] == 40


class Averaged(Toy):
    averaged = ("seen",)

    def objectives(self):
        def count():
            self.seen += 1

        return [Objective("a", [self.first], self.falling("first"), after=count)]


def test_a_buffer_that_training_moves_is_averaged_with_the_weights():
    model = Averaged(lk.reals(2))
    lk.fit(model, data_of(), steps=40, ema=0.9)
    # The same average of 1, 2, …, 40, by hand.
    average = 0.0
    for step in range(40):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * (step + 1)
    assert model.seen.item() == pytest.approx(average, rel=1e-5)


class Staged(Toy):
    def stages(self):
        def grow():
            self.third = nn.Parameter(torch.zeros(1))
            return [Objective("late", [self.third], self.falling("third"))]

        def first():
            return [Objective("early", [self.first], self.falling("first"))]

        def meet(batch):
            self.losses.append(("prepare", len(batch)))

        return [Stage(first, 0.25), Stage(grow, 0.75, meet)]


def test_stages_share_the_budget_and_resume(tmp_path, monkeypatch):
    monkeypatch.setattr("likely.fitting.folder.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("likely.fitting.folder.OVERHEAD", 1e9)
    lk.register("staged", title="", density="none", constraint="", paper="")(Staged)
    monkeypatch.setattr("likely.contract.store.save", lambda model, path: None)
    model = Staged(lk.reals(2))
    history = lk.fit(model, data_of(), steps=200, ema=0.5)
    steps = {name: [s for n, s in model.losses if n == name] for name in ("first", "third")}
    assert (steps["first"], steps["third"]) == (list(range(50)), list(range(50, 200)))
    assert model.losses[50] == ("prepare", len(data_of().train))
    assert {"early", "late"} <= {name for row in history.rows for name in row}

    class Killed(Exception):
        pass

    for at in (20, 120):
        again = Staged(lk.reals(2))
        falling = again.falling

        def interrupted(name, falling=falling, at=at):
            loss = falling(name)

            def killed(batch):
                if batch.step == at:
                    raise Killed
                return loss(batch)

            return killed

        again.falling = interrupted
        with pytest.raises(Killed):
            lk.fit(again, data_of(), steps=200, ema=0.5, run=tmp_path / str(at))
        resumed = Staged(lk.reals(2))
        lk.fit(resumed, data_of(), steps=200, ema=0.5, run=tmp_path / str(at))
        assert resumed.losses[0][1] == at
        assert torch.equal(resumed.third, model.third)
        assert torch.equal(resumed.first, model.first)
    del registry._entries["staged"]


def test_stages_need_a_budget():
    with pytest.raises(lk.LikelyError, match="Staged trains in stages: give a budget"):
        lk.fit(Staged(lk.reals(2)), data_of())
