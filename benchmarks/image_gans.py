"""Adversarial networks of images of 32 × 32 pixels at equal time: dcgan, progan, stylegan.

    python benchmarks/image_gans.py DATA/mnist.npz --minutes 20 --seeds 3 --out runs/image-gans
    python benchmarks/image_gans.py DATA/emoji.npz --array google --minutes 20 --out runs/emoji-gans

The file holds x_train and x_test (MNIST; smaller images are padded with their darkest level), or one array of
images, channels last, of which a tenth each is for validation and for the test. Printed are figures of
`lk.evaluate`, among them the area under the curve of a classifier of images (1/2 if it guesses), and the pace
of `progan` at each of its resolutions, in steps of both players a second. A run that was interrupted goes on
when the command is repeated. Samples stand next to each run.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import likely as lk
from likely import report

MODELS = ("dcgan", "progan", "stylegan")
FIGURES = ("image_auc", "classifier_auc", "frechet_distance", "kernel_distance")
EDGE, VALID = 32, 5_000
PACE_STEPS = 3, 20  # to warm up, and measured


def load(path: Path, array: str | None) -> lk.Data:
    """Images of 32 × 32 pixels as 256 levels."""
    if not path.is_file():
        sys.exit(f"{path}: there is no such file")
    with np.load(path) as file:
        if array is None:
            x, test = (
                torch.from_numpy(file[f"x_{part}"]).long()[:, None] for part in ("train", "test")
            )
            train, valid = x[:-VALID], x[-VALID:]
        else:
            x = torch.from_numpy(file[array]).long().permute(0, 3, 1, 2)
            x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
            train, valid, test = x.split([len(x) - 2 * (len(x) // 10), *2 * [len(x) // 10]])
    left, top = ((EDGE - edge) // 2 for edge in (train.shape[3], train.shape[2]))
    sides = (left, EDGE - train.shape[3] - left, top, EDGE - train.shape[2] - top)
    domain = lk.integers(256, train.shape[1], EDGE, EDGE, layout="image")
    splits = [lk.data.Split(F.pad(part, sides)) for part in (train, valid, test)]
    return lk.Data(domain, *splits, name=path.stem)


def paces(data: lk.Data) -> dict[str, float]:
    """Steps of both players of a progan, with their optimizers, a second at each resolution."""
    model = lk.make("progan", data.domain, seed=0)
    x = data.train.x[: model.recipe.batch]
    model.prepare(lk.Batch(data.train.x[:500]))
    found = {}
    stages = len(model.stages())
    for stage in range(stages):
        players = [(o, torch.optim.AdamW(o.parameters, fused=True)) for o in model.objectives()]
        batch = lk.Batch(x, progress=(stage + 0.9) / stages)
        for steps in PACE_STEPS:
            start = time.perf_counter()
            for _ in range(steps):
                for objective, optimizer in players:
                    optimizer.zero_grad()
                    objective.loss(batch).mean().backward()
                    optimizer.step()
        found[f"{EDGE >> (stages - 1 - stage)} px"] = steps / (time.perf_counter() - start)
    return found


def main() -> None:
    """Fit each model with each seed, evaluate, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--array", help="of images, where the file has no x_train and x_test")
    parser.add_argument("--models", default=",".join(MODELS), help="of all, with commas")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, help="to score, by default up to 2,000")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    args = parser.parse_args()
    data = load(args.file, args.array)
    print("progan, steps/s:", {k: round(v, 1) for k, v in paces(data).items()}, flush=True)
    table: dict[str, list[lk.Evaluation]] = {}
    for name in args.models.split(","):
        for seed in range(args.seeds):
            folder = args.out / f"{name}-{seed}"
            model = lk.make(name, data.domain, seed=seed)
            fit = {"seed": seed, "run": folder, "progress": sys.stderr.isatty()}
            history = lk.fit(model, data, minutes=args.minutes, **fit)
            found = lk.evaluate(model, data, seed=seed, rows=args.rows)
            table.setdefault(name, []).append(found)
            pictures = {"samples": report.draw_samples(model.sample(36, seed=0), data.domain)}
            if name == "stylegan":
                mixed = model.mix_styles(6, seed=0)
                pictures["styles"] = report.draw_style_mixing(mixed, data.domain)
            for part, figure in pictures.items():
                (args.out / f"{name}-{seed}-{part}.png").write_bytes(report.to_png(figure))
            figures = {f: str(found.values[f]) for f in FIGURES if f in found.values}
            print(name, seed, f"{history.steps} steps", figures, flush=True)
    print(f"\n| |{'|'.join(FIGURES)}|\n|{'---|' * (1 + len(FIGURES))}")
    for name, rows in table.items():
        print(f"| {name} |{'|'.join(_cell(rows, figure) for figure in FIGURES)}|")


def _cell(rows: list[lk.Evaluation], figure: str) -> str:
    """The mean over seeds, and its error from their spread, or that of the figure of one seed."""
    values = [row.values[figure] for row in rows if figure in row.values]
    if len(values) < 2:
        return str(*values)
    numbers = [value.value for value in values]
    error = statistics.stdev(numbers) / len(numbers) ** 0.5
    return f"{statistics.fmean(numbers):.3g} ± {error:.2g}"


if __name__ == "__main__":
    main()
