"""Bits per character, against a Markov chain of characters whose entropy rate is known."""

import math

import pytest
import torch

import likely as lk
from likely.evaluation.text import bits_per_character, each_character_once, lengths

COIN = torch.tensor([[0.9, 0.1], [0.3, 0.7]])


class Chain(lk.autoregressive.autoregressive.Autoregressive):
    """The true conditionals of a chain whose first character of a window is as likely as any."""

    def _terms(self, k, x, context):
        first = torch.full((len(x), 1), math.log(0.5))
        return torch.cat([first, COIN.log()[x[:, :-1], x[:, 1:]]], 1)


def text_of_chain(length):
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(length, generator=generator)
    x = [0]
    for value in u[1:].tolist():
        x.append(int(value > COIN[x[-1], 0]))
    return "".join("ab"[i] for i in x)


def test_each_character_counts_once_with_half_a_window_before_it(tmp_path):
    text = text_of_chain(20_000)
    (tmp_path / "a.txt").write_text(text)
    for window in (8, 9):
        data = lk.load_data(tmp_path / "a.txt", window=window)
        model = Chain(data.domain)
        held = text[-data.test.x[:].numel() :]
        pairs = COIN.log()[data.domain.codes(held)[:-1], data.domain.codes(held)[1:]]
        used = 1 + (len(held) - window) // (window // 2) * (window // 2) + window - 1
        exact = (math.log(2) - pairs[: used - 1].sum()) / used / math.log(2)
        figure = each_character_once(model, data.test)
        assert figure.value == pytest.approx(exact.item(), rel=1e-5)
        assert (
            abs(figure.value - 0.57207) < 4 * figure.stderr
        )  # the entropy rate, 3/4 H(.1) + 1/4 H(.3)


def test_evaluation_reports_bits_per_character(tmp_path):
    (tmp_path / "a.txt").write_text(text_of_chain(5000))
    data = lk.load_data(tmp_path / "a.txt", window=16)
    model = lk.make("rnn", data.domain, hidden=8, seed=0)
    lk.fit(model, data, steps=200, batch=32)
    found = lk.evaluate(model, data)
    windows = -found.log_likelihood.value / 16 / math.log(2)
    assert found.bits_per_character_in_windows.value == pytest.approx(windows, rel=1e-6)
    assert found.bits_per_character.value < found.bits_per_character_in_windows.value
    assert (
        abs(found.bits_per_character.value - 0.57207) < 4 * found.bits_per_character.stderr + 0.02
    )
    assert "bits per character" in str(found)
    backwards = lk.make("rnn", data.domain, hidden=8, order=range(15, -1, -1))
    assert lk.evaluate(backwards, data).bits_per_character_in_windows is None


def test_lines_count_their_end_once():
    data = lk.load_data(["ab", "b", "abba"] * 10)
    assert lengths(
        data.domain, lk.data.load_rows(["ab", "b", "abba"], domain=data.domain).x
    ).tolist() == [3, 2, 4]
    figure = bits_per_character(torch.tensor([-3.0, -2.0, -4.0]), torch.tensor([3, 2, 4]))
    assert (figure.value, figure.stderr) == pytest.approx((1 / math.log(2), 0.0))
