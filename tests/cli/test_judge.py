import pytest

import likely as lk
from likely.cli import main


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_page_of_a_run(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "judge.html"
    data = lk.load_data("digits")
    lk.fit(lk.make("independent", data.domain), data, run=run, steps=5)
    assert main(["judge", str(run), "digits", "-n", "12", "--out", str(out)]) == 0
    assert "12 pairs" in capsys.readouterr().out
    assert out.read_text().count("data:image/png") == 24
    assert main(["judge", str(run), "digits", "-n", "500", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "the test split has 179 rows" in captured.err
    assert "179 pairs" in captured.out
    assert main(["judge", str(run), "digits", "--out", str(tmp_path / "judge.png")]) == 2
