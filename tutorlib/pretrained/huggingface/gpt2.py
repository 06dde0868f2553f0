"""GPT-2, from the library transformers."""

from collections.abc import Mapping

from torch import Tensor, nn

from tutorlib.models.gpt import GPT, GPTConfig
from tutorlib.pretrained.huggingface.config import our_activation, require
from tutorlib.pretrained.weights import fill, is_tied, rename

TABLE = {  # of what `_split` makes
    "transformer.wte": "embedding",
    "transformer.wpe.weight": "position.table",
    "transformer.h.{}.ln_1": "layers.{}.attention_norm",
    "transformer.h.{}.attn.c_attn.query": "layers.{}.attention.query",
    "transformer.h.{}.attn.c_attn.key": "layers.{}.attention.key",
    "transformer.h.{}.attn.c_attn.value": "layers.{}.attention.value",
    "transformer.h.{}.attn.c_proj": "layers.{}.attention.output",
    "transformer.h.{}.ln_2": "layers.{}.feed_forward_norm",
    "transformer.h.{}.mlp.c_fc": "layers.{}.feed_forward.expand",
    "transformer.h.{}.mlp.c_proj": "layers.{}.feed_forward.contract",
    "transformer.ln_f": "norm",
    "lm_head": "output",
}


def _split(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """GPT-2's tensors as ours are kept: matrices (out, in) where its are (in, out), and `c_attn` in its three parts.

    `c_attn.weight` (D, 3 D) holds the columns of query, key and value side by side, `c_attn.bias` (3 D,) likewise.
    """
    parts = {}
    for name, tensor in theirs.items():
        module, _, kind = name.rpartition(".")
        if ".c_" in name and kind == "weight":
            tensor = tensor.T  # (in, out) -> (out, in)
        if module.endswith(".c_attn"):
            parts |= {f"{module}.{part}.{kind}": third
                      for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True)}
        else:
            parts[name] = tensor
    return parts


def convert_gpt2(model: nn.Module) -> GPT:
    require(model, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, reorder_and_upcast_attn=False,
            add_cross_attention=False)
    theirs, weights = model.config, rename(_split(model.state_dict()), TABLE)
    config = GPTConfig(vocabulary=theirs.vocab_size, max_length=theirs.n_positions, width=theirs.n_embd,
                       num_heads=theirs.n_head, num_layers=theirs.n_layer, hidden=theirs.n_inner, dropout=theirs.resid_pdrop,
                       activation=our_activation(model, "activation_function"), eps=theirs.layer_norm_epsilon,
                       tie_output=is_tied(weights, "output.weight", "embedding.weight"))
    ours = fill(lambda: GPT(config), weights)
    ours.dropout.p = theirs.embd_pdrop
    for layer in ours.layers:
        layer.attention.dropout = theirs.attn_pdrop
    return ours
