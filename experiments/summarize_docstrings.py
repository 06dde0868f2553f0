"""The first line of a docstring from the rest, for the chapter on translation and summarization: what is judged there.

    python experiments/summarize_docstrings.py experiments/records/summarize_docstrings.json

reads the public functions and classes of the installed torch and scikit-learn with `ast`, keeps those whose first line no
sentence below it repeats, takes one a file, draws eighty, and writes for each the name in words, the first sentence, the
sentence nearest to all others by MiniLM, and what SmolLM2 says, asked in words and after three examples. The texts stay in the
record, so that another version of the two packages moves nothing. The first twenty are judged by hand, in JUDGMENTS below, by
the chapter's author. Four minutes on one core.
"""

import argparse
import ast
import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from tutorlib.evaluation.summarization import rouge_l
from tutorlib.generation import generate
from tutorlib.pretrained import load
from tutorlib.pretrained.smollm2 import chat_prompt
from tutorlib.records import open_record, surroundings, write_record
from tutorlib.search import embed, sentences_of

PACKAGES = ("torch", "sklearn")
DRAWN, EXAMPLES, JUDGED, NEW, END = 80, 3, 20, 24, 2
ORDER = "Say in one short sentence what this function or class of a program does."
SECTION = re.compile(r"\s*(\.\. |>>>|[-*] |(Args|Arguments|Returns|Parameters|Examples?|Attributes|Raises|Notes?|References|"
                     r"Shape|See Also|Inputs|Yields|Warning)\b)")


class Item(NamedTuple):
    """A function or class, the first line of its docstring, and the prose below it."""

    package: str
    file: str
    name: str
    line: str
    body: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    path = parser.parse_args().record
    record = open_record(path, made)
    write_record(path, record)  # so that it can be read before it is judged
    write_record(path, record | {"items": judged(record["items"])})


def made() -> dict:
    """The record before it is judged."""
    start, drawn = time.process_time(), draw(items())
    asked = drawn[:DRAWN]
    said = {"in words": [name_in_words(item.name) for item in asked], "first": [sentences_of(item.body)[0] for item in asked],
            "central": central(asked), **{way: answers(asked, drawn[DRAWN:], way) for way in ("asked", "shown")}}
    found = [item._asdict() | {way: texts[place] for way, texts in said.items()} for place, item in enumerate(asked)]
    return {"made on": surroundings(), "versions": {"torch": version("torch"), "scikit-learn": version("scikit-learn")},
            "seconds": round(time.process_time() - start, 1), "items": found}


def items() -> list[Item]:
    """One of each file: the first whose docstring has a line of 4 to 20 words and 30 to 80 words of prose below it."""
    found = []
    for package in PACKAGES:
        folder = Path(find_spec(package).submodule_search_locations[0])
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).parts
            if not any((part.startswith("_") and part != "__init__.py") or part in ("tests", "testing") for part in parts):
                found += list(documented(package, "/".join(parts), path.read_text(encoding="utf-8")))[:1]
    return found


def documented(package: str, file: str, code: str) -> Iterator[Item]:
    """The public functions and classes of a file whose docstring serves."""
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            line, body = parts_of(ast.get_docstring(node) or "")
            if serves(line, body):
                yield Item(package, file, node.name, line, body)


def parts_of(docstring: str) -> tuple[str, str]:
    """The first paragraph, and the prose below it up to the first section, list or example, without links to a guide."""
    head, *rest = docstring.split("\n\n")
    prose = []
    for paragraph in rest:
        if SECTION.match(paragraph) or re.search(r"^\s*[-=~]{3,}", paragraph, re.M):
            break
        prose.append(" ".join(paragraph.split()))
    body = [sentence for sentence in sentences_of(" ".join(prose)) if not re.match("(Read more|See) ", sentence)]
    return " ".join(head.split()), " ".join(body)


def serves(line: str, body: str) -> bool:
    """Whether a line is a sentence, the body is prose of two sentences or more, and none of these repeats the line."""
    sentences = sentences_of(body)
    return (4 <= len(line.split()) <= 20 and line.endswith(".") and 30 <= len(body.split()) <= 80 and len(sentences) >= 2
            and not re.search(r"::|:math:|>>>|http|\|_", body)
            and max(rouge_l(line, sentence) for sentence in sentences) < 0.7)


def draw(found: Sequence[Item]) -> list[Item]:
    """Eighty, and behind them the three that serve as examples."""
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).tolist()
    return [found[place] for place in order[:DRAWN + EXAMPLES]]


def name_in_words(name: str) -> str:
    """`load_state_dict` is "load state dict", `MaxPool` "Max Pool": nothing of the text is read."""
    return re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).replace("_", " ").strip()


def central(found: Sequence[Item]) -> list[str]:
    """Of each text the sentence whose vector has the largest sum of cosines with all of its sentences."""
    model, tokenizer = load("minilm")
    said = []
    for item in found:
        sentences = sentences_of(item.body)
        with torch.no_grad():
            vectors = embed(model, tokenizer, sentences)  # (N, D)
        said.append(sentences[int((vectors @ vectors.sum(0)).argmax())])
    return said


def request(item: Item) -> str:
    return f"{ORDER}\n\n{item.name}: {item.body}"


@torch.no_grad()
def answers(found: Sequence[Item], examples: Sequence[Item], way: str) -> list[str]:
    """What SmolLM2 says greedily, asked in words alone or shown the examples with their first lines before."""
    model, tokenizer = load("smollm2")
    model = model.bfloat16()
    turns = [turn for item in examples for turn in (("user", request(item)), ("assistant", item.line))]
    shown = turns if way == "shown" else []
    said = []
    for start in range(0, len(found), 10):
        prompts = [torch.tensor(tokenizer.encode(chat_prompt([*shown, ("user", request(item))])))
                   for item in found[start:start + 10]]
        rows = generate(model, prompts, NEW, temperature=0, eos=END)  # a list of (T_i + new_i,)
        said += [first_line(tokenizer.decode([token for token in row[len(prompt):].tolist() if token != END]))
                 for row, prompt in zip(rows, prompts, strict=True)]
        print(way, start, flush=True)
    return said


def first_line(text: str) -> str:
    return text.strip().split("\n")[0]


JUDGED_WAYS = ("in words", "first", "shown")
# Would this line, in place of the author's, tell a reader what the thing is or does, and nothing false? A cut end is not held
# against it. In the order of JUDGED_WAYS; the judgments are of the texts of this sha256.
JUDGED_TEXTS = "b29d2469a1bd935e91fe2f7db30a1862aa66cd067fb9cc9e0945086304177896"
JUDGMENTS = (
    ((0, 0, 0), "which file, none says"),
    ((0, 0, 0), "SmolLM2 makes a batch of losses of it"),
    ((1, 1, 0), "SmolLM2 takes the class for the mixin"),
    ((1, 0, 0), "SmolLM2: to a single process, which is false"),
    ((0, 0, 0), "SmolLM2 invents what is not flattened"),
    ((0, 1, 0), "SmolLM2 repeats itself"),
    ((0, 1, 0), "SmolLM2 makes the context manager of the hook"),
    ((1, 0, 0), "SmolLM2: of a given extension, and none is given"),
    ((1, 0, 0), "SmolLM2: not available in this version, invented"),
    ((1, 0, 0), "SmolLM2: concrete, and it is the base"),
    ((0, 0, 1), "SmolLM2 sums up the steps"),
    ((1, 0, 0), "SmolLM2 says nothing"),
    ((1, 1, 0), "SmolLM2: makes padding, the size cut off"),
    ((1, 0, 0), "SmolLM2 passes instances to the manager"),
    ((0, 1, 0), "SmolLM2: a bias to avoid the bias"),
    ((1, 1, 1), "all three say it"),
    ((0, 0, 0), "that it returns a handler, none says"),
    ((0, 1, 1), "SmolLM2 adds that it is popular"),
    ((1, 0, 0), "SmolLM2 takes a detail for the whole, and again"),
    ((1, 1, 0), "SmolLM2 makes it of a list, and says something of its order"))


def judged(found: list[dict]) -> list[dict]:
    """The first items with their judgments. Raises ValueError where the texts are not those that were read."""
    read = "\n".join(item[way] for item in found[:JUDGED] for way in JUDGED_WAYS)
    if (sha := hashlib.sha256(read.encode()).hexdigest()) != JUDGED_TEXTS:
        raise ValueError(f"these texts have sha256 {sha}; the judgments are of {JUDGED_TEXTS}: read them and judge anew")
    return [item | {"right": dict(zip(JUDGED_WAYS, right, strict=True)), "why": why}
            for item, (right, why) in zip(found, JUDGMENTS, strict=False)] + found[len(JUDGMENTS):]


if __name__ == "__main__":
    main()
