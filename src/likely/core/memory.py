"""Memory of the process: what was freed stays at hand."""

from __future__ import annotations

import functools

import torch

# In bytes: glibc adapts to blocks of at most 32 MiB, their headers included.
LARGEST = (32 << 20) - (1 << 14)


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory for what comes next, instead of giving it back to the system.

    A training step, or a step of a chain, frees what it computed. glibc then gives the top of its
    heap back, and the next step faults every page in again, which can take as long as its arithmetic.
    How much stays adapts to the program: once a mapped block has been freed, blocks of its size come
    from the heap, and twice that size may lie free at the top (mallopt(3), M_MMAP_THRESHOLD). So one
    block of the largest size to which glibc adapts is mapped and freed; none of its pages is touched.
    With another allocator, or thresholds from the environment, this changes nothing.
    """
    torch.empty(LARGEST, dtype=torch.uint8, device="cpu")
