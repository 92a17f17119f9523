"""Target: a distribution of which something is known exactly."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from likely.core.domain import Domain


@dataclass(frozen=True)
class Target:
    """A distribution whose truth is known, each part where it is.

    Attributes
    ----------
    name : str
    domain : Domain
    sample : callable (n, seed) -> Tensor of shape (n, *domain.shape), optional
        Exact, independent draws.
    log_prob : callable (x) -> Tensor of shape (n,), optional
        Normalised log-density in nats.
    energy : callable (x) -> Tensor of shape (n,), optional
        −log of the unnormalised density.
    log_z : float, optional
        Log of the normalising constant that belongs to `energy`.
    entropy : float, optional
        In nats.
    mean, covariance : Tensor, optional
        Of the flattened sample.
    modes : Tensor, shape (modes, *domain.shape), optional
        Centres of separate modes.
    mode_weights : Tensor, shape (modes,), optional
        What part of all samples each of them holds.
    mode_width : float, optional
        Standard deviation of every mode along each coordinate, where they are round and alike.
    """

    name: str
    domain: Domain
    sample: Callable[[int, int], Tensor] | None = None
    log_prob: Callable[[Tensor], Tensor] | None = None
    energy: Callable[[Tensor], Tensor] | None = None
    log_z: float | None = None
    entropy: float | None = None
    mean: Tensor | None = None
    covariance: Tensor | None = None
    modes: Tensor | None = None
    mode_weights: Tensor | None = None
    mode_width: float | None = None
    context: Domain | None = None
