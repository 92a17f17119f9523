"""Bits per character, and perplexity per word, of texts."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from likely.contract.abilities import HasConditionals
from likely.contract.model import GenerativeModel
from likely.core.domain import Domain
from likely.core.likelihood import Figure
from likely.data import Split
from likely.evaluation.likelihood import batches


def bits_per_character(
    log_prob: Float[Tensor, " texts"],
    characters: Int[Tensor, " texts"],
    weight: Float[Tensor, " texts"] | None = None,
) -> Figure:
    """−Σ log p / Σ characters, in bits.

    Parameters
    ----------
    log_prob : Tensor, shape (texts,)
        Of whole texts, or of stretches of one, in nats.
    characters : Tensor, shape (texts,)
        How many each of them has, an end symbol included.
    weight : Tensor, shape (texts,), optional
        In both sums.

    Returns
    -------
    Figure
        With the standard error of a ratio of sums; that of a single text is unknown.
    """
    rate, stderr = _rate(log_prob, characters, weight)
    return Figure(rate / math.log(2), stderr / math.log(2))


def perplexity(
    log_prob: Float[Tensor, " texts"],
    words: Int[Tensor, " texts"],
    weight: Float[Tensor, " texts"] | None = None,
) -> Figure:
    """exp(−Σ log p / Σ words), of texts that an end symbol ends.

    Conventions differ: log p always includes the ends, and `words` may count them or not; of 20 words a
    text, a perplexity of 100 with ends is one of 126 without them.

    Parameters
    ----------
    log_prob : Tensor, shape (texts,)
        In nats.
    words : Tensor, shape (texts,)
        Words and marks of each; `lengths` counts them.
    weight : Tensor, shape (texts,), optional
        In both sums.

    Returns
    -------
    Figure
        With the error of the exponent, carried along.
    """
    rate, stderr = _rate(log_prob, words, weight)
    return Figure(math.exp(rate), math.exp(rate) * stderr)


def nats_per_symbol(
    log_prob: Float[Tensor, " texts"],
    symbols: Int[Tensor, " texts"],
    weight: Float[Tensor, " texts"] | None = None,
) -> Figure:
    """−Σ log p / Σ symbols, in nats; parameters and error as in `bits_per_character`."""
    return Figure(*_rate(log_prob, symbols, weight))


def _rate(
    log_prob: Float[Tensor, " texts"],
    symbols: Int[Tensor, " texts"],
    weight: Float[Tensor, " texts"] | None,
) -> tuple[float, float]:
    w = 1.0 if weight is None else weight.to(log_prob.device, torch.float64)
    nats, n = -w * log_prob.double(), len(log_prob)
    counts = w * symbols.to(nats)
    rate = nats.sum() / counts.sum()
    spread = (
        (nats - rate * counts).square().sum() * n / (n - 1) if n > 1 else nats.new_tensor(math.nan)
    )
    return rate.item(), (spread.sqrt() / counts.sum()).item()


def lengths(domain: Domain, x: Int[Tensor, "n length"], ends: bool = True) -> Int[Tensor, " n"]:
    """Symbols of texts; with `ends`, where an end symbol fills them up, one of each included."""
    assert domain.alphabet is not None
    symbols = (x < len(domain.alphabet)).sum(1)
    return (symbols + domain.ends).clamp_max(domain.size) if ends else symbols


def each_character_once(model: GenerativeModel, split: Split) -> Figure:
    """Bits per character of a running text, each character scored once.

    The windows of the split, which follow one another, are joined again and cut into windows that
    overlap by half; of each but the first only the second half counts, so that all characters but
    those of the first half have at least half a window before them.
    """
    assert isinstance(model, HasConditionals)
    length, half = model.domain.size, model.domain.size // 2
    text = torch.cat([b.x.flatten() for b in batches(model, split, torch.arange(len(split)))])
    terms = model.conditionals(text.unfold(0, length, half))
    parts = [terms[:1, :-half], *terms[:, -half:].split(1)]
    if left := (len(text) - length) % half:  # odd windows: what the last of them does not reach
        parts.append(model.conditionals(text[-length:][None])[:, -left:])
    return bits_per_character(
        torch.stack([part.sum() for part in parts]), torch.tensor([part.numel() for part in parts])
    )
