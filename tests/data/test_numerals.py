"""Numbers as people write them are read where that is certain, and told; else the column is named."""

import pandas as pd
import pytest

from likely.core.errors import DataError
from likely.data import load_rows
from likely.data.numerals import Ambiguous, are_dates, read_numbers


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1,234.50", "2,000.25", "7"], [1234.5, 2000.25, 7]),
        (["1,234,567", "12"], [1234567, 12]),
        (["1.234,50", "2.000,25"], [1234.5, 2000.25]),
        (["3,14", "-2,7"], [3.14, -2.7]),
        (["1 234", "12 345,5"], [1234, 12345.5]),
        (["1\u202f234", "5"], [1234, 5]),
        (["1'000'000", "1"], [1e6, 1]),
        (["1.5D+03", "2.5d-1"], [1500, 0.25]),
        (["−3.5", "2"], [-3.5, 2]),
        (["12 %", "7.5%"], [12, 7.5]),
        (["$1,200.00", "-$3.50", "$ 7"], [1200, -3.5, 7]),
        (["1200.5 €", "3 €"], [1200.5, 3]),
        (["5.2 GeV", "7 GeV", "1e3 GeV"], [5.2, 7, 1000]),
        (["3.1 km/s", "−2 km/s"], [3.1, -2]),
        ([" .5 mm", "1. mm"], [0.5, 1]),
    ],
)
def test_numbers_that_are_certain(texts, values):
    read, note = read_numbers(pd.Series(texts))
    assert read.tolist() == pytest.approx(values, rel=1e-15)
    assert note.startswith(repr(texts[0]))


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["1,200", "3,500"], "may be 1200 or 1.200"),
        (["5 kg", "300 g"], "different units .'g', 'kg'."),
        (["$5", "6 €"], "different units"),
        (["5 %", "0.3"], "different units"),
    ],
)
def test_numbers_that_are_not(texts, complaint):
    with pytest.raises(Ambiguous, match=complaint):
        read_numbers(pd.Series(texts))
    table = pd.DataFrame({"price": texts * 5})
    with pytest.raises(DataError, match=f"'price' has numbers .*{complaint}.*categorical"):
        load_rows(table)


@pytest.mark.parametrize(
    "texts",
    [
        ["red", "blue"],
        ["P0001", "P0002"],
        ["1.2.3", "10.0.1"],
        ["12-34", "56-78"],
        ["10.0.0.1"],
        ["", "5"],
        ["1,23,4", "1"],
        ["a1", "b2"],
    ],
)
def test_texts_that_are_no_numbers(texts):
    assert read_numbers(pd.Series(texts)) is None


@pytest.mark.parametrize(
    ("text", "date"),
    [
        *((text, True) for text in ("2020.01.31", "31.1.2020", "1/31/20", "01/02/2020", "12:30")),
        *((text, True) for text in ("31-Jan-2020", "4 March 2021", "2020/1/5 10:00")),
        *((text, False) for text in ("2020", "1.5", "10.0.1", "3:2", "A-12-34")),
    ],
)
def test_dates(text, date):
    assert are_dates(pd.Series([text])) == date
    if date:
        with pytest.raises(DataError, match="column 'when' holds dates or times"):
            load_rows(pd.DataFrame({"when": [text, text]}))


def test_numbers_of_a_table_are_told():
    with pytest.warns(UserWarning, match=r"column 'x': '1,000.1' is read as 1000.1"):
        rows = load_rows(pd.DataFrame({"x": ["1,000.1", "-2,000.7", "3"]}))
    assert rows.x[:, 0].tolist() == pytest.approx([1000.1, -2000.7, 3], rel=1e-7)
