"""Pixel models: a cached pass against the whole network for each entry."""

import pytest
import torch


class Rerun:
    """The pass of a `Walk`, with the whole network for each entry."""

    def __init__(self, model, n, context):
        self.model, self.context, self.t = model, context, 0
        self.x = model.domain.anchor.to(model.dtype).expand(n, *model.domain.shape).clone()

    def outputs(self):
        model, seen = self.model, self.model.features(self.x)
        sizes = model.channels, model.places, model.features.sizes[0]
        seen = seen.view(len(self.x), *sizes)
        maps = seen.transpose(2, 3).reshape(len(self.x), model.inputs, *model.domain.shape[-2:])
        h = model._hidden(maps, self.context).flatten(2).transpose(1, 2)
        x = self.x.view(len(self.x), *sizes[:2])
        outputs = model.outputs(h, x, seen, slice(0, model.places)).flatten(1, 2)
        return outputs[:, model.orderings[0][self.t]].detach()

    def feed(self, values):
        self.x.flatten(1)[:, self.model.orderings[0][self.t]] = values.to(self.x)
        self.t += 1

    def select(self, rows):
        self.x = self.x[rows]
        self.context = None if self.context is None else self.context[rows]


@pytest.fixture
def same_as_rerun(monkeypatch):
    """A function that checks outputs, draws and completions of a model of pixels."""

    def check(model):
        n = 3
        given = {} if model.context is None else {"context": torch.arange(n)[:, None]}
        known = torch.rand(n, *model.domain.shape) < 0.5
        draws = model.sample(n, seed=1, **given)
        filled, ess = model.complete_with_ess(draws, known, seed=2, particles=5, **given)
        features = None if model.context is None else model.context_features(given["context"])
        fast, slow = model._walk(0, n, features), Rerun(model, n, features)
        for i in model.orderings[0].tolist():
            torch.testing.assert_close(fast.outputs(), slow.outputs(), rtol=1e-10, atol=1e-10)
            for walk in (fast, slow):
                walk.feed(draws.flatten(1)[:, i])
        monkeypatch.setattr(type(model), "_walk", lambda model, k, n, c: Rerun(model, n, c))
        again = model.sample(n, seed=1, **given)
        torch.testing.assert_close(again, draws, rtol=1e-10, atol=1e-10)
        again, ess_again = model.complete_with_ess(draws, known, seed=2, particles=5, **given)
        torch.testing.assert_close(again, filled, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(ess_again, ess, rtol=1e-8, atol=1e-8)

    return check
