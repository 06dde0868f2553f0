"""PyTorch's own layers as ours."""

import torch.nn.functional as F
from torch import nn

from tutorlib.layers import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderDecoder,
    FeedForward,
    LayerNorm,
    MultiHeadAttention,
    TransformerLayer,
)
from tutorlib.layers.compiled import unwrapped
from tutorlib.layers.recurrent import GRU, LSTM, RNN, Recurrent
from tutorlib.pretrained.weights import assign, empty, refusal


def from_torch(module: nn.Module) -> nn.Module:
    """Our counterpart of a PyTorch module, with a copy of its weights and its device, dtype and training mode.

    Takes `nn.MultiheadAttention`, `nn.LayerNorm`, `nn.TransformerEncoderLayer`, `nn.TransformerDecoderLayer`,
    `nn.TransformerEncoder`, `nn.TransformerDecoder`, `nn.Transformer` (which becomes `layers.EncoderDecoder`), `nn.RNN`,
    `nn.LSTM` and `nn.GRU`. Ours are batch first, whatever `batch_first` said. Raises ValueError naming an option that ours
    lacks, TypeError for other classes.
    """
    module = unwrapped(module)
    for peer, convert in CONVERTERS.items():
        if type(module) is peer:
            return convert(module).train(module.training)
    raise TypeError(f"from_torch takes {', '.join(peer.__name__ for peer in CONVERTERS)}, got {type(module).__name__}")


def _norm(module: nn.LayerNorm) -> LayerNorm:
    if len(module.normalized_shape) != 1:
        raise refusal(module, "normalized_shape", module.normalized_shape, "the last dimension")
    if not module.elementwise_affine:
        raise refusal(module, "elementwise_affine", False, "elementwise_affine=True")
    ours = empty(lambda: LayerNorm(module.normalized_shape[0], module.eps, bias=module.bias is not None))
    return assign(ours, {"weight": module.weight, "bias": module.bias})


def _attention(module: nn.MultiheadAttention) -> MultiHeadAttention:
    width = module.embed_dim
    if module.kdim != width or module.vdim != width:
        option, value = ("kdim", module.kdim) if module.kdim != width else ("vdim", module.vdim)
        raise refusal(module, option, value, f"keys and values of the same width as queries, {width}")
    if module.bias_k is not None:
        raise refusal(module, "add_bias_kv", True, "add_bias_kv=False")
    if module.add_zero_attn:
        raise refusal(module, "add_zero_attn", True, "add_zero_attn=False")
    has_bias = module.in_proj_bias is not None
    ours = empty(lambda: MultiHeadAttention(width, module.num_heads, bias=has_bias, dropout=module.dropout))
    weights = dict(zip(("query.weight", "key.weight", "value.weight"), module.in_proj_weight.chunk(3), strict=True))
    if has_bias:
        weights |= dict(zip(("query.bias", "key.bias", "value.bias"), module.in_proj_bias.chunk(3), strict=True))
    return assign(ours, weights | {"output.weight": module.out_proj.weight, "output.bias": module.out_proj.bias})


def _activation(module: nn.Module) -> str:
    activation = module.activation
    if activation is F.relu or isinstance(activation, nn.ReLU):
        return "relu"
    if activation is F.gelu or (isinstance(activation, nn.GELU) and activation.approximate == "none"):
        return "gelu"
    name = getattr(activation, "__name__", repr(activation))
    raise refusal(module, "activation", name, "relu and the exact gelu")


def _feed_forward(module: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) -> FeedForward:
    first, second = module.linear1, module.linear2
    activation, has_bias = _activation(module), first.bias is not None
    ours = empty(lambda: FeedForward(first.in_features, first.out_features, activation=activation, bias=has_bias,
                                     dropout=module.dropout.p))
    return assign(ours, {"expand.weight": first.weight, "expand.bias": first.bias,
                         "contract.weight": second.weight, "contract.bias": second.bias})


def _encoder_layer(module: nn.TransformerEncoderLayer) -> TransformerLayer:
    return TransformerLayer(_attention(module.self_attn), _feed_forward(module), _norm(module.norm1), _norm(module.norm2),
                            norm_first=module.norm_first, dropout=module.dropout1.p)


def _decoder_layer(module: nn.TransformerDecoderLayer) -> DecoderLayer:
    return DecoderLayer(_attention(module.self_attn), _attention(module.multihead_attn), _feed_forward(module),
                        _norm(module.norm1), _norm(module.norm2), _norm(module.norm3),
                        norm_first=module.norm_first, dropout=module.dropout1.p)


def _encoder(module: nn.TransformerEncoder) -> Encoder:
    return Encoder([from_torch(layer) for layer in module.layers], _final_norm(module))


def _decoder(module: nn.TransformerDecoder) -> Decoder:
    return Decoder([from_torch(layer) for layer in module.layers], _final_norm(module))


def _final_norm(module: nn.TransformerEncoder | nn.TransformerDecoder) -> LayerNorm | None:
    return None if module.norm is None else from_torch(module.norm)


def _encoder_decoder(module: nn.Transformer) -> EncoderDecoder:
    return EncoderDecoder(from_torch(module.encoder), from_torch(module.decoder))


def _recurrent(module: nn.RNN | nn.LSTM | nn.GRU) -> Recurrent:
    if module.proj_size:
        raise refusal(module, "proj_size", module.proj_size, "proj_size=0")
    options = dict(num_layers=module.num_layers, bidirectional=module.bidirectional, bias=module.bias, dropout=module.dropout)
    if isinstance(module, nn.RNN):
        options["nonlinearity"] = module.nonlinearity
    make = {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU}[type(module)]
    ours = empty(lambda: make(module.input_size, module.hidden_size, **options))
    weights = {}
    for place in range(len(ours.cells)):  # layer 0 forward, layer 0 backward, layer 1 forward, ...
        layer, backward = divmod(place, ours.num_directions)
        for own, name in {"from_input": "ih", "from_state": "hh"}.items():
            for kind in ("weight", "bias") if module.bias else ("weight",):
                theirs = f"{kind}_{name}_l{layer}{'_reverse' if backward else ''}"
                weights[f"cells.{place}.{own}.{kind}"] = getattr(module, theirs)
    return assign(ours, weights)


CONVERTERS = {
    nn.LayerNorm: _norm,
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerDecoderLayer: _decoder_layer,
    nn.TransformerEncoder: _encoder,
    nn.TransformerDecoder: _decoder,
    nn.Transformer: _encoder_decoder,
    nn.RNN: _recurrent,
    nn.LSTM: _recurrent,
    nn.GRU: _recurrent,
}
