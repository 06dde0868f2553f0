"""BERT with its heads, GPT and Llama against transformers on drawn configs: values, and gradients of the weights."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from tests.closeness import assert_same
from tutorlib.generation import generate
from tutorlib.models import BERT
from tutorlib.pretrained import from_transformers, huggingface

BERT_CLASSES = [BertModel, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification,
                BertForQuestionAnswering]
ACTIVATIONS = ["gelu", "relu", "silu", "gelu_new"]
BERT_SIZES = dict(heads=st.sampled_from([1, 2, 3]), per_head=st.integers(1, 5), layers=st.integers(1, 3),
                  hidden=st.integers(1, 24), activation=st.sampled_from(ACTIVATIONS), eps=st.sampled_from([1e-12, 0.1]),
                  types=st.integers(1, 3), tied=st.booleans(), labels=st.integers(1, 4))
DTYPES = st.sampled_from([torch.float32, torch.float64])


def shaken(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Weights large enough that every part counts, biases and norms too; no dropout."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.to(dtype).eval()


def bert(peer: type, heads=2, per_head=4, layers=2, hidden=12, activation="gelu", eps=1e-12, types=2, tied=True, labels=3,
         **options) -> nn.Module:
    if peer is BertForQuestionAnswering:
        labels = 2
    return peer(BertConfig(vocab_size=31, hidden_size=heads * per_head, num_hidden_layers=layers, num_attention_heads=heads,
                           intermediate_size=hidden, hidden_act=activation, max_position_embeddings=12, layer_norm_eps=eps,
                           type_vocab_size=types, tie_word_embeddings=tied, num_labels=labels, **options))


def results(output) -> list[Tensor]:
    """What a model of either library gives, without the pooler's output, which ours has elsewhere."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, tuple) and not hasattr(output, "keys"):
        return list(output)
    return [output[key] for key in ("last_hidden_state", "logits", "start_logits", "end_logits") if key in output]


def at_real_tokens(tensor: Tensor, mask: Tensor | None) -> Tensor:
    """Padded positions mean nothing and are left out; a tensor without positions is taken whole."""
    return tensor if mask is None or tensor.shape[:2] != mask.shape else tensor[mask.bool()]


@pytest.mark.parametrize("peer", BERT_CLASSES)
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), length=st.integers(1, 12), masked=st.booleans(),
       typed=st.booleans(), dtype=DTYPES, **BERT_SIZES)
def test_bert(peer, seed, batch, length, masked, typed, dtype, **sizes):
    torch.manual_seed(seed)
    reference = shaken(bert(peer, **sizes), dtype)
    ours = from_transformers(reference)
    tokens = torch.randint(31, (batch, length))
    mask = (torch.rand(batch, length) < 0.6).long() if masked else None  # holes too, not only padding at the right
    if masked:
        mask[:, 0] = 1
    types = torch.randint(sizes["types"], (batch, length)) if typed else None
    mine = results(ours(tokens, mask, types))
    theirs = results(reference(tokens, attention_mask=mask, token_type_ids=types))
    assert len(mine) == len(theirs) == (2 if peer is BertForQuestionAnswering else 1)
    for our_tensor, their_tensor in zip(mine, theirs, strict=True):
        assert_same(at_real_tokens(our_tensor, mask), at_real_tokens(their_tensor, mask))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), length=st.integers(1, 12), heads=st.sampled_from([1, 2, 3]),
       per_head=st.integers(1, 5), layers=st.integers(1, 3), hidden=st.one_of(st.none(), st.integers(1, 24)),
       activation=st.sampled_from(ACTIVATIONS), eps=st.sampled_from([1e-5, 0.1]), tied=st.booleans(), dtype=DTYPES)
def test_gpt2(seed, batch, length, heads, per_head, layers, hidden, activation, eps, tied, dtype):
    torch.manual_seed(seed)
    reference = shaken(GPT2LMHeadModel(GPT2Config(
        vocab_size=31, n_positions=12, n_embd=heads * per_head, n_layer=layers, n_head=heads, n_inner=hidden,
        activation_function=activation, layer_norm_epsilon=eps, tie_word_embeddings=tied)), dtype)
    tokens = torch.randint(31, (batch, length))
    assert_same(from_transformers(reference)(tokens), reference(tokens).logits)


def llama(heads=4, groups=2, per_head=4, layers=2, hidden=12, activation="silu", eps=1e-6, theta=10000.0, tied=True,
          **options) -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=31, max_position_embeddings=16, hidden_size=heads * per_head, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads // groups, intermediate_size=hidden, hidden_act=activation,
        rms_norm_eps=eps, tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": theta} | options.pop("rope", {}), **options))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), length=st.integers(1, 12),
       shape=st.sampled_from([(1, 1), (2, 1), (4, 2), (6, 3), (4, 4)]), per_head=st.sampled_from([2, 4, 6]),
       layers=st.integers(1, 3), hidden=st.integers(1, 24), activation=st.sampled_from(["silu", "gelu", "gelu_pytorch_tanh"]),
       eps=st.sampled_from([1e-6, 0.1]), theta=st.sampled_from([3.0, 10000.0, 500000.0]), tied=st.booleans())
def test_llama(seed, batch, length, shape, per_head, layers, hidden, activation, eps, theta, tied):
    torch.manual_seed(seed)
    reference = shaken(llama(*shape, per_head, layers, hidden, activation, eps, theta, tied))
    tokens = torch.randint(31, (batch, length))
    assert_same(from_transformers(reference)(tokens), reference(tokens).logits)


SMALL = {
    "bert": lambda: bert(BertForMaskedLM),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=31, n_positions=12, n_embd=8, n_layer=2, n_head=2)),
    "llama": lambda: llama(),
}


@pytest.mark.parametrize("name", SMALL)
def test_gradients(name):
    """The gradient of the embedding, which is also the output matrix, and of a weight in the first layer."""
    torch.manual_seed(0)
    dtype = torch.float32 if name == "llama" else torch.float64  # rotary angles are float32 in both libraries
    reference = shaken(SMALL[name](), dtype)
    ours = from_transformers(reference)
    tokens = torch.randint(1, 31, (2, 9))  # not 0: transformers' BERT takes it for padding and gives it no gradient
    weight = torch.randn(2, 9, 31, dtype=dtype)
    (ours(tokens) * weight).sum().backward()
    (reference(tokens).logits * weight).sum().backward()
    layers = {"bert": lambda: (ours.bert.encoder.layers[0], reference.bert.encoder.layer[0].attention.self.query.weight),
              "gpt2": lambda: (ours.layers[0], reference.transformer.h[0].attn.c_attn.weight),
              "llama": lambda: (ours.layers[0], reference.model.layers[0].self_attn.q_proj.weight)}
    layer, query = layers[name]()
    theirs = query.grad.T[:8] if name == "gpt2" else query.grad
    embedding = ours.bert.embedding if name == "bert" else ours.embedding
    assert_same(layer.attention.query.weight.grad, theirs)
    assert_same(embedding.weight.grad, reference.get_input_embeddings().weight.grad)


@pytest.mark.parametrize("name", SMALL)
def test_weights_are_copied_and_stay_tied(name):
    reference = shaken(SMALL[name]())
    ours = from_transformers(reference)
    embedding = ours.bert.embedding if name == "bert" else ours.embedding
    assert ours.output.weight is embedding.weight
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in reference.parameters()) - (
        sum(p.numel() for n, p in reference.named_parameters() if "pooler" in n))
    before = [parameter.clone() for parameter in reference.parameters()]
    with torch.no_grad():
        for parameter in ours.parameters():
            assert parameter.requires_grad and parameter.is_contiguous()
            parameter.zero_()
    assert all(torch.equal(p, q) for p, q in zip(reference.parameters(), before, strict=True))


@pytest.mark.parametrize("name", SMALL)
def test_mode_device_and_dtype_are_kept(name, device):
    reference = shaken(SMALL[name](), torch.bfloat16).to(device)
    ours = from_transformers(reference)
    assert not ours.training and from_transformers(reference.train()).training
    assert all(p.dtype == torch.bfloat16 and p.device.type == device.type for p in ours.parameters())
    assert ours(torch.randint(31, (2, 5), device=device)).dtype == torch.bfloat16


def test_dropouts_are_taken_over():
    options = dict(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3)
    ours = from_transformers(bert(BertForSequenceClassification, classifier_dropout=0.4, **options))
    layer = ours.bert.encoder.layers[1]
    assert (ours.bert.dropout.p, layer.dropout.p, layer.attention.dropout, layer.feed_forward.dropout.p,
            ours.dropout.p) == (0.2, 0.2, 0.3, 0.0, 0.4)
    assert from_transformers(bert(BertForTokenClassification, **options)).dropout.p == 0.2
    assert from_transformers(bert(BertForTokenClassification, classifier_dropout=0.4, **options)).dropout.p == 0.4
    for peer in (BertModel, BertForMaskedLM, BertForQuestionAnswering, BertForTokenClassification):
        model = from_transformers(bert(peer, **options))
        assert (model if peer is BertModel else model.bert).encoder.layers[0].attention.dropout == 0.3
    gpt = from_transformers(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, resid_pdrop=0.2,
                                                       embd_pdrop=0.3, attn_pdrop=0.4)))
    layer = gpt.layers[0]
    assert (gpt.dropout.p, layer.dropout.p, layer.attention.dropout, layer.feed_forward.dropout.p) == (0.3, 0.2, 0.4, 0.0)
    assert from_transformers(llama(attention_dropout=0.3)).layers[1].attention.dropout == 0.3


def test_what_no_value_shows_is_taken_over_too():
    """The greatest length, and names of one function: swish is silu."""
    lengths = {name: (ours if name != "bert" else ours.bert).max_length for name, build in SMALL.items()
               for ours in [from_transformers(build())]}
    assert lengths == {"bert": 12, "gpt2": 12, "llama": 16} and from_transformers(llama(per_head=2)).max_length == 16
    assert from_transformers(bert(BertModel, activation="swish")).config.activation == "silu"
    assert from_transformers(llama(activation="swish")).config.activation == "silu"


def test_the_rotary_base_is_found_where_transformers_4_keeps_it():
    def of(**options):
        return huggingface._rope_base(SimpleNamespace(config=SimpleNamespace(rope_theta=500.0, **options)))

    assert of(rope_scaling=None) == of(rope_scaling={"rope_type": "default"}) == 500.0
    with pytest.raises(ValueError, match=r"rope_type=llama3\) is not supported"):
        of(rope_scaling={"rope_type": "llama3", "factor": 8.0})


@pytest.mark.parametrize("build, message", [
    (lambda: bert(BertModel, position_embedding_type="relative_key"), r"BertModel\(position_embedding_type=relative_key\) is"),
    (lambda: bert(BertModel, activation="tanh"), r"BertModel\(hidden_act=tanh\) is not supported, only one of \['gelu'"),
    (lambda: bert(BertModel, is_decoder=True), r"BertModel\(is_decoder=True\) is not supported, only is_decoder=False"),
    (lambda: BertForQuestionAnswering(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1,
                                                 num_labels=3)), r"num_labels=3\) is not supported, only num_labels=2"),
    (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1, scale_attn_weights=False)),
     r"scale_attn_weights=False\) is not supported"),
    (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1, scale_attn_by_inverse_layer_idx=True)),
     r"scale_attn_by_inverse_layer_idx=True\) is not supported"),
    (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1, reorder_and_upcast_attn=True)),
     r"reorder_and_upcast_attn=True\) is not supported"),
    (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1, add_cross_attention=True)),
     r"add_cross_attention=True\) is not supported"),
    (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1, activation_function="tanh")),
     r"activation_function=tanh\) is not supported"),
    (lambda: llama(attention_bias=True), r"LlamaForCausalLM\(attention_bias=True\) is not supported"),
    (lambda: llama(mlp_bias=True), r"mlp_bias=True\) is not supported, only mlp_bias=False"),
    (lambda: llama(head_dim=6), r"head_dim=6\) is not supported, only head_dim=4"),
    (lambda: llama(rope={"rope_type": "linear", "factor": 2.0}), r"rope_type=linear\) is not supported, only rope_type=d"),
    (lambda: llama(activation="relu2"), r"hidden_act=relu2\) is not supported, only one of")])
def test_options_that_ours_lacks_are_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        from_transformers(build())


def test_another_class_is_refused():
    with pytest.raises(TypeError, match=r"from_transformers takes BertModel, .*, got BertForNextSentencePrediction"):
        from_transformers(bert(BertForNextSentencePrediction))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_greedy_generation_is_token_for_token_the_same(name):
    torch.manual_seed(1)
    reference = shaken(SMALL[name]())
    tokens = torch.randint(31, (1, 3))
    theirs = reference.generate(tokens, max_new_tokens=9, do_sample=False, eos_token_id=None, pad_token_id=0)
    ours = from_transformers(reference)
    assert torch.equal(generate(ours, tokens, 9, temperature=0), theirs)
    assert torch.equal(generate(ours, tokens, 9, temperature=0, use_cache=False), theirs)


def test_pooling_is_the_mean_over_real_tokens():
    states, mask = torch.randn(2, 5, 4), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert_same(BERT.pool(states, mask), torch.stack([states[0, :3].mean(0), states[1].mean(0)]))
    assert_same(BERT.pool(states), states.mean(1))
    few = torch.tensor([[0, 1, 0, 0, 0], [0] * 5])
    assert_same(BERT.pool(states, few), torch.stack([states[0, 1], torch.zeros(4)]))  # one real token, and none
