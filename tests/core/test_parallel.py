"""Calls in several processes: results in order, few of them waiting, and a killed process is told."""

import os
import signal
import time

import pytest
import torch

import likely as lk
from likely.core.parallel import in_order


def slow_first(sign: int, number: int) -> tuple[int, int]:
    if number == 0:
        time.sleep(0.5)
    if number == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return sign * number, torch.get_num_threads()


def test_results_come_in_order_and_do_not_pile_up() -> None:
    made = []

    def calls():
        for number in range(100):
            made.append(number)
            yield (number,)

    results = in_order(slow_first, [-1], calls(), 2)
    for number in range(4):
        assert next(results) == (-number, max(1, torch.get_num_threads() // 2))
        assert len(made) <= number + 3
    with pytest.raises(lk.RunError, match="processes=2: one of them was killed"):
        list(results)
    assert len(made) < 20
