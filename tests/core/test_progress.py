"""Progress bars: on a terminal only, one display for all that runs inside."""

import pytest
import torch

import likely as lk
from likely.cli import main
from likely.core import progress
from likely.sampling import HMC, ais


class Recorder:
    """Stands in for bars of rich on a terminal, and notes their titles."""

    def __init__(self, terminal=True):
        self.console = self
        self.is_terminal, self.is_jupyter = terminal, False
        self.titles, self.open, self.advanced = [], set(), 0

    def add_task(self, title, total):
        self.titles.append(title)
        if total is not None:
            self.open.add(title)
        return title

    def advance(self, title):
        assert title in self.open
        self.advanced += 1

    def remove_task(self, title):
        self.open.remove(title)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def bars(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(progress, "make_bars", lambda **_: recorder)
    return recorder


def energy(x):
    return x.square().sum(1) / 2


def test_samplers_show_their_steps_where_asked(bars):
    init = torch.zeros(3, 2)
    HMC().run(energy, init, 5, seed=0, burn_in=4)
    assert bars.titles == []
    HMC().run(energy, init, 5, seed=0, burn_in=4, progress=True)
    assert bars.titles == ["run", "burn-in", "steps"]
    assert bars.advanced == 9
    assert not bars.open
    ais(
        energy,
        lk.targets.eight_gaussians(),
        betas=20,
        chains=16,
        chain_steps=5,
        seed=0,
        progress=True,
    )
    assert bars.titles[3:] == ["ais", "temperatures", "long chains", "temperatures"]


def test_what_runs_inside_shows_in_the_same_display(bars):
    with progress.shown("all"), progress.shown("again"):
        assert list(progress.track("ab", "letters")) == ["a", "b"]
        assert list(progress.track("a", "one")) == ["a"]
    assert bars.titles == ["all", "letters"]
    assert list(progress.track("ab", "after")) == ["a", "b"]
    assert bars.titles == ["all", "letters"]


def test_a_bar_goes_when_its_work_fails(bars):
    with pytest.raises(ZeroDivisionError), progress.shown("all"):
        list(map(lambda letter: 1 / 0, progress.track("ab", "letters")))  # noqa: C417
    assert progress._bars.get() is None


def test_commands_show_what_they_do(bars, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "wine", "--model", "gaussian", "--steps", "1", "--out", "run"]) == 0
    for command in ("sample run --out a.csv", "score run wine --out a.npy", "evaluate run wine"):
        assert main(command.split()) == 0
    assert {"sample", "score", "evaluate", "measures"} <= set(bars.titles)


def test_nothing_is_shown_without_a_terminal(capsys, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    with progress.shown("all"):
        assert list(progress.track("ab", "letters")) == ["a", "b"]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.shown("all"):
        pass
    assert "all" in capsys.readouterr().err
