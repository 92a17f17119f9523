"""Language models on the command line: windows and lines, prompts, sharpened draws."""

import json
import random
import shlex
from pathlib import Path

import pytest

from likely.cli import main

SMALL = ["--set", "hidden=16", "--steps", "30"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A running text, lines, and runs of models of both."""
    folder = tmp_path_factory.mktemp("texts")
    words = random.Random(0).choices(["to be", "or not", "that is"], k=400)
    (folder / "play.txt").write_text(", ".join(words))
    (folder / "lines.txt").write_text("\n".join(words))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        windows = ["--window", "16", "--out", "play"]
        assert main(["fit", "play.txt", "--model", "rnn", *SMALL, *windows]) == 0
        assert (
            main(["fit", "lines.txt", "--model", "rnn", *SMALL, "--window", "0", "--out", "lines"])
            == 0
        )
        made = ["--model", "made", "--steps", "30", "--window", "16", "--out", "masked"]
        assert main(["fit", "play.txt", *made]) == 0
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def said(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_texts_begin_with_the_prompt_and_are_as_long_as_asked(capsys):
    options = ("sample", "play", "-n", "3", "--prompt", "to be", "--length", "100", "--seed", "1")
    texts = said(capsys, *options).removesuffix("\n").split("\n\n")
    assert [len(text) for text in texts] == [100] * 3
    assert all(text.startswith("to be") for text in texts)
    assert len(set(texts)) == 3
    assert said(capsys, *options, "--out", "a.txt") == "3 samples: a.txt\n"
    assert Path("a.txt").read_text() == "\n\n".join(texts) + "\n"
    # One symbol is left to draw from, so that all texts are the same.
    greedy = said(capsys, *options, "--top-k", "1").removesuffix("\n").split("\n\n")
    assert len(set(greedy)) == 1


def test_a_prompt_may_be_longer_than_a_window(capsys):
    prompt = "to be, or not, that is, to be"
    text = said(capsys, "sample", "play", "-n", "1", "--prompt", prompt, "--length", "60")
    assert text.startswith(prompt)
    assert len(text) == 61


def test_lines_end_by_themselves(capsys):
    lines = said(capsys, "sample", "lines", "-n", "20", "--prompt", "to").splitlines()
    assert len(lines) == 20
    assert all(line.startswith("to") and len(line) <= 7 for line in lines)


def test_any_autoregressive_model_takes_a_prompt(capsys):
    texts = said(capsys, "sample", "masked", "-n", "3", "--prompt", "to be").split("\n\n")
    assert all(text.startswith("to be") and len(text.rstrip("\n")) == 16 for text in texts)


def test_windows_are_read_as_in_the_fit(capsys):
    found = json.loads(said(capsys, "evaluate", "play", "play.txt", "--json"))
    assert found["bits_per_character"]["value"] > 0
    assert found["bits_per_character_in_windows"]["value"] > found["bits_per_character"]["value"]
    assert "not the data" not in capsys.readouterr().err
    assert json.loads(said(capsys, "evaluate", "lines", "lines.txt", "--json"))[
        "bits_per_character"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample play --prompt zebra", "'z' is not in the model's alphabet"),
        ("sample lines --length 9", "texts end by themselves"),
        ("sample lines --prompt 'to be to be'", "a text at most 7"),
        ("sample play --temperature 0", "temperature=0.0: give a finite number above 0"),
        ("sample play --prompt 'to be' --length 3", "length 3, and the prompt has 5"),
        ("sample play --prompt to --context 3", "takes no context"),
        ("sample masked --prompt to --length 30", "models of sequences can"),
        ("sample masked --top-k 1", "has no option 'top_k'"),
        ("fit play.txt --model rnn --window 5000 --out other", "--window"),
    ],
)
def test_what_cannot_be(arguments, message, capsys):
    assert main(shlex.split(arguments)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not Path("other").exists()
