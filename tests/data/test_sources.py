"""Whatever users hold their rows in: frames of other libraries, dictionaries, masked arrays, folders."""

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.feather
import pytest
import torch
from PIL import Image

import likely as lk
from likely.data import load_data, load_rows

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {"x": RNG.normal(size=30), "n": np.arange(30) % 7, "kind": ["mu", "e", "tau"] * 10}
)
DOMAIN = lk.table(x=lk.Real(), n=lk.Integer(7), kind=lk.Categorical(["e", "mu", "tau"]))


@pytest.mark.parametrize(
    "convert",
    [
        pyarrow.Table.from_pandas,
        lambda frame: frame.to_dict("records"),
        lambda frame: {name: frame[name].to_numpy() for name in frame},
        lambda frame: frame.to_records(index=False),
    ],
    ids=["arrow", "records", "columns", "structured"],
)
def test_tables_of_other_libraries(convert):
    assert load_data(convert(FRAME)).domain == DOMAIN
    expected = load_rows(FRAME).x
    torch.testing.assert_close(load_rows(convert(FRAME)).x, expected, rtol=0, atol=0)


def test_whatever_exports_a_stream_of_arrow():
    class Frame:
        def __arrow_c_stream__(self, requested_schema=None):
            return pyarrow.Table.from_pandas(FRAME).__arrow_c_stream__(requested_schema)

    assert load_data(Frame()).domain == DOMAIN


def test_feather_and_parts_of_parquet(tmp_path):
    (tmp_path / "other").mkdir()
    pyarrow.feather.write_feather(FRAME, tmp_path / "other" / "a.feather")
    assert load_data(tmp_path / "other" / "a.feather").domain == DOMAIN
    for i in range(3):
        FRAME[10 * i : 10 * i + 10].to_parquet(tmp_path / f"part-{i}.parquet")
    for source in (tmp_path, tmp_path / "part-*.parquet"):
        torch.testing.assert_close(load_rows(source, domain=DOMAIN).x, load_rows(FRAME).x)
    FRAME[["x"]].to_parquet(tmp_path / "part-9.parquet")
    with pytest.raises(lk.DataError, match=r"part-9.parquet: has other columns than .*part-0"):
        load_rows(tmp_path / "part-*.parquet")


def test_datasets_of_pytorch():
    x, y = torch.randn(30, 2), torch.arange(30) % 3
    data = load_data(torch.utils.data.TensorDataset(x, y), context="label")
    assert (data.domain, data.context.column(0)) == (lk.reals(2), lk.Integer(3))
    torch.testing.assert_close(load_rows(torch.utils.data.TensorDataset(x)).x, x)
    with pytest.raises(lk.DataError, match="3 parts; give rows, or rows and labels"):
        load_rows(torch.utils.data.TensorDataset(x, y, y))


def test_masked_entries_are_missing():
    masked = np.ma.masked_array(RNG.normal(size=(30, 2)), mask=False)
    masked[4, 1] = np.ma.masked
    with pytest.raises(lk.DataError, match="row 4, column 1: the entry is missing"):
        load_data(masked)
    with pytest.warns(UserWarning, match="1 of 30 rows have missing"):
        data = load_data(masked, missing="drop")
    assert sum(map(len, (data.train, data.valid, data.test))) == 29
    assert len(load_rows(np.ma.masked_array(np.arange(12).reshape(6, 2)))) == 6


def test_fields_of_several_numbers_become_columns():
    array = np.zeros(20, dtype=[("id", int), ("p", float, 3)])
    array["p"] = RNG.normal(size=(20, 3))
    rows = load_rows(array)
    assert rows.x.shape == (20, 4)
    np.testing.assert_array_equal(rows.x[:, 1:], array["p"].astype(np.float32))


def test_whole_numbers_that_no_tensor_holds():
    with pytest.raises(lk.DataError, match="beyond 2⁶³"):
        load_rows(np.array([[2**64 - 1], [3]], dtype=np.uint64))
    with pytest.warns(UserWarning, match="'event' has whole numbers beyond 2⁵³, which are rounded"):
        load_rows(pd.DataFrame({"event": 2**53 + np.arange(9), "x": RNG.normal(size=9)}))


def test_names_of_rows_and_cells_with_lists_are_told():
    names = FRAME.assign(who=[f"P{i}" for i in range(30)])
    assert load_data(names).domain.column(3).levels == 30  # few enough to be categories
    many = pd.DataFrame({"x": RNG.normal(size=300), "who": [f"P{i}" for i in range(300)]})
    with pytest.warns(UserWarning, match="'who' has 300 categories in 300 rows, such as 'P0'"):
        load_data(many)
    for cell in ([1, 2], {"a": 1}, np.zeros(2), (3,)):
        with pytest.raises(
            lk.DataError, match=r"row 0, column 'jets' holds .* values; spread them"
        ):
            load_rows(FRAME.assign(jets=[cell] * 30))


@pytest.mark.parametrize("code", [9.969209968386869e36, 1e20, -1e30, -(2.0**31), -9999.9, -999])
def test_codes_of_missing_entries_are_told(code):
    x = RNG.normal(size=(500, 2))
    x[[3, 77, 90], 1] = code
    with pytest.warns(UserWarning, match=r"column 1 is .* in 0.60% of the rows, far from the rest"):
        load_data(x)


def test_one_absurd_value_is_told_and_tails_are_not():
    x = RNG.normal(size=(2000, 2))
    x[17, 0] = -1e8
    with pytest.warns(UserWarning, match=r"column 0 is -1e\+08 in 1 of the rows, very far"):
        load_data(x)
    load_data(np.stack([RNG.lognormal(0, 2, 2000), RNG.standard_t(2, 2000)], 1))
    load_data(RNG.poisson(0.3, (2000, 2)))


def test_folders_of_classes(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(10):
                pixels = RNG.integers(0, 255, (5, 4), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    for folder, rows in ((tmp_path / "train", 16), (tmp_path, 18)):
        data = load_data(folder, context="label")
        assert data.domain == lk.integers(256, 5, 4, layout="image")
        assert data.context == lk.table(label=lk.Categorical(["cat", "dog"]))
        assert len(data.train) == rows
    assert len(load_data(tmp_path).test) == 20


@pytest.mark.parametrize(("dtype", "column"), [(np.uint16, lk.Count()), (np.float32, lk.Real())])
def test_images_of_more_than_eight_bits(tmp_path, dtype, column):
    pixels = (1000 + 60 * RNG.normal(size=(12, 5, 4))).astype(dtype)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i:02}.tif")
    data = load_data(tmp_path)
    assert data.domain == lk.Domain((5, 4), (column,), layout="image")
    np.testing.assert_array_equal(load_rows(tmp_path).x, pixels)


@pytest.mark.parametrize(
    ("dtype", "value", "tag"),
    [
        (np.uint8, 7, "7"),
        (np.uint16, 40000, "40000 "),
        (np.float32, -9999.9, "-9999.9"),
        (np.float32, np.finfo(np.float32).min, "-3.4028234663852886e+38"),
    ],
)
def test_pixels_of_the_value_that_gdal_declares_are_missing(tmp_path, dtype, value, tag):
    pixels = RNG.integers(10, 250, (40, 5, 4)).astype(dtype)
    pixels[3, 2, 1] = value
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i:02}.tif", tiffinfo={42113: tag})
    with pytest.raises(lk.DataError, match="row 3, column 9: the entry is missing"):
        load_data(tmp_path)
    with (
        pytest.warns(UserWarning, match="its tag GDAL_NODATA names are missing"),
        pytest.warns(UserWarning, match="1 of 40 rows"),
    ):
        data = load_data(tmp_path, missing="drop")
    assert (data.domain == lk.integers(256, 5, 4, layout="image")) == (dtype == np.uint8)
    rows = np.concatenate([split.x[:] for split in (data.train, data.valid, data.test)])
    assert {row.tobytes() for row in rows.astype(dtype)} == {
        image.tobytes() for i, image in enumerate(pixels) if i != 3
    }


def test_images_the_right_way_up_and_without_needless_alpha(tmp_path):
    pixels = RNG.integers(0, 255, (12, 5, 4, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90° clockwise to see it
    for i, image in enumerate(pixels):
        rgba = Image.fromarray(image).convert("RGBA")
        rgba.save(tmp_path / f"{i:02}.png", exif=exif)
    expected = np.rot90(pixels, -1, (1, 2)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(load_rows(tmp_path).x, expected)
