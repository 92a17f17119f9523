"""Networks that see a noise level: its embedding, and a perceptron for vectors."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.nets.mlp import Context, with_context

LOG_SIGMA = math.log(1e-3), math.log(1e2)  # what a network sees as 0 and 1; more is allowed
WAVES = 32  # of a perceptron's inputs, of one to four radians where these have unit variance
WIDTHS = 3e-3, 0.3  # of soft steps at the start, in standard deviations of a column
EMBEDDED = 64  # numbers that stand for the noise level and the context there


@torch.no_grad()
def zeroed(layer: nn.Module) -> nn.Module:
    """The layer, with parameters of zero."""
    for parameter in layer.parameters():
        parameter.zero_()
    return layer


class NoiseEmbedding(nn.Module):
    """Numbers that tell a network the noise level and the context: a perceptron of sines and cosines.

    One level may serve all rows.

    Parameters
    ----------
    outputs : int
    context : int
        Number of context features.
    """

    def __init__(self, outputs: int, context: int = 0) -> None:
        super().__init__()
        # Half a turn over [0, 1] up to ten.
        frequencies = math.pi * torch.logspace(0, math.log10(20), 12)
        self.frequencies = nn.Buffer(frequencies, persistent=False)
        self.first = nn.Linear(2 * len(frequencies) + context, outputs)
        self.second = nn.Linear(outputs, outputs)

    def forward(
        self, t: Float[Tensor, " n"], context: Context = None
    ) -> Float[Tensor, "n outputs"]:
        angle = t[:, None] * self.frequencies
        if context is not None:
            angle = angle.expand(len(context), -1)
        h = with_context(torch.cat([angle.sin(), angle.cos()], 1), context)
        return F.silu(self.second(F.silu(self.first(h))))


class BlurredSteps(nn.Module):
    """Soft steps of width τ across planes w·z = b, blurred by the noise, and σ times their slopes,

        erf(q/√2),   σ/√(τ² + σ²) exp(−q²/2)      where      q = (w·z − b)/√(τ² + σ²),   |w| = 1,

    up to a factor. The first is the mean of erf((w·z₀ − b)/(√2 τ)) over z₀ = z − σ ε. Where a density
    ends, at an edge, the scores of all noise levels have one shape in q, but no two are alike in z:
    without these inputs each level must be learned by itself. Half of the planes start across single
    columns, whose ranges often end.

    Parameters
    ----------
    dim : int
        Numbers in a row.
    units : int
        Number of planes.
    """

    def __init__(self, dim: int, units: int) -> None:
        super().__init__()
        normals = F.normalize(torch.randn(units, dim))
        normals[::2] = torch.eye(dim)[torch.arange((units + 1) // 2) % dim]
        low, high = WIDTHS
        self.normals = nn.Parameter(normals)
        self.offsets = nn.Parameter(4 * torch.rand(units) - 2)
        self.log_widths = nn.Parameter(math.log(low) + math.log(high / low) * torch.rand(units))

    def forward(
        self, z: Float[Tensor, "n dim"], sigma: Float[Tensor, "n 1"]
    ) -> Float[Tensor, "n outputs"]:
        width = ((2 * self.log_widths).exp() + sigma.square()).sqrt()
        with torch.autocast(z.device.type, enabled=False):  # its rounding exceeds the least widths
            q = (F.linear(z, F.normalize(self.normals)) - self.offsets) / width
        return torch.cat([(q / math.sqrt(2)).erf(), sigma / width * (-q.square() / 2).exp()], 1)


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
    edges : int
        Number of planes whose `BlurredSteps` are among the inputs, too.
    """

    def __init__(
        self, dim: int, hidden: Sequence[int] = (128, 128, 128), context: int = 0, edges: int = 0
    ) -> None:
        super().__init__()
        directions = F.normalize(torch.randn(WAVES, dim))
        self.waves = nn.Buffer(directions * torch.logspace(0, 2, WAVES, base=2)[:, None])
        self.steps = BlurredSteps(dim, edges) if edges else None
        self.embedding = NoiseEmbedding(EMBEDDED, context)
        self.first = nn.Linear(dim + 2 * (WAVES + edges) + context, hidden[0])
        self.modulations = nn.ModuleList(nn.Linear(EMBEDDED, 2 * width) for width in hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([*hidden, dim]))
        zeroed(self.layers[-1])

    def forward(
        self, z: Float[Tensor, "n dim"], t: Float[Tensor, " n"], context: Context = None
    ) -> Float[Tensor, "n dim"]:
        e = self.embedding(t, context)
        phase = F.linear(z, self.waves)
        inputs = [z, phase.sin(), phase.cos()]
        if self.steps is not None:
            low, high = LOG_SIGMA
            sigma = (low + (high - low) * t[:, None]).exp()
            inputs.append(self.steps(z * (1 + sigma.square()).sqrt(), sigma))
        h = self.first(with_context(torch.cat(inputs, 1), context))
        for i, (modulation, layer) in enumerate(zip(self.modulations, self.layers, strict=True)):
            scale, shift = modulation(e).chunk(2, 1)
            update = layer(F.silu(h + scale * h + shift))
            inner = i < len(self.layers) - 1
            h = h + update if inner and update.shape == h.shape else update
        return h
