"""Attention weights and switched-off heads against GPT-2 of transformers, with the same weights."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from tests.closeness import assert_same
from tests.peers import shaken
from tutorlib.interpretation import attention_weights, heads_off
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
