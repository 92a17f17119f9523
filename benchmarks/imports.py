"""Importing: seconds of a fresh Python process, from its start to its end, and its largest resident memory.

Alone, where likely only looks up names when they are asked for; and with a first use, the densities of one
row under an untrained masked autoregressive flow as each has it. An
empty process that imports torch is the floor of all of them.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.suite import OURS, Options, Row, Side

TITLE = "Importing"
ALONE = ["torch", "zuko", "nflows", "pythae", "torchebm", "sbi"]
FIRST_USE = {
    OURS: "import torch, likely as lk\n"
    "m = lk.make('maf', lk.reals(6))\nm.log_prob(torch.zeros(1, 6))",
    "zuko": "import torch, zuko\nm = zuko.flows.MAF(6)\nm().log_prob(torch.zeros(1, 6))",
    "nflows": "import torch\nfrom nflows.flows import MaskedAutoregressiveFlow as MAF\n"
    "m = MAF(6, 64, 5, 2)\nm.log_prob(torch.zeros(1, 6))",
    "torchflows": "import torch\nfrom torchflows.flows import Flow\n"
    "from torchflows.bijections.finite.autoregressive.architectures import MAF\n"
    "m = Flow(MAF((6,)))\nm.log_prob(torch.zeros(1, 6))",
}


# The system's own figure for a child would begin with the memory of the process that started it.
PEAK = "\nfor line in open('/proc/self/status'):\n  if line.startswith('VmHWM'): print(line.split()[1])"


def process(code: str, options: Options) -> Side:
    """A fresh interpreter that runs the code."""
    peak = 0

    def run() -> None:
        nonlocal peak
        child = subprocess.run(
            [sys.executable, "-c", code + PEAK], capture_output=True, text=True, check=False
        )
        if child.returncode:
            raise ImportError(child.stderr.strip().splitlines()[-1])
        peak = int(child.stdout.split()[-1]) * 1024

    return Side(run, memory=lambda: peak)


ROWS = [
    Row(
        "imports.alone",
        "import alone",
        {name: partial(process, f"import {name}") for name in [OURS, *ALONE]},
    ),
    Row(
        "imports.first-use",
        "import and first density",
        {name: partial(process, code) for name, code in FIRST_USE.items()},
    ),
]
