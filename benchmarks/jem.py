"""A classifier that is an energy-based model against the same network as a classifier alone.

    python benchmarks/jem.py DATA/fashion_mnist.npz --outside DATA/mnist.npz --minutes 60 --out runs/jem
    python benchmarks/jem.py DATA/mnist.npz --labels 1000 --seeds 5 --minutes 30 --out runs/jem-1000

The file holds x_train, y_train, x_test and y_test, images of 256 grey levels and their classes 0 to 9.
`plain` minimises the cross-entropy alone; `jem` learns p(x), too, by chains at the temperature 1; `sgld` by
the published recipe. With --labels so many training rows keep their class; the others are rows without one,
of which `plain` sees nothing. Printed are, on test rows, the accuracy, log loss, expected calibration error
(with where that of a calibrated classifier would lie) and fitted temperature of each; how well each score
tells images of the other file, noise, constants, shuffled, inverted and blurred images from test images; and
accuracies under the same attacks, whose sizes are in grey levels. Samples of each class stand next to each
run. A run that was interrupted goes on when the command is repeated.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import likely as lk
from likely import report

VALID, CLASSES = 5_000, 10
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"generative": 0.0},
    "jem": {},
    "sgld": {"training": "sgld", "k": 20},
}
RATES = {"plain": 1e-3, "sgld": 1e-4}  # the default of an ebm for jem
SIZES = {"Linf": (8, 16, 32, 64), "L2": (128, 256, 512, 1024)}  # of 255 grey levels


def read(path: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images and classes of one part of a file."""
    if not path.is_file():
        sys.exit(f"{path}: there is no such file")
    with np.load(path) as file:
        x, y = (torch.from_numpy(file[f"{name}_{part}"]).long() for name in "xy")
    return x[:, None], y[:, None]


def load(path: Path, labels: int | None, seed: int) -> lk.Data:
    """Images as 256 levels, some of them without a class."""
    (x, y), test = read(path, "train"), lk.data.Split(*read(path, "test"))
    valid = lk.data.Split(x[-VALID:], y[-VALID:])
    x, y = x[:-VALID], y[:-VALID]
    others = {}
    if labels is not None:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        others, kept = {"unlabelled": x[order[labels:]]}, order[:labels]
        x, y = x[kept], y[kept]
    domain = lk.integers(256, *x.shape[1:], layout="image")
    context = lk.table(label=lk.Categorical(CLASSES))
    train = lk.data.Split(x, y)
    return lk.Data(domain, train, valid, test, context=context, name=path.stem, **others)


def main() -> None:
    """Fit each model with each seed, judge it, and print means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--outside", type=Path, help="another file of images of the same size")
    parser.add_argument("--models", default=",".join(MODELS), help="of all, with commas")
    parser.add_argument("--labels", type=int, help="training rows that keep their class")
    parser.add_argument("--minutes", type=float, default=60, help="of each fit")
    parser.add_argument("--plain-minutes", type=float, help="of those of `plain`")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--hidden", type=int, nargs="+", default=(32, 64), help="channels")
    parser.add_argument("--rows", type=int, default=1000, help="of each set outside, and attacked")
    parser.add_argument("--steps", type=int, default=40, help="of each of three attacks")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    args = parser.parse_args()
    table: dict[str, list[dict[str, float]]] = {}
    for seed in range(args.seeds):
        data = load(args.file, args.labels, seed)
        for name in args.models.split(","):
            table.setdefault(name, []).append(judged(name, data, seed, args))
    print("\n| |" + "|".join(table[next(iter(table))][0]) + "|")
    for name, rows in table.items():
        print(f"| {name} |" + "|".join(mean([row[f] for row in rows]) for f in rows[0]) + "|")


def judged(name: str, data: lk.Data, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Fit one model, print what it is worth, and return the figures that are pooled over seeds."""
    options = {"hidden": tuple(args.hidden), "pooled": True, **MODELS[name]}
    model = lk.make("jem", data.domain, context=data.context, seed=seed, **options)
    folder = args.out / f"{name}-{seed}"
    fit: dict[str, Any] = {"seed": seed, "run": folder, "progress": sys.stderr.isatty()}
    fit["minutes"] = args.plain_minutes if name == "plain" and args.plain_minutes else args.minutes
    if name in RATES:
        fit["rate"] = RATES[name]
    history = lk.fit(model, data, batch=128, **fit)
    print(f"\n{name}, seed {seed}: {history}, {history.rows[-1].get('rollbacks', 0)} rollbacks")
    x, y = data.test.x[:], data.test.context[:, 0]
    with torch.no_grad():
        log_p = model.classify(x).double().clamp_min(1e-300).log()
    diagram = lk.evaluation.reliability(log_p, y)
    found = {
        "accuracy": lk.evaluation.accuracy(log_p, y),
        "log loss": lk.evaluation.log_loss(log_p, y),
        "calibration error": diagram.error,
        "temperature": lk.evaluation.fitted_temperature(log_p, y),
    }
    print(", ".join(f"{key} {figure}" for key, figure in found.items()), end=" ")
    print("(calibrated: {:.4f} to {:.4f})".format(*diagram.null), flush=True)
    other = {} if args.outside is None else {args.outside.stem: read(args.outside, "test")[0]}
    print(lk.evaluation.detect_outside(model, data, other, rows=args.rows), flush=True)
    for norm, sizes in SIZES.items():
        part, attack = slice(args.rows), {"norm": norm, "steps": args.steps, "restarts": 3}
        print(lk.evaluation.robustness(model, x[part], y[part], sizes, **attack), flush=True)
    if MODELS[name].get("generative", 1.0):
        classes = torch.arange(CLASSES).repeat_interleave(5)[:, None]
        figure = report.draw_samples(model.sample(len(classes), context=classes), data.domain)
        (args.out / f"{name}-{seed}.png").write_bytes(report.to_png(figure))
    return {key: figure.value for key, figure in found.items()}


def mean(values: list[float]) -> str:
    """Over seeds, with its error from their spread."""
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.fmean(values):.4f} ± {statistics.stdev(values) / len(values) ** 0.5:.4f}"


if __name__ == "__main__":
    main()
