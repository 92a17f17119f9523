"""Generated bad inputs: damaged files of every format, and values that are no options.

Each ends in a result or in an error that is meant for users, within some seconds and some memory, and
writes nothing.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.feather
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import likely as lk
from likely.contract.registry import entries
from likely.fitting.plan import Plan

ROWS = np.random.default_rng(0).normal(size=(30, 3))
TABLE = pd.DataFrame(ROWS, columns=["x", "y", "z"]).assign(kind=["a", "b", "c"] * 10)
ODD = [
    b"nan",
    b"1e999",
    b"-",
    b'"',
    b"\n",
    b",",
    b";",
    b" ",
    b"0",
    b"9" * 20,
    b"a",
    b"#",
    b"1,5",
    b"\r",
    b"inf",
    b"%",
]
FOLDER = Path(tempfile.mkdtemp(prefix="campaign-"))


@functools.cache
def good_files() -> dict[str, bytes]:
    """A good file of each format, by its name."""
    folder = FOLDER / "good"
    folder.mkdir(exist_ok=True)
    TABLE.to_csv(folder / "a.csv", index=False)
    TABLE.to_csv(folder / "a.tsv", index=False, sep="\t")
    TABLE.to_csv(folder / "a.csv.gz", index=False)
    TABLE.to_parquet(folder / "a.parquet")
    pyarrow.feather.write_feather(TABLE, folder / "a.feather")
    np.save(folder / "a.npy", ROWS)
    np.savez_compressed(folder / "a.npz", x=ROWS, y=ROWS[:, 0])
    (folder / "a.txt").write_text("It was the best of times, it was the worst of times.\n" * 20)
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = ROWS
    Image.fromarray((100 * np.abs(ROWS)).astype(np.uint8)).save(folder / "a.png")
    Image.fromarray(ROWS.astype(np.float32)).save(folder / "a.tif")
    data = lk.load_data(ROWS)
    model = lk.make("gmm", data.domain, components=2, seed=0)
    lk.fit(model, data, steps=2)
    lk.save(model, folder / "model.safetensors")
    for name, write in (("a.fits", _fits), ("a.root", _root)):
        try:
            write(folder / name)
        except ImportError:
            continue
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _fits(path: Path) -> None:
    from astropy.io import fits

    fits.PrimaryHDU(ROWS).writeto(path, overwrite=True)


def _root(path: Path) -> None:
    import uproot

    with uproot.recreate(path) as file:
        file["tree"] = {name: TABLE[name].to_numpy() for name in "xyz"}


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes flipped, cut, repeated, inserted, or set to what formats take for numbers and ends."""
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at, length = int(rng.integers(len(content) + 1)), int(rng.integers(1, 32))
        how = rng.integers(8)
        if how == 0 and at < len(content):
            content[at] ^= 1 << int(rng.integers(8))
        elif how == 1 and rng.random() < 0.3:
            del content[at:]
        elif how == 2:
            del content[at : at + length]
        elif how == 3:
            content[at:at] = content[at : at + length] * int(rng.integers(1, 5))
        elif how == 4 and rng.random() < 0.3:
            content[at : at + 8] = bytes(rng.integers(0, 256, 8, np.uint8))
        elif how == 5 and rng.random() < 0.3:
            content[at : at + length] = bytes(length)
        else:
            content[at : at + 1] = ODD[int(rng.integers(len(ODD)))]
    return bytes(content)


def damaged_file(seed: int) -> None:
    """Load a damaged file; nothing else may appear in its folder."""
    rng = np.random.default_rng(seed)
    names = sorted(good_files())
    name = names[seed % len(names)]
    content = damaged(good_files()[name], rng)
    with tempfile.TemporaryDirectory(dir=FOLDER) as made:
        path = Path(made) / name
        path.write_bytes(content)
        image = path.suffix in (".png", ".tif")
        others = [Path(made) / f"{i}{path.suffix}" for i in range(12 if image else 0)]
        for other in others:
            other.write_bytes(good_files()[name])
        try:
            if name == "model.safetensors":
                lk.load(path).sample(2, seed=0)
            else:
                lk.load_data(Path(made) if image else path)
        finally:
            assert {*Path(made).iterdir()} == {path, *others}, "something was written"
            assert path.read_bytes() == content, "the file was changed"


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**70),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def _drawn(strategy: st.SearchStrategy, seed: int) -> Any:
    """A value of a strategy, the same for the same seed; the first ones are the simplest."""
    values: list[Any] = []

    @settings(
        max_examples=20, database=None, derandomize=False, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def draw(value: Any) -> None:
        values.append(value)

    from hypothesis import seed as seeded

    seeded(seed)(draw)()
    return values[-1]


def odd_value(seed: int) -> None:
    """Give a verb something that it was not made for."""
    value = _drawn(VALUES, seed)
    rng = np.random.default_rng(seed)
    names = list(entries())
    name = names[seed % len(names)]
    domain = lk.reals(2) if entries()[name].takes(lk.reals(2)) else lk.binary(4)
    options = list(lk.contract.options.signature(entries()[name].cls).parameters)
    option = str(rng.choice([o for o in options if o not in ("domain", "context")] or ["nonsense"]))
    plan = list(Plan.__dataclass_fields__)
    targets: list[Callable[[], Any]] = [
        lambda: lk.load_data(value),
        lambda: lk.load_data(TABLE, columns=value),
        lambda: lk.load_data(TABLE, context=value),
        lambda: lk.load_data(TABLE, weight=value),
        lambda: lk.load_data(TABLE, domain={"x": value}),
        lambda: lk.load_data(TABLE, missing=value),
        lambda: lk.make(name, domain, **{option: value}),
        lambda: lk.make("gmm", domain, components=2).sample(value),
        lambda: lk.make("gmm", lk.reals(2), components=2).log_prob(value),
        lambda: lk.fit(
            lk.make("gaussian", lk.reals(3)),
            lk.load_data(ROWS),
            **{"steps": 1, plan[seed % len(plan)]: value},
        ),
        lambda: lk.table(value, x=value),
        lambda: lk.Categorical(value),
        lambda: lk.Interval(value, 1),
    ]
    targets[int(rng.integers(len(targets)))]()


def cases(n: int, first: int = 0) -> Iterator[tuple[str, Callable[[], None]]]:
    """n cases, by their seeds: three damaged files to one odd value."""
    good_files()
    for seed in range(first, first + n):
        kind = odd_value if seed % 4 == 3 else damaged_file
        yield f"{kind.__name__} {seed}", functools.partial(kind, seed)
