"""Patches of BSDS300 (63 numbers): flows with linear maps between their layers, and without.

    python -m benchmarks.patches DATA --models maf --minutes 20

Both train for the same minutes on 200,000 patches; nats per patch of 50,000 patches of other images, with the
standard error over them; differences are paired.
"""

import argparse
import math
from pathlib import Path

import torch
from benchmarks.quality import bsds300

import likely as lk


def main() -> None:
    """Fit, score, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with bsds300_gray.npz")
    parser.add_argument("--models", default="maf", help="maf, nsf, realnvp …, with commas")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of each training; by default 20")
    budget.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    minutes = 20.0 if options.steps is None and options.minutes is None else options.minutes
    torch.set_num_threads(options.threads)
    domain, *splits = bsds300(options.folder)
    data = lk.Data(domain, *map(lk.data.Split, splits), name="BSDS300")
    print("| model | steps | nats per patch | more by linear maps |\n|---|---|---|---|")
    for name in options.models.split(","):
        plain = None
        for linear in (None, "lu"):
            model = lk.make(name, domain, linear=linear, seed=0)
            history = lk.fit(model, data, minutes=minutes, steps=options.steps, seed=0)
            value = model.log_likelihood(data.test.x).value.double()
            plain = value if plain is None else plain
            found, gain = (
                lk.Figure(x.mean().item(), x.std().item() / math.sqrt(len(x)))
                for x in (value, value - plain)
            )
            label = name if linear is None else f"{name}, linear={linear}"
            print(
                f"| {label} | {history.steps:,} | {found} | {gain if linear else ''} |", flush=True
            )


if __name__ == "__main__":
    main()
