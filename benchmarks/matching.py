"""Flow matching beside a score model in the plane: KL(p‖q), and how many evaluations a density takes.

    python benchmarks/matching.py --minutes 2

Both have the same network and train for the same minutes on a million draws of a known density p;
log q comes from an ODE. "evaluations" are calls of the network for 500 rows, at the largest tolerance where
log q is within `--error` of that at a tolerance of 1e-7 in float64, as a root mean square: straighter paths
take fewer. KL is the mean of log p − log q over 20,000 new draws, with its standard error.
"""

import argparse
import math

import torch

import likely as lk

TARGETS = {"eight-gaussians": lk.targets.eight_gaussians, "rings": lk.targets.rings}
MODELS = {
    "score-sde": {},
    "flow-matching": {},
    "flow-matching, optimal": {"pairing": "optimal"},
}
TOLERANCES = [10 ** (-k / 2) for k in range(2, 13)]
DRAWS, COUNTED = 20_000, 500


def evaluations(model: lk.GenerativeModel, x: torch.Tensor, error: float) -> tuple[int, float]:
    """Calls of the network, and the tolerance; the model is in float64."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    reference = model.log_likelihood(x, divergence="exact", tolerance=1e-7).value
    handle = model.net.register_forward_hook(count)
    try:
        for tolerance in TOLERANCES:
            calls = 0
            value = model.log_likelihood(x, divergence="exact", tolerance=tolerance).value
            if (value - reference).square().mean().sqrt() < error:
                return calls, tolerance
    finally:
        handle.remove()
    return calls, math.nan


def main() -> None:
    """Fit, score, count, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of each training; by default 2")
    budget.add_argument("--steps", type=int)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--error", type=float, default=0.01, help="of log q, in nats")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    minutes = 2.0 if options.steps is None and options.minutes is None else options.minutes
    torch.set_num_threads(options.threads)
    print(
        "| density | model | steps | KL(p‖q), nats | evaluations | tolerance |\n|---|---|---|---|---|---|"
    )
    for density, make in TARGETS.items():
        target = make()
        data = lk.load_data(target.sample(options.rows, 0).float(), domain=target.domain)
        x = target.sample(DRAWS, 1)
        log_p = target.log_prob(x)
        for label, chosen in MODELS.items():
            model = lk.make(label.partition(",")[0], data.domain, seed=0, **chosen)
            history = lk.fit(model, data, minutes=minutes, steps=options.steps, seed=0)
            model.double()
            log_q = model.log_likelihood(x, divergence="exact", tolerance=1e-5).value
            difference = log_p - log_q.double()
            kl = lk.Figure(difference.mean().item(), difference.std().item() / math.sqrt(DRAWS))
            calls, tolerance = evaluations(model, x[:COUNTED], options.error)
            print(
                f"| {density} | {label} | {history.steps:,} | {kl} | {calls} | {tolerance:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
