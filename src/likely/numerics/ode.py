"""Solutions of ordinary differential equations, for flows in continuous time."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from likely.core.errors import DivergenceError, LikelyError


def solve(
    field: Callable[[Tensor, Tensor], Tensor],
    start: Float[Tensor, "n columns"],
    low: float,
    high: float,
    tolerance: float,
) -> Float[Tensor, "n columns"]:
    """The solution of an ODE at `high`, by Dormand and Prince's steps, to a tolerance for each row.

    Sums are in float64: in float32 the rounding of some hundred terms would show.

    Parameters
    ----------
    field : callable (t, y) -> dy/dt
        In the type of `start`; t is a number without dimensions.
    start : Tensor, shape (n, columns)
        y at `low`, which may lie above `high`.
    low, high : float
    tolerance : float
        Relative and absolute; rows are held to it one by one, so that none hides among others.

    Raises
    ------
    DivergenceError
        If the field is not finite somewhere on the way.
    """
    if not len(start):
        return start
    dtype = start.dtype
    times = torch.tensor([low, high], dtype=torch.float64, device=start.device)
    # Steps are at most 1, also where nothing moves, and end at the end: beyond it a field may overflow.
    options = {
        "norm": lambda y: y.square().mean(-1).sqrt().max(),
        "max_step": 1.0,
        "step_t": times[1:],
    }

    def wide(t: Tensor, y: Tensor) -> Tensor:
        return field(t.to(dtype), y.to(dtype)).double()

    from torchdiffeq import odeint  # which imports much of SciPy

    try:
        states = odeint(
            wide, start.double(), times, rtol=tolerance, atol=tolerance, options=options
        )
    except AssertionError as error:  # steps that shrink to nothing
        raise DivergenceError(
            "the ODE has no solution that can be followed: its field is not finite, or too steep. Are the "
            "model's weights finite, and the rows anywhere near those it was trained on?"
        ) from error
    return states[-1].to(dtype)


def check_tolerance(tolerance: float, dtype: torch.dtype) -> None:
    """Raise a `LikelyError` for a tolerance below the rounding of a field's numbers, or of 1 or more."""
    least = torch.finfo(dtype).eps
    if not least <= tolerance < 1:
        raise LikelyError(
            f"tolerance={tolerance}: give {least:.1g}, the rounding of the network's numbers, or "
            "more, and less than 1"
        )


Rates = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def runge_kutta(
    rates: Rates, z: Float[Tensor, "n d"], times: Sequence[float]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "*k n"]]:
    """dz/dt = f and a running integral ∫ g dt, by classical steps of fourth order between `times`.

    Parameters
    ----------
    rates : callable (t, z) -> (f, g)
        g has shape (*k, n), and need not depend on its own integral.
    z : Tensor, shape (n, d)
    times : sequence of float
        Backwards in time, too.
    """
    total: Tensor | float = 0.0
    for start, stop in pairwise(times):
        h, slopes = stop - start, list[Tensor]()
        # Weights of the four evaluations, and how far along the step each is made.
        for weight, along in ((1, 0.0), (2, 0.5), (2, 0.5), (1, 1.0)):
            at = z + along * h * slopes[-1] if slopes else z
            f, g = rates(z.new_tensor(start + along * h), at)
            slopes.append(f)
            total = total + weight * h / 6 * g
        z = z + h / 6 * (slopes[0] + 2 * (slopes[1] + slopes[2]) + slopes[3])
    assert isinstance(total, Tensor)
    return z, total


def random_times(steps: int) -> list[float]:
    """Where `steps` + 1 steps from 0 to 1 meet: a field could learn to err in fixed ones to its advantage."""
    inner = (torch.arange(steps) + torch.rand(())) / steps
    return [0.0, *inner.tolist(), 1.0]
