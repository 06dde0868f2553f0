"""The record of the small CLIPs: a batch holds no caption twice, its scores are those of its weights, its losses come again."""

import re
from pathlib import Path
from statistics import mean

import pytest
import torch

from tests.closeness import assert_same

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "train_multimodal.py"
RECORD = ROOT / "records" / "multimodal.json"
TOLERANCE = 0.01  # nats: float32 sums in another order, after three steps


def of(program, found):
    return program["Run"](found["arm"], found["seed"])


def test_a_batch_holds_every_caption_once_and_its_own_pictures(program):
    images = torch.arange(5.0)[:, None] + 10 * torch.arange(144.0)  # (P, K): picture p of caption k is p + 10 k
    shown, captions = program["Pictures"](images, program["SEEN"], 0)(3)
    assert sorted(captions.tolist()) == program["SEEN"].tolist()
    assert torch.equal(program["SEEN"][(shown // 10).long()], captions) and len((shown % 10).unique()) == 5


def test_the_heads_add_up_to_probabilities_of_captions(program):
    torch.manual_seed(0)
    logs = program["Heads"]()(torch.rand(2, 3, 32, 32))
    assert logs.shape == (2, 216)
    assert_same(logs.exp().sum(1), torch.ones(2))
    assert_same(logs[:, 0] - logs[:, 9], logs[:, 27] - logs[:, 36])  # circle against square, at two colors


def test_a_perfect_model_has_every_score(program):
    class Perfect(torch.nn.Module):
        def forward(self, images, tokens=None):
            return 9 * torch.nn.functional.one_hot(images, 216).float()

    perfect = Perfect()
    program["scores"].__globals__["Heads"], heads = Perfect, program["Heads"]
    captions = {"seen": program["SEEN"], "unseen": program["NEW"].repeat(8)}
    found = program["scores"](perfect, {name: (part, part) for name, part in captions.items()})
    program["scores"].__globals__["Heads"] = heads
    assert found.pop("unseen, a seen caption chosen") == 0 and set(found.values()) == {1}


@pytest.mark.parametrize("arm", ["CLIP", "three heads"])
def test_training_lowers_the_loss(program, arm):
    pictures = program["make_captioned"](torch.arange(216).repeat(2), 0).images.unflatten(0, (2, 216))
    losses = program["fit"](program["Run"](arm, 0), 8, pictures)[1]
    assert losses[-1] < losses[0] - 0.03


def test_record_is_whole(program, record):
    assert [of(program, found) for found in record["runs"]] == program["runs"]()
    assert record["settings"] == {"steps": program["STEPS"], "batch": program["BATCH"], "rate": program["RATE"],
                                  "decay": program["DECAY"], "pictures": program["PICTURES"]}


def test_the_weights_beside_the_record_score_as_it_says(program, record):
    model = program["load_weights"](RECORD.with_suffix(".safetensors"))
    expected = record["runs"][0]["scores"]
    found = program["scores"](model, program["test_pictures"]())
    assert expected == pytest.approx(found, abs=0.01)


def test_the_closer_look_is_that_of_the_weights(program, record):
    model = program["load_weights"](RECORD.with_suffix(".safetensors"))
    found = program["closer"](model, *program["test_pictures"]()["unseen"])
    assert record["runs"][0]["closer"] == pytest.approx(found, abs=0.01)
    assert found["picture first"] == pytest.approx(record["runs"][0]["scores"]["picture first"], abs=0.01)


def test_two_wordings_come_with_two_pictures_of_one_caption(program):
    images = torch.arange(5.0)[:, None] + 10 * torch.arange(144.0)  # (P, K)
    shown, places = program["TwiceWorded"](images, program["SEEN"], 0)(3)
    assert torch.equal(places[:72] + 216, places[72:]) and len(places.unique()) == 144
    assert torch.equal(program["SEEN"][(shown // 10).long()], places % 216)
    one, other = program["BOTH"][[0, 216]].tolist()
    assert one != other and sorted(one) == sorted(other)


def test_a_shared_goal_asks_for_a_half_each(program):
    class Sure(torch.nn.Module):
        def forward(self, images, tokens):
            return 50.0 * (torch.arange(4)[:, None] % 2 == torch.arange(4) % 2)

    pairs = torch.zeros(4), torch.tensor([0, 1, 216, 217])
    assert program["shared_loss"](Sure(), pairs).item() == pytest.approx(0.6931, abs=1e-3)
    assert program["loss"](Sure(), pairs).item() == pytest.approx(0.6931, abs=1e-3)


def test_the_drawing_shows_the_numbers_of_the_record(record):
    text = (ROOT.parent / "book" / "drawings" / "mm-lists.svg").read_text("utf8")
    shown = dict(re.findall(r'data-of="CLIP (unseen, of \d+)".*?>(.*?)</text>', text))
    for name in ("unseen, of 216", "unseen, of 72"):
        scores = [found["scores"][name] for found in record["runs"] if found["arm"] == "CLIP"]
        assert shown[name] == f"{mean(scores):.2f}".lstrip("0")


def test_the_drawn_split_has_as_many_and_shares_none(program):
    seen, new = program["split"]("CLIP, drawn")
    assert (len(seen), len(new)) == (144, 72) and len({*seen.tolist(), *new.tolist()}) == 216
    assert program["split"]("CLIP")[1] is program["NEW"]


@pytest.mark.slow
def test_first_losses_are_those_of_the_record(program, record):
    for found in record["runs"]:
        if found["seed"] == 1:
            losses = program["first_losses"](of(program, found))
            assert losses == pytest.approx(found["losses"][:3], abs=TOLERANCE), found["arm"]


def test_refuses_unknown_arguments(program, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [str(TOOL), "record.json", "--color", "blue"])
    with pytest.raises(SystemExit):
        program["main"]()
    assert "--color" in capsys.readouterr().err
