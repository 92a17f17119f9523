"""Fast twins of plain code: the same values and gradients in less time.

=====================  ====================================================================
twin                   plain form
=====================  ====================================================================
`columns`              `likely.nets.mlp.perceptron`, and `plain` of a `MaskedMLP`
`fused_attention`      `likely.nets.attention.attention`
`Dropout`              `torch.nn.Dropout`
`gate`                 −tanh(a/2) σ(b)
`SplineValues`         `plain` of `likely.models.flows.spline.RationalQuadraticSpline`
`Sines`                a product with sin ωx, and sums of cos ωx
`KnownGradients`       a value through which torch finds its own gradients
=====================  ====================================================================
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from likely.nets.mlp import perceptron

Heads = Float[Tensor, "n heads t width"]  # queries, keys or values
QUERIES = 64  # that meet their keys at a time


def columns(
    layers: Sequence[nn.Linear],
    x: Float[Tensor, "inputs n"],
    masks: Sequence[Tensor] | None = None,
    shift: Tensor | None = None,
) -> Float[Tensor, "outputs n"]:
    """A perceptron with the rows last, so that the values of each unit are contiguous.

    Weights may have masks, and `shift` is added to the first layer.
    """

    def layer(i: int, h: Tensor) -> Tensor:
        bias, weight = layers[i].bias[:, None], layers[i].weight
        h = torch.addmm(bias, weight if masks is None else weight * masks[i], h)
        return h if shift is None or i else h + shift

    h = x if len(x) else x.new_zeros(1, x.shape[1])
    return perceptron(h, [partial(layer, i) for i in range(len(layers))])


def fused_attention(q: Heads, k: Heads, v: Heads, causal: bool) -> Heads:
    """Attention by torch's kernel; with gradients on a CPU for some queries at a time.

    Each of these parts meets only the keys that it sees, which takes half the time of the kernel.
    """
    if not (q.is_cpu and q.requires_grad):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    q = q / math.sqrt(q.shape[-1])
    if not causal:
        return (q @ k.mT).softmax(-1).to(v) @ v
    parts, seen = [], 0
    for part in q.split(QUERIES, -2):
        later = part.new_full((part.shape[-2],) * 2, -math.inf).triu(1)
        mask = F.pad(later, (seen, 0))
        seen += part.shape[-2]
        weight = (part @ k[..., :seen, :].mT + mask).softmax(-1)
        parts.append(weight.to(v) @ v[..., :seen, :])
    return torch.cat(parts, -2)


class Dropout(nn.Dropout):
    """Set entries to zero with probability p, in training, and scale the others by 1/(1 − p).

    On a CPU, p is rounded to a multiple of 1/256: random bytes take a third of the time that it takes
    to draw a number for each entry.
    """

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        dropped = round(256 * self.p)
        if not (self.training and input.is_cpu and 0 < dropped < 256):
            return super().forward(input)
        words = torch.empty(input.numel() // 8 + 1, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: input.numel()].view(input.shape) >= dropped
        return input * (kept.to(input.dtype) * (256 / (256 - dropped)))


def gate(maps: Float[Tensor, "n both *size"]) -> Float[Tensor, "n half *size"]:
    """−tanh(a/2) σ(b) of the two halves a, b of the channels."""
    return Gate.apply(maps)


class Gate(torch.autograd.Function):
    """(1 − 2 σ(a)) σ(b), which takes one sigmoid of all channels, and its derivative.

    Where channels come last, each half is in pieces, in which a function is slow; tanh is slow anyway.
    """

    @staticmethod
    def forward(ctx: Any, maps: Float[Tensor, "n both *size"]) -> Float[Tensor, "n half *size"]:
        sigmoids = maps.sigmoid()
        ctx.save_for_backward(sigmoids)
        s, t = sigmoids.chunk(2, 1)
        return torch.addcmul(t, s, t, value=-2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Float[Tensor, "n half *size"]) -> Float[Tensor, "n both *size"]:
        (sigmoids,) = ctx.saved_tensors
        s, t = sigmoids.chunk(2, 1)
        by_maps = torch.empty_like(sigmoids)
        by_a, by_b = by_maps.chunk(2, 1)
        gt = g * t
        gts = gt * s
        torch.addcmul(gts, gts, s, value=-1, out=by_a).mul_(-2)  # −2 g t s (1 − s)
        gt.sub_(gts, alpha=2)
        torch.addcmul(gt, gt, t, value=-1, out=by_b)  # g (1 − 2 s) t (1 − t)
        return by_maps


class KnownGradients(torch.autograd.Function):
    """A value whose gradients with respect to parameters are known in closed form."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Float[Tensor, " n"],
        gradients: Callable[[Tensor], tuple[Tensor, ...]],
        *parameters: Tensor,
    ) -> Float[Tensor, " n"]:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, g: Float[Tensor, " n"]) -> Any:
        return None, None, *ctx.gradients(g)


class Sines(torch.autograd.Function):
    """A sin ωx, and Σ_x cos ωx over sites, with sines that are computed again for the gradient.

    They take `frequencies` times the memory of x: kept for each step of an ODE they would fill it, and
    to fetch them from there takes longer. Blocks of sites stay in the cache.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "sites n"],
        omega: Float[Tensor, " frequencies"],
        A: Float[Tensor, "features frequencies"],
    ) -> tuple[Float[Tensor, "features sites n"], Float[Tensor, "frequencies n"]]:
        ctx.save_for_backward(x, omega, A)
        products, total = x.new_empty(len(A), *x.shape), x.new_zeros(len(omega), x.shape[1])
        sites = _sites(x, omega)
        for block, out in zip(x.split(sites), products.split(sites, 1), strict=True):
            u = omega[:, None, None] * block
            total += u.cos().sum(1)
            out.copy_((A @ u.sin_().flatten(1)).view_as(out))
        return products, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_products: Tensor, by_total: Tensor) -> tuple[Tensor, ...]:
        x, omega, A = ctx.saved_tensors
        by_x, by_omega, by_A = torch.empty_like(x), torch.zeros_like(omega), torch.zeros_like(A)
        sites = _sites(x, omega)
        parts = x.split(sites), by_products.split(sites, 1), by_x.split(sites)
        for block, g, out in zip(*parts, strict=True):
            u = omega[:, None, None] * block
            by_u, sine, by_s = u.cos(), u.sin_(), g.flatten(1)
            by_A.addmm_(by_s, sine.flatten(1).T)
            by_u *= (A.T @ by_s).view_as(by_u)
            by_u -= sine.mul_(by_total[:, None])
            by_omega.addmv_(by_u.flatten(1), block.flatten())
            out.copy_((omega @ by_u.flatten(1)).view_as(out))
        return by_x, by_omega, by_A


def _sites(x: Tensor, omega: Tensor) -> int:
    """Of a block of 64,000 sines."""
    return max(1, (1 << 16) // max(1, len(omega) * x.shape[1]))


class SplineValues(torch.autograd.Function):
    """Values of a spline and logarithms of its slopes, with their derivatives written down.

    They are followed by the terms of `plain`, without which the derivatives would be a second pass.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Float[Tensor, "entries n"], theta: Float[Tensor, "entries size n"], spline: Any
    ) -> tuple[Tensor, ...]:
        y, log_slope, bins, curve = spline.plain(x, theta)
        return y, log_slope, *bins, *curve

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, theta, ctx.spline = inputs
        _, _, *terms = output
        ctx.mark_non_differentiable(*terms)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, theta, *terms)

    @staticmethod
    def backward(
        ctx: Any, by_y: Tensor | None, by_log: Tensor | None, *of_terms: None
    ) -> tuple[Tensor, Tensor, None]:
        spline = ctx.spline
        x, theta, *saved = ctx.saved_tensors
        _, inside, unit = spline.within(x, spline.periodic)
        inside = inside.to(x)
        if torch.is_grad_enabled():  # second derivatives go through all terms
            *_, bins, curve = spline.plain(x, theta)
        else:
            bins, curve = spline.terms(saved)
        by_y = torch.zeros_like(x) if by_y is None else by_y.contiguous()
        by_log = torch.zeros_like(x) if by_log is None else by_log
        (w, h), (d, d1) = bins.width.unbind(1), bins.slopes.unbind(1)
        s, xi, eta, xi2, eta2, product, bend, beta, top, rise, slope = curve
        # By the slopes at the knots, and by x, w and h, in units, as if k were fixed.
        g, g2 = by_y * inside * unit, 2 * inside * by_log
        a, b, c = g * h / beta, g2 / beta, g2 / top
        e = torch.addcmul(b, a, rise)
        by_s = torch.addcmul(g2 / s - e, a, xi2).addcmul(c + 2 * e, product)
        by_d = ((a - e) * product).addcmul(c, eta2, value=0.5)
        by_d1 = (c * xi2 / 2).addcmul(e, product, value=-1)
        by_xi = c * (d1 * xi).addcmul(d, eta, value=-1)
        by_xi = by_xi.addcmul(eta - xi, (c * s).addcmul(b, bend, value=-1))
        by_x = (g * slope).addcdiv(by_xi, w)
        by_ratio = by_s / w
        by_h = by_ratio.addcmul(g, rise)
        by_w = (s * by_ratio).addcmul(xi, by_x).neg()
        # The left knot moves with the fractions of all bins before; then through the softmax.
        by_before = spline.rest * torch.stack([-by_x, g], 1)
        by_own = spline.rest * torch.stack([by_w, by_h], 1)
        mean = by_before * bins.before + by_own * bins.fraction
        by_theta = by_own.new_empty(theta.shape)
        by_theta[:, 2 * spline.bins :] = 0
        by_logits = by_theta[:, : 2 * spline.bins].unflatten(1, (2, -1))
        by_logits[:] = -mean[:, :, None]
        by_logits[:, :, 0] += by_own
        by_logits[:, :, 1:].addcmul_(bins.passed[:, None], by_own[:, :, None])
        by_logits[:, :, :-1].addcmul_(bins.passed[:, None], (by_before - by_own)[:, :, None])
        by_logits *= bins.fractions
        # The derivative of softplus is 1 − exp(−softplus).
        by_raw = (
            torch.stack([by_d, by_d1], 1) * -(spline.min_slope - bins.slopes).expm1() * bins.free
        )
        by_theta[:, spline.first_slope :][:, : spline.bins].scatter_add_(1, bins.knots, by_raw)
        if spline.circles:
            by_theta[:, -1] = by_y * spline.periodic[:, None]
        return torch.lerp(by_y, by_x / unit, inside), by_theta, None
