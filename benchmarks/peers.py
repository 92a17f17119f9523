"""The same flow in each library: 8 bins on [−5, 5], hidden layers 128–128, orders reversed in turn.

Residual connections, which have no parameters, are left as each library has them; what else differs is
said in the notes. Where a library's own layer insists on another network, its parts are put together
instead.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.processes import Process
from benchmarks.suite import OURS, Gap, Options, Side, size
from torch import Tensor, nn

from benchmarks import reference
from likely.core.runtime import fast_products

HIDDEN = (128, 128)
BINS, BOUND = 8, 5.0
LAYERS = {"realnvp": 8, "nsf-coupling": 6, "maf": 5, "nsf": 5}


@dataclass(frozen=True)
class Density:
    """A flow as each library has it."""

    module: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Tensor]
    note: str = ""
    loss: Callable[[Tensor], Tensor] | None = None  # by default the mean of −log_prob


def likely(kind: str, d: int) -> Density:
    import likely as lk

    options: dict[str, Any] = {"hidden": HIDDEN}
    if kind == "cnf":
        # The largest error of log p is then about 1e-4, as zuko's at 1e-5.
        kind, options["kinetic"], options["tolerance"] = "ffjord", 0.0, 3e-6
    if kind in LAYERS:
        options["transforms"] = LAYERS[kind]
    if kind.startswith("nsf"):
        options |= {"bins": BINS, "bound": BOUND, "jitter": 0.0}
    model = lk.make(kind, lk.reals(d), **options)
    if kind == "ffjord":  # start as zuko's does: how many steps a solver takes depends on the field
        model.field.last.reset_parameters()
    model.prepare(lk.Batch(torch.randn(4096, d)))

    exact = model.density == lk.Kind.EXACT
    log_prob = model.log_prob if exact else lambda x: model.log_likelihood(x).value
    return Density(model, log_prob, model.sample, loss=lambda x: model.loss(lk.Batch(x)).mean())


def zuko(kind: str, d: int) -> Density:
    import zuko

    options: dict[str, Any] = {"hidden_features": HIDDEN}
    if kind in LAYERS:
        options["transforms"] = LAYERS[kind]
    if kind == "nsf-coupling":
        options["univariate"] = partial(zuko.transforms.MonotonicRQSTransform, slope=1e-3)
        options["shapes"] = [(BINS,), (BINS,), (BINS - 1,)]
    if kind == "nsf":
        options["bins"] = BINS
    if kind == "cnf":
        options |= {"activation": nn.Tanh, "atol": 1e-5, "rtol": 1e-5}
    make = {
        "realnvp": zuko.flows.RealNVP,
        "nsf-coupling": zuko.flows.NICE,
        "maf": zuko.flows.MAF,
        "nsf": zuko.flows.NSF,
        "cnf": zuko.flows.CNF,
    }[kind]
    flow = make(d, **options)
    return Density(flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,)))


def nflows(kind: str, d: int) -> Density:
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.nn.nets import MLP
    from nflows.transforms import autoregressive as ar
    from nflows.transforms import coupling
    from nflows.transforms.base import CompositeTransform
    from nflows.transforms.permutations import ReversePermutation

    class Network(MLP):
        def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
            return super().forward(inputs)

    spline = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}
    masked = {
        "features": d,
        "hidden_features": HIDDEN[0],
        "num_blocks": 1,
        "use_residual_blocks": False,
    }

    def layer(i: int) -> list[nn.Module]:
        mask = (torch.arange(d) % 2 == i % 2).long()
        if kind == "realnvp":
            return [coupling.AffineCouplingTransform(mask, lambda a, b: Network([a], [b], HIDDEN))]
        if kind == "nsf-coupling":
            return [
                coupling.PiecewiseRationalQuadraticCouplingTransform(
                    mask, lambda a, b: Network([a], [b], HIDDEN), **spline
                )
            ]
        if kind == "maf":
            return [ar.MaskedAffineAutoregressiveTransform(**masked), ReversePermutation(d)]
        return [
            ar.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(**masked, **spline),
            ReversePermutation(d),
        ]

    layers = [part for i in range(LAYERS[kind]) for part in layer(i)]
    flow = Flow(CompositeTransform(layers), StandardNormal([d]))
    return Density(flow, flow.log_prob, flow.sample)


def normflows(kind: str, d: int) -> Density:
    import normflows as nf
    from normflows.flows.neural_spline.autoregressive import (
        MaskedPiecewiseRationalQuadraticAutoregressive,
    )
    from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling

    class Network(nf.nets.MLP):
        def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return super().forward(x)

    spline = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}

    def layer(i: int) -> list[nn.Module]:
        if kind == "realnvp":
            net = nf.nets.MLP([d - d // 2, *HIDDEN, 2 * (d // 2)])
            return [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(d, mode="swap")]
        if kind == "nsf-coupling":
            part = nf.flows.CoupledRationalQuadraticSpline(d, 1, 1)
            part.prqct = PiecewiseRationalQuadraticCoupling(
                (torch.arange(d) % 2 == i % 2).long(),
                lambda a, b: Network([a, *HIDDEN, b]),
                **spline,
            )
            return [part]
        part = nf.flows.AutoregressiveRationalQuadraticSpline(d, 1, 1)
        part.mprqat = MaskedPiecewiseRationalQuadraticAutoregressive(
            d, HIDDEN[0], num_blocks=1, use_residual_blocks=False, **spline
        )
        return [part, nf.flows.Permute(d, mode="swap")]

    layers = [part for i in range(LAYERS[kind]) for part in layer(i)]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(d, trainable=False), layers)
    return Density(
        flow,
        flow.log_prob,
        lambda n: flow.sample(n)[0],
        "halves swap between its layers" if kind in ("realnvp", "nsf") else "",
    )


def torchflows(kind: str, d: int) -> Density:
    from torchflows.bijections.finite.autoregressive import architectures as kinds
    from torchflows.flows import Flow

    make = {
        "realnvp": kinds.RealNVP,
        "nsf-coupling": kinds.CouplingRQNSF,
        "maf": kinds.MAF,
        "nsf": kinds.MaskedAutoregressiveRQNSF,
    }[kind]
    network = {"n_hidden": HIDDEN[0], "n_layers": 1 + len(HIDDEN)}
    spline = {"n_bins": BINS, "boundary": BOUND} if kind.startswith("nsf") else {}
    layers = {"n_layers": LAYERS[kind], "conditioner_kwargs": network, "transformer_kwargs": spline}
    flow = Flow(make((d,), **layers))
    return Density(
        flow,
        flow.log_prob,
        lambda n: flow.sample((n,), no_grad=True),
        "tanh for ReLU, and an affine map and ActNorm between the layers",
    )


TORCH = {"zuko": zuko, "nflows": nflows, "normflows": normflows, "torchflows": torchflows}


@cache
def jax_worker(options: Options) -> Process:
    """`jax_worker.py` in the environment of JAX, which is another."""
    if not options.jax.exists():
        raise Gap("there is no environment with JAX (`make bench` builds one)")
    script = Path(__file__).with_name("jax_worker.py")
    return Process([options.jax, script, str(options.threads)], JAX_PLATFORMS="cpu")


def flowjax(kind: str, d: int, work: str, rows: int, options: Options) -> Side:
    jax = jax_worker(options)
    layers, bins = LAYERS[kind], BINS if kind.startswith("nsf") else 0
    built = jax.ask(do="build", kind=kind, d=d, layers=layers, bins=bins, work=work, rows=rows)
    return Side(
        lambda: jax.ask(do="run")["seconds"],
        built["parameters"],
        note="slopes at the ends of its splines are learned, too" if bins else "",
        own_clock=True,
        compiles=True,
    )


def flow_side(library: str, kind: str, d: int, work: str, rows: int, options: Options) -> Side:
    """One training step, the density of `rows` rows, or as many samples."""
    if library == "flowjax":
        return flowjax(kind, d, work, rows, options)
    name, _, compiled = library.partition(", ")
    torch.manual_seed(0)
    density = (likely if name == OURS else TORCH[name])(kind, d)
    if compiled:
        density = replace(
            density,
            log_prob=torch.compile(density.log_prob),
            loss=density.loss and torch.compile(density.loss),
        )
    x = torch.randn(rows, d)
    works = {
        "train": lambda: training(density, x),
        "density": lambda: torch.no_grad()(partial(density.log_prob, x)),
        "sample": lambda: torch.no_grad()(partial(density.sample, rows)),
    }
    density.module.train(work == "train")
    return Side(works[work](), size(density.module), note=density.note, compiles=bool(compiled))


def training(density: Density, x: Tensor) -> Callable[[], None]:
    """A step of maximum likelihood with Adam, in a plain loop; ours with the products of `fit`."""
    parameters = [p for p in density.module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-4, fused=True)

    def loss() -> Tensor:
        return -density.log_prob(x).mean() if density.loss is None else density.loss(x)

    def step() -> None:
        with nullcontext() if density.loss is None else fast_products(x.device):
            reference.descend(optimizer, loss)

    return step
