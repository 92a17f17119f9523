"""Rows without a label, as semi-supervised models learn from."""

import dataclasses

import numpy as np
import pandas as pd

from likely.core.columns import Discrete
from likely.core.domain import Domain
from likely.core.errors import DataError
from likely.data.select import Selection
from likely.data.table import Table

NO_LABEL = -1  # what stands for a class that is not known in arrays of whole numbers


def labels_of(selection: Selection) -> Selection:
    """The column of labels, missing where it is −1; whole numbers stay whole.

    Raises
    ------
    DataError
        If there are several columns.
    """
    table, labels = selection.table, selection.labels
    if len(labels) != 1:
        raise DataError(
            f"{table.name}: missing='unlabelled' takes one column of classes as context, not {len(labels)}"
        )
    column = pd.DataFrame(table.values).iloc[:, table.labels.index(labels[0])]
    if pd.api.types.is_numeric_dtype(column):
        column = column.mask(column == NO_LABEL).convert_dtypes()
    return Selection(dataclasses.replace(table, values=column.to_frame()), selection.columns)


def check_labels(domain: Domain, table: Table, lacking: np.ndarray) -> None:
    """Raise a `DataError` unless labels are classes, and only training rows lack one."""
    column = domain.column(0)
    if not (isinstance(column, Discrete) and column.levels):
        raise DataError(
            f"{table.name}: the label {domain.name(0)} is {column.kind}, not a class: declare its kind, as "
            f"categorical(a,b) or integer(10), or take missing='drop' (--missing drop)"
        )
    training = table.splits.get("train", len(table.values))
    if len(later := lacking[lacking >= training]):
        where, row = table.where(int(later[0]))
        raise DataError(
            f"{where}: row {row} has no label, which only training rows may lack: give it one, leave it out, "
            "or drop all such rows with missing='drop' (--missing drop)"
        )
