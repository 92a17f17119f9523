"""Sphinx: `make docs`. `pages.py` writes the pages of models and of the API."""

import importlib
import sys
from pathlib import Path

import likely as lk
from likely.models import FAMILIES

sys.path.insert(0, str(Path(__file__).parent))
for _family in FAMILIES:  # `lk.flows` is an attribute; autodoc imports `likely.flows`
    sys.modules[f"likely.{_family}"] = importlib.import_module(f"likely.models.{_family}")

import pages  # noqa: E402

project = "likely"
version = release = lk.__version__
author = copyright = "The likely developers"

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_nb", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "examples", "tutorial", "generated/**/*.ipynb"]
default_role = "code"
autodoc_typehints = "none"  # docstrings have the types, with shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
# Methods are no entries of their own beside the text of the page.
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"likely {lk.__version__}"
html_copy_source = False

myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

sphinx_gallery_conf = {
    "examples_dirs": "tutorial",
    "gallery_dirs": "generated/tutorial",
    # What takes longer than a minute is shown, and not run.
    "filename_pattern": r"/(?!gan_1d|phi4|galaxies|deblending)\w+\.py$",
    "abort_on_example_error": True,
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("pages.show",),
    "capture_repr": ("_repr_html_",),
    "first_notebook_cell": "%matplotlib inline",
    "show_memory": False,
    "min_reported_time": 0,
    "write_computation_times": False,
    "remove_config_comments": True,
}


def setup(app):
    """Write the generated pages first, and keep bars and asterisks of mathematics in docstrings."""
    app.connect(
        "config-inited", lambda app, config: pages.write(config.plot_gallery in (True, "1"))
    )
    app.connect("autodoc-process-docstring", pages.escape_lines, priority=1)
