"""BERT with its heads, GPT and Llama against transformers on drawn configs: values, and gradients of the weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
)

from tests.closeness import assert_same
from tests.peers import SMALL, bert, llama, shaken
from tutorlib.generation import generate
from tutorlib.models import BERT
from tutorlib.pretrained import from_transformers

BERT_CLASSES = [BertModel, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification,
                BertForQuestionAnswering]
ACTIVATIONS = ["gelu", "relu", "silu", "gelu_new"]
BERT_SIZES = dict(heads=st.sampled_from([1, 2, 3]), per_head=st.integers(1, 5), layers=st.integers(1, 3),
                  hidden=st.integers(1, 24), activation=st.sampled_from(ACTIVATIONS), eps=st.sampled_from([1e-12, 0.1]),
                  types=st.integers(1, 3), tied=st.booleans(), labels=st.integers(1, 4))
DTYPES = st.sampled_from([torch.float32, torch.float64])


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
