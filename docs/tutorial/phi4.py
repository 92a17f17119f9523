"""From an action to a susceptibility with its error: φ⁴ on a lattice
==================================================================

::

    python docs/tutorial/phi4.py --out phi4.png

There are no data: the model is trained on the action alone, by the variational free energy. Its draws are
then weighed by e^(−S)/q, so that what comes out is right however good the model is, which decides only the
error. Two minutes on two cores. The second example is no lattice: a molecule's two states, and how often it
is in each.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

import likely as lk
from likely.report import PALETTE, STYLE, to_png
from likely.targets import susceptibility


def field(minutes: float, draws: int) -> lk.Weighted:
    """φ⁴ on a torus of 4 × 4 sites, whose χ₂ and log Z are known."""
    target = lk.targets.phi4(4, 4, mass2=-4.0, coupling=8.0)
    model = lk.make("lattice-cnf", target.domain, seed=0)
    lk.fit(model, target, minutes=minutes, seed=0)
    w = lk.reweight(model, target, draws, seed=0)
    print(w)
    assert target.observables is not None
    print(f"χ₂ = {w.expect(susceptibility)}, exact {target.observables['susceptibility']:.5f}")
    print(f"log Z = {w.log_z}, exact {target.log_z:.5f}")
    chain = w.chain(seed=0).expect(susceptibility)
    print(f"χ₂ = {chain} by Metropolis through the same draws, τ_int = {chain.tau_int:.2f} steps")
    return w


def molecule(minutes: float, draws: int) -> lk.Weighted:
    """Two states of a molecule in the plane, by an energy of one's own, in units of kT."""

    def energy(x):  # type: ignore[no-untyped-def]
        r, s = x.T
        return r**4 / 4 - 3 * r**2 + r + s**2 / 2

    target = lk.Target(lk.reals(2), energy=energy, name="molecule")
    # Trained on the energy alone, a flow would settle in one of the wells; a tempered chain shows it both.
    sampler = lk.sampling.ParallelTempering()
    start = 3 * torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    chain = sampler.run(energy, start, 400, seed=0, burn_in=400)
    model = lk.make("nsf-coupling", target.domain, seed=0)
    lk.fit(model, target, data=chain.samples.flatten(0, 1), minutes=minutes, seed=0)
    w = lk.reweight(model, target, draws, seed=0, forward=chain)
    print(w)
    left, right = (w.expect(lambda x, side=side: (side * x[:, 0] > 0).double()) for side in (-1, 1))
    print(f"p(left) = {left}, p(right) = {right}")
    return w


@mpl.rc_context(STYLE)
def picture(weighted: dict[str, lk.Weighted]) -> Figure:
    """Log-weights: the narrower, the more each draw is worth."""
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    for axes, (name, w), color in zip(
        figure.subplots(1, 2), weighted.items(), PALETTE, strict=False
    ):
        axes.hist((w.log_weight - w.log_z.value).numpy(), 80, density=True, color=color)
        axes.set(title=f"{name}: ESS {w.ess:.1%}", xlabel="log w − log Z", yscale="log")
    return figure


def main() -> None:
    """Both examples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--draws", type=int, default=65_536)
    parser.add_argument("--out", type=Path, default=Path("phi4.png"))
    arguments = parser.parse_args()
    minutes, draws = arguments.minutes, arguments.draws
    found = {"φ⁴, 4 × 4": field(minutes, draws), "molecule": molecule(minutes / 4, draws)}
    arguments.out.write_bytes(to_png(picture(found)))


if __name__ == "__main__":
    main()
