"""Does flowjax's part of the suite, in a process of its own: a line of JSON in, a line of JSON out.

    {"do": "build", "kind": "maf", "d": 63, "layers": 5, "bins": 0, "work": "train", "rows": 512}
    {"do": "run"}

A run is of what was built last. The process stays on as many cores as its argument says, and takes the time
itself, so that the pipe does not count.
"""

import json
import os
import sys
import time
from importlib.metadata import version

cores = sorted(os.sched_getaffinity(0))[: int(sys.argv[1])]
os.sched_setaffinity(0, cores)  # before JAX counts them

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
import paramax  # noqa: E402
from flowjax.bijections import RationalQuadraticSpline  # noqa: E402
from flowjax.distributions import Normal  # noqa: E402
from flowjax.flows import coupling_flow, masked_autoregressive_flow  # noqa: E402
from flowjax.train.losses import MaximumLikelihoodLoss  # noqa: E402
from flowjax.train.train_utils import step  # noqa: E402

WIDTH, DEPTH, BOUND = 128, 2, 5.0


def build(kind, d, layers, bins, work, rows):
    """A function that does the work once and waits for it, and the number of parameters."""
    make = masked_autoregressive_flow if kind in ("maf", "nsf") else coupling_flow
    key = jax.random.key(0)
    spline = RationalQuadraticSpline(knots=bins - 1, interval=BOUND) if bins else None
    flow = make(
        key,
        base_dist=paramax.non_trainable(Normal(jnp.zeros(d))),
        transformer=spline,
        flow_layers=layers,
        nn_width=WIDTH,
        nn_depth=DEPTH,
    )
    x = jax.random.normal(key, (rows, d))
    trained, fixed = eqx.partition(
        flow, eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(trained))
    if work == "train":
        optimizer = optax.adam(1e-4)
        state = {"parameters": trained, "optimizer": optimizer.init(trained)}
        loss = MaximumLikelihoodLoss()

        def run():
            state["parameters"], state["optimizer"], _ = step(
                state["parameters"],
                fixed,
                x,
                key=key,
                optimizer=optimizer,
                opt_state=state["optimizer"],
                loss_fn=loss,
            )
            return state["parameters"]

    elif work == "density":
        log_prob = eqx.filter_jit(lambda flow, x: flow.log_prob(x))

        def run():
            return log_prob(flow, x)

    else:
        sample = eqx.filter_jit(lambda flow, key: flow.sample(key, (rows,)))

        def run():
            return sample(flow, key)

    return run, parameters


def main():
    for line in sys.stdin:
        request = json.loads(line)
        try:
            match request.pop("do"):
                case "build":
                    run = None  # frees the flow before
                    jax.clear_caches()
                    run, parameters = build(**request)
                    answer = {"parameters": parameters}
                case "run":
                    start = time.perf_counter()
                    jax.block_until_ready(eqx.filter(run(), eqx.is_array))
                    answer = {"seconds": time.perf_counter() - start}
                case "versions":
                    answer = {name: version(name) for name in ("flowjax", "jax")}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
