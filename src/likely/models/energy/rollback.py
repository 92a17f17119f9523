"""Rollback: what takes the training of an energy back when it has diverged."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from likely.core.errors import DivergenceError

KEPT = 100  # steps between copies of the state; training returns to the last copy but one
IN_A_ROW = 5  # rollbacks without a new copy in between, after which training is given up


class Rollback:
    """Copies of the tensors that training moves, and the decision to return to them.

    The copy that training returns to is at least `KEPT` steps old, or the start: a younger one may be on its
    way already. The optimizer keeps its moments, whose second ones, large from the divergence, make
    the next steps short. Processes that train one model together decide together.
    """

    def __init__(self) -> None:
        self.count = self.in_a_row = self.steps = 0
        self.copies: list[list[Tensor]] = []

    def state(self) -> dict[str, Any]:
        """What `Rollback.load` needs."""
        return dict(vars(self))

    def load(self, state: dict[str, Any]) -> None:
        """Resume from `state`; {} starts again."""
        vars(self).update(vars(Rollback()) | state)

    @torch.no_grad()
    def check(self, figures: dict[str, tuple[float, float]], tensors: Sequence[Tensor]) -> bool:
        """Call once a step: whether figures exceed their limits, and the tensors returned to a copy.

        Parameters
        ----------
        figures : dict of (value, limit)
            NaN exceeds every limit.
        tensors : sequence of Tensor
            What training moves; they keep their shapes from one call to the next.

        Raises
        ------
        DivergenceError
            After several rollbacks that did not help.
        """
        broken = {k: v for k, (v, limit) in figures.items() if not v <= limit}
        if not _any(bool(broken), tensors[0].device):
            if self.steps % KEPT == 0:
                self.copies = [*self.copies[-1:], [tensor.detach().clone() for tensor in tensors]]
                self.in_a_row = 0
            self.steps += 1
            return False
        why = ", ".join(f"{name} {value:.3g}" for name, value in broken.items()) or "elsewhere"
        if not self.copies or self.in_a_row >= IN_A_ROW:
            raise DivergenceError(
                f"the energy diverges ({why}) after {self.in_a_row} rollbacks in a row: "
                "try a lower rate, a smaller clip, spectral_norm=True, energy_l2=0.01 or a larger k"
            )
        warnings.warn(f"the energy diverged ({why}): back to the last good state", stacklevel=2)
        for tensor, copy in zip(tensors, self.copies[0], strict=True):
            tensor.copy_(copy)
        self.copies = self.copies[:1]
        self.steps = 1  # the next copy is made after as many good steps
        self.count, self.in_a_row = self.count + 1, self.in_a_row + 1
        return True


def _any(flag: bool, device: torch.device) -> bool:
    """Whether it is set in any of the processes that train together."""
    if not (dist.is_available() and dist.is_initialized()):
        return flag
    number = torch.tensor(float(flag), device=device)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return bool(number)
