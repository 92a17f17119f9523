"""Targets whose truth is known: exact draws, a normalised density, an energy, mostly the entropy.

Each factory returns a `likely.core.target.Target`; `target(name)` gives its default instance.
"""

from collections.abc import Callable

from likely.core.errors import LikelyError
from likely.core.target import Target
from likely.targets.classical import beta, gaussian, student_t
from likely.targets.discrete import markov_chain
from likely.targets.exact import enumerated, exact_target, from_distribution
from likely.targets.ising import ising, kaufman, swendsen_wang
from likely.targets.lattice import double_well, phi4, susceptibility
from likely.targets.mixtures import eight_gaussians, gaussian_mixture, torus
from likely.targets.shapes import banana, checkerboard, funnel, rings

__all__ = [
    "Target", "banana", "beta", "checkerboard", "double_well", "eight_gaussians", "enumerated",
    "exact_target", "from_distribution", "funnel", "gaussian", "gaussian_mixture", "ising",
    "kaufman", "markov_chain", "names", "phi4", "rings", "student_t", "susceptibility",
    "swendsen_wang", "target", "torus",
]  # fmt: skip

_FACTORIES: tuple[Callable[..., Target], ...] = (
    banana, beta, checkerboard, double_well, eight_gaussians, funnel, gaussian, ising, markov_chain,
    rings, student_t, torus,
)  # fmt: skip
_DEFAULTS = {factory.__name__.replace("_", "-"): factory for factory in _FACTORIES}


def names() -> list[str]:
    """Names that `target` knows."""
    return list(_DEFAULTS)


def target(name: str) -> Target:
    """The default instance of a target by its name, such as "eight-gaussians".

    Raises
    ------
    LikelyError
        If the name is unknown; the message lists the known ones.
    """
    if name not in _DEFAULTS:
        raise LikelyError(f"unknown target {name!r}: the known ones are {', '.join(_DEFAULTS)}")
    return _DEFAULTS[name]()
