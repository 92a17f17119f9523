"""RealNVP: masks, squeeze and split, Jacobians on images, and where it falls back to vectors."""

import itertools
import math

import pytest
import torch

import likely as lk
from likely.contract.training import Batch
from likely.core.columns import Constant, Real
from likely.core.domain import Domain
from likely.models.flows.images import ImageCoupling, squeezed
from likely.models.flows.realnvp import _scales
from likely.models.flows.transforms import VectorCoupling

SHAPES = [(1, 8, 8), (3, 8, 8), (1, 7, 7), (1, 28, 28), (2, 12, 10), (1, 1, 5), (1, 2, 2)]


def rough(shape, dtype=torch.float64, **options):
    """A model whose networks are far from the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = lk.make(
            "realnvp", lk.reals(*shape, layout="image"), channels=6, blocks=1, **options
        )
        with torch.no_grad():
            for parameter in model.transforms.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.to(dtype)


def test_squeeze_by_hand():
    image = torch.arange(16).reshape(1, 4, 4)
    expected = [[[0, 2], [8, 10]], [[1, 3], [9, 11]], [[4, 6], [12, 14]], [[5, 7], [13, 15]]]
    assert squeezed(image).tolist() == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_scales_halve_the_entries_and_masks_halve_the_pixels(shape):
    scales = list(_scales(shape))
    assert scales[0][0].unique().numel() == math.prod(shape)
    for (entries, masks), (kept, _) in itertools.pairwise(scales):
        assert len(masks) == 2
        assert kept.numel() == entries.numel() // 2
        assert torch.isin(kept, entries).all()
        # The two masks cut the pixels in two independent ways.
        assert all(mask.float().mean() == 0.5 for mask in masks)
        assert (masks[0] & masks[1]).float().mean() == 0.25
        # A checkerboard of the picture: no two of its neighbours move together.
        moves = torch.zeros(math.prod(shape), dtype=torch.bool)
        moves[entries[masks[0]]] = True
        if entries.numel() == math.prod(shape):
            picture = moves.reshape(shape)
            assert (picture[:, 1:] ^ picture[:, :-1]).all()
            assert (picture[:, :, 1:] ^ picture[:, :, :-1]).all()
    entries, (mask,) = scales[-1]
    assert abs(int(mask.sum()) - entries.numel() / 2) <= len(entries) / 2
    assert min(entries.shape[1:]) <= 4 or entries.shape[1] % 2 or entries.shape[2] % 2


@pytest.mark.parametrize("shape", SHAPES)
def test_all_entries_move_and_only_those_of_the_scale(shape):
    model = rough(shape)
    x = torch.randn(2, math.prod(shape), dtype=torch.float64)
    moved = torch.zeros(x.shape[1], dtype=torch.bool)
    with torch.no_grad():
        for coupling in model.transforms:
            assert isinstance(coupling, ImageCoupling)
            y, _ = coupling(x, None)
            changed = (y != x).any(0)
            outside = torch.ones_like(changed)
            outside[coupling.entries[coupling.moves]] = False
            assert not changed[outside].any()
            # What lies in other scales has no influence.
            foreign = torch.ones_like(changed)
            foreign[coupling.entries.flatten()] = False
            again, _ = coupling(torch.where(foreign, x + 1, x), None)
            assert torch.equal(again[:, ~foreign], y[:, ~foreign])
            moved |= changed
    assert moved.all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 6, 6), (1, 7, 7), (1, 1, 5)])
@pytest.mark.parametrize("context", [None, lk.table(lk.Categorical(3))])
def test_jacobian_and_inverse_of_each_coupling(shape, context):
    model = rough(shape, transforms=8, context=context)
    z = torch.randn(2, math.prod(shape), dtype=torch.float64)
    features = None if context is None else model.context_features(torch.tensor([[0], [2]]))
    for coupling in model.transforms:
        y, log_det = coupling(z, features)
        assert (log_det != 0).all()
        jacobian = torch.autograd.functional.jacobian(
            lambda rows, f=coupling: f(rows, features)[0].sum(0), z
        )
        expected = torch.linalg.slogdet(jacobian.transpose(0, 1))[1]
        torch.testing.assert_close(log_det, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(coupling.inverse(y, features), z, rtol=1e-9, atol=1e-9)
        z = y.detach()


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 7, 7), (1, 28, 28)])
def test_far_from_the_data_everything_stays_finite(shape):
    model = rough(shape, torch.float32)
    x = 100 * torch.randn(4, *shape)
    model.prepare(Batch(torch.randn(50, *shape)))
    log_prob = model.log_prob(x.requires_grad_())
    gradients = torch.autograd.grad(log_prob.sum(), [x, *model.transforms.parameters()])
    assert log_prob.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert model.sample(20, seed=0).isfinite().all()


def test_constant_pixels_and_single_ones_are_taken_as_vectors():
    columns = (Constant(0.0), *[Real()] * 15)
    for domain in (Domain((4, 4), columns, layout="image"), lk.reals(3, 1, 1, layout="image")):
        model = lk.make("realnvp", domain)
        assert all(isinstance(coupling, VectorCoupling) for coupling in model.transforms)
        assert model.log_prob(model.sample(3, seed=0)).isfinite().all()


@pytest.mark.slow
def test_bound_of_affine_pixels_is_below_the_truth(tmp_path):
    domain = lk.integers(3, 1, 2, 2, layout="image")
    images = torch.cartesian_prod(*[torch.arange(3)] * 4).reshape(-1, 1, 2, 2)
    truth = (images.flatten(1)[:, :1] == images.flatten(1)).sum(1).double().softmax(0)
    torch.manual_seed(0)
    data = lk.load_data(images[torch.multinomial(truth, 4000, replacement=True)], domain=domain)
    model = lk.make("realnvp", domain, view="affine", transforms=6, channels=8, seed=0)
    assert model.density == "lower bound"
    gaps = []
    for steps in (0, 150):
        if steps:
            lk.fit(model, data, steps=steps, seed=0)
        else:
            model.prepare(Batch(data.train.x))
        bound = model.log_likelihood(images, seed=1, draws=64)
        # Each row has noise of its own, so that errors add up in quadrature.
        assert bound.value.exp().sum() <= 1 + 3 * (bound.value.exp() * bound.stderr).norm()
        gap = (truth * (truth.log() - bound.value)).sum()
        assert gap >= -3 * (truth * bound.stderr).norm()
        gaps.append(gap)
    assert gaps[1] < gaps[0] / 4
    lk.save(model, tmp_path / "model.safetensors")
    loaded = lk.load(tmp_path / "model.safetensors")
    torch.testing.assert_close(loaded.log_likelihood(images, seed=1, draws=64).value, bound.value)
    assert torch.equal(loaded.view(images)[0] < 0.5, torch.ones(81, 4, dtype=torch.bool))
