"""`likely complete`: an image, a mask, a picture with completions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import likely as lk
from likely.cli import main
from likely.report.style import empty_figure


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models of images, an image for each, and a mask."""
    monkeypatch.chdir(tmp_path)
    grey = lk.make("pixelcnn", lk.integers(4, 6, 5, layout="image"), channels=2, dilations=(1,))
    colour = lk.make("independent", lk.integers(256, 3, 6, 5, layout="image"))
    lk.save(grey, "grey.safetensors")
    lk.save(colour, "colour.safetensors")
    pixels = np.arange(90, dtype=np.uint8).reshape(6, 5, 3) * 2
    Image.fromarray(pixels).save("colour.png")
    Image.fromarray(pixels[..., 0]).save("grey.png")
    mask = np.zeros((6, 5), np.uint8)
    mask[:3] = 255
    for name, known in (("upper", mask), ("lower", mask[::-1]), ("wrong", mask[:, 1:])):
        Image.fromarray(known).save(f"{name}.png")


def complete(*arguments: str) -> int:
    return main(["complete", *arguments, "--out", "grid.png", "-n", "3", "--seed", "1"])


def test_the_lower_half_is_exact_and_the_upper_half_tells_its_candidates(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert complete("grey.safetensors", "grey.png", "--mask", "upper.png") == 0
    assert capsys.readouterr().out == "3 completions of 50% of the image (exact): grid.png\n"
    first = Path("grid.png").read_bytes()
    assert complete("grey.safetensors", "grey.png", "--mask", "upper.png") == 0
    assert Path("grid.png").read_bytes() == first
    options = ("--mask", "lower.png", "--particles", "5")
    assert complete("grey.safetensors", "grey.png", *options) == 0
    assert "effective candidates" in capsys.readouterr().out


def test_the_picture_shows_the_known_part_the_completions_and_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = []
    monkeypatch.setattr(
        "likely.report.samples.image_grid",
        lambda x, domain, real, columns: shown.append((x, columns)) or empty_figure(1, 1),
    )
    assert complete("colour.safetensors", "colour.png", "--mask", "lower.png") == 0
    (images, columns), expected = shown[0], np.asarray(Image.open("colour.png")).transpose(2, 0, 1)
    assert images.shape == (5, 3, 6, 5)
    assert columns == 5
    assert np.isnan(images[0, :, :3]).all()
    np.testing.assert_array_equal(images[0, :, 3:], expected[:, 3:])
    np.testing.assert_array_equal(
        images[1:4, :, 3:], np.broadcast_to(expected[:, 3:], (3, 3, 3, 5))
    )
    np.testing.assert_array_equal(images[4], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grey.safetensors", "grey.png", "--mask", "wrong.png"], "wrong.png: shape (6, 4)"),
        (
            ["grey.safetensors", "colour.png", "--mask", "upper.png"],
            "colour.png: an image of shape",
        ),
        (["grey.safetensors", "missing.png", "--mask", "upper.png"], "missing.png"),
        (["table.safetensors", "grey.png", "--mask", "upper.png"], "grey.png: images with levels"),
        (["vae.safetensors", "grey.png", "--mask", "upper.png"], "cannot complete"),
    ],
    ids=["mask", "colours", "file", "table", "model"],
)
def test_what_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lk.save(lk.make("made", lk.reals(30), hidden=(4,)), "table.safetensors")
    lk.save(lk.make("ae", lk.integers(4, 6, 5, layout="image")), "vae.safetensors")
    assert complete(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("grid.png").exists()


def test_levels_come_from_any_number_of_bits() -> None:
    from likely.cli.complete import _levels

    domain, path = lk.spins(1, 4), Path("x.png")
    eight = np.array([[0, 127, 128, 255]], np.uint8)
    found = [_levels(p, domain, path) for p in (eight, eight > 127, eight.astype(np.uint16) * 257)]
    assert all(torch.equal(x, torch.tensor([[-1, -1, 1, 1]])) for x in found)
