"""Position codes: their formula, their properties, their limits."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tutorlib.layers import (
    Encoder,
    LearnedPosition,
    RotaryPosition,
    SinusoidalPosition,
    encoder_layer,
    sinusoidal_table,
)


@pytest.mark.parametrize("place, column", [(0, 0), (0, 1), (3, 0), (3, 1), (100, 6), (511, 7), (4999, 31),
                                           (4999, 2), (4998, 3)])
def test_the_table_entry_by_entry(place, column):
    """The last two angles are large: computed in float32 they would be wrong by 1e-4."""
    angle = place / 10000 ** (2 * (column // 2) / 32)
    expected = math.cos(angle) if column % 2 else math.sin(angle)
    assert sinusoidal_table(5000, 32)[place, column].item() == pytest.approx(expected, abs=1e-6)


@given(shift=st.integers(1, 300), width=st.sampled_from([2, 8, 64]))
def test_a_shift_is_one_rotation_for_all_positions(shift, width):
    table = sinusoidal_table(600, width).double()
    pairs = table.unflatten(1, (-1, 2))  # (600, D/2, 2)
    angle = shift / 10000 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    sine, cosine = pairs.unbind(-1)
    shifted = torch.stack([sine * angle.cos() + cosine * angle.sin(), cosine * angle.cos() - sine * angle.sin()], -1)
    torch.testing.assert_close(shifted[:600 - shift], pairs[shift:], atol=2e-6, rtol=0)


@pytest.mark.parametrize("make", [lambda: SinusoidalPosition(8, 20), lambda: LearnedPosition(20, 8)])
def test_a_code_is_added_and_depends_on_the_place_only(make, device):
    code = make().to(device)
    states = torch.randn(3, 20, 8, device=device)
    added = code(states) - states
    torch.testing.assert_close(added[0], added[2], atol=1e-5, rtol=0)
    assert_same(torch.cat([code(states[:, :6]), code(states[:, 6:], offset=6)], dim=1), code(states))
    assert torch.pdist(added[0]).min() > 1e-3
    assert code(states.bfloat16()).dtype == torch.bfloat16 or isinstance(code, LearnedPosition)


@pytest.mark.parametrize("code", [SinusoidalPosition(8, 20), LearnedPosition(20, 8)])
@pytest.mark.parametrize("length, offset", [(21, 0), (1, 20), (5, 16)])
def test_beyond_the_maximum_length(code, length, offset):
    with pytest.raises(ValueError, match=f"the sequence reaches position {length + offset}, but max_length is 20"):
        code(torch.zeros(1, length, 8), offset=offset)
    assert code(torch.zeros(1, 4, 8), offset=16).shape == (1, 4, 8)


def test_learned_codes_start_small_and_are_learned():
    torch.manual_seed(0)
    code = LearnedPosition(100, 50)
    assert code.table.std().item() == pytest.approx(0.02, rel=0.05) and list(code.state_dict()) == ["table"]


def test_sinusoidal_codes_are_not_saved_and_reach_position_5000():
    code = SinusoidalPosition(8)
    assert not code.state_dict() and len(code.table) == 5000


def test_the_base_is_10000():
    heads = torch.randn(1, 2, 5, 8)
    assert torch.equal(RotaryPosition(8)(heads), RotaryPosition(8, 10000.0)(heads))


def test_odd_widths():
    for width in (7, 0):
        with pytest.raises(ValueError, match=f"width must be even and at least 2, .*got {width}"):
            SinusoidalPosition(width)
        with pytest.raises(ValueError, match=f"head_width must be even and at least 2, .*got {width}"):
            RotaryPosition(width)


@given(seed=st.integers(0, 1000), base=st.sampled_from([100.0, 10000.0]), shift=st.integers(0, 500))
def test_rotary_scores_depend_on_the_distance_only(seed, base, shift):
    torch.manual_seed(seed)
    rotary = RotaryPosition(8, base)
    query, key = torch.randn(8), torch.randn(8)
    queries, keys = (x.expand(1, 1, 12, 8) for x in (query, key))
    scores = rotary(queries) @ rotary(keys).mT  # (1, 1, 12, 12)
    moved = rotary(queries, offset=shift) @ rotary(keys, offset=shift).mT
    torch.testing.assert_close(moved, scores, atol=2e-3, rtol=0)  # float32 angles of up to 500 radians
    for distance in range(-11, 12):
        diagonal = scores[0, 0].diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)
    assert scores[0, 0, 0].std() > 1e-3


def test_rotary_turns_coordinate_i_with_coordinate_i_plus_half():
    heads = torch.zeros(1, 1, 3, 4)
    heads[..., 1] = 1.0
    turned = RotaryPosition(4, base=100.0)(heads, offset=1)[0, 0]
    angle = torch.arange(1, 4) / 10
    torch.testing.assert_close(turned, torch.stack([0 * angle, angle.cos(), 0 * angle, angle.sin()], dim=1))


def test_rotary_keeps_lengths_device_and_dtype(device):
    heads = torch.randn(2, 3, 5, 8, device=device)
    torch.testing.assert_close(RotaryPosition(8)(heads, offset=3).norm(dim=-1), heads.norm(dim=-1))
    assert RotaryPosition(8).to(device, torch.bfloat16)(heads.bfloat16()).dtype == torch.bfloat16


def test_low_precision_does_not_blur_the_angles():
    """In bfloat16 the position 1001 itself would round to 1000."""
    heads = torch.ones(1, 1, 1, 2, dtype=torch.bfloat16)
    assert not torch.equal(RotaryPosition(2)(heads, offset=1000), RotaryPosition(2)(heads, offset=1001))


def test_position_breaks_permutation_equivariance():
    torch.manual_seed(0)
    encoder = Encoder([encoder_layer(16, 2, 32) for _ in range(2)]).double()
    states, order = torch.randn(2, 6, 16, dtype=torch.float64), torch.randperm(6)
    assert_same(encoder(states[:, order]), encoder(states)[:, order])
    for code in (SinusoidalPosition(16), LearnedPosition(6, 16).double()):
        with torch.no_grad():
            assert (encoder(code(states[:, order])) - encoder(code(states))[:, order]).abs().max() > 0.005


def test_rotary_keeps_no_tensor_between_calls():
    """One made inside a transform or by a fake tensor would outlive it, and could be neither copied nor pickled."""
    rotary, heads = RotaryPosition(8), torch.randn(4, 1, 2, 5, 8)
    expected = rotary(heads[0])
    mapped = torch.func.vmap(lambda each: rotary(each, 0))(heads)
    torch.func.grad(lambda each: rotary(each).square().sum())(heads[0])
    with torch.inference_mode():
        rotary(heads[0])
    assert_same(mapped[0], expected)
    for again in (copy.deepcopy(rotary), pickle.loads(pickle.dumps(rotary)), rotary):
        own = heads[0].clone().requires_grad_()
        assert torch.equal(again(own), expected)
        again(own).sum().backward()
        assert own.grad.isfinite().all()


def test_rotary_angles_follow_what_is_asked():
    """What one call computes must not outlive a change of place, length, dtype or base."""
    rotary, heads = RotaryPosition(8), torch.randn(1, 2, 5, 8)
    rotary(heads)
    for offset, length, dtype, base in [(0, 5, torch.float32, 10.0), (3, 5, torch.float32, 10.0), (3, 4, torch.float32, 10.0),
                                        (3, 4, torch.float64, 10.0), (3, 4, torch.float64, 7.0)]:
        rotary.base = base
        piece = heads[:, :, :length].to(dtype)
        turned = rotary(piece, offset)
        assert turned.dtype == dtype
        assert torch.equal(turned, RotaryPosition(8, base)(piece, offset))


@pytest.mark.parametrize("assign", [False, True])
def test_the_table_of_sines_comes_back_with_the_weights(assign):
    """It is not among the weights: built on the meta device it has no numbers, and a strict load does not bring them."""
    made = nn.Sequential(SinusoidalPosition(8, 20), nn.Linear(8, 3))
    with torch.device("meta"):
        empty = nn.Sequential(SinusoidalPosition(8, 20), nn.Linear(8, 3))
    if not assign:
        empty.to_empty(device="cpu")
        empty[0].table.fill_(torch.nan)
    empty.load_state_dict(made.state_dict(), strict=True, assign=assign)
    states = torch.randn(2, 5, 8)
    assert torch.equal(empty(states), made(states))


def test_a_table_keeps_its_dtype_when_weights_are_loaded():
    code = SinusoidalPosition(8, 20).to(torch.bfloat16)
    code.load_state_dict({})
    assert code.table.dtype == torch.bfloat16


@pytest.mark.parametrize("code", [SinusoidalPosition(8, 20), LearnedPosition(20, 8)])
@pytest.mark.parametrize("width", [1, 7])
def test_states_of_another_width(code, width):
    with pytest.raises(ValueError, match=rf"states must have the width 8 in the last dimension, got \(2, 5, {width}\)"):
        code(torch.zeros(2, 5, width))


def test_heads_of_another_width_or_of_integers():
    with pytest.raises(ValueError, match="heads must have the width 8 in the last dimension"):
        RotaryPosition(8)(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="states must be floating point, got torch.int64"):
        RotaryPosition(8)(torch.zeros(1, 1, 2, 8, dtype=torch.int64))


@pytest.mark.parametrize("length", [0, -1, 2.0])
def test_a_table_of_no_rows(length):
    for make in (lambda: SinusoidalPosition(8, length), lambda: LearnedPosition(length, 8)):
        with pytest.raises(ValueError, match=f"max_length must be (a whole number|at least 1), got {length}"):
            make()


@pytest.mark.parametrize("code", [SinusoidalPosition(8, 20), LearnedPosition(20, 8)])
def test_places_before_the_first_and_integers(code):
    with pytest.raises(ValueError, match="offset must be at least 0, got -3"):
        code(torch.zeros(2, 2, 8), offset=-3)  # rows from the table's end
    with pytest.raises(ValueError, match="states must be floating point, got torch.int64"):
        code(torch.zeros(2, 2, 8, dtype=torch.int64))


@pytest.mark.parametrize("base", [0.0, -1.0, math.nan, math.inf])
def test_a_base_that_turns_nothing(base):
    with pytest.raises(ValueError, match=f"base must be a finite number above 0, got {base}"):
        RotaryPosition(8, base)
