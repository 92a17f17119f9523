"""Formats of physics and astronomy: the arrays are those that the formats' own libraries read."""

import sys

import numpy as np
import pandas as pd
import pytest

import likely as lk
from likely.data import load_data, load_rows

astropy = pytest.importorskip("astropy.io.fits")
uproot = pytest.importorskip("uproot")

RNG = np.random.default_rng(0)
MOMENTA = RNG.normal(size=(40, 3))


@pytest.fixture
def events(tmp_path):
    """A tree with numbers, an array of three, and a branch of a varying number of values."""
    import awkward

    path = tmp_path / "events.root"
    with uproot.recreate(path) as file:
        file["events"] = {
            "pt": RNG.lognormal(size=40),
            "n": np.arange(40) % 4,
            "p": MOMENTA,
            "jets": awkward.Array([[0.5] * (i % 3) for i in range(40)]),
        }
    return path


def test_a_tree_of_root(events):
    for source in (events, f"{events}:events", f"{events}::events"):
        with pytest.warns(UserWarning, match="varying number of values are left out: jets$"):
            data = load_data(source, columns=["pt", "n", "p_0", "p_1", "p_2"])
        assert data.domain.names == ("pt", "n", "p_0", "p_1", "p_2")
        assert data.domain.column(1) == lk.Integer(4)
    with pytest.warns(UserWarning, match="jets"):
        rows = load_rows(events, columns=["p_0", "p_1", "p_2"])
    np.testing.assert_array_equal(rows.x, MOMENTA.astype(np.float32))
    with pytest.raises(
        lk.DataError, match=r"holds the trees events; name one, as in '.*root:events'"
    ):
        load_rows(f"{events}:other")


def test_a_jagged_branch_that_is_asked_for_is_called_so(events):
    for options in ({"columns": ["pt", "jets"]}, {"weight": "jets"}, {"domain": {"jets": "real"}}):
        with pytest.raises(lk.DataError, match=r"column 'jets' is jagged: .* such as the first"):
            load_data(events, **options)


def test_the_extra_is_named(events, monkeypatch):
    monkeypatch.setitem(sys.modules, "uproot", None)
    with pytest.raises(lk.DataError, match=r"needs uproot: pip install 'likely\[root\]'"):
        load_rows(events)


def test_tables_of_fits(tmp_path):
    columns = [
        astropy.Column("ra", "D", array=np.arange(30.0)),
        astropy.Column("n", "J", array=np.arange(30), null=7),
        astropy.Column("mag", "3E", array=RNG.normal(size=(30, 3))),
        astropy.Column("kind", "4A", array=["star", "disc"] * 15),
    ]
    hdu = astropy.BinTableHDU.from_columns(columns, name="CATALOG")
    astropy.HDUList([astropy.PrimaryHDU(), hdu]).writeto(tmp_path / "stars.fits")
    for source in (tmp_path / "stars.fits", f"{tmp_path}/stars.fits::CATALOG"):
        with pytest.warns(UserWarning, match="1 of 30 rows have missing"):
            data = load_data(source, missing="drop")
        assert data.domain.names == ("ra", "n", "mag_0", "mag_1", "mag_2", "kind")
        assert data.domain.column(5) == lk.Categorical(["disc", "star"])


def test_masked_texts_of_fits_are_missing(tmp_path):
    columns = [
        astropy.Column("x", "D", array=RNG.normal(size=30)),
        astropy.Column("kind", "4A", array=["star", "disc", ""] * 10),
    ]
    astropy.BinTableHDU.from_columns(columns).writeto(tmp_path / "stars.fits")
    with pytest.warns(UserWarning, match="10 of 30 rows have missing"):
        data = load_data(tmp_path / "stars.fits", missing="drop")
    assert data.domain.column(1) == lk.Categorical(["disc", "star"])


def test_images_of_fits(tmp_path):
    cube = RNG.normal(size=(20, 5, 4)).astype(np.float32)
    astropy.PrimaryHDU(cube).writeto(tmp_path / "cube.fits")
    stamps = [astropy.ImageHDU(stamp, name=f"S{i}") for i, stamp in enumerate(cube)]
    astropy.HDUList([astropy.PrimaryHDU(), *stamps]).writeto(tmp_path / "stamps.fits.gz")
    (tmp_path / "one").mkdir()
    for i, stamp in enumerate(cube):
        astropy.PrimaryHDU(stamp).writeto(tmp_path / "one" / f"{i:02}.fits")
    for source in ("cube.fits", "stamps.fits.gz", "one/*.fits"):
        rows = load_rows(f"{tmp_path}/{source}")
        np.testing.assert_array_equal(rows.x, cube)
    assert load_data(tmp_path / "cube.fits").domain.layout == "image"
    counts = RNG.integers(0, 60_000, (20, 5, 4)).astype(np.uint16)
    parts = [astropy.PrimaryHDU(counts), astropy.ImageHDU(cube[0], name="SKY")]
    astropy.HDUList(parts).writeto(tmp_path / "both.fits")
    np.testing.assert_array_equal(load_rows(f"{tmp_path}/both.fits::0").x, counts)
    with pytest.raises(
        lk.DataError, match=r"several extensions that are not an image each, .*SKY; name"
    ):
        load_rows(tmp_path / "both.fits")
    with pytest.raises(lk.DataError, match=r"no extension 'X'; it holds PRIMARY, SKY"):
        load_rows(f"{tmp_path}/both.fits::X")


def test_images_of_fits_of_several_sizes(tmp_path):
    rng = np.random.default_rng(1)
    stamps = [rng.normal(size=(side, side + 2)) for side in (6, 8, 9, 12)] * 3
    (tmp_path / "folder").mkdir()
    for i, stamp in enumerate(stamps):
        astropy.PrimaryHDU(stamp).writeto(tmp_path / "folder" / f"{i:02}.fits")
    hdus = [astropy.PrimaryHDU(stamps[0]), *map(astropy.ImageHDU, stamps[1:])]
    astropy.HDUList(hdus).writeto(tmp_path / "stamps.fits")
    for source in ("stamps.fits", "folder"):
        with pytest.raises(lk.DataError, match=r"12 images of several sizes, 6 × 8 to 12 × 14 pix"):
            load_rows(tmp_path / source)
        cut = load_rows(tmp_path / source, size=6).x
        for image, stamp in zip(cut, stamps, strict=True):
            height, width = ((edge - 6) // 2 for edge in stamp.shape)
            expected = stamp[height : height + 6, width : width + 6].astype(np.float32)
            np.testing.assert_array_equal(image, expected)
        with pytest.warns(UserWarning, match="fewer than 10 × 10 pixels are filled with zeros"):
            filled = load_rows(tmp_path / source, size=10).x
        np.testing.assert_array_equal(filled[0, 2:8, 1:9], stamps[0].astype(np.float32))
        assert not filled[0, :2].any()
        assert not filled[0, 8:].any()
        found = lk.data.inspect(tmp_path / source, size=6)
        assert found.shape == (6, 6)
        assert found.options == {"size": 6}
    np.save(tmp_path / "a.npy", np.ones((20, 3)))
    with pytest.raises(lk.DataError, match="holds no FITS images"):
        load_rows(tmp_path / "a.npy", size=6)


def test_fits_without_images_are_refused(tmp_path):
    astropy.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(lk.DataError, match=r"empty.fits: holds no data"):
        load_rows(tmp_path / "empty.fits")
    (tmp_path / "wrong.fits").write_bytes(b"no FITS" * 1000)
    with pytest.raises(lk.DataError, match=r"wrong.fits: not a readable .fits file"):
        load_rows(tmp_path / "wrong.fits")
    (tmp_path / "tables").mkdir()
    column = astropy.Column("x", "D", array=np.arange(20.0))
    astropy.BinTableHDU.from_columns([column]).writeto(tmp_path / "tables" / "a.fits")
    with pytest.raises(lk.DataError, match=r"a.fits: holds no image; keep only"):
        load_rows(tmp_path / "tables")


def test_events_of_les_houches(tmp_path):
    pytest.importorskip("pylhe")
    particle = "{} {} 1 2 0 0 {:.6e} {:.6e} {:.6e} {:.6e} 0.0 0.0 9.0\n"
    text = "<LesHouchesEvents version='1.0'>\n<init>\n2212 2212 6500 6500 0 0 1 1 3 1\n1. 1. 1. 1\n</init>\n"
    momenta = RNG.normal(size=(15, 2, 4))
    for event in momenta:
        text += "<event>\n3 1 2.5 91.0 0.0078 0.118\n" + particle.format(21, -1, 0, 0, 5, 5)
        text += "".join(particle.format(13, 1, *p) for p in event) + "</event>\n"
    path = tmp_path / "events.lhe"
    path.write_text(text + "</LesHouchesEvents>\n")
    rows = load_rows(path, weight="weight")
    np.testing.assert_allclose(rows.x, momenta.reshape(15, 8), rtol=1e-6)
    assert rows.weight.tolist() == [2.5] * 15


def test_stores_of_pandas(tmp_path):
    pytest.importorskip("tables")
    frame = pd.DataFrame({"x": RNG.normal(size=20), "n": np.arange(20) % 3})
    frame.to_hdf(tmp_path / "a.h5", key="first")
    assert load_data(tmp_path / "a.h5").domain.names == ("x", "n")
    frame.to_hdf(tmp_path / "a.h5", key="second")
    assert len(load_rows(f"{tmp_path}/a.h5::second")) == 20
    with pytest.raises(lk.DataError, match="holds the frames first, second; name one"):
        load_rows(tmp_path / "a.h5")


def test_fits_logical_columns_keep_what_is_missing(tmp_path):
    flags = np.array([True, False] * 10)
    columns = [
        astropy.Column("ok", "L", array=flags),
        astropy.Column("x", "D", array=np.arange(20) ** 0.5),
    ]
    astropy.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    start = content.index(b"T", 2 * 2880)  # of the rows
    (tmp_path / "a.fits").write_bytes(content[:start] + b"\0" + content[start + 1 :])
    with pytest.warns(UserWarning, match="1 of 20 rows"):
        data = load_data(tmp_path / "a.fits", missing="drop")
    assert data.domain.column(0) == lk.Binary()
