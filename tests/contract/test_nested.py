"""A model that is an option of another is checked, saved and loaded with it."""

import pytest
import torch

import likely as lk
from likely.contract import registry


@pytest.fixture
def doubled():
    """A registered model that adds a second one to a first, its option."""

    class Doubled(lk.GenerativeModel):
        def __init__(self, domain, *, inner: lk.GenerativeModel, factor: float = 2.0):
            super().__init__(domain)
            self.inner, self.factor = inner, factor

        def _log_prob(self, x, context):
            return (
                self.inner.log_prob(x / self.factor) - x.shape[1] * torch.tensor(self.factor).log()
            )

        def _sample(self, n, context):
            return self.factor * self.inner.sample(n)

    lk.register("doubled", title="", density="exact", constraint="", paper="")(Doubled)
    yield Doubled
    del registry._entries["doubled"]


def test_nested_models_are_saved_and_loaded(doubled, tmp_path):
    inner = lk.make("gmm", lk.reals(2), components=3, seed=0)
    model = lk.make("doubled", lk.reals(2), inner=inner)
    lk.save(model, tmp_path / "model.safetensors")
    again = lk.load(tmp_path / "model.safetensors")
    assert again.inner.hyperparameters == inner.hyperparameters
    x = model.sample(5, seed=1)
    assert torch.equal(again.sample(5, seed=1), x)
    assert torch.equal(again.log_prob(x), model.log_prob(x))


def test_an_option_that_must_be_a_model_is_checked(doubled):
    with pytest.raises(lk.LikelyError, match="inner=3: give a GenerativeModel"):
        lk.make("doubled", lk.reals(2), inner=3)
