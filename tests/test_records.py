"""Records: numbers keep their places and lose their digits; two-byte weights come back into the network they are of."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from tutorlib.records import complete, load_half, missing, open_record, rounded, run_of, save_half, surroundings, write_record


class Run(NamedTuple):
    arm: str
    seed: int


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


def test_a_record_is_begun_once_and_then_gone_on_with(tmp_path):
    path, begun = tmp_path / "a.json", []
    start = lambda: begun.append(1) or {"runs": []}  # noqa: E731
    record = open_record(path, start)
    record["runs"].append({"arm": "x", "seed": 1, "score": 0.5})
    write_record(path, record)
    assert open_record(path, start) == record and begun == [1]
    assert path.read_text().endswith("}\n") and '\n   "seed": 1,\n' in path.read_text()


def test_runs_that_a_record_lacks_in_the_order_they_are_planned():
    record = {"runs": [{"score": 0.5, "seed": 1, "arm": "x"}, {"arm": "y", "seed": 0, "score": 0.1}]}
    planned = [Run("y", 1), Run("y", 0), Run("x", 1), Run("x", 0)]
    assert run_of(Run, record["runs"][0]) == Run("x", 1)
    assert missing(planned, record) == [Run("y", 1), Run("x", 0)]
    assert missing(planned, {"runs": []}) == planned and missing([], record) == []


def test_what_is_missing_is_done_kept_at_once_and_stands_in_the_plans_order(tmp_path, capsys):
    path, planned = tmp_path / "a.json", [Run("a", 0), Run("a", 1), Run("b", 0)]
    record, done = {"runs": [{"arm": "a", "seed": 1, "score": 9}]}, []

    def perform(run: Run) -> dict:
        done.append(run)
        return run._asdict() | {"score": len(open_record(path, dict).get("runs", []))}  # what was kept before

    complete(path, record, planned, perform)
    assert done == [Run("a", 0), Run("b", 0)]
    assert [(run["arm"], run["seed"], run["score"]) for run in record["runs"]] == [("a", 0, 0), ("a", 1, 9), ("b", 0, 2)]
    assert open_record(path, dict) == record and str(Run("b", 0)) in capsys.readouterr().out
