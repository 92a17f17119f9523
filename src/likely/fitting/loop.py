"""The loop under `fit`: budget, validation, checkpoints; and its two ways to advance."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from likely.contract.model import GenerativeModel
from likely.contract.training import Batch, Objective, Recipe
from likely.core.errors import DivergenceError, EstimateWarning
from likely.core.likelihood import Kind
from likely.core.random import seeded
from likely.core.runtime import fast_products
from likely.data import Data
from likely.fitting import memory, processes
from likely.fitting.compiling import Compilation
from likely.fitting.folder import Run
from likely.fitting.history import History
from likely.fitting.progress import Progress

PREPARE_ENTRIES = 1 << 20  # numbers that data-dependent initialisation sees
VALID_ENTRIES = 1 << 19  # numbers that one validation scores
VALID_SEED = 0x5EED  # of the noise in every validation
LEAST_BETWEEN, MOST_BETWEEN = 50, 500  # steps between validations: an epoch, within these bounds
WARM_UP = 100  # steps in which the learning rate rises, or a twentieth of the budget
PATIENCE = 10  # validations without a better score before the rate falls, without a budget
REDUCTIONS = 2  # how often it falls, each time to a third, before training stops
LONGEST = 200_000  # steps, without a budget
LOST_CAUSE = 0.3  # part of a budget without a better score after which training stops
HOPELESS = 20  # steps skipped in a row before a run is given up
TIMED = 0.05  # part of the minutes after which they are turned into a number of steps


Watch = Callable[[GenerativeModel], dict[str, float]]


class Loop:
    """One fit, and everything that its next step depends on.

    A subclass says what one advance is: a step of gradient descent, or a pass over the data.
    Progress through a budget is counted in advances.
    """

    def __init__(
        self,
        model: GenerativeModel,
        data: Data,
        fabric: Fabric,
        recipe: Recipe,
        seed: int,
        early_stopping: bool,
        watch: Watch | None = None,
        compile: bool = False,
    ) -> None:
        self.model, self.data, self.fabric, self.recipe = model, data, fabric, recipe
        self.seed, self.early_stopping, self.watch = seed, early_stopping, watch
        self.compile = compile
        self.history = History()
        self.total: int | None = None  # advances, once known
        self.advances = 0
        self.minutes: float | None = None
        self.timed_from = 0, 0.0  # advances and seconds after which advances take their usual time
        self.decision: tuple[int, int] | None = None  # total, and the advance at which it was fixed
        self.best: dict[str, Tensor] | None = None
        self.best_at = 0
        self.stopped = False
        self.sums: dict[str, list[float]] = {}  # of losses since the last row: sum and count
        self.order: tuple[int, Tensor] | None = None  # an epoch, and the order of its rows
        self.valid: Batch | None = None

    # What a subclass writes.

    @property
    def batches_per_epoch(self) -> int:
        """Full batches; the rows that are left over differ from epoch to epoch."""
        return max(1, len(self.data.train) // self.recipe.batch)

    between = 1  # advances between validations
    warming = False  # whether advances still take longer than they will

    def plan(self, steps: int | None, epochs: int | None, minutes: float | None) -> None:
        """Turn the budget into a number of advances; minutes follow once advances are timed."""
        raise NotImplementedError

    def begin(self) -> None:
        """Get ready to advance, after the model has been prepared or loaded."""

    def advance(self) -> None:
        """Take one step or pass."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """What `load_state` needs, beyond what every loop keeps."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""

    @property
    def scored(self) -> GenerativeModel:
        """The model that is validated and kept."""
        return self.model

    def rate(self) -> float:
        """The learning rate of the next advance."""
        return 0.0

    def progress(self) -> float:
        """Part of the budget that is spent."""
        return self.advances / self.total if self.total else 0.0

    def worse(self) -> bool:
        """Called when validation has not improved; whether to stop."""
        patience = PATIENCE * self.between
        if self.total is not None:
            patience = max(patience, math.ceil(LOST_CAUSE * self.total))
        return self.advances - self.best_at >= patience

    # The loop.

    def run(self, run: Run | None, bar: Progress) -> History:
        """Train until the budget is spent, validation has stopped improving, or EM has converged."""
        device = self.fabric.device
        self.model.to(device)
        state = None if run is None else processes.first(self.fabric, run.read_state)
        self.valid = self.data.valid.subset(VALID_ENTRIES, VALID_SEED).to(device)
        if state is None:
            if run is not None:
                run.write_plan(advances=self.total, decided_at=0)
            self.model.load_training_state({})
            if not self.model.prepared:
                self.model.prepare(self.data.train.subset(PREPARE_ENTRIES, self.seed).to(device))
            processes.share_weights(self.fabric, self.model)
            self.begin()
        else:
            self.begin()
            self._restore(state)
            assert run is not None
            if self.minutes is not None and run.plan["advances"] is not None:
                self.decision = run.plan["advances"], run.plan["decided_at"]
                self._settle_minutes(run)
        if run is not None:
            run.save(self._state(), self.history)
        started = time.perf_counter() - self.history.seconds
        self.model.train()
        while not self._finished():
            self.advance()
            self.advances += 1
            self.history.seconds, due = processes.agree(
                self.fabric, time.perf_counter() - started, run is not None and run.due()
            )
            if self.advances % self.between == 0 or self.advances == self.total:
                self._validate()
                if run is not None:
                    run.show(self.history.rows[-1])
            self._settle_minutes(run)
            if run is not None and due:
                run.save(self._state(), self.history)
            bar.show(
                self.advances, self.total, self.history.rows[-1] if self.history.rows else None
            )
        if self.best is not None and self.early_stopping:
            self.model.load_state_dict(self.best)
        else:
            self.model.load_state_dict(self.scored.state_dict())
        processes.share_weights(self.fabric, self.model)
        self.model.eval()
        with seeded(self.seed, device):  # the same in all processes, and if it is done again
            self.model.finish(self.data.train.subset(PREPARE_ENTRIES, self.seed).to(device))
        self.history.seconds = time.perf_counter() - started
        self.history.peak_memory = memory.peak()
        if run is not None:
            run.save(self._state(), self.history)
            run.finish(self.model)
        return self.history

    def _finished(self) -> bool:
        return self.stopped or self.advances >= (LONGEST if self.total is None else self.total)

    def _settle_minutes(self, run: Run | None) -> None:
        """Once some advances and a validation are timed, fix how many advances the minutes allow."""
        if self.minutes is None or self.total is not None:
            return
        budget, spent = 60 * self.minutes, self.history.seconds
        if self.decision is None:
            if self.warming:
                self.timed_from = self.advances, spent
            advances, seconds = self.advances - self.timed_from[0], spent - self.timed_from[1]
            least = TIMED * budget * (1 if self.history.rows else 4)
            if not advances or seconds < least:
                return
            left = max(0, int((budget - spent) * advances / seconds))
            self.decision = self.advances + left, self.advances
            if run is not None:
                run.write_plan(advances=self.decision[0], decided_at=self.decision[1])
        # A run that goes on from an older checkpoint takes the decision at the same advance.
        if self.advances >= self.decision[1]:
            self.total = self.decision[0]

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the `start`-th on; the order depends on seed and epoch only."""
        if self.order is None or self.order[0] != epoch:
            self.order = (
                epoch,
                torch.as_tensor(self.data.train.order(self.seed * 1_000_003 + epoch)),
            )
        size = self.recipe.batch
        for i in range(start, self.batches_per_epoch):
            index = processes.part(self.fabric, self.order[1][i * size : (i + 1) * size])
            batch = self.data.train.rows(index).to(self.fabric.device)
            batch.step = self.history.steps
            batch.progress = self.progress()
            yield batch

    def note(self, name: str, loss: float) -> None:
        """Remember a training loss for the next row of the history."""
        sums = self.sums.setdefault(name, [0.0, 0.0])
        sums[0] += loss
        sums[1] += 1

    def _validate(self) -> None:
        """Score the validation split with fixed noise, write a row, keep the best weights."""
        scored, history = self.scored, self.history
        (score, doubt), watched = processes.first(
            self.fabric, lambda: (self._score(scored), self._watched(scored))
        )
        history.rows.append(
            {
                "step": history.steps,
                "epoch": history.steps / self.batches_per_epoch,
                "seconds": round(history.seconds, 3),
                **{name: total / count for name, (total, count) in self.sums.items()},
                "rate": self.rate(),
                "skipped": history.skipped,
                "valid": score,
                **watched,
            }
        )
        self.sums = {}
        if score is None or math.isnan(score):
            return
        # Of scores that their common error leaves open, the last counts: the best would be luck.
        if history.best is None or score > history.best - 2 * doubt:
            history.best = score if history.best is None else max(score, history.best)
            self.best_at = self.advances
            self.best = {k: v.detach().clone() for k, v in scored.state_dict().items()}
        elif self.early_stopping and self.worse():
            self.stopped = True

    def _score(self, model: GenerativeModel) -> tuple[float | None, float]:
        """Mean log-likelihood of the validation split, and the error that all rows share."""
        if model.density == Kind.NONE:
            return None, 0.0
        assert self.valid is not None
        model.eval()
        with warnings.catch_warnings():  # a quick look may be a poor one
            warnings.simplefilter("ignore", EstimateWarning)
            likelihood = model.log_likelihood(
                self.valid.x, self.valid.context, seed=VALID_SEED, **model.validation
            )
        model.train()
        return likelihood.mean(self.valid.weight).value, likelihood.common_stderr

    def _watched(self, model: GenerativeModel) -> dict[str, float]:
        if self.watch is None:
            return {}
        model.eval()
        with seeded(VALID_SEED, self.fabric.device):
            figures = self.watch(model)
        model.train()
        return figures

    # Checkpoints.

    def _state(self) -> dict[str, Any]:
        device = self.fabric.device
        own = {
            "training": self.model.training_state(),
            "generator": torch.get_rng_state(),
            "device_generator": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        return {
            "model": dict(self.model.state_dict()),
            "history": vars(self.history),
            "advances": self.advances,
            "best": self.best,
            "best_at": self.best_at,
            "stopped": self.stopped,
            "sums": self.sums,
            "loop": self.state(),
            "processes": processes.gather(self.fabric, own),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        own = state["processes"][self.fabric.global_rank]
        self.model.load_training_state(own["training"])
        self.history = History(**state["history"])
        for name in ("advances", "best", "best_at", "stopped", "sums"):
            setattr(self, name, state[name])
        self.load_state(state["loop"])
        torch.set_rng_state(own["generator"])
        if own["device_generator"] is not None:
            torch.cuda.set_rng_state(own["device_generator"], self.fabric.device)


class Gradients(Loop):
    """Advances by a step of the recipe's optimizer for each objective."""

    def begin(self) -> None:
        self.objectives = list(self.model.objectives())
        self.compilation = Compilation(self.objectives) if self.compile else None
        self.optimizers = [self._optimizer(objective) for objective in self.objectives]
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.averaged = list(self.average.parameters()), list(self.model.parameters())
        self.rows = min(self.recipe.batch, len(self.data.train))  # of a batch, over all processes
        weight = self.data.train.weight
        self.mean_weight = 1.0 if weight is None else weight.double().mean().item()
        self.skipped_in_row = {objective.name: 0 for objective in self.objectives}
        self.factor = 1.0
        self.taken_back = self.model.taken_back
        self.reductions_left = REDUCTIONS
        self.between = min(max(self.batches_per_epoch, LEAST_BETWEEN), MOST_BETWEEN)

    def _optimizer(self, objective: Objective) -> torch.optim.Optimizer:
        matrices = [p for p in objective.parameters if p.ndim > 1]
        others = [p for p in objective.parameters if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.recipe.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=self.recipe.rate, fused=True)
        return torch.optim.AdamW(groups, lr=self.recipe.rate, betas=self.recipe.betas, fused=True)

    @property
    def warming(self) -> bool:  # type: ignore[override]
        return self.compilation is not None and not self.compilation.done

    def plan(self, steps: int | None, epochs: int | None, minutes: float | None) -> None:
        self.total = epochs * self.batches_per_epoch if epochs is not None else steps
        self.minutes = minutes

    @property
    def scored(self) -> GenerativeModel:
        for averaged, current in zip(self.average.buffers(), self.model.buffers(), strict=True):
            averaged.copy_(current)
        return self.average

    def rate(self) -> float:
        """Warm-up, then a cosine to zero over the budget, or reductions when validation stalls."""
        warm_up = WARM_UP if self.total is None else max(1, min(WARM_UP, self.total // 20))
        rising = min(1.0, (self.advances + 1) / warm_up)
        if self.total is None:
            return self.recipe.rate * rising * self.factor
        return self.recipe.rate * rising * (1 + math.cos(math.pi * self.advances / self.total)) / 2

    def progress(self) -> float:
        """Part of the budget that is spent; without one, of the reductions of the rate."""
        if self.total is None:
            return 1 - self.reductions_left / REDUCTIONS
        return super().progress()

    def worse(self) -> bool:
        if self.total is not None or self.minutes is not None:
            return self.total is not None and super().worse()
        if not super().worse():
            return False
        if not self.reductions_left:
            return True
        self.reductions_left -= 1
        self.factor /= 3
        self.best_at = self.advances
        return False

    def advance(self) -> None:
        with self.compilation.step(self.history) if self.compilation else nullcontext():
            self._step()

    def _step(self) -> None:
        history = self.history
        epoch, start = divmod(history.steps, self.batches_per_epoch)
        batch = next(self.batches(epoch, start))
        share = len(batch) / self.rows
        rate = self.rate()
        for objective, optimizer in zip(self.objectives, self.optimizers, strict=True):
            if history.steps % objective.every:
                continue
            for group in optimizer.param_groups:
                group["lr"] = rate
            for parameter in objective.parameters:
                parameter.grad = None
            with fast_products(self.fabric.device):
                loss = self._loss(objective, batch)
                self.fabric.backward(loss)
            loss = processes.average_gradients(self.fabric, loss, objective.parameters, share)
            norm = nn.utils.get_total_norm(
                [p.grad for p in objective.parameters if p.grad is not None]
            )
            if not (math.isfinite(value := loss.item()) and math.isfinite(length := norm.item())):
                self._skip(objective, batch)
                continue
            if length > self.recipe.clip:
                nn.utils.clip_grads_with_norm_(objective.parameters, self.recipe.clip, norm)
            optimizer.step()
            if objective.after is not None:
                objective.after()
            self.note(objective.name, value)
            self.skipped_in_row[objective.name] = 0
        # The average of a young run forgets its start, and any run what it was taken back from.
        decay = min(self.recipe.ema, (1 + self.advances) / (10 + self.advances))
        if self.model.taken_back != self.taken_back:
            self.taken_back, decay = self.model.taken_back, 0.0
        get_ema_multi_avg_fn(decay)(*self.averaged, None)
        history.steps += 1
        history.rows_seen += self.rows

    def _loss(self, objective: Objective, batch: Batch) -> Tensor:
        with self.fabric.autocast():
            loss = objective.loss(batch)
        if loss.ndim == 0:
            return loss
        if batch.weight is None:
            return loss.mean()
        # Divided by the mean over all rows: a batch's own would take influence from heavy batches.
        return (loss * batch.weight).mean() / self.mean_weight

    def _skip(self, objective: Objective, batch: Batch) -> None:
        self.history.skipped += 1
        self.skipped_in_row[objective.name] += 1
        if self.skipped_in_row[objective.name] >= HOPELESS:
            raise DivergenceError(
                f"objective {objective.name!r}: {HOPELESS} steps in a row up to step "
                f"{self.history.steps} had a loss or gradient that is not finite; the first value "
                f"that is not finite is in {self._culprit(objective, batch)}; "
                "try a lower rate, a smaller clip, or look for outliers in the data"
            )

    def _culprit(self, objective: Objective, batch: Batch) -> str:
        """The first layer whose output, or parameter whose value or gradient, is not finite."""
        found: list[str] = []

        def look(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                outputs = output if isinstance(output, tuple) else (output,)
                if any(isinstance(o, Tensor) and not o.isfinite().all() for o in outputs):
                    found.append(name)

            return hook

        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                return f"parameter {name!r}"
        hooks = [m.register_forward_hook(look(n)) for n, m in self.model.named_modules() if n]
        try:
            with torch.no_grad():
                self._loss(objective, batch)
        finally:
            for handle in hooks:
                handle.remove()
        if found:
            return f"the output of layer {found[0]!r}"
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return f"the gradient of {name!r}"
        return "the loss itself"

    def state(self) -> dict[str, Any]:
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": dict(self.average.state_dict()),
            "skipped_in_row": self.skipped_in_row,
            "factor": self.factor,
            "taken_back": self.taken_back,
            "reductions_left": self.reductions_left,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.average.load_state_dict(state["average"])
        for name in ("skipped_in_row", "factor", "taken_back", "reductions_left"):
            setattr(self, name, state[name])


class Passes(Loop):
    """Advances by a pass over all rows, for models that have an `epoch`."""

    @property
    def batches_per_epoch(self) -> int:
        return math.ceil(len(self.data.train) / self.recipe.batch)

    def plan(self, steps: int | None, epochs: int | None, minutes: float | None) -> None:
        self.total, self.minutes, self.steps = epochs, minutes, steps
        if steps is not None:
            self.total = math.ceil(steps / self.batches_per_epoch)

    def advance(self) -> None:
        left = math.inf if self.steps is None else self.steps - self.history.steps
        for name, value in self.model.epoch(self._counted(left)).items():  # type: ignore[operator]
            self.note(name, value)
        self.stopped = getattr(self.model, "converged", False)

    def _counted(self, left: float) -> Iterator[Batch]:
        for i, batch in enumerate(self.batches(self.advances)):
            if i >= left:
                return
            yield batch
            self.history.steps += 1
            self.history.rows_seen += len(batch)
