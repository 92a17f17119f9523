"""Anomaly detection on the tables of ADBench (Han et al. 2022, arXiv:2206.09426), beside scikit-learn.

    python benchmarks/anomaly.py FOLDER --out anomaly.md

FOLDER holds `.npz` files with rows `X` and labels `y`, 1 for anomalies. Each detector is fitted to half of
the normal rows, and tells the other half from all anomalies; the figure is the area under the ROC curve.
At most 20,000 normal rows are taken on each side. Columns are standardised by the rows that are fitted, and
left out where those do not vary. One setting serves all tables: ours have their defaults and 1,000 steps,
scikit-learn's their defaults, but that its mixture has 8 components, as ours has; `gmm-64` is a mixture of
64 whose variances are at least 0.05, where a column has 1: no narrower than the whole numbers and the atoms
that most of these columns hold.
"""

import argparse
import itertools
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.ensemble import IsolationForest
from sklearn.feature_selection import VarianceThreshold
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from likely.sklearn import DensityEstimator

CAP = 20_000

STEPS = 1000  # budget of each of our fits, in batches
OURS = dict.fromkeys(["gaussian", "gmm", "made", "maf", "realnvp", "vae", "ae", "dae"])
OURS["gmm-64"] = {"components": 64, "floor": 0.05}
THEIRS = {
    "IsolationForest": lambda seed: IsolationForest(random_state=seed),
    "LocalOutlierFactor": lambda seed: LocalOutlierFactor(novelty=True),
    "GaussianMixture": lambda seed: GaussianMixture(8, random_state=seed),
}


def detector(name, seed):
    if name in THEIRS:
        return THEIRS[name](seed)
    model = name.removesuffix("-64")
    return DensityEstimator(model, OURS.get(name), steps=STEPS, random_state=seed)


def split(path, seed):
    """Rows to fit, rows to test, and which of these are anomalies."""
    with np.load(path) as file:
        x, anomalous = file["X"].astype(np.float64), file["y"].astype(bool)
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~anomalous))
    fitted, held_out = (half[:CAP] for half in np.array_split(normal, 2))
    tested = np.concatenate([held_out, np.flatnonzero(anomalous)])
    columns = make_pipeline(VarianceThreshold(), StandardScaler()).fit(x[fitted])
    return columns.transform(x[fitted]), columns.transform(x[tested]), anomalous[tested]


def area(seed, path, name):
    """Area under the ROC curve of one detector, with the halves and the start of one seed."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)  # about atoms, which these tables are full of
    start = time.perf_counter()
    fitted, tested, anomalous = split(path, seed)
    fit = detector(name, seed).fit(fitted)
    normality = fit.score_samples if name == "GaussianMixture" else fit.decision_function
    value = roc_auc_score(~anomalous, np.clip(normality(tested), -1e300, None))
    spent = time.perf_counter() - start
    print(f"{path.stem:20} {name:20} {seed} {value:.4f} {spent:6.1f} s", file=sys.stderr)
    return value


def table(areas, sets, ours):
    """A Markdown table of the areas, shape (seeds, sets, detectors), in per cent.

    ± is the standard deviation over the seeds.
    """
    mean, k = 100 * areas.mean(0), len(ours)
    spread = 100 * areas.std(0, ddof=1 if len(areas) > 1 else 0)
    lines = [f"| | {' | '.join([*ours, *THEIRS])} |", "|---" * (1 + mean.shape[1]) + "|"]
    for name, row, errors in zip(sets, mean, spread, strict=True):
        cells = [
            f"{m:.2f}" + (f" ± {s:.2f}" if len(areas) > 1 else "")
            for m, s in zip(row, errors, strict=True)
        ]
        for best in (row[:k].argmax(), k + row[k:].argmax()):
            cells[best] = f"**{cells[best]}**"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| mean | {' | '.join(f'{m:.2f}' for m in mean.mean(0))} |")
    level = mean[:, :k] >= mean[:, k:].max(1)[:, None]
    alone = ", ".join(f"{name} {count}" for name, count in zip(ours, level.sum(0), strict=True))
    lines += [
        "",
        "The best likely model at least equals the best of scikit-learn on "
        f"{level.any(1).sum()} of {len(sets)} sets; one model for all sets does so on: {alone}.",
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="a Markdown file")
    parser.add_argument("--models", default=",".join(OURS), help="by default %(default)s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("*.npz"))
    if not paths:
        parser.error(
            f"{arguments.folder}: no .npz files there; give the folder of ADBench's tables"
        )
    ours = arguments.models.split(",")
    detectors = [*ours, *THEIRS]
    runs = itertools.product(range(arguments.seeds), paths, detectors)
    areas = Parallel(arguments.jobs)(delayed(area)(*run) for run in runs)
    shape = arguments.seeds, len(paths), len(detectors)
    text = table(np.reshape(areas, shape), [path.stem.partition("_")[2] for path in paths], ours)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
