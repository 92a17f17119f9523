"""The built-in sprites: all combinations once, each image different."""

import numpy as np
import torch

import likely as lk
from likely.data.sprites import sprites


def test_sprites_differ_and_lie_inside_the_image():
    images, factors = sprites()
    assert images.shape == (6144, 32, 32)
    assert len(np.unique(np.packbits(images.reshape(6144, -1), axis=1), axis=0)) == 6144
    assert len(factors.drop_duplicates()) == 6144
    assert not images[:, [0, -1]].any()
    assert not images[:, :, [0, -1]].any()


def test_neighbouring_places_are_shifts():
    images, _ = sprites()
    grid = images.reshape(3, 4, 8, 8, 8, 32, 32)  # shape, scale, orientation, x, y
    assert (grid[:, :, :, 1, :, :, 2:] == grid[:, :, :, 0, :, :, :-2]).all()
    assert (grid[:, :, :, :, 1, 2:] == grid[:, :, :, :, 0, :-2]).all()
    quarter = grid[:, :, 2, 0, 0, 1:17, 1:17]  # around the centre at 8.5
    whole = grid[:, :, 0, 0, 0, 1:17, 1:17]
    assert (quarter == np.rot90(whole, 1, (3, 2))).mean() > 0.99  # but for pixels on an edge


def test_factors_are_a_context():
    data = lk.load_data("sprites", context="factors")
    assert data.domain == lk.binary(32, 32)
    assert data.domain.layout == "image"
    assert [data.context.column(i).levels for i in range(5)] == [3, 4, 8, 8, 8]
    assert sum(map(len, (data.train, data.valid, data.test))) == 6144
    assert data.train.x[:].unique().tolist() == [0, 1]
    small, factors = sprites((3, 2, 2, 2, 2))
    assert len(small) == len(factors) == 48
    assert torch.from_numpy(small).float().mean() > 0.02
