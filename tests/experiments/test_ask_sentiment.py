"""The record of asking SmolLM2 about sentiment: its first answers, its examples and pairs come out again."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "experiments" / "ask_sentiment.py"
RECORD = ROOT / "experiments" / "records" / "ask_sentiment.json"


@pytest.fixture(scope="module")
def asker(program):
    return program["Asker"]()


@pytest.mark.slow
def test_the_first_scores_come_out_again(asker, record):
    """In bfloat16, whose sums another processor orders otherwise: by less than this."""
    assert asker.first_scores() == pytest.approx(record["first_scores"], abs=0.5)


@pytest.mark.slow
def test_the_last_product_is_the_models(asker):
    """Of the rows of the answers alone, in float32: the same odds as the whole model's, but for bfloat16's eighths."""
    from tutorlib.evaluation.asking import answer_log_probabilities

    model, tokenizer = asker.smollm2
    texts = [sentence.text for sentence in asker.data.test[:4]]
    template, answers = asker_wordings(asker)["chat"]
    found = answer_log_probabilities(model, [tokenizer.encode(template.format(text)) for text in texts],
                                     [tokenizer.encode(answer) for answer in answers])
    assert asker.ask("chat", texts) == pytest.approx((found[:, 0] - found[:, 1]).tolist(), abs=0.5)


def asker_wordings(asker):
    return type(asker).ask.__globals__["WORDINGS"]


def test_every_list_has_its_length(record, program):
    assert record["wordings"] == {name: [template, list(answers)] for name, (template, answers) in program["WORDINGS"].items()}
    for name in program["WORDINGS"]:
        assert len(record[f"zero-shot {name}"]) == program["ASKED"]
        assert len(record["content_free"][name]) == len(program["CONTENT_FREE"])
    assert all(len(scores) == program["ELSEWHERE"] for scores in record["chosen"].values())
    assert all(len(run["scores"]) == program["SHOWN"] for run in record["shots"])
    assert record["wording"]["chosen"] == max(record["wording"]["areas"], key=record["wording"]["areas"].get)
    for judge in ("counting", "fine_tuned"):
        assert len(record[judge]["scores"]["test"]) == 1000 and len(record[judge]["scores"]["not"]) == 48


def test_labels_are_those_that_minilm_learned_from(asker, record):
    for run in record["known"]:
        assert run["labels"] == [0] * 25 + [1] * 25
        assert {sentence.text for sentence in asker.labeled(16, run["draw"])} <= {
            sentence.text for sentence in asker.labeled(50, run["draw"])}


def test_examples_are_half_praise_and_differ_by_their_labels_alone(asker):
    one, other = (asker.examples("sentiment", 8, 1, 0, exchanged) for exchanged in (False, True))
    assert one.count("Sentiment: positive\n\n") == one.count("Sentiment: negative\n\n") == 4
    assert other == one.replace("positive\n", "x\n").replace("negative\n", "positive\n").replace("x\n", "negative\n")
    again = asker.examples("sentiment", 8, 1, 1, False)
    assert again != one and sorted(again.split("\n\n")) == sorted(one.split("\n\n"))


def test_pairs_differ_by_one_word(asker, program):
    pairs = asker.pairs()
    assert len(pairs) > 40 and {label for *_, label in pairs} == {0, 1}
    assert all(untrue.replace(" not true", " true", 1) == true for true, untrue, _ in pairs)
    assert not any(program["has_negation"](true) for true, _, _ in pairs)
    assert program["has_negation"]("It isn’t.") and not program["has_negation"]("A knot of notes")


@pytest.mark.slow
def test_counting_comes_out_again(asker, record):
    again = asker.counting()
    assert again["penalty"] == record["counting"]["penalty"]
    assert torch.tensor(again["scores"]["test"]).allclose(torch.tensor(record["counting"]["scores"]["test"]), atol=0.02)


def test_the_drawing_shows_the_record(asker, record, program):
    drawing = ElementTree.parse(ROOT / "book" / "drawings" / "text-labels.svg")
    shown = {node.get("data-of"): node.text for node in drawing.iter() if node.get("data-of")}
    gold = torch.tensor([sentence.label for sentence in asker.data.test[:program["ASKED"]]]) == 1
    old = program["MINILM"]["rights"]
    import json

    labeled = json.loads((ROOT / "experiments" / "records" / "fine_tune_minilm.json").read_text())
    assert len(shown) >= 5
    for key, text in shown.items():
        kind, which = key.split("/")
        if kind in ("above 0", "median"):
            names = program["WORDINGS"] if which == "mean" else [which]
            asked = [torch.tensor(record[f"zero-shot {name}"]) for name in names]
            cuts = [0 if kind == "above 0" else scores.median() for scores in asked]
            rights = [(scores > cut) == gold for scores, cut in zip(asked, cuts, strict=True)]
            share = torch.stack(rights).double().mean().item()
        else:
            runs = old(labeled, kind, int(which), "test").values()
            share = torch.stack(list(runs))[:, :len(gold)].mean().item()
        assert f"{100 * share:.0f} %" == text, key


def test_the_last_two_shots_alone_change_places(asker, record, program):
    for run in record["last_two"]:
        assert len(run["scores"]) == program["SHOWN"] and run["shots"] == program["SHOTS"][-1]
        one, other = (asker.examples("sentiment", run["shots"], run["draw"], run["order"], False, swapped=swapped).split("\n\n")
                      for swapped in (False, True))
        assert other == [*one[:-3], one[-2], one[-3], ""]  # behind the last shot nothing
        assert {shot.rsplit(" ", 1)[1] for shot in one[-3:-1]} == {"positive", "negative"}


def test_the_page_quotes_what_each_number_of_the_cure_does_alone(asker, record, program):
    """Temperature and shift, either, both: 10.4, 9.7, 5.1; and an answer of two tokens beside one of one."""
    from tutorlib.evaluation.calibration import expected_calibration_error, fit_temperature

    def labels(sentences):
        return torch.tensor([sentence.label for sentence in sentences])

    gold, develop = labels(asker.data.test[:program["ASKED"]]), labels(asker.data.development[:program["ELSEWHERE"]])
    scores = torch.tensor(record["zero-shot sentiment"]).double()
    tuned_on = torch.tensor(record["chosen"]["development"]).double()
    shifts = torch.linspace(-2, 2, 401).double()
    losses = torch.nn.functional.softplus((shifts[:, None] - tuned_on) * (2 * develop - 1)).mean(1)
    found = [*(fit_temperature(tuned_on, develop, shift=shift) for shift in (False, True)), (1.0, shifts[losses.argmin()])]
    errors = [100 * expected_calibration_error(((scores - b) / temperature).sigmoid(), gold) for temperature, b in found]
    assert errors == pytest.approx([10.4, 5.1, 9.7], abs=0.1)

    longer = {answer: torch.tensor(logs) for answer, logs in record["longer"].items()}
    assert longer[" not positive"].mean().item() == pytest.approx(-12.9, abs=0.05)
    assert longer[" negative"].mean().item() == pytest.approx(-6.0, abs=0.05)
    assert not (longer[" not positive"] > longer[" negative"]).any()


def test_few_sentences_negate_an_adjective_of_the_pairs(asker, program):
    adjectives = "|".join((*program["KIND"], *program["UNKIND"]))
    assert sum(re.search(rf"(\bnot|n['’]t) ({adjectives})\b", sentence.text.lower()) is not None
               for sentence in asker.data.train) == 11
