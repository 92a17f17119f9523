"""What only some models can, as protocols: `isinstance(model, Completes)` says whether one can."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from likely.contract.training import Batch

# Verbs that users look for in any model, and who has them.
VERBS = {
    "complete": "autoregressive models and Gaussian mixtures",
    "encode": "autoencoders and infogan",
    "decode": "autoencoders",
    "interpolate": "autoencoders",
    "reconstruct": "autoencoders",
    "generate": "models of sequences",
    "recall": "Hopfield networks",
    "translate": "a CycleGAN",
    "mix_styles": "stylegan",
    "classify": "classifiers and jem",
}


@runtime_checkable
class Completes(Protocol):
    """Fills what a mask leaves open by draws from the conditional."""

    def complete(
        self, x: Tensor, known: Tensor, *, context: Tensor | None = None, seed: int | None = None
    ) -> Tensor:
        """Fill what the mask `known` leaves open.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
            Known entries are returned as they are; open ones may hold anything, NaN too.
        known : Tensor of bool, shape (n, *domain.shape) or (*domain.shape,)
        context : Tensor, optional
            As in `GenerativeModel.sample`.
        seed : int, optional
            The same seed gives the same draws.

        Raises
        ------
        DataError
            If a shape is wrong, or a known entry lies outside the domain.
        """
        ...


@runtime_checkable
class Encodes(Protocol):
    """Has codes of rows, and rows of codes."""

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor: ...

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor: ...

    def traverse(
        self, x: Tensor, steps: Sequence[float], context: Tensor | None = None
    ) -> tuple[list[int], Tensor]: ...


@runtime_checkable
class Classifies(Protocol):
    """Has the probabilities p(y|x) of the classes y of rows x."""

    def classify(self, x: Any) -> Tensor:
        """Probabilities of the classes.

        Parameters
        ----------
        x : Tensor, shape (n, *shape)
            The rows, by whatever name the model knows them: those of its domain if it models p(x, y),
            those of its context if it models p(y|x).

        Returns
        -------
        Tensor, shape (n, classes)

        Raises
        ------
        DataError
            If x has the wrong shape, or lies outside its domain.
        """
        ...


@runtime_checkable
class MixesStyles(Protocol):
    """Has images of the coarse styles of one sample and the fine ones of another."""

    def mix_styles(self, n: int, *, context: Any = None, seed: int | None = None) -> Tensor: ...


@runtime_checkable
class Translates(Protocol):
    """Translates rows of its context into rows of its domain, and back, without having seen pairs."""

    def translate(self, x: Any, *, back: bool = False) -> Tensor: ...

    def cycle_errors(self, x: Any, *, back: bool = False, seed: int | None = None) -> Any: ...


@runtime_checkable
class FitsByEpochs(Protocol):
    """Is not trained by gradients, but by passes over the data."""

    converged: bool

    def epoch(self, batches: Iterable[Batch]) -> dict[str, float]: ...


@runtime_checkable
class Calibrates(Protocol):
    """Sets at the end of a fit what rows must say that it was not trained on, as a temperature."""

    def calibrate(self, batch: Batch) -> None: ...


@runtime_checkable
class Reparametrised(Protocol):
    """Draws by a differentiable map of noise, so that it can be trained on an energy."""

    def rsample_with_log_prob(
        self, n: int, *, context: Any = None, seed: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draws and their log-density, both with gradients in the parameters.

        Parameters
        ----------
        n : int
        context, seed
            As in `GenerativeModel.sample`.

        Returns
        -------
        Tensor, shape (n, *domain.shape), and Tensor, shape (n,)
            Nats; of a continuous flow, up to the error of its integration.

        Raises
        ------
        DensityError
            If columns are dequantised.
        DataError
            If the context is missing, not wanted, or outside its domain.
        """
        ...


@runtime_checkable
class Generates(Protocol):
    """Makes rows of standard normal numbers, by a map that torch can differentiate."""

    @property
    def normals(self) -> int | None:
        """How many numbers a row takes; None where this model, as it was built, has no such map."""
        ...

    def generate(self, z: Tensor) -> Tensor:
        """The rows of numbers of shape (n, normals), in the units of the data."""
        ...


@runtime_checkable
class HasConditionals(Protocol):
    """Has a log-probability of each entry given those before it."""

    in_order: bool  # whether those before are those of the rows themselves

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class HasPIT(Protocol):
    """Has a probability integral transform: numbers that are uniform where the model is right."""

    def pit(self, x: Tensor, context: Tensor | None = None) -> Tensor: ...
