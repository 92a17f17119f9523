"""Images given their class, by an adversarial network: MNIST or Fashion-MNIST from one file.

    python benchmarks/image_classes.py DATA/mnist.npz --minutes 40 --out runs/biggan-mnist
    python benchmarks/image_classes.py DATA/mnist.npz --rows 1000 --minutes 15 \\
        --set augment=translation,cutout --out runs/biggan-few

The file holds x_train, y_train, x_test, y_test; the last 5,000 training rows are for validation. A run that
was interrupted goes on when the command is repeated. Printed is what `lk.evaluate` finds on the test rows,
which includes whether classifiers find the samples' classes, and learn from them, and the bound on the
mutual information of `--model infogan`, which learns without classes.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

import likely as lk
from likely.cli.options import hyperparameters

VALID = 5_000


def load(path: Path, rows: int | None, classes: bool) -> lk.Data:
    """The images, at most so many of them to train on, with their classes as the context."""
    if not path.is_file():
        sys.exit(f"{path}: there is no such file")
    with np.load(path) as file:
        x, y, x_test, y_test = (
            torch.from_numpy(file[name]).long()
            for name in ("x_train", "y_train", "x_test", "y_test")
        )
    train = slice(0, min(rows or len(x), len(x) - VALID))
    parts = [(x[train], y[train]), (x[-VALID:], y[-VALID:]), (x_test, y_test)]
    splits = [lk.data.Split(a, b[:, None] if classes else None) for a, b in parts]
    return lk.Data(
        lk.integers(256, *x.shape[1:], layout="image"),
        *splits,
        name=path.stem,
        context=lk.table(kind=lk.Categorical(int(y.max()) + 1)) if classes else None,
    )


def main() -> None:
    """Fit, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="of x_train, y_train, x_test, y_test")
    parser.add_argument("--model", default="biggan")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--rows", type=int, help="to train on")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--steps", type=int, help="in place of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    args = parser.parse_args()
    data = load(args.file, args.rows, classes=args.model != "infogan")
    model = lk.make(
        args.model, data.domain, context=data.context, seed=args.seed, **hyperparameters(args.set)
    )
    budget = {"minutes": args.minutes} if args.steps is None else {"steps": args.steps}
    fit = {"seed": args.seed, "run": args.out, "device": args.device, "progress": True}
    history = lk.fit(model, data, **budget, **fit)
    found = lk.evaluate(model, data, history=history, seed=args.seed, progress=True)
    print(found)
    for name in ("critic", "generator", "information"):
        if name in history.rows[-1]:
            print(f"{name} {history.rows[-1][name]:.4g}")


if __name__ == "__main__":
    main()
