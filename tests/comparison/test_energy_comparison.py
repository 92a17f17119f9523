"""compare on an energy: ranked by what the draws are worth."""

import pytest

import likely as lk


def test_models_are_ranked_by_their_weights(tmp_path):
    target = lk.targets.ising(3, 3, temperature=3.0)
    found = lk.compare(
        ["independent", "made", "vae"], target, steps=250, seeds=2, rows=1024,
        hyperparameters={"made": {"hidden": (16,)}},
    )  # fmt: skip
    assert found.ranking == ["made", "independent"]
    assert "vae" in found.refused
    best = found.best("made").weighted
    assert abs(best.log_z.value - target.log_z) < 4 * best.log_z.stderr
    found.to_html(tmp_path / "index.html")
    assert "effective sample size" in (tmp_path / "index.html").read_text()
    report = found.to_json(tmp_path / "comparison.json")
    assert report["ranking"] == ["made", "independent"]
    assert len(report["runs"]) == 4


def test_what_cannot_be_compared():
    target = lk.targets.ising(3, 3)
    with pytest.raises(lk.DomainError, match="none of the models"):
        lk.compare(["vae"], target, steps=2)
    with pytest.raises(lk.LikelyError, match="one after the other"):
        lk.compare(["made"], target, steps=2, jobs=2)
