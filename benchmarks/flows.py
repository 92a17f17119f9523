"""Normalizing flows: a training step, a density evaluation, a draw of 512 rows.

Float32; Adam (fused) on the same standard normal rows; a training step is the loss, its gradient and the
update, written as the same plain loop for each library. Ours is `model.loss` under
`core.runtime.fast_products`, as in `fit`, without its clipping and averaged weights, and without the jitter
that the spline flow adds by default. In the rows called compiled, our loss goes through `torch.compile`, as
with `fit(compile=True)`, and so does that of "zuko, compiled"; flowjax is always compiled. The goals are read
at 512 rows.
"""

from functools import partial

from benchmarks.peers import HIDDEN, TORCH, flow_side
from benchmarks.suite import OURS, Row

TITLE = "Normalizing flows"
NAMES = {
    "realnvp": "RealNVP, 8 couplings",
    "maf": "MAF, 5 transforms",
    "nsf-coupling": "NSF, 6 couplings",
    "nsf": "NSF, autoregressive, 5 transforms",
}
PEERS = {
    "realnvp": [*TORCH, "flowjax"],
    # normflows has MAF in the other direction only.
    "maf": ["zuko", "nflows", "torchflows", "flowjax"],
    "nsf-coupling": [*TORCH, "flowjax"],
    "nsf": [*TORCH, "flowjax"],
}
# The least ratio to the fastest of three.
GOALS = {
    "flows.realnvp-train-63": 1.3,
    "flows.realnvp-train-63-compiled": 1.3,
    "flows.maf-train-63": 1.3,
    "flows.maf-train-63-compiled": 1.3,
    "flows.nsf-train-63": 2.0,
    "flows.nsf-train-63-compiled": 2.0,
    "flows.maf-sample-63": 4.0,
    "flows.nsf-sample-63": 15.0,
}
AGAINST = {
    "realnvp": ("zuko", "nflows", "flowjax"),
    "maf": ("zuko", "nflows", "flowjax"),
    "nsf": ("zuko", "normflows", "flowjax"),
}
# Profiled on two Zen 4 cores, whose speed changes by up to a half within seconds.
BOUNDS = {
    "flows.realnvp-train-63": "products take 6.7 of 13.3 ms, Adam and its counters 0.8; the rest are "
    "some two thousand small operations, which compiling fuses: see the compiled row",
    "flows.realnvp-train-63-compiled": "products. Processes of the same code differ, see the README",
    "flows.maf-train-63": "products take 6.1 of 12.8 ms, Adam and its counters 0.9; the rest are some "
    "1,200 small operations, which compiling fuses: see the compiled row",
    "flows.nsf-train-63": "products take 21 of some 50 ms; the rest are element-wise operations on "
    "512 × 63 splines, of which softmax takes 2.4",
    "flows.nsf-train-63-compiled": "products, 21 of the 50 ms of a step that is not compiled",
    "flows.maf-sample-63": "dispatch: 315 steps of some 85 small operations, views counted; products "
    "take 13.8 of 47.6 ms under the profiler",
    "flows.nsf-sample-63": "dispatch: a pass over 63 columns of 5 transforms is 315 steps of some 200 "
    "small operations, views counted; products take 16.5 of 96.6 ms under the profiler, softmax "
    "10.0. Each hidden unit is evaluated once, so that the arithmetic is that of one ordinary pass. On one "
    "core it takes as long as on two, but halves of the rows in two threads take 3 times as long",
}
WORKS = {"train": "training step", "density": "density", "sample": "sampling"}


def row(kind: str, work: str, d: int, rows: int, compiled: str = "") -> Row:
    name = f"flows.{kind}-{work}-{d}" + ("" if rows == 512 else f"-{rows}")
    libraries = PEERS[kind]
    if compiled:
        name += "-compiled"
        libraries = list(AGAINST[kind])
        if kind != "realnvp":  # of zuko: its compiled step crashes
            libraries.append("zuko, compiled")
    sides = {OURS: OURS + compiled} | {library: library for library in libraries}
    return Row(
        name,
        f"{NAMES[kind]}, {HIDDEN[0]}–{HIDDEN[1]}, d = {d}: {WORKS[work]}{compiled}, {rows:,} rows",
        {side: partial(flow_side, library, kind, d, work, rows) for side, library in sides.items()},
        dict.fromkeys(AGAINST[kind], GOALS[name]) if name in GOALS else {},
        bound=BOUNDS.get(name, ""),
    )


ROWS = [
    row(kind, work, d, rows)
    for kind in NAMES
    for d in (6, 21, 63)
    for work in WORKS
    for rows in ((512,) if work == "sample" else (512, 4096))
]
ROWS += [row(kind, "train", 63, 512, ", compiled") for kind in ("realnvp", "maf", "nsf")]
