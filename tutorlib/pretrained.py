"""Other libraries' weights in our modules: the same parameters, the same outputs.

`from_torch` takes PyTorch's own layers. What ours cannot do is refused by name, never ignored.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.layers import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderDecoder,
    EncoderLayer,
    LayerNorm,
    MultiHeadAttention,
)


def from_torch(module: nn.Module) -> nn.Module:
    """Our counterpart of a PyTorch module, with a copy of its weights and its device, dtype and training mode.

    Takes `nn.MultiheadAttention`, `nn.LayerNorm`, `nn.TransformerEncoderLayer`, `nn.TransformerDecoderLayer`,
    `nn.TransformerEncoder`, `nn.TransformerDecoder` and `nn.Transformer` (which becomes `layers.EncoderDecoder`). Ours are
    batch first, whatever `batch_first` said. Raises ValueError naming an option that ours lacks, TypeError for other classes.
    """
    for peer, convert in CONVERTERS.items():
        if type(module) is peer:
            return convert(module).train(module.training)
    raise TypeError(f"from_torch takes {', '.join(peer.__name__ for peer in CONVERTERS)}, got {type(module).__name__}")


def _refusal(module: nn.Module, option: str, value: object, supported: str) -> ValueError:
    return ValueError(f"{type(module).__name__}({option}={value}) is not supported, only {supported}")


def _assign(ours: nn.Module, weights: dict[str, Tensor | None]) -> nn.Module:
    """Load a copy of every weight, keeping device and dtype; all must be there and fit."""
    state = {name: weight.detach().clone() for name, weight in weights.items() if weight is not None}
    ours.load_state_dict(state, strict=True, assign=True)
    return ours


def _empty(build: Callable[[], nn.Module]) -> nn.Module:
    """A module without storage, which `_assign` then fills: no time is lost drawing weights that are thrown away."""
    with torch.device("meta"):
        return build()


def _norm(module: nn.LayerNorm) -> LayerNorm:
    if len(module.normalized_shape) != 1:
        raise _refusal(module, "normalized_shape", module.normalized_shape, "the last dimension")
    if not module.elementwise_affine:
        raise _refusal(module, "elementwise_affine", False, "elementwise_affine=True")
    ours = _empty(lambda: LayerNorm(module.normalized_shape[0], module.eps, bias=module.bias is not None))
    return _assign(ours, {"weight": module.weight, "bias": module.bias})


def _attention(module: nn.MultiheadAttention) -> MultiHeadAttention:
    width = module.embed_dim
    if module.kdim != width or module.vdim != width:
        option, value = ("kdim", module.kdim) if module.kdim != width else ("vdim", module.vdim)
        raise _refusal(module, option, value, f"keys and values of the same width as queries, {width}")
    if module.bias_k is not None:
        raise _refusal(module, "add_bias_kv", True, "add_bias_kv=False")
    if module.add_zero_attn:
        raise _refusal(module, "add_zero_attn", True, "add_zero_attn=False")
    has_bias = module.in_proj_bias is not None
    ours = _empty(lambda: MultiHeadAttention(width, module.num_heads, bias=has_bias, dropout=module.dropout))
    weights = dict(zip(("query.weight", "key.weight", "value.weight"), module.in_proj_weight.chunk(3), strict=True))
    if has_bias:
        weights |= dict(zip(("query.bias", "key.bias", "value.bias"), module.in_proj_bias.chunk(3), strict=True))
    return _assign(ours, weights | {"output.weight": module.out_proj.weight, "output.bias": module.out_proj.bias})


def _activation(module: nn.Module) -> str:
    activation = module.activation
    if activation is F.relu or isinstance(activation, nn.ReLU):
        return "relu"
    if activation is F.gelu or (isinstance(activation, nn.GELU) and activation.approximate == "none"):
        return "gelu"
    name = getattr(activation, "__name__", repr(activation))
    raise _refusal(module, "activation", name, "relu and the exact gelu")


def _layer_options(module: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) -> dict:
    return dict(width=module.self_attn.embed_dim, num_heads=module.self_attn.num_heads, hidden=module.linear1.out_features,
                dropout=module.dropout.p, activation=_activation(module), norm_first=module.norm_first,
                bias=module.linear1.bias is not None, eps=module.norm1.eps)


def _fill_layer(ours: EncoderLayer | DecoderLayer, module: nn.Module, norms: dict[str, nn.LayerNorm]) -> nn.Module:
    """The parts that encoder and decoder layers have in common."""
    ours.attention = _attention(module.self_attn)
    _assign(ours.feed_forward, {"expand.weight": module.linear1.weight, "expand.bias": module.linear1.bias,
                                "contract.weight": module.linear2.weight, "contract.bias": module.linear2.bias})
    for name, norm in norms.items():
        setattr(ours, name, _norm(norm))
    return ours


def _encoder_layer(module: nn.TransformerEncoderLayer) -> EncoderLayer:
    options = _layer_options(module)
    ours = _empty(lambda: EncoderLayer(**options))
    return _fill_layer(ours, module, {"attention_norm": module.norm1, "feed_forward_norm": module.norm2})


def _decoder_layer(module: nn.TransformerDecoderLayer) -> DecoderLayer:
    options = _layer_options(module)
    ours = _empty(lambda: DecoderLayer(**options))
    ours.cross_attention = _attention(module.multihead_attn)
    return _fill_layer(ours, module, {"attention_norm": module.norm1, "cross_attention_norm": module.norm2,
                                      "feed_forward_norm": module.norm3})


def _encoder(module: nn.TransformerEncoder) -> Encoder:
    return Encoder([from_torch(layer) for layer in module.layers], _final_norm(module))


def _decoder(module: nn.TransformerDecoder) -> Decoder:
    return Decoder([from_torch(layer) for layer in module.layers], _final_norm(module))


def _final_norm(module: nn.TransformerEncoder | nn.TransformerDecoder) -> LayerNorm | None:
    return None if module.norm is None else from_torch(module.norm)


def _encoder_decoder(module: nn.Transformer) -> EncoderDecoder:
    return EncoderDecoder(from_torch(module.encoder), from_torch(module.decoder))


CONVERTERS = {
    nn.LayerNorm: _norm,
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerDecoderLayer: _decoder_layer,
    nn.TransformerEncoder: _encoder,
    nn.TransformerDecoder: _decoder,
    nn.Transformer: _encoder_decoder,
}
