"""Posteriors of y = A(x) + noise by diffusion, judged by exact ones, and on images by their coverage.

    python benchmarks/inverse.py field                     # a Gaussian field: operators × methods
    python benchmarks/inverse.py mixture [SEEDS] [D] [M]   # 25 Gaussians, the benchmark of MCGDiff
    python benchmarks/inverse.py digits [IMAGES]           # a mixture of 8 × 8 digits as the prior
    python benchmarks/inverse.py patches BSDS.npz [IMAGES] # of 8 × 8 patches of photographs
    python benchmarks/inverse.py images RUN DATA [IMAGES] [DRAWS] [STEPS] [MINUTES]   # a trained prior
    python benchmarks/inverse.py peers RUN DATA [IMAGES] [DRAWS] [STEPS] [MINUTES]    # deepinv beside it
    python benchmarks/inverse.py galaxies RUN [GALAXIES] [DRAWS] [STEPS] [MINUTES]    # blended ones

RUN is a folder; where it holds no model, a score model is trained for MINUTES, 20 by default. DATA is what
it is fitted to, as in `lk.load_data`, or "sersic": images whose test split is measured. Of these there is no
exact posterior: intervals are counted that cover the truth. Of galaxies, flux, size and ellipticity are
measured as docs/tutorial/deblending.py does, and their pulls should have mean 0 and width 1. deepinv has the
same prior, of real numbers, and as much time as ours took. Times are of the process, in seconds of a CPU.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import likely as lk
from likely.core.likelihood import Figure
from likely.data.galaxies import NOISE as SKY
from likely.data.galaxies import PSF, gaussian_psf
from likely.inverse import Calibration, Convolve, Downsample, Function, Mask, Operator, Posterior
from likely.models.mixtures.gmm import GaussianMixture

sys.path.append(str(Path(__file__).parents[1] / "tests" / "inverse"))
sys.path.append(str(Path(__file__).parents[1] / "docs" / "tutorial"))
from deblending import QUANTITIES, blended, pairs, pulls, trained
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


IMAGES = ("operator", "method", "50 %", "90 %", "χ²/pixel", "PSNR", "seconds/image")


def images_of(
    run: str, data: str, images: int, minutes: float
) -> tuple[lk.GenerativeModel, Tensor, float]:
    """A prior, images of the test split, and the noise: a twentieth of their range."""
    source: Any = pairs(20_000, 0)[:, :1] if data == "sersic" else data
    loaded = lk.load_data(source)
    path = Path(run) / "model.safetensors"
    if not path.exists():
        fresh = lk.make("score-sde", loaded.domain, seed=0)
        lk.fit(
            fresh, loaded, seed=0, run=run, minutes=minutes, precision="bf16-mixed", progress=True
        )
    model = lk.load(path)
    truth = loaded.test.x[:images].to(model.parameter_dtype)
    return model, truth, 0.05 * (truth.max() - truth.min()).item()


def measured(a: Any, truth: Tensor, noise: float) -> Tensor:
    torch.manual_seed(0)
    y = a(truth)
    return y + noise * torch.randn_like(y)


def judged(operator: str, method: str, found: Posterior, truth: Tensor, seconds: float) -> None:
    """A row of `IMAGES`: coverage of intervals with errors over images, χ² of y, and PSNR of the mean."""
    calibration = Calibration(found, truth)
    cells = [shown_percent(calibration.coverage(level)) for level in (0.5, 0.9)]
    error = (found.mean - truth).square().mean()
    psnr = 10 * torch.log10((truth.max() - truth.min()) ** 2 / error)
    row(operator, method, *cells, f"{found.chi2.mean():.3f}", f"{psnr:.1f}",
        f"{seconds / len(truth):.1f}")  # fmt: skip


def images_table(
    run: str, data: str, images: int = 100, draws: int = 16, steps: int = 200, minutes: float = 20
) -> None:
    model, truth, noise = images_of(run, data, images, minutes)
    side, narrow = truth.shape[-1], gaussian_psf(1.5)
    operators: dict[str, Operator] = {
        "left half": Mask(torch.arange(side) < side // 2),
        "×2": Downsample(2),
        "×4": Downsample(4),
    }
    if side >= len(PSF):
        operators |= {"Gaussian, σ 1.5": Convolve(narrow), "Moffat, 2.8 wide": Convolve(PSF)}
    print(f"{len(truth)} images, {draws} draws, noise {noise:.3g}\n")
    head(*IMAGES)
    for name, a in operators.items():
        y = measured(a, truth, noise)
        found, seconds = timed(model, y, a, noise, n=draws, steps=steps)
        judged(name, found.method, found, truth, seconds)


def peers_table(
    run: str, data: str, images: int = 20, draws: int = 16, steps: int = 200, minutes: float = 20
) -> None:
    from deepinv_peer import physics, restored

    model, truth, noise = images_of(run, data, images, minutes)
    shape = (1, *truth.shape[-2:])
    span = truth.min().item(), truth.max().item()
    print(f"{len(truth)} images, {draws} draws, noise {noise:.3g}\n")
    head(*IMAGES)
    for name in ("left half", "circular blur"):
        a = physics(name, shape, torch.as_tensor(gaussian_psf(1.5)))
        operator = Function(lambda x, a=a: a.A(x.reshape(-1, *shape)), linear=True)
        y = measured(operator, truth, noise)
        found, seconds = timed(model, y, operator, noise, n=draws, steps=steps)
        judged(name, found.method, found, truth, seconds)
        others = restored(model, y, a, noise, draws, seconds, span)
        for method, (samples, taken, needed) in others.items():
            other = replace(found, samples=samples.to(found.samples))
            judged(name, f"{method}, {taken} steps", other, truth, needed)


def galaxies_table(
    run: str, galaxies: int = 200, draws: int = 32, steps: int = 200, minutes: float = 20,
    rows: int = 20_000,
) -> None:  # fmt: skip
    """Pulls of the galaxy in the middle of blends; errors are those of a normal law."""
    prior = trained(rows, 0, Path(run), minutes=minutes)
    truth = torch.as_tensor(pairs(galaxies, seed=1))
    y = measured(blended().on(prior.domain.shape), truth, SKY)
    found, seconds = timed(prior, y, blended(), SKY, n=draws, steps=steps)
    each = pulls(found.samples, truth)
    print(f"{galaxies} galaxies, {draws} draws, χ²/pixel {found.chi2.mean():.3f}, "
          f"{seconds / galaxies:.1f} seconds for each\n")  # fmt: skip
    head("quantity", "mean of pulls", "their width")
    for name, of_one in zip(QUANTITIES, each.T, strict=True):
        width = of_one.std(ddof=1)
        row(name, f"{of_one.mean():.2f} ± {width / galaxies**0.5:.2f}",
            f"{width:.2f} ± {width / (2 * galaxies) ** 0.5:.2f}")  # fmt: skip


def number(text: str) -> float | str:
    """A number, unless it is something else."""
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text


def shown_percent(figure: Figure) -> str:
    return f"{100 * figure.value:.1f} ± {100 * (figure.stderr or 0):.1f}"


TABLES = {
    "field": field_table,
    "mixture": mixture_table,
    "digits": digits_table,
    "patches": patches_table,
    "images": images_table,
    "peers": peers_table,
    "galaxies": galaxies_table,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TABLES:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    TABLES[sys.argv[1]](*map(number, sys.argv[2:]))
