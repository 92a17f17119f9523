"""A model in a file of the user's own gets what every registered model has: CONTRIBUTING's example."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import likely as lk
from likely.contract import registry

EXAMPLE = Path(__file__).parent / "example_model.py"


@pytest.fixture
def laplace():
    """The example, registered while a test runs."""
    namespace = {"__name__": "example_model"}
    exec(compile(EXAMPLE.read_text(), EXAMPLE, "exec"), namespace)
    yield namespace["Laplace"]
    del registry._entries["laplace"]


@pytest.fixture
def data():
    noise = torch.distributions.Laplace(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.5]))
    torch.manual_seed(1)
    return lk.load_data(noise.sample((3000,)), domain=lk.reals(2))


def test_the_example_stands_in_contributing():
    assert EXAMPLE.read_text() in (EXAMPLE.parents[1] / "CONTRIBUTING.md").read_text()


def test_it_fits_scores_samples_and_is_saved(laplace, data, tmp_path):
    model = lk.make("laplace", data.domain, width=2.0)
    lk.fit(model, data, steps=400, rate=0.05, early_stopping=False, run=tmp_path / "run")
    # The maximum-likelihood estimates are the medians and the mean absolute deviation from them.
    z, _ = model.view(data.train.x)
    assert torch.allclose(model.mean, z.median(0).values, atol=0.05)
    assert model.log_width.exp().item() == pytest.approx(
        (z - model.mean).abs().mean().item(), rel=0.03
    )
    x = model.sample(1000, seed=1)
    score = model.log_likelihood(x)
    assert str(score.kind) == "exact"
    again = lk.load(tmp_path / "run")
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert again.hyperparameters == {"view": "bijections", "width": 2.0}


def test_its_option_is_checked(laplace):
    with pytest.raises(
        lk.LikelyError, match=r"width=-1: give a finite number above 0, such as 1\.0"
    ):
        lk.make("laplace", lk.reals(2), width=-1)
    with pytest.raises(lk.DomainError, match="Laplace does not take binary columns"):
        lk.make("laplace", lk.binary(3))


def test_it_is_compared(laplace, data):
    comparison = lk.compare(["laplace", "gaussian"], data, steps=200, seeds=1)
    assert {"laplace", "gaussian"} <= {row.model for row in comparison.rows}


def test_it_passes_the_conformance_suite():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "laplace"]
    suite = [str(EXAMPLE.parent / "test_conformance.py"), f"--models-from={EXAMPLE}"]
    done = subprocess.run([*command, *suite], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "[100%]" in done.stdout
