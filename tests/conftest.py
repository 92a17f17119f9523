"""Shared by all tests: the same random numbers, and one thread, so that tests can run side by side."""

import os
import shutil

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def compiler():
    """Skip without the C++ compiler that torch.compile needs."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs a C++ compiler")
