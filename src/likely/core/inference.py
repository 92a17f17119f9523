"""The domain that an array or a table suggests."""

from typing import Any

import numpy as np
from torch import Tensor

from likely.core.columns import Binary, Categorical, Column, Count, Integer, Real, Spin
from likely.core.domain import Domain
from likely.core.errors import DataError


def infer_domain(data: Any) -> Domain:
    """The domain that an array or a DataFrame suggests.

    Booleans and arrays of 0 and 1 (of any type) are binary, of −1 and 1 spins, unsigned bytes and
    small non-negative integers ordered levels, other non-negative integers counts, dates and ISO texts of
    dates `Date`, other text and pandas categories categorical; everything else is real. Bounds and
    periods are never guessed: declare those.

    Raises
    ------
    DataError
        If the data have no rows, or a type that cannot be read.
    """
    if hasattr(data, "dtypes") and hasattr(data, "columns"):
        columns = tuple(_infer_series(data[name], str(name)) for name in data.columns)
        return Domain((len(columns),), columns, names=tuple(map(str, data.columns)))
    array = data.numpy(force=True) if isinstance(data, Tensor) else np.asanyarray(data)
    if array.ndim == 0 or array.shape[0] == 0:
        raise DataError("the array is empty: give at least one row")
    shape = tuple(array.shape[1:]) or (1,)
    return Domain(shape, (_infer_array(array),), layout="vector" if len(shape) == 1 else "image")


INTEGER_LEVELS = 256  # whole numbers from 0 below this are taken as ordered levels


def _infer_array(array: np.ndarray) -> Column:
    kind = array.dtype.kind
    if kind not in "biuf":
        raise DataError(f"an array of type {array.dtype} cannot be read: give numbers")
    if kind in "iu" and array.min() >= 0:
        high = int(array.max())
        if high <= 1:
            return Binary()
        if array.dtype == np.uint8 and array.ndim > 2:
            return Integer(256)
        return Integer(high + 1) if high < INTEGER_LEVELS else Count()
    if kind == "b" or (kind == "f" and _takes_only(array, 0, 1)):
        return Binary()
    return Spin() if _takes_only(array, -1, 1) else Real()


def _takes_only(array: np.ndarray, low: float, high: float) -> bool:
    """Whether two values occur and no others; a mapped file is read up to the first other value."""
    lows = highs = False
    rows = max(1, (1 << 20) // max(1, array[0].size))
    for start in range(0, len(array), rows):
        block = array[start : start + rows]
        is_low, is_high = block == low, block == high
        if not (is_low | is_high).all():
            return False
        lows, highs = lows or is_low.any(), highs or is_high.any()
    return bool(lows and highs)


def _infer_series(series: Any, name: str) -> Column:
    import pandas as pd

    from likely.core.dates import date_kind

    if isinstance(series.dtype, pd.CategoricalDtype):
        return Categorical([str(label) for label in series.cat.categories])
    if (dates := date_kind(series.dropna())) is not None:
        return dates
    if not (pd.api.types.is_numeric_dtype(series) or pd.api.types.is_bool_dtype(series)):
        labels = sorted({str(value) for value in series.dropna()})
        if not labels:
            raise DataError(f"column {name!r} has no values")
        return Categorical(labels)
    values = series.dropna()
    return _infer_array(values.to_numpy()) if len(values) else Real()
