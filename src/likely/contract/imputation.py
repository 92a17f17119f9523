"""Multiple imputation: tables whose missing entries are drawn from a model (Rubin 1987)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from likely.contract.inputs import as_rows
from likely.core.columns import Date
from likely.core.errors import DataError
from likely.core.frames import to_frame
from likely.core.numbers import whole

if TYPE_CHECKING:
    import pandas as pd

    from likely.contract.model import GenerativeModel


def impute(
    model: GenerativeModel, frame: pd.DataFrame, draws: int = 5, *, seed: int | None = 0
) -> list[pd.DataFrame]:
    """Copies of a table in which missing entries are drawn, given those that are present.

    Entries are taken to be missing at random: whether one is missing says nothing about it that the entries
    which are present do not say. What is computed from each copy differs as much as the missing entries
    leave open; the mean over the copies is its estimate.

    Parameters
    ----------
    model : GenerativeModel
        One that completes rows: autoregressive models and Gaussian mixtures can. It may have been fitted to
        rows with holes (`missing="model"`) or to complete ones.
    frame : DataFrame
        With the columns of the model, and of its context; others remain as they are.
    draws : int
        Number of copies.
    seed : int, optional
        The same seed gives the same draws.

    Returns
    -------
    list of DataFrame
        With the index, the columns and the types of `frame`; what was present is unchanged.

    Raises
    ------
    AbilityError
        If the model cannot complete rows.
    DataError
        If nothing is missing from the model's columns, a column is not there, or an entry that is present
        lies outside its domain.
    LikelyError
        If `draws` is below 1.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import likely as lk
    >>> x = np.random.default_rng(0).normal(size=200)
    >>> frame = pd.DataFrame({"x": x, "y": 2 * x + 0.1}).mask(np.arange(400).reshape(200, 2) % 7 == 0)
    >>> data = lk.load_data(frame, missing="model")
    >>> model = lk.make("gaussian", data.domain)
    >>> history = lk.fit(model, data, epochs=50, seed=0)
    >>> filled = lk.impute(model, frame, draws=2)
    >>> [int(table.isna().sum().sum()) for table in filled]
    [0, 0]

    References
    ----------
    Rubin 1987, Multiple Imputation for Nonresponse in Surveys.
    """
    complete, domain = model.complete, model.domain  # a model without it says so
    if whole("draws", draws) < 1:
        raise DataError(f"impute: draws={draws}: give a number from 1 on")
    if not hasattr(frame, "columns"):
        raise DataError(f"impute: a frame with named columns is needed, not {type(frame).__name__}")
    x = as_rows(frame, domain, "impute")
    known = ~x.isnan()
    domain.check(torch.where(known, x, domain.anchor.to(x)), "impute")
    holes = ~known.flatten(1)
    rows = holes.any(1)
    if not rows.any():
        names = ", ".join(domain.label(i) for i in range(domain.size)[:8])
        raise DataError(f"impute: nothing is missing from the model's columns {names}")
    given: dict[str, Any] = {"seed": seed}
    if model.context is not None:
        context = as_rows(frame, model.context, "impute: the context")[rows]
        given["context"] = torch.cat([context] * draws)
    filled = complete(torch.cat([x[rows]] * draws), torch.cat([known[rows]] * draws), **given)
    found = {str(label): label for label in frame.columns}
    labels = [found.get(domain.label(i), frame.columns[i]) for i in range(domain.size)]
    values = to_frame(domain.present, filled.cpu(), frame.dtypes[labels]).set_axis(labels, axis=1)
    copies, n = [], int(rows.sum())
    for k in range(draws):
        copy, part = frame.copy(), values.iloc[k * n : (k + 1) * n]
        for i, label in enumerate(labels):
            hole = holes[:, i].numpy()
            drawn, kind = part[label][hole[rows.numpy()]], domain.column(i).present
            if isinstance(kind, Date) and not hasattr(frame[label], "dt"):  # it holds texts
                drawn = drawn.dt.strftime(
                    "%Y-%m-%d" if kind.unit == "days" else "%Y-%m-%dT%H:%M:%S"
                )
            copy.loc[hole, label] = drawn.to_numpy()
        copies.append(copy)
    return copies
