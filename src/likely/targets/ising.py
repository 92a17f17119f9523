"""The Ising model: by enumeration on small lattices, by Kaufman's solution on all without a field."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from likely.core.domain import spins
from likely.core.errors import LikelyError
from likely.core.target import Target
from likely.targets.exact import enumerated, exact_target

ENUMERATED = 18  # sites
SWEEPS = 100  # of Swendsen–Wang before a draw
NODES = 1 << 21  # sites that are clustered in one call


def ising(rows: int = 4, columns: int = 4, temperature: float = 2.5, field: float = 0.0) -> Target:
    """The Ising model on a periodic lattice, p(s) = exp(−E(s)/temperature) / Z.

    E(s) = −Σ_⟨ij⟩ s_i s_j − field Σ_i s_i; each site is bound to its right and its lower neighbour,
    so that on a lattice of length 2 both bonds of a pair count. `energy` is E/temperature and
    `log_z` belongs to it; `modes` are the most probable states. Up to 18 sites everything is exact,
    by enumeration. Beyond them there must be no field: `log_z` and `entropy` are Kaufman's, the
    covariance is not known, and each draw is the end of a chain of 100 Swendsen–Wang sweeps of its
    own: at the critical temperature its memory falls by e in 4 sweeps for 16 × 16, in 6 for 64 × 64.

    Parameters
    ----------
    rows, columns : int
    temperature : float
        In units of the coupling; the infinite lattice orders below 2.269.
    field : float
        In the same units.

    Raises
    ------
    LikelyError
        If there are more than 18 sites in a field, or the temperature is not positive.
    """
    if (rows * columns > ENUMERATED and field) or temperature <= 0:
        raise LikelyError(
            f"ising: the temperature must be positive, and {field=} zero beyond {ENUMERATED} sites"
        )
    domain = spins(rows, columns)

    def energy(s: Tensor) -> Tensor:
        s = s if s.is_floating_point() else s.double()
        bonds = s * (s.roll(-1, 1) + s.roll(-1, 2)) + field * s
        return -bonds.sum((1, 2)) / temperature

    if rows * columns <= ENUMERATED:
        return enumerated("ising", domain, energy)
    log_z, mean_energy = kaufman(rows, columns, temperature)
    draw = partial(swendsen_wang, rows, columns, temperature)
    up = torch.ones(1, rows, columns, dtype=torch.int64)
    return replace(
        exact_target("ising", domain, draw, lambda s: -energy(s) - log_z),
        energy=energy,
        log_z=log_z,
        entropy=log_z + mean_energy / temperature,
        mean=torch.zeros(rows * columns, dtype=torch.float64),
        modes=torch.cat([up, -up]),
    )


def kaufman(rows: int, columns: int, temperature: float) -> tuple[float, float]:
    """log Z and the mean energy of the Ising model without a field on a rows × columns torus.

    With K = 1/T, m columns and n rows,

        Z = ½ (2 sinh 2K)^(mn/2) [Π 2cosh(m γ_{2r+1}/2) + Π 2sinh(m γ_{2r+1}/2)
                                  + Π 2cosh(m γ_{2r}/2) + Π 2sinh(m γ_{2r}/2)],   r = 0 … n − 1,

    cosh γ_l = cosh 2K coth 2K − cos(π l/n) and γ_0 = 2K + log tanh K, which is negative above the
    critical temperature. The energy is −∂ log Z/∂K, in units of the coupling.

    References
    ----------
    Kaufman 1949, Physical Review 76, 1232; Ferdinand & Fisher 1969, Physical Review 185, 832 (eq. 3).
    """
    with torch.enable_grad():
        K = torch.tensor(1 / temperature, dtype=torch.float64, requires_grad=True)
        c = (2 * K).cosh() / (2 * K).tanh()
        index = torch.arange(1, 2 * rows, dtype=torch.float64)
        gamma = torch.cat(
            [(2 * K + K.tanh().log())[None], (c - (math.pi * index / rows).cos()).acosh()]
        )
        y = columns * gamma.abs() / 2  # log 2cosh y = y + log(1 + e^(−2y)); 2sinh likewise
        cosh, sinh = y + (-2 * y).exp().log1p(), y + (-(-2 * y).exp()).log1p()
        v = columns * gamma[0] / 2  # 2sinh v apart: it changes sign at the critical temperature
        a = v.abs().detach()
        last = a + sinh[2::2].sum()
        terms = torch.stack([cosh[1::2].sum(), sinh[1::2].sum(), cosh[::2].sum(), last])
        factor = torch.stack([*torch.ones(3, dtype=torch.float64), (v - a).exp() - (-v - a).exp()])
        largest = terms.max().detach()
        total = largest + (factor * (terms - largest).exp()).sum().log()
        log_z = rows * columns / 2 * (2 * (2 * K).sinh()).log() + total - math.log(2)
        (slope,) = torch.autograd.grad(log_z, K)
    return log_z.item(), -slope.item()


def swendsen_wang(
    rows: int, columns: int, temperature: float, n: int, sweeps: int = SWEEPS
) -> Int64[Tensor, "n rows columns"]:
    """States of n independent Swendsen–Wang chains, from all spins alike, by torch's generator.

    A sweep joins equal neighbours with probability 1 − e^(−2/T), and gives each cluster a new sign.

    References
    ----------
    Swendsen & Wang 1987, Physical Review Letters 58, 86.
    """
    chunk = max(1, NODES // (rows * columns))
    sizes = (min(chunk, n - start) for start in range(0, n, chunk))
    parts = [_clusters(rows, columns, temperature, size, sweeps) for size in sizes]
    return torch.from_numpy(np.concatenate(parts))


def _clusters(rows: int, columns: int, temperature: float, n: int, sweeps: int) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(int(torch.randint(2**62, ())))
    site = np.arange(n * rows * columns, dtype=np.int32).reshape(n, rows, columns)
    left = np.concatenate([site.ravel(), site.ravel()])
    right = np.concatenate([np.roll(site, -1, axis).ravel() for axis in (1, 2)])
    s, bond = np.ones(site.size, dtype=np.int64), -math.expm1(-2 / temperature)
    for _ in range(sweeps):
        joined = (s[left] == s[right]) & (rng.random(len(left), dtype=np.float32) < bond)
        pairs = left[joined], right[joined]
        graph = coo_array((np.ones(len(pairs[0]), dtype=np.int8), pairs), (site.size, site.size))
        count, label = connected_components(graph, directed=False)
        s = rng.choice(np.array([-1, 1]), count)[label]
    return s.reshape(site.shape)
