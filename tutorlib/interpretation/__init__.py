"""What a model looked at, and how to tell whether that means anything."""

from tutorlib.interpretation.attention_maps import attention_rollout, attention_weights

__all__ = ["attention_rollout", "attention_weights"]
