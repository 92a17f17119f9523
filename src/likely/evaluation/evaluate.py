"""What a fitted model is worth, in figures with errors."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from likely.contract.model import GenerativeModel
from likely.contract.registry import name_of
from likely.core.errors import DataError, LikelyError
from likely.core.likelihood import Kind
from likely.core.progress import shown, track
from likely.data import Data, load_data
from likely.evaluation.case import Case
from likely.evaluation.images import FeatureExtractor
from likely.evaluation.measures import CLASSIFIED, MEASURES
from likely.evaluation.result import Evaluation

if TYPE_CHECKING:
    from likely.fitting import History


def evaluate(
    model: GenerativeModel,
    data: Any,
    *,
    split: str = "test",
    seed: int = 0,
    history: "History | None" = None,
    rows: int | None = None,
    extractor: FeatureExtractor | None = None,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a fitted model on one split of the data.

    Parameters
    ----------
    model : GenerativeModel
        It is put into evaluation mode meanwhile.
    data : Data, or anything that `load_data` reads
    split : {"test", "valid", "train"}
    seed : int
        The figures, but for the speeds, depend on it alone.
    history : History, optional
        What `fit` returned: adds the speed of fitting and the peak memory.
    rows : int, optional
        Score at most this many rows, a random subset, and draw as many: for models that take long to
        score or to sample. None scores the whole split, and draws up to 2,000.
    extractor : FeatureExtractor, optional
        For the distances of images; None trains one on the training split, the same for the same
        data. Make one and give it where several models are evaluated.
    progress : bool
        Show progress bars, on a terminal.

    Returns
    -------
    Evaluation

    Raises
    ------
    LikelyError
        If there is no such split.
    DataError
        If the split is empty, the model needs a context that the data don't have, or weights are negative.
    """
    if split not in ("train", "valid", "test"):
        raise LikelyError(f"unknown split {split!r}: take train, valid or test")
    if not isinstance(data, Data):
        data = load_data(data, domain=model.domain)
    if model.context is not None and data.context is None:
        raise DataError("the model is conditional, but the data have no context: load one, too")
    weights = (getattr(data, name).weight for name in ("train", split))
    if any(weight is not None and (weight < 0).any() for weight in weights):
        raise DataError(
            f"{data.name}: some weights are negative, for which distances between distributions are not "
            "defined; draw rows with positive weights to compare with"
        )
    with _evaluation_mode(model), shown("evaluate", progress):
        case = Case(model, data, split, seed, rows, history, extractor)
        values = {}
        for measure in track(MEASURES, "measures"):
            if measure.need.met(case):
                values[measure.name] = measure.value(case)
                if measure.floor is not None:
                    values[f"{measure.name}_floor"] = measure.floor(case)
        scored = model.density != Kind.NONE
        held, weight = case.likelihood if scored else (None, None)
        return Evaluation(
            model=name_in_reports(model),
            data=data.name,
            split=split,
            rows=len(case.scored),
            density=model.density,
            values={name: value for name, value in values.items() if value is not None},
            held=held,
            held_train=case.training[0] if scored else None,
            weight=weight,
            reliability=case.reliability if CLASSIFIED.met(case) else None,
        )


def name_in_reports(model: GenerativeModel) -> str:
    """The registered name, or that of the class."""
    try:
        return name_of(model)
    except LikelyError:
        return type(model).__name__


@contextlib.contextmanager
def _evaluation_mode(model: GenerativeModel) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
