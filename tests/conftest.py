"""Shared by all tests: every test starts from the same random numbers."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
