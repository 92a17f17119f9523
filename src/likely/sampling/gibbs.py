"""Gibbs sampling: entries are redrawn, one block after another, from their law given the others.

References
----------
Geman & Geman 1984, IEEE PAMI 6, 721.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from likely.core.columns import Discrete
from likely.core.domain import Domain
from likely.core.errors import DomainError, LikelyError
from likely.sampling.sampler import Energy, Move, Sampler, value_and_gradient

LARGEST_BLOCK = 4096  # combinations of values that are tried for one block
HALVES = 3  # random parts of a block, of each chain, in which interactions are looked for


@dataclass(frozen=True)
class Gibbs(Sampler):
    """Gibbs sampling of discrete entries with any energy; a step is a sweep over all blocks.

    Parameters
    ----------
    domain : Domain
        Of binary, spin, categorical or bounded integer entries.
    blocks : sequence of sequences of int, optional
        Entries (in row-major order) that are redrawn together, each in one block or more; by
        default each alone. The energy is evaluated at all combinations of a block's values, at most
        4096 of them.
    independent : bool
        The entries of a block don't interact, have two values, and the energy is linear in each
        (Ising models on a chessboard, Boltzmann machines): one gradient then gives the law of a
        block of any size. `run`, and what anneals or tempers this sampler, first check that the
        energy is so, by flips of each block and of random halves of it.

    Raises
    ------
    DomainError
        If an entry has no finite set of values.
    LikelyError
        If the blocks leave out an entry, or are too large; in `run`, if the energy isn't what
        `independent` promises.
    """

    domain: Domain
    blocks: Sequence[Sequence[int]] | None = None
    independent: bool = False

    def __post_init__(self) -> None:
        for i in range(self.domain.size):
            column = self.domain.column(i)
            if not (isinstance(column, Discrete) and column.levels is not None):
                name = f"column {self.domain.name(i)} is {column.kind}"
                raise DomainError(f"Gibbs: {name}, and needs finitely many values: use HMC or MALA")
            if self.independent and column.levels != 2:
                raise DomainError("Gibbs: independent=True takes entries of two values only")
        covered = {i for block in self._blocks for i in block}
        if covered != set(range(self.domain.size)):
            raise LikelyError(f"Gibbs: blocks must cover entries 0 to {self.domain.size - 1} only")

    @property
    def _blocks(self) -> list[list[int]]:
        single = ([i] for i in range(self.domain.size))
        return [list(block) for block in (single if self.blocks is None else self.blocks)]

    def _values(self, i: int) -> list[int]:
        column = self.domain.column(i)
        assert isinstance(column, Discrete)
        return [column.low + column.step * code for code in range(column.levels or 0)]

    def walk(self, energy: Energy, x: Tensor, tune: int = 0) -> Iterator[Move]:
        return self._independent(energy, x) if self.independent else self._joint(energy, x)

    def _joint(self, energy: Energy, x: Tensor) -> Iterator[Move]:
        blocks = []
        for block in self._blocks:
            values = [self._values(i) for i in block]
            if (count := torch.tensor([len(v) for v in values]).double().prod()) > LARGEST_BLOCK:
                raise LikelyError(
                    f"Gibbs: {count:.3g} combinations of values in a block of {len(block)} entries, of "
                    f"{LARGEST_BLOCK} at most: use smaller blocks, or independent=True"
                )
            table = torch.tensor([*itertools.product(*values)], dtype=x.dtype, device=x.device)
            blocks.append((block, table))
        while True:
            invalid = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            for block, table in blocks:
                tried = x.flatten(1).repeat(len(table), 1, 1)
                tried[:, :, block] = table[:, None]
                e = energy(tried.view(-1, *x.shape[1:])).view(len(table), len(x))
                none = e.isnan() | (e == -torch.inf)
                invalid |= none.any(0)
                law = torch.where(none, torch.inf, e)
                # On its way from a base, annealing may meet states that no value of a block saves.
                law = law.masked_fill((law == torch.inf).all(0), 0).neg().softmax(0)
                drawn = torch.multinomial(law.T, 1)[:, 0]
                chain = torch.arange(len(x), device=x.device)
                x, e = tried[drawn, chain].view(x.shape), e[drawn, chain]
            yield Move(x, e, invalid=invalid)

    def _independent(self, energy: Energy, x: Tensor) -> Iterator[Move]:
        low, high = self._ends(x)
        blocks = [torch.tensor(block, device=x.device) for block in self._blocks]
        s = _floating(x)
        e, gradient = value_and_gradient(energy, s)
        while True:
            for block in blocks:
                g = gradient.flatten(1)[:, block]
                up = torch.rand_like(g) < torch.sigmoid(-(high - low)[block] * g)
                flat = s.flatten(1).clone()
                flat[:, block] = torch.where(up, high[block], low[block]).to(s)
                s = flat.view(x.shape)
                e, gradient = value_and_gradient(energy, s)
            yield Move(s.to(x.dtype), e)

    def _ends(self, x: Tensor) -> Tensor:
        """Low and high value of each entry."""
        return torch.tensor([self._values(i) for i in range(self.domain.size)]).T.to(x.device)

    def check(self, energy: Energy, x: Tensor) -> None:
        """Raise unless flips within a block change the energy by what its gradient says."""
        if not self.independent:
            return
        s = _floating(x)
        flat, twice_middle = s.flatten(1), self._ends(x).sum(0).to(s)
        e, gradient = value_and_gradient(energy, s)
        for block in self._blocks:
            g = gradient.flatten(1)[:, block]
            whole = torch.ones_like(g, dtype=torch.bool)
            halves = HALVES if len(block) > 1 else 0
            for flipped in (whole, *(torch.rand_like(g) < 0.5 for _ in range(halves))):
                change = torch.where(flipped, twice_middle[block] - 2 * flat[:, block], 0)
                after = flat.clone()
                after[:, block] += change
                rise, terms = energy(after.view(x.shape)) - e, change * g
                size = 2 * e.abs() + rise.abs() + terms.abs().sum(1)
                tolerance = 1e-5 + 100 * torch.finfo(e.dtype).eps * size
                if not ((rise - terms.sum(1)).abs() <= tolerance).all():
                    raise LikelyError(
                        f"Gibbs: independent=True, but entries of block {block[:8]} … interact, or the "
                        "energy is not linear in them: leave it out, or change the blocks"
                    )


def _floating(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())
