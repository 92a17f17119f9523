"""Texts of words on the command line: fits, perplexities, and walks between two sentences."""

import json
import random
import shlex
from pathlib import Path

import pytest

from likely.cli import main

TEXT = "--words --vocabulary 9 --length 6 --long drop"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Verses, and runs of an autoencoder and a language model of their words."""
    folder = tmp_path_factory.mktemp("sentences")
    lines = random.Random(0).choices(["To be.", "Or not to be!", "That is, be."], k=100)
    (folder / "verses.txt").write_text("\n".join([*lines, "be to be to be to be."]))
    vae = "--set latent=2 --set hidden=16 --set embedding=8"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, options in (("sentence-vae", vae), ("rnn", "--set hidden=16")):
            line = f"fit verses.txt --model {name} {options} {TEXT} --steps 30 --out {name}"
            assert main(shlex.split(line)) == 0
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def said(capsys, line):
    capsys.readouterr()
    assert main(shlex.split(line)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_walks_between_two_sentences(capsys):
    walk = said(capsys, "sample sentence-vae --between 'To be.' 'that is, be.' --steps 5")
    assert len(walk.removesuffix("\n").split("\n")) == 5


@pytest.mark.parametrize("name", ["sentence-vae", "rnn"])
def test_samples_are_sentences(name, capsys):
    lines = said(capsys, f"sample {name} -n 4 --seed 1 --temperature 0.5").splitlines()
    assert len(lines) == 4
    assert set(" ".join(lines)) <= set("beornttohatis ,.!<unk>")


def test_perplexity_is_reported_with_and_without_ends(capsys):
    capsys.readouterr()
    assert main(["evaluate", "sentence-vae", "verses.txt", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert "1 of 101 texts have more than 6 symbols and are left out" in " ".join(err.split())
    assert 1 < found["perplexity"]["value"] < found["perplexity_without_ends"]["value"]
    assert found.get("bits_per_character") is None


def test_later_texts_are_scored_with_unknown_words(capsys):
    Path("later.txt").write_text("to sleep.\nto be.\n")
    said(capsys, "score sentence-vae later.txt --out scores.csv")
    assert len(Path("scores.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample sentence-vae --between 'to sleep' 'to be'", "'sleep' is not one of the model's"),
        ("sample rnn --between 'to be' 'or not'", "RNN cannot interpolate rows; autoencoders can"),
        ("sample sentence-vae --between 'to be' 'or' --top-k 1", "leave --top-k out"),
        ("sample sentence-vae --between 'to be to be to be to' 'or'", "a text has at most 6"),
        ("sample sentence-vae --prompt to", "cannot complete rows"),
        ("fit verses.txt --model rnn --words --length 5 --out other", "long='drop' (--long drop)"),
        (
            "fit verses.txt --model rnn --words --window 9 --out other",
            "leave window (--window) out",
        ),
    ],
)
def test_what_cannot_be(arguments, message, capsys):
    assert main(shlex.split(arguments)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
