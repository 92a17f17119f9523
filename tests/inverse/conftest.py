"""Priors that are one Gaussian, each in the form of another family, so that every posterior is known."""

import math

import pytest
import torch
from torch import nn

import likely as lk
from likely.models.flows.base import AffineFlow
from likely.models.flows.linear import LU


def stationary(*shape, length=1.5):
    """The covariance e^(−r²/2l²) of pixels, and some white noise."""
    axes = [torch.arange(float(edge), dtype=torch.float64) for edge in shape]
    place = torch.cartesian_prod(*axes).reshape(-1, len(shape))
    distance = torch.cdist(place, place)
    return torch.exp(-distance.square() / (2 * length**2)) + 0.05 * torch.eye(len(place)).double()


def gaussian(shape, mean, covariance):
    model = lk.make("gaussian", lk.reals(*shape)).double()
    w = torch.linalg.inv(torch.linalg.cholesky(covariance))
    with torch.no_grad():
        model.means.copy_(mean.flatten()[None])
        model.factor.copy_(w[model.rows, model.columns][None])
    return model


class LinearFlow(AffineFlow):
    def __init__(self, domain, whitening):
        super().__init__(domain)
        self.transforms = nn.ModuleList([LU(whitening)])


def flow(shape, mean, covariance):
    whitening = torch.linalg.inv(torch.linalg.cholesky(covariance)).double()
    model = LinearFlow(lk.reals(*shape), whitening).double()
    model.view.shift.copy_(mean.flatten())
    return model


class Affine(nn.Module):
    """z ↦ L z, of noise or codes."""

    def __init__(self, root):
        super().__init__()
        self.root, self.bias = root, nn.Parameter(torch.zeros(1).to(root))

    def forward(self, z, context=None):
        return z @ self.root.mT


def vae(shape, mean, covariance, std=0.2):
    """A linear decoder with noise: probabilistic principal components."""
    d = math.prod(shape)
    model = lk.make(
        "vae", lk.reals(*shape), latent=d, hidden=(4,), scale=std, network="mlp"
    ).double()
    root = torch.linalg.cholesky(covariance - std**2 * torch.eye(d).double())
    model.decoder = Affine(root)
    model.heads.heads[0].shift.copy_(mean.flatten())
    return model


def gan(shape, mean, covariance, std=0.2):
    d = math.prod(shape)
    model = lk.make("gan", lk.reals(*shape), latent=d, hidden=(4,), network="mlp").double()
    model.generator = Affine(torch.linalg.cholesky(covariance - std**2 * torch.eye(d).double()))
    model.view.shift.copy_(mean.flatten())
    return model


PRIORS = {"gaussian": gaussian, "flow": flow, "vae": vae, "gan": gan}


@pytest.fixture
def prior():
    """A maker of priors: `prior(name, shape)` gives a model with its mean and covariance."""

    def make(name, shape):
        mean = torch.linspace(-1, 2, math.prod(shape), dtype=torch.float64)
        covariance = stationary(*shape)
        return PRIORS[name](shape, mean, covariance), mean, covariance

    return make
