"""Freed memory stays in the process."""

import platform
import subprocess
import sys

import pytest

CHURN = """
import resource
import torch
from likely.core.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        kept = [torch.ones(2**16) for _ in range(32)]
        del kept
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20

faults()
print(faults())
keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc gives memory back")
def test_freed_memory_is_not_faulted_in_again() -> None:
    run = subprocess.run([sys.executable, "-c", CHURN], capture_output=True, text=True, check=True)
    before, after = map(float, run.stdout.split())
    assert before > 1000  # pages a round
    assert after < 10
