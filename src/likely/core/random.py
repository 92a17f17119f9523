"""Random numbers from explicit seeds."""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import torch


def seed_of_part(seed: int, part: int) -> int:
    """The seed of a part of what is drawn with a seed; the first has that itself."""
    if part == 0:
        return seed
    return int(np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)[0])


# All threads draw from one generator of torch, so that only one may use it at a time.
_generator = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int | None, device: torch.device | None = None) -> Iterator[None]:
    """Run with torch's generators seeded, and put them back; None leaves them as they are.

    Threads wait for one another here: what is drawn with a seed is the same in all of them.
    """
    with _generator:
        if seed is None:
            yield
            return
        devices = [device] if device is not None and device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
