"""How good: what a classifier gets right, how wrong a sequence is, what a language model is worth, how the loss scales."""

from tutorlib.evaluation.classification import accuracy

__all__ = ["accuracy"]
