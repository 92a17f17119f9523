"""Data: rows from files, arrays and tables, in a domain and in three splits.

`load_data` reads a source, finds its domain, checks every row and splits; `load_rows` does the same
without splitting, and `load_parts` some rows at a time; `inspect` looks at each column alone. There is one
reader for each format in `readers`.
"""

from likely.data.builtin import names
from likely.data.dataset import Data, Rows, Split
from likely.data.inspection import Inspection, inspect
from likely.data.load import load_data, load_parts, load_rows
from likely.data.translation import unpaired

__all__ = [
    "Data",
    "Inspection",
    "Rows",
    "Split",
    "inspect",
    "load_data",
    "load_parts",
    "load_rows",
    "names",
    "unpaired",
]
