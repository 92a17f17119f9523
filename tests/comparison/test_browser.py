"""The report in a real browser: it renders, sorts by a click, fits a phone, and asks for nothing."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import likely as lk
from likely.comparison.columns import filled
from likely.report.page import Cell, Column, Page

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")

EARLY = """<script>
window.found = {errors: [], orders: {}, marks: {}};
window.addEventListener("error", (event) => found.errors.push(String(event.message)), true);
console.error = (...words) => found.errors.push(words.join(" "));
</script>"""
LATE = """<script>
window.addEventListener("load", async () => {
  const seen = () =>
    [...document.querySelectorAll("th[aria-sort]")].filter((head) => head.offsetWidth).length;
  found.seen = [seen()];
  document.getElementById("all")?.click();
  found.seen.push(seen());
  const heads = [...document.querySelectorAll("th[aria-sort]")];
  const rows = () => [...document.querySelectorAll(".properties tbody tr")];
  const names = () => rows().map((row) => row.cells[0].firstChild.textContent);
  found.given = names();
  heads.forEach((head, at) => {
    const title = head.querySelector("button").textContent;
    found.orders[title] = [];
    found.marks[title] = [];
    for (const time of [0, 1]) {
      head.querySelector("button").click();
      found.orders[title].push(names());
      found.marks[title].push(heads.map((other) => other.getAttribute("aria-sort")));
    }
  });
  const images = [...document.images];
  images.forEach((image) => { image.loading = "eager"; });
  await Promise.all(images.map((image) => image.decode()));
  found.images = images.map((image) => image.naturalWidth);
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.room = document.documentElement.clientWidth;
  found.width = document.documentElement.scrollWidth;
  const result = document.createElement("pre");
  result.id = "found";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
});
</script>"""


def _opened(page: str, folder: Path, width: int) -> dict[str, Any]:
    """What a script found in the page, in a window of the given width."""
    path = folder / f"{width}.html"
    path.write_text(
        page.replace("<head>", "<head>" + EARLY, 1).replace("</body>", LATE + "</body>")
    )
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *(f"--user-data-dir={folder / 'profile'}", f"--window-size={width},800"),
        *("--virtual-time-budget=10000", "--dump-dom", path.as_uri()),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    match = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert match, "the script did not come to its end"
    return dict(json.loads(html.unescape(match[1])))


@pytest.fixture(scope="module")
def comparison() -> lk.Comparison:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    data = lk.load_data(pd.DataFrame({"x": x[:, 0], "y": x[:, 0] ** 2 + x[:, 1]}))
    return lk.compare(["vae", "ae"], data, steps=10, seeds=2)


@pytest.fixture(scope="module")
def page(comparison: lk.Comparison, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "index.html"
    comparison.to_html(path)
    return path.read_text()


def test_the_report_renders_and_sorts_by_a_click(
    comparison: lk.Comparison, page: str, tmp_path: Path
) -> None:
    found = _opened(page, tmp_path, 1280)
    assert found["errors"] == []
    assert all(name.startswith(("data:", "file:")) for name in found["requests"])
    assert len(found["images"]) == page.count("<img")
    assert min(found["images"]) > 0
    table = comparison.table
    assert found["given"] == list(table.index)
    main = [column.main for column in filled(comparison)]
    assert found["seen"] == [sum(main), len(main)]
    columns = {
        "log-likelihood": table["log_likelihood"],
        "energy distance": table["energy_distance"],
        "parameters": table["parameters"],
        "sampling": table["sampling"],
        "model": pd.Series(table.index, table.index),
    }
    for title, values in columns.items():
        for order, ascending in zip(found["orders"][title], (True, False), strict=True):
            shown = [str(name) for name in order]
            expected = values.sort_values(ascending=ascending)  # missing ones last
            assert values[shown].dropna().tolist() == expected.dropna().tolist()
            assert values[shown].isna().tolist() == expected.isna().tolist()
    for at, marks in enumerate(found["marks"].values()):
        for given, wanted in zip(marks, ("ascending", "descending"), strict=True):
            assert given == ["none"] * at + [wanted] + ["none"] * (len(given) - at - 1)


def test_the_report_fits_a_phone(page: str, tmp_path: Path) -> None:
    found = _opened(page, tmp_path, 390)
    assert found["room"] <= 500  # some versions open no narrower window
    assert found["width"] <= found["room"]
    assert found["errors"] == []


def test_the_check_sees_errors(tmp_path: Path) -> None:
    page = "<html><head></head><body><script>console.error('a'); nothing();</script></body></html>"
    assert len(_opened(page, tmp_path, 400)["errors"]) == 2


def test_numbers_are_sorted_as_numbers_and_gaps_stay_below(tmp_path: Path) -> None:
    orders = {"a": 9.0, "b": None, "c": -float("inf"), "d": 10.0, "e": -1e-5, "f": None}
    page = Page(
        title="numbers", lead=[], advice={}, notes=[], sections=[], settings=[],
        columns=[Column("name", "", "", numeric=False), Column("value", "", "")],
        rows=[[Cell(name, name), Cell("…", order)] for name, order in orders.items()],
    )  # fmt: skip
    found = _opened(page.render(), tmp_path, 800)
    assert found["orders"]["name"] == [list("abcdef"), list("fedcba")]
    assert found["orders"]["value"] == [list("ceadfb"), list("daecfb")]
