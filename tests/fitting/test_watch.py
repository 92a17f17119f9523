"""Figures that a caller has noted at each validation."""

import pytest
import torch

import likely as lk


def test_watching_adds_figures_and_changes_nothing_else(tmp_path) -> None:
    data = lk.load_data(torch.randn(400, 2))
    seen = []

    def watch(model: lk.GenerativeModel) -> dict[str, float]:
        seen.append(model.training)
        return {"noise": torch.rand(()).item(), "spread": model.sample(50).std().item()}

    watched, alone = (lk.make("nsf", data.domain, seed=0, transforms=1) for _ in range(2))
    history = lk.fit(watched, data, steps=120, run=tmp_path / "run", watch=watch)
    other = lk.fit(alone, data, steps=120)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name
    assert [row["valid"] for row in history.rows] == [row["valid"] for row in other.rows]
    assert len(seen) == len(history.rows) > 1
    assert not any(seen)  # not in training mode
    noise = {row["noise"] for row in history.rows}
    assert len(noise) == 1  # the same random numbers at each validation
    assert history.rows[-1]["spread"] == pytest.approx(data.train.x.std().item(), rel=0.5)
    assert "noise" in (tmp_path / "run" / "history.csv").read_text().splitlines()[0]
