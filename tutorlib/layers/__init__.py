"""What models share: attention, position, normalization, and the Transformer's blocks."""

from tutorlib.layers.attention import (
    KeyValueCache,
    MultiHeadAttention,
    blockwise_attention,
    causal_mask,
    masked_softmax,
    scaled_dot_product_attention,
)
from tutorlib.layers.normalization import LayerNorm, RMSNorm, layer_norm, rms_norm
from tutorlib.layers.position import LearnedPosition, RotaryPosition, SinusoidalPosition, sinusoidal_table
from tutorlib.layers.transformer import (
    Decoder,
    DecoderCache,
    DecoderLayer,
    Encoder,
    EncoderDecoder,
    EncoderLayer,
    FeedForward,
)

__all__ = [
    "Decoder", "DecoderCache", "DecoderLayer", "Encoder", "EncoderDecoder", "EncoderLayer", "FeedForward", "KeyValueCache",
    "LayerNorm", "LearnedPosition", "MultiHeadAttention", "RMSNorm", "RotaryPosition", "SinusoidalPosition",
    "blockwise_attention", "causal_mask", "layer_norm", "masked_softmax", "rms_norm", "scaled_dot_product_attention",
    "sinusoidal_table",
]
