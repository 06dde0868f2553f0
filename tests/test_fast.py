"""The fast room: the same results as the rooms it speeds up, and nothing of them changed."""

import pytest
import torch
from torch import nn

from tests.closeness import assert_same
from tutorlib import fast
from tutorlib.compression.int8 import FEW_ROWS, Int8Linear, weight_bytes
from tutorlib.fast import ScaledInt8Linear, column_major, in_buckets, merged, prepare
from tutorlib.generation import generate
from tutorlib.layers import ConvNorm
from tutorlib.models import BERT, GPT, BERTConfig, GPTConfig, Llama, LlamaConfig

SMALL = LlamaConfig(vocabulary=60, max_length=32, width=32, num_heads=4, num_key_value_heads=2, num_layers=2, hidden=48)


def llama():
    torch.manual_seed(0)
    return Llama(SMALL).eval()


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16, torch.int8], ids=str)
def test_the_model_is_left_as_it_was(monkeypatch, weights):
    monkeypatch.setattr(fast, "has_fast_bfloat16", lambda device: True)
    model = llama()
    before = state(model)
    prepare(model, weights)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(each.is_contiguous() and each.requires_grad for each in model.parameters())


@pytest.mark.parametrize("build", [llama, lambda: GPT(GPTConfig(60, 32, 32, 4, 2)).eval()], ids=["llama", "gpt"])
def test_float32_gives_the_same_logits_and_the_same_tokens(build):
    model = build()
    ours, tokens = prepare(model), torch.randint(60, (3, 8))
    with torch.no_grad():
        assert_same(ours(tokens), model(tokens))
    assert torch.equal(generate(ours, tokens, 9, temperature=0), generate(model, tokens, 9, temperature=0))


def test_only_matrices_with_more_outputs_are_turned_and_a_tied_one_stays_tied():
    ours = column_major(llama())
    assert ours.output.weight is ours.embedding.weight and ours.output.weight.stride() == (1, 60)
    first = ours.layers[0]
    assert first.feed_forward.expand.weight.stride() == (1, 48)
    assert first.feed_forward.contract.weight.is_contiguous() and first.attention.key.weight.is_contiguous()
    assert not any(each.requires_grad for each in ours.parameters())


def test_batch_norms_are_folded():
    torch.manual_seed(0)
    model, images = nn.Sequential(ConvNorm(3, 8, 3), ConvNorm(8, 4, 3)).eval(), torch.randn(2, 3, 8, 8)
    for unit in model:
        unit.norm.running_mean.normal_()
        unit.norm.running_var.uniform_(0.5, 2.0)
    ours = prepare(model)
    assert all(isinstance(unit.norm, nn.Identity) for unit in ours)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), model(images), atol=1e-3, rtol=1e-3)


def test_int8_keeps_a_quarter_of_the_bytes_and_is_within_the_weights_rounding():
    torch.manual_seed(0)
    layer, inputs = nn.Linear(64, 48), torch.randn(5, 64)
    ours = ScaledInt8Linear(layer)
    assert weight_bytes(prepare(nn.Sequential(layer), torch.int8)) < weight_bytes(layer) / 3
    assert ours.integers.abs().amax(1).ge(126).all()
    dequantized = ours.integers * ours.short_scale.float()[:, None]  # (out, in)
    assert ((dequantized - layer.weight).abs() <= 0.51 * ours.short_scale.float()[:, None]).all()
    with torch.no_grad():
        product = inputs.bfloat16().float() @ dequantized.T  # (N, out)
        assert ((ours(inputs) - layer.bias - product).abs() <= product.abs() / 200 + 1e-5).all()


BUILDS = {"llama": llama, "gpt": lambda: GPT(GPTConfig(60, 32, 32, 4, 2)).eval(),
          "without bias": lambda: GPT(GPTConfig(60, 32, 32, 4, 2, bias=False)).eval()}


@pytest.mark.parametrize("build", BUILDS)
def test_merged_projections_are_the_same_layer(build):
    model = BUILDS[build]()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours, tokens = merged(model), torch.randint(60, (3, 8))
    real = torch.arange(8) >= torch.tensor([[0], [5], [2]])  # (B, S)
    with torch.no_grad():
        for padding in (None, real):
            expected = model(tokens, padding_mask=padding)
            assert_same(ours(tokens, padding_mask=padding)[real], expected[real])
            cache, parts = ours.new_cache(8), []
            for start, end in ((0, 5), (5, 6), (6, 8)):
                known = None if padding is None else padding[:, :end]
                parts.append(ours(tokens[:, start:end], cache=cache, padding_mask=known))
            assert_same(torch.cat(parts, 1)[real], expected[real])
    attention = ours.layers[0].attention
    assert attention.projections.out_features == (64 if build == "llama" else 96)
    assert ours.output.weight is model.output.weight  # shared, not copied


@pytest.mark.parametrize("rows, width", [(1, 64), (FEW_ROWS, 64), (FEW_ROWS + 1, 64), (3, 40)])
def test_all_ways_of_the_int8_product_agree(rows, width):
    torch.manual_seed(0)
    ours, inputs = ScaledInt8Linear(nn.Linear(width, 48)), torch.randn(rows, width)
    with torch.no_grad():
        expected = Int8Linear.forward(ours, inputs)
        assert (ours(inputs) - expected).abs().max() < 0.02 * expected.abs().max()
        product = Int8Linear.product
        assert torch.equal(ours.product(inputs), product(ours, inputs)) == (rows > FEW_ROWS or width == 40)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_buckets_give_the_rows_in_their_order(batch_size):
    torch.manual_seed(0)
    model = BERT(BERTConfig(vocabulary=30, max_length=16, width=16, num_heads=2, num_layers=2, hidden=32)).eval()
    tokens, lengths = torch.randint(30, (8, 12)), torch.tensor([3, 12, 1, 7, 7, 2, 11, 5])
    mask = (torch.arange(12) < lengths[:, None]).long()  # (B, T)
    with torch.no_grad():
        ours = in_buckets(model, tokens, mask, batch_size)
        assert_same(ours, model(tokens, mask) * mask[..., None])


def test_a_bucket_is_cut_to_its_longest():
    shapes = []

    def run(tokens, mask):
        shapes.append(tuple(tokens.shape))
        return tokens * 2
    lengths = torch.tensor([1, 9, 2, 8])
    tokens = torch.ones(4, 10, dtype=torch.long)
    doubled = in_buckets(run, tokens, (torch.arange(10) < lengths[:, None]).long(), 2)
    assert sorted(shapes) == [(2, 2), (2, 9)] and doubled.sum(1).tolist() == (2 * lengths).tolist()


@pytest.mark.parametrize("call, message", [
    (lambda: prepare(llama(), torch.float16), "weights must be torch.float32, torch.bfloat16 or torch.int8, got torch.float16"),
    (lambda: prepare(nn.LayerNorm(3), torch.int8), "has no nn.Linear"),
    (lambda: merged(nn.Linear(2, 2)), "model must be a GPT or a Llama, got Linear"),
    (lambda: prepare(nn.Linear(2, 2, device="meta"), torch.int8), "weights=torch.int8 needs a model on the CPU, got meta"),
    (lambda: in_buckets(lambda *a: a[0], torch.ones(1, 3), torch.tensor([[0, 1, 1]])), "its zeros on the right"),
    (lambda: in_buckets(lambda *a: a[0], torch.ones(1, 3), torch.ones(1, 2)), r"the tokens' shape \(1, 3\)")])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bfloat16_is_refused_where_the_processor_emulates_it(monkeypatch):
    monkeypatch.setattr(fast, "has_fast_bfloat16", lambda device: False)
    with pytest.raises(ValueError, match="needs a processor with instructions for it; cpu here has none"):
        prepare(llama(), torch.bfloat16)
