"""Classifiers of images: how many they tell right, and whether their probabilities hold.

    python benchmarks/classifiers.py digits --steps 600
    python benchmarks/classifiers.py DATA/mnist.npz --minutes 5 --out runs/mnist-classes
    python benchmarks/classifiers.py DATA/mnist.npz --set hidden=32,64,64 --set calibrated=false

A file holds x_train, y_train, x_test, y_test; the last 5,000 training rows are for validation. Printed are
accuracy, negative log-likelihood and calibration error on the test rows at the chosen temperature and at 1.
"""

import argparse
from pathlib import Path

from image_classes import load

import likely as lk
from likely.cli.options import hyperparameters
from likely.evaluation import accuracy, expected_calibration_error, log_loss


def main() -> None:
    """Fit, and print what the test rows say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="digits, or a file of x_train, y_train, x_test, y_test")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--rows", type=int, help="to train on, of a file")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--steps", type=int, help="in place of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of the run")
    args = parser.parse_args()
    if args.data == "digits":
        data = lk.load_data("digits", predict="label")
    else:
        data = load(Path(args.data), args.rows, classes=True).swapped()
    options = hyperparameters(args.set)
    model = lk.make("classifier", data.domain, context=data.context, seed=args.seed, **options)
    budget = {"minutes": args.minutes} if args.steps is None else {"steps": args.steps}
    history = lk.fit(model, data, **budget, seed=args.seed, run=args.out, progress=True)
    label, images = data.test.x[:][:, 0], data.test.context[:]
    temperature = float(model.temperature)
    print(
        f"{data.name}: {history.steps:,} steps in {history.seconds:.0f} s; temperature {temperature:.3f}"
    )
    for T in dict.fromkeys([temperature, 1.0]):
        model.temperature.fill_(T)
        log_p = model.classify(images).log()
        print(
            f"at T = {T:.3f}: accuracy {accuracy(log_p, label)}; −log p(y|x) {log_loss(log_p, label)} nats; "
            f"calibration error {expected_calibration_error(log_p, label)}"
        )


if __name__ == "__main__":
    main()
