"""Gaussian mixtures: one iteration of EM, 32 full covariances in 16 dimensions.

Float32, all from the same start: 32 rows of the data as means, round covariances. An iteration is an E-step
and an M-step over all rows: `epoch` here, `_e_step` and `_m_step` in scikit-learn (whose `fit` would add
another E-step), `summarize` and `from_summaries` in pomegranate. The result that must agree is the mean
log-likelihood of a row after a few iterations.
"""

from functools import partial

import numpy as np
import torch
from benchmarks.suite import OURS, Options, Row, Side

TITLE = "Gaussian mixtures"
COMPONENTS, D = 32, 16
ITERATIONS = {100_000: 5, 1_000_000: 2}  # after which the log-likelihoods are compared
PARAMETERS = COMPONENTS * (1 + D + D * (D + 1) // 2) - 1


def draws(n: int, d: int = D) -> tuple[np.ndarray, np.ndarray]:
    """Standardised rows of a mixture, and those that EM starts from."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(COMPONENTS, d)) * 2
    factors = generator.normal(size=(COMPONENTS, d, d)) / d**0.5
    kind = generator.integers(COMPONENTS, size=n)
    x = generator.normal(size=(n, d)).astype(np.float32)
    for k in range(COMPONENTS):
        x[kind == k] = x[kind == k] @ factors[k] + centres[k]
    x += 0.3 * generator.normal(size=(n, d))  # no covariance is nearly singular
    x = (x - x.mean(0)) / x.std(0)
    return x.astype(np.float32), x[:COMPONENTS].astype(np.float32)


def likely(n: int, options: Options, d: int = D) -> Side:
    import likely as lk

    x, start = (torch.from_numpy(part) for part in draws(n, d))
    batch = lk.Batch(x)

    def model() -> lk.GenerativeModel:
        made = lk.make("gmm", lk.reals(d), components=COMPONENTS, tolerance=0.0)
        made.view.prepare(x)
        with torch.no_grad():
            made.means.copy_(made.view(start)[0])
        return made

    def reached() -> float:
        fresh = model()
        for _ in range(ITERATIONS[n]):
            fresh.epoch([batch])
        return -fresh.epoch([batch])["loss"]

    used = model()
    return Side(lambda: used.epoch([batch]), PARAMETERS, check=reached)


def scikit_learn(n: int, options: Options, d: int = D) -> Side:
    from sklearn.mixture import GaussianMixture

    x, start = draws(n, d)

    def model() -> GaussianMixture:
        """After one iteration."""
        return GaussianMixture(
            COMPONENTS,
            weights_init=np.full(COMPONENTS, 1 / COMPONENTS, np.float32),
            means_init=start,
            precisions_init=np.tile(np.eye(d, dtype=np.float32), (COMPONENTS, 1, 1)),
            init_params="random_from_data",
            max_iter=1,
        ).fit(x)

    def iterate(mixture: GaussianMixture) -> None:
        mixture._m_step(x, mixture._e_step(x)[1])

    def reached() -> float:
        fresh = model()
        for _ in range(ITERATIONS[n] - 1):
            iterate(fresh)
        return float(fresh._e_step(x)[0])

    used = model()
    return Side(lambda: iterate(used), PARAMETERS, check=reached)


def pomegranate(n: int, options: Options, d: int = D) -> Side:
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    x, start = (torch.from_numpy(part) for part in draws(n, d))

    def model() -> GeneralMixtureModel:
        return GeneralMixtureModel([Normal(mean.clone(), torch.eye(d)) for mean in start])

    def iterate(mixture: GeneralMixtureModel) -> float:
        log_likelihood = mixture.summarize(x)
        mixture.from_summaries()
        return float(log_likelihood) / n

    def reached() -> float:
        fresh = model()
        for _ in range(ITERATIONS[n]):
            iterate(fresh)
        return iterate(fresh)

    used = model()
    return Side(lambda: iterate(used), PARAMETERS, check=reached)


def row(n: int, goals: dict[str, float]) -> Row:
    sides = {OURS: likely, "scikit-learn": scikit_learn, "pomegranate": pomegranate}
    return Row(
        f"mixtures.em-{n}",
        f"an iteration of EM, n = {n:,}",
        {name: partial(side, n) for name, side in sides.items()},
        goals,
        tolerance=1e-4,
    )


ROWS = [row(100_000, {}), row(1_000_000, {"pomegranate": 3.0, "scikit-learn": 5.0})]
