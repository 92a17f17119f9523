"""Posteriors of y = A(x) + noise by diffusion, judged by exact ones, and on images by their coverage.

    python benchmarks/inverse.py field                     # a Gaussian field: operators × methods
    python benchmarks/inverse.py mixture [SEEDS] [D] [M]   # 25 Gaussians, the benchmark of MCGDiff
    python benchmarks/inverse.py digits [IMAGES]           # a mixture of 8 × 8 digits as the prior
    python benchmarks/inverse.py patches BSDS.npz [IMAGES] # of 8 × 8 patches of photographs
    python benchmarks/inverse.py images RUN DATA [IMAGES] [DRAWS] [STEPS]     # a trained prior

DATA is what the prior was fitted to, as in `lk.load_data`: images whose test split is measured. Of these
there is no exact posterior: intervals are counted that cover the truth. Times are of the process, in
seconds of a CPU.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import likely as lk
from likely.core.likelihood import Figure
from likely.data.galaxies import gaussian_psf
from likely.inverse import Calibration, Convolve, Downsample, Mask, Operator, Posterior
from likely.models.mixtures.gmm import GaussianMixture

sys.path.append(str(Path(__file__).parents[1] / "tests" / "inverse"))
from diffusion_cases import NOISE, OPERATORS, deviations, field, field_posterior, twenty_five
from test_twisted_smc import sliced_wasserstein

METHODS: dict[str, dict[str, Any]] = {
    "guided, moments": {"method": "guided"},
    "guided, ΠGDM": {"method": "guided", "covariance": "pigdm"},
    "guided, DPS normalised": {"method": "guided", "covariance": "dps-normalised"},
    "guided, CLA": {"method": "guided", "covariance": "cla"},
    "split Gibbs": {"method": "split-gibbs"},
    "twisted SMC": {"method": "twisted-smc", "particles": 1000},
}


def timed(*problem: Any, **options: Any) -> tuple[Posterior, float]:
    start = time.process_time()
    return lk.posterior(*problem, **options), time.process_time() - start


def row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def head(*cells: str) -> None:
    row(*cells)
    row(*["---"] * len(cells))


def field_table(n: int = 200) -> None:
    """Mean by Hotelling's T² per column, covariance by the mean eigenvalue of C⁻¹S: both 1 if right."""
    prior, covariance = field()
    head("operator", "method", "kind", "T²/d", "tr C⁻¹S/d", "seconds")
    for name, a in OPERATORS.items():
        torch.manual_seed(0)
        y = a(prior.sample(1, seed=0))[0]
        y = y + NOISE * torch.randn_like(y)
        mean, exact = field_posterior(a, y, covariance)
        for label, options in METHODS.items():
            found, seconds = timed(prior, y, a, NOISE, n=n, **options)
            shift, trace, _ = deviations(found.samples, mean, exact)
            square = 1 + shift * math.sqrt(2 / len(mean))
            row(name, label, found.kind, f"{square:.2f}", f"{trace:.3f}", f"{seconds:.1f}")


def mixture_table(seeds: int = 1, d: int = 8, m: int = 1, n: int = 200) -> None:
    """Mean sliced Wasserstein distance to exact draws; the floor is that of exact draws of another seed."""
    print(f"25 Gaussians, d = {d}, m = {m}, {n} draws, {seeds} seeds\n")
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        prior, a, sigma, y = twenty_five(d, m, seed)
        exact = lk.posterior(prior, y, a, sigma, n=n, method="exact").samples
        for label, options in {"exact (floor)": {"method": "exact", "seed": 1}, **METHODS}.items():
            samples = lk.posterior(prior, y, a, sigma, n=n, **options).samples
            found.setdefault(label, []).append(sliced_wasserstein(exact, samples))
    head("method", "sliced Wasserstein distance")
    for label, distances in found.items():
        error = np.std(distances) / math.sqrt(len(distances))
        row(label, f"{np.mean(distances):.2f} ± {error:.2f}")


def judged_table(prior: GaussianMixture, truths: Tensor, noise: float, n: int = 100) -> None:
    """Every sampler against exact draws: means, deviations, distance, and a floor for each."""
    side = prior.domain.shape[-1]
    operators: dict[str, Operator] = {
        "left half": Mask(torch.arange(side) < side // 2),
        "×2": Downsample(2),
        "blur": Convolve(torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16),
    }
    head("operator", "method", "error of means", "deviations", "distance/floor", "seconds")
    for name, a in operators.items():
        y = a(truths)
        torch.manual_seed(0)
        y = y + noise * torch.randn_like(y)
        exact = lk.posterior(prior, y, a, noise, n=n, method="exact")
        others = {"exact (floor)": {"method": "exact", "seed": 1}, **METHODS}
        floor = None
        for label, options in others.items():
            found, seconds = timed(prior, y, a, noise, n=n, **options)
            error = ((found.mean - exact.mean) / exact.std).square().mean().sqrt()
            ratio = (found.std / exact.std).log().mean().exp()
            pairs = zip(exact.samples.flatten(2), found.samples.flatten(2), strict=True)
            distance = np.mean([sliced_wasserstein(*pair) for pair in pairs])
            floor = floor or distance
            row(name, label, f"{error:.3f}", f"{ratio:.3f}", f"{distance / floor:.2f}",
                f"{seconds / len(y):.1f}")  # fmt: skip


def mixture_of(rows: Tensor, components: int) -> GaussianMixture:
    """A mixture fitted to images, in their own units; variances of at least 1e-3 of a pixel's."""
    prior = lk.make(
        "gmm", lk.reals(*rows.shape[1:], layout="image"), components=components, floor=1e-3
    )
    lk.fit(prior, rows, seed=0, minutes=0.5)
    return prior.double()


def digits_table(images: int = 1) -> None:
    rows = lk.load_data("digits").train.x.double()
    rows = rows.reshape(-1, 8, 8) + torch.rand(
        len(rows), 8, 8, generator=torch.Generator().manual_seed(0)
    )
    prior = mixture_of(rows[:-images], 10)
    print("10 Gaussians of 8 × 8 digits of 16 levels, noise 1\n")
    judged_table(prior, rows[-images:], 1.0)


def patches_table(path: str, images: int = 1) -> None:
    with np.load(path) as file:
        pictures = next(file[key] for key in file.files if file[key].ndim >= 3)
    pictures = torch.as_tensor(pictures).double()
    pictures = pictures.reshape(-1, *pictures.shape[-2:])[:500] / pictures.max()
    parts = pictures.unfold(1, 8, 8).unfold(2, 8, 8).reshape(-1, 8, 8)
    parts = parts[torch.randperm(len(parts), generator=torch.Generator().manual_seed(0))[:20_000]]
    prior = mixture_of(parts[:-images], 20)
    print("20 Gaussians of 8 × 8 patches of grey photographs between 0 and 1, noise 0.05\n")
    judged_table(prior, parts[-images:], 0.05)


def images_table(run: str, data: str, images: int = 100, draws: int = 16, steps: int = 200) -> None:
    """Coverage of intervals with errors over images, χ² of y, and PSNR of the mean."""
    model = lk.load(Path(run) / "model.safetensors" if Path(run).is_dir() else run)
    truth = lk.load_data(data).test.x[:images].to(model.parameter_dtype)
    width = (truth.max() - truth.min()).item()
    noise, side = 0.1 * width / 2, truth.shape[-1]
    psf = gaussian_psf(1.5)
    operators: dict[str, Operator] = {
        "left half": Mask(torch.arange(side) < side // 2),
        "×2": Downsample(2),
        "×4": Downsample(4),
    }
    if side >= len(psf):
        operators["blur of 1.5 pixels"] = Convolve(psf)
    print(f"{len(truth)} images, {draws} draws, noise {noise:.3g}\n")
    head("operator", "50 %", "90 %", "χ²/pixel", "PSNR", "seconds/image")
    for name, a in operators.items():
        torch.manual_seed(0)
        y = a(truth)
        y = y + noise * torch.randn_like(y)
        found, seconds = timed(model, y, a, noise, n=draws, steps=steps)
        calibration = Calibration(found, truth)
        cells = [shown_percent(calibration.coverage(level)) for level in (0.5, 0.9)]
        error = (found.mean - truth).square().mean()
        psnr = 10 * torch.log10(width**2 / error)
        row(name, *cells, f"{found.chi2.mean():.3f}", f"{psnr:.1f}", f"{seconds / len(y):.1f}")


def shown_percent(figure: Figure) -> str:
    return f"{100 * figure.value:.1f} ± {100 * (figure.stderr or 0):.1f}"


TABLES = {
    "field": field_table,
    "mixture": mixture_table,
    "digits": digits_table,
    "patches": patches_table,
    "images": images_table,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TABLES:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    TABLES[sys.argv[1]](*(int(a) if a.isdigit() else a for a in sys.argv[2:]))
