"""Fitting a file that is larger than memory."""

import subprocess
import sys

import pytest

SCRIPT = """
import re, sys, threading, time, warnings
from pathlib import Path
import numpy as np
import likely as lk

warnings.simplefilter("ignore")
file = np.lib.format.open_memmap(sys.argv[1], "w+", np.float32, shape=(5_000_000, 1024))
rng = np.random.default_rng(0)
for row in range(0, len(file), 1000):
    file[row] = rng.normal(size=1024)
file.flush()
del file
lk.fit(lk.make("gaussian", lk.reals(2)), lk.load_data(rng.normal(size=(100, 2))))  # imports

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

baseline = peak = anonymous()

def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.01)

threading.Thread(target=watch, daemon=True).start()
data = lk.load_data(sys.argv[1])
history = lk.fit(lk.make(sys.argv[2], data.domain, seed=0), data, steps=50)
print(history.steps, peak - baseline)
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gaussian", "independent"])
def test_anonymous_memory_stays_small(tmp_path, model):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "sparse.npy"), model]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    steps, used = map(float, output.split())
    assert steps == 50
    assert used < 400  # MiB
