"""What a plain torch program does instead: textbook loops, kept as they are.

They stand beside likely where no library is its peer, and the guard in the tests compares the two in one
process, so that a slow-down of ours shows wherever it runs. Do not make them faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Flows.


class MaskedLinear(nn.Linear):
    """A linear layer of a MADE: an output sees the inputs of lower degree, or of the same."""

    def __init__(self, inputs: Tensor, outputs: Tensor, strictly: bool) -> None:
        super().__init__(len(inputs), len(outputs))
        mask = outputs[:, None] > inputs if strictly else outputs[:, None] >= inputs
        self.register_buffer("mask", mask.float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MAF(nn.Module):
    """Masked autoregressive flow with affine transforms, inverted by a pass for each column."""

    def __init__(self, d: int, transforms: int = 5, hidden: int = 128) -> None:
        super().__init__()
        self.d = d
        column, unit = torch.arange(1, d + 1), torch.arange(hidden) % max(1, d - 1) + 1
        self.nets = nn.ModuleList(
            nn.Sequential(
                MaskedLinear(column, unit, False),
                nn.ReLU(),
                MaskedLinear(unit, unit, False),
                nn.ReLU(),
                MaskedLinear(unit, column.repeat(2), True),
            )
            for _ in range(transforms)
        )

    def log_prob(self, x: Tensor) -> Tensor:
        log_det = torch.zeros(len(x))
        for net in self.nets:
            shift, log_scale = net(x).chunk(2, 1)
            x = (x * log_scale.exp() + shift).flip(1)
            log_det = log_det + log_scale.sum(1)
        return log_det - (x.square() + math.log(2 * math.pi)).sum(1) / 2

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        z = torch.randn(n, self.d)
        for net in reversed(self.nets):
            z, x = z.flip(1), torch.zeros(n, self.d)
            for i in range(self.d):
                shift, log_scale = net(x).chunk(2, 1)
                x[:, i] = ((z - shift) * (-log_scale).exp())[:, i]
            z = x
        return z


def descend(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    """One step of gradient descent."""
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


# Mixtures.


def em(
    x: Tensor, weights: Tensor, means: Tensor, covariances: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An iteration of EM, one component after the other; and the mean log-likelihood before it."""
    parts = zip(weights, means, covariances, strict=True)
    joint = torch.stack(
        [w.log() + torch.distributions.MultivariateNormal(m, c).log_prob(x) for w, m, c in parts], 1
    )
    total = joint.logsumexp(1, keepdim=True)
    r = (joint - total).exp()
    count = r.sum(0)
    means = r.T @ x / count[:, None]
    ridge = 1e-6 * torch.eye(x.shape[1])
    covariances = torch.stack(
        [(r[:, k, None] * (x - m)).T @ (x - m) / count[k] + ridge for k, m in enumerate(means)]
    )
    return count / len(x), means, covariances, total.mean()


# Energies.


def langevin(energy: Callable[[Tensor], Tensor], x: Tensor, step: float, steps: int) -> Tensor:
    """Unadjusted Langevin dynamics."""
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(x).sum(), x)
        x = x - step * gradient + math.sqrt(2 * step) * torch.randn_like(x)
    return x.detach()


class RBM:
    """A restricted Boltzmann machine, trained by persistent contrastive divergence with one step."""

    def __init__(self, visible: int, hidden: int, chains: int, rate: float = 0.01) -> None:
        self.weight = 0.01 * torch.randn(visible, hidden)
        self.visible_bias, self.hidden_bias = torch.zeros(visible), torch.zeros(hidden)
        self.chains = torch.bernoulli(torch.full((chains, hidden), 0.5))
        self.rate = rate

    @torch.no_grad()
    def epoch(self, rows: Tensor) -> None:
        batch = len(self.chains)
        rows = rows[torch.randperm(len(rows))]
        for v in rows.split(batch):
            p = (v @ self.weight + self.hidden_bias).sigmoid()
            w = torch.bernoulli((self.chains @ self.weight.T + self.visible_bias).sigmoid())
            q = (w @ self.weight + self.hidden_bias).sigmoid()
            self.chains = torch.bernoulli(q)
            rate = self.rate / batch
            self.weight += rate * (v.T @ p - w.T @ q)
            self.visible_bias += rate * (v.sum(0) - w.sum(0))
            self.hidden_bias += rate * (p.sum(0) - q.sum(0))


# Sequences: the whole prefix runs again for each new symbol.


@torch.no_grad()
def rerun_sequence(model: Any, n: int) -> Tensor:
    """Sequences from an RNN or a transformer of likely."""
    x = torch.full((n, 1), model.levels)
    for i in range(model.domain.size):
        logits = model.logits(i, model._hidden(x, None)[:, -1])
        x = torch.cat([x, torch.multinomial(logits.softmax(1), 1)], 1)
    return x[:, 1:]


@torch.no_grad()
def rerun_made(model: Any, n: int) -> Tensor:
    """Rows from a MADE of likely."""
    starts = [0, *accumulate(model.heads.sizes)]
    x = torch.zeros(n, model.domain.size, dtype=torch.int64)
    for i in range(model.domain.size):
        outputs = model.net(model.features(x))
        x[:, i] = model.heads.sample_entry(i, outputs[:, starts[i] : starts[i + 1]]).to(x)
    return x


# Adversarial networks.


def perceptron(widths: list[int], activation: nn.Module) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), activation)]
    return nn.Sequential(*layers[:-1])


class WGAN(nn.Module):
    """Wasserstein GAN with a gradient penalty (Gulrajani et al. 2017, algorithm 1)."""

    def __init__(self, d: int, latent: int, hidden: list[int], penalty: float) -> None:
        super().__init__()
        self.latent, self.penalty = latent, penalty
        self.generator = perceptron([latent, *hidden, d], nn.ReLU())
        self.critic = perceptron([d, *hidden, 1], nn.LeakyReLU(0.2))

    def critic_loss(self, real: Tensor) -> Tensor:
        fake = self.generator(torch.randn(len(real), self.latent)).detach()
        part = torch.rand(len(real), 1)
        between = (part * real + (1 - part) * fake).requires_grad_()
        value = self.critic(between)
        (gradient,) = torch.autograd.grad(value, between, torch.ones_like(value), create_graph=True)
        penalty = self.penalty * (gradient.norm(2, 1) - 1).square().mean()
        return self.critic(fake).mean() - self.critic(real).mean() + penalty

    def generator_loss(self, n: int) -> Tensor:
        return -self.critic(self.generator(torch.randn(n, self.latent))).mean()
