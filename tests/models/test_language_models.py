"""BERT, GPT and Llama: what they may see, what a cache may change (nothing), their sizes, and what they refuse."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.closeness import assert_same
from tests.models.examples import BERT_SIZES, GPT_SIZES, LLAMA_SIZES, shaken
from tutorlib.generation import beam_search, generate
from tutorlib.models import (
    BERT,
    GPT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    GPTConfig,
    Llama,
    LlamaConfig,
)

DECODERS = {"gpt": lambda **options: GPT(replace(GPT_SIZES, **options)),
            "llama": lambda **options: Llama(replace(LLAMA_SIZES, **options))}


@pytest.mark.parametrize("name", DECODERS)
def test_no_position_sees_what_comes_after_it(name, device):
    torch.manual_seed(0)
    model = shaken(DECODERS[name]()).to(device)
    tokens = torch.randint(23, (2, 9), device=device)
    logits = model(tokens)
    for place in range(9):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % 23
        difference = (model(changed) - logits).abs().amax(dim=(0, 2))  # (T,)
        assert (difference[:place] < 1e-5).all()
        assert (difference[place:] > 1e-4).all()  # each later position does see it


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 4), min_size=1, max_size=3), batch=st.integers(1, 3))
def test_in_pieces_with_a_cache_or_at_once(name, seed, cuts, batch):
    torch.manual_seed(seed)
    model = shaken(DECODERS[name]())
    tokens = torch.randint(23, (batch, sum(cuts)))
    cache = model.new_cache(12)
    pieces = [model(piece, cache=cache) for piece in tokens.split(cuts, dim=1)]
    assert_same(torch.cat(pieces, dim=1), model(tokens))


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), temperature=st.sampled_from([0.0, 0.7, 1.5]), top_k=st.sampled_from([None, 5]),
       top_p=st.sampled_from([None, 0.8]))
def test_generation_is_the_same_with_and_without_a_cache(name, seed, temperature, top_k, top_p):
    torch.manual_seed(seed)
    model, tokens = shaken(DECODERS[name]()), torch.randint(23, (3, 4))
    with_cache, without = (generate(model, tokens, 8, temperature=temperature, top_k=top_k, top_p=top_p, use_cache=use_cache,
                                    generator=torch.Generator().manual_seed(seed)) for use_cache in (True, False))
    assert with_cache.shape == (3, 12) and torch.equal(with_cache, without)


@pytest.mark.parametrize("name", DECODERS)
def test_the_last_logits_alone_are_the_last_of_all(name):
    torch.manual_seed(0)
    model, tokens = shaken(DECODERS[name]()), torch.randint(23, (2, 7))
    assert_same(model(tokens, last_only=True), model(tokens)[:, -1:])
    cache = model.new_cache(8)
    assert_same(model(tokens, cache=cache, last_only=True), model(tokens)[:, -1:])


@pytest.mark.parametrize("name", DECODERS)
def test_no_layer_is_left_out_for_want_of_a_cache(name):
    model, tokens = DECODERS[name](), torch.randint(23, (2, 3))
    for cache in (model.new_cache(4)[:1], model.new_cache(4) + model.new_cache(4)[:1]):
        with pytest.raises(ValueError):
            model(tokens, cache=cache)


@pytest.mark.parametrize("name", DECODERS)
def test_a_cache_of_another_depth_is_refused_before_it_is_written(name):
    model, tokens = DECODERS[name](), torch.zeros(1, 3, dtype=torch.int64)
    cache = model.new_cache(8)[:1]
    with pytest.raises(ValueError, match="cache must hold one cache for each of the 2 layers, got 1"):
        model(tokens, cache=cache)
    assert cache[0].length == 0


@pytest.mark.parametrize("name", DECODERS)
def test_beam_search_is_the_same_with_and_without_a_cache(name):
    torch.manual_seed(0)
    model, tokens = shaken(DECODERS[name]()), torch.randint(23, (2, 3))
    (best, scores), (same, same_scores) = (beam_search(model, tokens, 6, num_beams=3, eos=1, use_cache=use_cache)
                                           for use_cache in (True, False))
    assert torch.equal(best, same)
    assert_same(scores, same_scores)


@pytest.mark.parametrize("name", DECODERS)
def test_beyond_the_last_position_nothing_is_computed(name):
    model = DECODERS[name]()
    with pytest.raises(ValueError, match="the sequence reaches position 13, but max_length is 12"):
        model(torch.zeros(1, 13, dtype=torch.int64))
    cache = model.new_cache(20)
    model(torch.zeros(1, 12, dtype=torch.int64), cache=cache)
    with pytest.raises(ValueError, match="the sequence reaches position 13"):
        model(torch.zeros(1, 1, dtype=torch.int64), cache=cache)
    with pytest.raises(ValueError, match=r"tokens must lie in \[0, 23\), the vocabulary, got values from 0 to 23"):
        model(torch.tensor([[0, 23]]))


@pytest.mark.parametrize("name", [*DECODERS, "bert"])
def test_tokens_are_rows_of_integers_of_the_vocabulary(name):
    model = BERT(BERT_SIZES) if name == "bert" else DECODERS[name]()
    for wrong in (torch.zeros(3, dtype=torch.int64), torch.zeros(1, 2, 3, dtype=torch.int64), torch.zeros(1, 3),
                  torch.zeros(1, 3, dtype=torch.int16), torch.zeros(1, 3, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"tokens must be integer tokens of shape \(B, length\), got torch"):
            model(wrong)
    for wrong in (-1, 23):
        with pytest.raises(ValueError, match=r"tokens must lie in \[0, 23\)"):
            model(torch.tensor([[0, wrong]]))
    assert model(torch.tensor([[0, 22]], dtype=torch.int32)).shape[:2] == (1, 2)
    assert model(torch.zeros(0, 4, dtype=torch.int64)).shape[:2] == (0, 4)


def test_the_defaults_are_the_published_sizes():
    with torch.device("meta"):
        sizes = {type(model): sum(p.numel() for p in model.parameters())
                 for model in (GPT(GPTConfig()), Llama(LlamaConfig()), BERT(BERTConfig()))}
    assert sizes[GPT] == 124_439_808  # GPT-2
    assert sizes[Llama] == 134_515_008  # SmolLM2-135M
    assert sizes[BERT] == 109_482_240 - 590_592  # BERT-base without its pooler
    choices = [(config.activation, config.eps) for config in (GPTConfig(), LlamaConfig(), BERTConfig())]
    assert choices == [("gelu_tanh", 1e-5), ("silu", 1e-5), ("gelu", 1e-12)]
    assert (LlamaConfig().rope_base, BERTConfig().dropout) == (100_000.0, 0.1)


@pytest.mark.parametrize("name", DECODERS)
def test_the_output_matrix_is_the_embedding_or_its_own(name):
    assert (tied := DECODERS[name]()).output.weight is tied.embedding.weight
    assert (own := DECODERS[name](tie_output=False)).output.weight is not own.embedding.weight


def test_a_fresh_bert_its_heads_and_a_llama_are_drawn_alike():
    torch.manual_seed(0)
    sizes = replace(BERT_SIZES, width=64, hidden=64)
    for model in (BERT(sizes), BERTForMaskedLM(sizes), BERTForMaskedLM(replace(sizes, tie_output=False)),
                  BERTForSequenceClassification(sizes, 9), BERTForTokenClassification(sizes, 9),
                  BERTForQuestionAnswering(sizes), Llama(replace(LLAMA_SIZES, width=64, hidden=64))):
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                assert abs(module.weight.std() / 0.02 - 1) < 5 / (2 * module.weight.numel()) ** 0.5
            if isinstance(module, nn.Linear) and module.bias is not None:
                assert (module.bias == 0).all()


def test_dropout_takes_the_embedded_tokens_and_what_a_head_reads():
    """With all of it dropped, the layers are given zeros, and a head its bias."""
    def dropping(model):
        model = shaken(model).train()
        model.dropout.p = 1.0
        return model

    torch.manual_seed(0)
    tokens, sizes = torch.randint(23, (2, 7)), replace(BERT_SIZES, dropout=0.0)
    bert, gpt, states = dropping(BERT(sizes)), dropping(GPT(GPT_SIZES)), torch.zeros(2, 7, 16)
    assert_same(bert(tokens), bert.encoder(states))
    for layer in gpt.layers:
        states = layer(states, causal=True)
    assert_same(gpt(tokens), gpt.output(gpt.norm(states)))
    for head in (BERTForSequenceClassification(sizes, 4), BERTForTokenClassification(sizes, 3)):
        logits = dropping(head)(tokens)
        assert_same(logits, head.output.bias.expand_as(logits))


def test_the_dropout_of_a_config_reaches_every_part_but_the_inside_of_the_feed_forward_network():
    for model in (GPT(replace(GPT_SIZES, dropout=0.3)), BERT(replace(BERT_SIZES, dropout=0.3))):
        layers = model.layers if isinstance(model, GPT) else model.encoder.layers
        assert model.dropout.p == 0.3 and len(layers) == 2
        for layer in layers:
            assert (layer.dropout.p, layer.attention.dropout, layer.feed_forward.dropout.p) == (0.3, 0.3, 0.0)
    for head in (BERTForSequenceClassification, BERTForTokenClassification):
        assert head(replace(BERT_SIZES, dropout=0.3), 2).dropout.p == 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DECODERS, "bert"])
def test_one_batch_is_learned_by_heart(name):
    torch.manual_seed(0)
    model = BERTForMaskedLM(replace(BERT_SIZES, dropout=0.0)) if name == "bert" else DECODERS[name]()
    tokens = torch.randint(23, (4, 8))
    inputs, targets = (tokens, tokens.flip(1)) if name == "bert" else (tokens[:, :-1], tokens[:, 1:])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1  # the first token of a row tells the row apart; a uniform guess costs 3.1
