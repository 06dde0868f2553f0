"""What runs where it is read: a GPT with its weights and 300 lines of JavaScript, and small widgets."""

from tutorlib.explorer.explorer import Explorer
from tutorlib.explorer.widgets import attention_by_hand, sampling, turning

__all__ = ["Explorer", "attention_by_hand", "sampling", "turning"]
