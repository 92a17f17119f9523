"""Every public name and every model is in the documentation, which is not built here."""

import importlib.util
from pathlib import Path

import pytest

import likely as lk
from likely.contract.registry import entries

OWN = [name for name, entry in entries().items() if entry.family != "user"]


@pytest.fixture(scope="module")
def docs():
    path = Path(__file__).parents[1] / "docs/pages.py"
    spec = importlib.util.spec_from_file_location("pages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def texts(docs):
    return docs.pages()


def test_every_public_name_is_on_a_page(texts):
    lines = texts["api/likely.rst"].splitlines()
    there = {line.split(":: likely.")[1] for line in lines if line.startswith(".. auto")}
    assert there == {*lk.__all__}


def test_every_model_has_a_page_that_makes_it_and_names_its_class(docs, texts):
    for name in OWN:
        entry = entries()[name]
        text = texts[f"models/{name}.rst"]
        assert f'lk.make("{name}", ' in text
        assert f":doc:`{name} <models/{name}>`" in texts["models.rst"]
        linked = f"likely.{entry.family}.{entry.cls.__name__}"
        assert f":class:`{linked}`" in text
        assert f".. autoclass:: {linked}\n" in texts[f"api/likely.{entry.family}.rst"]


def test_examples_compile(docs):
    for name in OWN:
        compile(docs.example_of(entries()[name]), name, "exec")


def test_mathematics_is_no_markup(docs):
    assert docs.escape("p(y|x), *shape, R_·, z_i, `|x|`") == r"p(y\|x), \*shape, R\_·, z_i, `|x|`"


def test_equations_keep_their_lines(docs):
    assert docs.equations("Text,\n\n    a = |b|\n    c\n\nwhere") == (
        "Text,\n\n::\n\n    a = |b|\n    c\n\nwhere"
    )
