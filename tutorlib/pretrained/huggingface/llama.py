"""Llama, from the library transformers."""

import torch
from torch import nn

from tutorlib.models.llama import Llama, LlamaConfig
from tutorlib.pretrained.huggingface.config import our_activation, require
from tutorlib.pretrained.weights import fill, is_tied, refusal, rename

TABLE = {
    "model.embed_tokens": "embedding",
    "model.layers.{}.input_layernorm": "layers.{}.attention_norm",
    "model.layers.{}.self_attn.q_proj": "layers.{}.attention.query",
    "model.layers.{}.self_attn.k_proj": "layers.{}.attention.key",
    "model.layers.{}.self_attn.v_proj": "layers.{}.attention.value",
    "model.layers.{}.self_attn.o_proj": "layers.{}.attention.output",
    "model.layers.{}.post_attention_layernorm": "layers.{}.feed_forward_norm",
    "model.layers.{}.mlp.gate_proj": "layers.{}.feed_forward.gate",
    "model.layers.{}.mlp.up_proj": "layers.{}.feed_forward.expand",
    "model.layers.{}.mlp.down_proj": "layers.{}.feed_forward.contract",
    "model.norm": "norm",
    "lm_head": "output",
}


def convert_llama(model: nn.Module) -> Llama:
    theirs, head_width = model.config, model.config.hidden_size // model.config.num_attention_heads
    require(model, attention_bias=False, mlp_bias=False, head_dim=head_width)
    base, weights = rope_base(model), rename(model.state_dict(), TABLE)
    check_frequencies(model, head_width, base)
    config = LlamaConfig(vocabulary=theirs.vocab_size, max_length=theirs.max_position_embeddings, width=theirs.hidden_size,
                         num_heads=theirs.num_attention_heads, num_key_value_heads=theirs.num_key_value_heads,
                         num_layers=theirs.num_hidden_layers, hidden=theirs.intermediate_size, rope_base=base,
                         activation=our_activation(model, "hidden_act"), eps=theirs.rms_norm_eps,
                         tie_output=is_tied(weights, "output.weight", "embedding.weight"))
    ours = fill(lambda: Llama(config), weights)
    for layer in ours.layers:
        layer.attention.dropout = theirs.attention_dropout
    return ours


def rope_base(model: nn.Module) -> float:
    """The base of the rotary angles, which the library has kept in one place or another; scaled angles are refused."""
    parameters = getattr(model.config, "rope_parameters", None)
    if parameters is None:  # before its version 5
        parameters = {"rope_theta": model.config.rope_theta} | (model.config.rope_scaling or {})
    kind = parameters.get("rope_type", "default")
    if kind != "default":
        raise refusal(model, "rope_type", kind, "rope_type=default")
    return float(parameters["rope_theta"])


def check_frequencies(model: nn.Module, head_width: int, base: float) -> None:
    """Refuse a model that turns by other angles than its config says, but for the rounding of a dtype it was put into."""
    expected = base ** -(torch.arange(0, head_width, 2) / head_width)  # (K/2,)
    for name, frequencies in model.named_buffers():
        if name.endswith("inv_freq") and not frequencies.is_meta:
            actual, rounding = frequencies.float().cpu(), 8 * torch.finfo(frequencies.dtype).eps
            if actual.shape != expected.shape or not actual.allclose(expected, rtol=rounding, atol=0):
                raise refusal(model, name, actual.tolist(), f"base^(-2i/K) with the base {base} of its config")
