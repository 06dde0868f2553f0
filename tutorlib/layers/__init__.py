"""What models share: attention, position, convolution, recurrence, normalization, and the Transformer's blocks."""

from tutorlib.layers.attention import MultiHeadAttention, scaled_dot_product_attention
from tutorlib.layers.cache import DecoderCache, KeyValueCache, RecurrentCache
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
from tutorlib.layers.experts import Experts, Routing, balance_loss
from tutorlib.layers.feed_forward import FeedForward, GatedFeedForward
from tutorlib.layers.fused import blockwise_attention
from tutorlib.layers.linear_attention import (
    CausalConvolution,
    DeltaAttention,
    LinearAttention,
    delta_rule,
    delta_rule_by_steps,
    linear_attention,
    linear_attention_by_steps,
)
from tutorlib.layers.masks import causal_mask, masked_softmax, prefix_causal_mask
from tutorlib.layers.normalization import BatchNorm, LayerNorm, RMSNorm, batch_norm, layer_norm, rms_norm
from tutorlib.layers.position import LearnedPosition, RotaryPosition, SinusoidalPosition, sinusoidal_table
from tutorlib.layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tutorlib.layers.state_space import StateSpace
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
    "CausalConvolution",
    "ConvNorm",
    "Decoder",
    "DecoderCache",
    "DecoderLayer",
    "DeltaAttention",
    "Encoder",
    "EncoderDecoder",
    "Experts",
    "FeedForward",
    "GRUCell",
    "GatedFeedForward",
    "KeyValueCache",
    "LSTMCell",
    "LayerNorm",
    "LearnedPosition",
    "LinearAttention",
    "MultiHeadAttention",
    "RMSNorm",
    "RNNCell",
    "RecurrentCache",
    "RotaryPosition",
    "Routing",
    "SinusoidalPosition",
    "StateSpace",
    "TransformerLayer",
    "avg_pool2d",
    "balance_loss",
    "batch_norm",
    "blockwise_attention",
    "causal_mask",
    "conv2d",
    "decoder_layer",
    "delta_rule",
    "delta_rule_by_steps",
    "encoder_layer",
    "fold_batch_norms",
    "layer_norm",
    "linear_attention",
    "linear_attention_by_steps",
    "masked_softmax",
    "max_pool2d",
    "output_size",
    "prefix_causal_mask",
    "receptive_field",
    "rms_norm",
    "scaled_dot_product_attention",
    "sinusoidal_table",
    "windows",
]
