"""Every mistake gets a message that names the file, the row, the column and what to do."""

import pickle
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import likely as lk
from likely.data import load_data

ROWS = np.random.default_rng(0).normal(size=(20, 2))
TABLE = pd.DataFrame(ROWS, columns=["pt", "eta"])


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def message(source, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(lk.LikelyError) as caught:
            load_data(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def written(name, content):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def with_entry(value, row=5, column="eta"):
    table = TABLE.astype(object)
    table.loc[row, column] = value
    table.to_csv("a.csv", index=False)
    return "a.csv"


def test_missing_and_empty_sources():
    assert "none.csv: there is no such file or folder" in message("none.csv")
    known = "digits, wine, breast-cancer, moons, sprites, rotations, galaxies, banana"
    assert known in message("digitz")
    for name in ("a.csv", "a.npy", "a.txt", "a.parquet", "a.h5", "a.npz"):
        assert message(written(name, "")) == f"{name}: the file is empty"
    assert message(written("a.csv", "x,y\n")) == "a.csv: the file has a header but no rows"
    assert "no lines" in message(written("a.txt", "\n\n"))
    assert "'.xyz' cannot be read; convert to one of .npy," in message(written("a.xyz", "1"))
    assert "only .npz, .h5, .root and .fits files hold" in message(written("a.csv", "1") + "::x")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "the entry is missing; fill it in, drop such rows with missing='drop'"),
        (np.inf, "the entry is infinite; fill it in"),
        ("high", "'high' is not a finite real number; correct it"),
    ],
)
def test_entries_that_are_no_numbers(value, complaint):
    text = message(with_entry(value))
    assert text.startswith("a.csv (rows counted from 0): row 5, column 'eta': " + complaint)
    frame = pd.read_csv("a.csv")
    assert "row 5, column 'eta': " + complaint in message(frame)
    if value != "high":
        rows = ROWS.copy()
        rows[5, 1] = np.nan if value is None else value
        text = message({"train": ROWS, "test": rows})
        assert text.startswith(
            "the data, test (rows counted from 0): row 5, column 1: " + complaint
        )


def test_entries_outside_the_domain():
    TABLE.to_csv("a.csv", index=False)
    row = int((ROWS[:, 0] <= 0).argmax())
    text = message("a.csv", domain={"pt": "positive"})
    assert f"row {row}, column 'pt': {ROWS[row, 0]:g} is not a finite number above 0" in text
    # What is dropped before does not shift the numbers of the rows.
    table = TABLE.abs()
    table.iloc[2, 1], table.iloc[9, 0] = np.nan, -3
    text = message(table, domain={"pt": "positive"}, missing="drop")
    assert "row 9, column 'pt': -3 is not a finite number above 0" in text
    kinds = pd.DataFrame({"kind": ["e"] * 15 + ["tau"]})
    text = message(kinds, domain={"kind": "categorical(e, mu)"})
    assert "row 15, column 'kind': 'tau' is not one of the categories e, mu" in text
    text = message(kinds, domain={"kind": "real"})
    assert "row 0, column 'kind': 'e' is not a finite real number" in text
    assert "row 1, column 0: 2 is not a whole number" in message(
        np.array([[1], [2]] * 6), domain=lk.binary(1)
    )


def test_too_few_rows():
    assert message(ROWS[:9]).startswith("the data: 9 usable rows; at least 10 are needed")
    rows = ROWS[:12].copy()
    rows[:3] = np.nan
    assert message(rows, missing="drop").startswith("the data: 9 usable rows")
    rows = np.r_[ROWS, ROWS * np.nan]
    text = message({"train": rows[:20], "test": rows[20:]}, missing="drop")
    assert text == "the data: no usable rows for the test split"


def test_unknown_columns_and_bad_options():
    TABLE.to_csv("a.csv", index=False)
    there = "; the columns are pt, eta"
    assert message("a.csv", columns=["pt", "mass"]) == "a.csv: unknown column 'mass'" + there
    assert message("a.csv", context="mass") == "a.csv: the context: unknown column 'mass'" + there
    assert message("a.csv", weight="mass") == "a.csv: the weight: unknown column 'mass'" + there
    assert message("a.csv", domain={"mass": "real"}) == "a.csv: unknown column 'mass'" + there
    assert "columns 1.5: give them by name or position" in message("a.csv", columns=1.5)
    assert "no columns are left" in message("a.csv", context=["pt", "eta"])
    assert "unknown column '2'; the columns are 0, 1" in message(ROWS, columns=[2])
    assert "the data have no columns" in message(ROWS[:, :, None], columns=[0])
    assert "unknown column kind 'posit'" in message("a.csv", domain={"pt": "posit"})
    assert "unknown column 'mass'" in message("a.csv", domain=lk.table(pt="real", mass="real"))
    assert "rows of shape (2,)" in message(ROWS, domain=lk.reals(3))
    assert "missing='ignore'" in message(ROWS, missing="ignore")
    assert "has 19 rows where the data has 20" in message(ROWS, context=ROWS[1:])


def test_weights():
    table = TABLE.assign(w=np.r_[np.ones(19), -200.0])
    assert "split have the sum -1" in message(table, weight="w")
    assert "the weight is nan" in message(ROWS, weight=np.full(20, np.nan))
    assert "the weight is inf" in message(ROWS, weight=np.full(20, np.inf))
    assert "weights of the train split have the sum 0" in message(ROWS, weight=np.zeros(20))
    assert "a weight is one number for each row" in message(ROWS, weight=ROWS)


def test_images():
    for i in range(10):
        Image.new("L", (4, 5)).save(f"{i}.png")
    for mode, size, complaint in (
        ("L", (5, 5), "5×5 grey, but 0.png is 4×5 grey; all images of a folder"),
        ("RGB", (4, 5), "4×5 colour, but 0.png is 4×5 grey"),
        ("RGBA", (4, 5), "the image has transparent pixels"),
        ("I;16", (4, 5), "4×5 grey in uint16, but 0.png is 4×5 grey"),
    ):
        Image.new(mode, size).save("7.png")
        assert f"7.png: {complaint}" in message(".")
    written("7.png", "no image")
    assert "7.png: not a readable image" in message(".")


def test_ragged_or_binary_csv():
    for line in ("3", "3,4,5"):
        text = message(written("a.csv", f"x,y\n1,2\n{line}\n4,5\n"))
        assert f"a.csv (rows counted from 0): row 1 has {line.count(',') + 1} entries" in text
        text = message(written("a.csv", f"1,2\n{line}\n4,5\n"))
        assert "row 1 has" in text
    for content in (np.random.default_rng(0).bytes(5000), bytes(100), b"x,y\n" + b"1,\xff\n" * 20):
        assert message(written("a.csv", content)).startswith("a.csv: ")
    assert "two columns are named 'x'" in message(written("a.csv", "x,x\n" + "1,2\n" * 20))
    times = "x,at\n" + "1.5,12:30:00\n" * 20
    assert "column 'at' holds time values; convert" in message(written("a.csv", times))
    assert "column 'y' is empty; leave it out" in message(written("a.csv", "x,y\n" + "1,\n" * 20))


def test_damaged_files():
    for name in ("a.npy", "a.npz", "a.h5", "a.parquet"):
        assert f"{name}: not a readable" in message(written(name, "garbage" * 50))
    np.save("a.npy", ROWS)
    whole = Path("a.npy").read_bytes()
    for length in (40, 200):
        assert "a.npy: not a readable .npy file" in message(written("a.npy", whole[:length]))
    np.savez("a.npz", x=ROWS)
    whole = Path("a.npz").read_bytes()
    assert "a.npz: not a readable .npz file" in message(written("a.npz", whole[:-30]))


class Bomb:
    def __reduce__(self):
        return open, ("exploded", "w")


def test_nothing_is_unpickled(tmp_path):
    objects = np.array([Bomb()] * 20, dtype=object)
    np.save("a.npy", objects, allow_pickle=True)
    np.savez("b.npz", x=objects)
    for name in ("c.npy", "c.npz", "c.h5", "c.parquet", "c.csv", "c.txt"):
        written(name, pickle.dumps(Bomb()))
    for path in sorted(tmp_path.iterdir()):
        assert path.name in message(path)
    assert "pickled Python objects" in message("a.npy")
    assert "pickled Python objects" in message("b.npz")
    assert not (tmp_path / "exploded").exists()


def test_arrays_without_rows_of_numbers():
    np.save("a.npy", np.float64(3))
    assert message("a.npy") == "a.npy: a single number, not an array of rows"
    np.save("a.npy", np.empty((0, 3)))
    assert message("a.npy") == "a.npy: the array is empty, its shape is (0, 3)"
    np.save("a.npy", ROWS + 1j)
    assert "type complex128 cannot be read" in message("a.npy")
    with h5py.File("a.h5", "w") as file:
        file["number"] = 3.0
    assert "a.h5::number: a single number" in message("a.h5")
    assert "array of objects cannot be read" in message(np.array([[None]] * 20))
    assert "rows of equal length" in message([[1.0], [1.0, 2.0]])
    assert "source of type NoneType" in message(None)
    assert "the table is empty" in message(pd.DataFrame())
    assert "holds a, b; the rows must be called train" in message({"a": ROWS, "b": ROWS})
    assert "no training split" in message({"test": ROWS})
    assert "rows of different shapes" in message({"train": ROWS, "test": ROWS[:, :1]})
