"""DETR with a ResNet backbone, from the library transformers."""

from torch import nn

from tutorlib.models.detr import DETR, DETRConfig
from tutorlib.pretrained.huggingface.config import our_activation, require
from tutorlib.pretrained.huggingface.resnet import in_one_row
from tutorlib.pretrained.weights import fill, refusal, rename

TABLE = {  # of what `in_one_row` makes
    "model.backbone.model.embedder.embedder.convolution": "backbone.stem.convolution",
    "model.backbone.model.embedder.embedder.normalization": "backbone.stem.norm",
    "model.backbone.model.encoder.blocks.{}.layer.{}.convolution": "backbone.blocks.{}.correction.{}.convolution",
    "model.backbone.model.encoder.blocks.{}.layer.{}.normalization": "backbone.blocks.{}.correction.{}.norm",
    "model.backbone.model.encoder.blocks.{}.shortcut.convolution": "backbone.blocks.{}.shortcut.convolution",
    "model.backbone.model.encoder.blocks.{}.shortcut.normalization": "backbone.blocks.{}.shortcut.norm",
    "model.input_projection": "projection",
    "model.query_position_embeddings.weight": "queries",
    "model.encoder.layers.{}.self_attn.q_proj": "encoder.{}.attention.query",
    "model.encoder.layers.{}.self_attn.k_proj": "encoder.{}.attention.key",
    "model.encoder.layers.{}.self_attn.v_proj": "encoder.{}.attention.value",
    "model.encoder.layers.{}.self_attn.o_proj": "encoder.{}.attention.output",
    "model.encoder.layers.{}.self_attn_layer_norm": "encoder.{}.attention_norm",
    "model.encoder.layers.{}.mlp.fc1": "encoder.{}.feed_forward.expand",
    "model.encoder.layers.{}.mlp.fc2": "encoder.{}.feed_forward.contract",
    "model.encoder.layers.{}.final_layer_norm": "encoder.{}.feed_forward_norm",
    "model.decoder.layers.{}.self_attn.q_proj": "decoder.{}.attention.query",
    "model.decoder.layers.{}.self_attn.k_proj": "decoder.{}.attention.key",
    "model.decoder.layers.{}.self_attn.v_proj": "decoder.{}.attention.value",
    "model.decoder.layers.{}.self_attn.o_proj": "decoder.{}.attention.output",
    "model.decoder.layers.{}.self_attn_layer_norm": "decoder.{}.attention_norm",
    "model.decoder.layers.{}.encoder_attn.q_proj": "decoder.{}.cross_attention.query",
    "model.decoder.layers.{}.encoder_attn.k_proj": "decoder.{}.cross_attention.key",
    "model.decoder.layers.{}.encoder_attn.v_proj": "decoder.{}.cross_attention.value",
    "model.decoder.layers.{}.encoder_attn.o_proj": "decoder.{}.cross_attention.output",
    "model.decoder.layers.{}.encoder_attn_layer_norm": "decoder.{}.cross_attention_norm",
    "model.decoder.layers.{}.mlp.fc1": "decoder.{}.feed_forward.expand",
    "model.decoder.layers.{}.mlp.fc2": "decoder.{}.feed_forward.contract",
    "model.decoder.layers.{}.final_layer_norm": "decoder.{}.feed_forward_norm",
    "model.decoder.layernorm": "norm",
    "class_labels_classifier": "to_class",
    "bbox_predictor.layers.0": "to_box.0",  # between the three lies a ReLU
    "bbox_predictor.layers.1": "to_box.2",
    "bbox_predictor.layers.2": "to_box.4",
}


def convert_detr(model: nn.Module) -> DETR:
    config, backbone = model.config, model.config.backbone_config
    if backbone is None or backbone.model_type != "resnet":
        kind = getattr(backbone, "model_type", None)
        raise refusal(model, "backbone_config", kind, "a ResNetConfig (use_timm_backbone=False)")
    _require_resnet(model, backbone)
    # With auxiliary_loss theirs hands normed states from one decoder layer to the next: another function than the paper's.
    require(model, auxiliary_loss=False, position_embedding_type="sine", dilation=False, encoder_layerdrop=0.0,
            decoder_layerdrop=0.0, decoder_attention_heads=config.encoder_attention_heads,
            decoder_ffn_dim=config.encoder_ffn_dim)
    ours = DETRConfig(
        num_classes=config.num_labels, num_queries=config.num_queries, width=config.d_model,
        num_heads=config.encoder_attention_heads, hidden=config.encoder_ffn_dim, num_encoder_layers=config.encoder_layers,
        num_decoder_layers=config.decoder_layers, dropout=config.dropout,
        activation=our_activation(model, "activation_function"), in_channels=backbone.num_channels,
        depths=tuple(backbone.depths), widths=tuple(backbone.hidden_sizes), stem_width=backbone.embedding_size,
        bottleneck=backbone.layer_type == "bottleneck", frozen_norms=True)
    weights = rename(in_one_row(model.state_dict(), backbone.depths), TABLE)
    return _drop(model, fill(lambda: DETR(ours), weights))


def _require_resnet(model: nn.Module, backbone: object) -> None:
    """Refuse what our ResNet lacks, and a backbone whose last map is not that of its last stage."""
    last = f"stage{len(backbone.depths)}"
    if backbone.out_features[-1] != last:
        raise refusal(model, "backbone_config.out_features", backbone.out_features, f"out_features=[{last!r}]")
    supported = {"hidden_act": "relu", "downsample_in_first_stage": False, "downsample_in_bottleneck": False}
    for option, value in supported.items():
        if getattr(backbone, option) != value:
            raise refusal(model, f"backbone_config.{option}", getattr(backbone, option), f"{option}={value}")


def _drop(model: nn.Module, ours: DETR) -> DETR:
    """Set the dropouts that our config has no word for: of attention weights and within the feed-forward networks."""
    for layer in (*ours.encoder, *ours.decoder):
        layer.feed_forward.dropout.p = model.config.activation_dropout
        layer.attention.dropout = model.config.attention_dropout
    for layer in ours.decoder:
        layer.cross_attention.dropout = model.config.attention_dropout
    return ours
