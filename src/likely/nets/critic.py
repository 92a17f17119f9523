"""Critics: networks that learn to tell two sets of rows apart."""

import contextlib
from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from likely.nets.convolutional import ImageEncoder, Shape, leaky_relu
from likely.nets.mlp import MLP, with_context

CODE = 128  # numbers that a critic's convolutions make of an image


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """What is computed inside has no gradient with respect to the module's parameters."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class Critic(nn.Module):
    """f(u, c): one number for each row; an image passes convolutions first.

    Parameters
    ----------
    inputs : int
        Columns of u.
    context : int
        Columns of c.
    hidden : sequence of int
        Widths of layers, or channels.
    image : (channels, height, width), optional
    """

    def __init__(
        self, inputs: int, context: int, hidden: Sequence[int], image: Shape | None
    ) -> None:
        super().__init__()
        if image is None:
            self.encoder, self.head = None, MLP(inputs + context, 1, hidden, leaky_relu)
        else:
            self.encoder = ImageEncoder(image, CODE, hidden)
            self.head = MLP(CODE + context, 1, (CODE,), leaky_relu)

    def forward(
        self, u: Float[Tensor, "n inputs"], context: Float[Tensor, "n context"] | None
    ) -> Float[Tensor, " n"]:
        h = u if self.encoder is None else leaky_relu(self.encoder(u))
        return self.head(with_context(h, context)).squeeze(1)
