"""Sampling 512 rows from an autoregressive spline flow of 63 columns: likely against zuko.

Run with zuko 1.6.0 installed (`pip install --no-deps zuko==1.6.0`):

    python benchmarks/ar_inverse.py

Both flows have 5 transforms, hidden layers 128–128 and 8 bins, the same precision and threads; both
are warmed up, and their runs alternate. Printed are medians, the interquartile range of the ratio, and
the numbers of parameters.
"""

import argparse
import statistics
import time

import torch
import zuko

import likely as lk


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, default=63)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    ours = lk.make("nsf", lk.reals(arguments.columns)).eval()
    theirs = zuko.flows.NSF(
        arguments.columns, transforms=5, bins=8, hidden_features=(128, 128)
    ).eval()

    def draw_theirs():
        with torch.no_grad():
            theirs().sample((arguments.rows,))

    pair = {"likely": lambda: ours.sample(arguments.rows), "zuko": draw_theirs}
    for draw in pair.values():
        draw()
    times = {name: [] for name in pair}
    for _ in range(arguments.repeats):
        for name, draw in pair.items():
            times[name].append(seconds(draw))
    sizes = {"likely": ours, "zuko": theirs}
    for name, values in times.items():
        parameters = sum(p.numel() for p in sizes[name].parameters())
        print(f"{name:8} {1e3 * statistics.median(values):8.1f} ms   {parameters:,} parameters")
    ratios = [b / a for a, b in zip(times["likely"], times["zuko"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"ratio    {middle:.1f} ({low:.1f} to {high:.1f}), {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, zuko {zuko.__version__}"
    )


if __name__ == "__main__":
    main()
