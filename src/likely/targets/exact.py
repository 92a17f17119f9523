"""How a target is put together: seeded draws, rounding to float32, and −inf outside the support."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.distributions import Distribution

from likely.core.columns import Discrete, Interval
from likely.core.domain import Domain
from likely.core.errors import DataError, DomainError
from likely.core.random import seeded
from likely.core.target import Target


def exact_target(
    name: str,
    domain: Domain,
    draw: Callable[[int], Tensor],
    log_density: Callable[[Tensor], Tensor],
) -> Target:
    """A target from a sampler and a normalised density, both in float64 (int64 where discrete).

    Parameters
    ----------
    name : str
    domain : Domain
    draw : callable (n) -> Tensor of shape (n, *domain.shape)
        Exact draws by torch's global generator.
    log_density : callable (x) -> Tensor of shape (n,)
        In nats; it only sees rows inside the domain.

    Returns
    -------
    Target
        Draws are float32 (int64 on a discrete domain). Densities are computed in float64 and
        returned in the type of x, or in float64 where that is no floating one; they are
        differentiable, and −inf outside the domain. `energy` is −log_prob, and `log_z` 0.
    """

    def sample(n: int, seed: int) -> Tensor:
        with torch.no_grad(), seeded(seed):
            x = draw(max(n, 1))[:n]  # torch's multinomial cannot draw nothing
        return x if domain.discrete else _rounded(x, domain)

    def log_prob(x: Tensor) -> Tensor:
        if x.shape[1:] != domain.shape:
            raise DataError(f"{name}: rows of shape {(*x.shape[1:],)}, not {domain.shape}")
        inside = domain.contains(x)
        rows = x.to("cpu", torch.int64 if domain.discrete else torch.float64)
        mask = inside.cpu().reshape(-1, *[1] * len(domain.shape))
        value = log_density(torch.where(mask, rows, domain.anchor.to(rows))).to(x.device)
        value = value.to(x.dtype) if x.is_floating_point() else value
        return torch.where(inside, value, -torch.inf)

    return Target(
        domain,
        name=name,
        sample=sample,
        log_prob=log_prob,
        energy=lambda x: -log_prob(x),
        log_z=0.0,
    )


def with_log_z(target: Target, log_z: float) -> Target:
    """The same target, with the energy −log_prob − log_z to which this log Z belongs."""
    log_prob = target.log_prob
    assert log_prob is not None
    return replace(target, energy=lambda x: -log_prob(x) - log_z, log_z=log_z)


STATES = 1 << 20  # that are enumerated at most


def enumerated(name: str, domain: Domain, energy: Callable[[Tensor], Tensor]) -> Target:
    """Everything about p(x) ∝ e^(−energy(x)) on a small discrete domain, by summing over its states.

    Parameters
    ----------
    name : str
    domain : Domain
        With at most 2²⁰ states: 20 binary entries, say.
    energy : callable (n, *domain.shape) -> (n,)
        Of int64 states.

    Raises
    ------
    DomainError
        If the domain has more states, or not finitely many.

    Examples
    --------
    >>> import likely as lk
    >>> target = enumerated("pair", lk.spins(2), lambda s: -s[:, 0] * s[:, 1] / 2.0)
    >>> round(target.log_z, 6)  # log(4 cosh ½)
    1.506409
    """
    columns = [domain.column(i) for i in range(domain.size)]
    if not all(isinstance(column, Discrete) and column.levels for column in columns):
        raise DomainError(f"{name}: only finitely many states can be enumerated, not {domain}")
    low, step, levels = torch.tensor([(c.low, c.step, c.levels) for c in columns]).T  # type: ignore[attr-defined]
    total = math.prod(levels.tolist())
    if total > STATES:
        raise DomainError(f"{name}: {domain} has {total} states; {STATES} can be enumerated")
    place = levels.flip(0).cumprod(0).flip(0) // levels

    def states(number: Tensor) -> Tensor:
        code = number[:, None] // place % levels
        return (low + step * code).view(-1, *domain.shape)

    # In parts: what is stored of a state is its probability.
    parts = torch.arange(total).split(1 << 16)
    log_weight = torch.cat([-energy(states(part)).double() for part in parts])
    log_z = log_weight.logsumexp(0)
    probability = (log_weight - log_z).exp()
    cumulative = probability.cumsum(0)
    mean = torch.zeros(domain.size, dtype=torch.float64)
    second = torch.zeros(domain.size, domain.size, dtype=torch.float64)
    for part in parts:
        flat, p = states(part).flatten(1).double(), probability[part]
        mean += p @ flat
        second += (p[:, None] * flat).T @ flat

    def draw(n: int) -> Tensor:
        u = torch.rand(n, dtype=torch.float64) * cumulative[-1]
        return states(torch.searchsorted(cumulative, u, right=True).clamp_max(total - 1))

    return replace(
        exact_target(name, domain, draw, lambda x: -energy(x) - log_z),
        energy=energy,
        log_z=log_z.item(),
        entropy=(log_z - probability @ log_weight).item(),
        mean=mean,
        covariance=second - torch.outer(mean, mean),
        modes=states((log_weight > log_weight.max() - 1e-9).nonzero()[:, 0]),
    )


def _rounded(x: Tensor, domain: Domain) -> Tensor:
    """Draws in float32, moved off the bounds, where a density may vanish or diverge."""
    x = x.float()
    for column, index in domain.groups:
        if isinstance(column, Interval):
            low, high = torch.tensor([column.low, column.high])
            inner = torch.nextafter(low, high), torch.nextafter(high, low)
            x[:, index] = x[:, index].clamp(*inner)
    return x


def from_distribution(name: str, distribution: Distribution, domain: Domain) -> Target:
    """A target from one of torch's distributions.

    Parameters
    ----------
    name : str
    distribution : torch.distributions.Distribution
        With float64 parameters, without a batch shape.
    domain : Domain
        Of the distribution's event shape.

    Raises
    ------
    DomainError
        If the shapes differ.

    Examples
    --------
    >>> import likely as lk
    >>> from torch.distributions import Gamma, Independent
    >>> shape, rate = torch.full((2, 1), 3.0, dtype=torch.float64)
    >>> gamma = Independent(Gamma(shape, rate), 1)
    >>> target = from_distribution("gamma", gamma, lk.table(lk.Positive()))
    """
    shapes = tuple(distribution.batch_shape), tuple(distribution.event_shape)
    if shapes != ((), domain.shape):
        raise DomainError(f"{name}: batch and event shape {shapes} should be () and {domain.shape}")
    target = exact_target(name, domain, lambda n: distribution.sample((n,)), distribution.log_prob)
    try:
        return replace(target, entropy=distribution.entropy().item())
    except NotImplementedError:
        return target
