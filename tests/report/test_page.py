"""The page is self-contained, escapes what it shows, and its table says how it is sorted."""

import re
from html.parser import HTMLParser

from likely.report.page import Card, Cell, Column, Page, Section, Summary


class _Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


COLUMNS = [
    Column("model", "", "A name.", numeric=False),
    Column("score", "nats", 'What "score" means.', group="quality"),
    Column("gain", "nats", "More.", group="quality"),
    Column("size", "", "How large."),
]
ROWS = [
    [Cell("a", "a"), Cell("1.0", 1.0), Cell("2", 2), Cell("7", 7)],
    [Cell("b", "b", "in full"), Cell("–"), Cell("–"), Cell("8", 8)],
]
PAGE = Page(
    title="likely compare: <digits> & more",
    lead=["One <b>model</b>."],
    advice={"Speed": "a, if b <c> d."},
    columns=COLUMNS,
    rows=ROWS,
    notes=["c was refused"],
    sections=[
        Section("Samples", "Draws.", [Card("a", "data:image/svg+xml;base64,AA==", "seed 0")])
    ],
    settings=[("seeds", "0, 1")],
    sorted_by=("score", "descending"),
).render()


def test_the_page_needs_nothing_else() -> None:
    page = _Reader(PAGE)
    links = [t.get("src") or t.get("href") for _, t in page.tags if "src" in t or "href" in t]
    assert len(links) == 2
    assert all(link and link.startswith("data:") for link in links)
    assert not re.search(r"@import|url\(|fetch\(|https?://", PAGE)


def test_what_is_shown_is_escaped() -> None:
    page = _Reader(PAGE)
    assert "One <b>model</b>." in page.text
    assert not page.all("b")
    assert "likely compare: <digits> & more" in page.text
    assert "a, if b <c> d." in page.text
    assert {'What "score" means.'} < {th.get("title") for th in page.all("th")}


def test_the_table_is_accessible_and_sortable() -> None:
    page = _Reader(PAGE)
    heads = [th for th in page.all("th") if th.get("scope") == "col"]
    assert [th["aria-sort"] for th in heads] == ["none", "descending", "none", "none"]
    assert len(page.all("button")) == len(heads)
    orders = [t["data-order"] for _, t in page.tags if "data-order" in t]
    assert orders == ["a", "1.0", "2", "7", "b", "", "", "8"]
    groups = [th["colspan"] for th in page.all("th") if th.get("scope") == "colgroup"]
    assert groups == ["2"]
    assert [th for th in page.all("th") if th.get("scope") == "row"]
    assert page.all("img")[0]["alt"] == "Samples: a"
    assert {"name": "viewport"}.items() <= page.all("meta")[1].items()


def test_a_notebook_gets_the_table_without_scripts() -> None:
    text = Summary(lead=["One <b>model</b>."], columns=COLUMNS, rows=ROWS).render()
    table = _Reader(text)
    assert not table.all("script")
    assert not table.all("html")
    assert "One <b>model</b>." in table.text
    assert len(table.all("tr")) == 4
