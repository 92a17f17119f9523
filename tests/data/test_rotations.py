"""The built-in rotations: images follow the matrices that stand beside them."""

import numpy as np
import torch

import likely as lk
from likely.data.rotations import RADII, rendered, rotations


def test_images_follow_the_matrices():
    images, matrices = rotations(0, 200)
    r = matrices.to_numpy().reshape(-1, 3, 3)
    np.testing.assert_allclose(
        r @ r.transpose(0, 2, 1), np.broadcast_to(np.eye(3), r.shape), atol=1e-9
    )
    assert (images == rendered(r)).all()
    assert not images[:, [0, -1]].any()
    assert not images[:, :, [0, -1]].any()
    assert (images.sum((1, 2)) < 1.2 * np.pi * (RADII**2).sum()).all()
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # in the plane of the image, x to y
    assert (rendered(quarter @ r) == np.rot90(images, -1, (1, 2))).mean() > 0.999
    half = np.diag([-1.0, 1, -1])  # the view from behind is not the same from any side
    assert (rendered(r @ half) != images).any((1, 2)).all()


def test_the_rotation_is_a_context_and_draws_have_a_seed():
    data = lk.load_data("rotations", context="rotation")
    assert data.domain == lk.binary(32, 32)
    assert data.context.names == tuple(f"r{i}{j}" for i in "123" for j in "123")
    assert sum(map(len, (data.train, data.valid, data.test))) == 10_000
    assert torch.equal(data.train.x[:5], lk.load_data("rotations").train.x[:5])
    assert not torch.equal(data.train.x[:5], lk.load_data("rotations", seed=1).train.x[:5])
