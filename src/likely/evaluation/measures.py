"""The catalogue of measures: what each is called, what it means, what it needs, how it is computed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from likely.contract.abilities import Encodes, Translates
from likely.core.columns import Binary, Discrete, Integer
from likely.core.likelihood import Figure, Kind
from likely.evaluation.case import DRAWN, MORE, Case
from likely.evaluation.classes import classifies
from likely.evaluation.disentanglement import active_units, mutual_information_gap
from likely.evaluation.images import frechet_distance
from likely.evaluation.marginals import marginal_distances, pair_distances
from likely.evaluation.reliability import accuracy, brier_score, fitted_temperature, log_loss
from likely.evaluation.resampling import weight_of
from likely.evaluation.text import nats_per_symbol, perplexity
from likely.evaluation.two_sample import energy_distance, kernel_distance, sliced_wasserstein

FEWEST_ROWS = 20  # for tests and neighbours
TABLE_COLUMNS = 64  # of the widest vector whose columns and pairs of columns are compared


class Need(NamedTuple):
    """What a measure needs, in words and as a condition."""

    what: str
    met: Callable[[Case], bool]


@dataclass(frozen=True)
class Measure:
    """One figure of an `Evaluation`.

    Attributes
    ----------
    name : str
        Of the attribute of an `Evaluation`, and in files.
    title, unit, meaning : str
        For readers. Without a title the figure is in no table.
    need : Need
    value : callable (Case) -> Figure, number, text or table
        None where there is nothing to say.
    floor : callable (Case) -> Figure, optional
        The same between training rows and rows of the split: the level at which a model's draws
        cannot be told from data. Its name is `…_floor`.
    sign : int
        1 for sums of log-likelihoods, −1 for sums of minus these, else 0.
    better : str
        "higher" or "lower", where figures rank models.
    text : callable
        The value in a table; an empty one leaves the row out.
    """

    name: str
    title: str
    unit: str
    meaning: str
    need: Need
    value: Callable[[Case], Any]
    floor: Callable[[Case], Any] | None = None
    sign: int = 0
    better: str = ""
    text: Callable[[Any], str] = str

    def kind(self, density: Kind) -> Kind | None:
        """The kind of the figure, of a model whose log-likelihoods have the given kind."""
        return {1: density, -1: density.opposite}.get(self.sign)


def _known(case: Case, *parts: str) -> bool:
    """Whether parts of the truth are known, and the model, like the truth, has no context."""
    known = all(getattr(case.data.truth, part, None) is not None for part in parts)
    return known and case.model.context is None


ANY = Need("", lambda case: True)
DENSITY = Need("a likelihood of any kind", lambda case: case.model.density != Kind.NONE)
LEVELS = Need(
    "a likelihood of whole numbers",
    lambda case: DENSITY.met(case) and case.model.domain.kinds <= {Integer, Binary},
)
TEXT = Need(
    "a likelihood of texts of characters",
    lambda case: (
        DENSITY.met(case) and case.model.domain.alphabet is not None and not case.model.domain.words
    ),
)
WORDS = Need(
    "a likelihood of texts of words",
    lambda case: DENSITY.met(case) and case.model.domain.words,
)
TRUTH = Need(
    "a density, no context, and a truth that is known",
    lambda case: DENSITY.met(case) and _known(case, "sample", "log_prob"),
)
MODES = Need(
    "no context, and a truth whose modes are known",
    lambda case: _known(case, "modes", "mode_width"),
)
UNWEIGHTED = Need(
    f"{FEWEST_ROWS} rows on either side that stand for the weighted ones",
    lambda case: min(map(len, case.kept)) >= FEWEST_ROWS,
)
NEW = Need(
    f"{UNWEIGHTED.what}, and a split that was not trained on",
    lambda case: UNWEIGHTED.met(case) and case.split != "train",
)
IMAGES = Need("images", lambda case: case.comparable and case.model.domain.layout == "image")
TABLE = Need(
    f"a table of at most {TABLE_COLUMNS} columns",
    lambda case: (
        case.comparable
        and case.model.domain.layout == "vector"
        and case.model.domain.size <= TABLE_COLUMNS
    ),
)
EVEN_TABLE = Need(
    f"a table of 2 to {TABLE_COLUMNS} columns, {UNWEIGHTED.what}",
    lambda case: TABLE.met(case) and len(case.model.domain.moving) > 1 and UNWEIGHTED.met(case),
)
EVEN_IMAGES = Need(
    f"images, {UNWEIGHTED.what}", lambda case: IMAGES.met(case) and UNWEIGHTED.met(case)
)
CLASSES = Need(
    f"a class as the context, {UNWEIGHTED.what}",
    lambda case: (
        case.paired
        and case.model.context is not None
        and case.model.context.size == 1
        and isinstance(case.model.context.column(0), Discrete)
        and UNWEIGHTED.met(case)
    ),
)
CODES = Need("codes", lambda case: isinstance(case.model, Encodes))
FACTORS = Need(
    "codes, and data with labels as a context that the model does not see",
    lambda case: CODES.met(case) and case.factors is not None,
)
CYCLES = Need(
    "a translation of two rows",
    lambda case: (
        isinstance(case.model, Translates) and case.model.context is not None and len(case.real) > 1
    ),
)
CLASSIFIED = Need(
    "a classifier, and classes to compare with",
    lambda case: classifies(case.model) and case.held.context is not None,
)
HISTORY = Need("the history of the fit", lambda case: case.history is not None)


def _share(condition: Tensor, weight: Tensor | None) -> float:
    """Part of the weight where a condition holds."""
    condition = condition.cpu()
    w = weight_of(condition, weight)
    return (w[condition].sum() / w.sum()).item()


def _mean(rows: tuple[Any, Tensor | None]) -> Figure:
    likelihood, weight = rows
    return likelihood.mean(weight)


def _bits_per_dimension(case: Case) -> Figure:
    figure, scale = _mean(case.likelihood), case.model.domain.size * math.log(2)
    return Figure(-figure.value / scale, figure.stderr and figure.stderr / scale)


def _gap(case: Case) -> float:
    assert case.factors is not None
    return mutual_information_gap(case.codes, case.factors)


def _fitting(case: Case) -> Figure:
    assert case.history is not None
    return Figure(case.history.rows_seen / max(case.history.seconds, 1e-9), math.nan)


def _part(of: str) -> Callable[[float], str]:
    return lambda part: f"{part:.2%} of {of}" if part else ""


def _rate(figure: Figure) -> str:
    return f"{figure.value:,.0f}"


def _distance(
    name: str, title: str, unit: str, meaning: str, need: Need, of: Callable[..., Figure], seen: str,
    better: str = "",
) -> Measure:  # fmt: skip
    """A distance of draws from real rows, by one kind of features of both; every model has some."""

    def between(case: Case, other: int = DRAWN) -> Figure:
        if not case.comparable:
            return Figure(math.nan, math.nan)
        return case.between(of, getattr(case, seen), other)

    floor = partial(between, other=MORE)
    return Measure(name, title, unit, meaning, need, between, floor, better=better)


def _classes(name: str, title: str, meaning: str) -> Measure:
    """A figure of `ClassificationAccuracy`."""
    return Measure(
        name, title, "", meaning, CLASSES,
        lambda case: case.classes and getattr(case.classes, name.partition("_")[2]),
    )  # fmt: skip


def _classified(
    name: str, title: str, unit: str, meaning: str, of: Callable[..., Any]
) -> Measure:  # fmt: skip
    """A figure of a classifier's log-probabilities and labels."""
    return Measure(name, title, unit, meaning, CLASSIFIED, lambda case: case.of_classes(of))


def _neighbours(name: str, title: str, meaning: str) -> Measure:
    """A figure of `Neighbours`."""

    draws, floor = (lambda case, at=at: getattr(case.neighbours[at], name) for at in (0, 1))
    return Measure(name, title, "", meaning, UNWEIGHTED, draws, floor)


MEASURES = (
    Measure(
        "log_likelihood", "log-likelihood", "nats per sample", "Weighted mean log-likelihood of the "
        "held-out rows, in nats (1 nat = 1.443 bits) and in the data's own units; higher is better.",
        DENSITY, lambda case: _mean(case.likelihood), sign=1, better="higher",
    ),
    Measure(
        "solver_tolerance", "… computed by", "", "Relative and absolute tolerance of the adaptive "
        "solver that computed the log-likelihoods, if one did.",
        DENSITY, lambda case: case.likelihood[0].tolerance, text="a solver of tolerance {:g}".format,
    ),
    Measure(
        "outside", "… without density", "", "Part of the rows' weight to which the model gives no "
        "density at all.", DENSITY,
        lambda case: _share(case.likelihood[0].value == -math.inf, case.likelihood[1]),
        text=_part("the weight"),
    ),
    Measure(
        "train_log_likelihood", "training rows", "nats per sample", "Log-likelihood of at most as many "
        "rows that the model was trained on. What lies above that of the held-out rows is memorised "
        "(overfitting).", DENSITY, lambda case: _mean(case.training), sign=1,
    ),
    Measure(
        "bits_per_dimension", "bits per dimension", "", "−log-likelihood / (dimensions · ln 2).",
        LEVELS, _bits_per_dimension, sign=-1,
    ),
    Measure(
        "dequantisation", "… with", "", 'How a density became probabilities of whole numbers: "uniform" '
        'noise was added to them, or "variational", which is learned, or "none": the model gives '
        'probabilities.', LEVELS, lambda case: case.model.dequantisation,
        text="dequantisation: {}".format,
    ),
    Measure(
        "bits_per_character", "bits per character", "", "Of a running text that the model predicts in "
        "its order, each character of the whole split is scored once, in windows that overlap by half; "
        "else this is the mean over texts.", TEXT,
        lambda case: case.bits_per_character(once=case.in_order), sign=-1,
    ),
    Measure(
        "bits_per_character_in_windows", "… in separate windows", "", "Of a running text: the mean "
        "over windows that do not overlap, whose first characters have little before them.", TEXT,
        lambda case: case.bits_per_character(once=False) if case.in_order else None, sign=-1,
    ),
    Measure(
        "nats_per_word", "nats per word", "", "−log-likelihood / words, of all texts together. Marks "
        "count as words, and so does the end of each text that has room for one.", WORDS,
        lambda case: case.per_symbol(nats_per_symbol), sign=-1,
    ),
    Measure(
        "perplexity", "perplexity", "", "exp(nats per word): ends count as words.", WORDS,
        lambda case: case.per_symbol(perplexity), sign=-1,
    ),
    Measure(
        "perplexity_without_ends", "… not counting ends", "", "The same where only words and marks "
        "count, though the ends are predicted, too.", WORDS,
        lambda case: case.per_symbol(perplexity, ends=False), sign=-1,
    ),
    Measure(
        "forward_kl", "KL(truth‖model)", "nats", "How far the model's density is from the known truth, "
        "on fresh draws of the truth; 0 where they are equal.", TRUTH,
        lambda case: case.forward_kl.mean(), sign=-1,
    ),
    Measure(
        "reverse_kl", "KL(model‖truth)", "nats", "The same on draws of the model; infinite where some "
        "lie outside the truth's support.", TRUTH, lambda case: case.reverse_kl.mean(), sign=1,
    ),
    Measure(
        "leaked", "… outside the support", "", "Part of the model's draws where the truth has no "
        "density.", TRUTH, lambda case: _share(case.reverse_kl.value == math.inf, None),
        text=_part("its draws"),
    ),
    Measure(
        "modes_covered", "modes covered", "", "Part of the known modes of the truth that hold at "
        "least a tenth of the samples that they should; its error is unknown.", MODES,
        lambda case: Figure(case.modes.covered / case.modes.modes, math.nan),
    ),
    Measure(
        "near_modes", "near modes", "", "Part of the samples within three widths of a known mode.",
        MODES, lambda case: case.modes.near,
    ),
    Measure(
        "mode_divergence", "weights of modes", "nats", "Kullback–Leibler divergence of the modes' "
        "parts of the samples from their true weights.", MODES, lambda case: case.modes.divergence,
    ),
    _classified(
        "accuracy", "accuracy", "", "Part of the held-out rows whose likeliest class by p(y|x) is "
        "right.", accuracy,
    ),
    _classified(
        "log_loss", "log loss of classes", "nats", "Mean of −log p(y|x) over held-out rows: right and "
        "sure is low.", log_loss,
    ),
    _classified(
        "brier_score", "Brier score", "", "Mean squared distance of the probabilities of all classes "
        "from 0 and 1, summed over classes.", brier_score,
    ),
    Measure(
        "calibration_error", "calibration error", "", "Mean distance between how sure of a class the "
        "classifier is and how often it is right, over 15 bins with equally many rows; without the "
        "bias of its noise, so that it may be below 0.", CLASSIFIED,
        lambda case: case.reliability and case.reliability.error,
    ),
    Measure(
        "calibration_null", "… if calibrated", "", "Where 95 % of these errors would lie if "
        "probabilities were right.", CLASSIFIED,
        lambda case: case.reliability and case.reliability.null,
        text=lambda ends: "{:.2g} to {:.2g}".format(*ends),
    ),
    _classified(
        "temperature", "temperature", "1 is best", "By which log-probabilities of classes would have "
        "to be divided: above 1 where the classifier is too sure of itself, below where not enough.",
        fitted_temperature,
    ),
    _distance(
        "energy_distance", "energy distance", "standardised", "Between samples of the model and "
        "held-out rows, as standardised features; 0 for equal distributions. It needs no density, so "
        "that every model has it. A conditional model draws at the rows' contexts, and these count as "
        "features.", ANY, energy_distance, "features", better="lower",
    ),
    Measure(
        "invalid", "… outside the domain", "", "Part of the model's draws outside the domain; all "
        "measures of samples leave them out.", ANY,
        lambda case: 1 - case.valid.double().mean().item(), text=_part("its draws"),
    ),
    _distance(
        "sliced_wasserstein", "sliced Wasserstein", "standardised", "Mean Wasserstein-1 distance "
        "between projections of samples and of held-out rows, as standardised features; finite samples "
        "keep it above 0, and contexts in common lower it.", ANY, sliced_wasserstein, "features",
    ),
    Measure(
        "mmd", "MMD²", "", "Squared maximum mean discrepancy between samples and held-out rows; 0 for "
        "equal distributions. Like the classifier and the neighbours it takes rows without weights: "
        "those with weights are thinned.", UNWEIGHTED, lambda case: case.mmd[0],
    ),
    Measure(
        "mmd_p_value", "… p-value", "of equal distributions", "Of a permutation test that the "
        "distributions are equal.", UNWEIGHTED, lambda case: case.mmd[1], text="{:.2g}".format,
    ),
    Measure(
        "classifier_auc", "classifier AUC", "", "How well a classifier tells samples from held-out rows "
        "that it has not seen, by at most 256 columns: the area under its ROC curve, 0.5 for a guess, 1 "
        "for certainty.", UNWEIGHTED, lambda case: case.classifier.auc,
    ),
    Measure(
        "classifier_accuracy", "… accuracy", "1/2 for a guess", "Mean of the parts of samples and of "
        "rows that the classifier tells right.", UNWEIGHTED, lambda case: case.classifier.accuracy,
    ),
    Measure(
        "classifier_p_value", "… p-value", "of equal distributions", "Of a test that the classifier "
        "guesses.", UNWEIGHTED, lambda case: case.classifier.p_value, text="{:.2g}".format,
    ),
    Measure(
        "image_auc", "AUC of images", "", "The same of a convolutional network that sees images; it is "
        "trained on one half of the rows and tested on the other.",
        EVEN_IMAGES, lambda case: case.image_classifier.auc,
    ),
    Measure(
        "image_p_value", "… p-value", "of equal distributions", "Of a test that this network guesses: "
        "uniform where the distributions are equal.",
        EVEN_IMAGES, lambda case: case.image_classifier.p_value, text="{:.2g}".format,
    ),
    _classes(
        "class_real", "class accuracy", "Accuracy on held-out rows of a classifier that is trained on "
        "training rows: what the two figures below can reach.",
    ),
    _classes(
        "class_learnt", "… learnt from samples", "Accuracy on held-out rows of one that is trained on "
        "as many samples: the classification accuracy score.",
    ),
    _classes(
        "class_agreement", "… of samples", "Part of the samples that the first of them finds in the "
        "class that they were drawn for.",
    ),
    Measure(
        "memorised", "memorisation", "", "Probability that a sample is closer to its nearest training "
        "row than a held-out row is to its own: 0.5 for new rows, 1 for copies. Samples that crowd "
        "where data are dense are above it, too.", NEW, lambda case: case.memorised.closer,
    ),
    Measure(
        "memorised_p_value", "… p-value", "of new rows", "Of the test that it is 0.5, against its being "
        "above.", NEW, lambda case: case.memorised.p_value, text="{:.2g}".format,
    ),
    Measure(
        "copied", "… of single rows", "", "Part of the samples that lie nearer to a training row than "
        "95 % of the held-out rows do: 0.05 for new rows, more where some are copies.", NEW,
        lambda case: case.memorised.copied,
    ),
    _neighbours(
        "precision", "precision", "Part of the samples that lie where real rows are, by nearest "
        "neighbours: how real they look.",
    ),
    _neighbours(
        "recall", "recall", "Part of the real rows that lie where samples are, by nearest neighbours: "
        "how much of their variety there is.",
    ),
    _neighbours(
        "sample_density", "sample density", "As precision, counting how many real rows' "
        "neighbourhoods a sample lies in; about 1 where the distributions agree, above it where "
        "samples crowd.",
    ),
    _neighbours(
        "coverage", "coverage", "Part of the real rows with a sample in their neighbourhood: whether "
        "modes are missing.",
    ),
    _distance(
        "frechet_distance", "Fréchet distance", "", "Between Gaussians fitted to features of samples "
        "and of held-out images, by a network trained on these data: not comparable with other data's. "
        "The training rows of the floor are among the images that it was trained on.",
        IMAGES, frechet_distance, "images",
    ),
    _distance(
        "frechet_limit", "… of infinitely many", "", "The same, extrapolated from parts of the rows to "
        "infinitely many: without most of the bias, and it may be negative.",
        EVEN_IMAGES, partial(frechet_distance, extrapolate=True), "images",
    ),
    _distance(
        "kernel_distance", "kernel distance", "", "Squared maximum mean discrepancy between the same "
        "features of images.", IMAGES, kernel_distance, "images",
    ),
    Measure(
        "extractor", "… of features by", "", "The network whose features of images are compared.",
        IMAGES, lambda case: case.extractor.description,
    ),
    Measure(
        "marginals", "farthest column", "", "Distances of single columns, as `marginal_distances` "
        "gives them, and their floors.", TABLE, lambda case: case.table(marginal_distances),
    ),
    Measure(
        "pairs", "farthest pair", "", "Distances of pairs of columns, as `pair_distances` gives them, "
        "and their floors.", TABLE, lambda case: case.table(pair_distances),
    ),
    Measure(
        "explained", "explained by samples", "", "How much of the columns of held-out rows trees tell "
        "from the others that were trained on samples (train on synthetic, test on real): R² of the ranks "
        "of numbers, and the errors avoided of categories, the mean over at most 8 columns.",
        EVEN_TABLE, lambda case: case.explained(), lambda case: case.explained(MORE),
    ),
    Measure(
        "active_units", "active units", "", "Latent variables that vary with the row: those whose codes "
        "have a variance above 0.01.", CODES, lambda case: active_units(case.codes),
    ),
    Measure(
        "mutual_information_gap", "mutual information gap", "", "How much better a factor of the data "
        "is known from the best latent variable than from the second best, as a part of its entropy: 1 "
        "where each is in a variable of its own.", FACTORS,
        _gap, text="{:.3f}".format,
    ),
    Measure(
        "cycle_error", "error of return", "standard deviations", "Mean distance of rows of the other "
        "domain from what they are after a translation and its return.",
        CYCLES, lambda case: case.cycles.error,
    ),
    Measure(
        "noisy_cycle_error", "… from noise", "standard deviations", "The same with noise of a sixteenth "
        "of a standard deviation on the translation.", CYCLES, lambda case: case.cycles.noisy,
    ),
    Measure(
        "return_gain", "… gain of the noise", "", "How much the return amplifies that noise: about 1 "
        "where it goes by what can be seen, far more where rows are hidden in their translations.",
        CYCLES, lambda case: case.cycles.gain, text="{:.3g}".format,
    ),
    Measure(
        "fitting", "fitting", "rows/s", "Training rows processed a second; the error is unknown.",
        HISTORY, _fitting, text=_rate,
    ),
    Measure(
        "sampling", "sampling", "rows/s", "Samples drawn a second, in batches.", ANY,
        lambda case: case.speed("sampling"), text=_rate,
    ),
    Measure(
        "scoring", "scoring", "rows/s", "Log-likelihoods computed a second, in batches.", DENSITY,
        lambda case: case.speed("scoring"), text=_rate,
    ),
    Measure(
        "parameters", "parameters", "", "How many numbers the fit learns.", ANY,
        lambda case: sum(p.numel() for p in case.model.parameters()), text="{:,}".format,
    ),
    Measure(
        "peak_memory", "peak memory", "of the process, fitting", "Largest resident memory of the whole "
        "process during the fit, in bytes.", HISTORY,
        lambda case: (case.history and case.history.peak_memory) or None,
        text=lambda memory: f"{memory / 2**20:,.0f} MiB",
    ),
)  # fmt: skip
BY_NAME = {measure.name: measure for measure in MEASURES}
