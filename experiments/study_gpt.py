"""Ask the recorded GPT of the chapter "GPT" what its loss does not say, and keep the answers in its record, as `study`.

    OMP_NUM_THREADS=1 python experiments/study_gpt.py experiments/records/gpt.json

Asked are: what GPT is worth with fewer tokens before it, and a 5-gram with a cache of as many; what a GPT learns that was
trained as long and never saw more than four tokens, as the 5-gram (`sight`, which takes as many minutes as the long run);
whether the training text is easier than the held-out text; how settings of sampling that were chosen on other beginnings
compare, over three seeds; and what written text shares with the training text, also after a copy has learned one passage by
heart. Errors are standard errors over windows, beginnings or pieces of text.
"""

import argparse
import copy
import json
import math
import runpy
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from tutorlib.baselines.ngram import KneserNey, SubstringIndex, encode_windows
from tutorlib.data.batches import RandomWindows
from tutorlib.data.bible import load_bible
from tutorlib.device import has_fast_bfloat16
from tutorlib.evaluation.language import distinct_ngrams
from tutorlib.generation import beam_search, generate
from tutorlib.models import GPT
from tutorlib.text.bpe import BytePairTokenizer
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import train, warmup_linear

HERE = Path(__file__).parent
TRAINING = runpy.run_path(str(HERE / "train_gpt.py"))
VOCABULARY, LENGTH = TRAINING["VOCABULARY"], TRAINING["LENGTH"]
HALF = LENGTH // 2
SIGHT = 4  # tokens that a 5-gram has before the one that it predicts
CACHE_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
PROMPT, NEW, TEXTS, SEEDS = 16, 64, 64, (0, 1, 2)
GRIDS = {"temperature": (0.6, 0.7, 0.8, 0.9), "top_k": (5, 10, 20, 50), "top_p": (0.6, 0.7, 0.8, 0.9)}
PIECE, PASSAGE, STEPS = 120, slice(5000, 5600), 40  # characters compared; tokens learned by heart, in so many steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="a finished record, with its weights beside it")
    names = ("context", "sight", "difficulty", "writing", "heart")
    parser.add_argument("--only", nargs="+", choices=names, help="ask these alone")
    options = parser.parse_args()
    path = options.record
    (train_text, unseen_text), tokenizer, tokens, unseen = TRAINING["prepared"]()
    gpt = TRAINING["load_weights"](path.with_suffix(".safetensors"))
    five = KneserNey(tokens, VOCABULARY, 5)
    study = json.loads(path.read_text()).get("study", {})
    questions = {"context": lambda: by_context(gpt, five, tokenizer, unseen),
                 "sight": lambda: short_sight(json.loads(path.read_text()), five, tokenizer, tokens, unseen),
                 "difficulty": lambda: difficulty(gpt, tokenizer),
                 "writing": lambda: writing(gpt, five, tokenizer, tokens, unseen),
                 "heart": lambda: by_heart(gpt, tokenizer, tokens, unseen, train_text, unseen_text)}
    for name in options.only or questions:
        study[name] = questions[name]()
        print(name, json.dumps(study[name], ensure_ascii=False), flush=True)
    TRAINING["write"](path, json.loads(path.read_text()) | {"study": study})


def rounded(*values: float) -> list[float]:
    return [round(float(value), 4) for value in values]


def mean_and_error(values: Tensor) -> list[float]:
    """Of nearly independent values (N,)."""
    values = values.double()
    return rounded(values.mean(), values.std() / len(values) ** 0.5)


def jackknife(of: Tensor, without: Tensor) -> list[float]:
    """A statistic of all, and its error from those without one each (N,)."""
    return rounded(of, ((len(without) - 1) * without.var(correction=0)) ** 0.5)


class Scored:
    """The second half of every eighth (or `every`-th) held-out window, and what is a character of it."""

    def __init__(self, text: Tensor, tokenizer: BytePairTokenizer, every: int = 8, first: int = 0):
        self.every, self.first = every, first
        self.windows = text.unfold(0, LENGTH + 1, HALF)[first::every]  # (W, T + 1)
        self.characters = TRAINING["characters"](self.windows[:, -HALF:], tokenizer)

    def of(self, values: Tensor) -> Tensor:
        """Something of each token of the text (N,) -> of the scored ones (W, T/2)."""
        return values.unfold(0, LENGTH + 1, HALF)[self.first::self.every, -HALF:]

    def bits(self, logp: Tensor) -> Tensor:
        """Log probabilities (W, T/2) -> bits a character, (W,)."""
        return TRAINING["bits_of"](logp, self.characters)


# -- where GPT's lead comes from --------------------------------------------------------------------------------------


def by_context(gpt: GPT, five: KneserNey, tokenizer, unseen: Tensor) -> list[list]:
    """Rows of: model, tokens before the predicted one, bits a character and error, less the 5-gram's and error."""
    scored = Scored(unseen, tokenizer)
    counted = five.score(unseen)
    rival = scored.bits(scored.of(counted))  # (W,)
    found = [("5-gram", "4", scored.of(counted)),
             ("5-gram, cache", "65 to 128", with_cache(counted, unseen, tokenizer, scored))]
    found.append(("GPT", "4", after_four(gpt, unseen, scored)))
    for half in (4, 8, 16, 32, 64):  # the second halves of windows of 2 half tokens
        parts = scored.windows[:, HALF - half:].unfold(1, 2 * half + 1, half).flatten(0, 1)
        found.append(("GPT", f"{half + 1} to {2 * half}", -TRAINING["nats"](gpt, parts).view(len(rival), HALF)))
    return [[model, before, *mean_and_error(scored.bits(logp)), *mean_and_error(scored.bits(logp) - rival)]
            for model, before, logp in found]


@torch.no_grad()
def after_four(gpt: GPT, unseen: Tensor, scored: Scored) -> Tensor:
    """Log probabilities (W, T/2) of the scored tokens, each given the four before it."""
    place = scored.of(torch.arange(len(unseen)))  # (W, T/2)
    rows = unseen.unfold(0, SIGHT + 1, 1)[place.flatten() - SIGHT]  # (W T/2, 5)
    last = [gpt(row[:, :-1], last_only=True)[:, 0].log_softmax(-1).gather(1, row[:, -1:]) for row in rows.split(512)]
    return torch.cat(last).view(place.shape)


def short_sight(record: dict, five: KneserNey, tokenizer, tokens: Tensor, unseen: Tensor) -> list[float]:
    """Bits a character and error, less the 5-gram's and error, of a GPT that learned from windows of four tokens alone."""
    steps, batch = record["step"], TRAINING["BATCH"] * LENGTH // SIGHT  # as many tokens a step
    model = TRAINING["new_model"](record["seed"])
    optimizer = TRAINING["Together"](*TRAINING["optimizers"](model))
    train(model, RandomWindows(tokens, SIGHT, batch_size=batch, seed=record["seed"]), TRAINING["next_token_loss"], optimizer,
          steps=steps, progress=False, schedule=lambda step: TRAINING["factor"](step, steps),
          autocast=torch.bfloat16 if has_fast_bfloat16("cpu") else None)
    scored = Scored(unseen, tokenizer)
    logp = after_four(model.eval(), unseen, scored)
    rival = scored.bits(scored.of(five.score(unseen)))  # (W,)
    return [*mean_and_error(scored.bits(logp)), *mean_and_error(scored.bits(logp) - rival)]


def with_cache(counted: Tensor, unseen: Tensor, tokenizer, scored: Scored) -> Tensor:
    """The 5-gram with a share of what the window has had so far, as often: (W, T/2). The share is chosen on other windows."""
    def logp(part: Scored, share: float) -> Tensor:
        columns = [(part.windows[:, :place] == part.windows[:, place:place + 1]).double().mean(1)
                   for place in range(LENGTH + 1 - HALF, LENGTH + 1)]
        return ((1 - share) * part.of(counted).exp() + share * torch.stack(columns, 1)).log()

    other = Scored(unseen, tokenizer, first=4)
    share = min(CACHE_SHARES, key=lambda share: other.bits(logp(other, share)).mean().item())
    print("share of the cache:", share)
    return logp(scored, share)


def difficulty(gpt: GPT, tokenizer) -> dict:
    """Bits a character on chapters that GPT was trained on and on held-out ones; and the 5-gram's, counted without either."""
    bible = load_bible()
    others = [chapter for place, chapter in enumerate(bible.train) if place % 10 != 5]
    counted = KneserNey(torch.tensor(tokenizer.encode("\n\n".join(others))), VOCABULARY, 5)
    answer = {}
    for name, chapters in {"trained on": bible.train[5::10], "held out": bible.held_out}.items():
        text = torch.tensor(tokenizer.encode("\n\n".join(chapters)))
        scored = Scored(text, tokenizer)
        answer[name] = {"gpt": mean_and_error(scored.bits(-TRAINING["nats"](gpt, scored.windows))),
                        "counting": mean_and_error(scored.bits(scored.of(counted.score(text))))}
    return answer


def known_fives(tokens: Tensor, text: Tensor) -> Tensor:
    """Whether the training text has these five in a row, for each fifth token: (..., N) -> (..., N - 4)."""
    return torch.isin(encode_windows(text, VOCABULARY, 5), encode_windows(tokens, VOCABULARY, 5).unique())


def ratio(above: Tensor, below: Tensor) -> list[float]:
    """Sums by rows (N, ...): all by all, and its error over rows."""
    above, below = (values.double().reshape(len(values), -1).sum(1) for values in (above, below))
    mean = above.sum() / below.sum()
    return rounded(mean, (above - mean * below).pow(2).sum().sqrt() / below.sum())


# -- writing ----------------------------------------------------------------------------------------------------------


def writing(gpt: GPT, five: KneserNey, tokenizer, tokens: Tensor, unseen: Tensor) -> dict:
    """Each way to choose: variety, the bits of both judges, and tokens that complete five of the training text in a row."""
    every = unseen.unfold(0, PROMPT + NEW, 1700)
    beginnings, others = every[:TEXTS], unseen[850:].unfold(0, PROMPT + NEW, 1700)[:TEXTS]  # (64, PROMPT + NEW) each

    def drawn(rows: Tensor, seed: int, **options) -> Tensor:
        return generate(gpt, rows[:, :PROMPT], NEW, generator=torch.Generator().manual_seed(seed), **options)

    aim = judged([others], five, tokenizer)[0]  # the 5-gram's bits of real text
    chosen = {}
    for dial, values in GRIDS.items():
        bits = {value: judged([drawn(others, 9, **{dial: value})], five, tokenizer)[0] for value in values}
        chosen[dial] = min(values, key=lambda value: abs(bits[value] - aim))
        print(dial, bits, "aim", aim, flush=True)
    matched = {f"{dial.replace('_', '-')} {value}": {dial: value} for dial, value in chosen.items()}
    ways = {"temperature 0.5": {"temperature": 0.5}, **matched, "temperature 1": {}, "temperature 1.5": {"temperature": 1.5}}
    texts = {"real": [beginnings], "greedy": [drawn(beginnings, 0, temperature=0)],
             "beam 4": [beam_search(gpt, beginnings[:, :PROMPT], NEW, num_beams=4, eos=None)[0]]}
    texts |= {name: [drawn(beginnings, seed, **options) for seed in SEEDS] for name, options in ways.items()}
    rows = {name: measures(gpt, five, tokenizer, tokens, draws) for name, draws in texts.items()}
    three = [words_of(texts[name], tokenizer) for name in matched]
    apart = max((difference(one, another) for one, another in combinations(three, 2)), key=lambda pair: abs(pair[0]))
    return {"rows": rows, "matched": list(matched), "largest_difference": apart, "seeds": len(SEEDS), "texts": TEXTS}


def judged(draws: list[Tensor], five: KneserNey, tokenizer) -> list[float]:
    bits = torch.stack([torch.stack([five.score(row)[-NEW:].sum() for row in rows]) for rows in draws]) / -math.log(2)
    return ratio(bits.T, lengths_of(draws, tokenizer).T)


def lengths_of(draws: list[Tensor], tokenizer) -> Tensor:
    return torch.tensor([[len(tokenizer.decode(row[PROMPT:])) for row in rows] for rows in draws])  # (draws, texts)


def words_of(draws: list[Tensor], tokenizer) -> list[list[list[str]]]:
    return [[tokenizer.decode(row[PROMPT:]).split() for row in rows] for rows in draws]


def variety(words: list[list[list[str]]], left_out: int | None = None) -> float:
    """Share of distinct pairs of words, the mean over draws; without one of the beginnings, if told so."""
    kept = [[text for place, text in enumerate(draw) if place != left_out] for draw in words]
    return sum(distinct_ngrams(draw, 2) for draw in kept) / len(kept)


def distinct(words: list[list[list[str]]]) -> list[float]:
    return jackknife(variety(words), torch.tensor([variety(words, place) for place in range(TEXTS)], dtype=torch.float64))


def difference(one: list, another: list) -> list[float]:
    without = [variety(one, place) - variety(another, place) for place in range(TEXTS)]
    return jackknife(variety(one) - variety(another), torch.tensor(without, dtype=torch.float64))


@torch.no_grad()
def measures(gpt: GPT, five: KneserNey, tokenizer, tokens: Tensor, draws: list[Tensor]) -> dict:
    own = torch.stack([-gpt(rows[:, :-1]).log_softmax(-1).gather(2, rows[:, 1:, None])[:, -NEW:, 0].double().sum(1)
                       for rows in draws]) / math.log(2)  # (draws, texts)
    known = torch.stack([known_fives(tokens, rows)[:, -NEW:].double().mean(1) for rows in draws])  # (draws, texts)
    return {"distinct": distinct(words_of(draws, tokenizer)), "gpt": ratio(own.T, lengths_of(draws, tokenizer).T),
            "counting": judged(draws, five, tokenizer), "known": mean_and_error(known.mean(0))}


# -- memorization -----------------------------------------------------------------------------------------------------


def by_heart(gpt: GPT, tokenizer, tokens: Tensor, unseen: Tensor, train_text: str, unseen_text: str) -> dict:
    """What 120 characters share with the training text: unseen text, written text, and what a model wrote that learned it."""
    letters = CharacterTokenizer(train_text + unseen_text)
    index = SubstringIndex(torch.tensor(letters.encode(train_text)), len(letters), least=8)

    def longest(lines) -> Tensor:
        return torch.tensor([index.longest(torch.tensor(letters.encode(line)))[0] for line in lines])

    def cut(row: Tensor) -> str:
        return tokenizer.decode(row[PROMPT:]).replace("\ufffd", "")[:PIECE]

    passage = tokens[PASSAGE]
    reader = learned(gpt, passage)
    beginnings = unseen.unfold(0, PROMPT + NEW, 1700)[:TEXTS]
    own = tokens.unfold(0, PROMPT + NEW, len(tokens) // 65)[:TEXTS]
    begun = passage.unfold(0, PROMPT + NEW, 16)[:32]
    written = {"temperature 1": (gpt, beginnings, {"generator": torch.Generator().manual_seed(0)}),
               "greedy": (gpt, beginnings, {"temperature": 0}), "greedy, trained on": (gpt, own, {"temperature": 0}),
               "greedy, passage": (gpt, begun, {"temperature": 0}), "passage learned": (reader, begun, {"temperature": 0})}
    pieces = [unseen_text[place:place + PIECE] for place in range(0, len(unseen_text) - PIECE, 4 * PIECE)]
    shared = longest(pieces)
    rows, best = {"held-out text": {"n": len(pieces), "shared": [*mean_and_error(shared), int(shared.max())]}}, ""
    for name, (model, truth, options) in written.items():
        lines = [cut(row) for row in generate(model, truth[:, :PROMPT], NEW, **options)]
        found = longest(lines)
        same = torch.tensor([agreeing(line, cut(row)) for line, row in zip(lines, truth, strict=True)])
        rows[name] = {"n": len(lines), "shared": [*mean_and_error(found), int(found.max())],
                      "follows": [*mean_and_error(same), int(same.max())]}
        if name == "greedy, trained on":
            length, here, _ = index.longest(torch.tensor(letters.encode(lines[found.argmax()])))
            best = lines[found.argmax()][here:here + length]
    training = [cut(row) for row in tokens.unfold(0, PROMPT + NEW, 30000)]  # a control of the index: all of it is there
    assert longest(training).tolist() == [len(line) for line in training]
    return {"rows": rows, "shares": {at: mean_and_error((shared >= at).double()) for at in (40, 60, 110)},
            "refrain": {"text": best, "times": train_text.count(best)},
            "readings": round(STEPS * 8 * LENGTH / len(passage), 1)}


def learned(gpt: GPT, passage: Tensor) -> GPT:
    """A copy that has gone on to read one passage again and again, with the optimizers of the long run at half their rate."""
    reader = copy.deepcopy(gpt)
    optimizer = TRAINING["Together"](*TRAINING["optimizers"](reader))
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    train(reader, RandomWindows(passage, LENGTH, batch_size=8), TRAINING["next_token_loss"], optimizer, steps=STEPS,
          progress=False, schedule=warmup_linear(5, STEPS))
    return reader.eval()


def agreeing(line: str, other: str) -> int:
    """For how many characters two lines say the same."""
    return next((place for place, (a, b) in enumerate(zip(line, other, strict=False)) if a != b), min(len(line), len(other)))


if __name__ == "__main__":
    main()
