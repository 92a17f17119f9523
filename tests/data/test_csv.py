"""Tables in text are read as they are meant, whatever stands around them."""

import gzip

import numpy as np
import pandas as pd
import pytest

import likely as lk
from likely.data import load_data, load_rows

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(40, 3)).round(4)


def lines(delimiter, rows=ROWS, point="."):
    return (
        "\n".join(delimiter.join(f"{v:.4f}".replace(".", point) for v in row) for row in rows)
        + "\n"
    )


@pytest.fixture
def write(tmp_path):
    def write(text, name="a.csv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " ", "   ", ", ", " ; "])
@pytest.mark.parametrize(
    "header", ["", "x{0}y{0}z\n", "# x{0}y{0}z\n", "#made by hand\n# x{0}y{0}z\n"]
)
def test_delimiters_and_headers(write, delimiter, header):
    path = write(header.format(delimiter) + lines(delimiter))
    np.testing.assert_array_equal(load_rows(path).x, ROWS.astype(np.float32))
    assert load_data(path).domain.names == (("x", "y", "z") if header else None)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.gz", "a.dat", "a.tsv"])
def test_names_of_files(write, name):
    path = write("x\ty\tz\n" + lines("\t"), name)
    np.testing.assert_array_equal(load_rows(path).x, ROWS.astype(np.float32))


def test_decimal_commas(write):
    with pytest.warns(UserWarning, match="is read as"):
        rows = load_rows(write("x;y;z\n" + lines(";", point=",")))
    np.testing.assert_allclose(rows.x, ROWS, rtol=1e-6)


def test_quotes_blanks_and_breaks_in_names(write):
    text = '"E, total\n(GeV)", "kind of"\n'
    text += "".join(f'"{i}.5","a, b"\n{i}.25,"c; d"\n' for i in range(10))
    data = load_data(write(text))
    assert data.domain == lk.table(
        **{"E, total (GeV)": lk.Real(), "kind of": lk.Categorical(["a, b", "c; d"])}
    )
    assert len(load_rows(write(text))) == 20


def test_titles_are_told(write):
    path = write("Run 7, the good one\nmade in May\n\nx,y,z\n" + lines(","))
    with pytest.warns(UserWarning, match="2 lines above the table are left out, such as 'Run 7'"):
        assert load_data(path).domain.names == ("x", "y", "z")


def test_headers_of_numbers(write):
    years = "2018,2019,2020\n" + lines(",")
    with pytest.warns(
        UserWarning, match="the first line, 2018, 2019, 2020, is taken for the names"
    ):
        assert len(load_rows(write(years))) == 40
    pixels = pd.DataFrame(RNG.integers(0, 9, (30, 5)))
    for index, rows in ((False, 30), (True, 30)):
        path = write(pixels.to_csv(index=index))
        assert load_rows(path).x.shape == (rows, 5)
    bits = pd.DataFrame(RNG.integers(0, 2, (30, 2)))
    assert len(load_rows(write("0,1\n" + bits.to_csv(index=False, header=False)))) == 31


def test_the_header_of_r_lacks_the_name_of_the_index(write):
    text = '"x" "y"\n' + "".join(f'"{i}" {x} {y}\n' for i, (x, y, _) in enumerate(ROWS, 1))
    rows = load_rows(write(text))
    np.testing.assert_array_equal(rows.x, ROWS[:, :2].astype(np.float32))


def test_codes_with_leading_zeros_stay_text(write):
    path = write(
        "x,code,n\n"
        + "".join(f"{i}.5,{c},{i % 26}\n" for i, c in enumerate(["007", "012", "100"] * 9))
    )
    column = load_data(path).domain.column(1)
    assert column == lk.Categorical(["007", "012", "100"])
    data = load_data(
        path,
        domain={
            1: "categorical(100, 012, 007)",
            "n": "categorical(" + ",".join(map(str, range(27))) + ")",
        },
    )
    assert data.domain.column(1).labels == ("100", "012", "007")


def test_comments_between_rows_and_columns_of_one_type(write):
    many = "".join(f"{i},{i}\n" for i in range(200_000)) + "# a break\n7.5,x\n"
    path = write("n,m\n" + many)
    with pytest.raises(lk.DataError, match=r"row 200000, column 'm': 'x' is not a"):
        load_rows(path)
    assert load_rows(path, columns="n").x[-1] == 7.5


def test_a_table_in_a_txt_file_is_no_prose(write):
    path = write(lines(" "), "events.txt")
    with pytest.raises(lk.DataError, match=r"rename it to .csv to read a table, or say window=256"):
        load_data(path)
    assert load_rows(path, window=16).x.shape[1] == 16
    prose = write("It was 1984, and the clocks were striking 13.\n" * 30, "prose.txt")
    assert load_rows(prose, window=16).x.shape[1] == load_data(prose, window=16).domain.size
    assert load_data(write("1. Of gods and men in many words\n" * 60, "b.txt")).domain.size == 256
