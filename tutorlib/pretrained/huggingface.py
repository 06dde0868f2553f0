"""Models of the library transformers as ours.

The library is not imported: a class is told by its name, its sizes are read off its config, its weights off its modules.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tutorlib.models.bert import (
    BERT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from tutorlib.models.gpt import GPT, GPTConfig
from tutorlib.models.llama import Llama, LlamaConfig
from tutorlib.models.resnet import ResNet
from tutorlib.pretrained.weights import assign, empty, refusal


def from_transformers(model: nn.Module) -> nn.Module:
    """Our counterpart of a model of the library transformers, with a copy of its weights, its device, dtype and training mode.

    Takes `BertModel` (its pooler stays behind: ours has one in `BERTForSequenceClassification`), `BertForMaskedLM`,
    `BertForSequenceClassification`, `BertForTokenClassification`, `BertForQuestionAnswering`, `GPT2LMHeadModel`,
    `LlamaForCausalLM` and `ResNetForImageClassification`. Raises ValueError naming an option of its config that ours lacks,
    TypeError for other classes.
    """
    for name, convert in TRANSFORMERS_CONVERTERS.items():
        if type(model).__name__ == name:
            return convert(model).train(model.training)
    raise TypeError(f"from_transformers takes {', '.join(TRANSFORMERS_CONVERTERS)}, got {type(model).__name__}")


def _require(model: nn.Module, **supported: Any) -> None:
    """Refuse a config whose options are not the given ones; one that this version of the library lacks is no option."""
    for option, value in supported.items():
        if getattr(model.config, option, value) != value:
            raise refusal(model, option, getattr(model.config, option), f"{option}={value}")


def _activation(model: nn.Module, option: str) -> str:
    name = getattr(model.config, option)
    if name not in ACTIVATIONS:
        raise refusal(model, option, name, f"one of {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _linear(name: str, module: nn.Linear | nn.LayerNorm | None) -> dict[str, Tensor | None]:
    """The weight and bias of a linear map or a norm, under our name."""
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}


# -- BERT -------------------------------------------------------------------------------------------------------------


def _bert_config(model: nn.Module) -> BERTConfig:
    _require(model, is_decoder=False, add_cross_attention=False, position_embedding_type="absolute")
    config = model.config
    return BERTConfig(vocabulary=config.vocab_size, max_length=config.max_position_embeddings, width=config.hidden_size,
                      num_heads=config.num_attention_heads, num_layers=config.num_hidden_layers,
                      hidden=config.intermediate_size, token_types=config.type_vocab_size, dropout=config.hidden_dropout_prob,
                      activation=_activation(model, "hidden_act"), eps=config.layer_norm_eps,
                      tie_output=config.tie_word_embeddings)


def bert_weights(theirs: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """The weights of a BertModel, given by their names in its state dict or its file, under our names."""
    names = {"embedding.weight": "embeddings.word_embeddings.weight", "position.table": "embeddings.position_embeddings.weight",
             "token_type.weight": "embeddings.token_type_embeddings.weight"}
    parts = {"norm": "embeddings.LayerNorm"}
    for number in range(num_layers):
        own, peer = f"encoder.layers.{number}", f"encoder.layer.{number}"
        parts |= {f"{own}.attention.{name}": f"{peer}.attention.self.{name}" for name in ("query", "key", "value")}
        parts |= {f"{own}.attention.output": f"{peer}.attention.output.dense",
                  f"{own}.attention_norm": f"{peer}.attention.output.LayerNorm",
                  f"{own}.feed_forward.expand": f"{peer}.intermediate.dense",
                  f"{own}.feed_forward.contract": f"{peer}.output.dense",
                  f"{own}.feed_forward_norm": f"{peer}.output.LayerNorm"}
    names |= {f"{own}.{kind}": f"{peer}.{kind}" for own, peer in parts.items() for kind in ("weight", "bias")}
    return {own: theirs[peer] for own, peer in names.items()}


def _encoder_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of the BertModel inside a model with a head, under our names."""
    weights = bert_weights(model.bert.state_dict(), model.config.num_hidden_layers)
    return {f"bert.{name}": weight for name, weight in weights.items()}


def _bert_dropouts(ours: BERT, model: nn.Module) -> None:
    for layer in ours.encoder.layers:
        layer.attention.dropout = model.config.attention_probs_dropout_prob


def _bert(model: nn.Module) -> BERT:
    config = _bert_config(model)
    ours = assign(empty(lambda: BERT(config)), bert_weights(model.state_dict(), config.num_layers))
    _bert_dropouts(ours, model)
    return ours


def _bert_masked_lm(model: nn.Module) -> BERTForMaskedLM:
    config, head = _bert_config(model), model.cls.predictions
    ours = assign(empty(lambda: BERTForMaskedLM(config)),
                  _encoder_weights(model) | _linear("transform", head.transform.dense)
                  | _linear("norm", head.transform.LayerNorm) | _linear("output", head.decoder))
    if config.tie_output:
        ours.output.weight = ours.bert.embedding.weight
    _bert_dropouts(ours.bert, model)
    return ours


def _bert_sequence_classification(model: nn.Module) -> BERTForSequenceClassification:
    config = _bert_config(model)
    ours = assign(empty(lambda: BERTForSequenceClassification(config, model.config.num_labels)),
                  _encoder_weights(model) | _linear("pooler", model.bert.pooler.dense)
                  | _linear("output", model.classifier))
    ours.dropout.p = model.dropout.p
    _bert_dropouts(ours.bert, model)
    return ours


def _bert_token_classification(model: nn.Module) -> BERTForTokenClassification:
    config = _bert_config(model)
    ours = assign(empty(lambda: BERTForTokenClassification(config, model.config.num_labels)),
                  _encoder_weights(model) | _linear("output", model.classifier))
    ours.dropout.p = model.dropout.p
    _bert_dropouts(ours.bert, model)
    return ours


def _bert_question_answering(model: nn.Module) -> BERTForQuestionAnswering:
    config = _bert_config(model)
    if model.config.num_labels != 2:
        raise refusal(model, "num_labels", model.config.num_labels, "num_labels=2, start and end")
    ours = assign(empty(lambda: BERTForQuestionAnswering(config)),
                  _encoder_weights(model) | _linear("output", model.qa_outputs))
    _bert_dropouts(ours.bert, model)
    return ours


# -- GPT-2 ------------------------------------------------------------------------------------------------------------


def _gpt2(model: nn.Module) -> GPT:
    _require(model, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, reorder_and_upcast_attn=False,
             add_cross_attention=False)
    theirs, stack = model.config, model.transformer
    config = GPTConfig(vocabulary=theirs.vocab_size, max_length=theirs.n_positions, width=theirs.n_embd,
                       num_heads=theirs.n_head, num_layers=theirs.n_layer, hidden=theirs.n_inner, dropout=theirs.resid_pdrop,
                       activation=_activation(model, "activation_function"), eps=theirs.layer_norm_epsilon,
                       tie_output=theirs.tie_word_embeddings)
    weights = {"embedding.weight": stack.wte.weight, "position.table": stack.wpe.weight, "output.weight": model.lm_head.weight}
    weights |= _linear("norm", stack.ln_f)
    for number, layer in enumerate(stack.h):
        own = f"layers.{number}"
        weights |= (_linear(f"{own}.attention_norm", layer.ln_1) | _linear(f"{own}.feed_forward_norm", layer.ln_2)
                    | _joint_projection(f"{own}.attention", layer.attn.c_attn)
                    | _transposed(f"{own}.attention.output", layer.attn.c_proj)
                    | _transposed(f"{own}.feed_forward.expand", layer.mlp.c_fc)
                    | _transposed(f"{own}.feed_forward.contract", layer.mlp.c_proj))
    ours = assign(empty(lambda: GPT(config)), weights)
    if config.tie_output:
        ours.output.weight = ours.embedding.weight
    ours.dropout.p = theirs.embd_pdrop
    for layer in ours.layers:
        layer.attention.dropout = theirs.attn_pdrop
    return ours


def _transposed(name: str, module: nn.Module) -> dict[str, Tensor]:
    """GPT-2 keeps its matrices (in, out); ours are (out, in)."""
    return {f"{name}.weight": module.weight.T, f"{name}.bias": module.bias}


def _joint_projection(name: str, module: nn.Module) -> dict[str, Tensor]:
    """GPT-2 keeps query, key and value side by side in one matrix (D, 3 D)."""
    parts = zip(("query", "key", "value"), module.weight.T.chunk(3), module.bias.chunk(3), strict=True)
    return {f"{name}.{part}.{kind}": tensor for part, weight, bias in parts
            for kind, tensor in (("weight", weight), ("bias", bias))}


# -- Llama ------------------------------------------------------------------------------------------------------------


def _llama(model: nn.Module) -> Llama:
    theirs = model.config
    _require(model, attention_bias=False, mlp_bias=False, head_dim=theirs.hidden_size // theirs.num_attention_heads)
    config = LlamaConfig(vocabulary=theirs.vocab_size, max_length=theirs.max_position_embeddings, width=theirs.hidden_size,
                         num_heads=theirs.num_attention_heads, num_key_value_heads=theirs.num_key_value_heads,
                         num_layers=theirs.num_hidden_layers, hidden=theirs.intermediate_size, rope_base=_rope_base(model),
                         activation=_activation(model, "hidden_act"), eps=theirs.rms_norm_eps,
                         tie_output=theirs.tie_word_embeddings)
    weights = {"embedding.weight": model.model.embed_tokens.weight, "norm.weight": model.model.norm.weight,
               "output.weight": model.lm_head.weight}
    for number, layer in enumerate(model.model.layers):
        attention, network = layer.self_attn, layer.mlp
        names = {"attention.query": attention.q_proj, "attention.key": attention.k_proj, "attention.value": attention.v_proj,
                 "attention.output": attention.o_proj, "feed_forward.gate": network.gate_proj,
                 "feed_forward.expand": network.up_proj, "feed_forward.contract": network.down_proj,
                 "attention_norm": layer.input_layernorm, "feed_forward_norm": layer.post_attention_layernorm}
        weights |= {f"layers.{number}.{name}.weight": module.weight for name, module in names.items()}
    ours = assign(empty(lambda: Llama(config)), weights)
    if config.tie_output:
        ours.output.weight = ours.embedding.weight
    for layer in ours.layers:
        layer.attention.dropout = theirs.attention_dropout
    return ours


def _rope_base(model: nn.Module) -> float:
    """The base of the rotary angles, which the library has kept in one place or another; scaled angles are refused."""
    parameters = getattr(model.config, "rope_parameters", None)
    if parameters is None:  # before its version 5
        parameters = {"rope_theta": model.config.rope_theta} | (model.config.rope_scaling or {})
    kind = parameters.get("rope_type", "default")
    if kind != "default":
        raise refusal(model, "rope_type", kind, "rope_type=default")
    return float(parameters["rope_theta"])


# -- ResNet -----------------------------------------------------------------------------------------------------------


def _resnet(model: nn.Module) -> ResNet:
    _require(model, hidden_act="relu", downsample_in_first_stage=False, downsample_in_bottleneck=False)
    config = model.config
    if config.num_labels < 1:
        raise refusal(model, "num_labels", config.num_labels, "at least one class")
    ours = empty(lambda: ResNet(config.depths, config.hidden_sizes, num_classes=config.num_labels,
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
    return assign(ours, weights | {"output.weight": head.weight, "output.bias": head.bias})


def _conv_norm(name: str, unit: nn.Module) -> dict[str, Tensor]:
    """The weights of a convolution and its batch norm, under our names."""
    norm = unit.normalization
    return {f"{name}.convolution.weight": unit.convolution.weight, f"{name}.norm.weight": norm.weight,
            f"{name}.norm.bias": norm.bias, f"{name}.norm.running_mean": norm.running_mean,
            f"{name}.norm.running_var": norm.running_var}


ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "silu": "silu",
               "swish": "silu"}  # their name: ours

TRANSFORMERS_CONVERTERS = {
    "BertModel": _bert,
    "BertForMaskedLM": _bert_masked_lm,
    "BertForSequenceClassification": _bert_sequence_classification,
    "BertForTokenClassification": _bert_token_classification,
    "BertForQuestionAnswering": _bert_question_answering,
    "GPT2LMHeadModel": _gpt2,
    "LlamaForCausalLM": _llama,
    "ResNetForImageClassification": _resnet,
}
