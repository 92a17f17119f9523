"""Random good inputs: from a table to samples, scores and back from a file, for every kind of column."""

import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import likely as lk
from likely.contract.registry import taking
from likely.core.columns import Column
from likely.core.likelihood import Kind

# Small networks, so that thousands of fits take minutes.
SMALL = {
    "nsf": {"transforms": 1, "hidden": (8,), "bins": 4},
    "nsf-coupling": {"transforms": 2, "hidden": (8,), "bins": 4},
    "realnvp": {"transforms": 2, "hidden": (8,)},
    "glow": {"transforms": 1, "channels": 8},
    "nice": {"transforms": 2, "hidden": (8,)},
    "maf": {"transforms": 1, "hidden": (8,)},
    "iaf": {"transforms": 1, "hidden": (8,)},
    "made": {"hidden": (8,)},
    "vae": {"hidden": (8,), "latent": 2},
    "ae": {"hidden": (8,), "latent": 2},
    "dae": {"hidden": (8,)},
    "rnn": {"hidden": 8},
    "transformer": {"width": 8, "layers": 1, "heads": 2},
    "gan": {"hidden": (8,)},
    "wgan-gp": {"hidden": (8,)},
    "infogan": {"hidden": (8,)},
    "gmm": {"components": 2},
    "gaussian": {},
    "independent": {},
    "rbm": {"hidden": 4},
    "ncsn": {"hidden": (8,)},
    "flow-matching": {"hidden": (8,)},
}


def column(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, Column]:
    """Values of a random kind, and the kind."""
    offset = rng.choice([0.0, 1.0, -1e3, 1e6, 1e9, 1e12])
    scale = rng.choice([1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e9])
    if offset and abs(offset) * 1e-12 > scale:
        scale = abs(offset) * 1e-6  # float64 resolves it
    kind = rng.choice(
        [
            "real",
            "positive",
            "interval",
            "periodic",
            "integer",
            "count",
            "binary",
            "spin",
            "categorical",
        ]
    )
    levels = int(rng.integers(2, 12))
    if kind == "real":
        return offset + scale * rng.normal(size=rows), lk.Real()
    if kind == "positive":
        return scale * rng.lognormal(size=rows), lk.Positive()
    if kind in ("interval", "periodic"):
        values = offset + scale * rng.random(rows)
        bounds = (offset, offset + scale)
        return np.clip(values, *bounds), lk.Interval(
            *bounds
        ) if kind == "interval" else lk.Periodic(*bounds)
    if kind == "integer":
        return rng.integers(0, levels, rows), lk.Integer(levels)
    if kind == "count":
        return rng.poisson(rng.choice([0.5, 5, 500]), rows), lk.Count()
    if kind == "binary":
        return rng.integers(0, 2, rows), lk.Binary()
    if kind == "spin":
        return 2 * rng.integers(0, 2, rows) - 1, lk.Spin()
    labels = [f"class {i}" for i in range(levels)]
    return rng.choice(labels, rows), lk.Categorical(labels)


def case(seed: int) -> None:
    """Load, fit some steps, sample, score, save, load: everything finite, inside, and the same again."""
    rng = np.random.default_rng(seed)
    rows = int(rng.choice([11, 12, 20, 50, 200, 2000]))
    names = [f"x{i}" for i in range(int(rng.integers(1, 6)))]
    given = [f"c{i}" for i in range(int(rng.integers(0, 3)))]
    columns = {name: column(rng, rows) for name in [*names, *given]}
    frame = pd.DataFrame({name: values for name, (values, _) in columns.items()})
    weight = None
    if rng.random() < 0.3:
        frame["w"], weight = rng.choice([1e-9, 1.0, 1e9]) * rng.lognormal(size=rows), "w"
    kinds = {name: kind for name, (_, kind) in columns.items()}
    data = lk.load_data(
        frame, domain=kinds, columns=names, context=given or None, weight=weight, seed=seed
    )
    able = [name for name in taking(data.domain) if name in SMALL]
    if given:
        able = [name for name in able if lk.contract.registry.find(name).cls.takes_context]
    if not able:
        return
    name = str(rng.choice(able))
    try:
        model = lk.make(name, data.domain, context=data.context, seed=seed, **SMALL[name])
    except lk.DomainError as error:
        if "constant" in str(error):  # too few rows for a column to change
            return
        raise
    lk.fit(model, data, steps=3, seed=seed)
    context = None if data.context is None else data.test.context[:][0]
    draws = model.sample(7, context=context, seed=1)
    assert draws.isfinite().all(), f"{name}: draws are not finite"
    assert data.domain.contains(draws).all(), f"{name}: draws are not in the domain"
    assert len(data.domain.frame(draws)) == 7
    with tempfile.TemporaryDirectory() as folder:
        lk.save(model, Path(folder) / "model.safetensors")
        again = lk.load(Path(folder) / "model.safetensors")
    assert torch.equal(again.sample(7, context=context, seed=1), draws), f"{name}: other draws"
    if model.density != Kind.NONE:
        options = {"draws": 4} if name == "vae" else {}
        test = data.test.rows(slice(None))
        scores = [
            m.log_likelihood(test.x, test.context, seed=2, **options).value for m in (model, again)
        ]
        assert not scores[0].isnan().any(), f"{name}: a score is NaN"
        assert (scores[0] < math.inf).all(), f"{name}: a score is infinite"
        assert torch.equal(*scores), f"{name}: other scores"


def cases(n: int, first: int = 0) -> Iterator[tuple[str, Callable[[], None]]]:
    """n cases, by their seeds."""
    for seed in range(first, first + n):
        yield f"good input {seed}", partial(case, seed)
