"""POVMs: probabilities, dual frames, and what is refused."""

import math

import numpy as np
import pytest
import torch

from likely.core.errors import DataError, LikelyError
from likely.quantum.povm import PAULI, POVM, POVMS, depolarised, povm

COMPLETE = ("tetrahedral", "pauli4", "pauli6")
BLOCH = torch.tensor([0.3, -0.5, 0.6], dtype=torch.complex128)
RHO = (PAULI["1"] + sum(b * PAULI[axis] for b, axis in zip(BLOCH, "xyz", strict=True))) / 2


def test_tetrahedral_outcomes_follow_their_directions():
    third, side = 1 / 3, math.sqrt(2) / 3
    v = [
        (0, 0, 1),
        (2 * side, 0, -third),
        (-side, math.sqrt(2 / 3), -third),
        (-side, -math.sqrt(2 / 3), -third),
    ]
    expected = [(1 + np.dot(row, BLOCH.real.numpy())) / 4 for row in v]
    assert povm("tetrahedral").probabilities(RHO).tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pauli4", [1.6 / 6, 1.3 / 6, 0.5 / 6, 1 - 3.4 / 6]),
        ("pauli6", [1.6 / 6, 0.4 / 6, 1.3 / 6, 0.7 / 6, 0.5 / 6, 1.5 / 6]),
        ("trine", [(1 + b) / 3 for b in (0.6, math.sqrt(0.0675) - 0.3, -math.sqrt(0.0675) - 0.3)]),
        ("computational", [0.8, 0.2]),
    ],
)
def test_probabilities_by_hand(name, expected):
    assert povm(name).probabilities(RHO).tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("name", COMPLETE)
def test_dual_frame_of_a_complete_povm_gives_back_the_state(name):
    measured = povm(name)
    assert measured.complete
    p = measured.probabilities(RHO).to(torch.complex128)
    rho = torch.einsum("a,aij->ij", p, measured.dual)
    torch.testing.assert_close(rho, RHO, rtol=0, atol=1e-14)
    for axis in "xyz":
        mean = (p.real * measured.estimator(PAULI[axis])).sum()
        assert mean.item() == pytest.approx(torch.trace(RHO @ PAULI[axis]).real.item(), abs=1e-14)


def test_overlap_of_pauli6_is_singular_and_that_of_trine_is_not():
    assert torch.linalg.matrix_rank(povm("pauli6").overlap).item() == 4
    trine = povm("trine")
    assert trine.rank == torch.linalg.matrix_rank(trine.overlap).item() == 3
    assert not trine.complete


@pytest.mark.parametrize(
    ("name", "inside", "outside"), [("trine", "1xz", "y"), ("computational", "1z", "xy")]
)
def test_observables_outside_the_span_are_refused(name, inside, outside):
    measured = povm(name)
    p = measured.probabilities(RHO)
    for axis in inside:
        mean = (p * measured.estimator(PAULI[axis])).sum().item()
        assert mean == pytest.approx(torch.trace(RHO @ PAULI[axis]).real.item(), abs=1e-14)
    for axis in outside:
        assert not measured.spans(PAULI[axis])
        assert not measured.spans(1e-6 * PAULI[axis])
        with pytest.raises(LikelyError, match="outside the span of the effects"):
            measured.estimator(PAULI[axis])


@pytest.mark.parametrize("name", POVMS)
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_noisy_effects_see_the_pure_state_as_the_effects_see_the_noisy_one(name, noise):
    rho = (1 - noise) * RHO + noise * PAULI["1"] / 2
    seen = depolarised(povm(name), noise).probabilities(RHO)
    torch.testing.assert_close(seen, povm(name).probabilities(rho), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", POVMS)
def test_pieces_add_up_to_the_effects(name):
    for measured in (povm(name), depolarised(povm(name), 0.2)):
        outcome, phi = measured.pieces
        effects = torch.zeros_like(measured.effects)
        effects.index_add_(0, outcome, phi[:, :, None] * phi[:, None, :].conj())
        torch.testing.assert_close(effects, measured.effects, rtol=0, atol=1e-15)
    assert povm(name).rank_one == (name != "pauli4")
    assert not measured.rank_one


def test_a_povm_of_ones_own():
    effects = povm("tetrahedral").effects.numpy()[[3, 1, 0, 2]]
    own = POVM("own", effects)
    assert own.complete
    assert own.domain(5).shape == (5,)
    unbalanced = POVM("noise", [0.3 * np.eye(2), 0.7 * np.eye(2)])
    assert (unbalanced.rank, unbalanced.rank_one) == (1, False)


def test_rounded_effects_become_a_povm():
    for decimals in (7, 8):
        effects = povm("tetrahedral").effects.numpy().round(decimals) * (1 + 2e-7)
        own = POVM("rounded", effects)
        torch.testing.assert_close(own.effects.sum(0), PAULI["1"], rtol=0, atol=1e-15)
        assert torch.linalg.eigvalsh(own.effects).min() > -1e-15
        torch.testing.assert_close(own.effects, povm("tetrahedral").effects, rtol=0, atol=1e-6)
        assert POVM("again", own.effects).effects.equal(own.effects)
    kept = povm("pauli6").effects
    assert POVM("same", kept).effects.equal(kept)
    with pytest.raises(DataError, match="misses the identity by 5e-06"):
        POVM("own", kept * (1 + 5e-6))


@pytest.mark.parametrize("contrast", [1.0, 1e-4, 1e-7])
def test_rank_dual_and_span_agree_at_low_contrast(contrast):
    effects = PAULI["1"] / 4 + contrast * (povm("tetrahedral").effects - PAULI["1"] / 4)
    weak = POVM("weak", effects)
    assert weak.complete
    p = weak.probabilities(RHO)
    for axis in "xyz":
        assert weak.spans(axis)
        mean = (p * weak.estimator(axis)).sum().item()
        assert mean == pytest.approx(
            torch.trace(RHO @ PAULI[axis]).real.item(), abs=1e-14 / contrast
        )
    plane = PAULI["1"] / 3 + contrast * (povm("trine").effects - PAULI["1"] / 3)
    flat = POVM("flat", plane)
    assert [flat.spans(axis) for axis in "xyz"] == [True, False, True]
    assert flat.rank == 3


@pytest.mark.parametrize(
    ("effects", "message"),
    [
        (np.eye(2), "have shape"),
        (np.ones((2, 3, 3)), "have shape"),
        ([[[1, 0], [0, 1]]], "two or more"),
        ([[[1, 1], [0, 0]], [[0, -1], [0, 1]]], "effect 0 is not Hermitian"),
        ([np.diag([0.5, np.nan]), np.eye(2)], "effect 0 is not Hermitian"),
        ([np.diag([0.5, 1.2]), np.diag([0.5, -0.2])], "effect 1 is not positive.* -0.2"),
        ([np.diag([0.5, 0.5]), np.diag([0.5, 0.4])], "misses the identity"),
        ([["a", "b"], ["c", "d"]], "not an array of numbers"),
        ([[1, 2], [3]], "not an array of numbers"),
    ],
)
def test_what_is_no_povm_is_refused(effects, message):
    with pytest.raises(DataError, match=message):
        POVM("own", effects)


def test_other_mistakes():
    with pytest.raises(LikelyError, match="the known ones are tetrahedral"):
        povm("sic")
    with pytest.raises(LikelyError, match="2 × 2"):
        povm("pauli4").estimator(torch.eye(4))
    with pytest.raises(LikelyError, match="not Hermitian"):
        povm("pauli4").estimator(PAULI["x"] + 1j * PAULI["y"])
    for noise in (-0.1, 1.1, math.nan):
        with pytest.raises(LikelyError, match="0 … 1"):
            depolarised(povm("pauli4"), noise)
