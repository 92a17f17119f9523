"""CycleGAN where the right translation is known: of every test row, its true partner.

    python benchmarks/cycles.py DATA/mnist.npz --task inverted --minutes 20 --seeds 3 --out runs/inverted
    python benchmarks/cycles.py DATA/mnist.npz --task sheared --minutes 20 --seeds 3 --out runs/sheared
    python benchmarks/cycles.py DATA/emoji.npz --task emoji --minutes 20 --seeds 3 --out runs/emoji

Digits become their negatives, or are sheared by 20° and blurred by a pixel; the one half of the training
images is seen as it is, the other half changed. Of emoji, one half of the training drawings is seen in
Google's style, the other in Twitter's. No pair is ever seen.

Figures are on rows that training has not seen: the root mean square error to the true partner in units of
the range of pixels, beside that of the row as it is; how many digits a classifier of true partners finds in
their class; the rank of the true partner among 500 by its distance to the translation; and what
`CycleGAN.cycle_errors` says about hidden information. A run that was interrupted goes on when the command is
repeated.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

import likely as lk
from likely.evaluation import ImageClassifier
from likely.report import draw_translation, to_png

TEST = 500
SHEAR = np.tan(np.radians(20))


def inverted(images: np.ndarray) -> np.ndarray:
    return 255 - images


def sheared(images: np.ndarray) -> np.ndarray:
    """By 20° around the middle, then blurred."""
    matrix = np.array([[1, 0, 0], [0, 1, 0], [0, SHEAR, 1]])
    middle = (images.shape[1] - 1) / 2
    moved = ndimage.affine_transform(
        images.astype(float), matrix, offset=(0, 0, -SHEAR * middle), order=1
    )
    return np.rint(ndimage.gaussian_filter(moved, (0, 1, 1))).clip(0, 255).astype(np.uint8)


MAPS = {"inverted": inverted, "sheared": sheared}


def digits(path: Path, task: str) -> tuple[lk.Data, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Unpaired data, test rows and their partners, and what a classifier of partners needs."""
    with np.load(path) as file:
        train, test, label, wanted = (
            file[name] for name in ("x_train", "x_test", "y_train", "y_test")
        )
    change, half = MAPS[task], len(train) // 2
    domain = lk.integers(256, *train.shape[1:], layout="image")
    partners = change(train[half:])
    data = lk.unpaired(train[:half], partners, domain=domain, context_domain=domain)
    classes = {"x": partners, "y": label[half:], "wanted": wanted[:TEST]}
    return data, test[:TEST], change(test[:TEST]), classes


def emoji(path: Path) -> tuple[lk.Data, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The same of drawings in two styles."""
    with np.load(path) as file:
        styles = [file[name].transpose(0, 3, 1, 2) for name in ("google", "twitter")]
    order = np.random.default_rng(0).permutation(len(styles[0]))
    test, train = order[:TEST], order[TEST:]
    half = len(train) // 2
    a, b = styles[0][train[:half]], styles[1][train[half:]]
    domain = lk.integers(256, *a.shape[1:], layout="image")
    data = lk.unpaired(a, b, domain=domain, context_domain=domain)
    return data, styles[0][test], styles[1][test], {}


def distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Root mean square errors of all pairs, in units of the range."""
    x, y = (part.flatten(1).double() / 255 for part in (x, y))
    return torch.cdist(x, y) / x.shape[1] ** 0.5


def mean(values: torch.Tensor) -> lk.Figure:
    return lk.Figure(values.mean().item(), values.std().item() / len(values) ** 0.5)


def measured(
    model: lk.GenerativeModel, x: torch.Tensor, partner: torch.Tensor, classes: dict
) -> dict[str, lk.Figure | float]:
    """All figures of one fit."""
    translated = model.translate(x).cpu()
    apart, before = distances(translated, partner), distances(x, partner)
    own, own_before = apart.diagonal(), before.diagonal()
    rank = (apart < own[:, None]).sum(1)
    figures: dict[str, lk.Figure | float] = {
        "error": mean(own),
        "error of the row": mean(own_before),
        "closer by": mean(own_before - own),
        "nearest of 500": mean((rank == 0).double()),
        "nearest of 500, of the row": mean((before < own_before[:, None]).sum(1).eq(0).double()),
        "median rank": 1 + rank.double().median().item(),
    }
    if classes:
        net = ImageClassifier((1, *x.shape[1:]), steps=600)
        net.fit(classes["x"].reshape(len(classes["x"]), -1), classes["y"])
        for name, rows in (("class kept", translated), ("class of partners", partner)):
            right = torch.from_numpy(net.predict(rows.flatten(1)) == classes["wanted"])
            figures[name] = mean(right.double())
    hidden = model.cycle_errors(x, seed=0)
    return figures | {
        "error of return": hidden.error, "from noise": hidden.noisy, "gain of the noise": hidden.gain
    }  # fmt: skip


def main() -> None:
    """Fit with every seed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="mnist.npz, or emoji.npz")
    parser.add_argument("--task", choices=[*MAPS, "emoji"], default="inverted")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of each training; by default 20")
    budget.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--identity", type=float, help="weight; by default 0.5 of emoji, else 0")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        sys.exit(f"{arguments.data}: there is no such file")
    task, minutes, identity = arguments.task, arguments.minutes, arguments.identity
    minutes = 20.0 if minutes is None and arguments.steps is None else minutes
    identity = (0.5 if task == "emoji" else 0.0) if identity is None else identity
    found = emoji(arguments.data) if task == "emoji" else digits(arguments.data, task)
    data, (x, partner), classes = found[0], map(torch.from_numpy, found[1:3]), found[3]
    table = {}
    for seed in range(arguments.seeds):
        folder = arguments.out / f"seed-{seed}"
        model = lk.make("cyclegan", data.domain, context=data.context, identity=identity, seed=seed)
        lk.fit(
            model, data, minutes=minutes, steps=arguments.steps, seed=seed, run=folder,
            progress=sys.stderr.isatty(),
        )  # fmt: skip
        table[seed] = measured(model.eval(), x, partner, classes)
        there = model.translate(x[:10])
        back = model.translate(there, back=True)
        figure = draw_translation(x[:10], there, back, data.domain, data.domain)
        (folder / "translations.png").write_bytes(to_png(figure))
        print(f"seed {seed}: " + ", ".join(f"{k} {_text(v)}" for k, v in table[seed].items()))
    names = list(table[0])
    print(f"\n|{task}|{'|'.join(f'seed {seed}' for seed in table)}|\n|{'---|' * (1 + len(table))}")
    for name in names:
        print(f"|{name}|{'|'.join(_text(row[name]) for row in table.values())}|")
    plain = {
        seed: {k: v if isinstance(v, float) else v.to_json() for k, v in row.items()}
        for seed, row in table.items()
    }
    (arguments.out / "results.json").write_text(json.dumps(plain, indent=1))


def _text(value: lk.Figure | float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
