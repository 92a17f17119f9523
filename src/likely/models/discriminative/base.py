"""What discriminative models share: their network."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from likely.contract import GenerativeModel, Recipe
from likely.contract.inputs import as_rows, chunks
from likely.contract.networks import Encoded
from likely.contract.views import Columns, RealView
from likely.core.columns import Periodic
from likely.nets.convolutional import ImageEncoder, Network, image_shape_for
from likely.nets.mlp import MLP


class Discriminative(GenerativeModel):
    """p(y|x): the domain is what is predicted, y, and the context what it is predicted from, x."""

    needs_context = True
    recipe = Recipe(batch=128, rate=2e-3, weight_decay=0.1, ema=0.995)

    def _build(self, outputs: int, hidden: Sequence[int] | None, network: Network) -> None:
        """Make `net`, the network of the context, or of what an encoder makes of it."""
        context = self.context
        assert context is not None
        pixels = len(context.groups) == 1 and context.kinds <= RealView.accepts - {Periodic}
        encoded = isinstance(self.context_features, Encoded)
        shape = None if encoded else image_shape_for(context, network, alike=pixels)
        self.net: nn.Module
        if shape is None:
            self.net = MLP(self.context_size, outputs, (128, 128) if hidden is None else hidden)
        else:  # one number of each pixel, and one scale for all
            self.context_features = Columns(context, "pixels")  # type: ignore[assignment]
            widths = (32, 64) if hidden is None else hidden
            self.net = ImageEncoder(shape, outputs, widths, blocks=1)

    @property
    def last(self) -> nn.Linear:
        """The layer of outputs."""
        return self.net.layers[-1] if isinstance(self.net, MLP) else self.net.last  # type: ignore[return-value]

    def _seen(self, x: Any) -> Iterator[Tensor]:
        """Features of rows of the context that a user gives, by chunks."""
        assert self.context is not None
        assert self.context_features is not None
        x = as_rows(x, self.context, "x").to(self.device)
        self.context.check(x, "x")
        for at in chunks(self.domain, len(x), self.context) or [slice(0)]:
            yield self.context_features(x[at])
