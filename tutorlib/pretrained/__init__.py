"""Other libraries' weights in our modules: the same parameters, the same outputs.

`from_torch` takes PyTorch's own layers, `from_transformers` the models of the library transformers, `load` real weights that an
installed package carries. What ours cannot do is refused by name, never ignored.
"""

from tutorlib.pretrained.huggingface import from_transformers
from tutorlib.pretrained.load import load
from tutorlib.pretrained.pytorch import from_torch

__all__ = ["from_torch", "from_transformers", "load"]
