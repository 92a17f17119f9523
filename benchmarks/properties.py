"""The property table: stability, capacity, density, constraint and speed of all models on four data sets.

    python benchmarks/properties.py --minutes 0.5 --seeds 3
    python benchmarks/properties.py --data plane,table --models gmm,nsf

Every model gets the same minutes for each fit, on the plane (eight Gaussians), a table (wine), and
scikit-learn's digits in grey, enlarged to 16 × 16, and in black and white. A data set that runs again
replaces its table. The figures go into `properties.json`, and from there into `docs/properties.md`,
where what has no number says why.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sklearn.datasets import load_digits

import likely as lk
from likely._version import provenance
from likely.contract.registry import entries, find
from likely.core.likelihood import Figure, shown

HERE = Path(__file__).parent
JSON, PAGE = HERE / "properties.json", HERE.parent / "docs/properties.md"
BASELINE = "independent"


def grey() -> lk.Data:
    images = load_digits().images.repeat(2, axis=1).repeat(2, axis=2)[:, None]
    return lk.load_data(images, domain=lk.integers(17, 1, 16, 16, layout="image"))


def binary() -> lk.Data:
    return lk.load_data(load_digits().images > 7, domain=lk.binary(8, 8, layout="image"))


DATA: dict[str, tuple[str, Callable[[], lk.Data]]] = {
    "plane": ("Eight Gaussians in the plane", lambda: lk.load_data("eight-gaussians")),
    "table": ("Wine, 178 rows of 13 columns", lambda: lk.load_data("wine")),
    "grey": ("Digits, 16 × 16 pixels with 17 levels", grey),
    "binary": ("Digits, 8 × 8 pixels in black and white", binary),
}
HEAD = f"""# The property table

What the models are worth under equal time, measured by `python benchmarks/properties.py`:

- **capacity**: log-likelihood of held-out rows above that of independent columns (`{BASELINE}`), in nats
  per row, with the sign of its kind (≥ bound, ≈ estimate); and the AUC of a classifier that tells samples
  from held-out rows, where ½ is a guess. Both with their standard errors.
- **stability**: standard deviation over the seeds of the mean log-likelihood, or, without one, of the energy
  distance of the samples; and fits that did not complete.
- **speed**: seconds of a fit, rows that are drawn and scored in a second.

"""


def measure(name: str, models: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """The rows of one data set, JSON-able."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about atoms in the wines
        data = DATA[name][1]()
    found = lk.compare(
        models, data, minutes=options.minutes, seeds=options.seeds, rows=options.rows,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    report = found.to_json()
    errors = {run["model"]: run["error"] for run in report["runs"] if run["error"]}
    kept = {key: report[key] for key in ("rows", "refused", "settings")}
    return {**kept, "errors": errors, "machine": provenance("cpu")}


def figure(value: dict[str, float] | None, empty: str, sign: str = "") -> str:
    return empty if value is None else sign + shown(Figure(value["value"], value["stderr"]))


def line(row: dict[str, Any], errors: dict[str, str]) -> list[str]:
    """The cells of a model; an empty one says why."""
    failed = row["failed"] + row["diverged"]
    if failed == row["seeds"]:
        reason = f"no fit completed: {errors[row['model']]}"
        return [f"`{row['model']}`", row["density"], *[reason] * 6, row["constraint"]]
    figures, none = row["figures"], "no likelihood"
    density = lk.Kind(row["density"]) if row["density"] else lk.Kind.NONE
    likelihood = density != lk.Kind.NONE
    spread = row["seed_spread"] if likelihood else row["distance_spread"]
    of = "nats" if likelihood else "of the energy distance"
    stable = "one seed" if spread is None else f"{spread:.2g} {of}"
    speeds = [figures.get(name) for name in ("sampling", "scoring")]
    drawn, scored = ("" if s is None else f"{s['value']:,.0f}" for s in speeds)
    baseline = "the baseline" if row["model"] == BASELINE else "not finite"
    return [
        f"`{row['model']}`",
        str(density),
        figure(row["gain"], baseline if likelihood else none, density.sign),
        figure(figures.get("classifier_auc"), "too few rows for it"),
        stable + (f"; {failed} of {row['seeds']} failed" if failed else ""),
        f"{row['fit_seconds']:.1f}",
        drawn or "not timed",
        scored or (none if not likelihood else "not timed"),
        row["constraint"],
    ]


def page(results: dict[str, Any]) -> str:
    """The tables, and who is missing in them."""
    parts = [HEAD]
    names = "model, density, nats gained, AUC, stability, fit (s), drawn/s, scored/s, constraint"
    for name, found in results.items():
        settings = found["settings"]
        parts.append(f"## {DATA[name][0]}\n\n")
        cells = [names.split(", "), ["---"] * 9]
        cells += [line(row, found["errors"]) for row in found["rows"]]
        parts += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in cells]
        there = {row["model"] for row in found["rows"]} | {*found["refused"]}
        parts.append(
            f"\n{settings['budget']['minutes']} minutes a fit, {len(settings['seeds'])} seeds; "
            f"{found['machine']['machine']}; {found['machine']['versions']}.\n\n"
        )
        if found["refused"]:
            parts.append("Models that do not take these rows:\n\n")
            parts += [f"- `{model}`: {why}\n" for model, why in found["refused"].items()]
            parts.append("\n")
        if missing := [model for model in entries() if model not in there]:
            listed = ", ".join(f"`{model}`" for model in missing)
            parts.append(f"Not measured in this run: {listed}.\n\n")
    return "".join(parts).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=",".join(DATA), help="which sets")
    parser.add_argument("--models", help="which models; by default all")
    parser.add_argument("--minutes", type=float, default=0.5, help="of each fit")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=500, help="that are scored, and drawn")
    options = parser.parse_args()
    models = options.models.split(",") if options.models else [*entries()]
    for model in models:
        find(model)
    results = json.loads(JSON.read_text()) if JSON.exists() else {}
    for name in options.data.split(","):
        results[name] = measure(name, models, options)
        JSON.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        PAGE.write_text(page({key: results[key] for key in DATA if key in results}))


if __name__ == "__main__":
    main()
