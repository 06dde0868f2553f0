"""A group of one without torchrun, and what is refused before anything is started."""

import pytest
import torch
import torch.distributed as dist

from tutorlib.distributed.data_parallel import average_gradients, ring_all_reduce, star_all_reduce
from tutorlib.distributed.launch import launch, process_group


def test_without_torchrun_one_process_is_the_world(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with process_group() as world:
        assert world == (0, 1, torch.device("cpu"))
        values = torch.arange(3.0)
        assert ring_all_reduce(values) == star_all_reduce(values) == 0 and values.tolist() == [0, 1, 2]
        layer = torch.nn.Linear(2, 1)
        layer(torch.ones(1, 2)).sum().backward()
        assert average_gradients(layer) == 0 and layer.weight.grad.tolist() == [[1, 1]]
    assert not dist.is_initialized()


def test_a_group_that_is_there_is_used_and_kept(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with process_group():
        with process_group() as world:
            assert world.size == 1
        assert dist.is_initialized()


def test_a_group_is_left_where_the_work_fails(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(KeyError), process_group():
        raise KeyError
    assert not dist.is_initialized()


def test_what_is_no_vector_is_refused(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with process_group():
        for wrong in (torch.zeros(2, 2), torch.zeros(4, 2)[:, 0]):
            with pytest.raises(ValueError, match=r"values must be a contiguous vector \(n,\), got the shape"):
                ring_all_reduce(wrong)


def test_devices_that_cannot_send_are_refused():
    said = "device must be cpu or cuda, between which processes can send, got 'meta'"
    with pytest.raises(ValueError, match=said), process_group("meta"):
        pass


def test_a_machine_with_fewer_gpus_than_processes_is_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))
    with pytest.raises(ValueError, match="expected one for each process of a machine, and process"), process_group("cuda"):
        pass


@pytest.mark.parametrize("wrong, message", [
    (dict(processes=0), "processes must be at least 1, got 0"), (dict(processes=1.5), "processes must be a whole number"),
    (dict(processes=1, restarts=-1), "restarts must be at least 0, got -1"),
    (dict(processes=1, timeout=0), "timeout must be a number of seconds above 0, got 0")])
def test_wrong_numbers_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        launch("tutorlib", **wrong)


def test_the_command_lines_ways_are_those_of_the_room():
    from tutorlib.command_line import parse
    from tutorlib.distributed.running import WAYS

    for way in WAYS:
        assert parse(["train", "--parallel", way])[1].parallel == way
    with pytest.raises(SystemExit):
        parse(["train", "--parallel", "pipeline"])


def test_wrong_ways_and_dropped_heads_are_refused(monkeypatch):
    from tutorlib.distributed.running import divide
    from tutorlib.models import GPT, GPTConfig

    monkeypatch.delenv("RANK", raising=False)
    gpt = GPT(GPTConfig(vocabulary=5, max_length=4, width=8, num_heads=2, num_layers=1, dropout=0.1))
    with process_group():
        with pytest.raises(ValueError, match="way must be one of data, sharded, tensor, got 'pipeline'"):
            divide(gpt, lambda step: (torch.zeros(2, 2),), "pipeline")
        with pytest.raises(ValueError, match='model must have no dropout in the way "tensor"'):
            divide(gpt, lambda step: (torch.zeros(2, 2),), "tensor")
