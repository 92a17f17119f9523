"""Statically binarised MNIST (Larochelle's files): train a Boltzmann machine, estimate its likelihood.

    python benchmarks/boltzmann.py DATA/binarized_mnist.npz --minutes 15 --out runs/rbm-mnist
    python benchmarks/boltzmann.py DATA/binarized_mnist.npz --model dbn --minutes 45 --out runs/dbn-mnist
    python benchmarks/boltzmann.py DATA/binarized_mnist.npz --model dbm --minutes 60 --out runs/dbm-mnist

By annealed importance sampling with `--betas` temperatures and `--chains` chains, forwards, and as a
diagnostic backwards from chains that start at training rows. Of a deep belief network and a deep Boltzmann
machine the likelihood is a lower bound with that log Z; of the first an importance-weighted one is printed,
too, and of the second how far the mean field is below the truth. A run that was interrupted goes on when the
command is repeated. A longer training overfits, unless its rows are many binarisations of each of the 60,000
grey images that the files' training and validation rows were drawn from, which is another protocol:

    python benchmarks/boltzmann.py DATA/binarized_mnist.npz --grey DATA/mnist.npz --weight-decay 1e-4 \\
        --steps 250000 --out runs/rbm-mnist-longer
"""

import argparse
import json
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from binarised_mnist import load
from matplotlib.figure import Figure

import likely as lk
from likely import report
from likely.core.domain import Domain
from likely.report.samples import as_array, image_grid

BINARISATIONS = 10  # of each grey image
GAP_ROWS = 100  # a second each
DRAWS = 100  # of the importance-weighted bound
SETTINGS = {"rbm": {"hidden": 500}, "dbn": {"hidden": (500, 2000)}, "dbm": {"hidden": (500, 1000)}}


def filters(model: lk.GenerativeModel, domain: Domain) -> Figure:
    """The weights of the strongest units of the first hidden layer as images, each on its own scale."""
    weight = model.weight[: domain.size]
    weight = weight.T[weight.norm(dim=0).argsort(descending=True, stable=True)]
    weight = weight / weight.abs().amax(1, keepdim=True).clamp_min(1e-12)
    shape = domain.shape
    shown = Domain(shape, (lk.Interval(-1, 1),), layout=domain.layout)
    return report.draw_samples(weight.reshape(-1, *shape), shown)


def drawn_again(data: lk.Data, path: Path, seed: int) -> lk.Data:
    """The same, with draws of pixels from grey images as training rows; the test rows stay as they are."""
    try:
        with np.load(path) as file:
            grey = torch.from_numpy(file["x_train"]) / 255
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(f"{path}: not the file of grey images with x_train ({error})")
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.rand(grey.shape, generator=generator) < grey for _ in range(BINARISATIONS)]
    train = lk.data.Split(torch.cat(rows).long())
    return lk.Data(data.domain, train, data.valid, data.test, name=f"{data.name}, drawn again")


def main() -> None:
    """Fit, estimate, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="binarized_mnist.npz")
    parser.add_argument("--model", choices=SETTINGS, default="rbm")
    parser.add_argument("--set", type=json.loads, default={}, help='such as {"pretraining": 0.2}')
    parser.add_argument("--grey", type=Path, help="mnist.npz, to draw the training rows from")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of training; by default 15")
    budget.add_argument("--steps", type=int)
    parser.add_argument("--weight-decay", type=float, default=2e-4)
    parser.add_argument("--betas", type=int, default=10_000)
    parser.add_argument("--chains", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    arguments = parser.parse_args()
    data = load(arguments.data)
    protocol = "rows of the file"
    if arguments.grey is not None:
        data = drawn_again(data, arguments.grey, arguments.seed)
        protocol = f"{BINARISATIONS} draws of each grey image"
    if arguments.steps is None and arguments.minutes is None:
        arguments.minutes = 15.0
    settings = SETTINGS[arguments.model] | arguments.set
    model = lk.make(arguments.model, data.domain, seed=arguments.seed, **settings)
    history = lk.fit(
        model,
        data,
        minutes=arguments.minutes,
        steps=arguments.steps,
        weight_decay=arguments.weight_decay,
        seed=arguments.seed,
        run=arguments.out,
        progress=sys.stderr.isatty(),
    )
    print(
        f"{arguments.model} {settings}, trained on {protocol}: "
        f"{history.steps:,} steps in {history.seconds / 60:.1f} minutes, "
        f"{torch.get_num_threads()} threads; quick validation score {history.best:.2f} nats"
    )
    start = time.perf_counter()
    options = {"betas": arguments.betas, "chains": arguments.chains}
    below = model.layers[:-1] if arguments.model == "dbn" else []
    init = data.train.x[: arguments.chains]
    for layer in below:  # to the units of the machine on top
        init = layer.encode(init).bernoulli()
    machine = model.top if below else model
    print(machine.annealed(**options, init=init, seed=arguments.seed))
    print(f"{arguments.betas:,} temperatures; estimated in {time.perf_counter() - start:.0f} s")
    lk.save(model, arguments.out / "model.safetensors")  # now with its log Z
    for name in ("train", "test"):
        rows = getattr(data, name).x[:10_000]
        likelihood = model.log_likelihood(rows, **options, seed=arguments.seed)
        print(f"{name}: {likelihood.mean()} nats")
    if below:
        tighter = model.log_likelihood(data.test.x, **options, draws=DRAWS, seed=arguments.seed)
        print(f"test, importance-weighted with {DRAWS} draws: {tighter.mean()} nats")
    if arguments.model == "dbm":
        gap = model.mean_field_gap(data.test.x[:GAP_ROWS], seed=arguments.seed)
        print(f"test, mean-field gap of {GAP_ROWS} rows: {gap} nats")
    start = time.perf_counter()
    samples = model.sample(36, seed=arguments.seed)
    print(f"{(time.perf_counter() - start) / 36 * 1e3:.0f} ms per sample")
    rows = data.test.x[:10]
    figures = {
        "samples": report.draw_samples(samples, data.domain),
        "filters": filters(model.layers[0] if below else model, data.domain),
    }
    if not below:
        rebuilt = np.concatenate([as_array(rows), as_array(model.reconstruct(rows))])
        figures["reconstructions"] = image_grid(rebuilt, data.domain, None, columns=len(rows))
    for name, figure in figures.items():
        (arguments.out / f"{name}.png").write_bytes(report.to_png(figure))


if __name__ == "__main__":
    main()
