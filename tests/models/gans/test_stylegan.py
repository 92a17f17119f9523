"""StyleGAN: truncation, mixed styles, path lengths, and penalties now and then."""

import pytest
import torch

import likely as lk
from likely.contract.abilities import MixesStyles
from likely.contract.training import Batch
from likely.core.random import seeded
from likely.models.gans.penalties import path_lengths

IMAGES = lk.reals(1, 16, 16, layout="image")
KINDS = lk.table(kind=lk.Categorical(3))


def data_of(n=100):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 1, 16, 16, generator=generator)
    kind = torch.randint(0, 3, (n, 1), generator=generator)
    parts = [slice(0, n - 20), slice(n - 20, n - 10), slice(n - 10, n)]
    splits = [lk.data.Split(x[part], kind[part]) for part in parts]
    return lk.Data(IMAGES, *splits, context=KINDS)


def small(context=None, **options):
    options = {"latent": 5, "hidden": (3, 4), "seed": 0} | options
    model = lk.make("stylegan", IMAGES, context=context, **options)
    data = data_of()
    model.prepare(Batch(data.train.x, None if context is None else data.train.context))
    return model.eval()


def fitted(**options):
    model = small(KINDS, **options)
    lk.fit(model, data_of(), steps=6, batch=16, seed=0)
    return model


def test_truncation_towards_the_mean_latent():
    model = small()
    model.finish(Batch(data_of().train.x))
    plain = model.sample(6, seed=1)
    assert torch.equal(model.sample(6, truncation=1.0, seed=1), plain)
    one = model.sample(6, truncation=0.0, seed=1)
    assert torch.equal(one, one[:1].expand_as(one))
    styles = model.styles(6, seed=1)
    half = model.mean_latent + 0.5 * (styles - model.mean_latent)
    assert torch.equal(
        model.sample(6, truncation=0.5, seed=1), model.sample(6, styles=half, seed=1)
    )


def test_the_mean_latent_is_that_of_the_final_weights():
    """Second latents of mixed styles do not count, and those of the contexts of rows do."""
    model = fitted(mixing=1.0)
    data = data_of()
    kind = data.train.context[torch.randint(0, len(data.train), (20_000,))]
    latents = model.styles(20_000, context=kind, seed=0)[:, 0]
    error = latents.std(0) / 2048**0.5
    assert ((model.mean_latent - latents.mean(0)).abs() / error).max() < 4
    before = model.mean_latent.clone()
    model.train().objectives()[1].loss(Batch(data.train.x, data.train.context))
    assert torch.equal(model.mean_latent, before)


def test_mixed_styles():
    model = fitted()
    assert isinstance(model, MixesStyles)
    context = torch.tensor([1])
    mixed = model.mix_styles(3, context=context, seed=2)
    assert mixed.shape == (3, 3, 1, 16, 16)
    styles = model.styles(3, context=context, seed=2)
    own = model.sample(3, styles=styles, context=context, noise=False)
    torch.testing.assert_close(mixed.diagonal().movedim(-1, 0), own)
    # With no layer left for coarse styles all images of a column are the same, and of a row with all.
    columns = model.mix_styles(3, 0, context=context, seed=2)
    torch.testing.assert_close(columns, own.expand(3, -1, -1, -1, -1))
    rows = model.mix_styles(3, 5, context=context, seed=2)
    torch.testing.assert_close(rows, own[:, None].expand(-1, 3, -1, -1, -1))


def test_the_path_length_of_a_linear_synthesis():
    """‖Aᵀy‖, whose mean square is that of A over the pixels."""
    torch.manual_seed(0)
    pixels, layers = 12, 2
    matrix = torch.randn(layers, 4, pixels, dtype=torch.float64)
    styles = torch.randn(4000, layers, 4, dtype=torch.float64, requires_grad=True)

    def synthesis(w):
        return torch.einsum("nlk,lkp->np", w, matrix)

    with seeded(1):
        found = path_lengths(synthesis, styles, pixels)
    with seeded(1):
        y = torch.randn(4000, pixels, dtype=torch.float64) / pixels**0.5
    exact = torch.einsum("lkp,np->nlk", matrix, y).square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(found, exact)
    square = matrix.square().sum() / (layers * pixels)
    spread = found.square().std() / 4000**0.5
    assert abs(found.square().mean() - square) < 4 * spread


def test_path_lengths_come_at_each_fourth_step():
    x = data_of().train.x[:8]
    losses, free = {}, small()
    model = small(path=2.0)
    for step in (0, 1, 4):
        for net in (model, free):
            with seeded(step):
                losses[net] = net.objectives()[1].loss(Batch(x, step=step))
        extra = losses[model] - losses[free]
        assert (extra > 0).any() == (step % 4 == 0)
        if step == 0:
            assert model.path_mean > 0
            (gradient,) = torch.autograd.grad(extra.mean(), model.generator.synthesis.constant)
            assert gradient.any()
            first = model.path_mean
    assert model.path_mean != first
    again = small(path=2.0)
    again.load_training_state(model.training_state())
    assert again.path_mean == model.path_mean


def test_penalties_now_and_then_have_the_mean_of_all():
    x = data_of().train.x[:10]
    gradients = {}
    for every in (1, 4):
        model = small(penalty=1.0, penalty_every=every)
        total = 0
        for step in range(4):
            with seeded(0):
                loss = model.objectives()[0].loss(Batch(x, step=step)).mean()
            total = (
                total + torch.autograd.grad(loss, model.critic.features.from_image.parameters())[0]
            )
        gradients[every] = total / 4
    torch.testing.assert_close(gradients[1], gradients[4], rtol=1e-4, atol=1e-6)


def test_refusals():
    model = small()
    with pytest.raises(lk.DataError, match=r"styles have shape \(3, 5\), not \(2, 5, 5\)"):
        model.sample(2, styles=torch.zeros(3, 5))
    with pytest.raises(lk.LikelyError, match="truncation"):
        model.sample(2, truncation=-1.0)
    with pytest.raises(lk.LikelyError, match="mixing"):
        small(mixing=1.5)
