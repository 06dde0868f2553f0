"""What a batch saves when prompts are read too, and what guesses save one reader, against the fastest single row in float32.

    OMP_NUM_THREADS=1 python experiments/time_serving.py experiments/records/serving.json

Eight questions are answered by SmolLM2 one by one and in one batch; five tasks are written with and without guesses that are
looked up in the text. All variants take turns on the process's own clock. The record names the processor, on which the
times depend; tokens and passes do not.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tutorlib.fast import prepare
from tutorlib.generation import generate
from tutorlib.models import Llama
from tutorlib.pretrained import load
from tutorlib.pretrained.smollm2 import chat_prompt
from tutorlib.records import rounded, surroundings, write_record
from tutorlib.speculation import Passes, PromptLookup, speculate

ROUNDS, GUESSES, LONGEST_ANSWER, LONGEST_TEXT = 4, 8, 16, 32
QUESTIONS = ("What is the capital of France?", "Name three colors.", "What is the capital of Japan?",
             "What is the opposite of big?", "How many legs has a spider?", "What is 2 plus 2?", "How many days has a week?",
             "What do bees make? Answer in five words.")
CLOCK = "The old clock in the tower of Wells was made in 1390 by a monk. It strikes every quarter of an hour"
TASKS = {"repeat": f"Repeat this text word for word: {CLOCK}.",
         "a summary": f"Summarize in one sentence: {CLOCK}, and two knights on horses ride around above it.",
         "a question": f"Read this and answer. {CLOCK}. Who made the clock, and when?",
         "a program": "Write a Python function that returns the larger of two numbers, with an example.",
         "a story": "Write a story about a fisherman who finds an old map."}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    path = parser.parse_args().record
    torch.set_num_threads(1)
    model, tokenizer = load("smollm2")
    prompts = [torch.tensor(tokenizer.encode(chat_prompt([("user", question)]))) for question in QUESTIONS]
    tasks = {name: torch.tensor([tokenizer.encode(chat_prompt([("user", task)]))]) for name, task in TASKS.items()}
    end = tokenizer.encode("<|im_end|>")[0]
    settings = {"rounds": ROUNDS, "guesses": GUESSES, "longest_answer": LONGEST_ANSWER, "longest_text": LONGEST_TEXT}
    write_record(path, {"settings": settings, "seed": 0, **surroundings(),
                        **rounded(eight_answers(model, prompts, end, ROUNDS)),
                        "guessing": [guessed(model, name, task, end, ROUNDS) for name, task in tasks.items()]})


def in_turn(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each variant, one list of `rounds`."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            begun = time.process_time()
            run()
            seconds[name].append(time.process_time() - begun)
    return seconds


def eight_answers(model: Llama, prompts: list[Tensor], end: int, rounds: int, new: int = LONGEST_ANSWER) -> dict:
    """Seconds to read all prompts, which writes the first token of each answer, and to answer; and the new tokens of each.

    Raises ValueError where the batch gives another answer than a row alone.
    """
    best = prepare(model)

    def one_by_one(most: int) -> list[Tensor]:
        return [generate(best, prompt[None], most, temperature=0, eos=end)[0] for prompt in prompts]

    def one_batch(most: int) -> list[Tensor]:
        return generate(model, prompts, most, temperature=0, eos=end)

    alone, together = one_by_one(new), one_batch(new)
    if not all(map(torch.equal, alone, together)):
        raise ValueError("a row of the batch differs from the row alone")
    seconds = in_turn({"read one by one": lambda: one_by_one(1), "one by one": lambda: one_by_one(new),
                       "read in one batch": lambda: one_batch(1), "one batch": lambda: one_batch(new)}, rounds)
    return {"answers": seconds, "new_tokens": [len(row) - len(prompt) for row, prompt in zip(together, prompts, strict=True)]}


def guessed(model: Llama, name: str, prompt: Tensor, end: int, rounds: int, new: int = LONGEST_TEXT) -> dict:
    """Seconds of one text (1, T), plain and with guesses, in the order that `nn.Linear` has and in the best single row's.

    Raises ValueError where guesses change the text.
    """
    row, runs = {}, {}
    for form, weights in {"float32": model, "best": prepare(model)}.items():
        passes = Passes()

        def plain(weights: object = weights) -> Tensor:
            return generate(weights, prompt, new, temperature=0, eos=end)

        def with_guesses(passes: Passes | None = None, weights: object = weights) -> Tensor:
            return speculate(weights, prompt, new, PromptLookup(GUESSES), temperature=0, eos=end, passes=passes)

        texts = [plain(), with_guesses(passes)]
        if not torch.equal(*texts):
            raise ValueError(f"guesses changed the text of {name!r} in {form}")
        row = {"task": name, "tokens": texts[0].size(1) - prompt.size(1), "passes": len(passes.kept),
               "with_guesses": sum(map(bool, passes.guessed)), "kept": sum(passes.kept)}
        runs |= {f"{form}, plain": plain, f"{form}, guessed": with_guesses}
    return row | {"seconds": rounded(in_turn(runs, rounds))}


if __name__ == "__main__":
    main()
