"""The record of the small vision-language models: its parts are what they say, its scores those of its weights."""

import re
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest
import torch

from tutorlib.data.easy_vqa import COLORS, NONE, SHAPES, VOCABULARY, kind, load_questions, premise, question_tokens, words
from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_vision_language.py"
RECORD = ROOT / "records" / "vision_language.json"
DRAWING = ROOT.parent / "book" / "drawings" / "vlm-premise.svg"
TOLERANCE = 0.01  # nats: float32 sums in another order, after three steps


@pytest.fixture(scope="module")
def test_part(program):
    return program["material"](load_questions("test"))


def few(program, questions, answers):
    """Questions about one gray picture."""
    return program["Material"](torch.zeros(1, 3, 32, 32), torch.zeros(len(questions), dtype=torch.long),
                               question_tokens(questions), torch.tensor(VOCABULARY.encode(answers)), questions)


def test_balanced_questions_are_as_many_and_half_of_them_yes(program, test_part):
    new = program["balanced"](test_part, 0)
    yes = VOCABULARY.encode(["yes"])[0]
    before = Counter(test_part.questions)
    answers = {question: [] for question in new.questions}
    for question, answer in zip(new.questions, new.answers.tolist(), strict=True):
        answers[question].append(answer == yes)
    for question, found in answers.items():
        if kind(question) == "yes or no":
            assert sum(found) == len(found) // 2 and before[question] - len(found) in (0, 1)
    assert torch.equal(new.tokens, question_tokens(new.questions))
    assert Counter(q for q in new.questions if kind(q) != "yes or no") == Counter(
        q for q in test_part.questions if kind(q) != "yes or no")


def test_rows_are_dropped_of_the_usual_answer_to_questions_for_a_color_alone(program, test_part):
    """Both answers to each come equally often; every other question is left as often as it was."""
    new = program["dropped"](test_part, 0)
    def of_color(question):
        return kind(question) == "yes or no" and bool(set(words(question)) & set(COLORS))
    left = Counter(zip(new.questions, new.answers.tolist(), strict=True))
    before = Counter(zip(test_part.questions, test_part.answers.tolist(), strict=True))
    for (question, answer), count in left.items():
        if of_color(question):
            fewest = min(many for (same, _), many in before.items() if same == question)
            assert count == fewest and sum(same == question for same, _ in left) == 2
        else:
            assert count == before[question, answer]
    kept = {(q, a, p) for q, a, p in zip(new.questions, new.answers.tolist(), new.picture.tolist(), strict=True)}
    assert kept <= set(zip(test_part.questions, test_part.answers.tolist(), test_part.picture.tolist(), strict=True))
    run = program["Run"](program["DROPPED"], 0)
    assert program["length"](run, 0.5) == program["STEPS"] / 2


def test_a_balanced_row_keeps_its_picture_and_answer(program, test_part):
    rows = {*zip(test_part.questions, test_part.picture.tolist(), test_part.answers.tolist(), strict=True)}
    new = program["balanced"](test_part, 1)
    assert {*zip(new.questions, new.picture.tolist(), new.answers.tolist(), strict=True)} <= rows


def test_false_premises_change_the_word_and_the_answer_of_about_half(program, test_part):
    new, none = program["with_premises"](test_part, SHAPES, 0.5, 0), VOCABULARY.encode([NONE])[0]
    changed = [row for row, (old, other) in enumerate(zip(test_part.questions, new.questions, strict=True)) if old != other]
    assert all(premise(test_part.questions[row]) in SHAPES and new.answers[row] == none for row in changed)
    assert 0.4 < len(changed) / sum(premise(q) in SHAPES for q in test_part.questions) < 0.6
    others = [row for row in range(len(new.questions)) if row not in set(changed)]
    assert torch.equal(new.answers[others], test_part.answers[others])
    assert torch.equal(new.tokens, question_tokens(new.questions)) and torch.equal(new.picture, test_part.picture)


def test_labels_are_what_the_answers_name(program):
    part = few(program, ["what color is the shape?", "is there a circle?", "what shape is present?"], ["red", "no", "triangle"])
    assert program["labels"](part).tolist() == [[SHAPES.index("triangle"), COLORS.index("red")]]


def test_groups_by_the_usual_answer(program):
    part = few(program, ["is there a circle?"] * 3 + ["what shape is present?"], ["no", "no", "yes", "circle"])
    found = program["groups"](part, program["counted"](part))
    assert found["as usual"].tolist() == [True, True, False, False]
    assert found["against the usual"].tolist() == [False, False, True, False]
    assert found["shape"].tolist() == [False, False, False, True] and found["all"].all()


def test_rules_answer_what_perfect_heads_see(program, test_part):
    shown = program["labels"](test_part)

    class Perfect(torch.nn.Module):
        def forward(self, images):
            return [torch.nn.functional.one_hot(shown[:, i].clamp_min(0), n).float() for i, n in enumerate((3, 8))]

    known = (shown >= 0).all(1)[test_part.picture]
    assert known.sum() > 5000 and program["rules"](Perfect(), test_part)[known].all()


def test_another_picture_is_never_the_own(program, test_part):
    other = program["swapped"](test_part)
    assert (other != test_part.picture).all() and other.min() >= 0 and other.max() < 1000


def test_coverage(program):
    found = program["coverage"](torch.tensor([0.4, 0.6, 0.95, 0.999]), torch.tensor([False, False, True, True]))
    assert found == {"0.0": [1.0, 0.5], "0.5": [0.75, pytest.approx(2 / 3)], "0.9": [0.5, 1.0], "0.99": [0.25, 1.0]}


def test_text_alone_is_shown_no_picture_and_trained_eyes_stay(program):
    part = few(program, ["is there a circle?"] * 64, ["no"] * 64)._replace(pictures=torch.rand(1, 3, 32, 32))
    eyes = program["Eyes"]().eval()
    model, shown = program["prepare"](program["Run"]("text alone", 0), part, eyes)
    assert not shown.pictures.any() and not any(p.requires_grad for p in model.vision.parameters())
    before = [p.clone() for p in model.vision.parameters()]
    trained = program["fit"](program["Run"]("text alone", 0), part, eyes, steps=2)[0]
    assert all(torch.equal(p, q) for p, q in zip(trained.vision.parameters(), before, strict=True))


def test_a_longer_run_differs_from_its_sibling_in_its_steps_alone(program):
    part = few(program, ["is there a circle?", "what shape is present?"] * 32, ["no", "circle"] * 32)
    longer, sibling = program["Run"](program["LONGER"], 3), program["Run"]("picture", 3)
    assert program["length"](longer) == program["TIMES"] * program["length"](sibling) == 3 * program["STEPS"]
    eyes = program["Eyes"]().eval()
    ours, theirs = (program["fit"](run, part, eyes, steps=1)[1] for run in (longer, sibling))
    assert ours == theirs  # same start, same batches: the rates part them later


@pytest.mark.parametrize("word", ["yes", "no", "circle"])
def test_a_model_of_one_word_gets_half_of_the_sentences_with_yes_or_no(program, test_part, word):
    logits = torch.nn.functional.one_hot(torch.tensor(VOCABULARY.encode([word])), len(VOCABULARY)).float()  # (1, V)
    found = program["sentences"](lambda images, tokens: logits.expand(*tokens.shape, -1), test_part)
    assert len(found) == 4
    for each in found.values():
        assert each == {"right": 0.0 if word == "circle" else 0.5, "own": {word: 1.0}, "another": {word: 1.0}}


def test_longer_makes_only_the_longer_runs(program, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", [str(TOOL), str(tmp_path / "record.json"), "--longer", "--most", "0"])
    program["main"]()
    assert not capsys.readouterr().out and not [*tmp_path.iterdir()]


def test_record_is_whole(program, record):
    assert [run_of(program["Run"], found) for found in record["runs"]] == program["runs"]()
    steps = program["STEPS"]
    assert record["settings"] == {"steps": steps, "longer": 3 * steps, "eye steps": program["EYE_STEPS"],
                                  "batch": program["BATCH"], "rate": program["RATE"]}


def test_the_weights_beside_the_record_score_as_it_says(program, record, test_part):
    """Of a fifth of the questions, whose share right is within four of its errors of that of all."""
    models = program["load_weights"](RECORD.with_suffix(".safetensors"))
    rows = slice(0, None, 5)
    for arm, model in models.items():
        found = program["probabilities"](model, test_part.pictures, test_part.picture[rows], test_part.tokens[rows])
        right = (found.argmax(-1) == test_part.answers[rows]).float().mean().item()
        recorded = next(run for run in record["runs"] if (run["arm"], run["seed"]) == (arm, 0))
        expected = recorded["scores"]
        if arm == "picture":
            assert right == pytest.approx(expected["own picture"]["all"], abs=0.025)
        assert program["false"](model, test_part)["shape"]["false, none"] == pytest.approx(
            expected["false"]["shape"]["false, none"], abs=0.01)
        if "sentences" in recorded:
            for sentence, each in program["sentences"](model, test_part).items():
                assert each["right"] == pytest.approx(recorded["sentences"][sentence]["right"], abs=0.02)
        if "sure of a true premise" in recorded:
            assert program["true_premises"](model, test_part) == pytest.approx(recorded["sure of a true premise"], abs=0.01)


def test_the_drawing_shows_the_numbers_of_the_record(record):
    shown = dict(re.findall(r'data-of="(.*?)".*?>(.*?)</text>', DRAWING.read_text("utf8")))
    assert len(shown) == 2
    for name, text in shown.items():
        arm, key = name.split(" | ")
        score = mean(run["scores"]["false"]["shape"][key] for run in record["runs"] if run["arm"] == arm)
        assert text == f"{score:.2f}".replace("0.", ".", 1)


@pytest.mark.slow
def test_eyes_learn_and_the_first_losses_behind_them_are_those_of_the_record(program, record):
    part = program["material"](load_questions("train"))
    eyes = program["train_eyes"](part, 1)
    for found in record["runs"]:
        if found["seed"] == 1 and found["arm"] in ("picture", "premises"):
            losses = program["fit"](program["Run"](found["arm"], 1), part, eyes, steps=program["FIRST"])[1]
            assert losses == pytest.approx(found["losses"], abs=0.1)  # 400 steps of the eyes lie before


def test_refuses_unknown_arguments(program, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        program["main"]()
    assert "--color" in capsys.readouterr().err
