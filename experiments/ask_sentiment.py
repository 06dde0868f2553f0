"""Ask SmolLM2-135M in words whether a sentence praises or blames, for the chapter "Text understanding": five wordings, examples
in the prompt, negation; and beside it two judges with 8,520 labels, MiniLM with an adapter and counting words.

    OMP_NUM_THREADS=1 python experiments/ask_sentiment.py experiments/records/ask_sentiment.json

The wordings stood before any answer was seen. A score is ln p(first answer) - ln p(second answer), in nats, above zero for
praise; each list has the order of its sentences. The model runs in bfloat16 and its last product, with the rows of the answers
alone, in float32. The record is written after each part, and a part that it holds is not done again. The adapter goes into a
file of safetensors beside it.
"""

import argparse
import re
import runpy
import time
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from tutorlib.baselines.bag_of_words import BagOfWords, logistic_regression
from tutorlib.data.batches import numbered_generator
from tutorlib.data.sentiment import Sentence, load_sentiment
from tutorlib.evaluation.asking import answer_log_probabilities
from tutorlib.evaluation.risk import area_under_roc
from tutorlib.models import Llama
from tutorlib.pretrained import load
from tutorlib.pretrained.smollm2 import chat_prompt
from tutorlib.records import open_record, surroundings, write_record
from tutorlib.training import train, warmup_linear
from tutorlib.training.adapters import insert_adapters, save_adapter

MINILM = runpy.run_path(str(Path(__file__).with_name("fine_tune_minilm.py")))
WORDINGS = {
    "sentiment": ("Review: {}\nSentiment:", (" positive", " negative")),
    "great": ("{} It was", (" great", " terrible")),
    "like": ("Review: {}\nQuestion: Did the reviewer like it?\nAnswer:", (" Yes", " No")),
    "good": ("A review says: \"{}\"\nIn one word, the reviewer finds it", (" good", " bad")),
    "chat": (chat_prompt([("user", "Is this sentence of a review positive or negative?\n\n{}")]), ("Positive", "Negative")),
}
CONTENT_FREE = "N/A", "[MASK]", ""
DRAWS, LABELS = (0, 1, 2), 50  # the labels of fine_tune_minilm.py
ASKED, ELSEWHERE = 500, 250  # test sentences; of another part
CHOOSE = 150  # development sentences on which the wording for all that follows is chosen
SHOTS, ORDERS, SHOWN = (2, 8), (1, 2), 100  # test sentences
LONGER = 60
ADAPTER = {"rank": 8, "rate": 2e-3, "steps": 300}
PENALTIES = 1e-6, 1e-5, 1e-4, 1e-3, 1e-2
SENTENCE = (r"(It|There|He|She)['’]s |(It|There|This) (is|was|has|\w+s) |(The|This) \w+( \w+)? (is|are|was|were|has) |"
            r"(I|You|They|We) ")
SUBJECTS = "The film", "The plot", "The acting", "The music"
KIND = "good", "great", "funny", "clever", "moving", "beautiful"
UNKIND = "bad", "boring", "dull", "stupid", "weak", "ugly"
FORMS = {"plain": ("{} is {}.", False), "not": ("{} is not {}.", True), "isn't": ("{} isn't {}.", True),
         "never": ("{} is never {}.", True), "anything but": ("{} is anything but {}.", True),
         "not only": ("{} is not only {}.", False)}  # True: it turns praise into blame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    parser.add_argument("--parts", nargs="+", help="only these (default: all)")
    options = parser.parse_args()
    path, asker = options.record, Asker()
    record = open_record(path, lambda: {**surroundings(), "wordings": WORDINGS, "seconds": {}})
    parts = {"first_scores": asker.first_scores, "wording": asker.wording,
             **{f"zero-shot {name}": partial(asker.zero_shot, name) for name in WORDINGS},
             "content_free": asker.content_free, "negation": asker.negation, "known": asker.known, "counting": asker.counting,
             "chosen": lambda: asker.elsewhere(record["wording"]["chosen"]), "longer": asker.longer,
             "shots": lambda: asker.shots(record["wording"]["chosen"]),
             "last_two": lambda: asker.last_two(record["wording"]["chosen"]),
             "fine_tuned": lambda: asker.fine_tuned(path.with_suffix(".safetensors"))}
    for name, part in parts.items():
        if name not in record and name in (options.parts or parts):
            start = time.process_time()
            record[name] = part()
            record["seconds"][name] = round(time.process_time() - start, 1)
            write_record(path, record)
            print(name, record["seconds"][name], flush=True)


class AnswerRows(nn.Module):
    """The last product, for the tokens of the answers alone and in float32: the odds of the answers are as they were."""

    def __init__(self, output: nn.Linear, tokens: Sequence[int]):
        super().__init__()
        self.rows = output.weight[list(tokens)].float()  # (A, D)

    def forward(self, states: Tensor) -> Tensor:
        return states.float() @ self.rows.T


class Asker:
    def __init__(self):
        self.data = load_sentiment()
        self.bench = MINILM["Bench"](self.data, torch.bfloat16)
        self.data_of = {"development": self.data.development, "test": self.data.test, "amazon": self.bench.parts["amazon"]}

    @cached_property
    def smollm2(self) -> tuple[Llama, object]:
        model, tokenizer = load("smollm2")
        return model.bfloat16(), tokenizer

    def ask(self, wording: str, texts: Sequence[str], examples: str = "", digits: int = 3) -> list[float]:
        """The score of each text, after the examples, which are read once."""
        model, tokenizer = self.smollm2
        template, answers = WORDINGS[wording]
        before, after = template.split("{}")
        shared = before.rstrip()  # a blank belongs to the word behind it
        rows = [tokenizer.encode(before[len(shared):] + text + after) for text in texts]
        tokens = [tokenizer.encode(answer)[0] for answer in answers]
        output, model.output = model.output, AnswerRows(model.output, tokens)
        try:
            found = answer_log_probabilities(model, rows, [[0], [1]], prefix=tokenizer.encode(examples + shared))
        finally:
            model.output = output
        return [round(score, digits) for score in (found[:, 0] - found[:, 1]).tolist()]

    # -- asked in words

    def first_scores(self) -> list[float]:
        return self.ask("sentiment", [sentence.text for sentence in self.data.test[:6]])

    def wording(self) -> dict:
        """The wording that orders CHOOSE sentences best."""
        some = self.data.development[:CHOOSE]
        labels = torch.tensor([sentence.label for sentence in some])
        areas = {name: round(area_under_roc(torch.tensor(self.ask(name, texts_of(some))), labels), 4) for name in WORDINGS}
        return {"areas": areas, "chosen": max(areas, key=areas.get)}

    def zero_shot(self, wording: str) -> list[float]:
        return self.ask(wording, texts_of(self.data.test[:ASKED]))

    def labeled(self, size: int, draw: int) -> list[Sentence]:
        """Those that fine_tune_minilm.py learns from; the smaller draw is a part of the larger."""
        return [self.data.train[row] for row in self.bench.drawn(MINILM["Run"]("all layers", size, draw, 0))]

    def known(self) -> list[dict]:
        """The scores of sentences with a label, by which a wording and a threshold can be chosen: blame, then praise."""
        return [{"draw": draw, "labels": [sentence.label for sentence in some],
                 "scores": {name: self.ask(name, texts_of(some)) for name in WORDINGS}}
                for draw in DRAWS for some in [self.labeled(LABELS, draw)]]

    def content_free(self) -> dict:
        return {name: self.ask(name, CONTENT_FREE) for name in WORDINGS}

    def longer(self) -> dict:
        """Answers of unlike length, by the whole model: the logarithms of "positive", "not positive" and "negative"."""
        model, tokenizer = self.smollm2
        answers = " positive", " not positive", " negative"
        template = WORDINGS["sentiment"][0]
        found = answer_log_probabilities(model, [tokenizer.encode(template.format(sentence.text))
                                                 for sentence in self.data.test[:LONGER]],
                                         [tokenizer.encode(answer) for answer in answers], batch_size=8)
        return {answer: [round(each, 3) for each in column.tolist()] for answer, column in zip(answers, found.T, strict=True)}

    def shots(self, wording: str) -> list[dict]:
        """Examples in the prompt: choices of them, orders of one choice, and with every label exchanged."""
        shown = texts_of(self.data.test[:SHOWN])
        planned = [(size, draw, 0, False) for size in SHOTS for draw in DRAWS]
        planned += [(8, 0, order, False) for order in ORDERS] + [(8, draw, 0, True) for draw in DRAWS]
        return [{"shots": size, "draw": draw, "order": order, "exchanged": exchanged,
                 "scores": self.ask(wording, shown, self.examples(wording, size, draw, order, exchanged))}
                for size, draw, order, exchanged in planned]

    def last_two(self, wording: str) -> list[dict]:
        """Each run of the most shots with true labels once more, its last two shots in each other's place and nothing else."""
        shown = texts_of(self.data.test[:SHOWN])
        planned = [(draw, 0) for draw in DRAWS] + [(0, order) for order in ORDERS]
        return [{"shots": SHOTS[-1], "draw": draw, "order": order,
                 "scores": self.ask(wording, shown, self.examples(wording, SHOTS[-1], draw, order, False, swapped=True))}
                for draw, order in planned]

    def examples(self, wording: str, size: int, draw: int, order: int, exchanged: bool, swapped: bool = False) -> str:
        """Half of them praise, of at most 25 words each, in a random order, as the wording writes them; `swapped`: the last two
        in each other's place."""
        template, answers = WORDINGS[wording]
        short = [sentence for sentence in self.labeled(200, draw) if len(sentence.text.split()) <= 25]
        some = [sentence for label in (1, 0) for sentence in [each for each in short if each.label == label][:size // 2]]
        places = torch.randperm(size, generator=numbered_generator(draw, 100 + order)).tolist()
        if swapped:
            places[-2:] = places[:-3:-1]
        return "".join(template.format(some[place].text) + answers[some[place].label == int(exchanged)] + "\n\n"
                       for place in places)

    def elsewhere(self, wording: str) -> dict:
        return {part: self.ask(wording, texts_of(self.data_of[part][:ELSEWHERE])) for part in ("development", "amazon")}

    # -- pairs with and without negation

    def negation(self) -> dict:
        """The scores of the asked model by each form, and of pairs made of test sentences."""
        return {name: self.ask("sentiment", texts) for name, texts in self.negated_texts().items()}

    def negated_texts(self) -> dict[str, list[str]]:
        forms = {name: [form.format(subject, adjective) for adjective in (*KIND, *UNKIND) for subject in SUBJECTS]
                 for name, (form, _) in FORMS.items()}
        true, untrue, _ = zip(*self.pairs(), strict=True)
        return forms | {"it is true": list(true), "it is not true": list(untrue)}

    def pairs(self) -> list[tuple[str, str, int]]:
        """A test sentence rated beyond 1, of 4 to 20 words, with subject, verb and no negation, behind "It is true that" and
        behind "It is not true that", and the label of the first; the second has the other one."""
        fit = [sentence for sentence in self.data.test
               if abs(sentence.rating) >= 1 and 4 <= len(sentence.text.split()) <= 20 and not has_negation(sentence.text)
               and re.match(SENTENCE, sentence.text)]
        lowered = [(sentence.text if sentence.text.startswith("I ") else sentence.text[0].lower() + sentence.text[1:],
                    sentence.label) for sentence in fit]
        return [(f"It is true that {text}", f"It is not true that {text}", label) for text, label in lowered]

    # -- the two judges with all labels

    def scored(self, judge) -> dict:
        """The scores of a judge of lists of texts on all that the asked model was asked."""
        parts = {part: texts_of(some) for part, some in self.data_of.items()} | self.negated_texts()
        return {name: [round(score, 3) for score in judge(texts).tolist()] for name, texts in parts.items()}

    def counting(self) -> dict:
        """Words and pairs with all labels; the penalty that does best on the development set."""
        train_texts, labels = texts_of(self.data.train), self.bench.labels
        bag = BagOfWords(train_texts, 2)
        features, develop = bag(train_texts), bag(texts_of(self.data.development))
        best = (-1.0,)
        for penalty in PENALTIES:
            weights, bias = logistic_regression(features, labels["train"], penalty)
            share = ((develop @ weights + bias > 0) == labels["development"]).double().mean().item()
            best = max(best, (share, penalty, weights, bias), key=lambda found: found[0])
        share, penalty, weights, bias = best
        return {"penalty": penalty, "development_right": round(share, 4),
                "scores": self.scored(lambda texts: bag(texts) @ weights + bias)}

    def fine_tuned(self, path: Path) -> dict:
        """MiniLM with all labels: an adapter in every linear layer and a map of the mean state; both are kept."""
        torch.manual_seed(0)
        model = MINILM["Classifier"](load("minilm")[0])
        insert_adapters(model.bert, ADAPTER["rank"])
        batches = MINILM["SimilarLengths"](self.bench.texts["train"].tokens, self.bench.labels["train"], 0)
        optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=ADAPTER["rate"],
                                      weight_decay=0.01, fused=True)
        history = train(model, batches, MINILM["loss"], optimizer, steps=ADAPTER["steps"], progress=False,
                        schedule=warmup_linear(ADAPTER["steps"] // 10, ADAPTER["steps"]), autocast=self.bench.autocast)
        save_adapter(model.bert, path, dtype=torch.float16)
        model.eval()
        sentences = lambda texts: self.bench.cut([Sentence(text, 1.0, "") for text in texts])  # noqa: E731
        with torch.no_grad():
            scores = self.scored(lambda texts: self.bench.all_of(sentences(texts), model))
        return {**ADAPTER, "loss": round(sum(history.losses[-50:]) / 50, 4), "scores": scores,
                "output": {name: [round(each, 6) for each in value.flatten().tolist()]
                           for name, value in model.output.state_dict().items()}}


def texts_of(sentences: Sequence[Sentence]) -> list[str]:
    return [sentence.text for sentence in sentences]


def has_negation(text: str) -> bool:
    return re.search(r"\b(not|no|never|none|nor|neither|nothing|nobody|without|hardly|barely|cannot|cant|dont|isnt)\b|n['’]t\b",
                     text.lower()) is not None


if __name__ == "__main__":
    main()
