"""Records: numbers keep their places and lose their digits; two-byte weights come back into the network they are of."""

import pytest
import torch
from torch import nn

from tutorlib.records import load_half, rounded, save_half, surroundings


def test_numbers_are_rounded_wherever_they_stand():
    assert rounded({"a": [1.23456, (2.00004, 3)], "b": {"c": 0.99999}}) == {"a": [1.2346, [2.0, 3]], "b": {"c": 1.0}}
    assert rounded(1.26, digits=1) == 1.3


def test_surroundings_are_those_of_now():
    assert surroundings()["torch"] == torch.__version__ and surroundings()["threads"] == torch.get_num_threads()
    assert set(surroundings()) == {"torch", "python", "processor", "threads"}


def test_weights_come_back_with_two_bytes_of_precision(tmp_path):
    torch.manual_seed(0)
    networks = nn.ModuleDict({"one": nn.Linear(3, 2), "two": nn.BatchNorm1d(4)})
    networks["two"].num_batches_tracked.fill_(7)
    save_half(networks, tmp_path / "both.safetensors")
    empty = nn.ModuleDict({"one": nn.Linear(3, 2), "two": nn.BatchNorm1d(4)}).train()
    found = load_half(empty, tmp_path / "both.safetensors")
    assert not found.training and found["two"].num_batches_tracked.item() == 7
    assert found["one"].weight.dtype == torch.float32
    assert torch.equal(found["one"].weight, networks["one"].weight.half().float())


def test_another_network_is_refused(tmp_path):
    save_half(nn.Linear(3, 2), tmp_path / "one.safetensors")
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_half(nn.Linear(3, 4), tmp_path / "one.safetensors")
    with pytest.raises(FileNotFoundError):
        load_half(nn.Linear(3, 2), tmp_path / "none.safetensors")
