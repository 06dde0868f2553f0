"""Schedules: what they must do, the bubble of the formula in all of them, and stages that are the model."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.distributed.pipeline import (
    Done,
    Work,
    bubble,
    gpipe,
    idle_share,
    most_held,
    one_forward_one_backward,
    simulate,
    stage_of,
)
from tutorlib.models import GPT, GPTConfig

COUNTS = st.integers(1, 7), st.integers(1, 12)
BOTH = pytest.mark.parametrize("schedule", [gpipe, one_forward_one_backward])


def new_gpt(layers=5, tie_output=False):
    torch.manual_seed(0)
    return GPT(GPTConfig(vocabulary=11, max_length=6, width=8, num_heads=2, num_layers=layers, tie_output=tie_output))


@BOTH
@given(*COUNTS)
def test_every_pass_once_and_backward_after_forward(schedule, stages, microbatches):
    for order in schedule(stages, microbatches):
        assert sorted(order) == sorted(Work(way, number) for way in "BF" for number in range(microbatches))
        assert all(order.index(Work("F", number)) < order.index(Work("B", number)) for number in range(microbatches))


@BOTH
@given(*COUNTS, st.floats(0.1, 4), st.floats(0.1, 4))
def test_the_simulation_has_the_formulas_bubble(schedule, stages, microbatches, forward, backward):
    done = simulate(schedule(stages, microbatches), forward=forward, backward=backward)
    assert idle_share(done) == pytest.approx(bubble(stages, microbatches), abs=1e-9)


@BOTH
@given(*COUNTS)
def test_no_pass_begins_before_what_it_needs(schedule, stages, microbatches):
    done = {each[:3]: each for each in simulate(schedule(stages, microbatches))}
    assert len(done) == 2 * stages * microbatches
    for (stage, way, number), each in done.items():
        before = (stage - 1, "F", number) if way == "F" else (stage + 1, "B", number)
        assert before not in done or done[before].end <= each.start
        assert way == "F" or done[stage, "F", number].end <= each.start
    for stage in range(stages):  # and a stage does one thing at a time
        times = sorted(each[3:] for each in done.values() if each.stage == stage)
        assert all(first[1] <= second[0] for first, second in pairwise(times))


@given(*COUNTS)
def test_one_forward_one_backward_holds_no_more_than_the_stages_behind_it(stages, microbatches):
    assert most_held(gpipe(stages, microbatches)) == [microbatches] * stages
    assert most_held(one_forward_one_backward(stages, microbatches)) == [
        min(stages - stage, microbatches) for stage in range(stages)]


def test_two_stages_by_hand():
    assert gpipe(1, 2) == [[Work("F", 0), Work("F", 1), Work("B", 1), Work("B", 0)]]
    done = simulate(one_forward_one_backward(2, 2), forward=1, backward=2)
    assert sorted(done) == [Done(0, "B", 0, 4, 6), Done(0, "B", 1, 7, 9), Done(0, "F", 0, 0, 1), Done(0, "F", 1, 1, 2),
                            Done(1, "B", 0, 2, 4), Done(1, "B", 1, 5, 7), Done(1, "F", 0, 1, 2), Done(1, "F", 1, 4, 5)]
    assert idle_share(done) == pytest.approx(1 / 3) == bubble(2, 2)
    assert bubble(1, 5) == 0 and bubble(4, 1) == 0.75


def test_orders_that_wait_for_one_another_are_refused():
    first, second = [Work("B", 0), Work("F", 0)], [Work("F", 0), Work("B", 0)]
    with pytest.raises(ValueError, match="orders wait for one another: after 0 passes no stage can go on"):
        simulate([first, second])
    with pytest.raises(ValueError, match="after 0 passes"):  # backward before its own forward
        simulate([first])


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_stages_one_after_another_are_the_model(stages):
    gpt, tokens = new_gpt(), torch.randint(11, (2, 6), generator=torch.Generator().manual_seed(1))
    parts, x = [stage_of(gpt, number, stages) for number in range(stages)], tokens
    for part in parts:
        x = part(x)
    torch.testing.assert_close(x, gpt(tokens))
    assert sum(len(list(part.parameters())) for part in parts) == len(list(gpt.parameters()))
    assert {id(parameter) for part in parts for parameter in part.parameters()} == set(map(id, gpt.parameters()))


def test_what_cannot_be_cut_is_refused():
    for stage, stages in ((0, 6), (-1, 2), (2, 2)):
        with pytest.raises(ValueError, match=f"got stage {stage} of {stages}"):
            stage_of(new_gpt(), stage, stages)
    with pytest.raises(ValueError, match=r"gpt must have an output matrix of its own \(tie_output=False\)"):
        stage_of(new_gpt(tie_output=True), 0, 2)
    for wrong in ((0, 1), (1, 0)):
        for call in (bubble, gpipe, one_forward_one_backward):
            with pytest.raises(ValueError, match="must be at least 1, got 0"):
                call(*wrong)
