"""Files of rows, in the format of their names, written whole or in parts."""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    import pandas as pd

STREAMED = (".npy", ".csv", ".parquet")  # what takes rows in parts
TABLES = (*STREAMED, ".npz", ".fits")


def write_rows(path: Path, name: str, array: np.ndarray, frame: pd.DataFrame | None = None) -> None:
    """Write rows: as an array, or as the columns of a table."""
    import numpy as np
    import pandas as pd

    from likely.core.files import written_whole

    if path.suffix.lower() in STREAMED:
        with appended(path, name) as append:
            append(array, frame)
        return
    with written_whole(path) as file:
        if path.suffix.lower() == ".npz":
            np.savez_compressed(file, allow_pickle=False, **{name: array})
        else:
            from likely.data.readers.fields import library

            table = pd.DataFrame({name: array}) if frame is None else frame
            astropy = library("astropy.table", "fits", path)
            astropy.Table.from_pandas(table).write(file, format="fits")


@contextlib.contextmanager
def appended(path: Path, name: str) -> Iterator[Callable[..., None]]:
    """A function that appends rows to a file, given as to `write_rows`; all have the type of the first."""
    import numpy as np
    import pandas as pd
    import pyarrow
    from pyarrow import parquet

    from likely.core.files import written_whole

    suffix, first, rows, table = path.suffix.lower(), None, 0, None

    def append(array: np.ndarray, frame: pd.DataFrame | None = None) -> None:
        nonlocal first, rows, table
        frame = pd.DataFrame({name: array}) if frame is None else frame
        if suffix == ".csv":
            frame.to_csv(file, index=False, header=first is None, lineterminator="\n")
        elif suffix == ".npy":
            if first is None:
                _write_header(file, array, 0)
            else:
                array = array.astype(first.dtype, copy=False)
            file.write(np.ascontiguousarray(array).data)
        else:
            schema = None if table is None else table.schema
            part = pyarrow.Table.from_pandas(frame, schema, preserve_index=False)
            table = table or stack.enter_context(parquet.ParquetWriter(file, part.schema))
            table.write_table(part)
        first, rows = array[:0] if first is None else first, rows + len(array)

    with written_whole(path) as file, contextlib.ExitStack() as stack:
        yield append
        if suffix == ".npy" and first is not None:
            file.seek(0)
            _write_header(file, first, rows)
            file.seek(0, 2)


def _write_header(file: IO[bytes], like: np.ndarray, rows: int) -> None:
    """Begin an .npy file; the format leaves room for any number of rows."""
    import numpy as np

    header: Any = np.lib.format.header_data_from_array_1_0(like)
    np.lib.format.write_array_header_1_0(
        file, header | {"shape": (rows, *like.shape[1:]), "fortran_order": False}
    )
