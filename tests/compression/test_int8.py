"""int8 weights: within half a step of the float ones, the same integers in both faces, tied outputs included."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tutorlib.compression import int8 as room
from tutorlib.compression.int8 import FEW_ROWS, FusedInt8Linear, Int8Linear, absmax_int8, quantize, weight_bytes
from tutorlib.generation import generate
from tutorlib.models.gpt import GPT, GPTConfig
from tutorlib.models.llama import Llama, LlamaConfig

SMALL = LlamaConfig(vocabulary=60, max_length=32, width=32, num_heads=4, num_key_value_heads=2, num_layers=2, hidden=48)


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 8), columns=st.integers(1, 20), spread=st.floats(1e-6, 1e4))
def test_every_weight_is_within_half_a_step(seed, rows, columns, spread):
    torch.manual_seed(seed)
    weight = spread * torch.randn(rows, columns)
    integers, scale = absmax_int8(weight)
    assert integers.dtype == torch.int8 and integers.abs().amax(dim=1).eq(127).all()
    assert ((integers * scale - weight).abs() <= scale * 0.5001).all()


def test_a_row_by_hand():
    integers, scale = absmax_int8(torch.tensor([[1.27, -0.634, 0.004], [0.0, 0.0, 0.0]]))
    assert integers.tolist() == [[127, -63, 0], [0, 0, 0]]
    assert scale[:, 0].tolist() == pytest.approx([0.01, 1.0])
    integers, scale = absmax_int8(torch.tensor([[1e-44, 0.0]]))  # its scale would round to 0
    assert integers.tolist() == [[0, 0]] and scale.item() == 1


@pytest.mark.parametrize("bias", [True, False])
def test_the_product_is_that_of_the_dequantized_matrix(bias):
    torch.manual_seed(0)
    layer = nn.Linear(64, 48, bias=bias)
    ours, inputs = Int8Linear(layer), torch.randn(2, 5, 64)
    with torch.no_grad():
        dequantized = nn.functional.linear(inputs, ours.integers * ours.scale[:, None], layer.bias)
        assert_same(ours(inputs), dequantized)
        bound = inputs.abs().sum(-1, keepdim=True) * ours.scale / 2  # each weight is off by half a step at most
        assert ((ours(inputs) - layer(inputs)).abs() <= bound * 1.01 + 1e-5).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(64,), (1, 64), (2, 5, 64), (FEW_ROWS, 64), (3, 16), (2, 80)])
def test_the_fused_kernel_is_the_product_rounded_to_bfloat16(bias, shape):
    torch.manual_seed(0)
    layer = nn.Linear(shape[-1], 48, bias=bias)
    explicit, fused, inputs = Int8Linear(layer), FusedInt8Linear(layer), torch.randn(shape)
    rounded = inputs.bfloat16().float()
    with torch.no_grad():
        assert fused(inputs).dtype == torch.float32 and fused(inputs).shape == (*shape[:-1], 48)
        offset = 0 if layer.bias is None else layer.bias  # added to the rounded product, in float32
        product = explicit(rounded) - offset
        assert ((fused(inputs) - offset - product).abs() <= product.abs() / 256 + 1e-5).all()
        assert not torch.equal(fused(inputs), explicit(inputs))  # so the kernel did run


@pytest.mark.parametrize("width", [1, 5, 8, 24, 40, 72, 88])
def test_rows_that_the_kernel_would_read_past_take_the_way_of_the_definition(width):
    layer, inputs = nn.Linear(width, 48), torch.randn(2, width)
    assert torch.equal(FusedInt8Linear(layer)(inputs), Int8Linear(layer)(inputs))


@pytest.mark.parametrize("width", [5, 64])
def test_many_rows_take_the_way_of_the_definition_where_bfloat16_is_slow(monkeypatch, width):
    monkeypatch.setattr(room, "has_fast_bfloat16", lambda device: False)
    monkeypatch.setattr(room, "LARGE", 0)
    torch.manual_seed(0)
    layer, inputs = nn.Linear(width, 48), torch.randn(FEW_ROWS + 1, width)
    assert torch.equal(FusedInt8Linear(layer)(inputs), Int8Linear(layer)(inputs))
    assert torch.equal(FusedInt8Linear(layer)(inputs[1:]), Int8Linear(layer)(inputs[1:])) == (width == 5)


@pytest.mark.parametrize("shape", [(FEW_ROWS + 1, 64), (3, 7, 64), (40, 5)])
def test_many_rows_are_rounded_to_bfloat16_where_that_is_fast(monkeypatch, shape):
    monkeypatch.setattr(room, "has_fast_bfloat16", lambda device: True)
    monkeypatch.setattr(room, "LARGE", 48 * shape[-1])
    torch.manual_seed(0)
    layer, inputs = nn.Linear(shape[-1], 48), torch.randn(shape)
    with torch.no_grad():
        ours, product = FusedInt8Linear(layer)(inputs), Int8Linear(layer)(inputs.bfloat16().float()) - layer.bias
        assert ours.dtype == torch.float32 and ours.shape == (*shape[:-1], 48)
        assert ((ours - layer.bias - product).abs() <= product.abs() / 256 + 1e-5).all()
        assert not torch.equal(ours, Int8Linear(layer)(inputs))
        monkeypatch.setattr(room, "LARGE", 48 * shape[-1] + 1)
        assert torch.equal(FusedInt8Linear(layer)(inputs), Int8Linear(layer)(inputs))


@pytest.mark.parametrize("fused", [False, True])
def test_a_layer_in_two_places_is_quantized_once(fused):
    shared = nn.Linear(16, 16)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Sequential(shared))
    small = quantize(model, fused=fused)
    assert small[0] is small[2] is small[3][0] and isinstance(small[0], Int8Linear)
    assert weight_bytes(small) == 16 * 16 + 2 * 4 * 16 and model[0] is model[2] is shared


@pytest.mark.parametrize("kind", [Int8Linear, FusedInt8Linear])
@pytest.mark.parametrize("inputs", [torch.ones(2, 16, dtype=torch.int64), torch.ones(2, 16, dtype=torch.int8),
                                    torch.ones(2, 8), torch.ones(2, 32), torch.tensor(1.0)])
def test_inputs_that_are_no_floats_or_of_another_width_are_refused(kind, inputs):
    with pytest.raises(ValueError, match=r"inputs must be floats \(..., 16\), got torch"):
        kind(nn.Linear(16, 8))(inputs)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("model", [Llama(SMALL), GPT(GPTConfig(vocabulary=60, max_length=32, width=32, num_heads=4,
                                                               num_layers=2))], ids=["llama", "gpt"])
def test_a_model_keeps_its_answers(model, fused):
    torch.manual_seed(1)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    small, tokens = quantize(model, fused=fused), torch.randint(60, (2, 8))
    with torch.no_grad():
        ours, theirs = small(tokens).log_softmax(-1), model.eval()(tokens).log_softmax(-1)
    assert (theirs.exp() * (theirs - ours)).sum(-1).mean() < 0.01  # the divergence, in nats
    assert not any(isinstance(module, nn.Linear) for module in small.modules())
    assert small.embedding.weight is model.embedding.weight is model.output.weight  # shared, and the model left as it was
    assert generate(small, tokens[:, :3], 5, temperature=0).shape == (2, 8)


def test_bytes_are_counted_once():
    model = Llama(SMALL)
    products = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))
    rows = sum(layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear))
    floats = 60 * 32 + 5 * 32  # the embedding and the norms
    assert weight_bytes(model) == 4 * sum(weight.numel() for weight in model.parameters())
    for fused in (False, True):
        assert weight_bytes(quantize(model, fused=fused)) == products + 4 * rows + 4 * floats


@pytest.mark.parametrize("kind", [Int8Linear, FusedInt8Linear])
def test_it_runs_in_bfloat16(kind):
    assert kind(nn.Linear(16, 8))(torch.randn(3, 16, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_the_scale_is_float32_whatever_the_weight_s_dtype():
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    for ours, expected in zip(absmax_int8(weight), absmax_int8(weight.float()), strict=True):
        assert ours.dtype == expected.dtype and torch.equal(ours, expected)


def test_a_quantized_model_is_for_inference_and_the_model_stays_in_training():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train()
    assert not quantize(model).training and not quantize(model)[1].training and model[1].training


@pytest.mark.parametrize("call, complaint", [
    (lambda: absmax_int8(torch.ones(3)), r"weight must be a matrix of finite floats .* got torch.float32 \(3,\)"),
    (lambda: absmax_int8(torch.ones(2, 2, dtype=torch.int8)), "weight must be a matrix of finite floats"),
    (lambda: absmax_int8(torch.tensor([[1.0, float("nan")]])), "weight must be a matrix of finite floats"),
    (lambda: absmax_int8(torch.tensor([[1.0, float("inf")]])), "weight must be a matrix of finite floats"),
    (lambda: quantize(nn.ReLU()), "ReLU has no nn.Linear to quantize"),
    (lambda: quantize(nn.Linear(2, 2, device="meta"), fused=True), "fused=True needs a model on the CPU")])
def test_wrong_arguments_are_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_half_precision_does_not_overflow_before_it_is_scaled():
    layer = torch.nn.Linear(4096, 2, bias=False)
    torch.nn.init.constant_(layer.weight, 0.01)
    outputs = Int8Linear(layer)(torch.full((1, 4096), 5.0, dtype=torch.float16))
    assert outputs.dtype == torch.float16
    torch.testing.assert_close(outputs.float(), torch.full((1, 2), 204.8), atol=0.5, rtol=0)
