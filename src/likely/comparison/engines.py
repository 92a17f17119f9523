"""Clusters on which fits that do not depend on one another run: Dask and Ray.

Both start a task again elsewhere when its worker has been killed, a few times at most.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from likely.contract import registry
from likely.core.errors import LikelyError

SCHEMES = {"tcp": "dask", "tls": "dask", "ws": "dask", "wss": "dask", "ray": "ray"}  # of addresses
MODULES = {"dask": "distributed", "ray": "ray"}


def spread(
    function: Callable[..., Any], shared: Sequence[Any], calls: Iterable[Sequence[Any]], engine: str
) -> Iterator[tuple[int, Any]]:
    """Call `function(*shared, *call)` for each call on a cluster.

    Parameters
    ----------
    function : callable
    shared : sequence
        Arguments of all calls, which go to the cluster once.
    calls : iterable of sequences
    engine : str
        "dask" or "ray": the cluster to which this process is connected, that which their own variables
        of the environment name, or a new one on the cores of this machine. Or a cluster's address.

    Yields
    ------
    tuple of int and any
        The number of a call that has ended, and what it gave: an exception, if it or its workers failed.

    Raises
    ------
    LikelyError
        If there is no such engine, or it is not installed.
    """
    library = library_of(engine)
    own = {key: e for key, e in registry.entries().items() if e.cls.__module__ == "__main__"}
    address = engine if "://" in engine else None
    on_engine = _on_dask if library.__name__ == MODULES["dask"] else _on_ray
    return on_engine(library, (function, own, shared), calls, address)


def library_of(engine: str) -> Any:
    """The module that reaches an engine; a `LikelyError` if there is none."""
    kind = SCHEMES.get(engine.partition("://")[0], "") if "://" in engine else engine
    if kind not in MODULES:
        raise LikelyError(
            f"engine={engine!r}: give dask, ray, or the address of a cluster, as in tcp://HOST:8786 or "
            "ray://HOST:10001"
        )
    try:
        return importlib.import_module(MODULES[kind])
    except ImportError as error:
        raise LikelyError(f"engine={engine!r}: this needs pip install 'likely[{kind}]'") from error


def _call(common: tuple[Any, ...], call: Sequence[Any]) -> Any:
    function, own, shared = common
    registry._entries.update(own)  # models that the caller's script registers
    return function(*shared, *call)


def _same(value: Any) -> Any:
    return value


def _on_dask(
    dask: Any, common: tuple[Any, ...], calls: Iterable[Sequence[Any]], address: str | None
) -> Iterator[tuple[int, Any]]:
    with ExitStack() as stack:
        try:
            if address is not None:
                raise ValueError
            client = dask.Client.current()
        except ValueError:  # there is none
            given = {"address": address} if address else {"threads_per_worker": 1}
            client = stack.enter_context(dask.Client(**given))
        # The result of a task, which is repeated when the worker that holds it has been killed.
        held = client.submit(_same, common, pure=False)
        futures = {client.submit(_call, held, call, pure=False): i for i, call in enumerate(calls)}
        for future in dask.as_completed(list(futures)):
            yield futures.pop(future), future.exception() or future.result()


def _on_ray(
    ray: Any, common: tuple[Any, ...], calls: Iterable[Sequence[Any]], address: str | None
) -> Iterator[tuple[int, Any]]:
    with ExitStack() as stack:
        if not ray.is_initialized():
            ray.init(address=address)
            stack.callback(ray.shutdown)
        held, task = ray.put(common), ray.remote(_call)
        futures = {task.remote(held, call): i for i, call in enumerate(calls)}
        while futures:
            (future,), _ = ray.wait(list(futures))
            try:
                outcome = ray.get(future)
            except Exception as error:
                outcome = error
            yield futures.pop(future), outcome
