"""Generators and critics of images: shapes, what joins where, and what a row depends on."""

import pytest
import torch

from likely.nets.adversarial import (
    DCFeatures,
    DCGenerator,
    ImageCritic,
    ResidualFeatures,
    ResidualGenerator,
    doubling,
)
from likely.nets.augmentation import AUGMENTATIONS, augmentation

SHAPES = [(1, 16, 16), (3, 28, 28), (1, 17, 30), (3, 64, 64)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_of_any_edge(shape):
    widths = doubling(shape, 2)
    assert 4 <= -(-max(shape[1:]) // 2 ** len(widths)) <= 7
    generators = DCGenerator(8, shape, widths), ResidualGenerator(6, 2, shape, widths)
    for generator in generators:
        image = generator(torch.randn(3, 8))
        assert image.shape == (3, shape[0] * shape[1] * shape[2])
        assert image.isfinite().all()
        for features in (
            DCFeatures(shape, widths, batch_norm=True, minibatch_std=True),
            ResidualFeatures(shape, widths, minibatch_std=True),
        ):
            assert ImageCritic(features, 2)(image, torch.randn(3, 2)).shape == (3,)


def test_widths_of_usual_images():
    assert [doubling((1, edge, edge), 64) for edge in (16, 28, 32, 64)] == [
        (64, 128),
        (64, 128),
        (64, 128, 256),
        (64, 128, 256, 256),
    ]


def test_contexts_join_a_critic_as_an_inner_product():
    shape = (1, 16, 16)
    for features in (DCFeatures(shape, (4, 8)), ResidualFeatures(shape, (4, 8))):
        critic = ImageCritic(features, 3).double()
        u, one, two = (torch.randn(5, k, dtype=torch.float64) for k in (256, 3, 3))
        difference = critic(u, one) - critic(u, two)
        embedded = critic.head.embedding(one) - critic.head.embedding(two)
        torch.testing.assert_close(difference, (embedded * features(u)).sum(1))


def test_features_are_sums_over_places():
    features = ResidualFeatures((1, 16, 16), (4, 8))
    u = torch.randn(2, 256)
    maps = features.blocks(u.unflatten(1, (1, 16, 16))).relu()
    torch.testing.assert_close(features(u), maps.sum((2, 3)))


@pytest.mark.parametrize(
    "net", [DCGenerator(8, (1, 28, 28), (4, 8)), ResidualGenerator(6, 2, (1, 28, 28), (4, 8))]
)
def test_a_row_in_evaluation_does_not_depend_on_its_neighbours(net):
    net(torch.randn(64, 8))
    net.eval()
    z = torch.randn(20, 8)
    alone = torch.cat([net(row[None]) for row in z])
    torch.testing.assert_close(net(z), alone, rtol=1e-5, atol=1e-5)


def test_each_block_has_noise_of_its_own():
    net = ResidualGenerator(9, 0, (1, 28, 28), (4, 8)).eval()
    assert net.parts == [3, 3, 3, 0]
    with torch.no_grad():
        for block in net.blocks:
            for norm in block.norms:
                norm.gain.normal_()
    z = torch.randn(1, 9).repeat(4, 1)
    for part in range(3):
        z[part + 1, 3 * part] += 1
    images = net(z)
    assert all(not torch.allclose(images[0], image) for image in images[1:])


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_augmentations_are_differentiable_and_change_images(name):
    x = torch.randn(6, 2, 16, 12, dtype=torch.float64, requires_grad=True)
    y = augmentation(name)(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert not torch.equal(y, x)
    weight = torch.randn_like(y)
    direction = torch.randn_like(x)
    values = []
    for t in (-1e-3, 1e-3):
        torch.manual_seed(1)
        values.append((augmentation(name)(x + t * direction) * weight).sum())
    torch.manual_seed(1)
    (slope,) = torch.autograd.grad((augmentation(name)(x) * weight).sum(), x)
    difference = (values[1] - values[0]) / 2e-3
    torch.testing.assert_close(difference, (slope * direction).sum(), rtol=1e-6, atol=1e-6)


def test_no_augmentation_is_the_identity():
    x = torch.randn(3, 1, 8, 8)
    assert augmentation("")(x) is x


def test_what_augmentations_do():
    x = torch.full((200, 1, 16, 16), 2.0)
    x[:, :, 8, 8] = 5.0
    moved = AUGMENTATIONS["translation"](x)
    # The background goes on, and the bright pixel is at most two pixels away from where it was.
    assert moved.min() == 2
    places = (moved == 5).nonzero()[:, 2:]
    assert len(places) == 200
    assert {*places.flatten().tolist()} == {6, 7, 8, 9, 10}
    cut = (AUGMENTATIONS["cutout"](x) == 0).sum((1, 2, 3))
    assert cut.max() == 64
    assert cut.min() >= 16
    # Of one channel, saturation does nothing; what is left is affine in each image.
    image = torch.randn(1, 1, 4, 4).double()
    coloured = AUGMENTATIONS["colour"](image)
    design = torch.stack([image.flatten(), torch.ones(16).double()], 1)
    fit = torch.linalg.lstsq(design, coloured.flatten()[:, None]).solution
    torch.testing.assert_close((design @ fit).flatten(), coloured.flatten())
    assert 0.5 <= fit[0].item() <= 1.5
