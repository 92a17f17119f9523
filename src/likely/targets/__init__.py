"""Targets whose truth is known: exact draws, a normalised density, an energy, mostly the entropy.

Each factory returns a `likely.core.target.Target`; `target(name)` gives its default instance.
"""

from collections.abc import Callable

from likely.core.errors import LikelyError
from likely.core.target import Target
from likely.targets.classical import beta, gaussian, student_t
from likely.targets.discrete import markov_chain
from likely.targets.exact import enumerated, exact_target, from_distribution
from likely.targets.gauge import gauge_transform, plaquettes, topological_charge, u1
from likely.targets.glasses import edwards_anderson, sherrington_kirkpatrick
from likely.targets.ising import ising, kaufman, swendsen_wang
from likely.targets.lattice import correlator, magnetisation, phi2, phi4, susceptibility
from likely.targets.mixtures import eight_gaussians, forty_gaussians, gaussian_mixture, torus
from likely.targets.shapes import banana, checkerboard, funnel, rings
from likely.targets.transfer import phi4_exact
from likely.targets.wells import double_well, double_well_plane, many_well

__all__ = [
    "Target", "banana", "beta", "checkerboard", "correlator", "double_well", "double_well_plane",
    "edwards_anderson", "eight_gaussians", "enumerated", "exact_target", "forty_gaussians",
    "from_distribution", "funnel", "gauge_transform", "gaussian", "gaussian_mixture", "ising",
    "kaufman", "magnetisation", "many_well", "markov_chain", "names", "phi2", "phi4", "phi4_exact",
    "plaquettes", "rings", "sherrington_kirkpatrick", "student_t", "susceptibility",
    "swendsen_wang", "target", "topological_charge", "torus", "u1",
]  # fmt: skip

_FACTORIES: tuple[Callable[..., Target], ...] = (
    banana, beta, checkerboard, double_well, double_well_plane, edwards_anderson, eight_gaussians,
    forty_gaussians, funnel, gaussian, ising, many_well, markov_chain, rings,
    sherrington_kirkpatrick, student_t, torus,
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
