"""Prompts of different lengths: each row gets what it gets alone, greedy and sampled, padded once or served in slots."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.generation import choose, generate, left_padded
from tutorlib.models import GPT, GPTConfig, Llama, LlamaConfig
from tutorlib.serving import Traffic, serve

VOCABULARY = 19


def models():
    torch.manual_seed(0)
    built = [GPT(GPTConfig(VOCABULARY, 64, 16, 4, 2, tie_output=False)),
             Llama(LlamaConfig(vocabulary=VOCABULARY, max_length=64, width=16, num_heads=4, num_key_value_heads=2, num_layers=2,
                               hidden=24, tie_output=False))]
    for model in built:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)  # far from uniform predictions
    return [model.double().eval() for model in built]


GPT_MODEL, LLAMA_MODEL = models()
every_model = pytest.mark.parametrize("model", [GPT_MODEL, LLAMA_MODEL], ids=["gpt", "llama"])
PROMPTS = [torch.randint(VOCABULARY, (n,), generator=torch.Generator().manual_seed(n)) for n in (5, 1, 9, 3, 7)]


def generators():
    return [torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS))]


def alone(model, new=20, **options):
    return [generate(model, prompt[None], new, generator=own, **options)[0]
            for prompt, own in zip(PROMPTS, generators(), strict=True)]


def same(ours, expected):
    return len(ours) == len(expected) and all(map(torch.equal, ours, expected))


@every_model
@pytest.mark.parametrize("options", [dict(temperature=0), dict(temperature=1.0), dict(temperature=2.0, top_k=5, top_p=0.9)],
                         ids=str)
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_row_gets_what_it_gets_alone(model, options, use_cache):
    ours = generate(model, PROMPTS, 20, generator=generators(), eos=3, use_cache=use_cache, **options)
    assert same(ours, alone(model, eos=3, **options))
    assert len({len(row) for row in ours}) > 2


@every_model
@given(lengths=st.lists(st.integers(1, 12), min_size=2, max_size=4), seed=st.integers(0, 10**6))
def test_logits_of_a_padded_row_are_its_own(model, lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(VOCABULARY, (n,), generator=generator) for n in lengths]
    tokens, real = left_padded(prompts, value=seed % VOCABULARY)
    with torch.no_grad():
        logits = model(tokens, padding_mask=real)  # (B, T, V)
        for row, prompt in zip(logits, prompts, strict=True):
            torch.testing.assert_close(row[-len(prompt):], model(prompt[None])[0], atol=1e-9, rtol=1e-9)


@every_model
def test_padding_cannot_be_seen_and_moves_nothing(model):
    tokens, real = left_padded(PROMPTS)
    other = torch.where(real, tokens, (tokens + 7) % VOCABULARY)
    with torch.no_grad():
        assert torch.equal(model(tokens, padding_mask=real)[:, -1], model(other, padding_mask=real)[:, -1])
        assert (model(tokens)[1, -1] - model(tokens, padding_mask=real)[1, -1]).abs().max() > 0.1  # without the mask it moves


def test_rows_padded_alike_need_no_mask():
    tokens = torch.stack([PROMPTS[2], PROMPTS[2]])
    expected = generate(GPT_MODEL, tokens, 5, temperature=0)
    assert torch.equal(generate(GPT_MODEL, tokens, 5, temperature=0, attention_mask=torch.ones_like(tokens)), expected)


def test_padded_tokens_with_a_mask_are_the_list():
    tokens, real = left_padded(PROMPTS)
    rows = generate(LLAMA_MODEL, tokens, 6, temperature=0, attention_mask=real.long())
    assert rows.shape == (5, 15) and torch.equal(rows[:, :9], tokens)
    for row, prompt, own in zip(rows, PROMPTS, generate(LLAMA_MODEL, PROMPTS, 6, temperature=0), strict=True):
        assert torch.equal(row[9 - len(prompt):], own)


def test_padding_by_hand():
    tokens, real = left_padded([torch.tensor([4, 5, 6]), torch.tensor([7], dtype=torch.int32)], value=9)
    assert tokens.tolist() == [[4, 5, 6], [9, 9, 7]] and real.int().tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_batch_of_low_precision_has_no_nan_where_a_row_may_look_nowhere():
    model = GPT(GPTConfig(VOCABULARY, 64, 16, 4, 2)).bfloat16().eval()
    tokens, real = left_padded(PROMPTS)
    with torch.no_grad():
        assert model(tokens, padding_mask=real).isfinite().all()


@every_model
@pytest.mark.parametrize("slots", [1, 2, 3, 8])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_server_answers_each_prompt_as_if_it_were_alone(model, slots, temperature):
    ours = serve(model, PROMPTS, 20, slots=slots, temperature=temperature, generators=generators(), eos=3)
    assert same(ours, alone(model, temperature=temperature, eos=3))


def test_a_slot_is_taken_again_at_once():
    """Five prompts of 2, 6, 2, 2, 2 new tokens; reading a prompt writes the first. Two slots: none idle while one waits."""
    news, traffic = [2, 6, 2, 2, 2], Traffic()
    ours = serve(GPT_MODEL, PROMPTS, news, slots=2, temperature=0, traffic=traffic)
    assert [len(row) - len(prompt) for row, prompt in zip(ours, PROMPTS, strict=True)] == news
    assert traffic.prompts_read == 5 and traffic.rows == [2, 2, 2, 2, 1]


def test_one_new_token_needs_no_slot():
    traffic = Traffic()
    ours = serve(GPT_MODEL, PROMPTS[:2], 1, slots=1, temperature=0, traffic=traffic)
    assert same(ours, generate(GPT_MODEL, PROMPTS[:2], 1, temperature=0)) and traffic.rows == []


@pytest.mark.parametrize("call, message", [
    (lambda: left_padded([]), r"prompts must be tensors \(T,\) of int64 or int32, T at least 1, one or more, got none"),
    (lambda: left_padded([torch.zeros(2)]), r"got torch.float32 \(2,\)"),
    (lambda: left_padded([[1, 2]]), "got list"),
    (lambda: left_padded([torch.zeros(0, dtype=torch.long)]), r"got torch.int64 \(0,\)"),
    (lambda: generate(GPT_MODEL, PROMPTS, 60), "9 tokens and max_new_tokens=60 exceed the model's max_length=64"),
    (lambda: generate(GPT_MODEL, PROMPTS, 2, attention_mask=torch.ones(5, 9)), "a list of prompts has no padding to mask"),
    (lambda: generate(GPT_MODEL, PROMPTS, 2, generator=generators()[:3]), "a list of one for each of the 5 rows, got 3"),
    (lambda: choose(torch.zeros(2, 3), generator=generators()), "a list of one for each of the 2 rows, got 5"),
    (lambda: generate(GPT_MODEL, torch.zeros(1, 3, dtype=torch.long), 2, attention_mask=torch.tensor([[1, 1, 0]])),
     "zeros on the left of each row, before the first token: pad on the left"),
    (lambda: generate(GPT_MODEL, torch.zeros(1, 3, dtype=torch.long), 2, attention_mask=torch.tensor([[1, 0, 1]])),
     "zeros on the left"),
    (lambda: generate(GPT_MODEL, torch.zeros(1, 3, dtype=torch.long), 2, attention_mask=torch.ones(1, 2)),
     r"attention_mask must be integer or boolean of the tokens' shape \(1, 3\)"),
    (lambda: generate(lambda tokens: torch.zeros(*tokens.shape, 4), PROMPTS, 2, use_cache=False), "takes no padding_mask"),
    (lambda: GPT_MODEL(torch.zeros(2, 3, dtype=torch.long), padding_mask=torch.ones(2, 2, dtype=torch.bool)),
     r"padding_mask must be boolean of shape \(B, S\) = \(2, 3\)"),
    (lambda: LLAMA_MODEL(torch.zeros(2, 3, dtype=torch.long), padding_mask=torch.ones(2, 3)), "padding_mask must be boolean"),
    (lambda: serve(GPT_MODEL, PROMPTS, 2, slots=0), "slots must be at least 1, got 0"),
    (lambda: serve(GPT_MODEL, PROMPTS, [2, 2], slots=1), "max_new_tokens must have one entry for each of the 5 prompts, got 2"),
    (lambda: serve(GPT_MODEL, PROMPTS, 2, slots=1, generators=[]), "generators must have one entry .* 5 prompts, got 0"),
    (lambda: serve(GPT_MODEL, PROMPTS, 60, slots=1), "5 tokens and max_new_tokens=60 exceed the model's max_length=64"),
    (lambda: serve(GPT_MODEL, PROMPTS, 0, slots=1), "max_new_tokens must be at least 1, got 0"),
    (lambda: serve(GPT_MODEL, PROMPTS, 2, slots=1, top_p=2.0), "top_p must lie in")])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
