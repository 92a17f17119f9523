"""Target: a distribution of which something is known exactly."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass

from jaxtyping import Float
from torch import Tensor

from likely.core.domain import Domain
from likely.core.errors import LikelyError


@dataclass(frozen=True)
class Target:
    """A distribution whose truth is known, each part where it is.

    Parameters
    ----------
    domain : Domain
    name : str
    sample : callable (n, seed) -> Tensor of shape (n, *domain.shape), optional
        Exact, independent draws.
    log_prob : callable (x) -> Tensor of shape (n,), optional
        Normalised log-density in nats.
    energy : callable (x) -> Tensor of shape (n,), optional
        −log of the unnormalised density; with a context a callable (x, context).
    context : Domain, optional
        Of the parameters on which a family of distributions depends; only its energy is known then.
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
    observables : mapping of str to float, optional
        Exact expectations by name, which is that of the function in `likely.targets`, if there is one.

    Raises
    ------
    LikelyError
        If a domain is none.

    Examples
    --------
    >>> import likely as lk
    >>> ring = Target(lk.reals(2), energy=lambda x: 8 * (x.norm(dim=1) - 2) ** 2)
    """

    domain: Domain
    _: KW_ONLY
    name: str = "target"
    sample: Callable[[int, int], Tensor] | None = None
    log_prob: Callable[[Tensor], Tensor] | None = None
    energy: Callable[..., Tensor] | None = None
    context: Domain | None = None
    log_z: float | None = None
    entropy: float | None = None
    mean: Tensor | None = None
    covariance: Tensor | None = None
    modes: Tensor | None = None
    mode_weights: Tensor | None = None
    mode_width: float | None = None
    observables: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.domain, Domain):
            raise LikelyError(
                f"Target: give a domain first, such as lk.reals(2), not {self.domain!r}"
            )
        if not isinstance(self.context, Domain | None):
            raise LikelyError(f"Target: context= takes a domain, not {self.context!r}")

    def energies(self, x: Tensor, context: Tensor | None = None) -> Float[Tensor, " n"]:
        """The energy of rows, or −log p where only that is known, checked.

        Raises
        ------
        LikelyError
            If there is none, or it is not a real number for each row.
        """
        if self.energy is not None:
            value = self.energy(x) if self.context is None else self.energy(x, context)
        elif self.log_prob is not None:
            value = -self.log_prob(x)
        else:
            raise LikelyError(f"{self.name}: there is neither an energy nor a density")
        check_values(value, len(x), f"{self.name}: the energy")
        if not value.is_floating_point():
            kind = str(value.dtype)[6:]
            raise LikelyError(
                f"{self.name}: the energy is of type {kind}, not a real number: return floats"
            )
        return value


def check_values(value: Tensor, n: int, what: str) -> None:
    """Raise a `LikelyError` unless a user's function has returned a number for each of n rows."""
    if not isinstance(value, Tensor):
        raise LikelyError(
            f"{what} returned a {type(value).__name__}, not a tensor: compute it with torch"
        )
    if value.shape != (n,):
        raise LikelyError(
            f"{what} of {n} rows has shape {tuple(value.shape)}, not ({n},): reduce the entries of each row "
            "to one number"
        )
    if value.isnan().any():
        raise LikelyError(
            f"{what} of {int(value.isnan().sum())} of {n} rows is NaN: give it a value everywhere, an "
            "energy +inf where a state is impossible"
        )
