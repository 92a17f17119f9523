"""Statically binarised MNIST (Larochelle's files): fit a model and bound its test log-likelihood.

    python benchmarks/binarised_mnist.py DATA/binarized_mnist.npz --minutes 15 --out runs/vae-mnist

A run that was interrupted goes on when the command is repeated. To go on from a finished one, name it:

    python benchmarks/binarised_mnist.py DATA/binarized_mnist.npz --start runs/vae-mnist --minutes 60 \\
        --out runs/vae-mnist-longer

With `--model iwae` its weights go on as those of an importance-weighted autoencoder. A vector-quantised
autoencoder on a grid of 4 × 4 codes, with a prior over them:

    python benchmarks/binarised_mnist.py DATA/binarized_mnist.npz --model vq-vae --minutes 30 \\
        --out runs/vq-vae-mnist

An autoregressive model of pixels, whose likelihood is exact:

    python benchmarks/binarised_mnist.py DATA/binarized_mnist.npz --model pixelcnn --minutes 30 \\
        --out runs/pixelcnn-mnist

With `--model pixelrnn` it is recurrent.

The file holds `train`, `valid` and `test`, 784 pixels a row packed into 98 bytes. Printed are the mean over
the whole test set in nats per image, with its standard error: exact, or a lower bound; of a variational
autoencoder, the importance-weighted one with `--draws` samples (500).
"""

import argparse
import inspect
import json
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch

import likely as lk

# Narrow at full resolution, where convolutions take longest.
CONVOLUTIONS = {"latent": 32, "hidden": (16, 32, 64)}
SETTINGS = {
    "vae": CONVOLUTIONS,
    "iwae": CONVOLUTIONS,
    "vq-vae": {"hidden": (16, 32, 64)},
    "pixelrnn": {"cell": "row", "layers": 4, "hidden": 16},  # diagonals are four times the work
}


def load(path: Path) -> lk.Data:
    """The three splits, in the order of the file."""
    try:
        with np.load(path) as file:
            rows = [np.unpackbits(file[name], axis=1) for name in ("train", "valid", "test")]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(f"{path}: not the packed file with train, valid and test ({error})")
    splits = [lk.data.Split(torch.from_numpy(x.reshape(-1, 28, 28)).long()) for x in rows]
    return lk.Data(lk.binary(28, 28, layout="image"), *splits, name="binarised MNIST")


def main() -> None:
    """Fit, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="binarized_mnist.npz")
    parser.add_argument("--model", help="as in `likely models`; by default vae")
    parser.add_argument("--set", type=json.loads, help='such as {"latent": 40}')
    parser.add_argument("--start", type=Path, help="a finished run to go on from")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument(
        "--precision", default="bf16-mixed", help="half of the time where a CPU has AMX"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    arguments = parser.parse_args()
    if arguments.start is not None and arguments.set and not arguments.model:
        parser.error("--start names a model that has its settings: leave out --set")
    data = load(arguments.data)
    start = None if arguments.start is None else lk.load(arguments.start)
    if start is None or arguments.model:
        name = arguments.model or "vae"
        options = SETTINGS.get(name, {}) | (arguments.set or {})
        model = lk.make(name, data.domain, seed=arguments.seed, **options)
        if start is not None:
            model.load_state_dict(start.state_dict())
    else:
        model = start
    if model.density == lk.Kind.NONE:
        parser.error("the model has no likelihood: there would be nothing to report")
    history = lk.fit(
        model,
        data,
        minutes=arguments.minutes,
        seed=arguments.seed,
        run=arguments.out,
        precision=arguments.precision,
        progress=sys.stderr.isatty(),
    )
    print(
        f"{history.steps:,} steps in {history.seconds / 60:.1f} minutes, "
        f"{torch.get_num_threads()} threads; validation {history.best:.2f} nats"
    )
    start = time.perf_counter()
    drawn = "draws" in inspect.signature(model.estimator).parameters
    options = {"draws": arguments.draws} if drawn else {}
    likelihood = model.log_likelihood(data.test.x, seed=arguments.seed, **options)
    print(
        f"test: {likelihood.mean()} nats ({likelihood.kind}, {options or 'no draws'}), "
        f"scored in {time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
