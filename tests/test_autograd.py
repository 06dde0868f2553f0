"""Reverse mode against torch's own, on drawn expressions, and against finite differences, operation by operation."""

import operator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import tutorlib.autograd
from tests.closeness import assert_same
from tutorlib.autograd import Variable, cross_entropy, log_softmax, sum_to
from tutorlib.models.mlp import MLP

# Every operation as ours and as torch's, a function of one operand of the shape (2, 3, 4). `positive` operands lie above 0.5.
MIDDLE = torch.tensor([2, 0, 2, 1, 2])
OPERATIONS = {
    "neg": (operator.neg, operator.neg),
    "exp": (Variable.exp, torch.exp),
    "tanh": (Variable.tanh, torch.tanh),
    "sigmoid": (Variable.sigmoid, torch.sigmoid),
    "relu": (Variable.relu, torch.relu),
    "log of positive": (Variable.log, torch.log),
    "square": (lambda x: x**2, lambda x: x**2),
    "power 0": (lambda x: x**0, lambda x: x**0),
    "power -1.5 of positive": (lambda x: x**-1.5, lambda x: x**-1.5),
    "number + x": (lambda x: 2 + x, lambda x: 2 + x),
    "number - x": (lambda x: 2 - x, lambda x: 2 - x),
    "x - number": (lambda x: x - 0.5, lambda x: x - 0.5),
    "number * x": (lambda x: -3 * x, lambda x: -3 * x),
    "number / x of positive": (lambda x: 2 / x, lambda x: 2 / x),
    "x / number": (lambda x: x / 3, lambda x: x / 3),
    "x used three times": (lambda x: x * x / (x * x + 1), lambda x: x * x / (x * x + 1)),
    "sum": (lambda x: x.sum(), lambda x: x.sum()),
    "sum over the last": (lambda x: x.sum(-1), lambda x: x.sum(-1)),
    "sum over two, kept": (lambda x: x.sum((0, 2), keepdim=True), lambda x: x.sum((0, 2), keepdim=True)),
    "mean": (lambda x: x.mean(), lambda x: x.mean()),
    "mean over two": (lambda x: x.mean((0, -1)), lambda x: x.mean((0, -1))),
    "mean over one, kept": (lambda x: x.mean(1, keepdim=True), lambda x: x.mean(1, keepdim=True)),
    "max": (lambda x: x.max(), lambda x: x.amax()),
    "max over the last": (lambda x: x.max(-1), lambda x: x.amax(-1)),
    "max over two, kept": (lambda x: x.max((0, 1), keepdim=True), lambda x: x.amax((0, 1), keepdim=True)),
    "reshape": (lambda x: x.reshape(4, -1), lambda x: x.reshape(4, -1)),
    "transpose": (lambda x: x.transpose(), lambda x: x.mT),
    "transpose two others": (lambda x: x.transpose(0, 2), lambda x: x.transpose(0, 2)),
    "index by integers": (lambda x: x[:, MIDDLE], lambda x: x[:, MIDDLE]),
    "index by pairs": (lambda x: x[[0, 1, 0], [2, 2, 2]], lambda x: x[[0, 1, 0], [2, 2, 2]]),
    "slice": (lambda x: x[1, ..., 1:3], lambda x: x[1, ..., 1:3]),
    "log_softmax": (log_softmax, lambda x: x.log_softmax(-1)),
    "product with itself": (lambda x: x @ x.transpose(), lambda x: x @ x.mT),
}


def entries(shape: tuple[int, ...], seed: int, positive: bool = False) -> Tensor:
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.abs() + 0.5 if positive else values


def weights(shape: torch.Size) -> Tensor:
    """A seed for the backward pass in which all entries differ."""
    return entries(shape, seed=7)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_equals_torchs(name):
    ours, theirs = OPERATIONS[name]
    x = Variable(entries((2, 3, 4), 0, "positive" in name))
    given_x = x.value.clone().requires_grad_()
    result, reference = ours(x), theirs(given_x)
    result.backward(weights(result.shape))
    reference.backward(weights(reference.shape))
    assert_same(result.value, reference.detach())
    assert_same(x.grad, given_x.grad)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_passes_the_check_by_finite_differences(name):
    ours, _ = OPERATIONS[name]
    x = Variable(entries((2, 3, 4), 1, "positive" in name))
    result = ours(x)
    result.backward(weights(result.shape))
    step, slopes = 1e-6, torch.empty_like(x.value)
    for place in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        moved = torch.zeros_like(x.value)
        moved[tuple(place)] = step
        above, below = ours(Variable(x.value + moved)).value, ours(Variable(x.value - moved)).value
        slopes[tuple(place)] = ((above - below) * weights(result.shape)).sum() / (2 * step)
    assert (x.grad - slopes).abs().max() < 1e-7 * max(slopes.abs().max().item(), 1)


PAIRS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@pytest.mark.parametrize("kinds", ["variable, variable", "variable, tensor", "tensor, variable"])
@pytest.mark.parametrize("sign", PAIRS)
@pytest.mark.parametrize("left, right", [((3, 4), (3, 4)), ((2, 3, 4), (4,)), ((3, 1), (2, 1, 4)), ((1,), ()), ((), (2, 1))])
def test_two_operands_broadcast(sign, kinds, left, right):
    peers = [entries(left, 0).requires_grad_(), entries(right, 1, positive=True).requires_grad_()]
    ours = [Variable(peer.detach()) if kind == "variable" else peer.detach()
            for kind, peer in zip(kinds.split(", "), peers, strict=True)]
    result, reference = PAIRS[sign](*ours), PAIRS[sign](*peers)
    result.backward(weights(result.shape))
    reference.backward(weights(reference.shape))
    assert_same(result.value, reference.detach())
    for mine, peer in zip(ours, peers, strict=True):
        assert not isinstance(mine, Variable) or torch.allclose(mine.grad, peer.grad, rtol=1e-12)
        assert mine.shape == peer.shape


@pytest.mark.parametrize("kinds", ["variable, variable", "variable, tensor", "tensor, variable"])
@pytest.mark.parametrize("left, right", [((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 1, 2, 3), (6, 3, 4))])
def test_products_of_matrices_broadcast(kinds, left, right):
    peers = [entries(left, 0).requires_grad_(), entries(right, 1).requires_grad_()]
    ours = [Variable(peer.detach()) if kind == "variable" else peer.detach()
            for kind, peer in zip(kinds.split(", "), peers, strict=True)]
    result, reference = ours[0] @ ours[1], peers[0] @ peers[1]
    result.backward(weights(result.shape))
    reference.backward(weights(reference.shape))
    assert_same(result.value, reference.detach())
    for mine, peer in zip(ours, peers, strict=True):
        if isinstance(mine, Variable):
            assert_same(mine.grad, peer.grad)


@pytest.mark.parametrize("shape, broadcast", [((), (2, 3)), ((3,), (2, 3)), ((1, 3), (2, 3)), ((2, 1), (2, 3)),
                                              ((1, 1), (4, 2, 3)), ((2, 3), (2, 3)), ((1,), (1,)), ((0, 1), (0, 5))])
def test_a_broadcast_is_undone(shape, broadcast):
    gradient = entries(broadcast, 0)
    undone = sum_to(gradient, torch.Size(shape))
    assert undone.shape == shape
    assert torch.allclose(undone, gradient.sum_to_size(shape))


# Drawn expressions: a pool of nodes grows by one operation at a time, and all of the pool enters the result.

ONE = ["neg", "exp", "tanh", "sigmoid", "relu", "log", "power", "sum", "mean", "max", "transpose", "reshape", "index",
       "log_softmax"]
TWO = ["+", "-", "*", "/", "@"]


def grow(draw, ours: list[Variable], theirs: list[Tensor]) -> None:
    """Append to both pools the same drawn operation on the same drawn nodes."""
    name, i = draw(st.sampled_from(ONE + TWO)), draw(st.integers(0, len(ours) - 1))
    mine, peer = (by_two(draw, name, ours, theirs, i) if name in TWO
                  else by_one(draw, name, ours[i], theirs[i]))
    peak = peer.detach().abs().max().item()
    if peak > 4:  # keeps a tower of products within reach of float64
        mine, peer = mine / peak, peer / peak
    ours.append(mine)
    theirs.append(peer)


def by_one(draw, name: str, x: Variable, peer: Tensor) -> tuple[Variable, Tensor]:
    if name in ("sum", "mean", "max"):
        dims = tuple(draw(st.sets(st.integers(0, peer.ndim - 1), min_size=1))) if peer.ndim else None
        keepdim = draw(st.booleans()) if dims else False
        reduce = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[name]
        return getattr(x, name)(dims, keepdim), reduce(peer, dims, keepdim) if dims else peer
    if name == "transpose" and peer.ndim > 1:
        a, b = draw(st.integers(-peer.ndim, peer.ndim - 1)), draw(st.integers(-peer.ndim, peer.ndim - 1))
        return x.transpose(a, b), peer.transpose(a, b)
    if name == "reshape":
        shape = draw(st.sampled_from([(-1,), (peer.numel(), 1), tuple(peer.shape[::-1])]))
        return x.reshape(*shape), peer.reshape(shape)
    if name == "index" and peer.ndim:
        index = torch.tensor(draw(st.lists(st.integers(0, len(peer) - 1), min_size=1, max_size=4)))
        return x[index], peer[index]
    if name == "log_softmax" and peer.ndim:
        return log_softmax(x), peer.log_softmax(-1)
    if name in ("log", "power"):  # of a positive operand
        exponent = draw(st.sampled_from([-2, -0.5, 1, 3]))
        positive, peer = x * x + 0.5, peer * peer + 0.5
        return (positive.log(), peer.log()) if name == "log" else (positive**exponent, peer**exponent)
    if name in ("exp", "tanh", "sigmoid", "relu"):
        return getattr(x, name)(), getattr(peer, name)()
    return -x, -peer


def by_two(draw, name: str, ours: list[Variable], theirs: list[Tensor], i: int) -> tuple[Variable, Tensor]:
    if name == "@":
        partners = [j for j, peer in enumerate(theirs) if multiply(theirs[i], peer)]
        j = draw(st.sampled_from(partners)) if partners else None
        if j is None:
            return ours[i] * ours[i], theirs[i] * theirs[i]
        return ours[i] @ ours[j], theirs[i] @ theirs[j]
    j = draw(st.sampled_from([j for j, peer in enumerate(theirs) if broadcast(theirs[i], peer)]))
    sign, constant = PAIRS[name], draw(st.sampled_from(["none", "left", "right"]))
    mine, peers = [ours[i], ours[j]], [theirs[i], theirs[j]]
    if name == "/":
        mine[1], peers[1] = mine[1] * mine[1] + 0.5, peers[1] * peers[1] + 0.5
    if constant != "none":
        place = constant == "right"
        mine[place] = peers[place] = peers[place].detach()
    return sign(*mine), sign(*peers)


def broadcast(a: Tensor, b: Tensor) -> bool:
    return all(n == m or 1 in (n, m) for n, m in zip(a.shape[::-1], b.shape[::-1]))


def multiply(a: Tensor, b: Tensor) -> bool:
    return min(a.ndim, b.ndim) > 1 and a.shape[-1] == b.shape[-2] and broadcast(a[..., 0, 0], b[..., 0, 0])


@given(data=st.data(), base=st.lists(st.integers(1, 4), max_size=3), seed=st.integers(0, 10**6), size=st.integers(1, 12))
def test_drawn_expressions_have_torchs_values_and_gradients(data, base, seed, size):
    leaves = []
    for k in range(3):  # each leaf drops some leading dimensions of the base and has size 1 in some others
        kept = base[data.draw(st.integers(0, len(base))):]
        leaves.append(entries(tuple(1 if data.draw(st.booleans()) else n for n in kept), seed + k).requires_grad_())
    ours, theirs = [Variable(leaf.detach().clone()) for leaf in leaves], list(leaves)
    for _ in range(size):
        grow(data.draw, ours, theirs)
    result = sum((node * weights(node.shape)).sum() for node in ours)
    reference = sum((node * weights(node.shape)).sum() for node in theirs)
    result.backward()
    reference.backward()
    assert_same(result.value, reference.detach())
    for mine, peer in zip(ours, leaves, strict=False):
        assert_same(mine.grad, peer.grad, "gradient")


# What accumulates, and what does not

def test_a_variable_used_twice_gets_both_gradients():
    x = Variable(torch.tensor(3.0))
    (x * x + x).backward()
    assert x.grad.item() == 7


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_single_number_of_any_shape_needs_no_gradient(shape):
    x = Variable(torch.full(shape, 3.0))
    (x * x).backward()
    assert torch.equal(x.grad, torch.full(shape, 6.0))


def test_a_node_is_passed_on_once_when_all_its_users_have_spoken():
    x = Variable(torch.tensor(2.0))
    y = x * 3  # used at two depths: a walk that is not topological passes y on too early
    z = (y.exp().log() + y) * y
    z.backward()
    peer = torch.tensor(2.0, requires_grad=True)
    middle = peer * 3
    ((middle.exp().log() + middle) * middle).backward()
    assert_same(x.grad, peer.grad)
    assert y.grad.item() == pytest.approx(24)


def test_gradients_add_up_over_calls_and_intermediate_ones_are_not_passed_on_again():
    x = Variable(torch.tensor(2.0))
    y = x * x
    y.backward()
    y.backward()
    assert (x.grad.item(), y.grad.item()) == (8, 2)


def test_an_entry_taken_twice_gets_both_gradients():
    table = Variable(torch.zeros(3, 2))
    table[torch.tensor([[1, 1], [0, 1]])].backward(torch.ones(2, 2, 2))
    assert table.grad.tolist() == [[1, 1], [3, 3], [0, 0]]


def test_equal_maxima_share_the_gradient():
    x = Variable(torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]]))
    x.max(1).backward(torch.tensor([1.0, 1.0]))
    assert x.grad.tolist() == [[0, 0.5, 0.5], [1, 0, 0]]


def test_relu_has_slope_zero_at_zero_as_torch_has_it():
    x = Variable(torch.zeros(3))
    x.relu().sum().backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_a_power_of_zero_is_flat_even_at_zero():
    x = Variable(torch.tensor([0.0, 2.0]))
    (x**0).sum().backward()
    assert x.grad.tolist() == [0, 0]


def test_gradients_of_two_variables_do_not_share_memory():
    x, y = Variable(torch.zeros(3)), Variable(torch.zeros(3))
    (x + y).sum().backward()
    x.grad += 1  # an optimizer may well write into a gradient
    assert x.grad.tolist() == [2, 2, 2]
    assert y.grad.tolist() == [1, 1, 1]


def test_a_value_replaced_after_the_forward_pass_leaves_the_gradient():
    x = Variable(torch.tensor([1.0, -2.0]))
    result = x.relu() + (x * x).log() + x * x + x**3 + 1 / x + x.max() + x[[1, 1]]
    x.value = torch.tensor([-5.0, 5.0])
    result.sum().backward()
    peer = torch.tensor([1.0, -2.0], requires_grad=True)
    (peer.relu() + (peer * peer).log() + peer * peer + peer**3 + 1 / peer + peer.amax() + peer[[1, 1]]).sum().backward()
    assert_same(x.grad, peer.grad)


# Depth

def test_a_chain_of_5000_operations():
    x, peer = Variable(entries((3,), 0)), entries((3,), 0).requires_grad_()
    result, reference = x, peer
    for _ in range(2500):
        result, reference = result * 0.9995 + x * 0.001, reference * 0.9995 + peer * 0.001
    result.sum().backward()
    reference.sum().backward()
    assert_same(result.value, reference.detach())
    assert_same(x.grad, peer.grad)


def test_a_graph_with_many_paths_is_walked_once():
    x = Variable(torch.tensor(1.0, dtype=torch.float64))
    result = x
    for _ in range(60):  # 2**60 paths
        result = result + result
    result.backward()
    assert x.grad.item() == 2**60


# The loss, and a network

def test_the_gradient_of_cross_entropy_is_softmax_minus_one_hot():
    scores, labels = Variable(entries((6, 4), 0)), torch.tensor([3, 0, 1, 1, 2, 3])
    loss = cross_entropy(scores, labels)
    loss.backward()
    assert_same(loss.value, F.cross_entropy(scores.value, labels))
    assert_same(scores.grad, (scores.value.softmax(-1) - F.one_hot(labels, 4)) / 6)


def test_large_scores_neither_overflow_nor_lose_their_gradient():
    scores = Variable(torch.tensor([[1000.0, 0.0, -1000.0], [-1000.0, -1000.0, -1001.0]]))
    cross_entropy(scores, torch.tensor([1, 0])).backward()
    assert_same(scores.grad, (scores.value.softmax(-1) - torch.eye(3)[[1, 0]]) / 2)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_a_network_has_the_models_outputs_and_gradients(activation):
    torch.manual_seed(0)
    model = MLP((12, 7, 5, 3), activation=activation).double()
    inputs, labels = entries((8, 12), 0), torch.arange(8) % 3
    parameters = [Variable(p.detach().clone()) for p in model.parameters()]
    states = inputs
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        states = states @ weight.transpose() + bias
        states = getattr(states, activation)() if bias is not parameters[-1] else states
    cross_entropy(states, labels).backward()
    F.cross_entropy(model(inputs), labels).backward()
    assert_same(states.value, model(inputs).detach())
    for mine, peer in zip(parameters, model.parameters(), strict=True):
        assert_same(mine.grad, peer.grad)


# Devices and dtypes

@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_device_and_dtype_follow_the_input(device, dtype):
    if device.type == "mps" and dtype == torch.float64:
        pytest.skip("mps has no float64")
    x = Variable(torch.randn(3, 4).to(device, dtype))
    index = torch.tensor([0, 2, 2], device=device)
    result = (2 - x.max(1, keepdim=True)) * x.sigmoid() / 3 + (1 + x**2).log().mean(0)
    loss = cross_entropy(result[index].relu() @ x.transpose(), index)
    loss.backward()
    for tensor in (result.value, loss.value, x.grad):
        assert (tensor.dtype, tensor.device) == (dtype, x.value.device)
        assert not tensor.requires_grad


def test_nothing_is_made_on_another_device():
    x = Variable(torch.ones(3, 4, device="meta"))  # a device that every machine has; it knows shapes only
    result = (x[[0, 2]].max(1) + 1).sum()
    result.backward()
    assert (result.value.device.type, x.grad.device.type, x.grad.shape) == ("meta", "meta", (3, 4))


# Refusals

X = Variable(torch.ones(2, 3))


@pytest.mark.parametrize("act, message", [
    (lambda: X.backward(), r"gradient must have the shape \(2, 3\) of the value, got None; one number needs none"),
    (lambda: X.sum().backward(torch.ones(2)), r"gradient must have the shape \(\) of the value, got \(2,\)"),
    (lambda: X.backward(torch.ones(3, 2)), r"gradient must have the shape \(2, 3\) of the value, got \(3, 2\)"),
    (lambda: X + torch.ones(2), r"operands must have shapes that broadcast, got \(2, 3\) and \(2,\)"),
    (lambda: X * Variable(torch.ones(3, 3)), r"operands must have shapes that broadcast, got \(2, 3\) and \(3, 3\)"),
    (lambda: torch.ones(2) / X, r"operands must have shapes that broadcast, got \(2, 3\) and \(2,\)"),
    (lambda: X @ X, r"operands of @ must be matrices \(..., n, m\) and \(..., m, k\), got the shapes \(2, 3\) and \(2, 3\)"),
    (lambda: X @ torch.ones(3), r"operands of @ must be matrices .*, got the shapes \(2, 3\) and \(3,\)"),
    (lambda: Variable(torch.ones(2, 1, 3)) @ torch.ones(3, 3, 2), r"broadcast, got \(2, 1, 3\) and \(3, 3, 2\)"),
    (lambda: X + torch.ones(2, 3).double(), "operand must be a number, or torch.float32 on cpu, got torch.float64 on cpu"),
    (lambda: X + torch.ones(2, 3, device="meta"), "number, or torch.float32 on cpu, got torch.float32 on meta"),
    (lambda: X * "3", "operand must be a number, or torch.float32 on cpu, got '3'"),
    (lambda: X**X, "exponent must be a number"),
    (lambda: X * torch.ones(3, requires_grad=True), "value must be a floating-point tensor without requires_grad"),
    (lambda: Variable(torch.ones(2, requires_grad=True)), "value must be a floating-point tensor without requires_grad"),
    (lambda: Variable(torch.arange(3)), r"value must be a floating-point tensor .*, got tensor\(\[0, 1, 2\]\)"),
    (lambda: Variable(3.0), "value must be a floating-point tensor .*, got 3.0"),
    (lambda: cross_entropy(X, torch.tensor([0, 1, 2])), r"scores must be \(B, C\) and labels \(B,\), got \(2, 3\) and \(3,\)"),
    (lambda: cross_entropy(Variable(torch.ones(2, 3, 4)), torch.tensor([0, 1])), r"got \(2, 3, 4\) and \(2,\)"),
    (lambda: cross_entropy(X[0], torch.tensor(1)), r"scores must be \(B, C\) and labels \(B,\), got \(3,\) and \(\)"),
    (lambda: cross_entropy(X, torch.tensor([0, 3])), "labels must be from 0 to 2, got 0 to 3"),
    (lambda: cross_entropy(X, torch.tensor([-1, 2])), "labels must be from 0 to 2, got -1 to 2"),
    (lambda: cross_entropy(X, torch.tensor([True, False])), "labels must be from 0 to 2, got False to True, torch.bool"),
    (lambda: cross_entropy(X, torch.tensor([1, 0]).byte()), "labels must be from 0 to 2, got 0 to 1, torch.uint8"),
    (lambda: cross_entropy(X, torch.tensor([0.0, 1.9])), "labels must be from 0 to 2, got 0.0 to .*, torch.float32"),
    (lambda: cross_entropy(X[:0], torch.tensor([], dtype=torch.int64)), r"scores must be \(B, C\) .*, got \(0, 3\) and \(0,\)"),
])
def test_what_cannot_be_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_the_lesson_stays_short():
    assert len(Path(tutorlib.autograd.__file__).read_text("utf8").splitlines()) < 200
