"""Going on from a checkpoint: a file of wrong content is refused by name, and then nothing has changed."""

import copy

import pytest
import torch
from torch import nn

from tests.training.test_loop import batches, loss, make, run, same
from tutorlib.training import SGD, Adam, load_checkpoint, save_checkpoint, train


@pytest.fixture
def path(tmp_path):
    """A run of six steps."""
    run(6, checkpoint=tmp_path / "run.pt", generators=[torch.Generator().manual_seed(1)], evaluate=lambda model: 0.5)
    return tmp_path / "run.pt"


def state_of(model, optimizer, generator):
    return copy.deepcopy((model.state_dict(), optimizer.state_dict(), generator.get_state(), torch.get_rng_state()))


def refused(path, model=None, optimizer=None, steps=9):
    """The message that refuses to go on from the file; nothing has moved."""
    if model is None:
        model, optimizer = make(seed=3)
    generator = torch.Generator().manual_seed(2)
    before = state_of(model, optimizer, generator)
    with pytest.raises(ValueError) as error:
        train(model, batches, loss, optimizer, steps=steps, checkpoint=path, generators=[generator], progress=False)
    torch.testing.assert_close(state_of(model, optimizer, generator), before, rtol=0, atol=0, equal_nan=True)
    assert model.training
    return str(error.value)


def change(state, keys, value):
    """Set state[keys[0]][keys[1]]... to the value, or to what it makes of the one that is there."""
    *way, last = keys
    for key in way:
        state = state[key]
    state[last] = value(state[last]) if callable(value) else value


@pytest.mark.parametrize("keys, value, message", [
    (["model"], [1, 2], "holds no dict as its model; expected one that train() has written"),
    (["history"], None, "holds no dict as its history"),
    (["random"], {}, "holds no states of random numbers; expected those of cpu, cuda and generators"),
    (["model"], {}, "holds another model's weights; expected those of this Sequential, of the same names, shapes and dtypes"),
    (["model", "0.weight"], lambda weight: weight.double(), "holds another model's weights"),
    (["model", "0.weight"], 3.0, "holds another model's weights"),
    (["model", "0.weight"], lambda weight: weight * torch.nan, "holds weights that are no numbers, in 0.weight"),
    (["model", "3.bias"], lambda bias: bias / 0, "holds weights that are no numbers, in 3.bias"),
    (["history"], {"steps": []}, "holds no history of a run; expected lists named steps, losses"),
    (["history", "losses"], lambda losses: losses[:-1], "holds a history with gaps"),
    (["history", "steps"], lambda steps: steps[1:], "holds a history with gaps"),
    (["history", "steps"], [0, 1, 2, 3, 4, 6], "holds a history with gaps"),
    (["history", "gradient_norms"], lambda norms: [None, *norms[1:]], "holds a history of other things than numbers"),
    (["history", "losses"], "abcdef", "holds no history of a run"),
    (["history", "evaluations"], [0.5], "holds evaluations that are no pairs; expected (steps done, value)"),
    (["optimizer"], {}, "holds another optimizer's state; expected that of this AdamW, with [4] parameters in its groups"),
    (["optimizer", "param_groups"], lambda groups: groups * 2, "with [4] parameters in its groups"),
    (["optimizer", "param_groups", 0], "lr", "with [4] parameters in its groups"),
    (["optimizer", "param_groups", 0, "betas"], (0.5, 0.999), "same options; betas was (0.5, 0.999), got (0.9, 0.999)"),
    (["optimizer", "param_groups", 0, "decoupled_weight_decay"], False, "decoupled_weight_decay was False, got True"),
    (["optimizer", "param_groups", 0], lambda group: {"params": group["params"]}, "amsgrad was 'not there', got False"),
    (["optimizer", "state"], [1], "holds another optimizer's state"),
    (["optimizer", "state", 9], {}, "holds another optimizer's state"),
    (["optimizer", "state", 0, "exp_avg"], lambda average: average.T, "exp_avg of parameter 0 has another shape, or is no"),
    (["optimizer", "state", 0, "exp_avg"], lambda average: average[:, :-1], "exp_avg of parameter 0 has another shape"),
    (["optimizer", "state", 0, "exp_avg"], lambda average: average * torch.nan, "exp_avg of parameter 0 has another"),
    (["random", "cpu"], None, "holds states of random numbers that a generator does not take"),
    (["random", "cpu"], lambda state: state[:-1], "holds states of random numbers that a generator does not take"),
    (["random", "generators", 0], torch.zeros(3), "holds states of random numbers that a generator does not take"),
    (["random", "generators"], [], "was made with others: generators must be 0, as there, got 1"),
    (["random", "generators"], {0: None}, "holds no states of random numbers"),
])
def test_wrong_content_is_refused_and_nothing_is_touched(path, keys, value, message):
    state = load_checkpoint(path)
    change(state, keys, value)
    save_checkpoint(path, **state)
    error = refused(path)
    assert error.startswith("checkpoint: run.pt ") and message in error


def test_other_files_are_refused(path):
    assert "run.pt has done 6 steps; expected at most steps = 5" in refused(path, steps=5)
    save_checkpoint(path, step=1)
    assert "run.pt lacks ['history', 'model', 'optimizer', 'random']" in refused(path)
    path.write_bytes(b"")
    assert "run.pt is truncated" in refused(path)


def test_another_model_or_optimizer_is_refused(path):
    other = nn.Linear(3, 3)
    assert "run.pt holds another model's weights; expected those of this Linear" in refused(
        path, other, torch.optim.SGD(other.parameters(), lr=0.1))
    wider = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Dropout(), nn.Linear(9, 1))  # the same names, other shapes
    assert "run.pt holds another model's weights" in refused(path, wider, torch.optim.AdamW(wider.parameters()))
    model, _ = make(seed=1)
    groups = [{"params": model[0].parameters()}, {"params": model[3].parameters()}]
    assert "with [2, 2] parameters in its groups" in refused(path, model, torch.optim.AdamW(groups))
    for optimizer, option in (
        (torch.optim.Adam(model.parameters(), weight_decay=0.01), "decoupled_weight_decay was True, got False"),
        (torch.optim.AdamW(model.parameters(), weight_decay=0.5), "weight_decay was 0.01, got 0.5"),
        (Adam(model.parameters(), weight_decay=0.01), "amsgrad was False, got 'none'"),
        (SGD(model.parameters()), "amsgrad was False, got 'none'"),
    ):
        assert option in refused(path, model, optimizer)


def test_another_rate_or_another_way_to_compute_a_step_is_no_other_optimizer(tmp_path):
    run(3, checkpoint=tmp_path / "run.pt")
    model, _ = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, foreach=False)
    history = train(model, batches, loss, optimizer, steps=5, checkpoint=tmp_path / "run.pt", progress=False)
    assert history.learning_rates == [0.01] * 3 + [0.5] * 2


@pytest.mark.parametrize("part", ["the model", "a layer"])
def test_a_compiled_model_and_a_plain_one_go_on_from_each_others_checkpoints(tmp_path, part):
    """Compiling is asked for and never done: the model is called as it is."""
    def go(steps, is_compiled):
        model, optimizer = make()
        outer = model
        if is_compiled and part == "the model":
            outer = torch.compile(model, backend="eager")
        elif is_compiled:
            model[0] = torch.compile(model[0], backend="eager", disable=True)
        train(outer, batches, lambda _, batch: loss(model, batch), optimizer, steps=steps, checkpoint=tmp_path / "run.pt",
              progress=False)
        return load_checkpoint(tmp_path / "run.pt")["model"]

    unbroken = run(6)[0].state_dict()
    for steps, is_compiled in ((2, True), (4, False), (6, True)):
        saved = go(steps, is_compiled)
        assert saved.keys() == unbroken.keys()
    assert all(torch.equal(saved[name], unbroken[name]) for name in unbroken)


def test_states_with_sizes_of_one_are_those_of_a_factored_optimizer(tmp_path):
    """Adafactor keeps a row and a column for each matrix."""
    def go(steps, path):
        model, _ = make()
        train(model, batches, loss, torch.optim.Adafactor(model.parameters()), steps=steps, checkpoint=path, progress=False)
        return model

    go(2, tmp_path / "run.pt")
    assert same(go(4, tmp_path / "run.pt"), go(4, tmp_path / "unbroken.pt"))
