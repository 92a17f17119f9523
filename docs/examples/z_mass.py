"""The Z in samples of a model: invariant masses of muon pairs that a model has drawn.

    python docs/examples/z_mass.py Zmumu_Run2011A.csv --out z-mass.png

A model learns the six kinematic columns of 10,583 pairs of muons that CMS recorded in 2011
(CERN Open Data, record 545). It knows nothing of masses; whether those of its samples peak at the Z shows
how well it has learned how the six hang together,

    m² = 2 p_T1 p_T2 [cosh(η₁ − η₂) − cos(φ₁ − φ₂)],

muons taken as massless. Columns come one after the other, so that the last one, a momentum, has a narrow
distribution given the others, wherever they put the Z. In two minutes MADE comes to 71 % of its samples
between 85 and 97 GeV, and NSF to 68 %, where the data have 74 %.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import likely as lk
from likely.report import INK, PALETTE, STYLE, to_png

COLUMNS = ["pt1", "eta1", "phi1", "eta2", "phi2", "pt2"]
KINDS = {
    "pt1": "positive",
    "pt2": "positive",
    "phi1": "periodic(-pi, pi)",
    "phi2": "periodic(-pi, pi)",
}
PEAK = 85, 97  # GeV


def mass(pairs: pd.DataFrame) -> np.ndarray:
    """Invariant masses in GeV."""
    delta = np.cosh(pairs.eta1 - pairs.eta2) - np.cos(pairs.phi1 - pairs.phi2)
    return np.sqrt(2 * pairs.pt1 * pairs.pt2 * delta).to_numpy()


def peaking(masses: np.ndarray) -> tuple[float, float]:
    """Part of the masses in the peak, and its standard error."""
    part = float(((masses > PEAK[0]) & (masses < PEAK[1])).mean())
    return part, float(np.sqrt(part * (1 - part) / len(masses)))


@mpl.rc_context(STYLE)
def draw(data: np.ndarray, drawn: np.ndarray) -> Figure:
    """Histograms of both."""
    figure = Figure((5, 3.2), layout="constrained")
    axes = figure.add_subplot(xlabel="invariant mass (GeV)", ylabel="density (1/GeV)")
    bins = np.linspace(60, 120, 61)
    axes.hist(data, bins, density=True, histtype="step", color=INK, label="CMS")
    axes.hist(drawn, bins, density=True, histtype="step", color=PALETTE[0], label="samples")
    axes.legend()
    return figure


def main() -> None:
    """Fit, sample, and compare the masses."""
    parser = argparse.ArgumentParser()
    parser.add_argument("events", type=Path)
    parser.add_argument("--model", default="made")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("z-mass.png"))
    given = parser.parse_args()
    data = lk.load_data(given.events, columns=COLUMNS, domain=KINDS)
    model = lk.make(given.model, data.domain, seed=given.seed)
    lk.fit(model, data, minutes=given.minutes, seed=given.seed)
    drawn = mass(model.sample(100_000, seed=given.seed, as_frame=True))
    recorded = mass(data.domain.frame(data.test.x[:]))
    for name, masses in (("CMS, held out", recorded), (f"{given.model}, samples", drawn)):
        part, error = peaking(masses)
        print(f"{name}: {part:.3f} ± {error:.3f} of the masses in {PEAK[0]} … {PEAK[1]} GeV")
    given.out.write_bytes(to_png(draw(recorded, drawn)))


if __name__ == "__main__":
    main()
