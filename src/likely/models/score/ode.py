"""Densities of score models through an ordinary differential equation that carries rows to a Gaussian."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from likely.contract import LOG_TWO_PI
from likely.core.likelihood import Estimator, Kind, importance_bound, mean_and_error
from likely.models.score.base import Columns, PerRow, ScoreModel
from likely.nets.unet import UNet
from likely.numerics.ode import check_tolerance, solve

Divergence = Literal["auto", "exact", "hutchinson"]

EXACT_DIMENSIONS = 64  # largest number for which "auto" uses the exact divergence


class ODEModel(ScoreModel):
    """A score model whose rows follow an ODE to a standard Gaussian; a subclass writes `_log_density`."""

    density = Kind.ESTIMATE
    tolerance: float  # of the solver

    def _through_ode(
        self, divergence: Divergence, draws: int | None, tolerance: float | None
    ) -> Estimator:
        """What `log_likelihood` computes, given the options that its documentation explains."""
        solved_to = self.tolerance if tolerance is None else tolerance
        check_tolerance(solved_to, self.view.scale.dtype)
        cheap = self.dim <= EXACT_DIMENSIONS and not isinstance(self.net, UNet)
        exact = divergence == "exact" or (divergence == "auto" and cheap)
        count = 1 if exact and self.view.exact else draws or 4
        reduce = importance_bound if exact else mean_and_error

        def estimate(x: Tensor, context: Tensor | None) -> Tensor:
            terms = []
            for _ in range(count):
                z, log_det = self.view(x)
                terms.append(self._log_density(z, context, exact, solved_to) + log_det)
            return reduce(torch.stack(terms))

        return Estimator(estimate, Kind.ESTIMATE, tolerance=solved_to)

    def _log_density(
        self, z: Columns, context: Tensor | None, exact: bool, tolerance: float
    ) -> PerRow:
        """log p(z), with the exact divergence or that along a random direction."""
        raise NotImplementedError


def carried_log_density(
    drift: Callable[[Tensor, Columns], Columns],
    u: Columns,
    low: float,
    high: float,
    exact: bool,
    tolerance: float,
) -> PerRow:
    """log p(u) at time `low`, where du/dt = drift(t, u) carries p to N(0, 1) at time `high`.

    The divergence is exact, at the cost of a backward pass for each column, or estimated.
    """
    probe = None if exact else torch.randint_like(u, 2) * 2 - 1

    def field(t: Tensor, state: Tensor) -> Tensor:
        with torch.enable_grad():
            at = state[:, :-1].requires_grad_()
            rate = drift(t, at)
            trace = divergence_of(rate, at, probe)
        return torch.cat([rate.detach(), trace[:, None]], 1)

    end = solve(field, torch.cat([u, torch.zeros_like(u[:, :1])], 1), low, high, tolerance)
    return end[:, -1] - (end[:, :-1].square() + LOG_TWO_PI).sum(1) / 2


def divergence_of(field: Columns, u: Columns, probe: Columns | None) -> PerRow:
    """Σ_i ∂field_i/∂u_i of each row, or its estimate vᵀ(∂field/∂u)v along a probe v."""
    if probe is not None:
        return (torch.autograd.grad(field, u, probe)[0] * probe).sum(1)
    parts = [
        torch.autograd.grad(column.sum(), u, retain_graph=True)[0][:, i]
        for i, column in enumerate(field.unbind(1))
    ]
    return torch.stack(parts).sum(0)
