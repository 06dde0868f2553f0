"""Decoding, on models whose best answer is known, and on a random Transformer with and without its cache."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.generation import beam_search, choose, generate, truncate
from tutorlib.models import Transformer, TransformerConfig


def markov(table):
    """A language model that looks at the last token only: row i of the table holds the logits behind token i."""
    return lambda tokens: torch.as_tensor(table, dtype=torch.float32)[tokens]


def random_transformer(seed=0):
    torch.manual_seed(seed)
    model = Transformer(TransformerConfig(11, 7, 16, 4, 2, 2, 24, max_length=30, dropout=0.0)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # far from uniform predictions
    source = torch.randint(11, (3, 5))
    mask = torch.tensor([[True] * 5, [True] * 4 + [False], [True] * 2 + [False] * 3])
    return model.condition(source, mask)


START = torch.zeros(3, 1, dtype=torch.int64)


@pytest.mark.parametrize("options", [dict(temperature=0), dict(temperature=1.0), dict(temperature=2.0, top_k=3),
                                     dict(top_p=0.8), dict(top_k=4, top_p=0.9)], ids=str)
@pytest.mark.parametrize("eos", [None, 2])
def test_cache_is_no_cache(options, eos):
    model, prompt = random_transformer(), torch.randint(7, (3, 3), generator=torch.Generator().manual_seed(4))
    cached, plain = (generate(model, prompt, 12, generator=torch.Generator().manual_seed(5), eos=eos, use_cache=use_cache,
                              **options) for use_cache in (True, False))
    assert torch.equal(cached, plain) and torch.equal(cached[:, :3], prompt)


def test_greedy_takes_the_most_probable_token_each_time():
    cycle = markov([[0, 5, 0], [0, 0, 5], [5, 0, 0]])  # 0 -> 1 -> 2 -> 0
    assert generate(cycle, torch.tensor([[0], [2]]), 4, temperature=0, use_cache=False).tolist() == [
        [0, 1, 2, 0, 1], [2, 0, 1, 2, 0]]


def test_a_row_that_has_ended_is_filled_and_decoding_stops_with_the_last():
    chain = markov([[0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5], [5, 0, 0, 0]])  # 0 -> 1 -> 2 -> 3 -> 0
    calls = []

    def counted(tokens):
        calls.append(tokens.shape)
        return chain(tokens)
    output = generate(counted, torch.tensor([[0], [2]]), 10, temperature=0, eos=3, use_cache=False)
    assert output.tolist() == [[0, 1, 2, 3], [2, 3, 3, 3]] and len(calls) == 3


def test_with_the_cache_which_is_the_default_the_model_gets_new_tokens_only():
    model, calls = random_transformer(), []

    class Counted:
        new_cache = staticmethod(model.new_cache)

        def __call__(self, tokens, cache=None, last_only=False):
            assert last_only  # the others would go through the output layer for nothing
            calls.append(tokens.size(1))
            return model(tokens, cache=cache, last_only=True)
    prompt = torch.zeros(3, 4, dtype=torch.int64)
    generate(Counted(), prompt, 2, temperature=0)
    beam_search(Counted(), prompt, 2, num_beams=2, eos=2)
    assert calls == [4, 1] * 2


def test_the_longest_output_fits():
    model = random_transformer()  # of max_length 30
    assert generate(model, START, 29, temperature=0).shape == (3, 30)


def test_an_end_in_the_prompt_does_not_end_the_row():
    cycle = markov([[0, 5], [5, 0]])
    assert generate(cycle, torch.tensor([[1]]), 3, temperature=0, eos=1, use_cache=False).tolist() == [[1, 0, 1]]


def test_samples_follow_the_softmax_at_the_temperature():
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    for temperature in (0.5, 1.0, 3.0):
        drawn = choose(logits.expand(20000, 4), temperature=temperature, generator=torch.Generator().manual_seed(0))
        shares = drawn.bincount(minlength=4) / 20000
        torch.testing.assert_close(shares, (logits / temperature).softmax(0), atol=0.015, rtol=0)


def test_low_precision_logits_are_divided_and_normalized_in_float32():
    """60 / 0.0005 = 120,000 is more than float16 holds."""
    assert choose(torch.tensor([[0.0, 60.0]], dtype=torch.float16), temperature=5e-4).tolist() == [1]
    table = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    options = dict(num_beams=2, eos=4, use_cache=False)
    _, scores = beam_search(lambda tokens: table[tokens], START, 6, **options)
    _, expected = beam_search(markov(table.float()), START, 6, **options)
    torch.testing.assert_close(scores, expected)


def test_choosing_truncates():
    """The temperature comes first: at 2 the second token is probable enough to be kept."""
    logits = torch.tensor([0.5, 0.3, 0.1, 0.1]).log().expand(2000, 4)
    drawn = lambda **options: set(choose(logits, generator=torch.Generator().manual_seed(0), **options).tolist())  # noqa: E731
    assert drawn(top_k=2) == drawn(top_p=0.6) == {0, 1}
    assert drawn(top_p=0.45) == {0} and drawn(top_p=0.45, temperature=2.0) == {0, 1}
    assert drawn(top_p=1.0) == {0, 1, 2, 3}


def test_truncation_by_hand():
    logits = torch.tensor([[0.5, 0.1, 0.25, 0.15]]).log()
    kept = lambda **options: truncate(logits, **options)[0].isfinite().tolist()  # noqa: E731
    assert kept(top_k=1) == [True, False, False, False]
    assert kept(top_k=2) == [True, False, True, False]
    assert kept(top_k=9) == [True] * 4
    assert kept(top_p=0.4) == [True, False, False, False]
    assert kept(top_p=0.6) == [True, False, True, False]
    assert kept(top_p=0.8) == [True, False, True, True]
    assert kept(top_p=1.0) == [True] * 4
    assert kept(top_k=3, top_p=0.8) == [True, False, True, False]  # of the three, the first two hold 0.83
    assert truncate(torch.zeros(1, 4), top_p=1e-9)[0].isfinite().sum() == 1
    assert truncate(torch.zeros(1, 2), top_p=0.5)[0].isfinite().tolist() == [True, False]  # a half is at least a half


def test_all_of_the_probability_is_all_tokens():
    """In float32 the sum of the likely ones reaches 1 long before the last of 50,257."""
    logits = 3 * torch.randn(1, 50257, generator=torch.Generator().manual_seed(0))
    assert truncate(logits, top_p=1.0).isfinite().all()
    dropped = truncate(logits, top_p=1 - 1e-7).isinf()
    assert logits.double().softmax(-1)[dropped].sum() <= 1.01e-7  # of 1 - p, not the 2e-7 and more that rounding takes


def test_low_precision_probabilities_are_summed_in_float32():
    logits = torch.randn(1, 2000, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(truncate(logits, top_p=0.7).isinf(), truncate(logits.float(), top_p=0.7).isinf())


@pytest.mark.parametrize("options, message", [
    (dict(top_p=-1), r"top_p must lie in \(0, 1\], got -1"), (dict(top_p=math.nan), r"top_p must lie in \(0, 1\], got nan"),
    (dict(top_k=0), "top_k must be at least 1, got 0"), (dict(top_k=1.5), "top_k must be a whole number, got 1.5")])
def test_truncation_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        truncate(torch.zeros(1, 4), **options)


@given(seed=st.integers(0, 10**6), top_k=st.integers(1, 12), top_p=st.floats(0.05, 1.0))
def test_truncation_agrees_with_transformers(seed, top_k, top_p):
    from transformers import TopKLogitsWarper, TopPLogitsWarper
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(seed))
    peer = TopKLogitsWarper(top_k)(None, logits)
    peer = TopPLogitsWarper(top_p)(None, peer) if top_p < 1 else peer
    torch.testing.assert_close(truncate(logits, top_k=top_k, top_p=top_p), peer)


# Greedy takes 1 (0.6) and then at best 0.6 * 0.4; the best pair is 2, 3 with 0.4 * 1.0.
GARDEN = torch.tensor([[0.0, 0.6, 0.4, 0.0, 0.0], [0.0, 0.2, 0.2, 0.2, 0.4], [0.0, 0.0, 0.0, 1.0, 0.0],
                       [0.0, 0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 1.0]]).clamp(min=1e-9).log()


@pytest.mark.parametrize("use_cache", [True, False])
def test_one_beam_is_greedy(use_cache):
    model = random_transformer()
    greedy = generate(model, START, 10, temperature=0, eos=2, use_cache=use_cache)
    beams, _ = beam_search(model, START, 10, num_beams=1, eos=2, use_cache=use_cache)
    assert torch.equal(beams, greedy)


def test_two_beams_find_what_greedy_misses():
    start = torch.tensor([[0]])
    greedy, _ = beam_search(markov(GARDEN), start, 2, num_beams=1, eos=4, length_penalty=0.0, use_cache=False)
    found, score = beam_search(markov(GARDEN), start, 2, num_beams=2, eos=4, length_penalty=0.0, use_cache=False)
    assert greedy.tolist() == [[0, 1, 4]] and found.tolist() == [[0, 2, 3]]
    assert score.item() == pytest.approx(math.log(0.4), abs=1e-6)


def test_all_beams_are_an_exhaustive_search():
    """With as many beams as there are sequences, nothing is pruned: the best of all sequences is found."""
    torch.manual_seed(1)
    table = torch.randn(3, 3).log_softmax(-1)
    sums = {(a, b, c): table[0, a] + table[a, b] + table[b, c] for a in range(3) for b in range(3) for c in range(3)}
    best = max(sums, key=sums.get)
    endless = markov(F.pad(table, (0, 1, 0, 1), value=-1e9))  # the end, token 3, never comes
    found, score = beam_search(endless, torch.tensor([[0]]), 3, num_beams=27, eos=3, length_penalty=0.0, use_cache=False)
    assert tuple(found[0, 1:].tolist()) == best and score.item() == pytest.approx(sums[best].item(), abs=1e-5)


def test_the_length_penalty_prefers_longer_outputs():
    """Ending at once has log 0.5; going on has log 0.5 + 3 log 0.9, a better mean over four tokens."""
    table = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0]]).clamp(min=1e-9).log()
    start = torch.tensor([[0]])
    short, score = beam_search(markov(table), start, 4, num_beams=3, eos=2, length_penalty=0.0, use_cache=False)
    assert short[0, 1].item() == 2
    assert score.item() == pytest.approx(math.log(0.5), abs=1e-6)
    long, score = beam_search(markov(table), start, 4, num_beams=3, eos=2, length_penalty=1.0, use_cache=False)
    assert long.tolist() == [[0, 1, 1, 1, 1]]
    assert score.item() == pytest.approx((math.log(0.5) + 3 * math.log(0.9)) / 4, abs=1e-6)


def test_the_length_penalty_decides_which_beams_are_kept():
    """After two steps the ended beam has the largest sum, but the smallest mean: it must make room for 1, 3."""
    table = torch.tensor([[0.0, 0.6, 0.4, 0.0], [0.0, 0.52, 0.0, 0.48], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    found, score = beam_search(markov(table.clamp(min=1e-9).log()), torch.tensor([[0]]), 3, num_beams=2, eos=2, use_cache=False)
    assert found.tolist() == [[0, 1, 3, 3]]
    assert score.item() == pytest.approx(math.log(0.6 * 0.48) / 3, abs=1e-6)


def test_the_length_penalty_is_one_unless_told_otherwise():
    options = dict(num_beams=3, eos=4, use_cache=False)
    _, scores = beam_search(markov(GARDEN), START, 4, **options)
    torch.testing.assert_close(scores, beam_search(markov(GARDEN), START, 4, length_penalty=1.0, **options)[1])
    assert (scores - beam_search(markov(GARDEN), START, 4, length_penalty=0.0, **options)[1]).abs().min() > 0.1


def test_beams_stop_when_all_have_ended_and_carry_no_gradient():
    calls, table = [], torch.tensor([[-9.0, -9.0, 9.0]] * 3, requires_grad=True)

    def counted(tokens):
        calls.append(tokens.shape)
        return table[tokens]
    tokens, scores = beam_search(counted, START, 9, num_beams=1, eos=2, use_cache=False)
    assert tokens.tolist() == [[0, 2]] * 3 and len(calls) == 1 and not scores.requires_grad


def test_no_new_tokens_are_no_tokens():
    prompt = torch.tensor([[3, 1]])
    assert torch.equal(generate(markov(GARDEN), prompt, 0, use_cache=False), prompt)
    tokens, scores = beam_search(markov(GARDEN), prompt, 0, num_beams=2, eos=4, use_cache=False)
    assert torch.equal(tokens, prompt) and scores.tolist() == [0.0]


@pytest.mark.parametrize("num_beams", [2, 4])
def test_beams_with_cache_are_beams_without(num_beams):
    model = random_transformer()
    cached, scores = beam_search(model, START, 10, num_beams=num_beams, eos=2)
    plain, plain_scores = beam_search(model, START, 10, num_beams=num_beams, eos=2, use_cache=False)
    assert torch.equal(cached, plain)
    torch.testing.assert_close(scores, plain_scores)


def test_a_batch_is_searched_row_by_row():
    model = random_transformer()
    together, scores = beam_search(model, START, 8, num_beams=3, eos=2)
    for row in range(3):
        torch.manual_seed(0)
        alone = random_transformer()
        alone.memory, alone.source_mask = alone.memory[row:row + 1], alone.source_mask[row:row + 1]
        tokens, score = beam_search(alone, START[:1], 8, num_beams=3, eos=2)
        length = tokens.size(1)
        assert torch.equal(together[row, :length], tokens[0]) and (together[row, length:] == 2).all()
        torch.testing.assert_close(scores[row:row + 1], score)


def test_beams_read_the_source_of_their_own_row():
    """Sources and masks differ: the best of each row scores in a plain forward pass, on its source alone, what was reported."""
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(11, 7, 16, 4, 2, 2, 24, max_length=30, dropout=0.0)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    source = torch.randint(11, (3, 5))
    mask = torch.tensor([[True] * 5, [True] * 4 + [False], [True] * 2 + [False] * 3])
    for use_cache in (True, False):
        tokens, scores = beam_search(model.condition(source, mask), START, 6, num_beams=3, eos=None, length_penalty=0.0,
                                     use_cache=use_cache)
        score = torch.empty(3, 3)  # (target's row, source's row)
        for row in range(3):
            logits = model(source[row:row + 1].expand(3, -1), tokens[:, :-1], mask[row:row + 1].expand(3, -1))  # (B, T, V)
            score[:, row] = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None]).sum((1, 2))
        torch.testing.assert_close(score.diagonal(), scores, atol=1e-4, rtol=1e-4)
        assert (score - score.diagonal()[:, None])[~torch.eye(3, dtype=torch.bool)].abs().min() > 0.1  # another would not do


def test_the_score_is_the_log_probability_of_the_tokens():
    model = random_transformer()
    tokens, scores = beam_search(model, START, 6, num_beams=4, eos=2, length_penalty=0.0)
    gains = model(tokens[:, :-1]).log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)  # (B, T)
    after_end = (tokens[:, 1:] == 2).cumsum(1) - (tokens[:, 1:] == 2).long() > 0
    torch.testing.assert_close(gains.masked_fill(after_end, 0).sum(1), scores, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options, message", [
    (dict(temperature=-1.0), "temperature must be 0, .*, got -1.0"),
    (dict(temperature=math.nan), "temperature must be 0, .*, got nan"),
    (dict(temperature=math.inf), "temperature must be 0, .*, got inf"),
    (dict(temperature=1e-45), "temperature must be 0, .* or a number from 1e-06 on, got 1e-45"),
    (dict(top_k=0), "top_k must be at least 1, got 0"),
    (dict(top_k=2.0), "top_k must be a whole number, got 2.0"),
    (dict(top_k=True), "top_k must be a whole number, got True"),
    (dict(top_p=math.nan), r"top_p must lie in \(0, 1\], got nan"),
    (dict(eos=1.0), "eos must be whole numbers, got 1.0"),
    (dict(eos=True), "eos must be whole numbers, got True"),
    (dict(eos="2"), "eos must be whole numbers, got '2'"),
    (dict(eos=-1), "eos must be None, an id or a list of ids, each at least 0, got -1"),
    (dict(eos=[]), r"eos must be None, an id or a list of ids, each at least 0, got \[\]"),
    (dict(top_p=0.0), r"top_p must lie in \(0, 1\], got 0.0"),
    (dict(top_p=1.5), r"top_p must lie in \(0, 1\], got 1.5")])
def test_sampling_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        generate(markov(GARDEN), torch.tensor([[0]]), 0, use_cache=False, **options)


def test_prompts_that_do_not_fit():
    model = random_transformer()
    for search in (lambda *a: generate(model, *a), lambda *a: beam_search(model, *a, num_beams=2, eos=2)):
        with pytest.raises(ValueError, match=r"tokens must have the shape \(B, T\) with B and T at least 1, got \(3,\)"):
            search(torch.zeros(3, dtype=torch.int64), 4)
        with pytest.raises(ValueError, match=r"with B and T at least 1, got \(3, 0\)"):
            search(START[:, :0], 4)
        with pytest.raises(ValueError, match=r"with B and T at least 1, got \(0, 1\)"):
            search(START[:0], 4)
        for dtype in (torch.float32, torch.bool, torch.uint8):
            with pytest.raises(ValueError, match=f"tokens must be of int64 or int32, got {dtype}"):
                search(START.to(dtype), 4)
        with pytest.raises(ValueError, match="max_new_tokens must be at least 0, got -1"):
            search(START, -1)
        for number in (4.0, True):
            with pytest.raises(ValueError, match=f"max_new_tokens must be a whole number, got {number}"):
                search(START, number)
        with pytest.raises(ValueError, match="1 tokens and max_new_tokens=30 exceed the model's max_length=30"):
            search(START, 30)
    with pytest.raises(ValueError, match="num_beams must be at least 1, got 0"):
        beam_search(model, START, 4, num_beams=0, eos=2)
    with pytest.raises(ValueError, match="num_beams must be a whole number, got 2.0"):
        beam_search(model, START, 4, num_beams=2.0, eos=2)
    for penalty in (math.nan, math.inf, 60.0):  # 4^60 is more than a float32 holds
        with pytest.raises(ValueError, match=f"length_penalty must be a number .* up to 4 stay finite, got {penalty}"):
            beam_search(model, START, 4, num_beams=2, eos=2, length_penalty=penalty)
    with pytest.raises(ValueError, match="generator must be on cpu, as the tokens are, got one on meta"):
        generate(model, START, 4, generator=SimpleNamespace(device=torch.device("meta")))


@pytest.mark.parametrize("search", [
    lambda model, **options: generate(model, START, 4, temperature=0, use_cache=False, **options),
    lambda model, **options: generate(model, START, 4, use_cache=False, **options),
    lambda model, **options: beam_search(model, START, 4, num_beams=2, use_cache=False, **{"eos": None} | options)],
    ids=["greedy", "sampled", "beams"])
def test_logits_that_choose_nothing_are_refused_and_the_step_is_named(search):
    """Behind token 1 all is well; behind token 2, which follows it, a logit is no number, or none is finite."""
    for row, value in (([0, math.nan, 0], "nan"), ([-math.inf] * 3, "-inf"), ([0, math.inf, 0], "inf")):
        with pytest.raises(ValueError, match=f"model: the logits of new token 3 must have a finite .*, got {value} in row 0"):
            search(markov([[-1e9, 0, -1e9], [-1e9, -1e9, 0], row]))
        with pytest.raises(ValueError, match=f"logits must have a finite largest value in each row, got {value} in row 1"):
            choose(torch.tensor([[0.0] * 3, row]), temperature=0)
    with pytest.raises(ValueError, match="eos must be below 2, the vocabulary, got 2"):
        search(markov([[0, 5], [5, 0]]), eos=[0, 2])


def test_any_of_several_ends_ends_a_row_which_is_filled_with_it():
    chain = markov([[0, 5, 0, 0, 0], [0, 0, 5, 0, 0], [0, 0, 0, 5, 0], [0, 0, 0, 0, 5], [5, 0, 0, 0, 0]])  # 0 1 2 3 4 0
    prompt, expected = torch.tensor([[0], [2], [3]]), [[0, 1, 2, 3], [2, 3, 3, 3], [3, 4, 0, 1]]
    assert generate(chain, prompt, 3, temperature=0, eos=(3,), use_cache=False).tolist() == expected
    for eos in ([2, 4], (4, 2)):
        several = [[0, 1, 2], [2, 3, 4], [3, 4, 4]]
        assert generate(chain, prompt, 9, temperature=0, eos=eos, use_cache=False).tolist() == several
        assert beam_search(chain, prompt, 9, num_beams=1, eos=eos, use_cache=False)[0].tolist() == several


def test_beams_end_in_different_ends_and_keep_their_own():
    """Two sentences, 1 and 2, of one token each: the ended beam of the second goes on with 2, at no cost."""
    table = torch.tensor([[0.0, 0.4, 0.6, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    found, score = beam_search(markov(table.clamp(min=1e-9).log()), torch.tensor([[0]]), 3, num_beams=2, eos=[1, 2],
                               length_penalty=0.0, use_cache=False)
    assert found.tolist() == [[0, 2]] and score.item() == pytest.approx(math.log(0.6), abs=1e-6)
    found, score = beam_search(markov(table.clamp(min=1e-9).log()), torch.tensor([[0]]), 3, num_beams=2, eos=[2],
                               length_penalty=0.0, use_cache=False)
    assert found.tolist() == [[0, 2, 2, 2]] and score.item() == pytest.approx(math.log(0.6), abs=1e-6)


def test_int32_tokens_are_int64_tokens():
    model, options = random_transformer(), dict(temperature=0)
    for new in (0, 3):
        narrow = generate(model, START.int(), new, **options)
        assert narrow.dtype == torch.int64 and torch.equal(narrow, generate(model, START, new, **options))
        narrow, _ = beam_search(model, START.int(), new, num_beams=2, eos=None)
        assert narrow.dtype == torch.int64 and torch.equal(narrow, beam_search(model, START, new, num_beams=2, eos=None)[0])


def test_generated_tokens_may_enter_a_training_step():
    embedding = torch.nn.Embedding(5, 3)
    embedding(generate(markov(GARDEN), torch.tensor([[0]]), 3, use_cache=False)).sum().backward()
    assert embedding.weight.grad.abs().sum() > 0


def test_truncation_takes_rows_of_logits():
    for logits in (torch.zeros(1, 3, 5), torch.zeros(5), torch.zeros(1, 5, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"logits must be floats of the shape \(B, V\), got"):
            truncate(logits, top_p=0.5)
