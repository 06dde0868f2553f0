"""Stories: the answer stands where it is said to stand, once, and test pairs are not in training."""

import itertools

import pytest
import torch

from tutorlib.data.stories import ASKED, CLS, COLORS, SEP, THINGS, VOCABULARY, draw_stories, story_text


def drawn(count=200, **options):
    return draw_stories(count, torch.Generator().manual_seed(0), **options)


def answer(stories, row):
    return story_text(stories.tokens[row, stories.start[row]:stories.end[row] + 1])


def parts(stories, row):
    words = story_text(stories.tokens[row])
    question, story = words.split(" ? ")
    return question + " ?", [sentence.strip() + " ." for sentence in story.split(" .") if sentence.strip()]


def test_the_answer_is_in_the_sentence_that_the_question_is_about_and_there_alone():
    stories = drawn()
    for row in range(200):
        question, sentences = parts(stories, row)
        found = answer(stories, row)
        about = question.split("touched ")[-1].split("holds ")[-1].removesuffix(" ?")
        about = question.split("did ")[1].split(" touch")[0] if "did" in question else about
        right = [sentence for sentence in sentences if about in sentence]
        assert len(right) == 1 and found in right[0]
        assert sum(f" {found} " in f" {sentence} " for sentence in sentences) == 1


def test_rows_are_what_bert_reads():
    stories = drawn(50)
    assert (stories.tokens[:, 0] == CLS).all() and ((stories.tokens == SEP).sum(1) == 2).all()
    assert torch.equal(stories.tokens > 0, stories.attention_mask == 1)
    for row in range(50):
        first, last = (stories.tokens[row] == SEP).nonzero().flatten().tolist()
        assert stories.token_type_ids[row].nonzero().flatten().tolist() == list(range(first + 1, last + 1))
        words, types = stories.tokens[row, first + 1:last].tolist(), stories.token_type_ids[row, first + 1:last]
        asked = stories.tokens[row, 1:first].tolist()
        assert (types % 2).tolist() == [int(word in asked) for word in words]
        stop = VOCABULARY.encode(["."])[0]
        assert [types[place].item() // 2 for place, word in enumerate(words) if word == stop] == [1, 2, 3, 4]
        assert all(types[place + 1] // 2 == types[place] // 2 + (words[place] == stop) for place in range(len(words) - 1))
        assert first < stories.start[row] <= stories.end[row] < last


def test_what_is_tested_is_in_no_training_story():
    def pairs(text):
        words = text.split()
        return {pair for pair in itertools.pairwise(words) if pair[0] in COLORS and pair[1] in THINGS}

    seen = set().union(*(pairs(story_text(row)) for row in drawn(500).tokens))
    test = drawn(200, test=True)
    for row in range(200):
        question, sentences = parts(test, row)
        asked = next(sentence for sentence in sentences if answer(test, row) in sentence)
        assert not pairs(question + " " + asked) & seen


def test_all_kinds_of_questions_and_lengths_are_drawn():
    kinds = {story_text(row).split()[1] for row in drawn(100).tokens}
    assert len(kinds) == len(ASKED)
    longer = drawn(20, sentences=7)
    assert all(len(parts(longer, row)[1]) == 7 for row in range(20))
    assert len(VOCABULARY) == len(set(VOCABULARY.symbols))
    assert torch.equal(drawn(5).tokens, drawn(5).tokens)


def test_refusals():
    with pytest.raises(ValueError, match="sentences must be at most 10, got 11"):
        drawn(1, sentences=11)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        drawn(0)
