"""Handwritten digits from energies and scores: an RBM, an EBM, NCSN, a score SDE and a DDPM side by side.

    python benchmarks/digit_grids.py --minutes 1.5 --rows 300 --out report-digits
    python benchmarks/digit_grids.py --mnist DATA/binarized_mnist.npz --models rbm --steps 25000 --rows 200 \\
        --out report-mnist-binary
    python benchmarks/digit_grids.py --mnist DATA/mnist.npz --models ebm,ncsn,score-sde \\
        --minutes 3.5 --rows 200 --out report-mnist

The first takes scikit-learn's 8×8 digits, black where a pixel is above half of its range; the second
Larochelle's binarised MNIST; the third 16 grey levels of it. The models of real numbers are better there:
between black and white that are dequantised is an edge on which each error shows as a speck. The report
shows a grid of samples of each model, the classifier two-sample test, precision and recall, the likelihoods,
and the time per sample. The baseline `independent` takes as long as each of the others.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from binarised_mnist import load

import likely as lk

MODELS = ["rbm", "ebm", "ncsn", "score-sde", "ddpm"]
# A step with convolutions takes four times as long as with this perceptron, one with the usual proposals a
# quarter longer. The divergence in the ODE's likelihood is known to nats: four directions estimate it.
MNIST = {
    "rbm": {"hidden": 500},
    "ebm": {"network": "mlp", "hidden": (512, 256), "proposals": 1},
    "score-sde": {"weighting": "simple", "tolerance": 1e-3},
}


def binary_digits() -> lk.Data:
    """scikit-learn's digits in black and white, in the splits of `lk.load_data`."""
    grey = lk.load_data("digits")
    splits = [lk.data.Split((split.x > 8).long()) for split in (grey.train, grey.valid, grey.test)]
    return lk.Data(lk.binary(8, 8, layout="image"), *splits, name="binary digits")


def mnist(path: Path) -> lk.Data:
    """Larochelle's binarised file, or the original one with 16 of its 256 grey levels."""
    if not path.is_file():
        sys.exit(f"{path}: there is no such file")
    with np.load(path) as file:
        if "x_train" not in file:
            return load(path)
        train, test = (torch.from_numpy(file[name] // 16).long() for name in ("x_train", "x_test"))
    splits = [lk.data.Split(x) for x in (train[:50_000], train[50_000:], test)]
    return lk.Data(
        lk.integers(16, 28, 28, layout="image"), *splits, name="MNIST with 16 grey levels"
    )


def main() -> None:
    """Compare and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--mnist", type=Path, help="binarized_mnist.npz, or mnist.npz for grey levels"
    )
    parser.add_argument("--models", default=",".join(MODELS))
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of each fit; by default 2")
    budget.add_argument("--steps", type=int, help="of each fit")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=400, help="that are scored, and drawn")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    minutes = 2 if arguments.minutes is None and arguments.steps is None else arguments.minutes
    comparison = lk.compare(
        arguments.models.split(","),
        binary_digits() if arguments.mnist is None else mnist(arguments.mnist),
        minutes=minutes,
        steps=arguments.steps,
        seeds=arguments.seeds,
        rows=arguments.rows,
        progress=sys.stderr.isatty(),
        hyperparameters={} if arguments.mnist is None else MNIST,
    )
    comparison.to_html(arguments.out / "index.html")
    comparison.to_csv(arguments.out / "figures.csv")
    print(comparison)


if __name__ == "__main__":
    main()
