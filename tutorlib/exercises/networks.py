"""Exercises of the chapter on networks."""
import torch
import torch.nn.functional as F

from tutorlib.autograd import Variable
from tutorlib.exercises.sheet import ExerciseSheet, Wrong

check = ExerciseSheet()


# 1: by hand. x = (2, 1), z = (3, -1), h = (3, 0), y = 6, y_bar = 1, h_bar = (2, 1), z_bar = (2, 0)

# z = (3, -1), h = (3, 0), y = 6, so y_bar = 1, h_bar = (2, 1), z_bar = (2, 0)
GRADIENT_OF_W1 = [[2 * 2.0, 0.0], [1 * 2.0, 0.0]]  # x, which is (2, 1), times z_bar


@check.exercise(1, "By hand", reference=GRADIENT_OF_W1, mistakes=[
    ([[4.0, 2.0], [2.0, 1.0]], "The second neuron is off: a small change of its sum changes nothing."),
    ([[4.0, 2.0], [0.0, 0.0]], "Rows belong to inputs, columns to neurons: this is the transpose."),
    ([[2.0, 0.0], [1.0, 0.0]], "What arrives at the first neuron is y's gradient times its weight in W2, which is 2."),
    ([[2.0, 0.0], [2.0, 0.0]], "Each weight gets what arrives at its neuron times its own input, 2 or 1."),
    ([[-4.0, 0.0], [-2.0, 0.0]], "The loss falls when y falls: y's gradient is y - 5, and y is 6."),
    ([[24.0, 0.0], [12.0, 0.0]], "The loss sends back y - 5, not y."),
    ([[8.0, 0.0], [4.0, 0.0]], "With the half in front, the loss has the slope y - 5, not twice that."),
])
def check_by_hand(answer):
    return torch.as_tensor(answer, dtype=torch.float64)


# 2: a layer's backward pass

def layer_backward(x, w, b, g):
    y = (x @ w + b).sigmoid()  # (B, m)
    g = g * y * (1 - y)  # (B, m), now the gradient of Z
    return g @ w.T, x.T @ g, g.sum(0)  # (B, n), (n, m), (m,)


def without_slope(x, w, b, g):
    return g @ w.T, x.T @ g, g.sum(0)


def slope_of_tanh(x, w, b, g):
    y = (x @ w + b).sigmoid()
    g = g * (1 - y**2)
    return g @ w.T, x.T @ g, g.sum(0)


def slope_at_the_output(x, w, b, g):
    y = (x @ w + b).sigmoid().sigmoid()
    g = g * y * (1 - y)
    return g @ w.T, x.T @ g, g.sum(0)


def slope_from_the_sum(x, w, b, g):
    z = x @ w + b
    g = g * z * (1 - z)
    return g @ w.T, x.T @ g, g.sum(0)


def half_the_slope(x, w, b, g):
    g = g * (x @ w + b).sigmoid()
    return g @ w.T, x.T @ g, g.sum(0)


def without_bias(x, w, b, g):
    y = (x @ w).sigmoid()
    g = g * y * (1 - y)
    return g @ w.T, x.T @ g, g.sum(0)


def averaged(x, w, b, g):
    dx, dw, db = layer_backward(x, w, b, g)
    return dx, dw / len(x), db / len(x)


def bias_averaged(x, w, b, g):
    dx, dw, db = layer_backward(x, w, b, g)
    return dx, dw, db / len(x)


def bias_not_summed(x, w, b, g):
    y = (x @ w + b).sigmoid()
    g = g * y * (1 - y)
    return g @ w.T, x.T @ g, g


def weight_transposed(x, w, b, g):
    dx, dw, db = layer_backward(x, w, b, g)
    return dx, dw.T, db


def in_the_order_of_the_parameters(x, w, b, g):
    dx, dw, db = layer_backward(x, w, b, g)
    return dw, db, dx


@check.exercise(2, "A layer's backward pass", reference=layer_backward, mistakes=[
    (without_slope, "g is the gradient of the output. First take it through the sigmoid, to the gradient of Z."),
    (slope_of_tanh, "That is the slope of tanh. The sigmoid's is y (1 - y)."),
    (slope_at_the_output, "The slope y (1 - y) takes the layer's output y; sigmoid was applied once too often."),
    (slope_from_the_sum, "In y (1 - y) stands the layer's output y = sigmoid(Z), not Z itself."),
    (half_the_slope, "The slope of the sigmoid is y (1 - y); a factor is missing."),
    (without_bias, "Z includes the bias, and the slope depends on Z."),
    (averaged, "Gradients of a batch add up. If the loss is a mean, the 1 / B is in g already."),
    (bias_averaged, "The bias is used in every row, and the gradients of its uses add up; they are not averaged."),
    (bias_not_summed, "The bias is used in every row: its gradient has the shape (m,), a sum over the rows."),
    (weight_transposed, "A gradient has the shape of its variable: (n, m) for W."),
    (in_the_order_of_the_parameters, "The order asked for is X, W, b."),
])
def check_layer(answer):
    x, w, b, g = (torch.randn(shape).double() for shape in ((5, 4), (4, 3), (3,), (5, 3)))
    return answer(x, w, b, g)


# 3: a temperature

def gradient_with_temperature(scores, labels, tau):
    one_hot = F.one_hot(labels, scores.shape[1])  # (B, C)
    error = (scores / tau).softmax(-1) - one_hot  # (B, C), the gradient in s / tau
    return error / tau / len(labels)  # the chain rule's 1 / tau, and the mean


def without_the_chain(scores, labels, tau):
    return ((scores / tau).softmax(-1) - F.one_hot(labels, scores.shape[1])) / len(labels)


def without_the_mean(scores, labels, tau):
    return ((scores / tau).softmax(-1) - F.one_hot(labels, scores.shape[1])) / tau


def temperature_outside_only(scores, labels, tau):
    return (scores.softmax(-1) - F.one_hot(labels, scores.shape[1])) / tau / len(labels)


def temperature_multiplied(scores, labels, tau):
    return tau * (scores * tau).softmax(-1).sub(F.one_hot(labels, scores.shape[1])) / len(labels)


def wrong_sign(scores, labels, tau):
    return -gradient_with_temperature(scores, labels, tau)


def only_the_one_hot_divided(scores, labels, tau):
    return ((scores / tau).softmax(-1) - F.one_hot(labels, scores.shape[1]) / tau) / len(labels)


def over_the_batch(scores, labels, tau):
    return ((scores / tau).softmax(0) - F.one_hot(labels, scores.shape[1])) / tau / len(labels)


@check.exercise(3, "A temperature", reference=gradient_with_temperature, mistakes=[
    (without_the_chain, "Softmax minus one-hot is the gradient in s / tau. The chain rule adds a factor."),
    (without_the_mean, "The loss is a mean over the batch."),
    (lambda s, labels, tau: tau * without_the_chain(s, labels, tau),
     "s / tau has the slope 1 / tau in s, not tau."),
    (temperature_outside_only, "The temperature changes the probabilities too: softmax(s / tau)."),
    (temperature_multiplied, "The scores are divided by tau, not multiplied."),
    (wrong_sign, "Softmax minus one-hot: raising the score of a wrong class raises the loss."),
    (only_the_one_hot_divided, "The chain rule's factor multiplies the whole difference."),
    (over_the_batch, "Softmax runs over the classes, the last dimension."),
])
def check_temperature(answer):
    return answer(torch.randn(5, 3).double(), torch.tensor([2, 0, 1, 1, 0]), 2.5)


# 4: undo a broadcast

def undo(gradient, shape):
    while gradient.dim() > len(shape):
        gradient = gradient.sum(0)  # dimensions that broadcasting added in front
    for d, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(d, keepdim=True)
    return gradient


def only_in_front(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient.sum(0)
    return gradient


def without_keeping(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient.sum(0)
    dims = [d for d, size in enumerate(shape) if size == 1]
    return gradient.sum(dims) if dims else gradient


def over_an_empty_list(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient.sum(0)
    return gradient.sum([d for d, size in enumerate(shape) if size == 1], keepdim=True)


def from_the_back(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient.sum(-1)
    for d, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(d, keepdim=True)
    return gradient


def by_mean(gradient, shape):
    undone = undo(gradient, shape)
    return undone * (undone.numel() / gradient.numel())


def by_first_entry(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient[0]
    for d, size in enumerate(shape):
        gradient = gradient.narrow(d, 0, size)
    return gradient


@check.exercise(4, "Undo a broadcast", reference=undo, mistakes=[
    (only_in_front, "Broadcasting also stretches dimensions of size 1; those are summed too, and keep their size 1."),
    (without_keeping, "A dimension of size 1 must still be there after the sum: keepdim=True."),
    (over_an_empty_list, "Where no dimension has the size 1, nothing is left to sum; but sum([]) sums all of them."),
    (from_the_back, "Shapes are aligned at the right: the dimensions that were added stand in front."),
    (by_mean, "The gradients of the copies add up; they are not averaged."),
    (by_first_entry, "Each copy has a gradient of its own, and they add up. Keeping the first loses the rest."),
])
def check_undo(answer):
    shapes = [(3, 1), (4,), (3, 4), (), (1, 1, 1), (2, 1, 4), (2, 3, 4)]
    gradient = torch.randn(2, 3, 4).double()
    return [answer(gradient.clone(), shape) for shape in shapes]


# 5: a new operation

def softplus_of(z):
    slope = z.value.sigmoid()  # e^z / (1 + e^z)
    return Variable(F.softplus(z.value), (z, lambda g: g * slope))


def slope_without_g(z):
    slope = z.value.sigmoid()
    return Variable(F.softplus(z.value), (z, lambda g: slope))


def slope_added(z):
    slope = z.value.sigmoid()
    return Variable(F.softplus(z.value), (z, lambda g: g + slope))


def slope_of_the_sigmoid(z):
    y = z.value.sigmoid()
    return Variable(F.softplus(z.value), (z, lambda g: g * y * (1 - y)))


def slope_of_relu(z):
    return Variable(F.softplus(z.value), (z, lambda g: g * (z.value > 0)))


def slope_mirrored(z):
    slope = (-z.value).sigmoid()
    return Variable(F.softplus(z.value), (z, lambda g: g * slope))


def without_parent(z):
    return Variable(F.softplus(z.value))


@check.exercise(5, "A new operation", reference=softplus_of, mistakes=[
    (slope_without_g, "The pull multiplies the slope by what arrives, g."),
    (slope_added, "The pull multiplies what arrives by the slope; it does not add them."),
    (slope_of_the_sigmoid, "That is the second derivative. The first one is the sigmoid itself."),
    (slope_of_relu, "Softplus is a smooth relu: its slope is smooth too."),
    (slope_mirrored, "The slope rises from 0 to 1 as z grows; yours falls."),
    (without_parent, "The result has no parent, so nothing flows back to z."),
])
def check_softplus(answer):
    z = Variable(torch.linspace(-3, 3, 7).double())
    result = answer(z)
    if not isinstance(result, Variable):
        raise Wrong("Return a Variable: Variable(value, (parent, pull)).")
    result.backward(torch.linspace(1, 2, 7).double())
    return [result.value, torch.zeros(7).double() if z.grad is None else z.grad]


# 6: the gain of a leaky relu

def gain_of_leaky_relu(a):
    return 2 / (1 + a**2)  # the mean squared slope is (1 + a^2) / 2


@check.exercise(6, "The gain of a leaky relu", reference=gain_of_leaky_relu, mistakes=[
    (lambda a: 2.0, "That is the gain of relu. The slope a lets some of the gradient through."),
    (lambda a: 2 / (1 + a), "The slopes enter squared: variances multiply by squares."),
    (lambda a: 1 / (1 + a**2), "The mean of the squared slopes is a mean: half of the sums have slope 1, half a."),
    (lambda a: (1 + a**2) / 2, "The gain must undo the mean squared slope, so it is the inverse."),
    (lambda a: (2 / (1 + a)) ** 2, "Take the mean of the squares, not the square of the mean."),
    (lambda a: (2 / (1 + a**2)) ** 0.5, "v is a variance: the factor r is one when v times the mean squared slope is one."),
])
def check_gain(answer):
    return [answer(a) for a in (0.0, 0.01, 0.3, 0.5, 1.0)]
