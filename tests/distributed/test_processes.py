"""Two processes, one, and then four, each launch asked many questions: sums, gradients, memory, checkpoints, the command."""

import json
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tutorlib import runs
from tutorlib.command_line import main
from tutorlib.distributed.launch import launch, process_group
from tutorlib.distributed.sharded import bytes_a_process
from tutorlib.training import load_checkpoint

WORKER = str(Path(__file__).with_name("worker.py"))
PROVERB = "A word fitly spoken is like apples of gold in settings of silver.\n"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where processes leave what the next ones read."""
    path = tmp_path_factory.mktemp("distributed")
    (path / "text.txt").write_text(20 * PROVERB, "utf8")
    return path


@pytest.fixture(scope="module")
def two(folder):
    return json.loads(launch(WORKER, 2, "everything", folder, timeout=600).splitlines()[-1])


@pytest.fixture(scope="module")
def one(folder, two):
    """This process alone goes on from what two left."""
    with process_group():
        return runpy.run_path(WORKER)["pieces"](str(folder), "3", "6")


@pytest.fixture(scope="module")
def four(folder, one):
    return json.loads(launch(WORKER, 4, "some", folder, timeout=600).splitlines()[-1])


@pytest.mark.parametrize("name", ["two", "four"])
def test_both_sums_are_the_sum_and_their_bytes_are_the_formulas(name, request):
    found = request.getfixturevalue(name)
    size = len(found["world"])
    assert found["world"] == list(range(size)) and found["exchanged"] == [(rank - 1) % size for rank in range(size)]
    for key, (apart, sent) in found["sums"].items():
        kind, length = key.split()
        assert apart < 1e-5, key
        if kind == "star":
            assert sent == [4 * int(length) * (size - 1)] + [4 * int(length)] * (size - 1)
        elif int(length) % size == 0:
            assert sent == [2 * (size - 1) * 4 * int(length) // size] * size
        else:  # pieces of two lengths: together all processes still send 2 (P - 1) vectors
            assert sum(sent) == 2 * (size - 1) * 4 * int(length)


def test_the_mean_of_the_parts_gradients_is_the_batchs(two):
    found = two["averaged"]
    assert found["apart"] < 1e-14 and found["unused"]
    assert found["sent"] == 8 * found["numbers"]  # float64, and 2 (P - 1) / P is 1


@pytest.mark.parametrize("way", ["data", "sharded", "tensor"])
def test_five_steps_are_those_of_one_process(two, way):
    """Losses, norms before clipping, weights: all of 1e-2 that five steps move, to a millionth of it."""
    assert two["ways"]["clipped"] > 0.5  # the limit was reached, so that a wrong norm would move the weights
    assert two["ways"][way]["numbers"] < 1e-12
    assert two["ways"][way]["weights"] < 1e-8


def test_what_a_process_holds_is_the_formula(two):
    held, numbers = two["ways"], two["ways"]["parameters"]
    for way, stage in (("data", 0), ("sharded", 3)):
        for each in held[way]["held"]:
            assert sum(each.values()) == 2 * bytes_a_process(numbers, 2, stage=stage)  # float64
            assert each["moments"] == 2 * each["weights"] == 2 * each["gradients"]
    divided = 2 * (4 * 16 * 16 + 3 * 16 + 2 * 16 * 64 + 64)  # of a layer's attention and feed-forward, but for two biases
    assert held["tensor"]["held"][0]["weights"] == 8 * (numbers - divided / 2)


def test_columns_and_rows_are_the_whole_layer(two):
    assert two["by hand"]["by hand"] < 1e-13 and two["by hand"]["split"] < 1e-13


def test_dropout_is_of_the_step_and_the_process(two):
    assert two["dropped"] == {"again": True, "of processes": True}


def test_what_cannot_be_divided_is_refused(two):
    said = two["refusals"]
    assert said["rows"] == "batch must have a number of rows that 2 processes divide, got 5"
    assert said["batch"] == "batch must have a number of rows that 2 processes divide, got 3"
    assert said["heads"] == said["by hand"] == "the number of processes must divide the heads, got 1 heads and 2 processes"
    assert said["hidden"] == "the number of processes must divide the hidden units, got 5 hidden units and 2 processes"
    assert said["layer"].startswith("model must have layers of attention and a feed-forward network of two matrices")


def test_pieces_of_two_are_read_by_one_then_by_four(two, one, four):
    """Steps 0-2 on two processes, 3-5 on one, 6-8 on four: the weights are those of nine steps in one."""
    for found, done in ((two["pieces"], 0), (one, 3), (four["pieces"], 6)):
        assert found["done"] == done and found["apart"] < 1e-8


def test_the_command_goes_on_in_another_way_and_in_one_process(two, folder, capsys):
    """Each file: 6 steps in one way, 3 in another, on two processes; the same as 9 in one, to rounding that Adam enlarges."""
    alone = folder / "alone.pt"
    common = ["train", "--data", str(folder / "text.txt"), *"--width 16 --heads 2 --layers 1 --context 8 --batch 4".split(),
              *"--no-progress --rate 0.02 --checkpoint-every 3 --schedule constant".split()]
    assert main([*common, "--steps", "9", "--checkpoint", str(alone)]) == 0
    wanted = load_checkpoint(alone)["history"]
    for way in ("data", "sharded", "tensor"):
        assert two["command"][way] == [[0, 0], [0, 0]]
        found = load_checkpoint(folder / f"{way}.pt")
        for name in ("losses", "gradient_norms"):
            torch.testing.assert_close(found["history"][name], wanted[name], rtol=2e-3, atol=2e-3)
    assert main([*common, "--steps", "10", "--checkpoint", str(folder / "sharded.pt")]) == 0  # and in one process
    assert "has done 9 of 10 steps" in capsys.readouterr().out
    assert two["command"]["batch"] == two["command"]["without"] == 2


def test_torchrun_without_a_way_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="torchrun has started 2 processes; --parallel data, sharded or tensor says"):
        runs.train_model(runs.TrainOptions())


def test_a_process_that_fails_ends_all_and_is_named():
    with pytest.raises(RuntimeError, match=r"(?s)worker.py on 2 processes ended with code 1:.*process 1 has had enough"):
        launch(WORKER, 2, "break_off", "raise", timeout=300)


def test_a_launch_that_hangs_is_ended_with_its_workers():
    start = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        launch(WORKER, 1, "break_off", "hang", timeout=12)
    assert time.monotonic() - start < 120
    if sys.platform == "linux":
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _of(path) == ["break_off", "hang"]]
        assert not left


def _of(path):
    try:
        return path.read_bytes().decode().split("\0")[-3:-1]
    except (OSError, UnicodeDecodeError):
        return []
