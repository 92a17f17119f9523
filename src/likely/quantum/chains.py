"""Ground states of spin chains by DMRG, and others that are known in closed form.

DMRG is TeNPy's (Hauschild & Pollmann 2018, arXiv:1805.00055), from the extra `quantum`.
"""

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from likely.core.errors import LikelyError
from likely.quantum import dense, mps
from likely.quantum.free_fermions import check_finite, checked_parity, ground_parity
from likely.quantum.mps import MPS, check_sites
from likely.quantum.povm import PAULI, Terms

BOND = 200  # the largest bond dimension of a ground state
SWEEPS = 40


@dataclass(frozen=True, eq=False)
class Chain:
    """A state of a spin chain, and the Hamiltonian whose ground state it is.

    Attributes
    ----------
    name : str
    parameters : dict
        Options of its function; JSON-able.
    state : MPS
    energy : float, optional
        ⟨H⟩ in this state.
    hamiltonian : list of (coefficient, {site: "x", "y" or "z"}), optional
        H as a sum of products of Pauli matrices.
    """

    name: str
    parameters: dict[str, Any]
    state: MPS
    energy: float | None = None
    hamiltonian: Terms | None = field(default=None, repr=False)


def tfim(
    sites: int,
    coupling: float = 1.0,
    field: float = 1.0,
    periodic: bool = False,
    parity: int | None = None,
) -> Chain:
    """Ground state of the transverse-field Ising chain, H = −J Σ σᶻσᶻ − h Σ σˣ.

    Parameters
    ----------
    sites : int
    coupling, field : float
        J and h, of any sign.
    periodic : bool
        Whether the last site is bound to the first; of two sites, both bonds count.
    parity : {1, -1}, optional
        Of Π σˣ, which H conserves; by default that of the ground state.

    Notes
    -----
    The ground state is unique unless h = 0, where both parities have the same energy and 1 is the default.
    The lowest level of a sector is degenerate, and the state one of it, on a frustrated ring (J < 0, N
    odd) with h = 0, and, in the sector of the other parity, on one with h ≠ 0 and wherever J = 0.

    Raises
    ------
    LikelyError
        If TeNPy is missing, an argument is out of its range, or DMRG does not converge.
    """
    parity = checked_parity(sites, coupling, field, parity)
    if coupling == field == 0:
        raise LikelyError("tfim: coupling and field are both zero: give one of them")
    hamiltonian = [(-coupling, {i: "z", j: "z"}) for i, j in _bonds(sites, periodic)]
    hamiltonian += [(-field, {site: "x"}) for site in range(sites)]
    if sites == 2:
        state = _ground_of_pair(hamiltonian, [(1.0, {0: "x", 1: "x"})], parity)
    else:
        # TeNPy conserves Π σᶻ: solve H with x and z exchanged, from a product of up and down spins along
        # the field, and turn the result back by Hadamard matrices.
        along, against = ("up", "down") if field >= 0 else ("down", "up")
        start = [along] * sites
        if parity != ground_parity(sites, field):
            start[sites // 2] = against
        ground = _dmrg("parity", start, periodic, Jx=-4 * coupling, Jy=0.0, Jz=0.0, hz=2 * field)
        hadamard = (PAULI["x"] + PAULI["z"]).real / math.sqrt(2)
        state = MPS([torch.einsum("ts,asb->atb", hadamard, tensor) for tensor in ground])
    options = {"coupling": coupling, "field": field, "periodic": periodic, "parity": parity}
    return Chain("tfim", {"sites": sites} | options, state, state.energy(hamiltonian), hamiltonian)


def xxz(
    sites: int, delta: float = 1.0, periodic: bool = False, magnetisation: int | None = None
) -> Chain:
    """Ground state of the XXZ chain, H = Σ (σˣσˣ + σʸσʸ + Δ σᶻσᶻ).

    Parameters
    ----------
    sites : int
    delta : float
        The anisotropy Δ, of any sign.
    periodic : bool
        Whether the last site is bound to the first; of two sites, both bonds count.
    magnetisation : int, optional
        Σ σᶻ, which H conserves; by default that of the ground state.

    Notes
    -----
    Beyond Δ = −1 (on an odd ring −cos π/N) the two polarised states have the same energy, and Σ σᶻ = N is
    the default; at Δ = −1 all values of Σ σᶻ have. Above it, N odd, Σ σᶻ = ±1 have the same energy, and 1 is
    the default; on a ring each of the two levels is twofold, a wave to the left and one to the right, and
    the state is one of it.

    Raises
    ------
    LikelyError
        If TeNPy is missing, an argument is out of its range, or DMRG does not converge.
    """
    check_sites(sites)
    check_finite(delta=delta)
    if magnetisation is None:
        # the polarised state is the lowest until one flipped spin, −4Δ + 4 cos k, lowers the energy
        odd_ring = periodic and sites % 2
        polarised = delta < -(math.cos(math.pi / sites) if odd_ring else 1)
        magnetisation = sites if polarised else sites % 2
    if abs(magnetisation) > sites or (magnetisation - sites) % 2:
        allowed = f"{-sites}, {2 - sites} … {sites}"
        raise LikelyError(f"magnetisation {magnetisation}: Σ σᶻ is one of {allowed}")
    hamiltonian = [
        (factor, {i: axis, j: axis})
        for i, j in _bonds(sites, periodic)
        for axis, factor in (("x", 1.0), ("y", 1.0), ("z", delta))
    ]
    if sites == 2:
        state = _ground_of_pair(hamiltonian, [(1.0, {0: "z"}), (1.0, {1: "z"})], magnetisation)
    else:
        # the spins in excess spread evenly over a Néel state
        ups = (sites + magnetisation) // 2
        above = [i * ups // sites for i in range(sites + 1)]
        start = ["up" if above[i + 1] > above[i] else "down" for i in range(sites)]
        state = MPS(_dmrg("Sz", start, periodic, Jx=4.0, Jy=4.0, Jz=4 * delta, hz=0.0))
    options = {"delta": delta, "periodic": periodic, "magnetisation": magnetisation}
    return Chain("xxz", {"sites": sites} | options, state, state.energy(hamiltonian), hamiltonian)


def ghz(sites: int) -> Chain:
    """(|0…0⟩ + |1…1⟩)/√2, without a Hamiltonian.

    Raises
    ------
    LikelyError
        If there are fewer than two sites.
    """
    return Chain("ghz", {"sites": sites}, mps.ghz(sites))


CHAINS: dict[str, Callable[..., Chain]] = {"tfim": tfim, "xxz": xxz, "ghz": ghz}


def _bonds(sites: int, periodic: bool) -> list[tuple[int, int]]:
    return [(i, (i + 1) % sites) for i in range(sites if periodic else sites - 1)]


def _ground_of_pair(hamiltonian: Terms, conserved: Terms, value: int) -> MPS:
    """Ground state of two sites, where a conserved quantity has a value: DMRG needs three sites."""
    H, Q = dense.hamiltonian(hamiltonian, 2).real, dense.hamiltonian(conserved, 2).real
    outside = Q - value * torch.eye(4)
    return mps.from_dense(torch.linalg.eigh(H + 10 * H.norm() * outside @ outside)[1][:, 0])


def _dmrg(conserve: str, start: list[str], periodic: bool, **couplings: float) -> list[Tensor]:
    """The ground state of Σ (Jx SˣSˣ + Jy SʸSʸ + Jz SᶻSᶻ) − hz Σ Sᶻ in the sector of a product state.

    The spins are S = σ/2, and the tensors in the basis up, down.
    """
    with _quiet():
        try:
            from tenpy.algorithms import dmrg
            from tenpy.models.spins import SpinModel
            from tenpy.networks import mps as tenpy_mps
        except ImportError as error:
            raise LikelyError("spin chains need TeNPy: pip install 'likely[quantum]'") from error
        lattice = {"lattice": "Chain", "L": len(start), "bc_x": "periodic" if periodic else "open"}
        scale = max(map(abs, couplings.values()))  # thresholds below are absolute
        scaled = {name: value / scale for name, value in couplings.items()}
        model = SpinModel({**lattice, **scaled, "conserve": conserve})
        psi = tenpy_mps.MPS.from_product_state(model.lat.mps_sites(), start)
        bonds = {"chi_max": BOND, "svd_min": 1e-7}
        options = {"mixer": True, "trunc_params": bonds, "max_E_err": 1e-12, "max_sweeps": SWEEPS}
        change = abs(dmrg.run(psi, model, options)["sweep_statistics"]["Delta_E"][-1])
        order = [psi.sites[0].state_index(label) for label in ("up", "down")]
        tensors = [psi.get_B(i).transpose(["vL", "p", "vR"]).to_ndarray() for i in range(psi.L)]
    if not change < 1e-8:
        raise LikelyError(f"DMRG did not converge: a part {change:.1e} of the energy still moves")
    return [torch.as_tensor(tensor[:, order]) for tensor in tensors]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TeNPy without its log and its warnings."""
    logger = logging.getLogger("tenpy")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
