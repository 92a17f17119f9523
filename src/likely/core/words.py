"""Words and marks of a text."""

import re
from collections.abc import Sequence

UNKNOWN = "<unk>"  # stands for every word that a vocabulary lacks
WORD = re.compile(rf"{UNKNOWN}|\w+(?:['’-]\w+)*|[^\w\s]")
BEFORE = re.compile(r" (?=[,.;:!?%)\]}'’”…])")  # blanks that these marks do without
AFTER = re.compile(r"(?<=[(\[{“‘¿¡]) ")


def split_words(text: str) -> list[str]:
    """The words and marks of a text.

    >>> split_words("The lamb's book: open!")
    ['The', "lamb's", 'book', ':', 'open', '!']
    """
    return WORD.findall(text)


def join_words(words: Sequence[str]) -> str:
    """A text of words and marks, without the blanks that marks do not have.

    >>> join_words(["the", "book", "(", "open", ")", ",", "he", "said", "."])
    'the book (open), he said.'
    """
    return AFTER.sub("", BEFORE.sub("", " ".join(words)))
