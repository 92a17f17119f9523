"""Linear Gaussian models, whose likelihood and posterior are known."""

import math

import pytest
import torch

import likely as lk
from likely.contract.training import Batch


@pytest.fixture
def set_by_hand():
    """x = W z + μ + σ ε in double precision: a function that sets all parameters of a linear model."""

    def build(name, x, weight, mean, sigma, **options):
        """A model with p(x|z) as asked, and the best independent q(z|x): the mean is exact."""
        dim, latent = weight.shape
        given = {"latent": latent, "hidden": (), "warm_up": 0, **options}
        model = lk.make(name, lk.reals(dim), seed=0, **given).double()
        model.prepare(Batch(x))
        scale, shift = model.heads.heads[0].scale, model.features.shift
        sigma = torch.as_tensor(sigma, dtype=torch.float64).expand(dim)
        precision = weight.T / sigma**2 @ weight + torch.eye(latent)  # of the posterior
        gain = torch.linalg.solve(precision, weight.T / sigma**2)
        encoder, decoder = model.encoder.net.layers[0], model.decoder.net.layers[0]
        with torch.no_grad():
            for layer in (encoder, decoder):
                layer.weight.zero_()
                layer.bias.zero_()
            encoder.weight[:latent] = gain * scale  # features are (x − shift)/scale
            encoder.bias[:latent] = gain @ (shift - mean)
            std = precision.diagonal().rsqrt() - 1e-4
            encoder.bias[latent : 2 * latent] = std.expm1().log() - math.log(math.e - 1)
            decoder.weight.copy_(weight / scale[:, None])
            decoder.bias.copy_((mean - shift) / scale)
            model.decoder.bias.zero_()
            model.heads.heads[0].width.copy_((sigma / scale - 1e-4).log() / 10)
        return model, precision

    return build
