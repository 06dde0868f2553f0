"""Grids, rounding to nearest and with compensation, packing, and models in few bits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tutorlib.compression.quantization import (
    FusedInt4Linear,
    QuantizedLinear,
    check_bits,
    gptq,
    grid,
    input_moments,
    matrices,
    pack_bits,
    quantize_linears,
    round_to_nearest,
    unpack_bits,
    with_weights,
)
from tutorlib.models import GPT, GPTConfig

SMALL = GPTConfig(vocabulary=60, max_length=32, width=32, num_heads=4, num_layers=2)
GROUPS = "tensor", "row", 8


def moments_of(inputs):
    return inputs.T @ inputs / len(inputs)


def output_error(quantized, weight, moments):
    off = quantized.weight - weight
    return (off @ moments * off).sum().item()


@given(seed=st.integers(0, 10**6), bits=st.integers(1, 8), group=st.sampled_from(GROUPS), spread=st.floats(1e-2, 1e2))
def test_every_weight_is_within_half_a_step(seed, bits, group, spread):
    torch.manual_seed(seed)
    weight = spread * torch.randn(6, 16)
    found = round_to_nearest(weight, bits, group)
    width = 16 if group == "row" else 8
    scale = found.scale.float().expand(6, 16) if group == "tensor" else found.scale.float().repeat_interleave(width, 1)
    halves = 2**-10 * weight.abs().max() * 2  # what float16 does to the minimum and, 2^bits - 1 times, to the scale
    assert ((found.weight - weight).abs() <= scale / 2 + halves).all()
    assert found.integers.max().item() < 2**bits and found.scale.dtype == torch.float16


@pytest.mark.parametrize("group, shape", [("tensor", (1, 1)), ("row", (2, 1)), (2, (2, 2))])
def test_a_grid_by_hand(group, shape):
    weight = torch.tensor([[0.0, 3.0, 1.0, 1.0], [-3.0, 0.0, 6.0, 12.0]])
    scale, minimum = grid(weight, 2, group)
    assert scale.shape == minimum.shape == shape
    expected = {"tensor": ([5.0], [-3.0]), "row": ([1.0, 5.0], [0.0, -3.0]), 2: ([1.0, 1.0, 1.0, 2.0], [0.0, 1.0, -3.0, 6.0])}
    assert (scale.flatten().tolist(), minimum.flatten().tolist()) == expected[group]
    assert round_to_nearest(weight, 2, "row").integers.tolist() == [[0, 3, 1, 1], [0, 1, 2, 3]]


def test_bytes_are_those_of_the_packed_integers_and_the_grids():
    weight = torch.randn(6, 16)
    for bits, group, grids in ((3, "row", 6), (4, 8, 12), (8, "tensor", 1)):
        found = round_to_nearest(weight, bits, group)
        assert found.nbytes == 6 * 16 * bits // 8 + 4 * grids == len(pack_bits(found.integers, bits)) + 4 * grids


def test_smaller_groups_and_more_bits_are_nearer():
    torch.manual_seed(0)
    weight = torch.randn(16, 64) * torch.rand(16, 1)
    off = {(bits, group): (round_to_nearest(weight, bits, group).weight - weight).square().mean().item()
           for bits in (2, 3, 4, 8) for group in GROUPS}
    for bits in (2, 3, 4, 8):
        assert off[bits, 8] < off[bits, "row"] < off[bits, "tensor"]
    for fewer, more in ((2, 3), (3, 4), (4, 8)):
        assert off[more, "row"] < off[fewer, "row"] / 3


@given(seed=st.integers(0, 10**6), bits=st.integers(2, 4), group=st.sampled_from(GROUPS))
def test_compensation_changes_the_outputs_less(seed, bits, group):
    torch.manual_seed(seed)
    inputs = torch.randn(400, 16) @ torch.randn(16, 16)  # inputs that go together
    weight, moments = torch.randn(24, 16), moments_of(inputs)
    nearest, compensated = (output_error(each, weight, moments) for each in (
        round_to_nearest(weight, bits, group), gptq(weight, moments, bits, group)))
    assert compensated < nearest


def test_inputs_that_do_not_go_together_leave_nothing_to_compensate():
    torch.manual_seed(0)
    weight = torch.randn(8, 16)
    diagonal = torch.diag(torch.rand(16) + 0.1)
    assert torch.equal(gptq(weight, diagonal, 3).integers, round_to_nearest(weight, 3).integers)


def test_compensation_is_the_update_of_optimal_brain_surgery():
    """After each column the floats that are left are those that least squares would choose (Hassibi and Stork 1993)."""
    torch.manual_seed(0)
    weight, inputs = torch.randn(30, 6), torch.randn(50, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    moments = moments_of(inputs)
    found = gptq(weight, moments, 3, damping=1e-9)
    for row in range(30):
        scale, low = (part[row].double().item() for part in (found.scale, found.minimum))
        left = weight[row].double()
        for j in range(6):
            rounded = min(max(round(((left[j] - low) / scale).item()), 0), 7)
            assert found.integers[row, j] == rounded
            rest, off = slice(j + 1, 6), low + scale * rounded - left[j]
            if j < 5:  # the best reply to an error in input j, over the inputs that are left
                left[rest] -= torch.linalg.solve(moments[rest, rest], moments[rest, j]) * off


def test_an_input_that_is_always_zero_does_no_harm():
    inputs = torch.randn(50, 8) * torch.tensor([1.0, 0, 1, 1, 0, 1, 1, 1])
    found = gptq(torch.randn(4, 8), moments_of(inputs), 4)
    assert found.weight.isfinite().all()
    assert gptq(torch.randn(4, 8), torch.zeros(8, 8), 4).weight.isfinite().all()


@given(seed=st.integers(0, 10**6), bits=st.integers(1, 8), count=st.integers(0, 40))
def test_packing_loses_nothing_and_leaves_no_gap(seed, bits, count):
    torch.manual_seed(seed)
    integers = torch.randint(2**bits, (count,), dtype=torch.uint8)
    octets = pack_bits(integers, bits)
    assert octets.dtype == torch.uint8 and len(octets) == -(-count * bits // 8)
    assert torch.equal(unpack_bits(octets, bits, (count,)), integers)


def test_packing_by_hand():
    assert pack_bits(torch.tensor([1, 2, 3]), 4).tolist() == [0x21, 0x03]
    assert pack_bits(torch.tensor([7, 0, 7]), 3).tolist() == [0b11000111, 0b1]


def test_moments_are_those_of_each_layer_s_inputs_and_shared_weights_have_their_name():
    torch.manual_seed(0)
    model, tokens = GPT(SMALL).eval(), torch.randint(60, (3, 8))
    found = input_moments(model, [(tokens[:1],), (tokens[1:],)])  # batches of unequal size count by their rows
    assert set(found) == set(matrices(model))  # the output's weight is the embedding's
    with torch.no_grad():
        inputs = model.layers[0].attention_norm(model.position(model.embedding(tokens))).flatten(0, 1)
    assert_same(found["layers.0.attention.query.weight"], moments_of(inputs))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_model_with_other_weights_is_a_copy_that_stays_tied():
    model = GPT(SMALL)
    before = {name: weight.clone() for name, weight in matrices(model).items()}
    small = with_weights(model, {name: round_to_nearest(weight, 4).weight for name, weight in matrices(model).items()})
    assert small.output.weight is small.embedding.weight and not small.training
    assert all(torch.equal(matrices(model)[name], weight) for name, weight in before.items())
    assert len(matrices(small)["embedding.weight"][0].unique()) <= 16


@pytest.mark.parametrize("bits, group", [(8, "tensor"), (4, "row"), (3, 16)])
def test_a_quantized_layer_is_the_dequantized_product(bits, group):
    torch.manual_seed(0)
    layer, inputs = nn.Linear(32, 16), torch.randn(2, 5, 32)
    found = round_to_nearest(layer.weight.detach(), bits, group)
    with torch.no_grad():
        assert_same(QuantizedLinear(layer, found)(inputs), nn.functional.linear(inputs, found.weight, layer.bias))
    stored = sum(buffer.numel() * buffer.element_size() for buffer in QuantizedLinear(layer, found).buffers())
    assert stored == found.nbytes + 4 * 16  # and the bias


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [32, 64])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_the_kernel_of_four_bits_is_the_product_in_bfloat16(bias, group, rows):
    torch.manual_seed(0)
    layer, inputs = nn.Linear(128, 48, bias=bias), torch.randn(rows, 128).bfloat16().float()
    found = round_to_nearest(layer.weight.detach(), 4, group)
    with torch.no_grad():
        fused, explicit = FusedInt4Linear(layer, found)(inputs), QuantizedLinear(layer, found)(inputs)
    assert fused.shape == explicit.shape and fused.dtype == torch.float32
    assert (fused - explicit).abs().max() < 0.02 * explicit.abs().max()  # bfloat16 has 8 bits
    assert not torch.equal(fused, explicit)


@pytest.mark.parametrize("fused", [False, True])
def test_linear_layers_of_a_model_are_replaced_and_the_rest_is_shared(fused):
    torch.manual_seed(0)
    model, tokens = GPT(GPTConfig(vocabulary=64, max_length=16, width=64, num_heads=4, num_layers=1)), torch.randint(64, (1, 8))
    small = quantize_linears(model, 4, 32, fused=fused)
    assert small.embedding.weight is model.embedding.weight and not small.training
    assert not any(type(module) is nn.Linear for module in small.modules())
    assert small(tokens).shape == (1, 8, 64)


@pytest.mark.parametrize("call, complaint", [
    (lambda: grid(torch.ones(3), 4), r"weight must be a matrix of finite floats .* got torch.float32 \(3,\)"),
    (lambda: grid(torch.tensor([[float("nan"), 1.0]]), 4), "weight must be a matrix of finite floats"),
    (lambda: grid(torch.full((2, 2), 1e6), 4), "weight must be within 32752 of 0.* got 1e\\+06"),
    (lambda: round_to_nearest(torch.ones(2, 8), 9), "bits must be from 1 to 8, got 9"),
    (lambda: round_to_nearest(torch.ones(2, 8), 0), "bits must be at least 1, got 0"),
    (lambda: check_bits(2.5), "bits must be a whole number, got 2.5"),
    (lambda: round_to_nearest(torch.ones(2, 8), 4, 3), 'group must be "tensor", "row" or a divisor of the 8 inputs, got 3'),
    (lambda: round_to_nearest(torch.ones(2, 8), 4, "column"), "got 'column'"),
    (lambda: gptq(torch.ones(2, 8), torch.eye(4), 4), r"moments must be \(8, 8\), one row an input, got \(4, 4\)"),
    (lambda: gptq(torch.ones(2, 8), torch.eye(8), 4, damping=0.0), "damping must be above 0, got 0.0"),
    (lambda: pack_bits(torch.tensor([4]), 2), r"integers must lie in \[0, 4\), got from 4 to 4"),
    (lambda: unpack_bits(torch.zeros(2, dtype=torch.uint8), 3, (8,)), "octets must be 3 bytes for .* got 2"),
    (lambda: input_moments(nn.ReLU(), []), "ReLU has no nn.Linear"),
    (lambda: input_moments(nn.Linear(2, 2), []), "at least one batch"),
    (lambda: with_weights(nn.Linear(2, 2), {"weights": torch.ones(2, 2)}), "'weights' .* expected one of weight, bias"),
    (lambda: with_weights(nn.Linear(2, 2), {"weight": torch.ones(2)}), r"'weight' of the shape \(2,\); expected \(2, 2\)"),
    (lambda: QuantizedLinear(nn.Linear(4, 2), round_to_nearest(torch.ones(2, 2), 4)), r"quantized must be \(2, 4\)"),
    (lambda: quantize_linears(nn.Linear(64, 16), 3, 32, fused=True), "got 3 bits, groups of 32, 16 outputs"),
    (lambda: quantize_linears(nn.Linear(64, 10), 4, 32, fused=True), "got 4 bits, groups of 32, 10 outputs")])
def test_wrong_arguments_are_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


# -- files ------------------------------------------------------------------------------------------------------------


def test_four_bits_in_groups_of_32_are_gguf_s_q4_1():
    gguf = pytest.importorskip("gguf")
    torch.manual_seed(0)
    weight = torch.randn(24, 64)
    ours = round_to_nearest(weight, 4, 32)
    theirs = gguf.quants.quantize(weight.numpy(), gguf.GGMLQuantizationType.Q4_1)
    read = torch.from_numpy(gguf.quants.dequantize(theirs, gguf.GGMLQuantizationType.Q4_1))
    step = ours.scale.float().repeat_interleave(32, 1)
    assert theirs.nbytes == ours.nbytes
    assert ((ours.weight - read).abs() < 0.01 * step + 1e-3).float().mean() > 0.99  # the rest: ties, rounded to the other side


def test_it_goes_through_a_file_of_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    load_file = pytest.importorskip("safetensors.torch").load_file
    model = quantize_linears(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)), 3, 16)
    save_file(model.state_dict(), tmp_path / "small.safetensors")
    other = quantize_linears(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)), 3, 16)
    inputs = torch.randn(2, 64)
    assert not torch.equal(other(inputs), model(inputs))
    other.load_state_dict(load_file(tmp_path / "small.safetensors"))
    assert torch.equal(other(inputs), model(inputs))
