"""CLIP, from the library transformers."""

from torch import nn

from tutorlib.models.clip import CLIP, CLIPConfig
from tutorlib.pretrained.huggingface.config import ACTIVATIONS
from tutorlib.pretrained.weights import fill, refusal, rename

LAYER = {
    "layer_norm1": "attention_norm",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.out_proj": "attention.output",
    "layer_norm2": "feed_forward_norm",
    "mlp.fc1": "feed_forward.expand",
    "mlp.fc2": "feed_forward.contract",
}
TABLE = {
    "logit_scale": "logit_scale",
    "visual_projection": "image_projection",
    "text_projection": "text_projection",
    "vision_model.embeddings.class_embedding": "image.class_token",
    "vision_model.embeddings.patch_embedding": "image.patches.projection",
    "vision_model.embeddings.position_embedding.weight": "image.position.table",
    "vision_model.pre_layrnorm": "image.first_norm",
    "vision_model.post_layernorm": "image.norm",
    "text_model.embeddings.token_embedding": "text.embedding",
    "text_model.embeddings.position_embedding.weight": "text.position.table",
    "text_model.final_layer_norm": "text.norm",
} | {f"{theirs}_model.encoder.layers.{{}}.{name}": f"{ours}.encoder.layers.{{}}.{own}"
     for theirs, ours in {"vision": "image", "text": "text"}.items() for name, own in LAYER.items()}
LEGACY_END = 2  # with it theirs reads a text at its largest token


def convert_clip(model: nn.Module) -> CLIP:
    image, text = model.config.vision_config, model.config.text_config
    if text.eos_token_id == LEGACY_END or not isinstance(text.eos_token_id, int):
        raise refusal(model, "text_config.eos_token_id", text.eos_token_id, f"one token other than {LEGACY_END}")
    for option in ("hidden_act", "layer_norm_eps"):
        if getattr(image, option) != getattr(text, option):
            raise refusal(model, f"vision_config.{option}", getattr(image, option), f"the text's, {getattr(text, option)}")
    if text.hidden_act not in ACTIVATIONS:
        raise refusal(model, "text_config.hidden_act", text.hidden_act, f"one of {sorted(ACTIVATIONS)}")
    if image.image_size % image.patch_size:
        raise refusal(model, "vision_config.image_size", image.image_size, f"a multiple of patch_size={image.patch_size}")
    config = CLIPConfig(
        image_size=image.image_size, patch_size=image.patch_size, in_channels=image.num_channels, image_width=image.hidden_size,
        image_heads=image.num_attention_heads, image_layers=image.num_hidden_layers, image_hidden=image.intermediate_size,
        vocabulary=text.vocab_size, max_length=text.max_position_embeddings, end=text.eos_token_id,
        text_width=text.hidden_size, text_heads=text.num_attention_heads, text_layers=text.num_hidden_layers,
        text_hidden=text.intermediate_size, embedding=model.config.projection_dim,
        activation=ACTIVATIONS[text.hidden_act], eps=text.layer_norm_eps)
    ours = fill(lambda: CLIP(config), rename(model.state_dict(), TABLE))
    for encoder, theirs in ((ours.image, image), (ours.text, text)):
        for layer in encoder.encoder.layers:
            layer.attention.dropout = theirs.attention_dropout
    return ours
