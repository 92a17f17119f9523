"""Training by gradients: one advance is a step of each objective."""

import copy
import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from likely.contract.model import GenerativeModel
from likely.contract.training import Batch, Objective
from likely.core.errors import DivergenceError, LikelyError
from likely.core.runtime import check_compilable, compiled, fast_products
from likely.fitting import processes
from likely.fitting.loop import Loop

MIN_VALIDATE, MAX_VALIDATE = 50, 500  # steps between validations: an epoch, within these bounds
WARM_UP = 100  # steps in which the learning rate rises, or a twentieth of the budget
REDUCTIONS = 2  # how often the rate falls without a budget, each time to a third, before the end
HOPELESS = 20  # steps skipped in a row before a run is given up


class Gradients(Loop):
    """Advances by a step of the optimizer for each objective."""

    def begin(self) -> None:
        self.rows = min(self.plan.batch, len(self.source))  # of a batch, over all processes
        self.validate_every = min(max(self.batches_per_epoch, MIN_VALIDATE), MAX_VALIDATE)
        self.phases = self.source.stages(self.model)
        if len(self.phases) > 1 and self.total() is None and self.minutes is None:
            raise LikelyError(
                f"{type(self.model).__name__} trains in stages: give a budget (steps, epochs or minutes)"
            )
        if self.plan.compile:
            torch.compiler.reset()  # there is a limit for all models of a process together
        for stage in range(self.state.stage + 1):
            self._enter(stage)

    def _enter(self, stage: int) -> None:
        """Begin a stage: its objectives, with new optimizers and a new average."""
        self.objectives = self.phases[stage].objectives()
        self.model.to(self.fabric.device)  # what a stage may have added, too
        if self.plan.compile:
            self.objectives = [replace(o, loss=compiled(o.loss)) for o in self.objectives]
        self.optimizers = [self._optimizer(objective) for objective in self.objectives]
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.averaged = tuple(
            [*model.parameters(), *(model.get_buffer(name) for name in model.averaged)]
            for model in (self.average, self.model)
        )
        self.state.stage = stage
        shares = [phase.share for phase in self.phases]
        self.before, self.share = sum(shares[:stage]), shares[stage]

    def _optimizer(self, objective: Objective) -> torch.optim.Optimizer:
        def own(option: str) -> Any:
            value = getattr(objective, option)
            return getattr(self.plan, option) if value is None else value

        matrices = [p for p in objective.parameters if p.ndim > 1]
        others = [p for p in objective.parameters if p.ndim <= 1]
        decays = (matrices, own("weight_decay")), (others, 0.0)
        groups = [{"params": params, "weight_decay": decay} for params, decay in decays if params]
        if self.plan.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=own("rate"), fused=True)
        return torch.optim.AdamW(groups, lr=own("rate"), betas=own("betas"), fused=True)

    @property
    def batches_per_epoch(self) -> int:
        """Full batches; the rows that are left over differ from epoch to epoch."""
        return max(1, len(self.source) // self.plan.batch)

    def total(self) -> int | None:
        epochs = self.plan.epochs
        return self.plan.steps if epochs is None else epochs * self.batches_per_epoch

    @property
    def scored(self) -> GenerativeModel:
        """The average; buffers that are not averaged are those of the last step."""
        moving = set(self.model.averaged)
        current = dict(self.model.named_buffers())
        for name, buffer in self.average.named_buffers():
            if name not in moving:
                buffer.copy_(current[name])
        return self.average

    def rate(self) -> float:
        return self._scaled(self.plan.rate)

    def _scaled(self, rate: float) -> float:
        """Warm-up, then a cosine to zero over each stage, or reductions when validation stalls."""
        state = self.state
        done = state.advances - state.shift - self.before * state.length  # of this stage …
        length = self.share * state.length  # … and of all its advances
        warm_up = WARM_UP if not length else max(1, min(WARM_UP, int(length) // 20))
        rising = min(1.0, (done + 1) / warm_up)
        if not length:
            return rate * rising * state.factor
        return rate * rising * (1 + math.cos(math.pi * done / length)) / 2

    def progress(self) -> float:
        """Part of the budget that is spent; without one, of the reductions of the rate."""
        if self.state.total is None:
            return self.state.reductions / REDUCTIONS
        return self.state.progress

    def worse(self) -> bool:
        state = self.state
        if state.total is not None or self.minutes is not None:
            last = state.stage == len(self.phases) - 1
            return last and state.total is not None and super().worse()
        if not super().worse():
            return False
        if state.reductions == REDUCTIONS:
            return True
        state.reductions += 1
        state.factor /= 3
        state.best_at = state.advances
        return False

    def advance(self) -> None:
        state, history = self.state, self.state.history
        ends = self.before + self.share
        if state.stage + 1 < len(self.phases) and state.progress >= ends:
            self.model.load_state_dict(self.scored.state_dict())
            if (prepare := self.phases[state.stage + 1].prepare) is not None:
                prepare(self.source.prepare(self.plan.seed).to(self.fabric.device))
                processes.share_weights(self.fabric, self.model)
            self._enter(state.stage + 1)
            state.best = history.best = None  # weights of one stage do not fit the next
        epoch, start = divmod(history.steps, self.batches_per_epoch)
        batch = next(self.batches(epoch, start))
        for objective, optimizer in zip(self.objectives, self.optimizers, strict=True):
            if history.steps % objective.every:
                continue
            rate = self.plan.rate if objective.rate is None else objective.rate
            for group in optimizer.param_groups:
                group["lr"] = self._scaled(rate)
            for _ in range(objective.steps):
                self._step(objective, optimizer, batch)
        # The average of a young run forgets its start, and any run what it was rolled back from.
        decay = min(self.plan.ema, (1 + state.advances) / (10 + state.advances))
        if self.model.rollback_count != state.rollbacks:
            state.rollbacks, decay = self.model.rollback_count, 0.0
        get_ema_multi_avg_fn(decay)(*self.averaged, None)
        history.steps += 1
        history.rows_seen += self.rows

    def _step(self, objective: Objective, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
        """One step of an objective; one whose loss or gradient is not finite is skipped and counted."""
        for parameter in objective.parameters:
            parameter.grad = None
        with fast_products(self.fabric.device), check_compilable("loss"):
            loss = torch.zeros((), device=self.fabric.device)
            for part in batch.parts(self.plan.accumulate):
                of_part = self._loss(objective, part) * (len(part) / len(batch))
                self.fabric.backward(of_part)
                loss = loss + of_part.detach()
        share = len(batch) / self.rows
        loss = processes.average_gradients(self.fabric, loss, objective.parameters, share)
        norm = nn.utils.get_total_norm([p.grad for p in objective.parameters if p.grad is not None])
        if not (math.isfinite(value := loss.item()) and math.isfinite(length := norm.item())):
            self._skip(objective, batch)
            return
        if length > self.plan.clip:
            nn.utils.clip_grads_with_norm_(objective.parameters, self.plan.clip, norm)
        optimizer.step()
        if objective.after is not None:
            objective.after()
        self.note(objective.name, value)
        self.state.skipped_in_row[objective.name] = 0

    def _loss(self, objective: Objective, batch: Batch) -> Tensor:
        with self.fabric.autocast():
            loss = objective.loss(batch)
        return batch.mean(loss)

    def _skip(self, objective: Objective, batch: Batch) -> None:
        self.state.history.skipped += 1
        skipped = self.state.skipped_in_row
        skipped[objective.name] = skipped.get(objective.name, 0) + 1
        if skipped[objective.name] >= HOPELESS:
            raise DivergenceError(
                f"objective {objective.name!r}: {HOPELESS} steps in a row up to step "
                f"{self.state.history.steps} had a loss or gradient that is not finite; the first "
                f"value that is not finite is in {self._culprit(objective, batch)}; "
                "try a lower rate, a smaller clip, or look for outliers in the data"
            )

    def _culprit(self, objective: Objective, batch: Batch) -> str:
        """The first layer whose output, or parameter whose value or gradient, is not finite."""
        found: list[str] = []

        def look(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            if any(isinstance(o, Tensor) and not o.isfinite().all() for o in outputs):
                found.append(name)

        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                return f"parameter {name!r}"
        hooks = [
            m.register_forward_hook(partial(look, n)) for n, m in self.model.named_modules() if n
        ]
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

    def more_state(self) -> dict[str, Any]:
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": dict(self.average.state_dict()),
        }

    def restore_more(self, state: dict[str, Any]) -> None:
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.average.load_state_dict(state["average"])
