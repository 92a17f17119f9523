"""Sources: where the batches of a fit come from."""

import warnings
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.contract.training import Batch, Stage
from likely.core.errors import EstimateWarning
from likely.core.files import checksum
from likely.core.likelihood import Kind
from likely.core.random import seeded
from likely.data import Data

PREPARE_ENTRIES = 1 << 20  # numbers that data-dependent initialisation sees
VALID_ENTRIES = 1 << 19  # numbers that one validation scores
CALIBRATION_ENTRIES = 1 << 23  # numbers that a calibration sees
VALID_SEED = 0x5EED  # of the noise in every validation


class Score(NamedTuple):
    """What a validation found.

    Attributes
    ----------
    value : float or None
        In nats, the higher the better; None where there is nothing to score.
    doubt : float
        Error of the value that the next validation need not share.
    figures : dict
        More columns of the history.
    """

    value: float | None
    doubt: float
    figures: dict[str, float]


class Source(Protocol):
    """What the loop asks for."""

    def __len__(self) -> int:
        """Number of training rows."""

    def order(self, seed: int) -> Tensor:
        """The order in which an epoch visits the rows."""

    def batch(self, index: Tensor) -> Batch:
        """Some training rows, whose weights have the mean 1 over all of them."""

    def prepare(self, seed: int) -> Batch:
        """Rows for `GenerativeModel.prepare` and `finish`."""

    def held_out(self) -> Batch:
        """Rows for `Calibrates.calibrate`."""

    def stages(self, model: GenerativeModel) -> list[Stage]:
        """The phases of the training."""

    def score(self, model: GenerativeModel) -> Score:
        """How good the model is."""

    def describe(self) -> dict[str, Any]:
        """What a run is resumed with, JSON-able."""

    def checksum(self) -> str:
        """What a model's scales come from."""


class DataSource:
    """The rows of a data set, in its splits for training and validation."""

    def __init__(self, data: Data) -> None:
        self.data, weight = data, data.train.weight
        self.unit = 1.0 if weight is None else weight.double().mean().item()

    def __len__(self) -> int:
        return len(self.data.train)

    def order(self, seed: int) -> Tensor:
        return self.data.train.order(seed)

    def batch(self, index: Tensor) -> Batch:
        batch = replace(self._weighed(self.data.train.rows(index)), rows=len(self))
        if (others := self.data.unlabelled) is not None:
            batch.unlabelled = others[torch.randint(len(others), (len(index),))]
        return batch

    def prepare(self, seed: int) -> Batch:
        batch = self._weighed(self.data.train.subset(PREPARE_ENTRIES, seed))
        if batch.weight is not None:  # scales are those of the rows that count
            batch.weight = batch.weight.clamp_min(0)
        return batch

    def held_out(self) -> Batch:
        return self.data.valid.subset(CALIBRATION_ENTRIES, VALID_SEED)

    def _weighed(self, batch: Batch) -> Batch:
        if batch.weight is not None:
            batch.weight = (batch.weight.double() / self.unit).to(batch.weight)
        return batch

    def stages(self, model: GenerativeModel) -> list[Stage]:
        return list(model.stages())

    def score(self, model: GenerativeModel) -> Score:
        """Mean log-likelihood of the validation split; the error that all rows share leaves it open."""
        valid = self.valid.to(model.device)
        with torch.no_grad(), seeded(VALID_SEED, model.device):
            figures = model.figures(valid)
        if model.density == Kind.NONE:
            return Score(None, 0.0, figures)
        with warnings.catch_warnings():  # a quick look may be a poor one
            warnings.simplefilter("ignore", EstimateWarning)
            likelihood = model.log_likelihood(
                valid.x, valid.context, seed=VALID_SEED, **model.validation
            )
        return Score(likelihood.mean(valid.weight).value, likelihood.common_stderr, figures)

    def describe(self) -> dict[str, Any]:
        return {"source": self.data.name, "fingerprint": self.data.fingerprint()}

    def checksum(self) -> str:
        return checksum({"x": self.data.train.subset(PREPARE_ENTRIES).x})

    @cached_property
    def valid(self) -> Batch:
        """Rows that are scored at each validation."""
        return self.data.valid.subset(VALID_ENTRIES, VALID_SEED)
