"""The pages that are generated: one for each model, their list, and the API.

The text comes from the registry and the docstrings; the picture of a model is what its example draws.
"""

import contextlib
import hashlib
import importlib
import inspect
import io
import re
from functools import cache
from inspect import Parameter
from pathlib import Path
from typing import Any

import joblib
import torch

import likely as lk
from likely.contract.describe import options_of
from likely.contract.registry import Entry, entries
from likely.report import to_png

GENERATED = Path(__file__).parent / "generated"
MINUTES = 0.1  # of training in the example of a model

# Where a model that takes them is shown: the first that it takes.
DATA = {
    "rings": 'data = lk.load_data("rings")  # draws from two rings, whose density is known',
    "markov-chain": 'data = lk.load_data("markov-chain")  # sequences of four symbols',
    "digits": 'data = lk.load_data("digits")  # 8 × 8 pixels with 17 levels of grey',
    "black and white digits": """from sklearn.datasets import load_digits

digits = load_digits().images > 7
data = lk.load_data(digits, domain=lk.binary(8, 8, layout="image"))""",
    "larger digits": """from sklearn.datasets import load_digits

digits = load_digits().images.repeat(2, axis=1).repeat(2, axis=2)[:, None]
data = lk.load_data(digits, domain=lk.integers(17, 1, 16, 16, layout="image"))""",
}
FITTED = """import likely as lk
from likely.report import draw_samples
{data}
model = lk.make("{name}", data.domain, seed=0)
history = lk.fit(model, data, minutes={minutes}, seed=0)
x = model.sample({draws}, seed=1)
picture = draw_samples(x, data.domain, reference=data.test.x[:1000])
"""
ON_ENERGY = """import likely as lk
from likely.report import draw_samples

target = {target}
model = lk.make("{name}", target.domain, seed=0)
history = lk.fit(model, target, minutes={minutes}, seed=0)
print(lk.reweight(model, target, 4096, seed=0))
picture = draw_samples(model.sample(24, seed=1), target.domain)
"""
SPECIAL = {
    "lattice-cnf": ON_ENERGY.replace(
        "{target}", "lk.targets.phi4(4, 4, mass2=-4, coupling=8)  # a field on a lattice"
    ),
    "lattice-u1": ON_ENERGY.replace("{target}", "lk.targets.u1(4, beta=1.0)  # links of a lattice"),
    "classifier": """import likely as lk
from likely.report import draw_samples

data = lk.load_data("digits", predict="label")
model = lk.make("{name}", data.domain, context=data.context, seed=0)
history = lk.fit(model, data, minutes={minutes}, seed=0)
guess = model.classify(data.test.context).argmax(1)
print("right:", (guess == data.test.x[:].flatten()).double().mean())
picture = draw_samples(data.test.context[guess == 3][:24], data.context)  # what it calls a three
""",
    "regressor": """import numpy as np
import pandas as pd
import torch

import likely as lk
from likely.report import draw_samples

x = np.random.default_rng(0).uniform(-3, 3, 4000)
y = np.sin(x) + 0.1 * (1 + abs(x)) * np.random.default_rng(1).normal(size=4000)
data = lk.load_data(pd.DataFrame({{"x": x, "y": y}}), predict="y")
model = lk.make("{name}", data.domain, context=data.context, seed=0)
history = lk.fit(model, data, minutes={minutes}, seed=0)
x = data.test.context[:]
drawn, real = model.sample(len(x), context=x, seed=1), data.test.x[:]
picture = draw_samples(torch.cat([x, drawn], 1), lk.reals(2), reference=torch.cat([x, real], 1))
""",
    "cyclegan": """import likely as lk
from likely.report import draw_translation

moons = lk.load_data("moons").train.x[:]
data = lk.unpaired(moons, moons @ moons.new_tensor([[0.6, 0.8], [-0.8, 0.6]]) + 2)
model = lk.make("{name}", data.domain, context=data.context, seed=0)
history = lk.fit(model, data, minutes={minutes}, seed=0)
x = data.test.x[:500]
y = model.translate(x)
back = model.translate(y, back=True)
picture = draw_translation(x, y, back, data.domain, data.context)
""",
}


@cache
def domain_of(source: str) -> lk.Domain:
    """Where the rows of one of `DATA` live."""
    found: dict[str, Any] = {"lk": lk}
    exec(source, found)
    return found["data"].domain


def example_of(entry: Entry) -> str:
    """The code that a model's page shows, and runs."""
    if entry.name in SPECIAL:
        return SPECIAL[entry.name].format(name=entry.name, minutes=MINUTES)
    for source in DATA.values():
        if entry.takes(domain := domain_of(source)):
            draws = 2000 if domain.layout == "vector" else 24
            data = f"\n{source}"
            return FITTED.format(data=data, name=entry.name, minutes=MINUTES, draws=draws)
    raise LookupError(
        f"{entry.name}: add an example for it to SPECIAL, or data that it takes to DATA"
    )


def picture_of(entry: Entry) -> Path:
    """Where the picture is: with another example or file of the model it has another name."""
    source = inspect.getsource(importlib.import_module(entry.cls.__module__))
    key = hashlib.sha256((example_of(entry) + source).encode()).hexdigest()[:8]
    return GENERATED / "models" / f"{entry.name}-{key}.png"


def draw(name: str) -> None:
    """Run a model's example and write its picture."""
    entry = entries()[name]
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(example_of(entry), found)
    picture_of(entry).with_suffix(".txt").write_text(printed.getvalue())
    picture_of(entry).write_bytes(to_png(found["picture"], dpi=110))


def write(pictures: bool) -> None:
    """Write all pages, and the pictures that are missing."""
    (GENERATED / "models").mkdir(parents=True, exist_ok=True)
    if pictures:
        missing = [name for name, entry in entries().items() if not picture_of(entry).exists()]
        joblib.Parallel(2)(joblib.delayed(draw)(name) for name in missing)
    for name, text in pages().items():
        path = GENERATED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:  # else Sphinx reads it again
            path.write_text(text)


def show(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """What a tutorial calls `picture`, which belongs to no window: a scraper of sphinx-gallery."""
    from sphinx_gallery.scrapers import figure_rst

    picture = block_vars["example_globals"].pop("picture", None)
    if picture is None:
        return ""
    path = Path(next(block_vars["image_path_iterator"]))
    path.write_bytes(to_png(picture, dpi=110))
    return figure_rst([str(path)], gallery_conf["src_dir"])


def pages() -> dict[str, str]:
    """The text of each page by its path."""
    own = {name: entry for name, entry in entries().items() if entry.family != "user"}
    found = {f"models/{name}.rst": model_page(entry) for name, entry in own.items()}
    found["models.rst"] = model_list(own)
    rooms = {"likely": lk.__all__, **subpackages()}
    found |= {f"api/{room}.rst": api_page(room, names) for room, names in rooms.items()}
    found["api.rst"] = titled("API") + toctree([f"api/{room}" for room in rooms])
    return found


def subpackages() -> dict[str, list[str]]:
    """The public names of each package below `likely`, without those that `likely` itself has."""
    found = {}
    for room in [*lk._families(), *lk._ROOMS]:
        names = getattr(getattr(lk, room), "__all__", [])
        if names := [name for name in names if name not in lk.__all__]:
            found[f"likely.{room}"] = sorted(names, key=str.lower)
    return dict(sorted(found.items()))


def api_page(room: str, names: list[str]) -> str:
    """Every public name of a package, with its docstring."""
    package = lk if room == "likely" else getattr(lk, room.partition(".")[2])
    head = escape(inspect.cleandoc(package.__doc__ or ""))
    blocks = [titled(f"``{room}``"), head, ""]
    for name in names:
        value = getattr(package, name)
        if isinstance(value, type):
            kind = "exception" if issubclass(value, BaseException) else "class"
            blocks += [f".. auto{kind}:: {room}.{name}", "   :members:", ""]
        elif callable(value):
            blocks += [f".. autofunction:: {room}.{name}", ""]
        else:
            blocks += [f".. autodata:: {room}.{name}", "   :no-value:", ""]
    return "\n".join(blocks)


def model_page(entry: Entry) -> str:
    """What a model is, an example with its picture, and its options."""
    module = inspect.cleandoc(importlib.import_module(entry.cls.__module__).__doc__ or "")
    about = inspect.cleandoc(entry.cls.__doc__ or "").partition("\nParameters\n---")[0]
    facts = {
        "likelihood": entry.density,
        "constraint": entry.constraint,
        "columns": ", ".join([*entry.columns, *(["a context"] if entry.cls.takes_context else [])]),
        "paper": entry.paper or "none",
        "class": f":class:`likely.{entry.family}.{entry.cls.__name__}`",
    }
    options = [
        (f"``{o.name}``", "" if o.default is Parameter.empty else f"``{o.default!r}``", escape(o.takes),
         escape(o.text))
        for o in options_of(entry.name)
    ]  # fmt: skip
    shown = []
    if (picture := picture_of(entry)).exists():
        if printed := picture.with_suffix(".txt").read_text():
            shown = [
                ".. code-block:: text",
                "",
                *(f"   {line}" for line in printed.splitlines()),
                "",
            ]
        shown += [
            f".. image:: {picture.name}",
            f"   :alt: what the example of {entry.name} draws",
            "",
        ]
    return "\n".join(
        [
            titled(f"``{entry.name}``: {escape(entry.title)}"),
            *(
                f":{key}: {value if key == 'class' else escape(value)}"
                for key, value in facts.items()
            ),
            "",
            equations(module),
            "",
            *([] if about in module else [equations(about), ""]),
            titled("Example", "-"),
            ".. code-block:: python",
            "",
            *(f"   {line}" for line in example_of(entry).splitlines()),
            "",
            *shown,
            titled("Options", "-"),
            table(("option", "default", "takes", "what it is"), options)
            if options
            else "It has none.",
        ]
    )


def model_list(own: dict[str, Entry]) -> str:
    """All models, by family."""
    blocks = [titled("Models"), "``lk.models()`` and ``likely models`` list the same.", ""]
    for family in sorted({entry.family for entry in own.values()}):
        rows = [
            (
                f":doc:`{name} <models/{name}>`",
                escape(e.title),
                escape(e.density),
                escape(e.constraint),
            )
            for name, e in own.items()
            if e.family == family
        ]
        blocks += [titled(family, "-"), table(("name", "model", "likelihood", "constraint"), rows)]
    return "\n".join([*blocks, toctree([f"models/{name}" for name in own], hidden=True)])


def titled(text: str, line: str = "=") -> str:
    """A heading."""
    return f"{text}\n{line * len(text)}\n"


def toctree(entries: list[str], *, hidden: bool = False) -> str:
    """A table of contents."""
    options = ["   :hidden:"] if hidden else ["   :maxdepth: 1"]
    return "\n".join(["", ".. toctree::", *options, "", *(f"   {entry}" for entry in entries), ""])


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table with a line of heads."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [head, *rows]:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join([*lines, ""])


def equations(text: str) -> str:
    """A docstring whose paragraphs that are indented by four keep their lines."""
    blocks = []
    inside = False
    for block in text.split("\n\n"):
        indent = min((len(line) - len(line.lstrip()) for line in block.splitlines()), default=0)
        if indent < 4:
            blocks.append(escape(block))
        else:
            blocks += [block] if inside else [" " * (indent - 4) + "::", block]
        inside = indent >= 4
    return "\n\n".join(blocks)


def escape(text: str) -> str:
    """Signs of mathematics that reStructuredText takes for markup: bars, asterisks, R_·."""
    return re.sub(
        r"(`+).+?\1|[|*]|(?<=\w)_(?!\w)",
        lambda found: found[0] if found[1] else "\\" + found[0],
        text,
    )


def escape_lines(
    app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """The same for the docstrings that autodoc reads, in place."""
    lines[:] = [
        line if line.lstrip().startswith((">>>", "...")) else escape(line) for line in lines
    ]
