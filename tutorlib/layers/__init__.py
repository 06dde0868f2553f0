"""What models share: attention, position, convolution, recurrence, normalization, and the Transformer's blocks."""

from tutorlib.layers.attention import MultiHeadAttention, scaled_dot_product_attention
from tutorlib.layers.cache import DecoderCache, KeyValueCache
from tutorlib.layers.convolution import (
    ConvNorm,
    avg_pool2d,
    conv2d,
    fold_batch_norms,
    max_pool2d,
    output_size,
    receptive_field,
    windows,
)
from tutorlib.layers.feed_forward import FeedForward, GatedFeedForward
from tutorlib.layers.fused import blockwise_attention
from tutorlib.layers.masks import causal_mask, masked_softmax
from tutorlib.layers.normalization import BatchNorm, LayerNorm, RMSNorm, batch_norm, layer_norm, rms_norm
from tutorlib.layers.position import LearnedPosition, RotaryPosition, SinusoidalPosition, sinusoidal_table
from tutorlib.layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tutorlib.layers.transformer import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderDecoder,
    TransformerLayer,
    decoder_layer,
    encoder_layer,
)

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BatchNorm",
    "ConvNorm",
    "Decoder",
    "DecoderCache",
    "DecoderLayer",
    "Encoder",
    "EncoderDecoder",
    "FeedForward",
    "GRUCell",
    "GatedFeedForward",
    "KeyValueCache",
    "LSTMCell",
    "LayerNorm",
    "LearnedPosition",
    "MultiHeadAttention",
    "RMSNorm",
    "RNNCell",
    "RotaryPosition",
    "SinusoidalPosition",
    "TransformerLayer",
    "avg_pool2d",
    "batch_norm",
    "blockwise_attention",
    "causal_mask",
    "conv2d",
    "decoder_layer",
    "encoder_layer",
    "fold_batch_norms",
    "layer_norm",
    "masked_softmax",
    "max_pool2d",
    "output_size",
    "receptive_field",
    "rms_norm",
    "scaled_dot_product_attention",
    "sinusoidal_table",
    "windows",
]
