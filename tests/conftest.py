"""Shared by all tests: the same random numbers, and one thread, so that tests can run side by side."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
