"""Plan: everything that a fit is asked to do, checked once; its fields are the run's configuration."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from torch.nn.utils.parametrize import is_parametrized

from likely.contract.abilities import FitsByEpochs
from likely.contract.model import GenerativeModel
from likely.contract.options import NonNegativeInt, Positive, Range, check_values
from likely.contract.training import Recipe
from likely.core.errors import LikelyError
from likely.core.numbers import plain, whole

BATCH_ENTRIES = 1 << 17  # numbers in a batch, unless its size is given
# Of discrete models on an energy, whose gradients are noisy, and whose rows are never seen twice;
# the annealing is the part of the budget from infinite temperature to the target's.
REINFORCE = {"annealing": 0.2, "batch": 1024, "weight_decay": 0.0}
ENERGY_OPTIONS = {"gradient", "annealing", "energy_cut", "pilot"}


@dataclass(frozen=True)
class Plan(Recipe):
    """The options of `fit`, all decided, on top of what a family recommends.

    Raises
    ------
    LikelyError
        If an option is out of range, or there are two budgets.
    """

    epochs: int | None = None
    minutes: Positive | None = None
    seed: NonNegativeInt = 0
    early_stopping: bool = True
    device: str = "auto"
    devices: int = 1
    accumulate: int = 1
    precision: Literal["32-true", "64-true", "bf16-mixed"] = "32-true"
    compile: bool = False
    gradient: Literal["path", "reparametrised", "reinforce"] | None = None
    annealing: Annotated[float, Range(0, 1)] = 0.0
    energy_cut: float | None = None
    pilot: bool = False

    def __post_init__(self) -> None:
        check_values("fit", vars(self), get_type_hints(type(self), include_extras=True), {})
        one_budget(self.steps, self.epochs, self.minutes)

    @classmethod
    def of(
        cls,
        model: GenerativeModel,
        rows: int | None,
        options: dict[str, Any],
        energy: bool = False,
    ) -> Self:
        """The plan of a model's fit to so many rows, an energy or both: given options, and defaults.

        Raises
        ------
        LikelyError
            If an option is out of range, or not for this model.
        """
        given = {name: plain(value) for name, value in options.items() if value is not None}
        recipe = asdict(model.recipe)
        if energy:
            recipe["gradient"] = model.energy_gradients[0]
            recipe |= REINFORCE if model.domain.discrete else {}
        elif wrong := given.keys() & ENERGY_OPTIONS:
            raise LikelyError(f"{sorted(wrong)[0]}: this is for a fit to an energy, not to rows")
        hints = get_type_hints(cls)
        integers = [name for name in given if int in (hints[name], *get_args(hints[name]))]
        given |= {name: whole(name, given[name]) for name in integers}
        if rows is not None:
            recipe["batch"] = min(recipe["batch"], max(32, rows // 8))
        recipe["batch"] = min(recipe["batch"], max(16, BATCH_ENTRIES // model.domain.size))
        if given.keys() & {"epochs", "minutes"}:
            recipe["steps"] = None  # a family's own budget is for those who name none
        plan = cls(**recipe | given)
        plan._check_model(model, rows)
        if energy and plan.gradient not in model.energy_gradients:
            raise LikelyError(
                f"gradient={plan.gradient!r}: {type(model).__name__} has {', '.join(model.energy_gradients)}"
            )
        return plan

    def _check_model(self, model: GenerativeModel, rows: int | None) -> None:
        if self.devices > 1 and any(is_parametrized(module) for module in model.modules()):
            raise LikelyError("devices: a model with parametrized layers trains in one process")
        by_gradients = {"devices": self.devices > 1, "compile": self.compile}
        by_gradients["accumulate"] = self.accumulate > 1
        for option, on in by_gradients.items():
            if on and isinstance(model, FitsByEpochs):
                raise LikelyError(
                    f"{type(model).__name__} is not trained by gradients: leave out {option}"
                )
        if self.compile and model.derivative_in_loss:
            raise LikelyError("compile: torch cannot follow the derivative in this model's loss")
        for option, parts in (("devices", self.devices), ("accumulate", self.accumulate)):
            if min(self.batch, rows or self.batch) < parts:
                raise LikelyError(f"{option}={parts}, but a batch has fewer rows than that")


def one_budget(steps: int | None, epochs: int | None, minutes: float | None) -> dict[str, float]:
    """The budget that is given, by its unit, if any; a `LikelyError` for two, or one of 0 or less."""
    units = {"steps": steps, "epochs": epochs, "minutes": minutes}
    budget = {unit: value for unit, value in units.items() if value is not None}
    if len(budget) > 1:
        raise LikelyError("give one budget: steps, epochs or minutes")
    for unit, value in budget.items():
        if not value > 0:
            raise LikelyError(f"{unit} must be above 0, not {value}")
    return budget
