"""Sprites, 6,144 images of five factors: how well latent variables stand for single factors.

    python benchmarks/sprites.py --minutes 5 --seeds 5 --out runs/sprites

Each model has the same network, latent variables and minutes. Measures of disentanglement see the codes of
all images; TC is the total correlation of the exact q(z) of 2,000 of them. "±" is the standard error over
seeds, which say much more about these measures than rows do. A run that was interrupted goes on when the
command is repeated.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

import torch

import likely as lk
from likely import evaluation
from likely.models.autoencoders.beta_tc_vae import total_correlation

MODELS = {
    "vae": ("vae", {}),
    "beta-vae": ("vae", {"beta": 4.0}),
    "beta-tc-vae": ("beta-tc-vae", {}),
    "factor-vae": ("factor-vae", {}),
    "hsic-vae": ("hsic-vae", {}),
}
NETWORK = {"network": "mlp", "hidden": (400, 400)}
EXACT_ROWS = 2000


def measured(model: lk.GenerativeModel, data: lk.Data) -> dict[str, float]:
    """All figures of one fit; `data` has the factors."""
    splits = [data.train, data.valid, data.test]
    x, factors = (torch.cat([getattr(s, part)[:] for s in splits]) for part in ("x", "context"))
    with torch.no_grad():
        codes = torch.cat([model.encode(part) for part in x.split(500)])
        q = model._posterior(x[:EXACT_ROWS], None)
        tc = total_correlation(q, q.draw(1)[0][0], None, None).mean().item()
    found = evaluation.dci(codes, factors)
    return {
        "MIG": evaluation.mutual_information_gap(codes, factors),
        "D": found.disentanglement,
        "C": found.completeness,
        "I": found.informativeness,
        "SAP": evaluation.attribute_predictability(codes, factors),
        "FactorVAE": evaluation.factor_vae_score(codes, factors).value,
        "active": evaluation.active_units(codes),
        "TC": tc,
        "ELBO": model.elbo(data.test.x[:], seed=0, draws=8).mean().value,
    }


def main() -> None:
    """Fit every model with every seed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS), help="of these, with commas")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of each training; by default 5")
    budget.add_argument("--steps", type=int)
    parser.add_argument("--latent", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    arguments = parser.parse_args()
    minutes = 5.0 if arguments.steps is None and arguments.minutes is None else arguments.minutes
    table: dict[str, list[dict[str, float]]] = {}
    for label in arguments.models.split(","):
        name, options = MODELS[label]
        for seed in range(arguments.seeds):
            folder = arguments.out / f"{label}-{seed}"
            data = lk.load_data("sprites", seed=seed)
            labelled = lk.load_data("sprites", context="factors", seed=seed)
            model = lk.make(
                name, data.domain, latent=arguments.latent, seed=seed, **NETWORK, **options
            )
            lk.fit(
                model, data, minutes=minutes, steps=arguments.steps, batch=512, seed=seed, run=folder,
                progress=sys.stderr.isatty(),
            )  # fmt: skip
            table.setdefault(label, []).append(found := measured(model.eval(), labelled))
            print(label, seed, {key: round(value, 3) for key, value in found.items()}, flush=True)
    (arguments.out / "results.json").write_text(json.dumps(table, indent=1))
    names = list(next(iter(table.values()))[0])
    print(f"\n| |{'|'.join(names)}|\n|{'---|' * (1 + len(names))}")
    for label, rows in table.items():
        print(f"| {label} |{'|'.join(_cell([row[name] for row in rows]) for name in names)}|")


def _cell(values: list[float]) -> str:
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.3g}"
    return f"{mean:.3g} ± {statistics.stdev(values) / math.sqrt(len(values)):.2g}"


if __name__ == "__main__":
    main()
