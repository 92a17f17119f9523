"""Models on the Hugging Face Hub: `push`, and the card that says what a model is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from likely._version import __version__
from likely.contract.model import GenerativeModel
from likely.contract.registry import find, name_of
from likely.contract.store import configuration, save
from likely.core.files import write_json, write_text
from likely.core.hub import HUB, MODEL, hub

if TYPE_CHECKING:
    from likely.evaluation.result import Evaluation


def push(
    model: GenerativeModel,
    name: str,
    *,
    evaluation: Evaluation | None = None,
    license: str | None = None,
    private: bool = False,
    revision: str | None = None,
) -> str:
    """Put a model on the Hugging Face Hub, with a card; `likely[hub]` has the library.

    Parameters
    ----------
    model : GenerativeModel
        Of a registered class.
    name : str
        As "user/name"; a repository is made if there is none.
    evaluation : Evaluation, optional
        What `lk.evaluate` found; the card has its figures, and `evaluation.json`.
    license : str, optional
        As the Hub writes it: "mit", "cc-by-4.0" …
    private : bool
        Of a new repository.
    revision : str, optional
        A branch that exists; by default the main one.

    Returns
    -------
    str
        The address of just this version, for `lk.load`.

    Raises
    ------
    ArtifactError
        If the Hub cannot be reached, or refuses.
    LikelyError
        If its library is not installed, or the class of the model not registered.
    """
    with tempfile.TemporaryDirectory(prefix="likely-") as folder:
        save(model, Path(folder) / MODEL)
        write_text(Path(folder) / "README.md", card(model, name, evaluation, license))
        if evaluation is not None:
            write_json(Path(folder) / "evaluation.json", evaluation.to_json())
        with hub(f"{HUB}{name}") as library:
            library.create_repo(name, private=private, exist_ok=True)
            commit = library.upload_folder(
                repo_id=name,
                folder_path=folder,
                revision=revision,
                commit_message=f"Upload a model of likely {__version__}",
            )
    return f"{HUB}{name}@{commit.oid}"


def card(
    model: GenerativeModel, name: str, evaluation: Evaluation | None, license: str | None
) -> str:
    """What a model is and how good, in Markdown with the Hub's header."""
    entry = find(name_of(model))
    options = configuration(model)["hyperparameters"]
    given = "" if model.context is None else f", given {model.context}"
    header = ["---", "library_name: likely", f"tags: [likely, {entry.family}, {entry.name}]"]
    header += [] if license is None else [f"license: {license}"]
    lines = [
        *header,
        "---",
        f"# {name}",
        "",
        f"`{entry.name}`: {entry.title} ({entry.paper}). Samples are {model.domain}{given}. "
        f"Its log-likelihood, in nats per sample in the data's own units: {model.density}.",
        "",
        "```python",
        "import likely as lk",
        "",
        f'model = lk.load("{HUB}{name}")',
        "```",
        "",
        f"Written by likely {__version__}, with the options "
        + ", ".join(f"`{key}={value}`" for key, value in options.items())
        + ".",
    ]
    if evaluation is not None:
        lines += [
            "",
            "## Evaluation",
            "",
            "```",
            str(evaluation),
            "```",
            "",
            "± is one standard error.",
        ]
    return "\n".join(lines) + "\n"
