"""Likelihood of held-out rows, and Kullback–Leibler divergences from a known truth."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from likely.contract.inputs import chunks
from likely.contract.model import GenerativeModel
from likely.contract.training import Batch
from likely.core.errors import DataError, DensityError
from likely.core.likelihood import Likelihood
from likely.core.progress import track
from likely.core.random import seeded
from likely.core.target import Target
from likely.data import Split


def held_out(
    model: GenerativeModel, split: Split, *, rows: int | None = None, seed: int = 0
) -> tuple[Likelihood, Tensor | None]:
    """Log-likelihood of the rows of a split, read and scored in chunks.

    Parameters
    ----------
    model : GenerativeModel
    split : Split
    rows : int, optional
        At most so many rows, a random subset; None takes all.
    seed : int
        Of the subset, and of estimators that draw.

    Returns
    -------
    Likelihood
        One value a row; `.mean(weight)` is the split's figure.
    Tensor, shape (n,), optional
        The rows' weights.

    Raises
    ------
    DensityError
        If the model has no likelihood of any kind.
    """
    index = subset(len(split), rows, seed)
    with seeded(seed, model.device):
        parts = [model.log_likelihood(b.x, b.context) for b in batches(model, split, index)]
    errors = [part.stderr for part in parts if part.stderr is not None]
    likelihood = replace(
        parts[0],
        value=torch.cat([part.value for part in parts]).cpu(),
        stderr=torch.cat(errors).cpu() if errors else None,
        common_stderr=max(part.common_stderr for part in parts),  # one log Z serves all chunks
    )
    return likelihood, None if split.weight is None else split.weight[index].cpu()


def batches(model: GenerativeModel, split: Split, index: Tensor) -> Iterator[Batch]:
    """Rows of a split, as many as are scored at a time; a context only where the model takes one."""
    for at in track(chunks(model.domain, len(index), model.context), "rows"):
        batch = split.rows(index[at])
        yield batch if model.context is not None else replace(batch, context=None)


def subset(length: int, rows: int | None, seed: int) -> Tensor:
    """Indices of at most `rows` of `length` rows, chosen at random, in order."""
    if length == 0:
        raise DataError("the split that is to be evaluated has no rows: choose another one")
    if rows is None or rows >= length:
        return torch.arange(length)
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.sort(rng.choice(length, rows, replace=False)))


def forward_kl(
    model: GenerativeModel, truth: Target, *, draws: int = 20_000, seed: int = 0
) -> Likelihood:
    """log p(x) − log q(x) at fresh draws of the truth p; their mean estimates KL(p‖q).

    Parameters
    ----------
    model : GenerativeModel
        Its density is q.
    truth : Target
        With `sample` and `log_prob`.
    draws : int
    seed : int
        Give another one than the training data were drawn by.

    Returns
    -------
    Likelihood
        Infinite where the model has no density. A lower bound of log q makes an upper one here.

    Raises
    ------
    DensityError
        If the model has no likelihood of any kind, or the truth's density is unknown.
    """
    if truth.sample is None:
        raise DensityError(f"{truth.name} cannot be sampled: the divergence is unknown")
    x = truth.sample(draws, seed)
    log_q = model.log_likelihood(x, seed=seed)
    value = _log_prob(truth, x) - log_q.value.double().cpu()
    return replace(log_q, value=value, kind=log_q.kind.opposite)


def reverse_kl(
    model: GenerativeModel, truth: Target, *, draws: int = 20_000, seed: int = 0
) -> Likelihood:
    """log q(x) − log p(x) at draws of the model q; their mean estimates KL(q‖p).

    Infinite where the truth has no density, since the model was seen there. Otherwise as
    `forward_kl`, but that a lower bound of log q makes a lower one.
    """
    x = model.sample(draws, seed=seed)
    log_q = model.log_likelihood(x, seed=seed)
    log_p = _log_prob(truth, x)
    value = (log_q.value.double().cpu() - log_p).where(log_p > -torch.inf, torch.inf)
    return replace(log_q, value=value)


def _log_prob(truth: Target, x: Tensor) -> Tensor:
    """On the CPU, where the constants of a target are."""
    if truth.log_prob is None:
        raise DensityError(f"{truth.name} has no known density: the divergence is unknown")
    return truth.log_prob(x.cpu()).double()
