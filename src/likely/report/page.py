"""One self-contained HTML page: a table that sorts, sections of pictures, settings. No network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType

import jinja2

from likely._version import __version__


@dataclass(frozen=True)
class Column:
    """A column of the page's table: its title, its unit, and what it means.

    Neighbours of one group have a common head.
    """

    title: str
    unit: str
    meaning: str
    numeric: bool = True
    group: str = ""


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


def render(
    title: str,
    *,
    lead: Sequence[str],
    advice: Mapping[str, str] = MappingProxyType({}),
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    notes: Sequence[str],
    about_advice: str = "",
    sections: Sequence[Section],
    settings: Sequence[tuple[str, str]],
    sorted_by: tuple[str, str] = ("", ""),
) -> str:
    """The page as text.

    Parameters
    ----------
    title : str
    lead : sequence of str
        Paragraphs above the table: what was compared, and what came out.
    advice : mapping of str to str
        Which model to use for which purpose, if there is any advice.
    about_advice : str
        A paragraph above it.
    columns, rows : the table
        The first column heads the rows.
    notes : sequence of str
        What a reader must know about the table: refused models, runs that failed.
    sections : sequence of Section
    settings : sequence of (name, value)
        What is needed to repeat the work.
    sorted_by : (title of a column, "ascending" or "descending")
        How the rows are sorted as given.
    """
    return _template("page.html.j2").render(
        title=title,
        lead=lead,
        advice=advice,
        about_advice=about_advice,
        columns=columns,
        groups=_groups(columns),
        rows=rows,
        notes=notes,
        sections=sections,
        settings=settings,
        sorted_by=sorted_by,
        version=__version__,
    )


def render_table(
    *,
    lead: Sequence[str],
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    sorted_by: tuple[str, str] = ("", ""),
) -> str:
    """The table as a piece of HTML for a notebook, in its colours, with paragraphs below it."""
    return _template("table.html.j2").render(
        lead=lead, columns=columns, groups=_groups(columns), rows=rows, sorted_by=sorted_by
    )


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("likely.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def _groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Groups of neighbouring columns, and how many there are in each; the first one stays alone."""
    others = groupby(columns[1:], lambda column: column.group)
    return [("", 1), *((group, len(list(of))) for group, of in others)]
