"""Guess and check: greedy, the same tokens; sampled, the same distribution, summed over every path that chance can take."""

import itertools
from contextlib import contextmanager

import pytest
import torch

from tutorlib import speculation
from tutorlib.generation import generate
from tutorlib.models import GPT, GPTConfig
from tutorlib.speculation import DraftModel, Guess, Passes, PromptLookup, accept, speculate

VOCABULARY = 19


def random_gpt(width, layers, seed, vocabulary=VOCABULARY):
    torch.manual_seed(seed)
    model = GPT(GPTConfig(vocabulary, 64, width, 2, layers, tie_output=False)).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


LARGE, SMALL = random_gpt(16, 2, seed=0), random_gpt(8, 1, seed=1)
PROMPT = torch.randint(VOCABULARY, (1, 6), generator=torch.Generator().manual_seed(2))


class Paths:
    """Every path that chance can take: `pick` answers by a script of branches, and the path's probability is multiplied up."""

    def __init__(self):
        self.script, self.place, self.probability = [], 0, 1.0

    def pick(self, probabilities):
        possible = [index for index, each in enumerate(probabilities.tolist()) if each > 0]
        if self.place == len(self.script):
            self.script.append((0, len(possible)))
        index = possible[self.script[self.place][0]]
        self.place += 1
        self.probability *= float(probabilities[index])
        return index

    def all_of(self, run):
        """What `run()` returns, as {output: probability} over all paths."""
        found = {}
        while True:
            self.place, self.probability = 0, 1.0
            output = run()
            found[output] = found.get(output, 0.0) + self.probability
            while self.script and self.script[-1][0] + 1 == self.script[-1][1]:
                self.script.pop()
            if not self.script:
                return found
            branch, count = self.script[-1]
            self.script[-1] = (branch + 1, count)


@contextmanager
def scripted(monkeypatch, paths):
    with monkeypatch.context() as patch:
        patch.setattr(speculation.torch, "multinomial", lambda p, n, generator=None: torch.tensor(paths.pick(p)))
        yield


PROPOSERS = {"lookup": lambda: PromptLookup(3, longest=1, shortest=1), "draft": lambda: DraftModel(TINY_DRAFT, 64, count=2),
             "itself": lambda: DraftModel(TINY, 64, count=2)}
TINY, TINY_DRAFT = random_gpt(8, 1, seed=3, vocabulary=3), random_gpt(4, 1, seed=4, vocabulary=3)
START = torch.tensor([[0, 1, 0, 2]])


def token_by_token(new, temperature, top_k=None):
    """The exact distribution of `new` tokens: {tokens: probability}."""
    found = {}
    for tokens in itertools.product(range(3), repeat=new):
        text, probability = START[0].tolist(), 1.0
        for token in tokens:
            with torch.no_grad():
                logits = TINY(torch.tensor([text]))[:, -1] / temperature
            if top_k:
                logits = speculation.truncate(logits, top_k=top_k)
            probability *= float(logits.softmax(-1)[0, token])
            text.append(token)
        found[tokens] = probability
    return {tokens: probability for tokens, probability in found.items() if probability}


@pytest.mark.parametrize("proposer", PROPOSERS)
@pytest.mark.parametrize("options", [dict(temperature=1.0), dict(temperature=0.5, top_k=2)], ids=str)
def test_sampled_tokens_have_exactly_the_models_distribution(monkeypatch, proposer, options):
    paths = Paths()

    def run():
        return tuple(speculate(TINY, START, 3, PROPOSERS[proposer](), **options)[0, 4:].tolist())
    with scripted(monkeypatch, paths):
        found = paths.all_of(run)
    expected = token_by_token(3, **options)
    assert found.keys() == expected.keys() and sum(found.values()) == pytest.approx(1)
    for tokens, probability in expected.items():
        assert found[tokens] == pytest.approx(probability, abs=1e-9)


def test_a_guess_is_kept_with_the_share_in_which_the_two_agree():
    """The probability to keep a token drawn from q is the overlap of p and q, 1 - half their distance (Leviathan, 3.2)."""
    p = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    q = torch.tensor([[0.2, 0.2, 0.6]])
    paths, kept = Paths(), 0.0

    def run():
        token = paths.pick(q[0])
        return tuple(accept(Guess([token], q), p, paths.pick))
    found = paths.all_of(run)
    kept = sum(probability for tokens, probability in found.items() if len(tokens) == 2)
    assert kept == pytest.approx(0.2 + 0.2 + 0.2)
    first = [sum(probability for tokens, probability in found.items() if tokens[0] == token) for token in range(3)]
    assert first == pytest.approx([0.5, 0.3, 0.2])


@pytest.mark.parametrize("propose", [PromptLookup(4, longest=2, shortest=1), DraftModel(SMALL, 64), DraftModel(LARGE, 64),
                                     DraftModel(SMALL, 64, count=7)], ids=["lookup", "draft", "itself", "long"])
@pytest.mark.parametrize("eos", [None, 3, [3, 5]])
@pytest.mark.parametrize("new", [0, 1, 30])
def test_greedy_gives_the_tokens_of_the_model_alone(propose, eos, new):
    expected = generate(LARGE, PROMPT, new, temperature=0, eos=eos)
    assert torch.equal(speculate(LARGE, PROMPT, new, propose, temperature=0, eos=eos), expected)


def test_a_draft_that_is_the_model_is_always_right_and_a_pass_writes_k_and_one():
    passes = Passes()
    speculate(LARGE, PROMPT, 20, DraftModel(LARGE, 64, count=4), temperature=0, passes=passes)
    assert passes.guessed == passes.kept == [4] * 4
    speculate(LARGE, PROMPT, 20, DraftModel(LARGE, 64, count=4), temperature=1.0, passes=passes)
    assert passes.kept == [4] * 8


def test_a_wrong_guess_costs_passes_and_no_tokens():
    passes = Passes()

    def wrong(tokens, most, distribution, pick):
        right = generate(LARGE, torch.tensor([tokens]), 1, temperature=0)[0, -1].item()
        return Guess([(right + 1) % VOCABULARY] * min(2, most))
    ours = speculate(LARGE, PROMPT, 9, wrong, temperature=0, passes=passes)
    assert torch.equal(ours, generate(LARGE, PROMPT, 9, temperature=0))
    assert passes.kept == [0] * 9


def test_what_follows_an_earlier_occurrence_by_hand():
    look = PromptLookup(4, longest=2, shortest=2).continuation
    assert look([1, 2, 3, 4, 5, 1, 2]) == [3, 4, 5, 1]
    assert look([1, 2, 9, 1, 2, 8, 7, 6, 5, 1, 2]) == [8, 7, 6, 5]  # the last one counts
    assert look([1, 2, 3, 3, 2]) == look([1]) == look([]) == []
    assert look([7, 7, 7]) == [7, 7, 7, 7]  # past the end it repeats its own guess
    assert look([0, 1, 2, 1, 2]) == [1, 2, 1, 2]
    assert PromptLookup(2, longest=3, shortest=1).continuation([5, 1, 9, 4, 1]) == [9, 4]  # three, two, then one


def test_a_draft_reads_again_only_what_was_not_kept():
    read, draft = [], DraftModel(SMALL, 64, count=3)
    draft.model = lambda tokens, **options: (read.append(tokens.size(1)), SMALL(tokens, **options))[1]
    greedy = lambda logits: torch.nn.functional.one_hot(logits.argmax(-1), VOCABULARY).double()  # noqa: E731
    first = draft([1, 2, 3], 3, greedy, lambda p: int(p.argmax())).tokens
    draft([1, 2, 3, first[0], (first[1] + 1) % VOCABULARY], 1, greedy, lambda p: int(p.argmax()))
    assert read == [3, 1, 1, 1]


@pytest.mark.parametrize("call, message", [
    (lambda: speculate(LARGE, PROMPT.repeat(2, 1), 3, PromptLookup()), r"tokens must be one prompt \(1, T\), got \(2, 6\)"),
    (lambda: speculate(LARGE, PROMPT, 60, PromptLookup()), "6 tokens and max_new_tokens=60 exceed the model's max_length=64"),
    (lambda: speculate(LARGE, PROMPT, -1, PromptLookup()), "max_new_tokens must be at least 0, got -1"),
    (lambda: speculate(LARGE, PROMPT, 3, PromptLookup(), temperature=-1), "temperature must be 0"),
    (lambda: speculate(LARGE, PROMPT, 3, PromptLookup(), top_k=0), "top_k must be at least 1"),
    (lambda: PromptLookup(0), "count must be at least 1, got 0"),
    (lambda: PromptLookup(2, longest=1, shortest=2), "shortest must be at most longest=1, got 2"),
    (lambda: DraftModel(SMALL, 0), "capacity must be at least 1, got 0")])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
