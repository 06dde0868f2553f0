"""What a model looked at, and how to tell whether that means anything."""

from tutorlib.interpretation.attention_maps import attention_rollout, attention_weights, cross_attention_weights
from tutorlib.interpretation.attribution import gradient, gradient_times_input, integrated_gradients, occlusion
from tutorlib.interpretation.checks import share_found, with_shuffled_weights
from tutorlib.interpretation.patching import at_places, heads_off, patched, states_of
from tutorlib.interpretation.probes import LinearProbe

__all__ = [
    "LinearProbe", "at_places", "attention_rollout", "attention_weights", "cross_attention_weights", "gradient",
    "gradient_times_input", "heads_off", "integrated_gradients", "occlusion", "patched", "share_found", "states_of",
    "with_shuffled_weights",
]
