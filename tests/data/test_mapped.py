"""Arrays that stay in their file: batches by index, blockwise order, little memory."""

import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import likely as lk
from likely.data import Rows, load_data, load_rows
from likely.data.source import read

N, D = 3000, 8


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A file that counts as large."""
    monkeypatch.setattr("likely.data.load.MAPPED_BYTES", 12_000)
    monkeypatch.setattr("likely.data.readers.hdf5.MAPPED_BYTES", 12_000)
    monkeypatch.setattr("likely.data.encode.MAPPED_BYTES", 12_000)
    monkeypatch.setattr("likely.data.readers.tables.MAPPED_BYTES", 12_000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    x = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    x[:, 0] = np.arange(N)  # tells which row it is
    np.save(tmp_path / "big.npy", x)
    return tmp_path / "big.npy"


def change(path, x):
    np.save(path, x)
    return path


def test_mapped_rows_are_those_of_the_file(path):
    x = torch.from_numpy(np.load(path))
    for source in (path, np.load(path, mmap_mode="r")):
        data = load_data(source)
        found = []
        for split in (data.train, data.valid, data.test):
            assert isinstance(split.x, Rows)
            assert not split.in_memory
            assert split.x.shape == (len(split), D)
            order = split.order(0)
            batch = split.rows(order[:7])
            assert torch.equal(batch.x, x[batch.x[:, 0].long()])
            assert torch.equal(batch.x, split.x[order.numpy()[:7]])
            found.append(split.x[:][:, 0])
        assert torch.equal(torch.cat(found).sort().values, x[:, 0])
        assert len(data.train.subset(80).x) == 10


def test_columns_context_weight_and_splits_of_a_mapped_file(path):
    x = torch.from_numpy(np.load(path))
    other = np.arange(N) % 3
    data = load_data(path, columns=[0, 5], context=2, weight=0)
    assert data.domain.names == ("0", "5")
    batch = data.test.rows(slice(0, 10))
    row = batch.x[:, 0].long()
    assert torch.equal(batch.x[:, 1], x[row, 5])
    assert torch.equal(batch.context[:, 0], x[row, 2])
    assert torch.equal(batch.weight, x[row, 0])
    few = load_data(path, columns=[0]).test  # small enough to be read
    assert few.in_memory
    assert torch.equal(few.x[:, 0], x[few.x[:, 0].long(), 0])
    data = load_data(path, context=other)
    batch = data.train.rows(data.train.order(0)[:10])
    assert batch.context[:, 0].tolist() == [int(i) % 3 for i in batch.x[:, 0]]
    assert torch.equal(load_rows(path).x[:], x)


def test_order_reads_blocks_of_neighbours(path, monkeypatch):
    monkeypatch.setattr("likely.data.dataset.BLOCK_BYTES", 32 * 4 * D)
    monkeypatch.setattr("likely.data.dataset.POOL_BYTES", 32 * 4 * D * 10)
    train = load_data(path).train
    order = train.order(1)
    assert sorted(order.tolist()) == list(range(len(train)))
    assert torch.equal(order, train.order(1))
    assert not torch.equal(order, train.order(2))
    pools = order[:2240].reshape(7, 320)
    for pool in pools:
        assert len((pool // 32).unique()) <= 11  # ten blocks, or nine and the short last one
        assert not torch.equal(pool, pool.sort().values)
    assert not torch.equal(pools[:, 0], pools[:, 0].sort().values)


def test_mapped_files_are_checked_throughout(path):
    x = np.load(path)
    bad = x.copy()
    bad[2900, 3] = np.nan
    with pytest.raises(lk.DataError, match=r"row 2900, column 3: the entry is missing"):
        load_data(change(path, bad))
    bad[2900, 3] = 3e38  # large, so that sums overflow, but a number
    bad[2901, 3] = 3e38
    far = "column 3 is 3e+38 in 0.07% of the rows, far from the rest"
    with pytest.warns(UserWarning, match=re.escape(far)):
        load_data(change(path, bad))
    bad[2900:2902, 3] = 0
    bad[10, 1], bad[2999, 2] = np.inf, np.nan
    with pytest.warns(UserWarning, match="2 of 3000 rows have missing or infinite entries"):
        data = load_data(change(path, bad), missing="drop")
    ids = torch.cat([split.x[:][:, 0] for split in (data.train, data.valid, data.test)])
    assert set(range(N)) - set(ids.int().tolist()) == {10, 2999}
    with pytest.raises(lk.DataError, match=r"row 17, column 0: 17 is not a number from 0 to 16"):
        load_data(change(path, x), domain={0: "interval(0, 16)"})


def test_mapped_constants_hold_in_the_whole_file(path, monkeypatch):
    monkeypatch.setattr("likely.data.check.SAMPLE_ENTRIES", 40 * D)
    x = np.load(path)
    x[:, 4] = x[:, 6] = 0.5
    x[2999, 6] = 0.75
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        data = load_data(change(path, x))
    constant, atom = [str(warning.message) for warning in record]
    assert [c for c in data.domain.columns if c != lk.Real()] == [lk.Constant(0.5)]
    assert data.domain.column(4) == lk.Constant(0.5)
    assert "column 4 never changes" in constant
    assert "column 6 has more than 1% of the rows on one value" in atom


def test_large_whole_numbers_keep_their_type(path):
    x = np.random.default_rng(0).integers(256, size=(N, 4, 4), dtype=np.uint8)
    data = load_data(x)
    assert data.domain == lk.integers(256, 4, 4, layout="image")
    assert data.train.x.array is x
    batch = data.train.rows(data.train.order(0))
    assert batch.x.dtype == torch.int64
    assert len(batch.x) == 2400
    spins = load_data(change(path, np.where(x > 9, 1, -1).astype(np.int8)))
    assert spins.domain.column(0) == lk.Spin()


def test_fingerprint_of_a_mapped_file(path):
    x = np.load(path)
    first = load_data(path).fingerprint()
    assert load_data(path).fingerprint() == first
    assert load_data(path, seed=1).fingerprint() != first
    assert load_data(path, columns=[0, 1]).fingerprint() != first
    x[1234, 5] += 1e-3
    assert load_data(change(path, x)).fingerprint() != first


def test_large_contiguous_hdf5_is_mapped(path):
    import h5py

    x = np.load(path)
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["x"] = x
        file.create_dataset("packed", data=x, compression="gzip")
    table = read(path.with_suffix(".h5"))
    assert isinstance(table.values, np.memmap)
    assert (table.values == x).all()
    packed = read(f"{path.with_suffix('.h5')}::packed")
    assert isinstance(packed.values, np.memmap)
    assert (packed.values == x).all()
    assert "read from a copy" in packed.notes[0]


def test_a_large_folder_of_parquet_is_mapped_from_one_copy(path, tmp_path, monkeypatch):
    monkeypatch.setattr("likely.data.readers.tables.PART_ENTRIES", 4000)
    x, folder, copies = np.load(path), tmp_path / "events", tmp_path / "cache/likely"
    names = [f"c{i}" for i in range(D)]
    folder.mkdir()
    for i in range(3):
        frame = pd.DataFrame(x[i * 1000 : (i + 1) * 1000], columns=names)
        frame.to_parquet(folder / f"{i}.parquet", row_group_size=400)
    for _ in range(2):
        with pytest.warns(UserWarning, match="read from a copy"):
            data = load_data(folder, context="c7", domain={"c1": "interval(-9, 9)"})
        assert len(list(copies.iterdir())) == 1
    assert data.domain.names == tuple(names[:7])
    assert data.domain.column(1) == lk.Interval(-9, 9)
    assert not data.train.in_memory
    batch = data.train.rows(data.train.order(0)[:50])
    row = batch.x[:, 0].long()
    assert torch.equal(batch.x, torch.from_numpy(x)[row, :7])
    assert torch.equal(batch.context, torch.from_numpy(x)[row, 7:])
    frame["c2"] = frame["c2"].where(frame.index != 7).convert_dtypes()
    frame.to_parquet(folder / "2.parquet")
    with pytest.raises(lk.DataError, match=r"row 2007, column 'c2': the entry is missing"):
        load_data(folder)
    assert len(list(copies.iterdir())) == 2  # the file has changed


MEMORY = """
import sys, warnings
import numpy as np, torch
from pathlib import Path
from likely.data import load_data
import sklearn, pandas
torch.set_num_threads(1)
warnings.simplefilter("ignore")

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

baseline = peak = anonymous()
original = np.isfinite
def watched(x):
    global peak
    peak = max(peak, anonymous())
    return original(x)
np.isfinite = watched
data = load_data(sys.argv[1])
data.train.subset(1 << 22)
order = data.train.order(0)
for step in range(50):
    data.train.rows(order[512 * step : 512 * (step + 1)])
    peak = max(peak, anonymous())
print((peak - baseline) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory(tmp_path):
    n, d = 200_000, 1024  # 800 MiB, most of them holes
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (n, d))
    array[::1000] = np.random.default_rng(0).normal(size=(n // 1000, d))
    array.flush()
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "a.npy")]
    used = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert used < 100  # MiB; the index of the splits needs 2, the sample for the warnings 50


SHARED = """
import os, sys, warnings
from pathlib import Path
import torch
import likely as lk

warnings.simplefilter("ignore")
torch.set_num_threads(2)
data = lk.load_data(sys.argv[1])
model = lk.make("realnvp", data.domain, transforms=1, hidden=(8,), seed=0)
loss = model.loss

def noted(batch):
    lines = Path("/proc/self/status").read_text().splitlines()
    anonymous = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    with open(f"{sys.argv[2]}/{os.getpid()}", "a") as file:
        file.write(f"{anonymous / 1024} {len(batch)}\\n")
    return loss(batch)

model.loss = noted
lk.fit(model, data, steps=20, batch=101, devices=2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("rows", [100_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_two_processes_share_a_file_larger_than_their_memory(tmp_path, rows):
    # Of 0.4 or 40 GB, most of them holes.
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (rows, 1000))
    array[::1000] = np.random.default_rng(0).normal(size=(rows // 1000, 1000))
    array.flush()
    (tmp_path / "notes").mkdir()
    command = [sys.executable, "-c", SHARED, tmp_path / "a.npy", tmp_path / "notes"]
    subprocess.run(command, check=True)
    notes = [np.loadtxt(file) for file in (tmp_path / "notes").iterdir()]
    assert sorted(note[0, 1] for note in notes) == [50, 51]
    assert sum(note[:, 0].max() for note in notes) < (900 if rows == 100_000 else 2000)  # MiB
