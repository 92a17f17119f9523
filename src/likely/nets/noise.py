"""Networks that see a noise level: its embedding, and a perceptron for vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.nets.mlp import joined

WAVES = 32  # of a perceptron's inputs, of one to four radians where these have unit variance
EMBEDDED = 64  # numbers that stand for the noise level and the context there


class NoiseEmbedding(nn.Module):
    """Numbers that tell a network the noise level and the context: a perceptron of sines and cosines.

    One level may serve all rows.

    Parameters
    ----------
    outputs : int
    context : int
        Number of context features.
    """

    frequencies: Tensor

    def __init__(self, outputs: int, context: int = 0) -> None:
        super().__init__()
        # Half a turn over [0, 1] up to ten.
        frequencies = math.pi * torch.logspace(0, math.log10(20), 12)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.first = nn.Linear(2 * len(frequencies) + context, outputs)
        self.second = nn.Linear(outputs, outputs)

    def forward(
        self, t: Float[Tensor, " n"], context: Float[Tensor, "n features"] | None = None
    ) -> Float[Tensor, "n outputs"]:
        angle = t[:, None] * self.frequencies
        if context is not None:
            angle = angle.expand(len(context), -1)
        h = joined(torch.cat([angle.sin(), angle.cos()], 1), context)
        return F.silu(self.second(F.silu(self.first(h))))


class NoiseMLP(nn.Module):
    """h₁ = A [z, sin Ωz, cos Ωz, c],   h_{l+1} = [h_l +] W_l σ((1 + γ_l) h_l + β_l), the last without h_l.

    γ_l and β_l are linear in an embedding of the noise level and the context c. Without the waves Ω,
    which are fixed and go in all directions, fine structure would be learned very slowly (Tancik et
    al. 2020, arXiv:2006.10739). It starts at zero.

    Parameters
    ----------
    dim : int
        Numbers in a row, and of outputs.
    hidden : sequence of int
        Widths of the hidden layers.
    context : int
        Number of context features.
    """

    waves: Tensor

    def __init__(self, dim: int, hidden: Sequence[int] = (128, 128, 128), context: int = 0) -> None:
        super().__init__()
        directions = F.normalize(torch.randn(WAVES, dim))
        self.register_buffer("waves", directions * torch.logspace(0, 2, WAVES, base=2)[:, None])
        self.embedding = NoiseEmbedding(EMBEDDED, context)
        self.first = nn.Linear(dim + 2 * WAVES + context, hidden[0])
        self.modulations = nn.ModuleList(nn.Linear(EMBEDDED, 2 * width) for width in hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([*hidden, dim]))
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def forward(
        self,
        z: Float[Tensor, "n dim"],
        t: Float[Tensor, " n"],
        context: Float[Tensor, "n features"] | None = None,
    ) -> Float[Tensor, "n dim"]:
        e = self.embedding(t, context)
        phase = F.linear(z, self.waves)
        h = self.first(joined(torch.cat([z, phase.sin(), phase.cos()], 1), context))
        for i, (modulation, layer) in enumerate(zip(self.modulations, self.layers, strict=True)):
            scale, shift = modulation(e).chunk(2, 1)
            update = layer(F.silu(h + scale * h + shift))
            inner = i < len(self.layers) - 1
            h = h + update if inner and update.shape == h.shape else update
        return h
