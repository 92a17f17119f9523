"""Every format gives back the rows that were written, in their domain."""

import math

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import likely as lk
from likely.data import load_data, load_rows
from likely.data.source import read

ROWS = np.random.default_rng(0).normal(size=(40, 3))
TABLE = pd.DataFrame(
    {
        "pt": np.random.default_rng(1).lognormal(size=40),
        "n": np.arange(40) % 7,
        "hit": np.arange(40) % 3 == 0,
        "kind": ["mu", "e"] * 20,
    }
)
TABLE_DOMAIN = lk.table(
    pt=lk.Real(), n=lk.Integer(7), hit=lk.Binary(), kind=lk.Categorical(["e", "mu"])
)


def same_rows(split, expected):
    torch.testing.assert_close(
        split.x.double(), torch.as_tensor(expected).double(), rtol=1e-6, atol=0
    )


@pytest.fixture
def write(tmp_path):
    """Writes the array or the table in a format; gives the path."""

    def to(suffix, what):
        path = tmp_path / f"some{suffix}"
        if suffix == ".npy":
            np.save(path, what)
        elif suffix == ".npz":
            np.savez(path, x=what)
        elif suffix in (".h5", ".hdf5"):
            with h5py.File(path, "w") as file:
                file["x"] = what
        elif suffix == ".parquet":
            what.to_parquet(path)
        else:
            what.to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
        return path

    return to


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".hdf5"])
def test_array_files(write, suffix):
    path = write(suffix, ROWS)
    rows = load_rows(path)
    same_rows(rows, ROWS)
    data = load_data(str(path))
    assert data.domain == lk.reals(3)
    assert data.name == f"some{suffix}"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_table_files(write, suffix):
    path = write(suffix, TABLE)
    assert load_data(path).domain == TABLE_DOMAIN
    encoded = TABLE.assign(kind=(TABLE.kind == "mu").astype(int), hit=TABLE.hit.astype(int))
    same_rows(load_rows(path), encoded.to_numpy())


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        lambda x: x.astype(np.float32),
        lambda x: x.astype(">f8"),
        torch.from_numpy,
        lambda x: x.tolist(),
        pd.DataFrame,
        lambda x: {"x": x},
    ],
)
def test_arrays_in_memory(convert):
    same_rows(load_rows(convert(ROWS)), ROWS)
    domain = load_data(convert(ROWS)).domain
    assert (domain.shape, domain.kinds, domain.names) == ((3,), {lk.Real}, None)


def test_table_in_memory():
    assert load_data(TABLE).domain == TABLE_DOMAIN
    assert load_data(TABLE[["pt"]]).domain == lk.table(pt=lk.Real())
    typed = TABLE.assign(kind=TABLE.kind.astype(pd.CategoricalDtype(["tau", "mu", "e"])))
    assert load_data(typed).domain.column(3) == lk.Categorical(["tau", "mu", "e"])
    assert set(load_rows(typed).x[:, 3].tolist()) == {1, 2}
    one = load_data(TABLE.pt.to_numpy())
    assert one.domain == lk.reals(1)


def test_half_precision_and_whole_numbers():
    same_rows(load_rows(torch.ones(3, 2, dtype=torch.bfloat16)), np.ones((3, 2)))
    same_rows(load_rows(ROWS.astype(np.float16)), ROWS.astype(np.float16))
    counts = np.arange(1000)[:, None] + 2**40
    rows = load_rows(counts)
    assert rows.x.dtype == torch.int64
    assert (rows.x.numpy() == counts).all()


def test_npz_with_splits(tmp_path):
    x, y = ROWS.reshape(-1, 3), np.arange(40)
    np.savez(
        tmp_path / "a.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:], note="hi"
    )
    data = load_data(tmp_path / "a.npz", context="y")
    same_rows(data.test, x[30:])
    assert data.test.context.flatten().tolist() == y[30:].tolist()
    assert data.context == lk.table(y=lk.Integer(40))
    assert (len(data.train), len(data.valid)) == (27, 3)
    given = torch.cat([data.train.context, data.valid.context]).flatten()
    assert sorted(given.tolist()) == list(range(30))
    same_rows(data.train, x[data.train.context.flatten()])

    np.savez(tmp_path / "b.npz", train=x[:20], val=x[20:30], test=x[30:])
    data = load_data(tmp_path / "b.npz")
    for split, part in ((data.train, x[:20]), (data.valid, x[20:30]), (data.test, x[30:])):
        same_rows(split, part)

    np.savez(tmp_path / "c.npz", X=x, y=y)
    assert load_data(tmp_path / "c.npz").domain == lk.reals(3)
    np.savez(tmp_path / "d.npz", momenta=x, labels=y)
    with pytest.raises(lk.DataError, match=r"d\.npz: holds momenta, labels"):
        load_data(tmp_path / "d.npz")
    same_rows(load_rows(f"{tmp_path}/d.npz::momenta"), x)
    with pytest.raises(lk.DataError, match="has no 'spins'; it holds momenta, labels"):
        load_data(f"{tmp_path}/d.npz::spins")


def test_hdf5_names_tables_and_compound_types(tmp_path):
    path = tmp_path / "a.h5"
    compound = np.zeros(40, [("pt", ">f4"), ("n", "i4"), ("kind", "S2")])
    compound["pt"], compound["n"], compound["kind"] = TABLE.pt, TABLE.n, TABLE.kind
    with h5py.File(path, "w") as file:
        file["run/pt"], file["run/n"] = TABLE.pt, TABLE.n
        file["run/kind"] = TABLE.kind.to_list()
        file["run/wide"] = ROWS
        file["compound"] = compound
        file["split/train"], file["split/test"] = ROWS[:30], ROWS[30:]
    same_rows(load_rows(f"{path}::run/wide"), ROWS)
    domain = lk.Domain((3,), TABLE_DOMAIN.columns[:2] + TABLE_DOMAIN.columns[3:])
    for keys, names in (
        ("run/pt,run/n,run/kind", ("run/pt", "run/n", "run/kind")),
        ("compound", ("pt", "n", "kind")),
    ):
        data = load_data(f"{path}::{keys}")
        assert (data.domain.columns, data.domain.names) == (domain.columns, names)
        expected = TABLE[["pt", "n"]].assign(kind=(TABLE.kind == "mu").astype(int))
        same_rows(load_rows(f"{path}::{keys}"), expected.to_numpy())
    data = load_data(f"{path}::split")
    assert data.name == "a.h5::split"
    same_rows(data.test, ROWS[30:])
    with pytest.raises(lk.DataError, match=r"has no 'run/eta'; it holds compound, run/kind, run/n"):
        load_data(f"{path}::run/eta")
    with pytest.raises(lk.DataError, match=r"'run/wide' has shape \(40, 3\)"):
        load_data(f"{path}::run/pt,run/wide")


def test_csv_dialects(tmp_path):
    path = tmp_path / "a.csv"
    lines = [f"{i % 5},{i * 0.5},x{i % 2}" for i in range(12)]
    path.write_text("\ufeffn, t,kind\r\n" + "\r\n".join(lines) + "\r\n\r\n", encoding="utf-8")
    data = load_data(path)
    assert data.domain == lk.table(n=lk.Integer(5), t=lk.Real(), kind=lk.Categorical(["x0", "x1"]))
    assert len(load_rows(path)) == 12
    path.write_text("\n".join(lines).replace(",", ";").replace(";x0", ";1").replace(";x1", ";2"))
    assert load_data(path).domain == lk.Domain((3,), (lk.Integer(5), lk.Real(), lk.Integer(3)))
    TABLE.to_csv(path)  # with the index
    assert load_data(path).domain == TABLE_DOMAIN


@pytest.mark.parametrize(
    ("mode", "domain"),
    [
        ("L", lk.integers(256, 5, 4, layout="image")),
        ("RGB", lk.integers(256, 3, 5, 4, layout="image")),
        ("P", lk.integers(256, 3, 5, 4, layout="image")),
        ("1", lk.binary(5, 4, layout="image")),
    ],
)
def test_images(tmp_path, mode, domain):
    rng = np.random.default_rng(0)
    images = []
    for i in range(12):
        image = Image.fromarray(rng.integers(256, size=(5, 4, 3), dtype=np.uint8)).convert(mode)
        image.save(tmp_path / f"{i:02d}.png")
        pixels = np.asarray(image.convert("RGB") if mode == "P" else image)
        images.append(pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels)
    (tmp_path / "notes.md").write_text("no image")
    assert load_data(tmp_path).domain == domain
    same_rows(load_rows(tmp_path), np.stack(images))


def test_images_in_split_folders(tmp_path):
    for name, n in (("train", 10), ("test", 3)):
        (tmp_path / name).mkdir()
        for i in range(n):
            Image.new("L", (2, 2), i + 100 * (name == "test")).save(tmp_path / name / f"{i}.png")
    data = load_data(tmp_path)
    assert data.test.x[:, 0, 0].tolist() == [100, 101, 102]
    assert (len(data.train), len(data.valid)) == (9, 1)


def test_text(tmp_path):
    path = tmp_path / "a.txt"
    lines = ["ab", "bäa", "a"] * 4
    path.write_text("\n".join(lines).replace("\n", "\n\n"), encoding="utf-8")
    data = load_data(path, window=0)
    assert data.domain == lk.text(["a", "b", "ä"], 3)
    assert load_rows(path, window=0).x[:3].tolist() == [[0, 1, 3], [1, 2, 0], [0, 3, 3]]
    assert load_rows(lines).x.tolist() == load_rows(path, window=0).x.tolist()
    wide = lk.text(["ä", "b", "a", "c"], 4)
    assert load_rows(path, domain=wide).x[:2].tolist() == [[2, 1, 4, 4], [1, 0, 2, 4]]
    with pytest.raises(lk.DataError, match="row 1, column 1: 'ä' is not in the vocabulary"):
        load_data(path, domain=lk.text(["a", "b"], 3))
    with pytest.raises(lk.DataError, match="row 1 has 3 symbols"):
        load_data(path, domain=lk.text(["a", "b", "ä"], 2))


def test_running_text(tmp_path):
    path = tmp_path / "a.txt"
    content = "".join("abc\nä"[i * i % 5] for i in range(1003))
    path.write_text(content, encoding="utf-8")
    data = load_data(path, window=10)
    assert data.running
    assert data.domain == lk.categories(sorted(set(content)), 10)
    train, valid, test = (
        data.domain.texts(split.x[:]) for split in (data.train, data.valid, data.test)
    )
    # Both in order and without a gap; no training window touches them.
    assert "".join(test) == content[-100:]
    assert "".join(valid) == content[441:461]
    starts = [*range(441 - 9), *range(461, 903 - 9)]
    assert sorted(train) == sorted(content[i : i + 10] for i in starts)
    rows = load_rows(path, domain=data.domain)
    assert data.domain.texts(rows.x) == [content[i : i + 10] for i in range(0, 994, 10)]
    assert data.domain.codes(content).tolist()[:10] == rows.x[0].tolist()
    with pytest.raises(lk.DataError, match="'z' is not in the model's alphabet"):
        data.domain.codes("abz")
    with pytest.raises(lk.DataError, match="character 2: 'ä' is not in the vocabulary"):
        load_data(path, domain=lk.categories("ab", 10))
    with pytest.raises(lk.DataError, match=r"take a shorter one with window="):
        load_data(path, window=2000)
    with pytest.raises(lk.DataError, match="too few for windows of 400"):
        load_data(path, window=400)
    with pytest.raises(lk.DataError, match="have no context and no weight"):
        load_data(path, window=10, context=np.zeros((1003, 1)))
    with pytest.raises(lk.DataError, match="give more of the text"):
        load_rows(path, domain=lk.categories(sorted(set(content)), 2000))
    with pytest.raises(lk.LikelyError, match="window=-1"):
        load_data(path, window=-1)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("1,,3", "4,5,6", [[1, math.nan, 3], [4, 5, 6]]),
        (",2,3", "4,5,6", [[math.nan, 2, 3], [4, 5, 6]]),
        (",0,1", "0,5,6", [[5, 6]]),  # pandas: an index, and columns without names
        (",a,b", "0,5,6", [[5, 6]]),
    ],
)
def test_an_empty_cell_in_the_first_line_makes_no_header(tmp_path, first, second, expected):
    path = tmp_path / "a.csv"
    path.write_text(f"{first}\n{second}\n")
    table = read(path, 0)
    np.testing.assert_array_equal(table.values.to_numpy(float), expected)


def test_target_keeps_its_truth():
    target = lk.targets.target("rings")
    data = load_data(target, seed=3)
    again, other = load_data(target, seed=3), load_data(target, seed=4)
    assert data.truth is target
    assert data.domain == target.domain
    assert len(data.train) == 20_000
    assert data.fingerprint() == again.fingerprint() != other.fingerprint()
    assert load_data("rings", domain=lk.table("real", "real")).truth is None
