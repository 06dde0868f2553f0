"""The recurrent classifier: what its summary is, what padding may change, what it refuses, and that it learns."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.closeness import assert_same
from tutorlib.data.vowels import load_vowels
from tutorlib.layers.recurrent import GRU, LSTM, RNN
from tutorlib.models.recurrent import RecurrentClassifier

OPTIONS = [dict(cell="rnn"), dict(cell="lstm"), dict(cell="gru"), dict(bidirectional=True, num_layers=2),
           dict(vocabulary=11), dict(vocabulary=11, cell="rnn", fused=False)]
LENGTHS = torch.tensor([3, 6, 1, 5])


def model(seed=0, **options):
    torch.manual_seed(seed)
    return RecurrentClassifier(3, 5, 4, **options)


def sequences(ours, seed=1):
    generator = torch.Generator().manual_seed(seed)
    if ours.embedding is None:
        return torch.randn(4, 6, 3, generator=generator)
    return torch.randint(11, (4, 6), generator=generator)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_padding_changes_nothing(options):
    ours = model(**options)
    inputs = sequences(ours)
    logits = ours(inputs, LENGTHS)
    assert logits.shape == (4, 4)
    for row, length in enumerate(LENGTHS.tolist()):
        assert_same(logits[row], ours(inputs[row:row + 1, :length])[0])
    padding = torch.arange(6) >= LENGTHS[:, None]  # (B, T)
    other = torch.where(padding if ours.embedding is not None else padding[..., None], sequences(ours, seed=2), inputs)
    assert not torch.equal(other, inputs)
    assert_same(ours(other, LENGTHS), logits)
    assert (ours(inputs) - logits).abs().max() > 1e-3


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_real_position_counts(options):
    ours = model(**options)
    inputs = sequences(ours)
    for place in range(6):
        edited = inputs.clone()
        edited[:, place] = (edited[:, place] + 1) % 11
        assert ((ours(edited) - ours(inputs)).abs().amax(dim=-1) > 1e-6).all()


@pytest.mark.parametrize("cell, kind", [("rnn", RNN), ("lstm", LSTM), ("gru", GRU)])
def test_the_summary_is_what_it_says(cell, kind):
    """The forward half of the outputs at the end, the backward half at the beginning."""
    for bidirectional in (False, True):
        options = dict(cell=cell, bidirectional=bidirectional, num_layers=2)
        last = model(**options)
        assert type(last.layers) is kind
        inputs = sequences(last)
        outputs, _ = last.layers(inputs)
        ends = torch.cat([outputs[:, -1, :5], outputs[:, 0, 5:]], dim=-1)  # (B, D) or (B, 2D)
        assert_same(last(inputs), last.output(ends))


def test_tokens_are_embedded():
    ours = model(vocabulary=11)
    vectors = model()
    vectors.load_state_dict({name: weight for name, weight in ours.state_dict().items() if name != "embedding.weight"})
    tokens = sequences(ours)
    assert ours.embedding.weight.shape == (11, 3)
    assert_same(ours(tokens, LENGTHS), vectors(ours.embedding(tokens), LENGTHS))
    ours(torch.arange(11)[None]).sum().backward()
    assert (ours.embedding.weight.grad.abs().sum(dim=1) > 0).all()  # token 0 is one like the others, and learns


def test_options_reach_the_layer():
    ours = model(num_layers=2, dropout=0.25, bidirectional=True, bias=False, fused=False)
    assert (ours.layers.num_layers, ours.layers.num_directions, ours.layers.dropout, ours.layers.fused) == (2, 2, 0.25, False)
    assert not [name for name, _ in ours.layers.named_parameters() if name.endswith("bias")]
    assert model(cell="rnn", nonlinearity="relu").layers.cells[0].nonlinearity == "relu"
    assert (model(forget_bias=2.0).layers.cells[0].from_input.bias[5:10] == 2).all()
    with pytest.raises(TypeError, match="forget_bias"):
        model(cell="gru", forget_bias=1.0)


def test_the_summary_is_dropped_in_training_only():
    ours = model(dropout=0.3)
    assert ours.dropout.p == 0.3
    ours.dropout.p = 1.0
    inputs = sequences(ours)
    assert torch.equal(ours(inputs), ours.output.bias.expand(4, 4))
    assert (ours.eval()(inputs) - ours.output.bias).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_follows_device_and_dtype(device, dtype):
    ours, reference = model().to(device, dtype), model()
    inputs = sequences(reference)
    logits = ours(inputs.to(device, dtype), LENGTHS.to(device))
    assert logits.device.type == device.type and logits.dtype == dtype
    torch.testing.assert_close(logits.float().cpu(), reference(inputs, LENGTHS), atol=2e-2, rtol=0)


@pytest.mark.parametrize("options", [dict(cell="rnn"), dict(cell="lstm"), dict(cell="gru"),
                                     dict(vocabulary=11, bidirectional=True)], ids=str)
def test_it_overfits_one_batch(options):
    torch.manual_seed(0)
    ours = RecurrentClassifier(3, 24, 4, **options)
    inputs, labels = sequences(ours), torch.tensor([2, 0, 3, 1])
    optimizer = torch.optim.Adam(ours.parameters(), lr=2e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss = F.cross_entropy(ours(inputs, LENGTHS), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 < math.log(4)


def test_it_tells_speakers_apart():
    """Held-out utterances: better than the nearest of the speakers' mean vectors, which is right for 0.911 of them."""
    torch.manual_seed(0)
    train, test = load_vowels()
    ours = RecurrentClassifier(12, 32, 9, cell="gru")
    optimizer = torch.optim.Adam(ours.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(ours(train.inputs, train.lengths), train.labels).backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = (ours(test.inputs, test.lengths).argmax(dim=1) == test.labels).float().mean().item()
    assert accuracy > 0.92


@pytest.mark.parametrize("options, message", [
    (dict(cell="elman"), r"cell must be one of \['gru', 'lstm', 'rnn'\], got 'elman'")])
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        model(**options)


@pytest.mark.parametrize("options, inputs, lengths, message", [
    (dict(), torch.zeros(4, 6, 2), None, r"inputs must have the shape \(B, T, 3\) .*, got \(4, 6, 2\)"),
    (dict(), torch.zeros(4, 6, 3), LENGTHS + 1, r"lengths must lie in \[1, T\] = \[1, 6\], got \[4, 7, 2, 6\]"),
    (dict(vocabulary=5), torch.tensor([[1, 5]]), None, r"inputs must lie in \[0, 5\), the vocabulary, got values from 1 to 5"),
    (dict(vocabulary=5), torch.zeros(4, 6, 3), None, r"inputs must be integer tokens .*, got torch.float32 \(4, 6, 3\)")])
def test_calls_that_do_not_fit(options, inputs, lengths, message):
    with pytest.raises(ValueError, match=message):
        model(**options)(inputs, lengths)
