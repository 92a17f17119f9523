"""Minutes as a number of advances, which follows the pace of the machine.

After a twentieth of the time the advances that fit into the rest are counted. They are counted again
whenever a twentieth of the time left has passed, or half of the advances left; a count that is off by less
than a hundredth stays. When the time is up, training ends. Each decision is written down before training
acts on it, and a resumed run repeats it.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likely.fitting.loop import State

FIRST = 0.05  # part of the time after which the first decision is taken
AGAIN = 0.05  # part of the time left after which the next one may be
TOLERATED = 0.01  # relative error of the count that is left as it is


@dataclass
class Minutes:
    """A budget of time.

    Attributes
    ----------
    budget : float
        Seconds, of advances and validations.
    decisions : list of (int, int)
        The advance at which each was taken, and the number of all advances.
    """

    budget: float
    decisions: list[tuple[int, int]] = field(default_factory=list)

    def replay(self, advances: int) -> int | None:
        """The number of all advances that was decided at this one."""
        return dict(self.decisions).get(advances)

    def decide(self, state: "State", every: int) -> int | None:
        """A new number of all advances, or None to leave it as it is.

        Parameters
        ----------
        state : State
            Of the loop, where the present measurement begins at `state.measured`.
        every : int
            Advances between validations.
        """
        advances, spent = state.advances, state.history.seconds
        if self.decisions and advances <= self.decisions[-1][0]:
            return None  # a resumed run is where decisions were taken before
        total = self.decisions[-1][1] if self.decisions else None
        left = self.budget - spent - state.last_validation
        if left <= 0:
            return None if total == advances else self._note(advances, advances)
        since, at, in_validations = state.measured
        n, seconds = advances - since, spent - at - (state.validating - in_validations)
        wanted = FIRST * self.budget if total is None else AGAIN * (self.budget - at)
        soon_over = total is not None and 2 * n >= total - since
        if n == 0 or (spent - at < wanted and not soon_over):
            return None
        state.measured = advances, spent, state.validating
        fitting = advances + max(1, int(left / (seconds / n + state.last_validation / every)))
        if total is not None and abs(fitting - total) <= TOLERATED * (total - advances):
            return None
        return self._note(advances, fitting)

    def _note(self, advances: int, total: int) -> int:
        self.decisions.append((advances, total))
        return total
