"""Bits per character of texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from likely.core.domain import Domain
from likely.core.likelihood import Figure
from likely.evaluation.likelihood import batches

if TYPE_CHECKING:
    from likely.autoregressive.autoregressive import Autoregressive
    from likely.data import Split


def bits_per_character(
    log_prob: Float[Tensor, " texts"], characters: Int[Tensor, " texts"]
) -> Figure:
    """−Σ log p / Σ characters, in bits; the standard error is that of a ratio of sums.

    Parameters
    ----------
    log_prob : Tensor, shape (texts,)
        Of whole texts, or of stretches of one, in nats.
    characters : Tensor, shape (texts,)
        How many each of them has, an end symbol included.
    """
    nats = -log_prob.double()
    counts = characters.to(nats)
    rate = nats.sum() / counts.sum()
    stderr = (nats - rate * counts).square().sum().sqrt() / counts.sum()
    return Figure((rate / math.log(2)).item(), (stderr / math.log(2)).item())


def lengths(domain: Domain, x: Int[Tensor, "n length"]) -> Int[Tensor, " n"]:
    """Characters of texts; where an end symbol fills them up, one end symbol of each included."""
    assert domain.alphabet is not None
    return ((x < len(domain.alphabet)).sum(1) + domain.ends).clamp_max(domain.size)


def each_character_once(model: Autoregressive, split: Split) -> Figure:
    """Bits per character of a running text, each character scored once.

    The windows of the split, which follow one another, are joined again and cut into windows that
    overlap by half; of each but the first only the second half counts, so that all characters but
    the first have at least half a window before them.
    """
    length, half = model.domain.size, model.domain.size // 2
    text = torch.cat([b.x.flatten() for b in batches(model, split, torch.arange(len(split)))])
    terms = model.conditionals(text.unfold(0, length, half))
    log_prob = torch.cat([terms[:1, :-half].sum(1), terms[:, -half:].sum(1)])
    counts = torch.tensor([length - half] + [half] * len(terms))
    return bits_per_character(log_prob, counts)
