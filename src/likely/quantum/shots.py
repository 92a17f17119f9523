"""Outcomes of a measurement in one file, with what is known of where they come from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from likely.core.errors import ArtifactError, DataError, LikelyError
from likely.core.files import written_whole
from likely.data.source import read
from likely.quantum.mps import MPS
from likely.quantum.povm import POVM, Terms, as_tensor, check_noise
from likely.quantum.povm import povm as named

FORMAT, VERSION = "likely shots", 1


@dataclass(frozen=True, eq=False)
class Shots:
    """Rows of outcomes and where they come from.

    Attributes
    ----------
    outcomes : Tensor of int64, shape (n, sites)
        Or an array of whole numbers, which becomes one.
    povm : POVM
    noise : float
        Probability with which each site was depolarised.
    state : MPS, optional
        The state before the noise, where it is known.
    hamiltonian : list of (coefficient, {site: "x", "y" or "z"}), optional
        Whose energy is of interest.
    header : dict
        Whatever else is known: chain, coupling, field, seed, energy …; JSON-able.

    Raises
    ------
    DataError
        If there are no rows of two or more outcomes, or one is not the POVM's.
    LikelyError
        If `noise` is not a probability, or state or Hamiltonian belong to another number of sites.
    """

    outcomes: Int64[Tensor, "n sites"]
    povm: POVM
    noise: float = 0.0
    state: MPS | None = None
    hamiltonian: Terms | None = None
    header: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        outcomes = as_tensor(self.outcomes)
        shape = tuple(outcomes.shape)
        if len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
            raise DataError(f"outcomes of shape {shape}: rows of two or more sites are needed")
        self.povm.domain(shape[1]).check(outcomes, "the outcomes")
        object.__setattr__(self, "outcomes", outcomes.long())
        check_noise(self.noise)
        if self.state is not None and self.state.sites != self.sites:
            raise LikelyError(f"outcomes of {self.sites} sites, and a state of {self.state.sites}")
        for _, factors in self.hamiltonian or []:
            if not {*factors} <= {*range(self.sites)} or not {*factors.values()} <= {*"xyz"}:
                known = f"x, y or z of sites 0 to {self.sites - 1}"
                raise LikelyError(f"the Hamiltonian's term {factors}: give {known}")

    @property
    def sites(self) -> int:
        """Number of spins."""
        return self.outcomes.shape[1]

    @property
    def periodic(self) -> bool:
        """Whether the header says that the last site is bound to the first."""
        return self.header.get("periodic") is True

    def save(self, path: str | Path) -> None:
        """Write a `.npz` file, whole or not at all.

        It holds `outcomes`, `effects`, the state's tensors `state_0`, `state_1` … and a `header` in JSON.

        Raises
        ------
        ArtifactError
            If it cannot be written.
        """
        header = self.header | {"format": FORMAT, "version": VERSION, "sites": self.sites}
        header |= {"povm": self.povm.name, "noise": self.noise, "hamiltonian": self.hamiltonian}
        tensors = self.state.tensors if self.state is not None else ()
        arrays: dict[str, Any] = {
            "outcomes": self.outcomes.numpy().astype(np.min_scalar_type(self.povm.outcomes - 1)),
            "effects": self.povm.effects.numpy(),
            "header": json.dumps(header),
        }
        arrays |= {f"state_{site}": tensor.numpy() for site, tensor in enumerate(tensors)}
        with written_whole(path) as file:
            np.savez_compressed(file, **arrays)


def load(path: str | Path, povm: str | POVM | None = None) -> Shots:
    """Read what `Shots.save` wrote, or a user's own outcomes.

    Parameters
    ----------
    path : str or Path
        `.npz` as saved; or `.npz`, `.npy`, `.csv`, `.txt` … with one row of whole numbers for each
        shot. An `.npz` file may hold the POVM next to its `outcomes`, as `effects`.
    povm : str or POVM, optional
        What was measured, where the file does not say.

    Raises
    ------
    DataError
        If the file cannot be read, or an outcome is not one of the POVM's.
    ArtifactError
        If a file of ours is damaged, or of a later version.
    LikelyError
        If both the file and `povm` say what was measured, or neither does.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    arrays = _arrays(path) if path.suffix == ".npz" else {}
    outcomes = arrays["outcomes"] if "outcomes" in arrays else _rows(path)
    try:
        header = _header(arrays)
        if "effects" in arrays:
            if povm is not None:
                raise LikelyError("the file itself says what was measured; leave the POVM out")
            povm = POVM(header.pop("povm", "user's"), arrays["effects"])
        elif povm is None:
            raise LikelyError("name the POVM that was measured; the file does not hold its effects")
        elif isinstance(povm, str):
            povm = named(povm)
        if outcomes.dtype.kind not in "biuf":
            raise DataError(f"outcomes of type {outcomes.dtype} are not whole numbers")
        outcomes = outcomes.astype(np.float64 if outcomes.dtype.kind == "f" else np.int64)
        known = "state_0" in arrays
        state = MPS([arrays[f"state_{i}"] for i in range(outcomes.shape[1])]) if known else None
        terms = header.pop("hamiltonian", None)
        hamiltonian = terms and [
            (float(coefficient), {int(site): str(axis) for site, axis in factors.items()})
            for coefficient, factors in terms
        ]
        noise = header.pop("noise", 0.0)
        seed = header.get("seed")
        if seed is not None and not (isinstance(seed, int) and seed >= 0):
            raise ArtifactError(f"damaged (the seed is {seed!r}); measure again")
        return Shots(torch.from_numpy(outcomes), povm, noise, state, hamiltonian, header)
    except LikelyError as error:
        raise type(error)(f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ArtifactError(f"{path}: damaged ({error!r}); measure again") from error


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # whatever numpy and zipfile say of a damaged file
        raise DataError(f"{path}: not a readable .npz file ({error}); write it again") from error


def _header(arrays: dict[str, Any]) -> dict[str, Any]:
    """The header of a file; empty for a user's own."""
    if "header" not in arrays:
        return {}
    header = json.loads(arrays["header"].item())
    if header.pop("format") != FORMAT or header.pop("version") > VERSION:
        raise ArtifactError("not a file of shots, or one of a later version of likely")
    del header["sites"]
    return header


def _rows(path: Path) -> np.ndarray:
    """The rows of a user's own file; the lines of a text are split at commas and spaces."""
    try:
        if path.suffix != ".txt":
            return np.array(read(str(path)).values, dtype=np.float64)
        lines = path.read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
        rows = [line.split() for line in lines if line.strip()]
        for row, entries in enumerate(rows):
            if len(entries) != len(rows[0]):
                found = f"row {row} has {len(entries)} outcomes where row 0 has {len(rows[0])}"
                raise DataError(f"{path}: {found} (empty lines do not count); correct it")
        return np.array(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: an outcome is missing or no number ({error}); fix it") from error
