"""Generative adversarial networks: a step of both players, with the gradient penalty on the critic.

Wasserstein GAN over 64 columns, three hidden layers of 128, batch 256, Adam (fused). Ours is the losses of
the model under `core.runtime.fast_products`, as in `fit`, without its clipping and averaged weights.
"""

from __future__ import annotations

import torch
from benchmarks.suite import OURS, Options, Row, Side, size

from benchmarks import reference
from likely.core.runtime import fast_products

TITLE = "Adversarial networks"
D, LATENT, HIDDEN, BATCH, PENALTY = 64, 16, [128, 128, 128], 256, 0.1
ADAM = {"lr": 1e-3, "betas": (0.0, 0.9), "fused": True}


def likely(options: Options) -> Side:
    import likely as lk

    model = lk.make(
        "wgan-gp", lk.reals(D), latent=LATENT, hidden=tuple(HIDDEN), critic_steps=1, penalty=PENALTY
    )
    batch = lk.Batch(torch.randn(BATCH, D))
    model.prepare(batch)
    players = [(o, torch.optim.Adam(o.parameters, **ADAM)) for o in model.objectives()]

    def run() -> None:
        for objective, optimizer in players:
            with fast_products(batch.x.device):
                reference.descend(optimizer, lambda loss=objective.loss: loss(batch).mean())

    return Side(run, size(model))


def textbook(options: Options) -> Side:
    model = reference.WGAN(D, LATENT, HIDDEN, PENALTY)
    real = torch.randn(BATCH, D)
    critic, generator = (
        torch.optim.Adam(net.parameters(), **ADAM) for net in (model.critic, model.generator)
    )

    def run() -> None:
        reference.descend(critic, lambda: model.critic_loss(real))
        reference.descend(generator, lambda: model.generator_loss(BATCH))

    return Side(run, size(model))


ROWS = [
    Row(
        "gans.wgan-gp-step",
        "WGAN with gradient penalty, a step of both players",
        {OURS: likely, "textbook loop": textbook},
        bound="55 products of about 35 µs are 60 % of the step; the loop has 70, but neither residual "
        "connections nor a view of the data",
    )
]
