"""Handwritten digits from energies and scores: an RBM, an EBM, NCSN, a score SDE and a DDPM side by side.

    python benchmarks/digit_grids.py --minutes 2 --out report-digits
    python benchmarks/digit_grids.py --mnist DATA/binarized_mnist.npz --minutes 10 --out report-mnist

The first takes scikit-learn's 8×8 digits, black where a pixel is above half of its range; the second
Larochelle's binarised MNIST. The report shows a grid of samples of each model, the classifier two-sample
test, precision and recall, the likelihoods, and the time per sample.
"""

import argparse
import sys
from pathlib import Path

from binarised_mnist import load

import likely as lk

MODELS = ["rbm", "ebm", "ncsn", "score-sde", "ddpm"]


def binary_digits() -> lk.Data:
    """scikit-learn's digits in black and white, in the splits of `lk.load_data`."""
    grey = lk.load_data("digits")
    splits = [lk.data.Split((split.x > 8).long()) for split in (grey.train, grey.valid, grey.test)]
    return lk.Data(lk.binary(8, 8, layout="image"), *splits, name="binary digits")


def main() -> None:
    """Compare and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, help="binarized_mnist.npz")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--minutes", type=float, default=2, help="of each fit")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=400, help="that are scored, and drawn")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = binary_digits() if arguments.mnist is None else load(arguments.mnist)
    comparison = lk.compare(
        arguments.models.split(","),
        data,
        minutes=arguments.minutes,
        seeds=arguments.seeds,
        rows=arguments.rows,
        progress=sys.stderr.isatty(),
    )
    comparison.to_html(arguments.out / "index.html")
    print(comparison)


if __name__ == "__main__":
    main()
