"""The translator: it reads, writes, learns one batch, and what it writes depends on no neighbor in the batch."""

import pytest
import torch

from tutorlib.command_line import main
from tutorlib.training import token_cross_entropy
from tutorlib.translating import UNKNOWN, PairBatches, load_translator, new_translator, read_words, translate

PAIRS = [("Save file", "保存文件"), ("Close the file", "关闭文件"), ("Open", "打开"),
         ("Close all files now", "立即关闭所有文件")]


def small(**options):
    torch.manual_seed(0)
    return new_translator(PAIRS, width=16, hidden=32, heads=2, dropout=0.0, **options)


def test_an_unseen_word_is_read_as_unknown():
    words = small().words
    ids = read_words(words, ["Save it", "save"])
    assert ids == [[*words.encode(["save", UNKNOWN]), words.end], [*words.encode(["save"]), words.end]]


def test_learns_its_pairs_and_writes_them():
    translator = small()
    batches = PairBatches(translator, PAIRS, 4)
    optimizer = torch.optim.AdamW(translator.model.parameters(), lr=1e-2)
    for step in range(80):
        source, target, labels = batches(step)
        loss = token_cross_entropy(translator.model(source, target, source != 0), labels, ignore=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    translator.model.eval()
    written = translate(translator, [source for source, _ in PAIRS])
    assert [each.text for each in written] == [target for _, target in PAIRS]
    assert all(-0.5 < each.score <= 0 for each in written)
    alone = [translate(translator, [source], beams=3)[0].text for source, _ in PAIRS]
    assert alone == [target for _, target in PAIRS]


def test_neighbors_in_the_batch_change_nothing():
    translator = small()
    translator.model.eval()
    texts = [source for source, _ in PAIRS]
    for beams in (1, 2):
        together = translate(translator, texts, beams=beams)
        parted = translate(translator, texts, beams=beams, batch_size=1)
        assert [each.text for each in together] == [each.text for each in parted]
        torch.testing.assert_close([each.score for each in together], [each.score for each in parted], rtol=1e-4, atol=1e-5)


def test_batches_begin_end_and_come_once_an_epoch():
    translator = small()
    batches = PairBatches(translator, PAIRS, 2, seed=1)
    rows = []
    for step in (0, 1):
        source, target, labels = batches(step)
        assert (target[:, 0] == 1).all() and torch.equal(target[:, 1:][labels[:, :-1] > 2], labels[:, :-1][labels[:, :-1] > 2])
        rows += ["".join(translator.characters.decode(row)) for row in labels]
        assert all(2 in row for row in labels.tolist()) and all(2 in row for row in source.tolist())
    assert sorted(rows) == sorted(target for _, target in PAIRS)
    assert all(torch.equal(one, other) for one, other in zip(batches(0), PairBatches(translator, PAIRS, 2, seed=1)(0)))


def test_refusals():
    translator = small()
    with pytest.raises(ValueError, match="texts must have a word each, got '  '"):
        translate(translator, ["open", "  "])
    with pytest.raises(ValueError, match="batch_size"):
        translate(translator, ["open"], batch_size=0)
    with pytest.raises(ValueError, match="pairs must be at least one"):
        new_translator([])
    with pytest.raises(ValueError, match="unknown symbol"):
        PairBatches(translator, [("open", "字")])


def test_the_command_translates_names_what_it_does_not_know_and_what_is_near(capsys):
    assert main(["translate", "Unstage the changes of selected file", "--beams", "1"]) == 0
    written, near = capsys.readouterr().out.splitlines()
    assert written == "取消暂存选定文件的改动"
    assert near.startswith("nearest in training, similarity 0.92: Stage the changes of selected file -> ")
    assert main(["translate", "Rotate zzz"]) == 0
    assert "(not seen in training, so guessed: zzz)" in capsys.readouterr().out


def test_the_command_refuses_a_text_without_a_word(capsys):
    assert main(["translate", "  "]) == 2
    assert "texts must have a word each, got ' '" in capsys.readouterr().err


def test_the_kept_weights_are_those_of_a_small_model():
    assert sum(weight.numel() for weight in load_translator().model.parameters()) == 471_520
