"""Sampling sequences with the state carried along, against running the prefix again for each symbol.

    python benchmarks/sequence_sampling.py

Both ways draw the same number of sequences from the same model, in chunks of the same size, and their
runs alternate. Printed are medians and the interquartile range of the ratio.
"""

import argparse
import statistics
import time

import torch

import likely as lk
from likely.nets.heads import choose


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@torch.no_grad()
def rerun(model, n, chunk):
    """Draw by a pass over all symbols so far for each new one."""
    parts = []
    for start in range(0, n, chunk):
        x = torch.full((min(chunk, n - start), 1), model.levels)
        for i in range(model.domain.size):
            logits = model.logits(i, model._hidden(x, None)[:, -1])
            x = torch.cat([x, choose(logits)[:, None]], 1)
        parts.append(x[:, 1:])
    return torch.cat(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="rnn,transformer")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--symbols", type=int, default=4)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    domain = lk.categories(arguments.symbols, arguments.length)
    for name in arguments.models.split(","):
        model = lk.make(name, domain, seed=0).eval()
        chunk = model._chunks(arguments.rows)[0][1]
        pair = {
            "carried": lambda m=model: m.sample(arguments.rows),
            "run again": lambda m=model, c=chunk: rerun(m, arguments.rows, c),
        }
        for draw in pair.values():
            draw()
        times = {way: [] for way in pair}
        for _ in range(arguments.repeats):
            for way, draw in pair.items():
                times[way].append(seconds(draw))
        ratios = [b / a for a, b in zip(*times.values(), strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        for way, values in times.items():
            print(f"{name:12} {way:10} {statistics.median(values):8.2f} s")
        print(
            f"{name:12} ratio      {middle:.1f} ({low:.1f} to {high:.1f}), "
            f"{torch.get_num_threads()} threads, torch {torch.__version__}"
        )


if __name__ == "__main__":
    main()
