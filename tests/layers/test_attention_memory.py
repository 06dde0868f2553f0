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


def test_a_mask_of_three_dimensions_does_not_bring_the_matrix_back():
    """The kernel takes masks of two or four; with another it falls back, without a word, to storing the weights."""
    query, key, value = torch.randn(3, 1, LENGTH, 64, requires_grad=True)
    mask = torch.arange(LENGTH).expand(1, 1, LENGTH) < LENGTH - 5  # (B, 1, S)
    _, peak = peak_memory(lambda: scaled_dot_product_attention(query, key, value, mask).square().sum().backward())
    assert peak < MATRIX
