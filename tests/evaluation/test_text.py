"""Bits per character, against a Markov chain of characters whose entropy rate is known."""

import math

import pytest
import torch

import likely as lk
from likely.evaluation.text import bits_per_character, each_character_once, lengths

COIN = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
RATE = 0.57207  # bits a character: its entropy, 3/4 H(0.1) + 1/4 H(0.3)


class Chain(lk.autoregressive.base.Autoregressive):
    """The true conditionals of a chain whose first character of a window is as likely as any."""

    def _terms(self, k, x, context):
        first = torch.full((len(x), 1), math.log(0.5))
        return torch.cat([first, COIN.log()[x[:, :-1], x[:, 1:]]], 1)


def text_of_chain(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
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
        held = data.domain.codes(text[-data.test.x[:].numel() :])
        # Only the very first character has none before it.
        nats = math.log(2) - COIN.log()[held[:-1], held[1:]].sum().item()
        figure = each_character_once(Chain(data.domain), data.test)
        assert figure.value == pytest.approx(nats / len(held) / math.log(2), rel=1e-5)


@pytest.mark.slow
def test_the_error_is_the_spread_over_texts(tmp_path):
    figures = []
    for seed in range(200):
        (tmp_path / "a.txt").write_text(text_of_chain(2000, seed))
        data = lk.load_data(tmp_path / "a.txt", window=20)
        figures.append(each_character_once(Chain(data.domain), data.test))
    values = torch.tensor([figure.value for figure in figures])
    stated = torch.tensor([figure.stderr for figure in figures]).square().mean().sqrt()
    assert 0.8 < stated / values.std() < 1.25
    assert abs(values.mean() - RATE) < 4 * values.std() / math.sqrt(200) + 0.005


def test_evaluation_reports_bits_per_character(tmp_path):
    (tmp_path / "a.txt").write_text(text_of_chain(5000))
    data = lk.load_data(tmp_path / "a.txt", window=16)
    model = lk.make("rnn", data.domain, hidden=8, seed=0)
    lk.fit(model, data, steps=200, batch=32)
    found = lk.evaluate(model, data)
    windows = -found.log_likelihood.value / 16 / math.log(2)
    assert found.bits_per_character_in_windows.value == pytest.approx(windows, rel=1e-6)
    assert found.bits_per_character.value < found.bits_per_character_in_windows.value
    assert abs(found.bits_per_character.value - RATE) < 4 * found.bits_per_character.stderr + 0.02
    assert "bits per character" in str(found)
    assert math.isnan(bits_per_character(torch.tensor([-3.0]), torch.tensor([3])).stderr)
    backwards = lk.make("rnn", data.domain, hidden=8, order=range(15, -1, -1))
    assert lk.evaluate(backwards, data).bits_per_character_in_windows is None


def test_lines_count_their_end_once():
    data = lk.load_data(["ab", "b", "abba"] * 10)
    assert lengths(
        data.domain, lk.data.load_rows(["ab", "b", "abba"], domain=data.domain).x
    ).tolist() == [3, 2, 4]
    log_prob, counts = torch.tensor([-3.0, -2.0, -9.0]), torch.tensor([3, 2, 4])
    figure = bits_per_character(log_prob, counts, torch.tensor([2.0, 1.0, 0.0]))
    assert (figure.value, figure.stderr) == pytest.approx((1 / math.log(2), 0.0))
    assert bits_per_character(log_prob, counts).value == pytest.approx(14 / 9 / math.log(2))
