"""The loop under `fit`: budget, validation, checkpoints."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from likely.contract.abilities import Calibrates
from likely.contract.model import GenerativeModel
from likely.contract.training import Batch
from likely.core.errors import Stop
from likely.core.random import seeded
from likely.fitting import memory, processes
from likely.fitting.folder import RunFolder
from likely.fitting.history import History
from likely.fitting.minutes import Minutes
from likely.fitting.plan import Plan
from likely.fitting.progress import Progress
from likely.fitting.sources import VALID_SEED, Source

PATIENCE = 10  # validations without a better score before the rate falls, without a budget
MAX_STEPS = 200_000  # without a budget
LOST_CAUSE = 0.3  # part of a budget without a better score after which training stops

Watch = Callable[[GenerativeModel], dict[str, float]]
OnValidation = Callable[[int, dict[str, Any], GenerativeModel], None]


@dataclass
class State:
    """All numbers that the next advance depends on, beyond weights and generators.

    Attributes
    ----------
    total : int, optional
        Number of all advances, once known.
    length, shift : float
        The progress after a advances is (a − shift)/length: a/total, unless `total` changes on the way,
        which bends it and does not break it.
    sums : dict
        Of each training loss since the last row of the history: sum and count.
    """

    history: History = field(default_factory=History)
    advances: int = 0
    total: int | None = None
    length: float = 0.0
    shift: float = 0.0
    validating: float = 0.0  # seconds, of all validations …
    last_validation: float = 0.0  # … and of the last
    # Advances, seconds and seconds of validations from which on `Minutes` measures the pace.
    measured: tuple[int, float, float] = (0, 0.0, 0.0)
    best: dict[str, Tensor] | None = None
    best_at: int = 0
    stopped: bool = False
    sums: dict[str, list[float]] = field(default_factory=dict)
    # Of training by gradients.
    stage: int = 0
    factor: float = 1.0  # of the rate, without a budget
    reductions: int = 0
    rollbacks: int = 0  # seen so far
    skipped_in_row: dict[str, int] = field(default_factory=dict)

    @property
    def progress(self) -> float:
        """Part of the budget that is spent."""
        return (self.advances - self.shift) / self.length if self.length else 0.0

    def plan_for(self, total: int) -> None:
        """Set the number of all advances; what is left of the progress is spread over those to come."""
        done, left = self.progress, total - self.advances
        self.total = total
        if done >= 1:  # a first step took most of the time, and the plan was far too short
            done = 0.5
        if left > 0:
            self.length = left / (1 - done) if done else total
            self.shift = self.advances - done * self.length if done else 0.0


@dataclass(eq=False)
class Loop:
    """One fit.

    A subclass says what one advance is: a step of gradient descent, or a pass over the data.
    Progress through a budget is counted in advances.
    """

    model: GenerativeModel
    source: Source
    plan: Plan
    fabric: Fabric
    watch: Watch | None = None
    on_validation: Sequence[OnValidation] = ()
    validate_every = 1  # advances

    def __post_init__(self) -> None:
        self.state = State()
        self.minutes = None if self.plan.minutes is None else Minutes(60 * self.plan.minutes)
        self.order: tuple[int, Tensor] | None = None  # an epoch, and the order of its rows

    # What a subclass writes.

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        raise NotImplementedError

    def total(self) -> int | None:
        """The number of advances in the budget, if it is known from the start."""
        raise NotImplementedError

    def begin(self) -> None:
        """Get ready to advance, after the model has been prepared or loaded."""

    def advance(self) -> None:
        """Take one step or pass."""
        raise NotImplementedError

    def more_state(self) -> dict[str, Any]:
        """What `restore_more` needs: state of optimizers, say."""
        return {}

    def restore_more(self, state: dict[str, Any]) -> None:
        """Resume from what `more_state` gave."""

    @property
    def scored(self) -> GenerativeModel:
        """The model that is validated and kept."""
        return self.model

    def rate(self) -> float:
        """The learning rate of the next advance."""
        return 0.0

    def worse(self) -> bool:
        """Called when validation has not improved; whether to stop."""
        patience = PATIENCE * self.validate_every
        if self.state.total is not None:
            patience = max(patience, math.ceil(LOST_CAUSE * self.state.total))
        return self.state.advances - self.state.best_at >= patience

    # The loop.

    def run(self, folder: RunFolder | None, bar: Progress) -> History:
        """Train until the budget is spent, validation has stopped improving, or EM has converged."""
        device = self.fabric.device
        self.model.to(device)
        checkpoint = None if folder is None else processes.first(self.fabric, folder.read_state)
        if checkpoint is None:
            if folder is not None:
                folder.write_decisions(folder.decisions)
            if (total := self.total()) is not None:
                self.state.plan_for(total)
            self.model.load_training_state({})
            if not self.model.prepared:
                self.model.prepare(self.source.prepare(self.plan.seed).to(device))
            processes.share_weights(self.fabric, self.model)
            self.begin()
        else:
            self._restore(checkpoint)
        if folder is not None:
            if self.minutes is not None:
                self.minutes.decisions = list(folder.decisions)
            folder.save(self._checkpoint(), self.state.history)
        state = self.state
        started = time.perf_counter() - state.history.seconds
        self.model.train()
        while not self._finished():
            self.advance()
            state.advances += 1
            state.history.seconds, due = processes.agree(
                self.fabric, time.perf_counter() - started, folder is not None and folder.due()
            )
            self._settle_minutes(folder)
            if state.advances % self.validate_every == 0 or state.advances == state.total:
                self._validate()
                self._tell(folder)
                (seconds,) = processes.agree(self.fabric, time.perf_counter() - started)
                state.last_validation = seconds - state.history.seconds
                state.validating += state.last_validation
            if folder is not None and due:
                folder.save(self._checkpoint(), state.history)
            rows = state.history.rows
            bar.show(state.advances, state.total, rows[-1] if rows else None)
        best = state.best if self.plan.early_stopping else None
        self.model.load_state_dict(best or self.scored.state_dict())
        processes.share_weights(self.fabric, self.model)
        self.model.eval()
        with seeded(self.plan.seed, device):  # the same in all processes, and if it is done again
            self.model.finish(self.source.prepare(self.plan.seed).to(device))
            if isinstance(self.model, Calibrates):
                self.model.calibrate(self.source.held_out().to(device))
        state.history.seconds = time.perf_counter() - started
        state.history.peak_memory = memory.peak()
        if folder is not None:
            folder.save(self._checkpoint(), state.history)
            folder.finish(self.model)
        return state.history

    def _finished(self) -> bool:
        most = MAX_STEPS if self.state.total is None else self.state.total
        return self.state.stopped or self.state.advances >= most

    def _settle_minutes(self, folder: RunFolder | None) -> None:
        """Fix how many advances the minutes allow, or repeat what was decided here before."""
        if (minutes := self.minutes) is None:
            return
        state = self.state
        total = minutes.replay(state.advances)
        if total is None:
            total = minutes.decide(state, self.validate_every)
            if total is not None and folder is not None:
                folder.write_decisions(minutes.decisions)
        if total is not None:
            state.plan_for(total)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the `start`-th on; the order depends on seed and epoch only."""
        if self.order is None or self.order[0] != epoch:
            order = self.source.order(self.plan.seed * 1_000_003 + epoch)
            self.order = epoch, torch.as_tensor(order)
        size = self.plan.batch
        for i in range(start, self.batches_per_epoch):
            index = processes.part(self.fabric, self.order[1][i * size : (i + 1) * size])
            batch = self.source.batch(index).to(self.fabric.device)
            batch.step = self.state.history.steps
            batch.progress = self.progress()
            yield batch

    def progress(self) -> float:
        """What a batch is told of the progress through the budget."""
        return self.state.progress

    def note(self, name: str, loss: float) -> None:
        """Remember a training loss for the next row of the history."""
        sums = self.state.sums.setdefault(name, [0.0, 0.0])
        sums[0] += loss
        sums[1] += 1

    def _validate(self) -> None:
        """Score the validation split with fixed noise, write a row, keep the best weights."""
        scored, state, history = self.scored, self.state, self.state.history
        scored.eval()
        (score, doubt, figures), watched = processes.first(
            self.fabric, lambda: (self.source.score(scored), self._watched(scored))
        )
        scored.train()
        history.rows.append(
            {
                "step": history.steps,
                "epoch": history.steps / self.batches_per_epoch,
                "seconds": round(history.seconds, 3),
                **{name: total / count for name, (total, count) in state.sums.items()},
                "rate": self.rate(),
                "skipped": history.skipped,
                **({"rollbacks": back} if (back := self.model.rollback_count) else {}),
                "valid": score,
                **figures,
                **watched,
            }
        )
        state.sums = {}
        if score is None or math.isnan(score):
            return
        # Of scores that their common error leaves open, the last counts: the best would be luck.
        if history.best is None or score > history.best - 2 * doubt:
            history.best = score if history.best is None else max(score, history.best)
            state.best_at = state.advances
            state.best = {k: v.detach().clone() for k, v in scored.state_dict().items()}
        elif self.plan.early_stopping and self.worse():
            state.stopped = True

    def _watched(self, model: GenerativeModel) -> dict[str, float]:
        if self.watch is None:
            return {}
        with seeded(VALID_SEED, self.fabric.device):
            return self.watch(model)

    def _tell(self, folder: RunFolder | None) -> None:
        """Call `on_validation` with a new row, once also over several sessions."""
        row, scored = self.state.history.rows[-1], self.scored

        def tell() -> str | None:
            if folder is not None and not folder.first_told(row["step"]):
                return None
            with seeded(VALID_SEED, self.fabric.device):
                for call in self.on_validation:
                    try:
                        call(row["step"], dict(row), scored)
                    except Stop as stop:
                        return str(stop) or "by on_validation"
            return None

        if self.on_validation:
            scored.eval()
            self.state.history.stopped = processes.first(self.fabric, tell)
            self.state.stopped |= self.state.history.stopped is not None
            scored.train()

    # Checkpoints.

    def _checkpoint(self) -> dict[str, Any]:
        device = self.fabric.device
        own = {
            "training": self.model.training_state(),
            "generator": torch.get_rng_state(),
            "device_generator": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        return {
            "model": dict(self.model.state_dict()),
            "state": vars(self.state) | {"history": vars(self.state.history)},
            "more": self.more_state(),
            "processes": processes.gather(self.fabric, own),
        }

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        numbers = checkpoint["state"]
        self.state = State(**numbers | {"history": History(**numbers["history"])})
        self.begin()
        self.model.load_state_dict(checkpoint["model"])
        own = checkpoint["processes"][self.fabric.global_rank]
        self.model.load_training_state(own["training"])
        self.restore_more(checkpoint["more"])
        torch.set_rng_state(own["generator"])
        device = self.fabric.device
        # A checkpoint of a GPU may go on on a CPU.
        if own["device_generator"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(own["device_generator"], device)
