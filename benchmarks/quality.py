"""Held-out likelihood at equal time.

Both sides train for the same minutes on the same rows of the same machine, one after the other, and are
scored on the same test rows, in nats per row. Pixels of BSDS300 are 8 × 8 patches, dequantised, without
their mean and last pixel; `satimage-2` is of integers, so that both sides dequantise, and the score is
a lower bound; its anomalies are left out, as are those of `magic.gamma`.

Ours is `likely.fit` with its defaults: for flows batches of 1,024, AdamW with weight decay and a rate of
4e-3, jitter, averaged weights. zuko trains the flow of ours (its autoregressive spline flow) in a plain loop
on standardised columns: batches of 512, Adam at 2e-3. In both the rate falls to zero over the time, gradients
are clipped, and the best weights by validation are kept. On the binary sets, where the flows of the others
have no density, MADE meets pomegranate's mixture of 64 Bernoulli products, fitted by EM.

![held-out likelihood against time](quality.png)
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from benchmarks.suite import OURS, Options, reason, size
from torch import Tensor

TITLE = "Quality at equal time"
PATCHES = 200_000, 20_000, 50_000  # to train, to validate, to test
BATCH, RATE = 512, 2e-3


class Splits(NamedTuple):
    """Rows of a set."""

    domain: Any
    train: Tensor
    valid: Tensor
    test: Tensor


# The sets.


def bsds300(folder: Path) -> Splits:
    import likely as lk

    generator = np.random.default_rng(0)
    with np.load(folder / "bsds300_gray.npz") as file:
        images = {name: file[name] for name in file.files}

    def patches(sources: list[np.ndarray], n: int) -> Tensor:
        share = np.array([len(source) for source in sources])
        counts = generator.multinomial(n, share / share.sum())
        parts = []
        for source, count in zip(sources, counts, strict=True):
            which, top, left = (
                generator.integers(high, size=(count, 1, 1))
                for high in (len(source), source.shape[1] - 7, source.shape[2] - 7)
            )
            rows, columns = np.arange(8)[:, None], np.arange(8)
            parts.append(source[which, top + rows, left + columns].reshape(count, 64))
        x = generator.permutation(np.concatenate(parts))
        x = (x + generator.random(x.shape)) / 256
        return torch.from_numpy((x - x.mean(1, keepdims=True))[:, :63]).float()

    train = [images["train_landscape"], images["train_portrait"]]
    held_out = [source[:10] for source in train]
    test = [images["test_landscape"], images["test_portrait"]]
    sources = ([source[10:] for source in train], held_out, test)
    return Splits(lk.reals(63), *(patches(s, n) for s, n in zip(sources, PATCHES, strict=True)))


def anomaly_table(name: str, domain: Callable[[Tensor], Any]) -> Callable[[Path], Splits]:
    def load(folder: Path) -> Splits:
        with np.load(folder / "anomaly" / name) as file:
            x = file["X"][file["y"] == 0]
        x = torch.from_numpy(np.random.default_rng(0).permutation(x)).float()
        a, b = int(0.8 * len(x)), int(0.9 * len(x))
        return Splits(domain(x), x[:a], x[a:b], x[b:])

    return load


def reals(x: Tensor) -> Any:
    import likely as lk

    return lk.reals(x.shape[1])


def whole_numbers(x: Tensor) -> Any:
    import likely as lk

    return lk.integers(int(x.max()) + 1, x.shape[1])


def binary(name: str) -> Callable[[Path], Splits]:
    def load(folder: Path) -> Splits:
        import likely as lk

        with np.load(folder / "debd" / f"{name}.npz") as file:
            parts = [torch.from_numpy(file[k]).long() for k in ("train", "valid", "test")]
        return Splits(lk.binary(parts[0].shape[1]), *parts)

    return load


# The sides: points (seconds, validation score), the test score and its error.


class Race(NamedTuple):
    """What one side did in its time."""

    curve: list[tuple[float, float]]
    test: float
    error: float
    parameters: int


def ours(model: str) -> Callable[[Splits, float], Race]:
    def run(splits: Splits, minutes: float) -> Race:
        import likely as lk

        parts = (
            lk.data.Split(part.to(torch.int64) if splits.domain.discrete else part)
            for part in splits[1:]
        )
        data = lk.Data(splits.domain, *parts)
        made = lk.make(model, data.domain, seed=0)
        history = lk.fit(made, data, minutes=minutes)
        mean = made.log_likelihood(data.test.x, seed=0).mean()
        curve = [(row["seconds"], row["valid"]) for row in history.rows]
        return Race(curve, mean.value, mean.stderr or 0.0, size(made))

    return run


def zuko(splits: Splits, minutes: float) -> Race:
    import zuko as library

    torch.manual_seed(0)
    discrete = splits.domain.discrete
    mean, std = splits.train.mean(0) + 0.5 * discrete, splits.train.std(0)
    volume = std.log().sum()

    def standard(x: Tensor) -> Tensor:
        return ((x + torch.rand_like(x) if discrete else x) - mean) / std

    flow = library.flows.NSF(len(mean), transforms=5, bins=8, hidden_features=(128, 128))
    optimizer = torch.optim.Adam(flow.parameters(), lr=RATE, fused=True)

    @torch.no_grad()
    def scores(x: Tensor, draws: int) -> Tensor:
        """Of each row; of whole numbers the importance-weighted bound, as ours."""
        terms = [
            torch.cat([flow().log_prob(part) for part in standard(x).split(4096)]) - volume
            for _ in range(draws if discrete else 1)
        ]
        return torch.stack(terms).logsumexp(0) - math.log(len(terms))

    curve, best, weights, start, steps = [], -math.inf, flow.state_dict(), time.perf_counter(), 0
    between = max(50, min(500, len(splits.train) // BATCH))
    while (part := (time.perf_counter() - start) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * part)) / 2
        rows = torch.randint(len(splits.train), (BATCH,))
        optimizer.zero_grad()
        (-flow().log_prob(standard(splits.train[rows])).mean()).backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimizer.step()
        steps += 1
        if steps % between == 0:
            value = scores(splits.valid[:10_000], 1).mean().item()
            curve.append((time.perf_counter() - start, value))
            if value > best:
                best, weights = value, copy.deepcopy(flow.state_dict())
    flow.load_state_dict(weights)
    test = scores(splits.test, 16)
    return Race(curve, test.mean().item(), test.std().item() / len(test) ** 0.5, size(flow))


def pomegranate(splits: Splits, minutes: float) -> Race:
    from pomegranate.distributions import Bernoulli
    from pomegranate.gmm import GeneralMixtureModel

    torch.manual_seed(0)
    train, valid, test = (part.float() for part in splits[1:])
    components = 64
    start = time.perf_counter()
    guess = 0.1 * train.mean(0) + 0.8 * train[torch.randperm(len(train))[:components]] + 0.05
    model = GeneralMixtureModel([Bernoulli(p) for p in guess.clamp(0.02, 0.98)])
    curve: list[tuple[float, float]] = []
    while time.perf_counter() - start < 60 * minutes:
        before = copy.deepcopy(model)
        model.summarize(train)
        model.from_summaries()
        for part in model.distributions:  # a pixel that is never lit has no place in its EM
            part.probs.clamp_(1e-3, 1 - 1e-3)
            part._reset_cache()
        value = model.log_probability(valid).mean().item()
        if curve and value < curve[-1][1]:
            model = before
            break
        curve.append((time.perf_counter() - start, value))
    scores = model.log_probability(test)
    count = components * (1 + train.shape[1]) - 1
    return Race(curve, scores.mean().item(), scores.std().item() / len(scores) ** 0.5, count)


@dataclass(frozen=True)
class Set:
    """A set, who meets on it, and the share of `--minutes` that it gets."""

    name: str
    load: Callable[[Path], Splits]
    sides: dict[str, Callable[[Splits, float], Race]]
    share: float = 1.0

    def measure(self, options: Options) -> dict[str, Any]:
        """The race of each side, or why there is none."""
        try:
            splits = self.load(options.data)
        except OSError as error:
            return {"races": {}, "gaps": {"all": f"no data: {error.filename}"}}
        races, gaps, minutes = {}, {}, self.share * options.minutes
        for name, run in self.sides.items():
            try:
                races[name] = run(splits, minutes)._asdict()
            except Exception as error:
                gaps[name] = reason(error)
        return {"races": races, "gaps": gaps, "minutes": minutes}


def table(rows: list[Set], results: dict[str, Any]) -> list[str]:
    """Markdown of the test scores."""
    lines = ["| set | library | test, nats per row | parameters | minutes |", "|---" * 5 + "|"]
    gaps = []
    for row in rows:
        result, label = results[row.name], row.name.partition(".")[2]
        gaps += [f"- {label}, {name}: {why}" for name, why in result["gaps"].items()]
        races = sorted(result["races"].items(), key=lambda item: -item[1]["test"])
        for name, race in races:
            lines.append(
                f"| {label} | {name} | {race['test']:.3f} ± {race['error']:.3f} | "
                f"{race['parameters']:,} | {result['minutes']:g} |"
            )
    return [*lines, *(["", "Gaps:", "", *gaps] if gaps else [])]


def draw(rows: list[Set], results: dict[str, Any], folder: Path) -> None:
    """`quality.png`: validation scores against seconds, and the test scores as marks at the end."""
    from matplotlib.figure import Figure

    columns = 3
    figure = Figure((10, 2.8 * math.ceil(len(rows) / columns)), layout="constrained")
    axes = figure.subplots(math.ceil(len(rows) / columns), columns, squeeze=False).flatten()
    for row, axis in zip(rows, axes, strict=False):
        for name, race in results[row.name]["races"].items():
            if race["curve"]:
                (line,) = axis.plot(*zip(*race["curve"], strict=True), label=name)
                axis.plot(race["curve"][-1][0], race["test"], "o", color=line.get_color())
        low = [race["test"] for race in results[row.name]["races"].values()]
        if low:
            spread = max(1.0, max(low) - min(low))
            axis.set_ylim(min(low) - 2 * spread, max(low) + spread)
            axis.legend(fontsize=7)
        axis.set_title(row.name.partition(".")[2], fontsize=9)
        axis.set_xlabel("seconds")
        axis.set_ylabel("nats per row")
    for axis in axes[len(rows) :]:
        axis.remove()
    figure.savefig(folder / "quality.png", dpi=110)


FLOWS: dict[str, Callable[[Splits, float], Race]] = {f"{OURS} nsf": ours("nsf"), "zuko NSF": zuko}
BINARY: dict[str, Callable[[Splits, float], Race]] = {
    f"{OURS} made": ours("made"),
    "pomegranate, mixture": pomegranate,
}
ROWS = [
    Set("quality.bsds300", bsds300, FLOWS),
    Set("quality.magic.gamma", anomaly_table("22_magic.gamma.npz", reals), FLOWS),
    Set("quality.satimage-2", anomaly_table("31_satimage-2.npz", whole_numbers), FLOWS),
    *(
        Set(f"quality.{name}", binary(name), BINARY, share=0.5)
        for name in ("nltcs", "plants", "mushrooms", "dna", "baudio", "jester")
    ),
]
