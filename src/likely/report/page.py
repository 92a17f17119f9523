"""One self-contained HTML page: a table that sorts, sections of pictures, settings. No network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import ClassVar

import jinja2
from rich.table import Table

from likely._version import __version__


@dataclass(frozen=True)
class Column:
    """A column of the page's table: its title, its unit, and what it means.

    Neighbours of one group have a common head. The page unfolds columns that are not main ones on demand.
    """

    title: str
    unit: str
    meaning: str
    numeric: bool = True
    group: str = ""
    main: bool = True


@dataclass(frozen=True)
class Cell:
    """An entry of the table: its text, and the number or string that it is sorted by."""

    text: str
    order: float | str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Card:
    """A picture with its title and caption; `picture` is a data URI."""

    title: str
    picture: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and pictures side by side; `size` is small, medium, large or wide."""

    title: str
    text: str
    cards: Sequence[Card] = ()
    size: str = "medium"


def render(template: str, **values: object) -> str:
    """The text of a page, from a template of this folder."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("likely.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(values, version=__version__)


def listed(options: Mapping[str, object]) -> str:
    """Names and values in one line of the settings."""
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "–"


def terminal_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Table:
    """A table for a terminal."""
    table = Table()
    for column in columns:
        unit = f" ({column.unit})" if column.unit else ""
        table.add_column(f"{column.title}{unit}", justify="right" if column.numeric else "left")
    for row in rows:
        table.add_row(*(cell.text for cell in row))
    return table


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The table as a piece of HTML for a notebook, in its colours, with paragraphs below it.

    Attributes
    ----------
    lead : sequence of str
        Paragraphs: what was compared, and what came out.
    columns, rows : the table
        The first column heads the rows.
    sorted_by : (title of a column, "ascending" or "descending")
        How the rows are sorted as given.
    """

    lead: Sequence[str]
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    sorted_by: tuple[str, str] = ("", "")
    template: ClassVar[str] = "table.html.j2"

    def render(self) -> str:
        """Its text."""
        # Groups of neighbouring columns, and how many there are in each; the first one stays alone.
        others = groupby(self.columns[1:], lambda column: column.group)
        groups = [("", 1), *((group, len(list(of))) for group, of in others)]
        return render(self.template, **vars(self), groups=groups)


@dataclass(frozen=True, kw_only=True)
class Page(Summary):
    """The whole page, with the paragraphs above the table.

    Attributes
    ----------
    title : str
    notes : sequence of str
        What a reader must know about the table: refused models, runs that failed.
    sections : sequence of Section
        Below the table.
    settings : sequence of (name, value)
        What is needed to repeat the work.
    advice : mapping of str to str
        Which model to use for which purpose, if there is any advice.
    about_advice : str
        A paragraph above it.
    opening : sequence of Section
        Above the table.
    """

    title: str
    notes: Sequence[str]
    sections: Sequence[Section]
    settings: Sequence[tuple[str, str]]
    advice: Mapping[str, str] = field(default_factory=dict)
    about_advice: str = ""
    opening: Sequence[Section] = ()
    template: ClassVar[str] = "page.html.j2"
