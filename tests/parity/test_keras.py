"""Attention, norm, loss and embedding against Keras 3 on its PyTorch backend, with Keras's weights turned into ours.

Keras stores the kernel of a map from D to F features as (D, F), and its attention's kernels with the heads apart, (D, H, K).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same, assert_same_gradients
from tutorlib.layers import LayerNorm, MultiHeadAttention
from tutorlib.training.losses import token_cross_entropy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras on the PyTorch backend and the CPU, with a settings folder of its own."""
    os.environ.update(KERAS_BACKEND="torch", KERAS_TORCH_DEVICE="cpu", KERAS_HOME=str(tmp_path_factory.mktemp("keras")))
    library = pytest.importorskip("keras")
    assert library.config.backend() == "torch"
    return library


def fill(layer):
    """Random weights everywhere: Keras starts biases at zero and scales at one, which hides forgotten ones."""
    for variable in layer.weights:
        variable.assign(0.5 * torch.randn(variable.shape))
    return layer


@torch.no_grad()
def from_keras_attention(peer, width, num_heads):
    """Our layer with the weights of a `keras.layers.MultiHeadAttention`: query, key, value, output; kernel, then bias."""
    ours = MultiHeadAttention(width, num_heads)
    values = [variable.value for variable in peer.weights]
    for linear, kernel, bias in zip((ours.query, ours.key, ours.value), values[0:6:2], values[1:6:2], strict=True):
        linear.weight.copy_(kernel.flatten(1).T)  # (D, H, K) -> (H*K, D)
        linear.bias.copy_(bias.flatten())
    ours.output.weight.copy_(values[6].flatten(0, 1).T)  # (H, K, D) -> (D, H*K)
    ours.output.bias.copy_(values[7])
    return ours


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), heads=st.sampled_from([1, 2, 4]), per_head=st.integers(1, 6),
       queries=st.integers(2, 8), keys=st.integers(2, 8), form=st.sampled_from(["none", "causal", "boolean (B, T, S)"]))
def test_attention(keras, seed, batch, heads, per_head, queries, keys, form):
    torch.manual_seed(seed)
    keys = queries if form == "causal" else keys
    width = heads * per_head
    query = torch.randn(batch, queries, width, requires_grad=True)
    key = torch.randn(batch, keys, width, requires_grad=True)
    value = torch.randn(batch, keys, width, requires_grad=True)
    peer = keras.layers.MultiHeadAttention(num_heads=heads, key_dim=per_head)
    peer(query, value, key)  # makes the weights
    ours = from_keras_attention(fill(peer), width, heads)
    mask = torch.rand(batch, queries, keys) < 0.6 if form.startswith("boolean") else None
    if mask is not None:
        mask[..., 0] = True
    reference, peer_weights = peer(query, value, key, attention_mask=mask, use_causal_mask=form == "causal",
                                   return_attention_scores=True)
    output, weights = ours(query, key, value, mask, causal=form == "causal", return_weights=True)
    assert_same(output, reference)
    assert_same(weights, peer_weights)
    assert_same_gradients(output, reference, [query, key, value], [query, key, value])


def test_layer_normalization_with_the_same_epsilon(keras):
    torch.manual_seed(0)
    states = torch.randn(3, 5, 12, requires_grad=True)
    peer = keras.layers.LayerNormalization(epsilon=1e-5)
    peer(states)
    ours = LayerNorm(12, 1e-5, True)
    with torch.no_grad():
        for parameter, variable in zip((ours.weight, ours.bias), fill(peer).weights, strict=True):
            parameter.copy_(variable.value)
    assert_same(ours(states), peer(states))
    assert_same_gradients(ours(states), peer(states), [states], [states])
    assert keras.layers.LayerNormalization().epsilon == 1e-3  # unless told otherwise: not ours


def test_cross_entropy_takes_the_truth_first(keras):
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 7, 11, requires_grad=True), torch.randint(11, (2, 7))
    reference = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(targets, logits)
    ours = token_cross_entropy(logits, targets, ignore=-100)
    assert_same(ours, reference)
    assert_same_gradients(ours, reference, [logits], [logits])


def test_adam_is_torchs_with_an_epsilon_that_fades(keras):
    """Keras adds epsilon before v is corrected for its start at zero: torch's step t needs epsilon / sqrt(1 - beta^t)."""
    variable, parameter = keras.Variable(torch.ones(4)), nn.Parameter(torch.ones(4))
    theirs, optimizer = keras.optimizers.Adam(0.1), torch.optim.Adam([parameter], lr=0.1)
    gradients = torch.logspace(-8, 0, 4)  # the smallest ones lie far below epsilon
    for step in range(1, 6):
        theirs.apply_gradients([(step * gradients, variable)])
        parameter.grad = step * gradients
        optimizer.param_groups[0]["eps"] = 1e-7 / (1 - 0.999**step) ** 0.5
        optimizer.step()
        assert_same(variable.value.detach(), parameter.detach())


@pytest.mark.slow  # a new process imports torch and Keras
def test_keras_needs_no_home_directory(tmp_path):
    """With the chapter's settings Keras can be imported where no home directory can be written, and leaves it alone."""
    home, settings_folder = tmp_path / "home", tmp_path / "settings"
    home.write_text("a file, so that nothing can be created below it")
    program = "import keras, sys; assert 'tensorflow' not in sys.modules; print(keras.config.backend(), keras.config.floatx())"
    environment = {**os.environ, "HOME": str(home), "KERAS_BACKEND": "torch", "KERAS_HOME": str(settings_folder),
                   "MPLCONFIGDIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.split() == ["torch", "float32"], run.stderr
    assert (settings_folder / "keras.json").exists()  # so it is here that Keras reads and writes
