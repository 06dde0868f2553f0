"""A picture before the words: causal it is GPT-2 of transformers given embeddings; with the prefix, its sums written out."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tests.peers import gpt2, shaken
from tutorlib.layers import causal_mask
from tutorlib.models import VisionLanguage
from tutorlib.models.vision_language import ConvolutionalStem
from tutorlib.pretrained import from_transformers


class Causal(VisionLanguage):
    def mask(self, prefix, length, device):
        return causal_mask(length, length, device)


def pair(dtype, causal, seed, heads, layers, per_head):
    """GPT-2 of transformers, and ours with its weights behind a drawn stem."""
    torch.manual_seed(seed)
    reference = shaken(gpt2(n_embd=heads * per_head, n_head=heads, n_layer=layers), dtype)
    ours = (Causal if causal else VisionLanguage)(ConvolutionalStem((3, 4, 5)), from_transformers(reference)).to(dtype).eval()
    for part in (ours.projection, ours.vision):
        for parameter in part.parameters():
            nn.init.normal_(parameter, std=0.3)
    return reference, ours


SIZES = dict(seed=st.integers(0, 10**6), batch=st.integers(1, 3), words=st.integers(1, 8), heads=st.sampled_from([1, 3]),
             layers=st.integers(1, 3), per_head=st.integers(1, 5), dtype=st.sampled_from([torch.float32, torch.float64]))


@settings(max_examples=25)
@given(**SIZES)
def test_causal_is_gpt2_given_embeddings(seed, batch, words, heads, layers, per_head, dtype):
    reference, ours = pair(dtype, True, seed, heads, layers, per_head)
    images = torch.randn(batch, 3, 8, 8, dtype=dtype, requires_grad=True)
    tokens = torch.randint(31, (batch, words))
    logits = ours(images, tokens)
    given_states = torch.cat([ours.projection(ours.vision(images)), reference.transformer.wte(tokens)], dim=1)
    theirs = reference(inputs_embeds=given_states).logits[:, 4:]
    assert_same(logits, theirs)
    if dtype == torch.float64:
        mine, other = (torch.autograd.grad(each.square().sum(), images)[0] for each in (logits, theirs))
        assert_same(mine, other, "gradient of the images")


@settings(max_examples=25)
@given(**SIZES)
def test_with_the_prefix_it_is_gpt2_given_the_mask(seed, batch, words, heads, layers, per_head, dtype):
    """The blocks of GPT-2 step by step, attention with the prefix as an explicit mask."""
    reference, ours = pair(dtype, False, seed, heads, layers, per_head)
    images, tokens = torch.randn(batch, 3, 8, 8, dtype=dtype), torch.randint(31, (batch, words))
    length = 4 + words
    allowed = torch.tensor([[key < 4 or key <= query for key in range(length)] for query in range(length)])
    states = torch.cat([ours.projection(ours.vision(images)), reference.transformer.wte(tokens)], dim=1)
    states = states + reference.transformer.wpe.weight[:length]
    for block in reference.transformer.h:
        normed = block.ln_1(states)
        query, key, value = (each.unflatten(-1, (heads, -1)).transpose(1, 2)
                             for each in block.attn.c_attn(normed).chunk(3, dim=-1))  # (B, H, T, K)
        scores = query @ key.mT / per_head**0.5
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
        states = states + block.attn.c_proj((weights @ value).transpose(1, 2).flatten(2).contiguous())
        states = states + block.mlp(block.ln_2(states))
    assert_same(ours(images, tokens), reference.lm_head(reference.transformer.ln_f(states))[:, 4:])
