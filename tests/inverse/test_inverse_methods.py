"""Every method on a Gaussian prior, whose posterior is known; mixtures and masks of discrete rows, too."""

import itertools
import math

import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal

import likely as lk
from likely.contract.registry import entries
from likely.contract.training import Batch
from likely.core.errors import LikelyError
from likely.inverse import (
    Convolve,
    CorrelatedGaussian,
    Downsample,
    Function,
    Gaussian,
    Linear,
    Mask,
    methods,
)
from likely.inverse.posterior import _Measurements

PSF = torch.tensor([[0.0, 0.1, 0.1], [0.1, 0.4, 0.1], [0.0, 0.1, 0.1]])
LAG = torch.tensor([[0.0, 0.05, 0.0], [0.05, 0.25, 0.05], [0.0, 0.05, 0.0]])


def operators(shape):
    half = torch.zeros(shape, dtype=torch.bool)
    half[: shape[0] // 2] = True
    return {
        "mask": (Mask(half), Gaussian(0.3)),
        "blur": (Convolve(PSF, "valid"), Gaussian(0.2)),
        "boxes": (Downsample(2), CorrelatedGaussian(LAG[1:2])),
    }


def closed_form(mean, covariance, A, noise, y):
    """Mean and covariance of the posterior, and log p(y)."""
    units = torch.eye(y.numel(), dtype=torch.float64).reshape(-1, *y.shape)
    root = noise.colour(units).flatten(1)
    seen = A @ covariance @ A.mT + root @ root.mT
    gain = torch.linalg.solve(seen, A @ covariance).mT
    after = covariance - gain @ A @ covariance
    evidence = MultivariateNormal(A @ mean, seen).log_prob(y.flatten())
    return mean + gain @ (y.flatten() - A @ mean), after, evidence.item()


def check_gaussian(samples, mean, covariance, independent):
    """Hotelling's T² of the mean and Wishart's bounds of the covariance, at about 1e-5."""
    n, d = len(samples), len(mean)
    root = torch.linalg.cholesky((covariance + covariance.mT) / 2)
    w = torch.linalg.solve_triangular(root, (samples.flatten(1).double() - mean).mT, upper=False).mT
    t2 = independent * w.mean(0).square().sum().item()
    assert t2 < stats.chi2.isf(1e-5, d), f"T² = {t2:.1f} of {d}"
    values = torch.linalg.eigvalsh(w.mT @ w / n)
    edge = math.sqrt(d / independent)
    low, high = (1 - edge - 0.1) ** 2 if edge < 0.8 else 0.0, (1 + edge + 0.1) ** 2
    assert values[0] > low, values[0]
    assert values[-1] < high, values[-1]
    trace = (values.sum() / d).item()
    assert abs(trace - 1) < 5 * math.sqrt(2 / (d * independent)), trace


# Independent draws as a part of all: chains and particles leave fewer than they have.
CASES = [
    ("gaussian", "exact", (8, 8), 2000, {}),
    ("gaussian", "smc", (4, 6), 600, {}),
    ("gaussian", "hmc", (4, 6), 512, {"temperatures": 2, "chains": 16, "burn_in": 100}),
    ("flow", "latent", (4, 6), 600, {}),
    ("vae", "latent", (4, 6), 600, {}),
    ("gan", "latent", (4, 6), 600, {"error": 0.2}),
]


@pytest.mark.parametrize(
    ("name", "method", "shape", "n", "options", "case"),
    [
        pytest.param(
            *fixed,
            case,
            id=f"{fixed[0]}-{fixed[1]}-{case}",
            marks=[pytest.mark.slow] if fixed[1] == "hmc" and case != "blur" else [],
        )
        for fixed in CASES
        for case in ("mask", "blur", "boxes")
    ],
)
def test_draws_have_the_closed_forms_mean_and_covariance(
    prior, name, method, shape, n, options, case
):
    model, mean, covariance = prior(name, shape)
    operator, noise = operators(shape)[case]
    bound = operator.on(shape, mean)
    noise = noise.on(bound.out_shape)
    x = MultivariateNormal(mean, covariance).sample()
    y = noise.sample(bound(x.reshape(1, *shape)), seed=1)[0]
    p = lk.posterior(model, y, operator, noise, n=n, method=method, seed=2, **options)
    A = bound.matrix()
    if bound.seen is not None:  # the others are not measured
        A, y = A[bound.seen.flatten()], y[bound.seen]
    expected = closed_form(mean, covariance, A, noise, y)
    independent = min(n, p.diagnostics.get("ess", torch.tensor(n)).item())
    check_gaussian(p.samples, *expected[:2], independent)
    if (evidence := p.diagnostics.get("log_evidence")) is not None:
        error = p.diagnostics.get("log_evidence_stderr", torch.tensor(0.0)).item()
        assert evidence.item() == pytest.approx(expected[2], abs=4 * error + 1e-6)


def test_a_mixtures_posterior_is_the_mixture_by_quadrature():
    model = lk.make("gmm", lk.reals(2), components=3).double()
    with torch.no_grad():
        model.means.copy_(torch.tensor([[-2.0, 0.0], [1.0, 1.0], [2.0, -2.0]]))
        model.logits.copy_(torch.tensor([0.0, 1.0, 0.5]))
        model.factor.copy_(torch.tensor([[1.0, 0.5, 2.0], [1.5, -1.0, 1.0], [0.8, 0.0, 1.2]]))
    A, y, sigma = torch.tensor([[1.0, -1.0]]), torch.tensor([0.8]), 0.7
    p = lk.posterior(model, y, Linear(A), sigma, n=20_000, seed=1)
    grid = torch.linspace(-7, 7, 281, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid)
    with torch.no_grad():
        log = model.log_prob(x) - ((y - x @ A[0].double()) / sigma).square() / 2
    weight = log.softmax(0)
    evidence = log.logsumexp(0) + 2 * math.log(14 / 280) - math.log(sigma * math.sqrt(2 * math.pi))
    assert p.diagnostics["log_evidence"].item() == pytest.approx(evidence.item(), abs=1e-6)
    for f in (lambda x: x[:, 0], lambda x: x[:, 1] ** 2, lambda x: (x[:, 0] > 0).double()):
        exact, draws = weight @ f(x), f(p.samples.double())
        assert abs(draws.mean() - exact) < 4.5 * draws.std() / math.sqrt(len(draws))


@pytest.mark.parametrize("name", ["mfa", "deep-gmm", "gmm"])
def test_mixtures_give_their_gaussians_as_they_score(name):
    options = {"gmm": {"covariance": "tied"}}.get(name, {})
    model = lk.make(name, lk.reals(4), seed=0, **options)
    lk.fit(model, torch.randn(200, 4).cumsum(1) + 5, epochs=2, seed=0)
    paths, x = model.gaussians(), model.sample(20, seed=1)
    z, log_det = model.view(x)
    each = MultivariateNormal(paths.means, paths.covariances).log_prob(z[:, None].double())
    both = (paths.log_weights + each).logsumexp(1) + log_det
    assert torch.allclose(both.float(), model.log_prob(x), atol=1e-4)


@pytest.fixture
def binary():
    """A model of 5 bits, all rows, and their log-probabilities."""
    model = lk.make("made", lk.binary(5), hidden=(16,), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
        rows = torch.tensor(list(itertools.product((0, 1), repeat=5)))
        return model, rows, model.log_prob(rows)


def check_counts(samples, rows, probability):
    """χ² of the rows drawn, at 1e-4."""
    codes = (samples * 2 ** torch.arange(4, -1, -1)).sum(1)
    seen = torch.bincount(codes, minlength=len(rows)).double()
    p = probability.double()
    likely_rows = p > 1e-3
    assert seen[p == 0].sum() == 0
    expected = len(samples) * p[likely_rows]
    chi2 = ((seen[likely_rows] - expected).square() / expected).sum().item()
    assert chi2 < stats.chi2.isf(1e-4, int(likely_rows.sum()) - 1)


def test_particles_draw_discrete_rows_from_noisy_measurements(binary):
    model, rows, log_prob = binary
    y = torch.tensor([0.9, 0.2, 0.4, 0.6, 0.3])
    p = lk.posterior(model, y, None, 0.5, n=3000, method="auto", particles=64, seed=0)
    given = -((rows - y) / 0.5).square().sum(1) / 2
    assert (p.method, p.kind) == ("particles", "asymptotic")
    check_counts(p.samples, rows, (log_prob + given).softmax(0))


def test_particles_take_known_entries_without_noise(binary):
    model, rows, log_prob = binary
    known = torch.tensor([False, False, True, False, True])
    p = lk.posterior(model, [math.nan, 7, 1, 7, 0], Mask(known), n=3000, seed=0)
    fits = (rows[:, 2] == 1) & (rows[:, 4] == 0)
    check_counts(p.samples, rows, log_prob.masked_fill(~fits, -math.inf).softmax(0))
    first = lk.posterior(
        model, [1, 0, 0, 0, 0], Mask(known.flip(0) & False | (torch.arange(5) < 2))
    )
    assert first.kind == "exact"


def test_callables_whose_tensors_are_in_the_models_type_serve_exact_methods():
    model = lk.make("gaussian", lk.reals(3), seed=0)
    weights = torch.randn(3, 2)
    y = torch.randn(2)
    given = lk.posterior(model, y, Function(lambda x: x @ weights, linear=True), 0.3, n=20)
    known = lk.posterior(model, y, Linear(weights.mT), 0.3, n=20)
    assert given.kind == "exact"
    assert torch.allclose(given.mean, known.mean, atol=1e-4)
    assert torch.allclose(given.std, known.std, atol=1e-4)


def test_methods_say_what_they_lack(prior):
    model, *_ = prior("gaussian", (2, 2))
    with pytest.raises(LikelyError, match="exact needs a linear operator"):
        lk.posterior(model, torch.zeros(2, 2), torch.sin, 1.0, method="exact")
    with pytest.raises(LikelyError, match="hmc needs noise"):
        lk.posterior(model, torch.zeros(2, 2))
    with pytest.raises(LikelyError, match="unknown method"):
        lk.posterior(model, torch.zeros(2, 2), None, 1.0, method="magic")
    with pytest.raises(LikelyError, match="has no option 'particles'"):
        lk.posterior(model, torch.zeros(2, 2), None, 1.0, particles=3)


QUICK = {
    "hmc": {"chains": 4, "burn_in": 5, "thin": 1, "leapfrogs": 2, "temperatures": 2},
    "smc": {"particles": 16, "moves": 1},
    "latent": {"particles": 16, "moves": 1},
    "particles": {"particles": 8},
    "guided": {"steps": 5},
    "split-gibbs": {"sweeps": 4, "steps": 3},
    "twisted-smc": {"particles": 16, "steps": 5},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", entries())
def test_every_method_answers_each_row_alone_for_every_prior_that_it_takes(name):
    entry = entries()[name]
    domain = next((d for d in (lk.reals(4), lk.binary(4)) if entry.takes(d)), None)
    if domain is None:
        pytest.skip("takes neither reals nor bits")
    model = lk.make(name, domain, seed=0).eval()
    rows = torch.randn(64, 4) if domain == lk.reals(4) else torch.randint(2, (64, 4))
    model.prepare(Batch(rows))
    y = torch.randn(2, 4)
    problem = next(iter(_Measurements(model, y, None, 0.5, "error")))
    for method in methods().values():
        if method.obstacle(problem) is not None:
            continue
        options = {"n": 8, "method": method.name, **QUICK.get(method.name, {})}
        together = lk.posterior(model, y, None, 0.5, **options)
        assert together.samples.shape == (2, 8, 4)
        assert together.samples.isfinite().all(), method.name
        alone = lk.posterior(model, y[1], None, 0.5, **options)
        assert torch.equal(together.samples[1], alone.samples), method.name


@pytest.mark.parametrize("name", ["realnvp", "nsf", "gan"])
def test_what_generates_makes_the_samples_of_its_noise(name):
    model = lk.make(name, lk.reals(3), seed=0)
    model.prepare(Batch(torch.randn(64, 3) * 3 + 1))
    torch.manual_seed(5)
    made = model.generate(torch.randn(10, model.normals))
    assert torch.allclose(made.detach(), model.sample(10, seed=5), atol=1e-5)


def test_models_without_a_smooth_map_of_noise_say_so():
    assert lk.make("realnvp", lk.integers(4, 3)).normals is None
    assert lk.make("nsf", lk.table(lk.Periodic(0, 1), lk.Real())).normals is None
    assert lk.make("ffjord", lk.reals(2)).normals is None
    assert lk.make("infogan", lk.reals(2)).normals is None
    assert lk.make("gan", lk.integers(4, 3)).normals is None


def test_the_first_suitable_method_is_that_of_auto():
    prior, mask = lk.make("mfa", lk.reals(4), components=2, factors=1), Mask([1, 1, 0, 0])
    y = torch.zeros(4)
    names = lk.inverse.suitable(prior, y, mask, 0.1)
    assert names[0] == "exact"
    assert "guided" in names
    assert [name for name in methods() if name in names] == names
    made = lk.make("made", lk.binary(4))
    assert lk.inverse.suitable(made, y, mask) == [lk.posterior(made, y, mask, n=2).method]
    assert lk.inverse.suitable(lk.make("wgan", lk.reals(4)), y, mask) == []
