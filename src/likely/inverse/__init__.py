"""Inverse problems: posteriors of y = A(x) + noise under a prior that a model has learned."""

from likely.inverse.checks import Calibration, Misfit, misfit, simulate
from likely.inverse.noise import (
    CorrelatedGaussian,
    DenseGaussian,
    Gaussian,
    Noise,
    Poisson,
    PoissonGaussian,
)
from likely.inverse.operators import (
    Convolve,
    Downsample,
    Function,
    Identity,
    Linear,
    Mask,
    Operator,
    Select,
)
from likely.inverse.posterior import Posterior, posterior, suitable
from likely.inverse.problem import methods

__all__ = [
    "Calibration", "Convolve", "CorrelatedGaussian", "DenseGaussian", "Downsample", "Function",
    "Gaussian", "Identity", "Linear", "Mask", "Misfit", "Noise", "Operator", "Poisson",
    "PoissonGaussian", "Posterior", "Select", "methods", "misfit", "posterior", "simulate", "suitable",
]  # fmt: skip
