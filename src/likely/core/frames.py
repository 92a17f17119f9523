"""Rows as frames of pandas, with names, labels and types, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from likely.core.columns import Column, Constant, Date, Maybe, wanted
from likely.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from likely.core.domain import Domain


def to_frame(domain: Domain, x: Tensor, dtypes: pd.Series | None = None) -> pd.DataFrame:
    """Rows as a frame: whole numbers stay whole, and categories get their labels back.

    Parameters
    ----------
    domain : Domain
    x : Tensor, shape (n, *domain.shape)
    dtypes : Series, optional
        Types of the columns, as of `DataFrame.dtypes`, by their labels; by default those that the
        domain knows.
    """
    import pandas as pd

    names: Any = [domain.label(i) if domain.names else f"x{i}" for i in range(domain.size)]
    known: Any = domain.dtypes or [None] * domain.size
    if dtypes is not None:
        names, known = dtypes.index, list(dtypes)
    columns = [
        _column(values, domain.column(i), known[i])
        for i, values in enumerate(x.flatten(1).numpy(force=True).T)
    ]
    return pd.concat(columns, axis=1).set_axis(names, axis=1)


def _column(values: Any, kind: Column, dtype: Any) -> pd.Series:
    import numpy as np
    import pandas as pd

    if isinstance(kind, Maybe):
        missing = np.isnan(values)
        column = _column(np.where(missing, kind.anchor, values), kind.of, dtype)
        whole = isinstance(column.dtype, np.dtype) and column.dtype.kind in "iub"
        return (column.convert_dtypes() if whole else column).mask(missing)
    if isinstance(kind, Date):
        from likely.core.dates import to_times

        return to_times(values, kind, dtype)
    labels = getattr(kind, "labels", None)
    if labels is not None:
        texts = np.array(labels, dtype=object)[values.astype(int)]
        if isinstance(dtype, pd.CategoricalDtype):
            codes = dtype.categories.astype(str).get_indexer(texts)
            return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype))
        if dtype == "category":
            return pd.Series(pd.Categorical(texts, categories=labels))
        return pd.Series(texts, dtype=dtype)
    if kind.discrete and not isinstance(kind, Constant):
        values = values.astype(np.int64)
    column = pd.Series(values)
    whole = kind.discrete and not (column % 1).any()
    fits = dtype is not None and (whole or pd.api.types.is_float_dtype(dtype))
    return column.astype(dtype) if fits else column


def to_rows(domain: Domain, frame: Any) -> Tensor:
    """Rows of a frame that has the domain's columns, by their names; labels become codes.

    Raises
    ------
    DataError
        If a column is missing, or an entry is neither a number, a date nor one of the labels.
    """
    import numpy as np
    import pandas as pd

    from likely.core.dates import to_numbers

    names = [domain.label(i) for i in range(domain.size)]
    found = {str(name): name for name in frame.columns}
    if domain.names is None and len(found) == domain.size:
        found = dict(zip(names, frame.columns, strict=True))
    if missing := [name for name in names if name not in found]:
        raise DataError(f"the table has no column {missing[0]!r}; it needs {', '.join(names)}")
    columns = []
    for i, name in enumerate(names):
        values, kind = frame[found[name]], domain.column(i).present
        labels = getattr(kind, "labels", None)
        if isinstance(kind, Date):
            numbers = to_numbers(values, kind)
        elif labels is not None and not pd.api.types.is_integer_dtype(values.dtype):
            codes = pd.Index(labels).get_indexer(pd.Index(values.astype(str).astype(object)))
            codes[values.isna()] = -1
            numbers = pd.Series(codes, dtype=float).where(codes >= 0).to_numpy()
        else:
            numbers = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
        wrong = np.isnan(numbers) & values.notna().to_numpy()
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"row {row}, column {name!r} takes {wanted(kind)}, not {values.iloc[row]!r}"
            )
        columns.append(torch.tensor(numbers))
    rows = torch.stack(columns, 1).reshape(-1, *domain.shape)
    return rows.long() if domain.discrete and rows.isfinite().all() else rows
