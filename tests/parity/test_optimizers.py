"""SGD, Adam and AdamW against `torch.optim`, step for step, on drawn least-squares problems."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.closeness import assert_same
from tutorlib.training import load_checkpoint, save_checkpoint
from tutorlib.training.optimizers import SGD, Adam, AdamW

PEERS = {SGD: torch.optim.SGD, Adam: torch.optim.Adam, AdamW: torch.optim.AdamW}
DTYPES = st.sampled_from([torch.float32, torch.float64])
DECAYS = st.sampled_from([0.0, 0.01, 0.5])
SHAPES = [(), (1,), (7,), (3, 4), (2, 3, 1, 2)]


def parameters(seed: int, dtype: torch.dtype, device: str = "cpu") -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(device, dtype)) for shape in SHAPES]


def loss(own: list[nn.Parameter], step: int, seed: int, used: list[bool]) -> Tensor:
    """Squared distance, scaled by the step, to targets that change with it; a parameter that is not used gets no gradient."""
    generator = torch.Generator().manual_seed(1000 * seed + step)
    targets = [torch.randn(shape, generator=generator).to(own[0]) for shape in SHAPES]
    return sum((step + 1) * (parameter - target).square().sum()
               for parameter, target, is_used in zip(own, targets, used, strict=True) if is_used)


def step_both(optimizers: tuple, models: tuple, step: int, seed: int, used: list[bool]) -> None:
    for optimizer, own in zip(optimizers, models, strict=True):
        optimizer.zero_grad()
        loss(own, step, seed, used).backward()
        optimizer.step()
    for ours, theirs in zip(*models, strict=True):
        assert_same(ours, theirs, f"parameter {tuple(ours.shape)} after step {step}")


def compare(method: type, options: dict, seed: int, dtype: torch.dtype, used: list[bool], device: str = "cpu") -> None:
    """Two groups, the second with a learning rate of its own; the first step trains `used`, the later ones all."""
    models = parameters(seed, dtype, device), parameters(seed, dtype, device)
    ours, theirs = (make([{"params": own[:2]}, {"params": own[2:], "lr": 3 * options["lr"]}], **options)
                    for make, own in zip((method, PEERS[method]), models, strict=True))
    for step in range(6):
        step_both((ours, theirs), models, step, seed, used if step == 0 else [True] * len(used))


USED = st.lists(st.booleans(), min_size=len(SHAPES), max_size=len(SHAPES)).filter(any)


@given(seed=st.integers(0, 10**6), dtype=DTYPES, used=USED, rate=st.sampled_from([1e-4, 0.01]), weight_decay=DECAYS,
       momentum=st.sampled_from([(0.0, False), (0.5, False), (0.9, False), (0.5, True), (0.9, True)]))
def test_sgd(seed, dtype, used, rate, weight_decay, momentum):
    options = {"lr": rate, "momentum": momentum[0], "nesterov": momentum[1], "weight_decay": weight_decay}
    compare(SGD, options, seed, dtype, used)


@pytest.mark.parametrize("method", [Adam, AdamW])
@given(seed=st.integers(0, 10**6), dtype=DTYPES, used=USED, rate=st.sampled_from([1e-3, 0.1]), weight_decay=DECAYS,
       betas=st.sampled_from([(0.9, 0.999), (0.0, 0.0), (0.5, 0.9), (0.9, 0.0)]), eps=st.sampled_from([1e-8, 1e-3, 1.0]))
def test_adam(method, seed, dtype, used, rate, weight_decay, betas, eps):
    compare(method, {"lr": rate, "betas": betas, "eps": eps, "weight_decay": weight_decay}, seed, dtype, used)


@pytest.mark.parametrize("method", PEERS)
def test_defaults_are_those_of_torch(method):
    own = parameters(0, torch.float32)
    ours, theirs = method(own).defaults, PEERS[method](own).defaults
    assert {name: theirs[name] for name in ours} == ours


@pytest.mark.parametrize("method", PEERS)
def test_on_every_device(method, device):
    compare(method, {"lr": 0.01, "weight_decay": 0.1}, 0, torch.float32, [True] * len(SHAPES), device)


@pytest.mark.parametrize("method", PEERS)
@pytest.mark.parametrize("first", ["ours", "torch's"])
def test_state_through_a_file(method, first, tmp_path):
    """Three steps with ours or torch's, the state through a file to a fresh one of ours, three steps more: as six unbroken."""
    options = {"lr": 0.01, "weight_decay": 0.1} | ({"momentum": 0.9} if method is SGD else {})
    used = [True] * len(SHAPES)
    models = parameters(0, torch.float64), parameters(0, torch.float64)
    reference = PEERS[method](models[1], **options)
    changing = (method if first == "ours" else PEERS[method])(models[0], **options)
    for step in range(6):
        if step == 3:
            save_checkpoint(tmp_path / "state", optimizer=changing.state_dict())
            changing = method(models[0], lr=123.0)  # the options come from the state, too
            changing.load_state_dict(load_checkpoint(tmp_path / "state")["optimizer"])
        step_both((changing, reference), models, step, 0, used)


@pytest.mark.parametrize("theirs, options, ours, message", [
    (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}, SGD, "dampening = 0.5 has no effect in this SGD; expected 0"),
    (torch.optim.SGD, {"maximize": True}, SGD, "maximize = True has no effect in this SGD; expected False"),
    (torch.optim.Adam, {"amsgrad": True}, Adam, "amsgrad = True has no effect in this Adam; expected False"),
    (torch.optim.AdamW, {"maximize": True}, AdamW, "maximize = True has no effect in this AdamW; expected False"),
    (torch.optim.Adam, {}, AdamW, "decoupled_weight_decay = False has no effect in this AdamW; expected True"),
    (torch.optim.AdamW, {}, Adam, "decoupled_weight_decay = True has no effect in this Adam; expected False"),
    (torch.optim.SGD, {}, Adam, "state_dict has no betas; expected that of Adam"),
    (torch.optim.Adam, {}, SGD, "state_dict has no momentum; expected that of SGD"),
    (torch.optim.NAdam, {}, Adam, "decoupled_weight_decay|momentum_decay = 0.004 has no effect in this Adam"),
])
def test_what_a_state_asks_for_and_ours_does_not_do_is_refused(theirs, options, ours, message):
    """By name, and the optimizer is then as it was."""
    optimizer = ours(parameters(0, torch.float64), lr=0.5)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(theirs(parameters(0, torch.float64), **options).state_dict())
    assert optimizer.state_dict() == before


def test_how_torch_computes_a_step_is_no_matter_and_a_rate_that_is_a_tensor_becomes_a_number():
    state = torch.optim.AdamW(parameters(0, torch.float32), lr=torch.tensor(0.5), foreach=False, capturable=True).state_dict()
    optimizer = AdamW(parameters(0, torch.float32))
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.5 and type(optimizer.param_groups[0]["lr"]) is float
    state["param_groups"][0]["lr"] = float("nan")
    with pytest.raises(ValueError, match="lr must be a finite number of at least 0, got nan"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.5
