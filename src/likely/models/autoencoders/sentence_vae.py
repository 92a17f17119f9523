"""Sentence VAE: a variational autoencoder of texts with a recurrent encoder and decoder.

    p(x|z) = Π_t softmax(V h_t + b)[x_t],      h_t = GRU(h_{t−1}, [e(x_{t−1}), z])

(Bowman, Vilnis, Vinyals, Dai, Jozefowicz & Bengio 2016, arXiv:1511.06349). A decoder that sees all words
before may do without z, so that KL(q(z|x)‖p(z)) vanishes. Against that: in training, words that the decoder
sees are replaced by `<unk>` (the same, section 3.1); the weight of the divergence rises from zero, once or
in cycles (Fu et al. 2019, arXiv:1903.10145); and some of it is free (Kingma et al. 2016, arXiv:1606.04934).
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import (
    Batch,
    NonNegative,
    NonNegativeInt,
    Positive,
    Range,
    Recipe,
    Rows,
    register,
)
from likely.contract.inputs import accept_inside, map_chunks
from likely.core.columns import Categorical
from likely.core.domain import Domain
from likely.core.likelihood import Estimator
from likely.core.words import UNKNOWN
from likely.models.autoencoders.base import Codes
from likely.models.autoencoders.posteriors import GaussianPosterior, Posterior
from likely.models.autoencoders.vae import VAE
from likely.nets.convolutional import Shape
from likely.nets.heads import choose, sharpened
from likely.nets.heads.discrete import PSEUDOCOUNT
from likely.nets.mlp import with_context
from likely.nets.recurrent import at_every_step

NUMBERS = 1 << 24  # of states, and of logits, that are held at a time

Symbols = Int[Tensor, "n t"]


@register(
    "sentence-vae",
    title="variational autoencoder of texts",
    constraint="an ordering of the symbols, sampled one after the other, given `latent` Gaussian variables",
    paper="Bowman et al. 2016, arXiv:1511.06349",
)
class SentenceVAE(VAE):
    """Variational autoencoder of texts, or other sequences of categories; GRUs encode and decode.

    What follows the end of a text has probability 1, and the end itself counts as a symbol. `decode`,
    `reconstruct` and `interpolate` take the likeliest symbol at each step.

    Parameters
    ----------
    domain : Domain
        Texts, or sequences of categories of one kind.
    context : Domain, optional
        It goes into every step of encoder and decoder.
    latent : int
        Number of latent variables; they go into every step of the decoder.
    hidden : int
        Units of each GRU.
    embedding : int
        Width of the learned embeddings of the symbols.
    word_dropout : float
        Part of the symbols that the decoder does not see in training: `<unk>`, or an additional symbol
        where the domain lacks it, takes their place. At 1 it sees z and the position only.
    beta : float
        Weight of the KL divergence in the loss; 1 trains on the ELBO.
    warm_up : int
        Steps over which that weight rises from zero.
    anneal : {"linear", "cyclical"}
        Whether it rises once, or anew after every two times `warm_up` steps.
    free_bits : float
        KL divergence in nats that each latent variable has for free, as in `VAE`.

    Examples
    --------
    >>> import torch
    >>> import likely as lk
    >>> lines = ["the cat sat.", "the dog sat.", "a cat ran!", "a dog ran!"] * 10
    >>> data = lk.load_data(lines, words=True)
    >>> model = lk.autoencoders.SentenceVAE(data.domain, latent=2, hidden=16, embedding=8)
    >>> history = lk.fit(model, data, steps=20)
    >>> x = torch.stack([data.domain.text_row(line) for line in lines[:2]])
    >>> model.interpolate(x[:1], x[1:], steps=5).shape
    torch.Size([1, 5, 4])
    """

    accepts = frozenset({Categorical})
    of_one_kind = True
    recipe = Recipe(batch=64, rate=3e-3, weight_decay=0.01, clip=5.0)
    encoder: "Encoder"  # type: ignore[assignment]
    decoder: "Decoder"  # type: ignore[assignment]
    validation: ClassVar[dict[str, Any]] = {"draws": 1}

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        context_encoder: nn.Module | str | None = None,
        latent: int = 16,
        hidden: int = 256,
        embedding: int = 128,
        word_dropout: Annotated[float, Range(0, 1)] = 0.25,
        beta: NonNegative = 1.0,
        warm_up: NonNegativeInt = 200,
        anneal: Literal["linear", "cyclical"] = "linear",
        free_bits: NonNegative = 0.25,
    ) -> None:
        self.width = embedding  # which `_build` needs
        weights: dict[str, Any] = {"beta": beta, "warm_up": warm_up, "free_bits": free_bits}
        super().__init__(
            domain,
            context=context,
            context_encoder=context_encoder,
            latent=latent,
            hidden=(hidden,),
            network="mlp",
            **weights,
        )
        self.word_dropout, self.anneal = word_dropout, anneal

    def _build(
        self, hidden: Sequence[int] | None, shape: Shape | None, grid: int | None = None
    ) -> None:
        assert hidden is not None
        levels, (units,) = self.heads.sizes[0], hidden
        alphabet = self.domain.alphabet or ()
        self.end = len(alphabet) if self.domain.ends else None
        self.start, dropped = levels, levels + 1
        self.dropped = alphabet.index(UNKNOWN) if UNKNOWN in alphabet else dropped
        given = self.context_size
        self.encoder = Encoder(levels, self.width, given, units, self._encoder_outputs(), self.end)
        self.decoder = Decoder(levels, self.width, self.latent + given, units)

    @torch.no_grad()
    def _initial(self, batch: Batch) -> Float[Tensor, " levels"]:
        codes = batch.x.flatten(1).long()
        counted = before_end(codes, self.end).double()
        if batch.weight is not None:
            counted *= batch.weight.double()[:, None]
        count = counted.new_full((self.start,), PSEUDOCOUNT)
        count.index_add_(0, codes.flatten(), counted.flatten())
        return (count / count.sum()).log()

    # q(z|x) and its divergence from p(z).

    def _posterior(self, x: Tensor, context: Tensor | None) -> Posterior:
        return self._posterior_of(x.flatten(1).long(), context)

    def _beta(self, step: int) -> float:
        if self.anneal == "cyclical" and self.warm_up:
            step %= 2 * self.warm_up
        return super()._beta(step)

    def kl(self, x: Rows, context: Tensor | None = None) -> Float[Tensor, " n"]:
        """KL(q(z|x)‖p(z)) of each row, in nats: near 0 for all rows, the decoder makes no use of codes.

        Raises
        ------
        DataError
            As in `encode`.
        """

        def divergence(x: Tensor, context: Tensor | None) -> Tensor:
            q = self._posterior(x, context)
            assert isinstance(q, GaussianPosterior)
            return q.divergence().sum(1)[None]

        return map_chunks(self, divergence, accept_inside(self, x), context)[0]

    def estimator(self, *, seed: int | None = None, draws: int = 8) -> Estimator:
        """As that of `VAE`, with fewer draws: each is a pass through all words of a text."""
        return super().estimator(seed=seed, draws=draws)

    # log p(x|z).

    def _log_prob_given(
        self, x: Tensor, z: Codes, context: Tensor | None, dropout: float = 0.0
    ) -> Float[Tensor, " n"]:
        codes = x.flatten(1).long()
        rows = max(1, NUMBERS // (4 * self.decoder.net.hidden_size * codes.shape[1]))
        parts = []
        for start in range(0, max(1, len(codes)), rows):
            at = slice(start, start + rows)
            part = None if context is None else context[at]
            parts.append(self._log_prob_of(codes[at], z[at], part, dropout))
        return torch.cat(parts)

    def _log_prob_in_training(
        self, x: Tensor, z: Codes, context: Tensor | None
    ) -> Float[Tensor, " n"]:
        dropout = self.word_dropout if self.training else 0.0
        return self._log_prob_given(x, z, context, dropout)

    def _log_prob_of(
        self, codes: Symbols, z: Codes, context: Tensor | None, dropout: float
    ) -> Float[Tensor, " n"]:
        counted = before_end(codes, self.end)
        ended = counted if self.end is None else counted | (codes == self.end)
        longest = max(1, int(counted.any(0).sum()))
        codes, counted = codes[:, :longest], counted[:, :longest]
        inputs = F.pad(codes[:, :-1], (1, 0), value=self.start)
        if dropout:
            unseen = torch.rand(inputs.shape, device=inputs.device) < dropout
            inputs = torch.where(unseen & (inputs != self.start), self.dropped, inputs)
        h = self.decoder(inputs, with_context(z, context))[0]
        # Most of the time goes into logits over many words: none are computed after the ends.
        some = max(1, NUMBERS // self.start)
        parts = zip(h[counted].split(some), codes[counted].split(some), strict=True)
        nats = torch.cat(
            [F.cross_entropy(self.decoder.logits(h), x, reduction="none") for h, x in parts]
        )
        terms = torch.zeros_like(counted, dtype=nats.dtype).masked_scatter(counted, nats)
        return torch.where(ended.all(1), -terms.sum(1), -torch.inf)

    # Step by step.

    def _decoded(self, z: Codes, context: Tensor | None) -> Tensor:
        return self._write(z, context, lambda logits: logits.argmax(-1))

    def _sample(
        self,
        n: int,
        context: Tensor | None,
        *,
        temperature: Positive = 1.0,
        top_k: int | None = None,
        top_p: Annotated[float, Range(0, 1, open="low")] | None = None,
    ) -> Tensor:
        """Draw a code, and then symbols, from their conditionals or sharper distributions.

        Parameters
        ----------
        temperature, top_k, top_p
            As for models of sequences such as `RNN`.
        """
        z = self._sample_code(n, context)
        return self._write(
            z, context, lambda logits: choose(sharpened(logits, temperature, top_k, top_p))
        )

    @torch.no_grad()
    def _write(
        self, z: Codes, context: Tensor | None, pick: Callable[[Tensor], Tensor]
    ) -> Int[Tensor, "n *shape"]:
        """Texts of codes, whose symbols are picked by their logits; the state is carried along."""
        size, given, state = self.domain.size, with_context(z, context), None
        x = torch.full((len(z), size), self.end or 0, device=z.device)
        rows = torch.arange(len(z), device=z.device)
        symbol = torch.full_like(rows, self.start)
        for t in range(size if len(z) else 0):
            h, state = self.decoder(symbol[:, None], given, state)
            symbol = pick(self.decoder.logits(h[:, 0]))
            x[rows, t] = symbol
            if self.end is not None and len(on := (symbol != self.end).nonzero()[:, 0]) < len(rows):
                if not len(on):
                    break
                rows, symbol, given, state = rows[on], symbol[on], given[on], state[:, on]
        return x.unflatten(1, self.domain.shape)


class Encoder(nn.Module):
    """From a text to a vector: a linear function of the state after its last symbol."""

    def __init__(
        self, levels: int, width: int, context: int, hidden: int, outputs: int, end: int | None
    ) -> None:
        super().__init__()
        self.end = end
        self.embedding = nn.Embedding(levels, width)
        self.net = nn.GRU(width + context, hidden, batch_first=True)
        self.output = nn.Linear(hidden, outputs)

    def forward(self, x: Symbols, context: Tensor | None) -> Float[Tensor, "n outputs"]:
        last = before_end(x, self.end).sum(1) - 1
        x = self.embedding(x[:, : int(last.max()) + 1] if len(x) else x)
        h, _ = self.net(at_every_step(x, context))
        return self.output(h[torch.arange(len(h), device=h.device), last])


class Decoder(nn.Module):
    """From symbols, of which one stands before the first, and what is given to the states after them.

    A `bias` of each logit lets training start at the frequencies of the symbols.
    """

    def __init__(self, levels: int, width: int, given: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(levels + 2, width)  # the start, and what is dropped
        self.net = nn.GRU(width + given, hidden, batch_first=True)
        self.output = nn.Linear(hidden, levels, bias=False)
        self.bias = nn.Parameter(torch.zeros(levels))

    def forward(
        self, x: Symbols, given: Float[Tensor, "n given"], state: Tensor | None = None
    ) -> tuple[Float[Tensor, "n t hidden"], Float[Tensor, "1 n hidden"]]:
        return self.net(at_every_step(self.embedding(x), given), state)

    def logits(self, h: Float[Tensor, "m hidden"]) -> Float[Tensor, "m levels"]:
        return self.output(h) + self.bias


def before_end(x: Symbols, end: int | None) -> Bool[Tensor, "n t"]:
    """Which symbols belong to a text: all up to the first end, itself included."""
    if end is None:
        return torch.ones_like(x, dtype=torch.bool)
    ends = x == end
    return ends.cumsum(1) - ends.long() == 0
