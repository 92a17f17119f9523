"""MNIST in 256 grey levels: bits per dimension.

    python benchmarks/grey_mnist.py DATA/mnist.npz --models realnvp,glow --minutes 30 --out runs/grey

Each model trains for the same minutes on 50,000 images; the last 10,000 of the file's training images
validate, and the whole test set is scored. PixelCNN gives probabilities of levels. Flows give densities, so
theirs is a bound, with `--draws` draws of the noise that makes levels continuous, and with one, as in most
papers: uniform noise, or with `--set '{"dequantisation": "variational"}'` learned noise. "±" is the standard
error over test images, and differences are paired. A run that was interrupted goes on when the command is
repeated.
"""

import argparse
import inspect
import json
import math
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

import likely as lk

HELD_OUT = 10_000
DIMENSIONS = 28 * 28
SETTINGS = {"realnvp": {"view": "affine"}}


def load(path: Path) -> lk.Data:
    """The three splits."""
    try:
        with np.load(path) as file:
            train, test = (torch.from_numpy(file[name]).long() for name in ("x_train", "x_test"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(f"{path}: not the file of grey images with x_train and x_test ({error})")
    splits = [lk.data.Split(x) for x in (train[:-HELD_OUT], train[-HELD_OUT:], test)]
    return lk.Data(lk.integers(256, 28, 28, layout="image"), *splits, name="MNIST, 256 levels")


def bits(values: torch.Tensor) -> str:
    """The mean of log-likelihoods in bits per dimension, and its standard error."""
    mean, error = values.double().mean(), values.double().std() / math.sqrt(len(values))
    unit = DIMENSIONS * math.log(2)
    return f"{-mean / unit:.4f} ± {error / unit:.4f}"


def main() -> None:
    """Fit, score, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="mnist.npz, with grey levels")
    parser.add_argument(
        "--models", default="realnvp,glow", help="as in `likely models`, with commas"
    )
    parser.add_argument("--set", type=json.loads, default={}, help="options of all of them")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of each training; by default 30")
    budget.add_argument("--steps", type=int)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--precision", default="bf16-mixed", help="half of the time where a CPU has AMX"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    arguments = parser.parse_args()
    minutes = 30.0 if arguments.steps is None and arguments.minutes is None else arguments.minutes
    torch.set_num_threads(arguments.threads)
    data, first = load(arguments.data), None
    print(
        "| model | steps | minutes | bits/dim, one draw | draws | bits/dim | less than the first by |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in arguments.models.split(","):
        options = SETTINGS.get(name, {}) | arguments.set
        model = lk.make(name, data.domain, seed=arguments.seed, **options)
        label = "-".join([name, *map(str, arguments.set.values())])
        history = lk.fit(
            model, data, minutes=minutes, steps=arguments.steps, seed=arguments.seed,
            run=arguments.out / label, progress=sys.stderr.isatty(), precision=arguments.precision,
        )  # fmt: skip
        noisy = "draws" in inspect.signature(model.estimator).parameters
        draws = (1, arguments.draws) if noisy else (None,)
        values = [
            model.log_likelihood(data.test.x, seed=0, **({"draws": n} if n else {})).value
            for n in draws
        ]
        first = values[0] if first is None else first
        print(
            f"| {label} | {history.steps:,} | {history.seconds / 60:.1f} | {bits(values[0])} | "
            f"{draws[-1] or 'exact'} | {bits(values[-1])} | {bits(first - values[0])} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
