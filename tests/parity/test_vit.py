"""The Vision Transformer against transformers: values and every gradient, on drawn configs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from tests.closeness import assert_same
from tests.peers import assert_copied, shaken
from tutorlib.pretrained import from_transformers
from tutorlib.pretrained.huggingface.vit import TABLE
from tutorlib.pretrained.weights import rename


def vit(heads=2, per_head=4, layers=2, hidden=12, patch=4, across=3, channels=2, labels=3, activation="gelu", eps=1e-12,
        **options) -> nn.Module:
    config = dict(hidden_size=heads * per_head, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=hidden,
                  hidden_act=activation, layer_norm_eps=eps, image_size=patch * across, patch_size=patch, num_channels=channels,
                  num_labels=labels)
    return ViTForImageClassification(ViTConfig(**config | options))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), heads=st.sampled_from([1, 2, 3]), per_head=st.integers(1, 5),
       layers=st.integers(1, 3), hidden=st.integers(1, 24), patch=st.integers(1, 5), across=st.integers(1, 4),
       channels=st.integers(1, 3), labels=st.integers(1, 5), eps=st.sampled_from([1e-12, 0.1]),
       activation=st.sampled_from(["gelu", "relu", "silu", "gelu_new"]), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_vit(seed, batch, channels, patch, across, dtype, **sizes):
    torch.manual_seed(seed)
    reference = shaken(vit(channels=channels, patch=patch, across=across, **sizes), dtype)
    ours = from_transformers(reference)
    images = torch.randn(batch, channels, patch * across, patch * across, dtype=dtype, requires_grad=True)
    mine, theirs = ours(images), reference(images).logits
    assert_same(mine, theirs)
    weight = torch.randn_like(theirs)
    (pixels,) = torch.autograd.grad((mine * weight).sum(), images, retain_graph=True)
    (their_pixels,) = torch.autograd.grad((theirs * weight).sum(), images, retain_graph=True)
    assert_same(pixels, their_pixels, "gradient of the images")
    if dtype == torch.float64:  # in float32 a key's bias, whose gradient is zero, has rounding alone
        (mine * weight).sum().backward()
        (theirs * weight).sum().backward()
        expected = rename({name: parameter.grad for name, parameter in reference.named_parameters()}, TABLE)
        for name, parameter in ours.named_parameters():
            assert_same(parameter.grad, expected[name].view_as(parameter), f"gradient of {name}")


def test_sides_may_be_given_twice():
    reference = shaken(vit(image_size=[12, 12], patch_size=(4, 4)))
    images = torch.randn(2, 2, 12, 12)
    assert_same(from_transformers(reference)(images), reference(images).logits)


def test_weights_are_copied():
    reference = shaken(vit())
    ours = from_transformers(reference)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in reference.parameters())
    assert_copied(ours, reference)


def test_mode_dtype_and_dropouts_are_taken_over(device):
    reference = vit(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3).to(device, torch.bfloat16)
    ours = from_transformers(reference.train())
    layer = ours.layers[1]
    assert ours.training and not from_transformers(reference.eval()).training
    assert (ours.dropout.p, layer.dropout.p, layer.attention.dropout, layer.feed_forward.dropout.p) == (0.2, 0.2, 0.3, 0.0)
    assert ours(torch.randn(2, 2, 12, 12, device=device, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("options, message", [
    ({"qkv_bias": False}, r"ViTForImageClassification\(qkv_bias=False\) is not supported, only qkv_bias=True"),
    ({"activation": "tanh"}, r"hidden_act=tanh\) is not supported, only one of \['gelu'"),
    ({"image_size": 14}, r"image_size=14\) is not supported, only a multiple of patch_size=4"),
    ({"image_size": [12, 8]}, r"image_size=\[12, 8\]\) is not supported, only squares"),
    ({"patch_size": (4, 3)}, r"patch_size=\(4, 3\)\) is not supported, only squares"),
    ({"labels": 0}, r"num_labels=0\) is not supported, only at least one class"),
])
def test_options_that_ours_lacks_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        from_transformers(vit(**options))


def test_a_module_that_the_config_belies_is_refused():
    reference = vit()
    reference.vit.layernorm = nn.LayerNorm(8, eps=0.1)
    with pytest.raises(ValueError, match=r"vit.layernorm.eps=0.1\) is not supported, only 1e-12"):
        from_transformers(reference)
