"""Texts of words: how lines are split, which words are known, and what is too long."""

import gzip

import pytest
import torch

import likely as lk
from likely.core.words import join_words, split_words
from likely.data import load_data

LINES = ["The cat sat.", "The dog sat!", "A cat (the cat) ran, and ran."] * 6


@pytest.mark.parametrize(
    "text",
    [
        "god said, let there be light: and there was light.",
        "thy sons' wives (and thine ass's colt); what?",
        "the <unk> of well-being…",
        "",
    ],
)
def test_words_and_marks_are_joined_as_they_stood(text):
    assert join_words(split_words(text)) == text


def test_lines_become_words_with_an_end(tmp_path):
    path = tmp_path / "verses.txt.gz"
    path.write_bytes(gzip.compress("\n\n".join(LINES).encode()))
    data = load_data(path, words=True)
    domain = data.domain
    assert domain.words
    assert domain.ends
    assert domain.shape == (11,)  # words and marks of the longest
    assert domain.alphabet[:4] == ("<unk>", "cat", "the", ".")  # by frequency
    texts = {
        text for split in (data.train, data.valid, data.test) for text in domain.texts(split.x)
    }
    assert texts == {line.lower() for line in LINES}
    capitals = load_data(path, words=True, lowercase=False).domain
    assert "The" in capitals.alphabet
    assert lk.Domain.from_json(domain.to_json()) == domain


def test_rare_and_later_words_are_unknown():
    with pytest.warns(UserWarning, match="of the words are not in the vocabulary: <unk>"):
        data = load_data(LINES, words=True, vocabulary=3)
    assert data.domain.alphabet == ("<unk>", "cat", "the", ".")
    with pytest.warns(UserWarning, match="50.00% of the words"):
        rows = lk.data.load_rows(["THE zebra"], domain=data.domain)
    assert data.domain.texts(rows.x) == ["the <unk>"]
    with pytest.raises(lk.DataError, match="'zebra' is not one of the model's 4 words and marks"):
        data.domain.codes("the zebra")
    assert data.domain.codes("the <unk>").tolist() == [2, 0]
    with pytest.raises(lk.DataError, match="'zebra' is not in the vocabulary"):
        lk.data.load_rows(["the zebra"], domain=lk.text(["the", "cat"], 3))


def test_long_texts_are_an_error_or_left_out_or_cut():
    with pytest.raises(lk.DataError, match=r"row 2 has 11 symbols, .* room for 4; .*long='drop'"):
        load_data(LINES, words=True, length=4)
    weight = torch.arange(18.0) + 1
    with pytest.warns(UserWarning, match="6 of 18 texts have more than 4 symbols and are left out"):
        data = load_data(LINES, words=True, length=4, long="drop", weight=weight.numpy())
    assert data.domain.alphabet == ("<unk>", "sat", "the", "!", ".", "cat", "dog")
    splits = data.train, data.valid, data.test
    texts = [text for split in splits for text in data.domain.texts(split.x)]
    weights = torch.cat([split.weight for split in splits]).long() - 1
    assert len(texts) == 12
    assert texts == [LINES[row].lower() for row in weights]
    with pytest.warns(UserWarning, match="more than 4 symbols and are cut"):
        data = load_data(LINES, words=True, length=4, long="cut")
    assert "a cat (the" in data.domain.texts(data.train.x)
    with pytest.warns(UserWarning, match="more than 5 symbols"):  # of characters, too
        assert load_data(["abc", "abcdefg"] * 10, length=5, long="cut").domain.size == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": True, "vocabulary": 0}, "vocabulary=0: give a number from 1 on"),
        ({"words": True, "length": 0}, "length=0: give a number from 1 on"),
        ({"vocabulary": 10}, "add words=True"),
        ({"words": True, "window": 8}, "each line is a text of its own"),
        ({"words": True, "long": "leave"}, "take 'error', 'drop' or 'cut'"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(lk.LikelyError, match=message):
        load_data(LINES, **options)


def test_a_text_becomes_a_row():
    domain = lk.text(["<unk>", "the", "cat"], 4)
    assert domain.text_row("The cat").tolist() == [1, 2, 3, 3]
    with pytest.raises(lk.DataError, match="5 symbols, and a text has at most 4"):
        domain.text_row("the cat the cat the")
    with pytest.raises(lk.DataError, match="1 symbols, and a text has just 2"):
        lk.categories("ab", 2).text_row("a")
