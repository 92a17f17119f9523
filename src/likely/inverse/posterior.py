"""The posterior of x, given y = A(x) + noise and a prior that a model has learned.

p(x|y) ∝ p(y|x) p(x)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.contract import options
from likely.contract.model import GenerativeModel
from likely.contract.views import Rows
from likely.core.errors import DataError, DomainError, LikelyError
from likely.core.numbers import whole
from likely.core.progress import shown, track
from likely.core.random import seeded
from likely.inverse.noise import Noise, as_noise
from likely.inverse.operators import Operator, Select, as_operator
from likely.inverse.problem import Draws, Kind, Problem, choose, methods

MISFIT = 5.0  # standard deviations of χ² per pixel at which draws and data disagree
FEW = 5  # notes of single measurements that are kept


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """Draws of x given y, for one measurement or for m; the axis of m is missing where y was one row.

    Attributes
    ----------
    samples : Tensor, shape (m, n, *domain.shape)
        In the units of the data.
    y : Tensor, shape (m, *out_shape)
        As it was given; NaN where it was not observed.
    kind : {"exact", "asymptotic", "approximation"}
        Draws of the posterior of this prior; these in the limit of long chains or many particles;
        something near it, with an error that no diagnostic shows.
    method : str
    operator : Operator
    noise : Noise, optional
    diagnostics : dict of Tensor, shape (m,)
        The method's own, by name: R̂ and effective draws, the log-evidence in nats …
    notes : tuple of str
        What speaks against the draws, in words; empty if nothing does.
    """

    samples: Float[Tensor, "*m n *shape"]
    y: Float[Tensor, "*m *out_shape"]
    kind: Kind
    method: str
    operator: Operator
    noise: Noise | None
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def single(self) -> bool:
        """Whether y was one row."""
        assert self.operator.out_shape is not None
        return self.y.ndim == len(self.operator.out_shape)

    @property
    def _axis(self) -> int:
        """Of the draws."""
        return 0 if self.single else 1

    @property
    def mean(self) -> Float[Tensor, "*m *shape"]:
        """The posterior's mean of each entry of x: of all estimates that of the least squared error."""
        return self._real.mean(self._axis)

    @property
    def std(self) -> Float[Tensor, "*m *shape"]:
        """Its standard deviation."""
        return self._real.std(self._axis)

    def quantiles(self, q: float | Sequence[float]) -> Float[Tensor, "*q *m *shape"]:
        """Quantiles of each entry of x: `quantiles([0.05, 0.95])` are the ends of the 90 % interval.

        Raises
        ------
        LikelyError
            If q is not from 0 to 1.
        """
        levels = torch.as_tensor(q, dtype=self._real.dtype, device=self.samples.device)
        if not ((levels >= 0) & (levels <= 1)).all():
            raise LikelyError(f"quantiles: q={q}: give numbers from 0 to 1")
        return self._real.quantile(levels, self._axis)

    @cached_property
    def predictions(self) -> Float[Tensor, "*m n *out_shape"]:
        """A(x) of each draw, with a background where there is one."""
        shape = self.operator.shape
        assert shape is not None
        with torch.no_grad():
            y = self.operator(self._real.reshape(-1, *shape))
        y = y if self.noise is None else self.noise.expected(y)
        return y.reshape(*self.samples.shape[: self._axis + 1], *y.shape[1:])

    @property
    def residual(self) -> Float[Tensor, "*m *out_shape"]:
        """y less the mean prediction; NaN where y was not observed."""
        return self.y - self.predictions.mean(self._axis)

    @cached_property
    def pulls(self) -> Float[Tensor, "*m n *out_shape"]:
        """y less A(x) of each draw, whitened by the noise; NaN where y was not observed.

        Where prior, noise and draws are right, those of one draw are as independent numbers of mean 0 and
        variance 1: what is left in a picture of them, the model does not explain.

        Raises
        ------
        LikelyError
            If there is no noise.
        """
        if self.noise is None:
            raise LikelyError("a measurement without noise has no pulls, and no χ²")
        y = self.y[None] if self.single else self.y
        x = self._real[None] if self.single else self._real
        pulls = [_pulls(a, b, self.operator, self.noise) for a, b in zip(y, x, strict=True)]
        return pulls[0] if self.single else torch.stack(pulls)

    @cached_property
    def chi2(self) -> Float[Tensor, "*m"]:
        """χ² of y per observed entry, as a mean over draws: 1 where prior, noise and draws are right."""
        entries = tuple(range(self._axis, self.pulls.ndim))
        return self.pulls.square().nanmean(entries)

    @property
    def _real(self) -> Tensor:
        """Draws as floating-point numbers."""
        return self.samples if self.samples.is_floating_point() else self.samples.to(self.y.dtype)

    def __repr__(self) -> str:
        axis = self._axis
        of = "" if self.single else f" for each of {len(self.samples)} measurements"
        what = f"Posterior: {self.samples.shape[axis]} draws{of} by {self.method} ({self.kind})"
        figures = [f"{name} {value.mean():.4g}" for name, value in self.diagnostics.items()]
        if self.noise is not None:
            figures.insert(0, f"χ² per pixel {self.chi2.mean():.3g}")
        lines = [what, f"  {', '.join(figures)}"] if figures else [what]
        return "\n".join([*lines, *(f"NOTE: {note}" for note in self.notes)])


def posterior(
    model: GenerativeModel,
    y: Any,
    operator: Any = None,
    noise: Any = None,
    n: int = 100,
    method: str = "auto",
    seed: int = 0,
    *,
    missing: Literal["error", "mask"] = "error",
    progress: bool = False,
    **method_options: Any,
) -> Posterior:
    """Draw from the posterior of x, given measurements y = A(x) + noise.

    Each measurement is answered for itself: its draws do not depend on those beside it.

    Parameters
    ----------
    model : GenerativeModel
        The prior of x, without a context.
    y : array, shape (*out_shape,) or (m, *out_shape)
        One measurement, or several.
    operator : Operator, or callable (n, *domain.shape) -> (n, *out_shape), optional
        A, in the units of the data: of `likely.inverse`, any callable that torch can differentiate, or a
        physics of deepinv, which takes images with channels; None is the identity.
    noise : Noise, float or array, optional
        Of `likely.inverse`, or the standard deviation of independent Gaussian noise, of all entries or of
        each; None: there is none, which few methods take.
    n : int
        Draws for each measurement.
    method : str
        "auto" takes the best one that the model can serve; `likely.inverse.methods()` lists them.
    seed : int
        The same seed gives the same draws for the same y.
    missing : {"error", "mask"}
        Whether entries of y that are NaN, or whose noise is NaN or 0, are an error, or not observed.
    progress : bool
        Show progress bars, on a terminal.
    **method_options
        The method's own.

    Returns
    -------
    Posterior

    Raises
    ------
    DataError
        If y does not have the shape that A makes, or has missing entries, or A or the noise do not fit.
    DomainError
        If the model has a context.
    LikelyError
        If no method takes this prior with this operator and noise, or an option is unknown.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("moons", seed=0)
    >>> model = lk.make("gmm", data.domain, components=4, seed=0)
    >>> history = lk.fit(model, data, epochs=5, seed=0)
    >>> first = lk.inverse.Linear([[1.0, 0.0]])  # only x0 is measured
    >>> p = lk.posterior(model, [0.5], first, noise=0.1, n=64)
    >>> p.kind, p.samples.shape
    ('exact', torch.Size([64, 2]))
    """
    n = whole("n", n)
    if n < 1:
        raise LikelyError(f"n={n}: at least one draw is needed")
    if model.context is not None:
        raise DomainError(
            f"posterior: {type(model).__name__} has a context, which no prior of x may"
        )
    measured = _Measurements(model, y, operator, noise, missing)
    model.eval()  # a layer that normalises batches would mix draws
    chosen = choose(method, next(iter(measured)))
    options.check(f"posterior by {chosen.name!r}", chosen.solve, method_options)
    answers = []
    with torch.no_grad(), shown("posterior", progress):
        for problem in track(list(measured), "measurements"):
            with seeded(_seed(seed, problem.y), model.device):
                answers.append(chosen.solve(problem, n, **method_options))
    return measured.answered(answers, chosen.name, chosen.kind)


def suitable(
    model: GenerativeModel,
    y: Any,
    operator: Any = None,
    noise: Any = None,
    *,
    missing: Literal["error", "mask"] = "error",
) -> list[str]:
    """Names of the methods that take this problem, "auto" being the first.

    Parameters and errors are those of `likely.posterior`; the list may be empty.
    """
    problem = next(iter(_Measurements(model, y, operator, noise, missing)))
    return [name for name, method in methods().items() if method.obstacle(problem) is None]


class _Measurements:
    """The measurements of one call, checked, as a `Problem` each."""

    def __init__(
        self, model: GenerativeModel, y: Any, operator: Any, noise: Any, missing: str
    ) -> None:
        if missing not in ("error", "mask"):
            raise LikelyError(f'missing={missing!r}: take "error" or "mask"')
        like = torch.empty(0, dtype=model.parameter_dtype, device=model.device)
        self.model, self.operator = model, as_operator(operator).on(model.domain.shape, like)
        out_shape = self.operator.out_shape
        assert out_shape is not None
        y = torch.as_tensor(y).to(like)
        self.single = tuple(y.shape) == out_shape
        self.y = y[None] if self.single else y
        if tuple(self.y.shape[1:]) != out_shape or not len(self.y):
            raise DataError(
                f"y has shape {tuple(y.shape)}, and the operator makes {out_shape} of the model's rows of "
                f"shape {model.domain.shape}: give {out_shape}, or (m, {', '.join(map(str, out_shape))})"
            )
        self.noise = None if noise is None else as_noise(noise).on(out_shape)
        self.observed = self._observed(out_shape, missing)

    def _observed(self, out_shape: Sequence[int], missing: str) -> Bool[Tensor, "m *out_shape"]:
        """Which entries count."""
        seen = self.operator.seen
        usable = None if self.noise is None else self.noise.usable(out_shape)
        counts = self.y.new_ones(tuple(out_shape), dtype=torch.bool)
        if seen is not None:
            counts = counts & seen.to(counts.device)
        what = {"y": self.y.isfinite().logical_not() & counts}
        if usable is not None:
            what["the noise"] = (usable.logical_not().to(counts.device) & counts).expand_as(self.y)
        for name, bad in what.items():
            if missing == "error" and bad.any():
                row, *entry = bad.nonzero()[0].tolist()
                is_what = "not finite" if name == "y" else "0, negative or not finite"
                raise DataError(
                    f"{name} is {is_what} at {tuple(entry)} of measurement {row}: correct it, or treat such "
                    'entries as not observed, by missing="mask"'
                )
        observed = counts & ~torch.stack([*what.values()]).any(0)
        for row in observed.flatten(1).any(1).logical_not().nonzero()[:1, 0].tolist():
            raise DataError(f"measurement {row}: no entry of y is observed")
        return observed

    def __iter__(self) -> Iterator[Problem]:
        """A problem for each row; those with the same observed entries share what they compute."""
        bases: dict[bytes, Problem] = {}
        for y, observed in zip(self.y, self.observed, strict=True):
            key = observed.cpu().numpy().tobytes()
            part = None if observed.all() else observed
            if key not in bases:
                bases[key] = self._problem(y, part)
            row = y if part is None else y[part]
            if self.noise is not None:
                self.noise.check(row)
            yield replace(bases[key], y=row)

    def _problem(self, y: Tensor, part: Tensor | None) -> Problem:
        if part is None:
            return Problem(self.model, self.operator, self.noise, y)
        operator = (Select(part) @ self.operator).on(self.model.domain.shape, y)
        noise = None if self.noise is None else self.noise.at(part).on(operator.out_shape or ())
        return Problem(self.model, operator, noise, y[part])

    def answered(self, answers: Sequence[Draws], name: str, kind: Kind) -> Posterior:
        """The answers of all rows together; the kind is the worst one."""
        kinds: tuple[Kind, ...] = ("exact", "asymptotic", "approximation")
        worst = max((answer.kind or kind for answer in answers), key=kinds.index)
        dtype = torch.float64
        diagnostics = {
            key: torch.tensor([answer.diagnostics[key] for answer in answers], dtype=dtype)
            for key in answers[0].diagnostics
        }
        samples = torch.stack([answer.samples for answer in answers])
        y = torch.where(self.observed, self.y, math.nan)
        if self.single:
            samples, y = samples[0], y[0]
            diagnostics = {key: value[0] for key, value in diagnostics.items()}
        found = Posterior(samples, y, worst, name, self.operator, self.noise, diagnostics)
        notes = [*self._notes(answers), *_misfits(found)]
        return replace(found, notes=tuple(notes))

    def _notes(self, answers: Sequence[Draws]) -> list[str]:
        if self.single:
            return [*answers[0].notes]
        notes = [f"measurement {i}: {note}" for i, a in enumerate(answers) for note in a.notes]
        more = len(notes) - FEW
        return [*notes[:FEW], *([f"and {more} more of this kind"] if more > 0 else [])]


def _seed(seed: int, y: Tensor) -> int:
    """Of one measurement: the same wherever it stands."""
    digest = hashlib.sha256(f"{seed}".encode())
    digest.update(y.double().cpu().numpy().tobytes())
    return int.from_bytes(digest.digest()[:7], "little")


@torch.no_grad()
def _pulls(
    y: Float[Tensor, "*out_shape"], x: Rows, operator: Operator, noise: Noise
) -> Float[Tensor, "n *out_shape"]:
    """Those of one measurement and its draws."""
    observed, mean = y.isfinite(), operator(x)
    if observed.all():
        return noise.pulls(y[None], mean)
    pulls = torch.full_like(mean, math.nan)
    pulls[:, observed] = noise.at(observed).pulls(y[None, observed], mean[:, observed])
    return pulls


def _misfits(found: Posterior) -> list[str]:
    """What χ² says against prior, noise and draws."""
    if found.noise is None:
        return []
    chi2 = found.chi2.reshape(-1)
    y = found.y[None] if found.single else found.y
    spread = (2 / y.isfinite().flatten(1).sum(1)).sqrt().to(chi2)
    notes = []
    for bad, how, why in (
        (
            chi2 > 1 + MISFIT * spread,
            "misses",
            "the data lie outside what the prior knows, or there is more",
        ),
        (chi2 < 1 - MISFIT * spread, "follows too closely", "there is less"),
    ):
        if bad.any():
            which = "" if found.single else f" in {int(bad.sum())} of {len(bad)} measurements"
            notes.append(
                f"the posterior {how} y{which}: χ² per pixel {chi2[bad].mean():.3g}, not 1; {why} noise than "
                "was given"
            )
    return notes
