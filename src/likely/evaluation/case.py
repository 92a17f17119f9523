"""A model on one split of the data: what several measures share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from likely.contract.abilities import Encodes, HasConditionals, Translates
from likely.contract.model import GenerativeModel
from likely.contract.training import Batch
from likely.contract.views import Features
from likely.core.likelihood import Figure, Likelihood
from likely.data import Data, Split
from likely.evaluation.classes import class_log_prob, labelled
from likely.evaluation.classifier import (
    ClassificationAccuracy,
    ClassifierTest,
    classification_accuracy,
    classifier_test,
)
from likely.evaluation.images import FeatureExtractor, ImageClassifier
from likely.evaluation.likelihood import forward_kl, held_out, reverse_kl, subset
from likely.evaluation.modes import ModeCoverage, mode_coverage
from likely.evaluation.neighbours import Memorisation, Neighbours, memorisation, neighbours
from likely.evaluation.prediction import explained
from likely.evaluation.reliability import Reliability, reliability
from likely.evaluation.resampling import thinned
from likely.evaluation.speed import throughput
from likely.evaluation.text import bits_per_character, each_character_once, lengths
from likely.evaluation.two_sample import mmd
from likely.nets.convolutional import image_shape

if TYPE_CHECKING:
    from likely.fitting import History

KL_DRAWS = 20_000  # and for the modes
ROWS = 2000  # on each side of a distance …
NUMBERS = 1 << 24  # … or fewer, so that their features fit in this many numbers
SPEED_ROWS = 512  # sampled and scored at a time when the speed is measured
CLASSIFIED_COLUMNS = 256  # that the classifier sees; of more a random choice
DRAWN, MORE = 1, 2  # what real rows are compared with; they themselves come first


@dataclass
class Case:
    """A model and the data on which it is measured; what is expensive is computed once, if at all.

    Parameters
    ----------
    model : GenerativeModel
    data : Data
    split : str
    seed : int
    limit : int, optional
        At most this many rows are scored or drawn.
    history : History, optional
    given : FeatureExtractor, optional
    """

    model: GenerativeModel
    data: Data
    split: str
    seed: int
    limit: int | None
    history: "History | None"
    given: FeatureExtractor | None

    @property
    def held(self) -> Split:
        """The split on which the model is measured."""
        return getattr(self.data, self.split)

    def stream(self, purpose: str) -> int:
        """A seed of our own: draws must not repeat the random numbers that made the data."""
        return int(np.random.SeedSequence([self.seed, *purpose.encode()]).generate_state(1)[0])

    @cached_property
    def sample_seed(self) -> int:
        """Of draws that are compared with rows, and of these comparisons."""
        return self.stream("distances")

    # Likelihoods.

    @cached_property
    def scored(self) -> Tensor:
        """Numbers of the rows that are scored."""
        return subset(len(self.held), self.limit, self.seed)

    @cached_property
    def likelihood(self) -> tuple[Likelihood, Tensor | None]:
        """Log-likelihoods of the rows, and the weights of these."""
        return held_out(self.model, self.held, rows=len(self.scored), seed=self.seed)

    @cached_property
    def training(self) -> tuple[Likelihood, Tensor | None]:
        """The same of as many training rows."""
        return held_out(self.model, self.data.train, rows=len(self.scored), seed=self.seed)

    @property
    def in_order(self) -> bool:
        """Whether the rows are windows of a text that the model predicts in the text's order."""
        model, split = self.model, self.split
        follows = self.data.running and split != "train" and model.domain.size > 1
        return follows and isinstance(model, HasConditionals) and model.in_order

    def bits_per_character(self, once: bool) -> Figure:
        """Of the rows that were scored, or of each character of a running text."""
        if once:
            return each_character_once(self.model, self.held)
        return self.per_symbol(bits_per_character)

    def per_symbol(self, measure: Callable[..., Figure], ends: bool = True) -> Figure:
        """A measure of the likelihoods of texts, and of how many symbols they have."""
        batch = self.held.rows(self.scored)
        counts = lengths(self.model.domain, batch.x, ends).cpu()
        return measure(self.likelihood[0].value, counts, batch.weight)

    # Classes.

    @cached_property
    def classified(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Log-probabilities of classes of the rows that are scored, their classes, and their weights."""
        x, labels, weight = labelled(self.model, self.held.rows(self.scored))
        return class_log_prob(self.model, x), labels, weight

    def of_classes(self, measure: Callable[..., Any]) -> Any:
        log_p, labels, weight = self.classified
        return measure(log_p, labels, weight=weight) if len(labels) else None

    @cached_property
    def reliability(self) -> Reliability | None:
        return self.of_classes(reliability)

    # Against a known truth.

    @property
    def draws(self) -> int:
        return KL_DRAWS if self.limit is None else min(self.limit, KL_DRAWS)

    @cached_property
    def forward_kl(self) -> Likelihood:
        assert self.data.truth is not None
        return forward_kl(self.model, self.data.truth, draws=self.draws, seed=self.stream("truth"))

    @cached_property
    def reverse_kl(self) -> Likelihood:
        assert self.data.truth is not None
        return reverse_kl(self.model, self.data.truth, draws=self.draws, seed=self.stream("model"))

    @cached_property
    def modes(self) -> ModeCoverage:
        """Which modes of the truth the model's draws reach."""
        truth = self.data.truth
        assert truth is not None
        assert truth.modes is not None
        assert truth.mode_width is not None
        x = self.model.sample(self.draws, seed=self.stream("modes"))
        return mode_coverage(x, truth.modes, truth.mode_width, weights=truth.mode_weights)

    # Draws next to rows of the data.

    @cached_property
    def views(self) -> list[Features]:
        domains = [self.model.domain]
        if self.paired:
            assert self.model.context is not None
            domains.append(self.model.context)
        return [Features(domain).double() for domain in domains]

    @cached_property
    def real(self) -> Batch:
        """Rows of the split."""
        rows = min(self.limit or ROWS, ROWS, NUMBERS // max(1, sum(v.size for v in self.views)))
        return self.held.rows(subset(len(self.held), rows, self.seed))

    @cached_property
    def codes(self) -> Tensor:
        """Codes of the real rows."""
        model, batch = self.model, self.real.to(self.model.device)
        assert isinstance(model, Encodes)
        with torch.no_grad():
            return model.encode(batch.x, None if model.context is None else batch.context).cpu()

    @cached_property
    def factors(self) -> Tensor | None:
        """Labels of the real rows that the model does not see and that vary, if there are any."""
        context, labels = self.data.context, self.real.context
        if context is None or labels is None or self.model.context is not None:
            return None
        if not context.discrete or (labels == labels[:1]).all():
            return None
        return labels.flatten(1).cpu()

    @cached_property
    def sampled(self) -> Tensor:
        """As many draws of the model, in the contexts of the real rows."""
        context = self.real.context if self.model.context is not None else None
        return self.model.sample(len(self.real), context=context, seed=self.sample_seed).cpu()

    @cached_property
    def valid(self) -> Tensor:
        """Which draws lie in the domain."""
        return self.model.domain.contains(self.sampled)

    @cached_property
    def batches(self) -> tuple[Batch, Batch, Batch]:
        """Real rows, draws, and rows of another split.

        Draws outside the domain have weight 0, and are moved into it so that all can be computed.
        """
        domain, weight = self.model.domain, self.valid.double()
        if self.paired and self.real.weight is not None:
            weight *= self.real.weight
        mask = self.valid.reshape(-1, *[1] * len(domain.shape))
        x = torch.where(mask, self.sampled, domain.anchor.to(self.sampled))
        other = self.data.test if self.split == "train" else self.data.train
        more = other.rows(subset(len(other), len(self.real), self.seed))
        return self.real, Batch(x, self.real.context, weight), more

    @property
    def paired(self) -> bool:
        """Whether draws share their contexts with the real rows; of unpaired data nothing is shared."""
        return self.model.context is not None and not isinstance(self.model, Translates)

    @property
    def comparable(self) -> bool:
        """Whether any draw can be compared with the real rows."""
        return bool(self.valid.any() and self.batches[DRAWN].weight.any())  # type: ignore[union-attr]

    @cached_property
    def features(self) -> Sequence[Tensor]:
        """Standardised features of the batches, with one scale for all pixels of an image."""
        parts = self.real.x, self.real.context
        for view, part in zip(self.views, parts, strict=False):
            assert part is not None
            view.prepare(part, self.real.weight)
            varies = (part != part[:1]).flatten(1).any(0)
            if view.domain.layout == "image" and varies.any():  # rare pixels would outweigh others
                view.scale.fill_(view.scale[varies].square().mean().sqrt())
        return [self._seen(batch) for batch in self.batches]

    def _seen(self, batch: Batch) -> Tensor:
        return torch.cat(
            [v(z) for v, z in zip(self.views, (batch.x, batch.context), strict=False)], 1
        )

    @cached_property
    def extractor(self) -> FeatureExtractor:
        return FeatureExtractor(self.data) if self.given is None else self.given

    @cached_property
    def images(self) -> Sequence[Tensor]:
        """Learnt features of the batches."""
        return [self.extractor(batch.x) for batch in self.batches]

    def between(
        self, distance: Callable[..., Any], seen: Sequence[Tensor], other: int = DRAWN
    ) -> Any:
        """A distance of real rows from the draws, or from other rows, by what is seen of them."""
        x, y = self.batches[0], self.batches[other]
        options = {"paired": self.paired and other == DRAWN, "seed": self.sample_seed}
        return distance(seen[0], seen[other], weight_x=x.weight, weight_y=y.weight, **options)

    def table(self, distance: Callable[..., pd.DataFrame]) -> pd.DataFrame:
        """Distances of columns, with their floors."""
        rows = [batch.x for batch in self.batches]
        of = partial(distance, domain=self.model.domain)
        frame, floor = (self.between(of, rows, other) for other in (DRAWN, MORE))
        return frame.assign(floor=floor["value"], floor_stderr=floor["stderr"])

    # Measures that take rows without weights.

    def explained(self, by: int = DRAWN) -> Figure:
        """What trees know of the columns of real rows that learnt from other rows."""
        rows, held = (self.batches[at].x[self.kept[at]] for at in (by, 0))
        return explained(rows, held, self.model.domain)

    @cached_property
    def kept(self) -> Sequence[Tensor]:
        """Numbers of the rows of each batch that stand for its weighted ones."""
        weights = [torch.ones(len(b)) if b.weight is None else b.weight for b in self.batches]
        if self.paired:  # both rows of a pair, or neither
            weights[0] = weights[DRAWN]
        return [thinned(weight, self.sample_seed) for weight in weights]

    @cached_property
    def even(self) -> Sequence[Tensor]:
        return [seen[kept] for seen, kept in zip(self.features, self.kept, strict=True)]

    @cached_property
    def mmd(self) -> tuple[Figure, float]:
        x, y, _ = self.even
        return mmd(x, y, paired=self.paired, seed=self.sample_seed)

    @cached_property
    def classifier(self) -> ClassifierTest:
        """It sees the columns as they are: trees need no scales."""
        x, y = (self._columns(at, self.paired) for at in (0, DRAWN))
        return classifier_test(x, y, paired=self.paired, seed=self.sample_seed)

    def _columns(self, at: int, context: bool = False) -> Tensor:
        """Some columns of the rows that count of a batch, and of their contexts."""
        batch = self.batches[at]
        parts = [batch.x, batch.context] if context else [batch.x]
        whole = torch.cat([part.flatten(1).double() for part in parts if part is not None], 1)
        rng = np.random.default_rng(self.sample_seed)
        chosen = rng.permutation(whole.shape[1])[:CLASSIFIED_COLUMNS]
        return whole[:, np.sort(chosen)][self.kept[at]]

    def _pixels(self, at: int) -> Tensor:
        return self.batches[at].x.flatten(1).double()[self.kept[at]]

    @property
    def _image_classifier(self) -> ImageClassifier | None:
        shape = image_shape(self.model.domain)
        return None if shape is None else ImageClassifier(shape, seed=self.sample_seed)

    @cached_property
    def image_classifier(self) -> ClassifierTest:
        """It is trained once, since that takes long."""
        x, y, seed = self._pixels(0), self._pixels(DRAWN), self.sample_seed
        network = self._image_classifier
        return classifier_test(x, y, classifier=network, folds=1, paired=self.paired, seed=seed)

    @cached_property
    def classes(self) -> ClassificationAccuracy | None:
        """Of as many training rows and draws; None where there is one class only."""
        network = self._image_classifier
        rows = self._columns if network is None else self._pixels
        sets, labels = [], []
        for at in (MORE, DRAWN, 0):
            context = self.batches[at].context
            assert context is not None
            labels.append(context.flatten()[self.kept[at]])
            sets.append((rows(at), labels[-1]))
        if any(len(label.unique()) < 2 for label in labels):
            return None
        real, drawn, held = sets
        return classification_accuracy(real, drawn, held, classifier=network)

    @cached_property
    def memorised(self) -> Memorisation:
        (held, drawn, _), rows = self.even, self.data.train.subset(NUMBERS // 2, self.seed)
        return memorisation(drawn, self._seen(rows), held)

    @cached_property
    def neighbours(self) -> tuple[Neighbours, Neighbours]:
        """Of the draws, and of the other rows in their place."""
        (x, y, z), seed = self.even, self.sample_seed
        return neighbours(x, y, paired=self.paired, seed=seed), neighbours(x, z, seed=seed)

    # Translations.

    @cached_property
    def cycles(self) -> Any:
        """How rows return from their translations."""
        assert isinstance(self.model, Translates)
        return self.model.cycle_errors(self.real.context, seed=self.sample_seed)

    # Costs.

    def speed(self, verb: str) -> Figure:
        """Rows a second of sampling or scoring."""
        n = SPEED_ROWS if self.limit is None else min(self.limit, SPEED_ROWS)
        batch = self.held.rows(torch.arange(n) % len(self.held))
        model, seed = self.model, self.seed
        context = batch.context if model.context is not None else None
        if verb == "sampling":
            return throughput(lambda: model.sample(n, context=context, seed=seed), n)
        return throughput(lambda: model.log_likelihood(batch.x, context, seed=seed).value, n)
