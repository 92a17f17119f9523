"""The φ⁴ field on small lattices, by the transfer matrix from one row of fields to the next.

Sites carry the nodes of a Gauss rule for a weight close to their own; the bonds along a row are then
diagonal, and those between rows a product over sites, K. In the eigenbasis of K few states matter:

    Z = Tr M^L,   M = K^½ e^(bonds of a row) K^½.
"""

import math
from functools import cached_property, reduce
from typing import TYPE_CHECKING

import numpy as np

from likely.core.errors import LikelyError

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

NODES = 64  # of a site, at most
DENSE = 1500  # states up to which the whole spectrum is taken
FINEST = 10  # 10^(−nodes) of the weight of K decides which states are kept, down to 10⁻¹⁰
LEADING = 48  # eigenvalues that are taken otherwise


def phi4_exact(
    *shape: int, mass2: float, coupling: float, tolerance: float = 1e-6, points: int = 1 << 21
) -> dict[str, float]:
    """log Z, ⟨φ²⟩ and χ₂ of the φ⁴ field on a ring or a torus, without any simulation.

    Nodes and states grow in number until log Z moves by less than `tolerance`. Rings and tori up to 4
    wide take about a second; 6 × 6 takes seconds, 8 × 8 minutes, and less with a larger tolerance.

    Parameters
    ----------
    *shape : int
        Length of the ring, or the two of the torus, of which only the shorter one matters for time.
    mass2, coupling : float
        m² and λ of `phi4`.
    tolerance : float
        Of log Z; the expectations have about as many digits.
    points : int
        At most in the grid of nodes of a row, which is kept in memory.

    Returns
    -------
    dict
        `log_z`, and the expectations `phi2` and `susceptibility`.

    Raises
    ------
    LikelyError
        If the grid would need more points (the lattice is too wide, or its fields too large), or for
        what `phi4` refuses.

    References
    ----------
    Kramers & Wannier 1941, Physical Review 60, 252, for the method.

    Examples
    --------
    >>> {name: round(value, 5) for name, value in phi4_exact(4, 4, mass2=-4, coupling=8).items()}
    {'log_z': 2.40514, 'phi2': 0.14775, 'susceptibility': 0.68397}
    """
    check(shape, mass2, coupling)
    width, length = (1, *shape) if len(shape) == 1 else sorted(shape)
    previous = math.inf
    for nodes in range(4, min(NODES, math.floor(points ** (1 / width) + 1e-9)) + 1):
        row = _Row(width, length, len(shape), nodes, mass2, coupling)
        if max(abs(row.log_z - previous), row.rest) < tolerance:
            return {"log_z": row.log_z} | row.expectations()
        previous = row.log_z
    raise LikelyError(
        f"phi4_exact: {points} points for a row of {width} sites do not determine log Z to "
        f"{tolerance:g}: allow more points=, a larger tolerance=, or take a smaller lattice"
    )


def check(shape: tuple[int, ...], mass2: float, coupling: float) -> None:
    """Refuse a φ⁴ field without an action that has a lower bound.

    Raises
    ------
    LikelyError
        If there is none, or the shape is not one or two positive lengths.
    """
    if len(shape) not in (1, 2) or min(shape) < 1:
        raise LikelyError(f"phi4: give one or two positive lengths, not {shape}")
    if coupling < 0 or (coupling == 0 and mass2 <= 0):
        raise LikelyError(f"phi4: the action has no lower bound with {mass2=} and {coupling=}")


class _Row:
    """The matrix M of a row with some number of nodes at each site."""

    def __init__(
        self,
        width: int,
        length: int,
        dimensions: int,
        nodes: int,
        mass2: float,
        coupling: float,
    ) -> None:
        self.width, self.length = width, length
        diagonal = 2 * dimensions + mass2
        x, log_weight = _gauss(nodes, diagonal - dimensions / 2, coupling)
        log_weight += -dimensions / 2 * x**2  # the rest of the site's own weight
        bond = (log_weight[:, None] + log_weight) / 2 + 2 * np.outer(x, x)
        kappa, u = np.linalg.eigh(np.exp(bond - bond.max()))
        part = np.maximum(kappa[::-1] / kappa[-1], np.finfo(float).tiny)
        self.functions = u[:, ::-1] * np.sqrt(part)
        states = reduce(np.add.outer, [np.log(part)] * width)
        self.kept = np.flatnonzero(states > -min(nodes, FINEST) * math.log(10))
        self.grid = (nodes,) * width
        self.fields = np.meshgrid(*[x] * width, indexing="ij", sparse=True)
        exponent = np.zeros(self.grid)
        if dimensions == 2:
            for i in range(width):  # a row of one site is bound to itself, one of two twice
                exponent += 2 * self.fields[i] * self.fields[(i + 1) % width]
        self.weight = np.exp(exponent - exponent.max())
        self.log_scale = width * (math.log(kappa[-1]) + bond.max()) + exponent.max()

    def insert(self, observable: np.ndarray | float = 1.0) -> "LinearOperator":
        """K^½ e^(bonds) observable K^½ between the states that are kept."""
        from scipy.sparse.linalg import LinearOperator

        diagonal = self.weight * observable

        def apply(state: np.ndarray) -> np.ndarray:
            grid = np.zeros(self.grid)
            grid.flat[self.kept] = state.ravel()
            for _ in self.grid:
                grid = np.tensordot(grid, self.functions, (0, 1))
            grid = grid * diagonal
            for _ in self.grid:
                grid = np.tensordot(grid, self.functions, (0, 0))
            return grid.ravel()[self.kept]

        return LinearOperator((len(self.kept),) * 2, matvec=apply, dtype=float)

    @cached_property
    def matrix(self) -> "np.ndarray | LinearOperator":
        """M itself."""
        operator = self.insert()
        return operator @ np.eye(len(self.kept)) if len(self.kept) <= DENSE else operator

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues, the largest first, and eigenvectors."""
        from scipy.sparse.linalg import eigsh

        if isinstance(self.matrix, np.ndarray):
            value, vector = np.linalg.eigh(self.matrix)
        else:  # a start without symmetry, which the method would keep
            start = np.random.default_rng(0).standard_normal(len(self.kept))
            value, vector = eigsh(self.matrix, LEADING, v0=start)
        order = value.argsort()[::-1]
        return np.maximum(value[order], 0), vector[:, order]

    @cached_property
    def log_z(self) -> float:
        value = self.spectrum[0]
        total = ((value / value[0]) ** self.length).sum()
        return float(self.length * (math.log(value[0]) + self.log_scale) + math.log(total))

    @property
    def rest(self) -> float:
        """What the eigenvalues that were not taken can add to log Z at most."""
        value = self.spectrum[0]
        return (len(self.kept) - len(value)) * (value[-1] / value[0]) ** self.length

    def expectations(self) -> dict[str, float]:
        """⟨φ²⟩, and χ₂ from the sums of two rows t apart, for t up to half the lattice."""
        value, vector = self.spectrum
        largest, L = value[0], self.length
        value = value / largest
        matters = value ** (L / 2) > 1e-8
        value, vector = value[matters], vector[:, matters]
        z = (value**L).sum()

        def trace(a: np.ndarray, b: np.ndarray, rows: int) -> float:
            """Σ_k λ_k^rows a_k · b_k / Z, where the other rows are in a and b."""
            return (value**rows * (a * b).sum(0)).sum() / z

        total = sum(self.fields)
        phi2 = trace(vector, self.insert(self.fields[0] ** 2) @ vector, L - 1) / largest
        square = trace(vector, self.insert(total**2) @ vector, L - 1) / largest
        left = right = self.insert(total) @ vector / largest
        for t in range(1, L // 2 + 1):
            square += trace(left, right, L - t - 1) * (1 if 2 * t == L else 2)
            right = self.matrix @ right / largest
        return {"phi2": float(phi2), "susceptibility": float(square / self.width)}


def _gauss(nodes: int, c: float, coupling: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and log-weights of the Gauss rule for e^(−c x² − coupling x⁴), by Stieltjes' recursion."""
    from scipy.linalg import eigh_tridiagonal

    lowest = -(c**2) / (4 * coupling) if c < 0 else 0.0
    reach = math.sqrt(np.roots([coupling, c, -lowest - 80]).real.max())  # beyond: e^(−80) and less
    y, weight = np.polynomial.legendre.leggauss(200)
    y, weight = y * reach, weight * reach
    weight *= np.exp(lowest - c * y**2 - coupling * y**4)
    before, current, off = np.zeros_like(y), np.full_like(y, weight.sum() ** -0.5), [0.0]
    for _ in range(nodes - 1):
        following = y * current - off[-1] * before
        off.append(math.sqrt(weight @ following**2))
        before, current = current, following / off[-1]
    x, vector = eigh_tridiagonal(np.zeros(nodes), np.array(off[1:]))
    return x, 2 * np.log(np.abs(vector[0])) + math.log(weight.sum()) - lowest
