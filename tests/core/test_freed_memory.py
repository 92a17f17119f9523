"""Freed memory stays in the process."""

import platform
import subprocess
import sys

import pytest

# Rounds of 48 MiB, in a process whose thresholds are what its imports have left: often low, sometimes high.
CHURN = """
import resource
import torch
from likely.core.runtime import keep_freed_memory

def churn():
    kept = [torch.ones(2**21) for _ in range(6)]

keep_freed_memory()
for _ in range(5):
    churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    churn()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_freed_memory_is_not_faulted_in_again() -> None:
    run = subprocess.run([sys.executable, "-c", CHURN], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 100  # pages a round; 12,288 are used
