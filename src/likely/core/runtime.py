"""The process that computes: its memory, the precision of its products, and torch.compile."""

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch

from likely.core.errors import LikelyError

# In bytes: glibc adapts to blocks of at most 32 MiB, their headers included.
LARGEST = (32 << 20) - (1 << 14)


def find_device(name: str | torch.device) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one, and otherwise the CPU.

    Raises
    ------
    LikelyError
        If this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    with contextlib.suppress(RuntimeError, TypeError):  # what torch says of a name it does not know
        device = torch.device(name)
        if (device.index or 0) < there.get(device.type, 0):
            return device
    found = ", ".join(["auto", *(kind for kind, devices in there.items() if devices)])
    raise LikelyError(f"device={str(name)!r}: this machine has none; take one of {found}")


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


@contextlib.contextmanager
def children_ignore_interrupts() -> Iterator[None]:
    """Processes that are started inside never get an interrupt, from their first moment on.

    Ctrl-C goes to all processes of a terminal. Those that work for another one are ended by it, and
    would only add a traceback each. Meanwhile this thread gets none either.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Let float32 matrix products on a CPU go through oneDNN, where it keeps their precision.

    There they are up to twice as fast on AVX-512; products of a few rows are slower. The setting that
    leads there also allows bfloat16, which CPUs with AMX then use: a trial product shows whether. On older
    torch, nothing happens.
    """
    products: Any = getattr(torch.backends.mkldnn, "matmul", None)
    before = getattr(products, "fp32_precision", None)
    if device.type != "cpu" or before != "none" or not _onednn_is_exact(products):
        yield
        return
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


@functools.cache
def _onednn_is_exact(products: Any) -> bool:
    # Whatever the defaults are; nothing cancels in its square.
    a = torch.linspace(1, 2, 128 * 128, dtype=torch.float32, device="cpu").view(128, 128)
    products.fp32_precision = "bf16"
    try:
        with torch.autocast("cpu", enabled=False):
            exact = a.double() @ a.double()
            error = (a @ a - exact).abs().max() / exact.abs().max()
    finally:
        products.fp32_precision = "none"
    return error.item() < 1e-5  # 1e-6 in float32, 1e-3 in bfloat16


P = ParamSpec("P")


T = TypeVar("T")


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """A function that is compiled at its first call, and draws the random numbers of the plain one."""
    return torch.compile(function, options={"fallback_random": True})


@contextlib.contextmanager
def check_compilable(what: str) -> Iterator[None]:
    """Around calls that compile.

    Raises
    ------
    LikelyError
        If torch cannot compile, with what and why.
    """
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        raise LikelyError(
            f"the {what} cannot be compiled ({' '.join(str(error).split())[:200]}); leave out "
            "`compile`, or install a C++ compiler if that is what is missing"
        ) from error
