"""Recurrent layers: the simple RNN (Elman 1990), the LSTM (Hochreiter & Schmidhuber 1997) and the GRU (Cho et al. 2014).

A cell is one step, from an input and a state to the next state. A layer runs cells over a sequence, in one direction or two,
and stacks them. Two faces, one result. The explicit form is the loop over time, `unroll`, with one thing taken out of it: the
product of the inputs with their weights needs no state, so it is done for all times at once. The fused form hands the same
parameters to PyTorch's kernel.

An RNN's and a GRU's state is one tensor, an LSTM's the pair (hidden, memory). Its parts are (B, D) for a cell and
(layers x directions, B, D) for a layer, in torch's order: layer 0 forward, layer 0 backward, layer 1 forward, ...
"""

from collections.abc import Callable
from functools import partial
from operator import itemgetter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

State = Tensor | tuple[Tensor, Tensor]

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}


class Cell(nn.Module):
    """What the cells share: two linear maps, one from the input and one from the state, onto `num_gates` vectors of width D.

    Every parameter starts uniform in ±1/√D, as torch's do. There are two biases because torch has two; only the GRU can tell
    them apart.
    """

    num_gates = 1
    has_memory = False  # True: the state is a pair

    def __init__(self, input_width: int, hidden: int, *, bias: bool = True):
        super().__init__()
        if input_width < 1 or hidden < 1:
            raise ValueError(f"input_width and hidden must be at least 1, got input_width={input_width}, hidden={hidden}")
        self.from_input = nn.Linear(input_width, self.num_gates * hidden, bias=bias)
        self.from_state = nn.Linear(hidden, self.num_gates * hidden, bias=bias)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, inputs: Tensor, state: State | None = None) -> State:
        """inputs (B, C), state (B, D) or a pair of them, zero if not given -> the next state.

        Raises ValueError for shapes that do not fit.
        """
        input_width, hidden = self.from_input.in_features, self.from_state.in_features
        if inputs.dim() != 2 or inputs.size(-1) != input_width:
            raise ValueError(f"inputs must have the shape (B, {input_width}), got {tuple(inputs.shape)}")
        state = _first_state(state, inputs, (inputs.size(0), hidden), "(B, D)", self.has_memory)
        return self.step(self.from_input(inputs), state)

    def step(self, projected: Tensor, state: State) -> State:
        """`forward` for an input that `from_input` has projected already: projected (B, gates x D)."""
        raise NotImplementedError


class RNNCell(Cell):
    """h' = tanh(W_x x + b_x + W_h h + b_h) (Elman 1990), or with a ReLU in place of the tanh."""

    def __init__(self, input_width: int, hidden: int, *, nonlinearity: str = "tanh", bias: bool = True):
        super().__init__(input_width, hidden, bias=bias)
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity must be one of {sorted(NONLINEARITIES)}, got {nonlinearity!r}")
        self.nonlinearity = nonlinearity

    def step(self, projected: Tensor, state: Tensor) -> Tensor:
        """projected (B, D), state (B, D) -> (B, D)."""
        return NONLINEARITIES[self.nonlinearity](projected + self.from_state(state))


class LSTMCell(Cell):
    """A memory c that is only scaled and added to, and gates that decide what enters, what stays and what is shown::

        i, f, g, o = W_x x + b_x + W_h h + b_h, cut in four
        c' = σ(f) c + σ(i) tanh(g)
        h' = σ(o) tanh(c')

    The four lie in torch's order: input gate, forget gate, candidate, output gate. Source: Hochreiter & Schmidhuber 1997, with
    the forget gate of Gers, Schmidhuber & Cummins 2000. `forget_bias` starts the forget gate's bias at that value; at 1 the
    gate begins nearly open, so that memory lasts (Jozefowicz et al. 2015).
    """

    num_gates = 4
    has_memory = True

    def __init__(self, input_width: int, hidden: int, *, bias: bool = True, forget_bias: float | None = None):
        super().__init__(input_width, hidden, bias=bias)
        if forget_bias is None:
            return
        if not bias:
            raise ValueError(f"forget_bias must be None where bias=False, got {forget_bias}")
        with torch.no_grad():
            self.from_input.bias.view(4, hidden)[1] = forget_bias
            self.from_state.bias.view(4, hidden)[1] = 0.0  # the two are added

    def step(self, projected: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """projected (B, 4D), state a pair of (B, D) -> a pair of (B, D)."""
        hidden, memory = state
        i, f, g, o = (projected + self.from_state(hidden)).chunk(4, dim=-1)  # (B, D) each
        memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
        return o.sigmoid() * memory.tanh(), memory


class GRUCell(Cell):
    """A mean of the old state and a candidate, weighted by the update gate z; the reset gate r lets the candidate forget::

        r = σ(W_r x + b_r + U_r h + c_r)
        z = σ(W_z x + b_z + U_z h + c_z)
        n = tanh(W_n x + b_n + r (U_n h + c_n))
        h' = (1 - z) n + z h

    The gates lie in torch's order r, z, n. The reset gate acts behind the product with U_n, as in cuDNN and in the first
    version of Cho et al. 2014 (arXiv 1406.1078v1); the published version (v3) has U_n (r h), the gate before the product.
    """

    num_gates = 3

    def step(self, projected: Tensor, state: Tensor) -> Tensor:
        """projected (B, 3D), state (B, D) -> (B, D)."""
        reset_x, update_x, candidate_x = projected.chunk(3, dim=-1)  # (B, D) each
        reset_h, update_h, candidate_h = self.from_state(state).chunk(3, dim=-1)  # (B, D) each
        reset, update = (reset_x + reset_h).sigmoid(), (update_x + update_h).sigmoid()
        candidate = (candidate_x + reset * candidate_h).tanh()
        return (1 - update) * candidate + update * state


def unroll(cell: Cell, inputs: Tensor, state: State | None = None, real: Tensor | None = None, *,
           backward: bool = False) -> tuple[Tensor, State]:
    """Run a cell over time: inputs (B, T, C), state (B, D) or a pair, zero if not given -> hidden states (B, T, D), last state.

    `real` (B, T) boolean is True at the positions that count: elsewhere a row keeps its state and puts out zero. With
    `backward` time runs from T - 1 to 0, so that a right-padded row starts at its own end.
    """
    state = _first_state(state, inputs, (inputs.size(0), cell.from_state.in_features), "(B, D)", cell.has_memory)
    projected = cell.from_input(inputs).unbind(dim=1)  # T of (B, gates x D), in one product
    times = range(inputs.size(1))
    outputs = []
    for t in reversed(times) if backward else times:
        new = cell.step(projected[t], state)
        state = new if real is None else _each(partial(torch.where, real[:, t, None]), new, state)
        outputs.append(state[0] if cell.has_memory else state)  # (B, D)
    hidden = torch.stack(outputs[::-1] if backward else outputs, dim=1)  # (B, T, D)
    return hidden if real is None else hidden.masked_fill(~real[..., None], 0.0), state


def _each(function: Callable[..., Tensor], *states: State) -> State:
    """The function of the states' tensors: once where a state is a tensor, twice where it is a pair."""
    if isinstance(states[0], Tensor):
        return function(*states)
    return tuple(function(*parts) for parts in zip(*states, strict=True))


def _first_state(state: State | None, inputs: Tensor, shape: tuple[int, ...], letters: str, has_memory: bool) -> State:
    """The state, or zeros like the inputs; raises ValueError where it does not have the shape."""
    if state is None:
        zeros = inputs.new_zeros(shape)
        return (zeros, zeros) if has_memory else zeros
    parts = (state,) if isinstance(state, Tensor) else tuple(state)
    if len(parts) != 1 + has_memory or any(part.shape != shape for part in parts):
        expected = "a pair (hidden, memory) of tensors" if has_memory else "a tensor"
        raise ValueError(f"state must be {expected} of shape {letters} = {shape}, got "
                         f"{' and '.join(str(tuple(part.shape)) for part in parts)}")
    return parts if has_memory else parts[0]


class Recurrent(nn.Module):
    """What the layers share: `cells` in torch's order, run over a sequence in either form.

    `make_cell` takes an input's width; `kernel` is PyTorch's function for these cells. `dropout` is the probability of
    dropping an output of any layer but the last, in training. `fused` may be changed at any time.
    """

    def __init__(self, make_cell: Callable[[int], Cell], kernel: Callable, input_width: int, hidden: int, *,
                 num_layers: int, bidirectional: bool, dropout: float, fused: bool):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.input_width, self.hidden, self.num_layers = input_width, hidden, num_layers
        self.num_directions, self.dropout, self.fused, self.kernel = 2 if bidirectional else 1, dropout, fused, kernel
        widths = [input_width] + [self.num_directions * hidden] * (num_layers - 1)
        self.cells = nn.ModuleList(make_cell(width) for width in widths for _ in range(self.num_directions))

    def forward(self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """inputs (B, T, C) -> outputs (B, T, D), or (B, T, 2D) in two directions, and the state that comes last.

        state: see the module's first lines; zero if not given. lengths (B,): how many positions of each right-padded row are
        real. Outputs behind a row's end are zero, its last state is the one at its end, and its backward direction starts
        there. Raises ValueError for shapes that do not fit and lengths outside [1, T].
        """
        self._check_inputs(inputs, lengths)
        shape = (len(self.cells), inputs.size(0), self.hidden)
        state = _first_state(state, inputs, shape, "(layers x directions, B, D)", self.has_memory)
        if self.fused:
            return self._fused(inputs, state, lengths)
        return self._explicit(inputs, state, lengths)

    def _explicit(self, inputs: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        real, last = None, []
        if lengths is not None:
            real = torch.arange(inputs.size(1), device=inputs.device) < lengths.to(inputs.device)[:, None]  # (B, T)
            inputs = inputs.masked_fill(~real[..., None], 0.0)  # the padding may be anything, even NaN
        for layer in range(self.num_layers):
            if layer > 0:
                inputs = F.dropout(inputs, self.dropout, self.training)
            outputs = []
            for direction in range(self.num_directions):
                place = layer * self.num_directions + direction
                start = _each(itemgetter(place), state)  # (B, D)
                output, end = unroll(self.cells[place], inputs, start, real, backward=direction == 1)
                outputs.append(output)
                last.append(end)
            inputs = torch.cat(outputs, dim=-1)  # (B, T, D) or (B, T, 2D), the next layer's inputs
        return inputs, _each(lambda *parts: torch.stack(parts), *last)  # (layers x directions, B, D)

    def _fused(self, inputs: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        weights = [weight for cell in self.cells for weight in (cell.from_input.weight, cell.from_state.weight,
                                                                cell.from_input.bias, cell.from_state.bias)
                   if weight is not None]
        options = (len(weights) == 4 * len(self.cells), self.num_layers, self.dropout, self.training, self.num_directions == 2)
        if lengths is None or lengths.numel() == 0:  # an empty batch cannot be packed
            outputs, *last = self.kernel(inputs, state, weights, *options, True)  # True: batch first
            return outputs, tuple(last) if self.has_memory else last[0]
        # Packed: the rows sorted by length, and the real positions of each time step one behind the other.
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        state = _each(lambda part: part.index_select(1, packed.sorted_indices), state)
        data, *last = self.kernel(packed.data, packed.batch_sizes, state, weights, *options)
        outputs = PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.size(1))  # (B, T, D) or (B, T, 2D)
        last = [part.index_select(1, packed.unsorted_indices) for part in last]
        return outputs, tuple(last) if self.has_memory else last[0]

    @property
    def has_memory(self) -> bool:
        """Whether the state is a pair, as an LSTM's is."""
        return self.cells[0].has_memory

    def _check_inputs(self, inputs: Tensor, lengths: Tensor | None) -> None:
        if inputs.dim() != 3 or inputs.size(-1) != self.input_width or inputs.size(1) == 0:
            raise ValueError(f"inputs must have the shape (B, T, {self.input_width}) with T at least 1, got "
                             f"{tuple(inputs.shape)}")
        if lengths is None:
            return
        if lengths.shape != inputs.shape[:1] or lengths.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"lengths must be integers of shape (B,) = ({inputs.size(0)},), got {lengths.dtype} "
                             f"{tuple(lengths.shape)}")
        if lengths.numel() and not 1 <= int(lengths.min()) <= int(lengths.max()) <= inputs.size(1):
            raise ValueError(f"lengths must lie in [1, T] = [1, {inputs.size(1)}], got {lengths.tolist()}")


class RNN(Recurrent):
    """Layers of `RNNCell`: what `nn.RNN` is, batch first."""

    def __init__(self, input_width: int, hidden: int, *, nonlinearity: str = "tanh", num_layers: int = 1,
                 bidirectional: bool = False, bias: bool = True, dropout: float = 0.0, fused: bool = True):
        super().__init__(lambda width: RNNCell(width, hidden, nonlinearity=nonlinearity, bias=bias),
                         torch.rnn_relu if nonlinearity == "relu" else torch.rnn_tanh, input_width, hidden,
                         num_layers=num_layers, bidirectional=bidirectional, dropout=dropout, fused=fused)


class LSTM(Recurrent):
    """Layers of `LSTMCell`: what `nn.LSTM` is, batch first."""

    def __init__(self, input_width: int, hidden: int, *, num_layers: int = 1, bidirectional: bool = False, bias: bool = True,
                 dropout: float = 0.0, forget_bias: float | None = None, fused: bool = True):
        super().__init__(lambda width: LSTMCell(width, hidden, bias=bias, forget_bias=forget_bias), torch.lstm,
                         input_width, hidden, num_layers=num_layers, bidirectional=bidirectional, dropout=dropout, fused=fused)


class GRU(Recurrent):
    """Layers of `GRUCell`: what `nn.GRU` is, batch first."""

    def __init__(self, input_width: int, hidden: int, *, num_layers: int = 1, bidirectional: bool = False, bias: bool = True,
                 dropout: float = 0.0, fused: bool = True):
        super().__init__(lambda width: GRUCell(width, hidden, bias=bias), torch.gru, input_width, hidden,
                         num_layers=num_layers, bidirectional=bidirectional, dropout=dropout, fused=fused)
