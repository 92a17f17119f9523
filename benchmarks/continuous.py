"""Continuous flows: a training step, a density evaluation, a draw of 512 rows.

The same field on both sides: a perceptron with tanh that sees the row and three frequencies of time, started
alike; the divergence is exact, ours in closed form. zuko trains by an adaptive solver to 1e-5, ours by nine
Runge–Kutta steps of four evaluations. Densities and samples are solved to tolerances at which both have
errors of log p of about 1e-4. Neither is trained: trained fields take more steps.
"""

from functools import partial

from benchmarks.flows import WORKS
from benchmarks.peers import HIDDEN, flow_side
from benchmarks.suite import OURS, Row

TITLE = "Continuous flows"
D = 6
ROWS = [
    Row(
        f"continuous.{work}-{D}",
        f"CNF, {HIDDEN[0]}–{HIDDEN[1]}, d = {D}: {WORKS[work]}, 512 rows",
        {name: partial(flow_side, name, "cnf", D, work, 512) for name in (OURS, "zuko")},
    )
    for work in WORKS
]
