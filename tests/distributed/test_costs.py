"""The cost model: its own numbers are found again, and its parts are the formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutorlib.distributed.costs import Layout, Link, StepParts, fit_link, ring_bytes, ring_seconds, step_parts
from tutorlib.distributed.pipeline import bubble
from tutorlib.distributed.sharded import bytes_a_process, shard

LINK = Link(1e-4, 1e9)


@given(st.integers(2, 2000), st.floats(1e-6, 1e-3), st.floats(1e7, 1e12))
def test_a_link_is_found_from_its_times(processes, latency, bandwidth):
    link = Link(latency, bandwidth)
    sizes = [processes * latency * bandwidth * factor for factor in (0.01, 1, 100)]  # where each term counts
    found = fit_link(sizes, [ring_seconds(size, processes, link) for size in sizes], processes)
    assert found.latency == pytest.approx(latency, rel=1e-4) and found.bandwidth == pytest.approx(bandwidth, rel=1e-4)


def test_a_short_message_counts_as_much_as_a_long_one():
    """A tenth too slow at 100 MB, which is 1,000 latencies, leaves the latency where it was."""
    sizes = [1e3, 2e3, 1e8, 2e8]
    times = [ring_seconds(size, 2, LINK) * (1.1 if size == 2e8 else 1) for size in sizes]
    assert fit_link(sizes, times, 2).latency == pytest.approx(1e-4, rel=0.02)


def test_a_ring_of_one_sends_nothing_and_of_many_twice():
    assert ring_bytes(100, 1) == 0 and ring_seconds(100, 1, LINK) == 0
    assert ring_bytes(100, 2) == 100 and ring_bytes(100, 4) == 150 and 199 < ring_bytes(100, 1024) < 200
    assert ring_seconds(4e6, 4, LINK) == pytest.approx(6 * (1e-4 + 1e6 / 1e9))  # six messages of a quarter


@pytest.mark.parametrize("wrong", [([1], [1], 2), ([1, 1], [1, 2], 2), ([1, 2], [1], 2), ([1, 2], [1, 2], 1)])
def test_too_little_to_fit_is_refused(wrong):
    with pytest.raises(ValueError, match="sizes and seconds must be at least two pairs"):
        fit_link(*wrong)


def test_times_that_fall_with_size_are_refused():
    with pytest.raises(ValueError, match="seconds must grow with sizes from a positive start"):
        fit_link([1e3, 1e6], [2.0, 1.0], 2)


def test_a_step_is_the_sum_of_its_parts():
    layout = Layout(data=4, stages=3, tensor=2, microbatches=6)
    parts = step_parts(layout, compute=8.0, tensor_bytes=1e6, tensor_sums=10, gradient_bytes=1e8, inside=LINK,
                       between=Link(1e-3, 1e8))
    assert parts.tensor == pytest.approx(60 * (2 * 1e-4 + 1e-3))
    assert parts.data == pytest.approx(6 * 1e-3 + 1.5)
    busy = parts.compute + parts.tensor
    assert parts.pipeline / (busy + parts.pipeline) == pytest.approx(bubble(3, 6))
    assert parts.busy == pytest.approx(8 / sum(parts)) and StepParts(1, 1, 1, 1).busy == 0.25
    alone = step_parts(Layout(1, 1, 1, 1), compute=8.0, tensor_bytes=1e6, tensor_sums=10, gradient_bytes=1e8, inside=LINK,
                       between=LINK)
    assert alone == (8.0, 0, 0, 0)


def test_bytes_a_process_by_stage():
    assert [bytes_a_process(1000, 4, stage=stage) for stage in range(4)] == [16000, 10000, 7000, 4000]
    assert bytes_a_process(1000, 1) == 16000
    for wrong in (-1, 4, 1.5, None):
        with pytest.raises(ValueError, match=f"stage must be 0, 1, 2 or 3, got {wrong}"):
            bytes_a_process(1000, 4, stage=wrong)


def test_a_model_without_layers_is_refused():
    from torch import nn
    with pytest.raises(ValueError, match="model must have its layers in an nn.ModuleList called layers, got Linear"):
        shard(nn.Linear(2, 2))
