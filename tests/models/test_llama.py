"""Llama alone: what it refuses. What it shares with GPT is in test_language_models, its outputs in tests/parity."""

from dataclasses import replace

import pytest

from tests.models.examples import LLAMA_SIZES
from tutorlib.models import Llama


@pytest.mark.parametrize("size", ["vocabulary", "max_length", "width", "num_heads", "num_key_value_heads", "num_layers",
                                  "hidden"])
@pytest.mark.parametrize("value", [0, -1, 2.0])
def test_sizes_are_whole_and_positive(size, value):
    with pytest.raises(ValueError, match=f"{size} must be .*{value}"):
        Llama(replace(LLAMA_SIZES, **{size: value}))
