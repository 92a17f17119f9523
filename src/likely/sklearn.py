"""The scikit-learn face: a density estimator and outlier detector on top of any model."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from likely.contract import options
from likely.contract.model import GenerativeModel
from likely.contract.options import Range
from likely.contract.registry import find, make
from likely.core.columns import Column, Real
from likely.core.domain import Domain, reals
from likely.core.errors import DataError, DensityError, LikelyError
from likely.core.frames import to_frame
from likely.core.likelihood import Kind
from likely.data import Split, load_rows
from likely.data.load import MIN_ROWS, read_table, split_table
from likely.fitting import History, fit

NESTED = "hyperparameters__"
SCORE_SEED = 0  # of the noise in likelihoods that are bounds or estimates


class DensityEstimator(OutlierMixin, BaseEstimator):
    """A generative model with scikit-learn's conventions.

    Numbers are real, whole ones too, in arrays and in DataFrames alike, unless `domain` says otherwise:
    bounds that were read off one fold would give rows of another a likelihood of zero. Text, pandas
    categories and booleans are categorical or binary. A column of numbers that never changes is a
    constant, and a row with another value there outside the domain; scikit-learn's
    `VarianceThreshold` leaves such columns out. Contexts, weights and further options of the training
    are for `likely.fit`.

    Parameters
    ----------
    model : str
        A name in `likely.models()`; "auto" is nsf, or made where there are categories.
    hyperparameters : dict, optional
        Of the model; a grid search reaches them as `hyperparameters__transforms`.
    steps : int, optional
        Budget of the training in batches.
    minutes : float, optional
        Budget in time. Without any, training ends when the likelihood of the validation rows, a
        random tenth, stops improving.
    domain : Domain or dict, optional
        Where a row lives, or the kinds of single columns, by name or position, as in
        `likely.load_data`. One of several axes takes rows that are flat.
    missing : {"error", "model"}
        What missing entries (NaN, None) are: an error, or values of their own, which the model learns;
        "auto" is then made.
    contamination : float
        Share of the training rows that `predict` counts as outliers, above 0 and at most 0.5.
    random_state : int, RandomState or None
        Of the initial weights, of the training and of samples.
    verbose : bool
        Show a progress bar.

    Attributes
    ----------
    model_ : GenerativeModel
        In float64, on the CPU; `likely.save(estimator.model_, path)` keeps it.
    history_ : History
        Of the training.
    offset_ : float
        What `decision_function` subtracts.
    dtypes_ : Series or None
        Types of the columns, where the training rows were a DataFrame.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where the training rows were a DataFrame with such names.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from likely.sklearn import DensityEstimator
    >>> X = pd.DataFrame(np.random.default_rng(0).normal(size=(150, 2)), columns=["e", "t"])
    >>> estimator = DensityEstimator("gmm", {"components": 3}, random_state=0).fit(X)
    >>> estimator.score_samples(X).shape
    (150,)
    >>> list(estimator.sample(5)) == list(X)
    True
    """

    model_: GenerativeModel
    history_: History
    offset_: float
    dtypes_: pd.Series | None

    def __init__(
        self,
        model: str = "auto",
        hyperparameters: Mapping[str, Any] | None = None,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        domain: Domain | Mapping[str | int, Column | str] | None = None,
        missing: Literal["error", "model"] = "error",
        contamination: Annotated[float, Range(0, 0.5, open="low")] = 0.1,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.hyperparameters = hyperparameters
        self.steps = steps
        self.minutes = minutes
        self.domain = domain
        self.missing = missing
        self.contamination = contamination
        self.random_state = random_state
        self.verbose = verbose

    # Parameters: those of the model are nested, though it is a dictionary that holds them.

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters, and with `deep` each of the hyperparameters that are given."""
        params = super().get_params(deep)
        if deep and isinstance(self.hyperparameters, Mapping):
            params |= {NESTED + name: value for name, value in self.hyperparameters.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; `hyperparameters__NAME` sets one, and leaves the others as they are."""
        nested = {name: params.pop(name) for name in [*params] if name.startswith(NESTED)}
        super().set_params(**params)
        if nested:
            changes = {name.removeprefix(NESTED): value for name, value in nested.items()}
            self.hyperparameters = {**(self.hyperparameters or {}), **changes}
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "model"
        # The noise in a bound or an estimate is that of the row's place in the batch.
        tags.non_deterministic = self._density() != Kind.EXACT
        return tags

    def _density(self) -> Kind:
        """The kind of the model's density on its domain; before a fit on `domain`, or on two reals."""
        if hasattr(self, "model_"):
            return self.model_.density
        domain = self.domain if isinstance(self.domain, Domain) else reals(2)
        with contextlib.suppress(LikelyError, TypeError, ValueError):  # which `fit` raises
            return make(self.model, domain, seed=0, **(self.hyperparameters or {})).density
        return Kind.EXACT

    # The verbs.

    def fit(self, X: ArrayLike | pd.DataFrame, y: Any = None) -> Self:
        """Fit the model to rows, of which a random tenth validates.

        Parameters
        ----------
        X : array or DataFrame, shape (n, features)
            At least 10 rows.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X is not a table of numbers, or has too few rows.
        LikelyError
            If a parameter is out of range, if the model does not take the domain, or if a DataFrame
            holds entries that are missing or outside a declared domain.

        Warns
        -----
        UserWarning
            As `likely.load_data`; also if a column of a DataFrame looks like names of the rows.
        """
        given = {"contamination": self.contamination, "missing": self.missing}
        options.check(type(self).__name__, DensityEstimator.__init__, given)
        if not isinstance(self.hyperparameters, Mapping | None):
            raise LikelyError(f"hyperparameters={self.hyperparameters!r}: give a dictionary")
        rows = self._validated(X, reset=True)
        domain = self.domain
        if not isinstance(domain, Domain):
            domain = dict.fromkeys(_numeric(rows), Real()) | dict(domain or {})
        seed = self._seed(self.random_state)
        table = read_table(rows, seed, domain)
        with _in_terms_of_frames():
            data, notes = split_table(table, domain=domain, missing=self.missing, seed=seed)
        for note in notes:
            warnings.warn(_for_frames(f"{table.name}: {note}"), stacklevel=2)
        train = Split(torch.cat([data.train.x[:], data.test.x[:]]))
        data = dataclasses.replace(data, train=train, test=data.valid)  # nothing is tested here
        flow = "nsf" if find("nsf").takes(data.domain) else "made"
        name = flow if self.model == "auto" else self.model
        model = make(name, data.domain, seed=seed, **(self.hyperparameters or {}))
        budget: dict[str, Any] = {"steps": self.steps, "minutes": self.minutes}
        self.history_ = fit(model, data, seed=seed, progress=bool(self.verbose), **budget)
        self.model_ = model.cpu().double()  # a score then does not depend on the other rows
        self.dtypes_ = None
        if isinstance(rows, pd.DataFrame):
            labels: dict[str, Any] = {str(label): label for label in rows}
            self.dtypes_ = rows.dtypes[[labels[name] for name in data.domain.names or labels]]
        with contextlib.suppress(DensityError):  # raised where such a score is used
            self.offset_ = float(np.quantile(self._normality(X), self.contamination))
        return self

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> np.ndarray | pd.DataFrame:
        """Draw rows.

        Parameters
        ----------
        n_samples : int
        random_state : int, RandomState or None
            None takes the estimator's own: where that is an int, every call gives the same rows.

        Returns
        -------
        array or DataFrame, shape (n_samples, features)
            A DataFrame where the training rows were one, with the same columns, types and
            categories; whole numbers that `domain` does not declare come back as reals.
        """
        check_is_fitted(self)
        seed = self._seed(self.random_state if random_state is None else random_state)
        x = self.model_.sample(n_samples, seed=seed)
        if self.dtypes_ is None:
            return x.flatten(1).numpy()
        return to_frame(self.model_.domain, x, self.dtypes_)

    def score_samples(self, X: ArrayLike | pd.DataFrame) -> np.ndarray:
        """Log-likelihood of each row in nats, −inf outside the domain.

        Parameters
        ----------
        X : array or DataFrame, shape (n, features)

        Returns
        -------
        ndarray, shape (n,)
            Exact, or a bound or an estimate, with noise of a fixed seed: `estimator.model_.density`.

        Raises
        ------
        DensityError
            If the model has no likelihood of any kind.
        ValueError
            If X is not a table of finite numbers with the columns of the fit.
        DataError
            If a DataFrame holds entries that are missing, or categories that the fit did not know.
        """
        check_is_fitted(self)
        return self.model_.log_likelihood(self._rows(X), seed=SCORE_SEED).value.numpy()

    def score(self, X: ArrayLike | pd.DataFrame, y: Any = None) -> float:
        """Mean of `score_samples`; y is ignored."""
        return float(self.score_samples(X).mean())

    def decision_function(self, X: ArrayLike | pd.DataFrame) -> np.ndarray:
        """How normal each row is: the lower, the more unusual; negative for outliers.

        The log-likelihood, or the negative error of the reconstruction by an autoencoder, less the
        quantile of the training rows that `contamination` names.

        Parameters
        ----------
        X : array or DataFrame, shape (n, features)

        Returns
        -------
        ndarray, shape (n,)

        Raises
        ------
        DensityError
            If the model has no such score.
        """
        check_is_fitted(self)
        return self._normality(X) - self.offset_

    def predict(self, X: ArrayLike | pd.DataFrame) -> np.ndarray:
        """1 for rows that are normal, −1 for outliers; errors as in `decision_function`."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    # Rows in and out.

    def _validated(self, X: Any, reset: bool) -> np.ndarray | pd.DataFrame:
        """A DataFrame as it is, anything else as an array of numbers."""
        if isinstance(X, pd.DataFrame):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X
        least = MIN_ROWS if reset else 1
        finite = True if self.missing == "error" else "allow-nan"
        return validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_samples=least,
            ensure_all_finite=finite,
        )  # fmt: skip

    def _rows(self, X: Any) -> Tensor:
        """Rows to be scored; those outside the domain are kept."""
        rows, domain = self._validated(X, reset=False), self.model_.domain
        if isinstance(rows, np.ndarray):
            return torch.tensor(rows, dtype=torch.float64).reshape(-1, *domain.shape)
        with warnings.catch_warnings(), _in_terms_of_frames():
            warnings.simplefilter("ignore", UserWarning)  # the fit has said it
            return load_rows(rows, domain=domain.widened).x[:]

    def _normality(self, X: Any) -> np.ndarray:
        return -self.model_.anomaly_score(self._rows(X), seed=SCORE_SEED).numpy()

    @staticmethod
    def _seed(random_state: int | np.random.RandomState | None) -> int:
        return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _numeric(rows: np.ndarray | pd.DataFrame) -> list[Any]:
    """Positions or labels of the columns that hold numbers."""
    if isinstance(rows, np.ndarray):
        return list(range(rows.shape[1]))
    return [
        label
        for label, dtype in rows.dtypes.items()
        if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    ]


def _for_frames(message: object) -> str:
    """A message with the ways of pandas in place of options that the estimator lacks."""
    text = str(message).replace(" (--missing model)", "")
    text = text.replace("columns= (--columns)", "X.drop(columns=…)")
    return text.replace("missing='drop' (--missing drop)", "X.dropna()")


@contextlib.contextmanager
def _in_terms_of_frames() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(_for_frames(error)) from error
