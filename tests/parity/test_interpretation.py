"""Attention weights and switched-off heads against GPT-2 of transformers, maps of a ViT against Captum."""

import torch
from captum.attr import InputXGradient, IntegratedGradients, Occlusion
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from tests.closeness import assert_same
from tests.peers import shaken
from tutorlib.interpretation import attention_weights, gradient_times_input, heads_off, integrated_gradients, occlusion
from tutorlib.models import ViT, ViTConfig
from tutorlib.pretrained import from_transformers


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), heads=st.integers(1, 4), width=st.integers(1, 4), layers=st.integers(1, 3),
       length=st.integers(1, 9), data=st.data())
def test_heads_of_gpt2(seed, heads, width, layers, length, data):
    torch.manual_seed(seed)
    theirs = shaken(GPT2LMHeadModel(GPT2Config(vocab_size=23, n_positions=9, n_embd=heads * width, n_layer=layers, n_head=heads,
                                               attn_implementation="eager")))
    ours, tokens = from_transformers(theirs).eval(), torch.randint(23, (2, length))
    with torch.no_grad():
        for mine, peer in zip(attention_weights(ours, tokens), theirs(tokens, output_attentions=True).attentions, strict=True):
            assert_same(mine, peer)
        off = data.draw(st.sets(st.tuples(st.integers(0, layers - 1), st.integers(0, heads - 1)), min_size=1))
        for layer, head in off:
            theirs.transformer.h[layer].attn.c_proj.weight[head * width:(head + 1) * width] = 0
        with heads_off(ours, off):
            assert_same(ours(tokens), theirs(tokens).logits)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(2, 40), patch=st.sampled_from([2, 4]), classes=st.integers(2, 4),
       far=st.booleans())
def test_maps_of_a_vit(seed, steps, patch, classes, far):
    """In float32, as Captum takes its steps whatever the inputs are."""
    torch.manual_seed(seed)
    model = shaken(ViT(ViTConfig(8, patch, 2, classes, width=8, num_heads=2, num_layers=2))).eval()
    images, classes_of = torch.randn(3, 2, 8, 8), torch.randint(classes, (3,))
    start = torch.randn(1, 2, 8, 8) if far else torch.zeros(1, 2, 8, 8)
    score = lambda x: model(x)[torch.arange(3), classes_of]  # noqa: E731
    assert_same(integrated_gradients(score, images, start, steps=steps), IntegratedGradients(model).attribute(
        images, start.expand_as(images), classes_of, n_steps=steps, method="riemann_middle"))
    assert_same(gradient_times_input(score, images), InputXGradient(model).attribute(
        images.clone().requires_grad_(), classes_of))
    theirs = Occlusion(model).attribute(images, (2, patch, patch), (2, patch, patch), baselines=start.expand_as(images),
                                        target=classes_of)  # (3, 2, 8, 8): each pixel has its square's number
    assert_same(occlusion(score, images, patch, start), theirs[:, 0, ::patch, ::patch])
