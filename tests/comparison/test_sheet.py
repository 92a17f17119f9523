"""The page of one model shows what was measured, and says what speaks against it."""

import numpy as np
import torch

import likely as lk
from likely.comparison.sheet import sheet
from likely.contract.model import GenerativeModel
from likely.data import Data, Split
from likely.evaluation import detect_outside, evaluate, robustness


class TwoClasses(GenerativeModel):
    """N(±1, 1) in each of two columns by the class, with its p(y|x), twice too sure."""

    def _sample(self, n, context):
        return context + torch.randn(n, 2)

    def _log_prob(self, x, context):
        return torch.distributions.Normal(context, 1.0).log_prob(x).sum(1)

    def free_energy(self, x):
        logs = torch.stack([self._log_prob(x, torch.full((len(x), 1), m)) for m in (-1.0, 1.0)])
        return -logs.logsumexp(0)

    def classify(self, x):
        odds = 4 * x.sum(1)
        return torch.stack([-odds / 2, odds / 2], 1).softmax(1)


def test_the_page_of_a_classifier_has_a_section_for_each_use():
    y = torch.randint(2, (600, 1), generator=torch.Generator().manual_seed(0))
    x = 2 * y - 1 + torch.randn(600, 2, generator=torch.Generator().manual_seed(1))
    splits = (Split(*parts) for parts in zip(x.split(200), y.split(200), strict=True))
    data = Data(lk.reals(2), *splits, context=lk.categories(2), name="toy")
    model = TwoClasses(data.domain, context=data.context)
    near = torch.zeros(100, 2) + 0.1 * torch.randn(100, 2)
    outside = detect_outside(model, data, {"far": 5 + x, "middle": near})
    assert set(outside.inside) == {"likelihood", "typicality", "gradient", "confidence"}
    found = [
        robustness(model, data.test.x, data.test.context[:, 0], [0.5, 1.0], norm=norm, steps=4)
        for norm in ("Linf", "L2")
    ]
    evaluation = evaluate(model, data)
    page = sheet(evaluation, outside=outside, robustness=found)
    for title in ("Calibration", "Rows outside", "Robustness, Linf", "Robustness, L2"):
        assert page.count(f"<h2>{title}</h2>") == 1
    assert page.count("data:image/svg+xml;base64,") == 1 + 4 + 2
    low, high = evaluation.calibration_null
    assert evaluation.calibration_error.value > high
    assert f"if calibrated {low:.2g} to {high:.2g}".replace("-", "−") in page
    assert "by likelihood, rows of middle" in page  # the centre between the classes is likely
    assert np.all(evaluation.reliability.rows.numpy() > 0)
    plain = sheet(evaluate(lk.make("independent", lk.reals(2)), Data(lk.reals(2), *[Split(x)] * 3)))
    assert "<h2>Calibration</h2>" not in plain
