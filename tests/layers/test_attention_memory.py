"""Fused attention never stores the (T, S) matrix, whatever the number of dimensions it is called with."""

import pytest
import torch

from tutorlib.device import peak_memory
from tutorlib.layers import scaled_dot_product_attention

LENGTH, MATRIX = 2048, 4 * 2048 * 2048  # bytes of one (T, S) matrix in float32


@pytest.mark.parametrize("shape", [(LENGTH, 64), (1, LENGTH, 64), (1, 1, LENGTH, 64)])
@pytest.mark.parametrize("causal", [False, True])
def test_fused_attention_takes_less_memory_than_its_weights_would(shape, causal):
    query, key, value = torch.randn(3, *shape, requires_grad=True)

    def step():
        output = scaled_dot_product_attention(query, key, value, causal=causal)
        output.square().sum().backward()
        return output

    output, peak = peak_memory(step)
    assert output.shape == shape
    assert peak < MATRIX
