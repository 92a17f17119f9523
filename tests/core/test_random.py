"""What is drawn with a seed does not depend on what else draws."""

from concurrent.futures import ThreadPoolExecutor

import torch

import likely as lk


def test_seeded_draws_are_the_same_in_threads():
    model = lk.make("gaussian", lk.reals(3), seed=0)
    model.prepare(lk.contract.training.Batch(torch.randn(100, 3)))

    def draw(seed):
        return model.sample(20_000, seed=seed)

    alone = [draw(seed) for seed in range(8)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(8)))
        list(pool.map(lambda _: model.sample(10), range(8)))  # without a seed they may wait, too
    assert all(map(torch.equal, alone, together))
    torch.set_rng_state(before)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(draw, range(8)))
    assert torch.equal(before, torch.get_rng_state())
