"""One architecture a file, each read from top to bottom in one sitting."""

from tutorlib.models.transformer import Transformer, TransformerConfig

__all__ = ["Transformer", "TransformerConfig"]
