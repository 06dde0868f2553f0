"""int8 weights: within half a step of the float ones, the same integers in both faces, tied outputs included."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tutorlib.compression import Int8Linear, PackedInt8Linear, absmax_int8, quantize, weight_bytes
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
def test_the_packed_kernel_has_the_same_weights_and_rounds_its_input(bias):
    torch.manual_seed(0)
    layer = nn.Linear(64, 48, bias=bias)
    explicit, packed, inputs = Int8Linear(layer), PackedInt8Linear(layer), torch.randn(2, 5, 64)
    assert torch.equal(packed.kernel.weight().int_repr(), explicit.integers)
    with torch.no_grad():
        step = (inputs.max() - inputs.min()) / 127
        bound = step * 0.51 * (explicit.integers * explicit.scale[:, None]).abs().sum(dim=1)
        assert ((packed(inputs) - explicit(inputs)).abs() <= bound + 1e-5).all()
        assert not torch.equal(packed(inputs), explicit(inputs))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("model", [Llama(SMALL), GPT(GPTConfig(vocabulary=60, max_length=32, width=32, num_heads=4,
                                                               num_layers=2))], ids=["llama", "gpt"])
def test_a_model_keeps_its_answers(model, packed):
    torch.manual_seed(1)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    small, tokens = quantize(model, packed=packed), torch.randint(60, (2, 12))
    with torch.no_grad():
        ours, theirs = small(tokens).log_softmax(-1), model.eval()(tokens).log_softmax(-1)
    assert (theirs.exp() * (theirs - ours)).sum(-1).mean() < (0.1 if packed else 0.01)  # the divergence, in nats
    assert not any(isinstance(module, nn.Linear) for module in small.modules())
    assert small.embedding.weight is model.embedding.weight is model.output.weight  # shared, and the model left as it was
    assert generate(small, tokens[:, :3], 5, temperature=0).shape == (2, 8)


def test_bytes_are_counted_once():
    model = Llama(SMALL)
    products = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))
    rows = sum(layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear))
    floats = 60 * 32 + 5 * 32  # the embedding and the norms
    assert weight_bytes(model) == 4 * sum(weight.numel() for weight in model.parameters())
    for packed in (False, True):
        assert weight_bytes(quantize(model, packed=packed)) == products + 4 * rows + 4 * floats


def test_it_runs_in_bfloat16():
    assert Int8Linear(nn.Linear(16, 8))(torch.randn(3, 16, dtype=torch.bfloat16)).dtype == torch.bfloat16


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
    (lambda: quantize(nn.Linear(2, 2, device="meta"), packed=True), "packed=True needs a model on the CPU")])
def test_wrong_arguments_are_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
