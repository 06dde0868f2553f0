"""Small models of the library transformers, with drawn weights, for the tests of parity and of conversion."""

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)


def shaken(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Weights large enough that every part counts, biases and norms too; no dropout."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.to(dtype).eval()


def assert_copied(ours: nn.Module, reference: nn.Module) -> None:
    """Ours can be trained, and what is done to its weights does not reach the reference's. Ours is zero afterwards."""
    before = [parameter.clone() for parameter in reference.parameters()]
    with torch.no_grad():
        for parameter in ours.parameters():
            assert parameter.requires_grad and parameter.is_contiguous()
            parameter.zero_()
    assert all(torch.equal(p, q) for p, q in zip(reference.parameters(), before, strict=True))


def bert(peer: type, heads=2, per_head=4, layers=2, hidden=12, activation="gelu", eps=1e-12, types=2, tied=True, labels=3,
         **options) -> nn.Module:
    if peer is BertForQuestionAnswering:
        labels = 2
    return peer(BertConfig(vocab_size=31, hidden_size=heads * per_head, num_hidden_layers=layers, num_attention_heads=heads,
                           intermediate_size=hidden, hidden_act=activation, max_position_embeddings=12, layer_norm_eps=eps,
                           type_vocab_size=types, tie_word_embeddings=tied, num_labels=labels, **options))


def gpt2(**options) -> nn.Module:
    sizes = dict(vocab_size=31, n_positions=12, n_embd=8, n_layer=2, n_head=2)
    return GPT2LMHeadModel(GPT2Config(**sizes | options))


def llama(heads=4, groups=2, per_head=4, layers=2, hidden=12, activation="silu", eps=1e-6, theta=10000.0, tied=True,
          **options) -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=31, max_position_embeddings=16, hidden_size=heads * per_head, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads // groups, intermediate_size=hidden, hidden_act=activation,
        rms_norm_eps=eps, tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": theta} | options.pop("rope", {}), **options))


SMALL = {
    "bert": lambda: bert(BertForMaskedLM),
    "gpt2": lambda: gpt2(),
    "llama": lambda: llama(),
}
