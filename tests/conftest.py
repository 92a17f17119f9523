"""Shared by all tests: the same random numbers, and one thread, so that tests can run side by side."""

import importlib
import os
import shutil
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # of NumPy, and of processes that tests start

import pytest
import torch

collect_ignore = ["example_model.py"]  # which registers a model: `test_user_model.py` runs it
collect_ignore_glob = ["campaign/[!t]*.py", "campaign/tools.py"]

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption(
        "--models-from",
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file that registers models: the conformance suite checks these only",
    )


def pytest_configure(config):
    for file in config.getoption("models_from"):
        sys.path.insert(0, str(Path(file).parent))
        importlib.import_module(Path(file).stem)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def compiler():
    """Skip without the C++ compiler that torch.compile needs."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs a C++ compiler")
