"""Classifiers: a network's logits of the classes, and a temperature.

    p(y|x) = softmax(f(x) / T)_y

f minimises −log p(y|x) at T = 1, the cross-entropy. T then minimises it on rows that f has not seen, for
networks are too sure of what they have (Guo, Pleiss, Sun & Weinberger 2017, arXiv:1706.04599, sec. 4.2).
With a single layer this is logistic regression.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, Range, register
from likely.contract.inputs import context_features
from likely.core.columns import Binary, Categorical, Discrete, Integer, Spin
from likely.core.domain import Domain
from likely.core.errors import DataError
from likely.models.discriminative.base import Discriminative
from likely.nets.convolutional import Network
from likely.nets.heads import ColumnHeads, Softmax, regularised_temperature


@register(
    "classifier",
    title="classifier: softmax of a network",
    constraint="one column of classes, given a context",
    paper="Guo et al. 2017, arXiv:1706.04599 (temperature)",
)
class Classifier(Discriminative):
    """p(y|x) of classes y: softmax of a network of x, a perceptron or, of images, convolutions.

    `domain` is one column of classes and `context` where x lives: `lk.load_data(…, predict="label")`
    makes such data. `classify(x)` gives the probabilities of all classes, `log_prob(y, x)` exact
    conditional log-likelihoods.

    Parameters
    ----------
    domain : Domain
        One column of at least two classes: categories, or integers with few levels.
    context : Domain
        Any; images with pixels of one kind pass a convolutional network.
    hidden : sequence of int, optional
        Widths of the hidden layers; if they are convolutional, channels at half the resolution, at a
        quarter …. None takes (128, 128), or (32, 64) channels; () is logistic regression.
    network : {"auto", "mlp", "convolutional"}
        Convolutions are for images with pixels of one kind; "auto" takes them there.
    calibrated : bool
        Whether `fit` ends by choosing the temperature on the validation split. It changes no order of
        the classes.

    Raises
    ------
    DomainError
        If the domain is not one column of classes, or there is no context.
    LikelyError
        If convolutions are asked for where there are no images.

    Attributes
    ----------
    temperature : Tensor, shape ()
        T; above 1 where the network was too sure.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits", predict="label")
    >>> model = lk.discriminative.Classifier(data.domain, context=data.context)
    >>> history = lk.fit(model, data, steps=20)
    >>> model.classify(data.test.context[:5]).shape
    torch.Size([5, 10])
    >>> model.log_prob(data.test.x[:5], data.test.context[:5]).shape
    torch.Size([5])
    """

    accepts = frozenset({Categorical, Binary, Integer, Spin})

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        hidden: Annotated[Sequence[int], Range(1)] | None = None,
        network: Network = "auto",
        calibrated: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(domain, context=context, **options)
        self.heads = ColumnHeads(domain, head_of=lambda _: Softmax)
        self.calibrated = calibrated
        self.temperature = nn.Buffer(torch.ones(()))
        self._build(sum(self.heads.sizes), hidden, network)

    @classmethod
    def obstacle(cls, domain: Domain) -> str | None:
        if found := super().obstacle(domain):
            return found
        if domain.size > 1:
            return (
                f"{domain.size} columns, but one of classes, from lk.load_data(…, predict=COLUMN) "
                "(--predict COLUMN)"
            )
        column = domain.column(0)
        one = isinstance(column, Discrete) and column.levels == 1
        return "one class only: there is nothing to tell" if one else None

    def prepare(self, batch: Batch) -> None:
        """Take scales from the training split, and start at the frequencies of the classes.

        Raises
        ------
        DataError
            If all rows are of one class.
        """
        if (batch.x == batch.x[:1]).all():
            label = self.domain.frame(batch.x[:1]).iloc[0, 0]
            raise DataError(
                f"every training row has the class {label!r}: there is nothing to tell; give rows of others"
            )
        super().prepare(batch)
        self.heads.start(self.last, batch.x, batch.weight)

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p(y|x) at T = 1."""
        logits = self.net(context_features(self, batch.context, len(batch)))
        return -self.heads.log_prob(logits, batch.x).sum(1)

    def load_training_state(self, state: dict[str, Any]) -> None:
        self.temperature.fill_(1)  # another one belongs to the weights before this training

    @torch.no_grad()
    def calibrate(self, batch: Batch) -> None:
        """Choose the temperature on rows of the validation split."""
        if not self.calibrated:
            return
        logits = self._logits(batch.context)
        code = self.heads.heads[0].code(batch.x.flatten(1))[:, 0]  # type: ignore[operator]
        self.temperature.fill_(regularised_temperature(logits, code, batch.weight))

    def classify(self, x: Any) -> Float[Tensor, "n classes"]:
        """Probabilities of the classes.

        Parameters
        ----------
        x : Tensor, shape (n, *context.shape)
            The result is differentiable in x where x requires gradients, and never in the parameters.

        Returns
        -------
        Tensor, shape (n, classes)

        Raises
        ------
        DataError
            If x has the wrong shape, or lies outside its domain.
        """
        wanted = isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled()
        with torch.set_grad_enabled(wanted):
            return (self._logits(x) / self.temperature).softmax(1)

    def _logits(self, x: Any) -> Float[Tensor, "n classes"]:
        """Logits at T = 1 of rows of the context."""
        return torch.cat([self.net(part) for part in self._seen(x)])

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self.heads.log_prob(self.net(context) / self.temperature, x).sum(1)

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        return self.heads.sample(self.net(context) / self.temperature)
