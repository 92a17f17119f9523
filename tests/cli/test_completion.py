"""A shell that was set up by `likely --install-completion` completes commands and options."""

import pytest

from likely.cli import main


@pytest.mark.parametrize(
    ("words", "found"), [("likely in", ["inspect"]), ("likely fit --mo", ["--model"])]
)
def test_the_command_completes(monkeypatch, capsys, words, found):
    monkeypatch.setenv("_LIKELY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert main([]) == 0
    assert capsys.readouterr().out.split() == found
