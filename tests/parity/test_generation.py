"""Decoding against transformers' `generate` on small random GPT-2 models: greedy and beams token for token, sampling by law."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tests.closeness import assert_same
from tutorlib.generation import beam_search, choose, generate, truncate
from tutorlib.pretrained import from_transformers

VOCABULARY = 17


def pair(seed: int, layers: int = 2):
    """transformers' GPT-2 with weights far from their small start, so that its choices are decided, and ours from it."""
    torch.manual_seed(seed)
    reference = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=32, n_embd=24, n_layer=layers, n_head=3,
                                           bos_token_id=None, eos_token_id=None)).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return reference, from_transformers(reference)


def prompt(seed: int, batch: int = 3, length: int = 4) -> torch.Tensor:
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def theirs(reference, tokens: torch.Tensor, new: int, **options) -> torch.Tensor:
    return reference.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new, do_sample=False,
                              **{"eos_token_id": None, "pad_token_id": 0} | options)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), layers=st.integers(1, 3), batch=st.integers(1, 3), length=st.integers(1, 8),
       use_cache=st.booleans())
def test_greedy_is_theirs_token_for_token(seed, layers, batch, length, use_cache):
    reference, ours = pair(seed, layers)
    tokens = prompt(seed, batch, length)
    assert torch.equal(generate(ours, tokens, 20, temperature=0, use_cache=use_cache), theirs(reference, tokens, 20))


@pytest.mark.parametrize("seed", range(4))
def test_greedy_ends_where_theirs_ends(seed):
    """Each row is filled with the end token behind its first one."""
    reference, ours = pair(seed)
    tokens = prompt(seed)
    endless = theirs(reference, tokens, 20)
    end = endless[0, 7].item()  # one that does come
    expected = theirs(reference, tokens, 20, eos_token_id=end, pad_token_id=end)
    assert torch.equal(generate(ours, tokens, 20, temperature=0, eos=end), expected)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), num_beams=st.integers(2, 5), use_cache=st.booleans())
def test_beams_are_theirs_while_no_sequence_ends(seed, num_beams, use_cache):
    """The definitions part where a beam ends: ours keeps its place among the beams, theirs moves it out of their way."""
    reference, ours = pair(seed)
    tokens = prompt(seed)
    expected = reference.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=8, do_sample=False,
                                  num_beams=num_beams, eos_token_id=None, pad_token_id=0, length_penalty=1.0,
                                  output_scores=True, return_dict_in_generate=True)
    found, scores = beam_search(ours, tokens, 8, num_beams=num_beams, eos=None, use_cache=use_cache)
    assert torch.equal(found, expected.sequences)
    assert_same(scores, expected.sequences_scores, "scores")


@pytest.mark.parametrize("options", [dict(), dict(temperature=0.7), dict(top_k=4), dict(top_p=0.7)], ids=str)
def test_one_seed_is_one_text_with_and_without_cache(options):
    _, ours = pair(0)
    drawn = [generate(ours, prompt(1), 24, generator=torch.Generator().manual_seed(2), use_cache=use_cache, **options)
             for use_cache in (True, False)]
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], generate(ours, prompt(1), 24, generator=torch.Generator().manual_seed(3), **options))


@given(seed=st.integers(0, 10**6), temperature=st.floats(0.2, 3.0), top_k=st.integers(1, VOCABULARY + 3),
       top_p=st.floats(0.05, 0.99))
def test_what_may_be_drawn_and_how_often_is_theirs(seed, temperature, top_k, top_p):
    """Temperature, then top-k, then top-p: the same distribution as their three warpers in that order (no ties here)."""
    logits = 2 * torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(seed))
    expected = logits
    for warper in (TemperatureLogitsWarper(temperature), TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)):
        expected = warper(None, expected)
    assert_same(truncate(logits / temperature, top_k=top_k, top_p=top_p).softmax(-1), expected.softmax(-1), "probabilities")


def test_samples_follow_their_distribution():
    """20,000 draws of one token: every share within five standard errors of transformers' probability."""
    reference, ours = pair(5)
    tokens = prompt(5, batch=1)
    logits = reference(tokens).logits[:, -1] / 1.5
    expected = TopPLogitsWarper(0.9)(None, TopKLogitsWarper(8)(None, logits)).softmax(-1)[0]
    drawn = choose(ours(tokens)[:, -1].expand(20000, -1), temperature=1.5, top_k=8, top_p=0.9,
                   generator=torch.Generator().manual_seed(0))
    shares = drawn.bincount(minlength=VOCABULARY) / 20000
    assert ((shares - expected).abs() <= 5 * (expected * (1 - expected) / 20000).sqrt() + 1e-6).all()
