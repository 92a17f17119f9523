"""Images from one energy that is learned by denoising at many levels (Li, Chen & Sommer 2019).

    python benchmarks/denoising.py DATA/fashion_mnist.npz --minutes 30 --out runs/denoising

The file holds x_train and x_test, images of 256 grey levels. Printed is how well a convolutional network
tells samples from test images (area under the curve: 1/2 if it guesses), beside the same for training images.
A grid of samples and the run stand in the folder; a run that was interrupted goes on when the command is
repeated.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

import likely as lk
from likely import report

VALID = 5_000


def load(path: Path) -> lk.Data:
    """Images as 256 levels."""
    if not path.is_file():
        sys.exit(f"{path}: there is no such file")
    with np.load(path) as file:
        train, test = (torch.from_numpy(file[f"x_{p}"]).long()[:, None] for p in ("train", "test"))
    splits = [lk.data.Split(x) for x in (train[:-VALID], train[-VALID:], test)]
    domain = lk.integers(256, *train.shape[1:], layout="image")
    return lk.Data(domain, *splits, name=path.stem)


def main() -> None:
    """Fit, draw and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--noise", type=float, nargs=2, default=(0.1, 3.0), help="extreme levels")
    parser.add_argument("--hidden", type=int, nargs="+", default=(32, 64), help="channels")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--sample-steps", type=int, default=2700)
    parser.add_argument("--rows", type=int, default=1000, help="that are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    args = parser.parse_args()
    data = load(args.file)
    model = lk.make(
        "ebm",
        data.domain,
        training="denoising",
        noise=tuple(args.noise),
        spacing="geometric",
        quadratic=True,
        temperature=100.0,
        pooled=True,
        hidden=tuple(args.hidden),
        sample_steps=args.sample_steps,
        seed=args.seed,
    )
    fit = {"rate": args.rate, "batch": args.batch, "seed": args.seed, "run": args.out / "run"}
    history = lk.fit(model, data, minutes=args.minutes, progress=sys.stderr.isatty(), **fit)
    print(history)
    draws = model.sample(args.rows, seed=1)
    figure = report.draw_samples(draws[:36], data.domain)
    (args.out / "samples.png").write_bytes(report.to_png(figure))
    for name, x in {"samples": draws, "training images": data.train.x[: args.rows]}.items():
        network = lk.evaluation.ImageClassifier(data.domain.shape)
        pair = (data.test.x[: args.rows].flatten(1), x.flatten(1))
        print(f"{name}: {lk.evaluation.classifier_test(*pair, classifier=network)}", flush=True)


if __name__ == "__main__":
    main()
