"""Maximum mean discrepancy between codes and N(0, 1), whose part in it is known.

    MMD² = E k(z, z′) − 2 E_z e(z) + E_{z″} e(z″),      e(z) = E_{z″ ~ N(0, 1)} k(z, z″)

(Gretton et al. 2012, J. Machine Learning Research 13, 723). For the kernel exp(−γ‖z − z′‖²) in d dimensions,

    e(z) = (1 + 2γ)^(−d/2) exp(−γ‖z‖²/(1 + 2γ)),      E e = (1 + 4γ)^(−d/2),

so that nothing is drawn from the prior. The inverse multiquadratic kernel C/(C + ‖z − z′‖²) is the mixture
∫ e^(−t) exp(−t ‖z − z′‖²/C) dt of these.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Kernel = Literal["rbf", "imq"]
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of C, in units of E‖z − z″‖² = 2d
STEP = 0.5  # of the trapezoidal rule in log t, whose error is beyond float32's last bit


def mmd_to_normal(
    z: Float[Tensor, "n d"], weight: Float[Tensor, " n"] | None, kernel: Kernel
) -> Float[Tensor, ""]:
    """MMD² of the distribution of codes, whose weights have the mean 1, and N(0, 1): without bias.

    The kernel is a mean over `SCALES` of exp(−‖z − z′‖²/C) or C/(C + ‖z − z′‖²).
    """
    n, d = z.shape
    weight = torch.ones_like(z[:, 0]) if weight is None else weight.to(z)
    c = 2 * d * torch.tensor(SCALES, dtype=z.dtype, device=z.device)
    squares = (z[:, None] - z).square().sum(2)[..., None] / c
    pairs = ((-squares).exp() if kernel == "rbf" else 1 / (1 + squares)).mean(2)
    pairs = (weight[:, None] * (pairs - torch.diag(pairs.diagonal())) * weight).sum()
    pairs = pairs / max(1, n * (n - 1))
    if kernel == "rbf":
        t = share = torch.ones_like(c[:1])
    else:
        log_t = torch.arange(-18, 4, STEP, dtype=z.dtype, device=z.device)
        t, share = log_t.exp(), STEP * (log_t - log_t.exp()).exp()
    gamma = (t / c[:, None]).flatten()
    share = share.repeat(len(c)) / len(c)
    radius = z.square().sum(1, keepdim=True)
    each = (1 + 2 * gamma) ** (-d / 2) * (-gamma / (1 + 2 * gamma) * radius).exp()
    mean = (each * share).sum(1)
    return pairs - 2 * (weight * mean).mean() + ((1 + 4 * gamma) ** (-d / 2) * share).sum()
