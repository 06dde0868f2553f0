"""The record of recommenders: it is whole, its splits hide what they say, and its runs come out again."""

import re
from pathlib import Path
from statistics import mean

import pytest
import torch

from tutorlib.data.interactions import Clicks
from tutorlib.records import run_of

ROOT = Path(__file__).parents[2] / "experiments"
TOOL = ROOT / "recommend.py"
RECORD = ROOT / "records" / "recommend.json"


def recorded(record, kind, seed, **wanted):
    return next(run for run in record["runs"] if (run["kind"], run["seed"]) == (kind, seed)
                and all(run[name] == value for name, value in wanted.items()))


def test_the_record_is_whole(program, record):
    planned = program["runs"]()
    assert len(set(planned)) == len(planned)
    assert [run_of(program["Run"], found) for found in record["runs"]] == planned


def test_every_method_but_popularity_has_four_settings(program):
    sizes = {name: len(settings) for name, settings in program["METHODS"].items()}
    assert sizes == {"popularity": 1} | dict.fromkeys(("neighbors", "factors", "transitions", "both", "sasrec"), 4)


def test_sasrec_begins_as_the_record_says(program, record):
    assert program["first_losses"](steps=3) == pytest.approx(record["first"][:3], abs=0.01)


def test_counts_come_out_as_the_record_says(program, record):
    known = recorded(record, "dial", 1, order=0.5)
    again = program["dialed"](run_of(program["Run"], known), record)
    for name, scores in known["scores"].items():
        assert again["scores"][name]["hr"] == pytest.approx(scores["hr"], abs=0.01), name


def test_the_prior_of_a_curve_is_chosen_on_others_and_is_not_the_largest_tried(program, record):
    known = recorded(record, "curve", 0)
    again = program["curve_counts"](run_of(program["Run"], known))
    assert again["tried"] == pytest.approx({float(prior): value for prior, value in known["counts"]["tried"].items()}, abs=0.01)
    assert again["prior"] == known["counts"]["prior"] == max(again["tried"], key=again["tried"].get) < max(program["PRIORS"])
    assert (again["both"], again["transitions"]) == pytest.approx(
        (known["counts"]["both"], known["counts"]["transitions"]), abs=0.01)


def test_no_method_passes_the_ceiling(record):
    """But for the chance of 1,000 users."""
    for run in record["runs"]:
        if run["kind"] in ("dial", "net"):
            assert all(each["hr"] < run["scores"]["ceiling"]["hr"] + 0.03 for each in run["scores"].values())


def test_a_loop_comes_out_as_the_record_says(program, record):
    known = recorded(record, "loop", 1, value=0.3)
    again = program["looped"](run_of(program["Run"], known))["course"]
    for mine, theirs in zip(again[:3], known["course"][:3], strict=True):
        assert mine == pytest.approx(theirs, abs=0.03)


@pytest.fixture(scope="module")
def clicks():
    items = torch.arange(1, 49).view(2, 24)
    times = torch.linspace(0.5, 19.5, 24, dtype=torch.float64).expand(2, -1)
    return Clicks(items, times, torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("kind", ["random", "last", "time", "leak", "truth"])
def test_a_split_hides_its_target_and_reads_what_came_before(program, clicks, kind):
    part = program["split"](clicks, kind, torch.Generator().manual_seed(0))
    time_of = dict(zip(clicks.items.flatten().tolist(), clicks.times.flatten().tolist(), strict=True))
    for row, history, target, when in zip(part.rows, part.histories, part.targets.tolist(), part.when.tolist(), strict=True):
        trained, read = set(row.tolist()) - {0}, set(history.tolist()) - {0}
        assert target not in trained and when == time_of[target]
        assert max(time_of[item] for item in read) < when and read <= trained
        latest = max(time_of[item] for item in trained)
        assert latest < program["TODAY"]
        if kind in ("time", "truth"):
            assert latest < (program["BEFORE"] if kind == "time" else program["TODAY"]) <= when
        if kind == "leak":
            assert latest > when
    assert (part.times > 0).equal(part.histories > 0)


def test_leak_and_time_ask_the_same(program, clicks):
    one, two = (program["split"](clicks, kind, torch.Generator().manual_seed(0)) for kind in ("time", "leak"))
    assert one.targets.equal(two.targets) and one.histories.equal(two.histories) and not one.rows.equal(two.rows)


def test_what_is_not_known_is_not_ranked(program):
    scores = torch.arange(301.0).expand(2, -1)
    targets, histories = torch.tensor([150, 20]), torch.tensor([[149], [0]])
    found = program["judged"](scores, targets, histories, 0, known=torch.arange(1, 151))
    assert found["hr"] == 0.5 and found["mrr"] == pytest.approx((1 + 1 / 131) / 2)
    missed = program["judged"](scores, targets, histories, 0, known=torch.arange(1, 150))
    assert missed["hr"] == 0.0


def test_the_drawing_that_opens_the_page_shows_the_record(record):
    drawing = (ROOT.parent / "book" / "drawings" / "reco-four.svg").read_text(encoding="utf-8")
    runs = [run for run in record["runs"] if (run["kind"], run["order"]) == ("split", 0.5)]
    asked = [("random", "sampled"), ("random", "hr"), ("last", "hr"), ("time", "hr"), ("truth", "hr")]
    drawn = re.findall(r'class="bold" x="[\d.]+" y="[\d.]+">(\.\d\d)<', drawing)
    assert drawn == [f"{mean(run[kind]['scores']['both'][what] for run in runs):.2f}"[1:] for kind, what in asked]


def test_more_clicks_are_as_many_as_the_leak_has_and_lie_before_the_cut(program, clicks):
    part, leaky = (program["split"](clicks, kind, torch.Generator().manual_seed(0)) for kind in ("time", "leak"))
    others = part.rows.repeat(9, 1)
    more = program["more_clicks"](part, leaky, others).rows
    lacking = int((leaky.rows > 0).sum() - (more > 0).sum())
    assert -int((others[0] > 0).sum()) < lacking <= 0 and more[:2].equal(part.rows)
