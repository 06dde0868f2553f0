"""The loop: what it does at each step, and that a resumed run is the unbroken run."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from tutorlib.data.batches import ShuffledBatches
from tutorlib.training import constant, load_checkpoint, train, warmup_linear
from tutorlib.training.loop import update


def batches(step):
    """A batch (x (16, 4), y (16, 1)) that depends on the step alone."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 4, generator=generator)
    return x, x.sum(1, keepdim=True) + 0.1 * torch.randn(16, 1, generator=generator)


def loss(model, batch):
    x, y = batch
    return ((model(x) - y) ** 2).mean()


def make(seed=0, dropout=0.3):
    """A model with dropout, so that its training depends on the random numbers' state, and its optimizer."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def run(steps, seed=0, **options):
    model, optimizer = make(seed)
    history = train(model, batches, loss, optimizer, steps=steps, progress=False, **options)
    return model, optimizer, history


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


class Interrupted(Exception):
    pass


def test_one_step_is_the_step_by_hand():
    model, optimizer = make(dropout=0.0)
    train(model, batches, loss, optimizer, steps=3, clip_norm=None, progress=False)
    other, optimizer = make(dropout=0.0)
    for step in range(3):
        optimizer.zero_grad()
        loss(other, batches(step)).backward()
        optimizer.step()
    assert same(model, other)


def mean_loss(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()


def test_gradients_of_micro_batches_add_up_to_that_of_the_batch():
    """Four of 8 are one of 32: the gradient, the loss, and, through `train`, the weights after two epochs."""
    x = torch.randn(64, 4)
    data = x, x.sum(1, keepdim=True)
    results = []
    for size, accumulate in ((32, 1), (8, 4)):
        batches = ShuffledBatches(*data, batch_size=size)
        model, _ = make(dropout=0.0)
        frozen = torch.optim.SGD(model.parameters(), lr=0.0)
        first = update(model, batches, mean_loss, frozen, 1, accumulate=accumulate)
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        history = train(model, batches, mean_loss, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), steps=4,
                        accumulate=accumulate, progress=False)
        results.append((first, gradients, history.losses, history.gradient_norms, list(model.parameters())))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)  # sums in another order, over four steps
    assert results[0][2][0] > 1.1 * results[0][2][-1]


def test_each_micro_batch_is_used_once_and_in_turn():
    asked = []
    model, optimizer = make()
    train(model, lambda number: (asked.append(number), batches(number))[1], loss, optimizer, steps=3, accumulate=2,
          progress=False)
    assert asked == [0, 1, 2, 3, 4, 5]


def test_a_parameter_that_the_optimizer_does_not_have_is_left_alone_and_does_not_count_in_the_norm():
    """Nothing clears its gradient, which grows from step to step; the others' steps are those of a run where it has none."""
    runs = []
    for frozen in (True, False):
        model, _ = make(dropout=0.0)
        model[0].requires_grad_(not frozen)
        history = train(model, batches, loss, torch.optim.SGD(model[3].parameters(), lr=0.1), steps=20, clip_norm=0.1,
                        progress=False)
        runs.append((model, history))
    assert same(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1]


def test_an_optimizer_of_another_model_is_refused():
    model, _ = make()
    _, optimizer = make()
    with pytest.raises(ValueError, match="optimizer must have parameters of the model, got a AdamW of 4 others"):
        train(model, batches, loss, optimizer, steps=1, progress=False)


def test_learns_and_records():
    _, _, history = run(200)
    assert history.steps == list(range(200))
    assert sum(history.losses[-20:]) < 0.5 * sum(history.losses[:20])
    assert len(history.learning_rates) == len(history.gradient_norms) == 200 and history.evaluations == []


def test_schedule_multiplies_every_groups_rate_and_the_rates_come_back():
    model, _ = make()
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[3].parameters(), "lr": 0.01}]
    optimizer, seen = torch.optim.SGD(groups), []

    def watch(model, batch):
        seen.append([group["lr"] for group in optimizer.param_groups])
        return loss(model, batch)

    history = train(model, batches, watch, optimizer, steps=8, schedule=warmup_linear(2, 8), progress=False)
    factors = [warmup_linear(2, 8)(step) for step in range(8)]
    assert seen == [[0.1 * factor, 0.01 * factor] for factor in factors]
    assert history.learning_rates == [0.1 * factor for factor in factors]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]


def test_clipping_bounds_the_step_and_not_the_record():
    model, _ = make(dropout=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    history = train(model, batches, loss, torch.optim.SGD(model.parameters(), lr=1.0), steps=1, clip_norm=0.01, progress=False)
    moved = math.sqrt(sum(((p - q) ** 2).sum().item() for p, q in zip(model.parameters(), before, strict=True)))
    assert moved == pytest.approx(0.01, rel=1e-3)  # plain SGD at rate 1 moves by the clipped gradient
    assert history.gradient_norms[0] > 0.1


def test_gradients_are_clipped_to_one_unless_told_otherwise():
    def steep(model, batch):
        return 100 * loss(model, batch)

    def after_one_step(**options):
        model, _ = make(dropout=0.0)
        history = train(model, batches, steep, torch.optim.SGD(model.parameters(), lr=0.01), steps=1, progress=False, **options)
        assert history.gradient_norms[0] > 10
        return model

    assert same(after_one_step(), after_one_step(clip_norm=1.0))
    assert not same(after_one_step(), after_one_step(clip_norm=None))


def test_a_gradient_below_the_limit_is_left_alone():
    assert same(run(5, clip_norm=1e6)[0], run(5, clip_norm=None)[0])


def test_evaluation_happens_on_time_without_dropout_and_without_gradient():
    modes = []

    def evaluate(model):
        modes.append((model.training, torch.is_grad_enabled()))
        return len(modes)

    _, _, history = run(7, evaluate=evaluate, evaluate_every=3)
    assert history.evaluations == [(3, 1), (6, 2), (7, 3)]
    assert modes == [(False, False)] * 3


def test_a_run_ends_where_stop_says_so_after_an_evaluation(tmp_path):
    asked = []

    def stop(history):
        asked.append(history.evaluations[-1])
        return len(asked) == 2

    path = tmp_path / "run.pt"
    model, _, history = run(20, evaluate=lambda model: len(asked), evaluate_every=3, stop=stop, checkpoint=path)
    assert asked == history.evaluations == [(3, 0), (6, 1)] and len(history.losses) == 6
    assert same(model, run(6)[0]) and model.training
    assert len(load_checkpoint(path)["history"]["steps"]) == 6  # the last step is saved, wherever the run ends
    assert len(run(7, evaluate=lambda model: 0, stop=lambda history: False)[2].losses) == 7


def test_stop_without_an_evaluation_is_refused():
    with pytest.raises(ValueError, match="stop needs an evaluation to look at: expected evaluate, got None"):
        run(3, stop=lambda history: True)
    with pytest.raises(ValueError, match="evaluate_every = 5 needs something to do then: expected evaluate, got None"):
        run(3, evaluate_every=5)


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_put_back(training):
    model, optimizer = make()
    model.train(training)
    train(model, batches, lambda m, b: (loss(m, b), m.training or pytest.fail("not in training mode"))[0], optimizer, steps=2,
          evaluate=lambda m: 0, evaluate_every=1, progress=False)
    assert model.training is training


@pytest.mark.parametrize("broken_at", [1, 5, 6, 9, 11])
def test_resumed_run_is_the_unbroken_run_bit_for_bit(tmp_path, broken_at):
    """Dropout and an explicit generator on; a run broken at any step goes on from its last checkpoint (every 3 steps)."""

    def go(checkpoint, stop_at=None):
        generator = torch.Generator().manual_seed(1)

        def noisy(model, batch):
            if stop_at is not None and calls.append(None) is None and len(calls) > stop_at:
                raise Interrupted
            return loss(model, batch) + 0.1 * torch.rand((), generator=generator) * model[0].weight.sum()

        calls = []
        model, optimizer = make()
        options = dict(steps=12, schedule=warmup_linear(4, 12), evaluate=lambda m: m(torch.ones(1, 4)).item(), evaluate_every=4)
        try:
            history = train(model, batches, noisy, optimizer, checkpoint=checkpoint, checkpoint_every=3,
                            generators=[generator], progress=False, **options)
        except Interrupted:
            return None
        return model, optimizer, history, generator.get_state()

    unbroken = go(tmp_path / "unbroken.pt")
    assert go(tmp_path / "broken.pt", stop_at=broken_at) is None
    torch.manual_seed(99)  # whatever happened in between
    resumed = go(tmp_path / "broken.pt")
    assert same(unbroken[0], resumed[0])
    assert asdict(unbroken[2]) == asdict(resumed[2])
    assert torch.equal(unbroken[3], resumed[3])
    for a, b in zip(unbroken[1].state.values(), resumed[1].state.values(), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_after_an_error_the_file_has_the_steps_up_to_the_last_interval(tmp_path):
    def broken(step):
        if step == 7:
            raise Interrupted
        return batches(step)

    model, optimizer = make()
    with pytest.raises(Interrupted):
        train(model, broken, loss, optimizer, steps=20, checkpoint=tmp_path / "run.pt", checkpoint_every=3, progress=False)
    assert load_checkpoint(tmp_path / "run.pt")["history"]["steps"] == [0, 1, 2, 3, 4, 5]


def test_numbers_of_numpy_do_not_hinder_a_resumed_run(tmp_path):
    """Learning rate, its schedule, the loss's scale and what evaluate returns may all be NumPy's; the history has Python's."""
    def go(steps):
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=np.float64(0.01), weight_decay=np.float32(0.5))
        return train(model, batches, lambda m, b: loss(m, b) * np.float32(2.0), optimizer, steps=steps,
                     schedule=lambda step: np.float64(1 / (1 + step)), evaluate=lambda m: {"score": np.float64(0.5)},
                     evaluate_every=np.int64(2), checkpoint=tmp_path / "run.pt", progress=False)

    go(4)
    assert go(6).evaluations == [(2, {"score": 0.5}), (4, {"score": 0.5}), (6, {"score": 0.5})]
    history = load_checkpoint(tmp_path / "run.pt")["history"]
    assert {type(number) for name in ("losses", "learning_rates", "gradient_norms") for number in history[name]} == {float}


def test_a_rate_that_is_a_tensor_is_recorded_as_a_number_and_comes_back():
    model, _ = make()
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    history = train(model, batches, loss, optimizer, steps=2, schedule=lambda step: 0.5, progress=False)
    assert history.learning_rates == [0.25, 0.25] and optimizer.param_groups[0]["lr"] is rate


def test_what_cannot_be_saved_is_refused_before_work_is_lost(tmp_path):
    evaluate = {"evaluate": lambda model: np.ones(2), "evaluate_every": 1}
    with pytest.raises(ValueError, match="what evaluate returned is a ndarray, which a checkpoint does not hold"):
        run(1000, checkpoint=tmp_path / "run.pt", **evaluate)
    assert len(run(3, **evaluate)[2].evaluations) == 3  # without a checkpoint it may return anything
    with pytest.raises(ValueError, match=r"about\['call'\] is a function"):
        run(1000, checkpoint=tmp_path / "run.pt", about={"call": run})
    for path in (tmp_path / "nowhere" / "run.pt", tmp_path):
        with pytest.raises(ValueError, match="checkpoint must be a file's path in a folder that is there, got "):
            run(1000, checkpoint=path)


@pytest.mark.parametrize("factor", [math.nan, math.inf, -0.1, np.float64("nan")])
def test_a_schedules_factor_that_is_none_is_refused(factor):
    with pytest.raises(ValueError, match=f"schedule must give a finite factor of at least 0, got {float(factor)} at step 2"):
        run(5, schedule=lambda step: factor if step == 2 else 1.0)


def test_a_finished_run_is_loaded_and_not_trained_again(tmp_path):
    model, _, history = run(6, checkpoint=tmp_path / "run.pt")
    again, _, same_history = run(6, seed=5, checkpoint=tmp_path / "run.pt")
    assert same(model, again) and asdict(history) == asdict(same_history)


def test_a_checkpoint_holds_the_evaluation_of_its_step(tmp_path):
    """Broken right after a step that both evaluates and saves, the run must not lose that evaluation."""
    options = dict(evaluate=lambda model: model(torch.ones(1, 4)).item(), evaluate_every=3, checkpoint_every=3)
    run(3, checkpoint=tmp_path / "run.pt", **options)
    _, _, history = run(6, checkpoint=tmp_path / "run.pt", **options)
    assert [step for step, _ in history.evaluations] == [3, 6]


def test_the_bar_of_a_resumed_run_counts_all_steps(tmp_path, capsys):
    run(2, checkpoint=tmp_path / "run.pt")
    model, optimizer = make()
    train(model, batches, loss, optimizer, steps=5, checkpoint=tmp_path / "run.pt")
    assert "5/5" in capsys.readouterr().err


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(poison):
    model, optimizer = make()
    weights = []

    def poisoned(model, batch):
        weights[:] = [p.detach().clone() for p in model.parameters()]
        return loss(model, batch) * (poison if batch is bad else 1.0)

    bad = batches(4)
    with pytest.raises(FloatingPointError, match=rf"the loss is {poison} at step 4, with learning rate 0.01"):
        train(model, lambda step: bad if step == 4 else batches(step), poisoned, optimizer, steps=10, progress=False)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), weights, strict=True))  # the bad step was not taken


def test_a_gradient_that_is_not_finite_is_named_too():
    weight = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(weight.weight)
    with pytest.raises(FloatingPointError, match="the gradient norm is .* at step 0"):  # the root's slope at 0 is infinite
        train(weight, batches, lambda m, _: m.weight.abs().sqrt().sum(), torch.optim.SGD(weight.parameters(), lr=0.1),
              steps=1, progress=False)


def test_a_checkpoint_says_what_the_run_is(tmp_path):
    about = {"data": "noise", "sizes": [4, 8], "seed": 0}
    run(3, checkpoint=tmp_path / "run.pt", about=about)
    assert load_checkpoint(tmp_path / "run.pt")["about"] == about
    run(5, checkpoint=tmp_path / "run.pt")  # a run that says nothing may go on from it
    assert load_checkpoint(tmp_path / "run.pt")["about"] is None


def test_bfloat16_autocast_reaches_the_model():
    seen = []
    model, optimizer = make()
    train(model, batches, lambda m, b: (seen.append(m(b[0]).dtype), loss(m, b))[1], optimizer, steps=1,
          autocast=torch.bfloat16, progress=False)
    assert seen == [torch.bfloat16] and model[0].weight.dtype == torch.float32


def test_progress_bar_goes_to_stderr_with_loss_and_rate(capsys):
    model, optimizer = make()
    train(model, batches, loss, optimizer, steps=3, schedule=constant())
    captured = capsys.readouterr()
    assert captured.out == "" and "3/3" in captured.err and "loss=" in captured.err and "rate=" in captured.err


def test_runs_without_tqdm(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    model, optimizer = make()
    assert len(train(model, batches, loss, optimizer, steps=2).losses) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "argument, value",
    [("steps", 0), ("steps", 2.5), ("accumulate", 0), ("accumulate", 1.5), ("evaluate_every", 0),
     ("checkpoint_every", -1), ("clip_norm", 0.0), ("clip_norm", math.nan),
     ("autocast", torch.float16)],
)
def test_wrong_arguments_are_refused_by_name(argument, value):
    model, optimizer = make()
    options = {"steps": 1, "progress": False, argument: value}
    with pytest.raises(ValueError, match=f"{argument} must be .*, got {value}"):
        train(model, batches, loss, optimizer, **options)


def test_the_parts_that_differ_on_many_processes_are_called_in_their_places(tmp_path):
    """`clip` before each step, `save` when due, `resume` where the file is there: and nothing else does their work."""
    calls = []

    def clip(parameters, limit):
        calls.append(("clip", len(list(parameters)), limit))
        return torch.tensor(2.0)

    def save(path, model, optimizer, generators, history, about):
        calls.append(("save", len(history["steps"])))
        path.touch()

    def resume(path, model, optimizer, generators, steps):
        calls.append(("resume", steps))
        return dict(steps=[0], losses=[1.0], learning_rates=[1.0], gradient_norms=[2.0], evaluations=[])

    parts = dict(clip=clip, save=save, resume=resume, checkpoint=tmp_path / "run.pt", checkpoint_every=1, clip_norm=None)
    assert run(1, **parts)[2].gradient_norms == [2.0]
    run(2, **parts)
    assert calls == [("clip", 4, math.inf), ("save", 1), ("resume", 2), ("clip", 4, math.inf), ("save", 2)]


def test_update_by_itself_asks_for_the_batch_of_its_step_and_no_other():
    model, optimizer = make()
    asked = []
    mean, _ = update(model, lambda step: asked.append(step) or batches(step), loss, optimizer, 3)
    assert asked == [3] and mean > 0
