"""The Vision Transformer, from the library transformers."""

from torch import nn

from tutorlib.models.vit import ViT, ViTConfig
from tutorlib.pretrained.huggingface.config import our_activation, require
from tutorlib.pretrained.weights import fill, refusal, rename

TABLE = {
    "vit.embeddings.cls_token": "class_token",
    "vit.embeddings.position_embeddings": "position.table",
    "vit.embeddings.patch_embeddings.projection": "patches.projection",
    "vit.layers.{}.layernorm_before": "layers.{}.attention_norm",
    "vit.layers.{}.attention.q_proj": "layers.{}.attention.query",
    "vit.layers.{}.attention.k_proj": "layers.{}.attention.key",
    "vit.layers.{}.attention.v_proj": "layers.{}.attention.value",
    "vit.layers.{}.attention.o_proj": "layers.{}.attention.output",
    "vit.layers.{}.layernorm_after": "layers.{}.feed_forward_norm",
    "vit.layers.{}.mlp.fc1": "layers.{}.feed_forward.expand",
    "vit.layers.{}.mlp.fc2": "layers.{}.feed_forward.contract",
    "vit.layernorm": "norm",
    "classifier": "output",
}


def convert_vit(model: nn.Module) -> ViT:
    theirs = model.config
    require(model, qkv_bias=True, head_dim=theirs.hidden_size // theirs.num_attention_heads)
    image_size, patch_size = _side(model, "image_size"), _side(model, "patch_size")
    if image_size % patch_size:
        raise refusal(model, "image_size", image_size, f"a multiple of patch_size={patch_size}")
    if theirs.num_labels < 1:
        raise refusal(model, "num_labels", theirs.num_labels, "at least one class")
    config = ViTConfig(image_size=image_size, patch_size=patch_size, in_channels=theirs.num_channels,
                       num_classes=theirs.num_labels, width=theirs.hidden_size, num_heads=theirs.num_attention_heads,
                       num_layers=theirs.num_hidden_layers, hidden=theirs.intermediate_size, dropout=theirs.hidden_dropout_prob,
                       activation=our_activation(model, "hidden_act"), eps=theirs.layer_norm_eps)
    weights = rename(model.state_dict(), TABLE)
    weights["position.table"] = weights["position.table"][0]  # (1, T, D) -> (T, D)
    ours = fill(lambda: ViT(config), weights)
    for layer in ours.layers:
        layer.attention.dropout = theirs.attention_probs_dropout_prob
    return ours


def _side(model: nn.Module, option: str) -> int:
    """The side of a square that a config gives as one number or as two equal ones."""
    value = getattr(model.config, option)
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise refusal(model, option, value, "squares")
    return sides.pop()
