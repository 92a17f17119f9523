import numpy as np

import likely as lk


def test_the_page_shows_translations(tmp_path):
    rng = np.random.default_rng(0)
    data = lk.unpaired(rng.normal(size=(200, 2)), rng.normal(size=(200, 3)))
    options = {"cyclegan": {"hidden": (4,)}}
    found = lk.compare(["cyclegan"], data, steps=2, seeds=1, rows=50, hyperparameters=options)
    found.to_html(tmp_path / "page.html")
    assert "what these return to" in (tmp_path / "page.html").read_text()
