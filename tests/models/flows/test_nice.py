"""NICE: couplings that keep volumes, and a diagonal scale."""

import pytest
import torch

import likely as lk


@pytest.mark.parametrize("context", [None, lk.table(lk.Categorical(2))])
def test_volume_is_kept_up_to_the_diagonal(context):
    model = lk.make("nice", lk.reals(5), context=context, transforms=3, seed=0).double()
    with torch.no_grad():
        for parameter in model.transforms.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    z = 10 * torch.randn(4, 5, dtype=torch.float64)
    features = None if context is None else model.context_features(torch.tensor([[0], [1]] * 2))
    *couplings, diagonal = model.transforms
    start, moved = z, torch.zeros(5, dtype=torch.bool)
    for coupling in couplings:
        y, log_det = coupling(z, features)
        assert (log_det == 0).all()
        moved |= (y != z).any(0)
        z = y
    assert moved.all()
    y, log_det = diagonal(z, features)
    torch.testing.assert_close(y / z, diagonal.log_scale.exp().expand(4, -1))

    def whole(row):
        row = row[None]
        for transform in model.transforms:
            row = transform(row, None if features is None else features[:1])[0]
        return row[0]

    jacobian = torch.autograd.functional.jacobian(whole, start[0])
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[0])


def test_a_shift_does_not_depend_on_what_it_moves():
    model = lk.make("nice", lk.reals(6), transforms=1).double()
    coupling = model.transforms[0]
    x = torch.randn(8, 6, dtype=torch.float64)
    other = x.index_copy(1, coupling.moving, torch.randn(8, 3, dtype=torch.float64))
    shift, again = coupling(x, None)[0] - x, coupling(other, None)[0] - other
    torch.testing.assert_close(shift, again, rtol=0, atol=1e-14)
