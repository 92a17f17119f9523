"""Distances between images, and a classifier of them, by networks that learn from the user's own images.

Nothing is downloaded, and the features fit the images; but distances by different extractors cannot
be compared: a figure belongs to the description of its extractor.
"""

import math
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract.inputs import CHUNK
from likely.contract.views import weighted_moments
from likely.core.columns import Categorical, Discrete
from likely.core.domain import Domain
from likely.core.errors import DataError, DomainError
from likely.core.likelihood import Figure
from likely.core.random import seeded
from likely.data import Data
from likely.evaluation.resampling import each, jackknife, two_samples
from likely.nets.convolutional import ImageDecoder, ImageEncoder, Shape, image_shape

TRAINING_NUMBERS = 1 << 24  # pixels of training images that an extractor sees, at most
BATCH = 128
WIDTHS = (16, 32)  # channels
GROUPS = 5  # of rows, from which the Fréchet distance of infinitely many is extrapolated


class FeatureExtractor(nn.Module):
    """A small convolutional network whose outputs describe images; it is trained when it is made.

    Where the context has labels (its first column with a finite number of values), a network learns
    to tell them, and the features are its last hidden layer. Otherwise it learns to reconstruct the
    images, and the features are the code between encoder and decoder. They are standardised over
    the training images.

    Parameters
    ----------
    data : Data
        Of images; the training split is used, without its weights.
    features : int
        Number of features.
    steps : int
        Of the training, on batches of 128 images.
    seed : int
        Of the weights and the batches.

    Attributes
    ----------
    description : str
        What it is and how it was trained.

    Raises
    ------
    DomainError
        If the layout of the domain is not an image.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits", context="label")
    >>> extractor = lk.evaluation.FeatureExtractor(data, steps=10)
    >>> extractor.description
    'classifier of label, trained for 10 steps on 1,439 images'
    >>> extractor(data.test.x).shape
    torch.Size([179, 16])
    """

    def __init__(self, data: Data, *, features: int = 16, steps: int = 200, seed: int = 0) -> None:
        super().__init__()
        shape = image_shape(data.domain)
        if shape is None:
            raise DomainError(f"features need the layout of an image, not {data.domain}")
        kind = data.domain.column(0)
        self.categories = kind.levels if isinstance(kind, Categorical) else None
        shape = (shape[0] * (self.categories or 1), *shape[1:])
        train = data.train.subset(TRAINING_NUMBERS, seed)
        self.shift, self.scale = weighted_moments(train.x.reshape(-1, 1), None)
        task, codes = _labels(data.context, train.context)
        with seeded(seed), torch.enable_grad():
            self.encoder = ImageEncoder(shape, features, WIDTHS)
            head: nn.Module = ImageDecoder(features, shape, WIDTHS)
            if codes is not None:
                head = nn.Sequential(nn.ReLU(), nn.Linear(features, int(codes.max()) + 1))
            optimizer = torch.optim.Adam([*self.encoder.parameters(), *head.parameters()], lr=2e-3)
            for _ in range(steps):
                rows = torch.randint(len(train), (BATCH,))
                pixels = self._pixels(train.x[rows])
                out = head(self.encoder(pixels))
                loss = (
                    F.mse_loss(out, pixels) if codes is None else F.cross_entropy(out, codes[rows])
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.eval().requires_grad_(False)
        self.description = f"{task}, trained for {steps} steps on {len(train):,} images"
        self.mean, self.std = torch.zeros(()), torch.ones(())
        self.mean, self.std = weighted_moments(self(train.x), None)

    def _pixels(self, x: Shaped[Tensor, "n *shape"]) -> Float[Tensor, "n pixels"]:
        """Standardised levels, or a channel for each category."""
        if self.categories is not None:
            pixels = F.one_hot(x.long(), self.categories).movedim(-1, 1)
        else:
            pixels = (x.double() - self.shift) / self.scale
        return pixels.flatten(1).to(next(self.encoder.parameters()))

    def forward(self, x: Shaped[Tensor, "n *shape"]) -> Float[Tensor, "n features"]:
        x = torch.as_tensor(x).cpu()
        chunks = x.split(max(1, CHUNK // x[:1].numel()))
        codes = torch.cat([self.encoder(self._pixels(chunk)) for chunk in chunks])
        return (codes.double() - self.mean) / self.std


def _labels(domain: Domain | None, context: Tensor | None) -> tuple[str, Tensor | None]:
    """What an extractor learns: to tell the labels in a context, where there are any."""
    if domain is not None and context is not None:
        for i in range(domain.size):
            column = domain.column(i)
            if isinstance(column, Discrete) and column.levels is not None:
                name = domain.names[i] if domain.names else f"context {i}"
                labels = context.flatten(1)[:, i]
                return f"classifier of {name}", labels.unique(return_inverse=True)[1]
    return "autoencoder", None


class ImageClassifier:
    """A small convolutional network with scikit-learn's `fit`, `predict` and `predict_proba`.

    It sees what boosted trees of single pixels miss in images of some size.

    Parameters
    ----------
    shape : (channels, height, width)
        Of the images; the rows are flat.
    steps : int
        Of the training, on batches of 128 images.
    seed : int
        Of the weights and the batches.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> x, y = data.train.x.flatten(1), data.valid.x.flatten(1)
    >>> classifier = lk.evaluation.ImageClassifier((1, 8, 8), steps=20)
    >>> lk.evaluation.classifier_test(x, y, classifier=classifier, folds=1).p_value > 0.01
    True
    """

    def __init__(self, shape: Shape, *, steps: int = 200, seed: int = 0) -> None:
        self.shape, self.steps, self.seed = shape, steps, seed

    def __sklearn_clone__(self) -> "ImageClassifier":
        return ImageClassifier(self.shape, steps=self.steps, seed=self.seed)

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """Learn the labels y, shape (n,), of images x, shape (n, pixels)."""
        pixels = torch.as_tensor(x).double()
        self.shift, self.scale = weighted_moments(pixels.reshape(-1, 1), None)
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        pixels, labels = self._standardised(pixels), torch.from_numpy(codes)
        with seeded(self.seed), torch.enable_grad():
            self.network = ImageEncoder(self.shape, len(self.classes_), WIDTHS)
            optimizer = torch.optim.AdamW(self.network.parameters(), lr=2e-3, weight_decay=0.1)
            for _ in range(self.steps):
                rows = torch.randint(len(pixels), (BATCH,))
                optimizer.zero_grad()
                F.cross_entropy(self.network(pixels[rows]), labels[rows]).backward()
                optimizer.step()
        self.network.requires_grad_(False)
        return self

    def _standardised(self, x: Tensor) -> Tensor:
        return ((x - self.shift) / self.scale).float()

    def predict_proba(self, x: ArrayLike) -> np.ndarray:
        """Probability of each class, shape (n, classes)."""
        chunks = torch.as_tensor(x).double().split(max(1, CHUNK // math.prod(self.shape)))
        parts = [self.network(self._standardised(chunk)).double().softmax(1) for chunk in chunks]
        return torch.cat(parts).numpy()

    def predict(self, x: ArrayLike) -> np.ndarray:
        """The likeliest label of each image."""
        return self.classes_[self.predict_proba(x).argmax(1)]


def frechet_distance(
    x: ArrayLike,
    y: ArrayLike,
    *,
    extrapolate: bool = False,
    weight_x: ArrayLike | None = None,
    weight_y: ArrayLike | None = None,
    paired: bool = False,
    seed: int = 0,
) -> Figure:
    """Fréchet distance of features: the squared Wasserstein-2 distance of two Gaussians.

        ‖μ_x − μ_y‖² + tr(C_x + C_y − 2 (C_x^½ C_y C_x^½)^½)

    with the means and the covariances of the features. With those of a `FeatureExtractor` it
    compares images; with those of an Inception network it is known as FID.

    The estimate is too large, by 2d/n + d(d + 1)/2n for n rows each of one Gaussian: compare it with
    that of as many real rows in the place of samples, or extrapolate it. Then it may be negative.

    Parameters
    ----------
    x, y, weight_x, weight_y, paired
        As in `energy_distance`.
    extrapolate : bool
        Take the value at 1/n = 0 of the straight line through the distances of all rows, and the mean
        ones of halves, thirds … fifths of the rows: what is left of the bias is of the order 1/n².
    seed : int
        Of the jackknife, and of the parts.

    Returns
    -------
    Figure
        In the units of x, squared; the error comes from the jackknife, and is without the bias.

    Raises
    ------
    DataError
        As in `energy_distance`; or if there are fewer than 20 rows of either to extrapolate from.

    References
    ----------
    Dowson & Landau 1982, J. Multivariate Analysis 12, 450; Heusel, Ramsauer, Unterthiner, Nessler &
    Hochreiter 2017, arXiv:1706.08500, eq. 6; Chong & Forsyth 2020, arXiv:1911.07023, sec. 3, for the
    extrapolation.
    """
    x, y, w, v = two_samples(x, y, paired, weight_x, weight_y)
    if extrapolate and min(len(x), len(y)) < 4 * GROUPS:
        raise DataError(
            f"frechet_distance: {len(x)} and {len(y)} rows: to extrapolate, give {4 * GROUPS} of each"
        )

    def moments(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        w = w / w.sum()
        mean = w @ x
        return mean, ((x - mean).T * w) @ (x - mean) / (1 - w.square().sum())

    def distance(w: Tensor, v: Tensor) -> Tensor:
        (mean_x, cov_x), (mean_y, cov_y) = moments(x, w), moments(y, v)
        values, vectors = torch.linalg.eigh(cov_x)
        root = vectors * values.clamp_min(0).sqrt() @ vectors.T
        cross = torch.linalg.eigvalsh(root @ cov_y @ root).clamp_min(0).sqrt().sum()
        return (mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * cross

    rng = np.random.default_rng(seed)
    place_x = torch.from_numpy(rng.permutation(len(x)))
    place_y = place_x if paired else torch.from_numpy(rng.permutation(len(y)))
    parts = torch.arange(1, GROUPS + 1, dtype=torch.float64)  # 1/n, in units of that of all rows
    slopes = (parts - parts.mean()) / (parts - parts.mean()).square().sum()
    to_zero = 1 / GROUPS - parts.mean() * slopes

    def limit(w: Tensor, v: Tensor) -> Tensor:
        means = [
            sum(distance(w * (place_x % k == i), v * (place_y % k == i)) for i in range(k)) / k
            for k in range(1, GROUPS + 1)
        ]
        return to_zero @ torch.stack(means)  # type: ignore[arg-type]

    statistic = each(limit if extrapolate else distance)
    value, stderr = jackknife(statistic, w, v, paired, seed)
    return Figure(value.item(), stderr.item())
