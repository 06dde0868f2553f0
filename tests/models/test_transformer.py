"""The encoder-decoder model: what it may see, what padding may change, what it refuses, and that it learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.closeness import assert_same
from tutorlib.layers import MultiHeadAttention
from tutorlib.models import Transformer, TransformerConfig

SIZES = dict(source_vocabulary=11, target_vocabulary=13, width=16, num_heads=4, num_encoder_layers=2, num_decoder_layers=2,
             hidden=24, max_length=20, dropout=0.0)


def model(seed=0, **options):
    torch.manual_seed(seed)
    return Transformer(TransformerConfig(**(SIZES | options)))


def tokens(rows, length, vocabulary=11, seed=1):
    return torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))


OPTIONS = [dict(norm_first=False), dict(norm_first=True), dict(position="learned"), dict(position="none"),
           dict(activation="gelu"), dict(tie_output=False)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_target_sees_its_future_and_all_see_the_source(options):
    ours, source, target = model(**options), tokens(2, 5), tokens(2, 6)
    before = ours(source, target)
    assert before.shape == (2, 6, 13)
    for place in range(6):
        edited = target.clone()
        edited[:, place] = (edited[:, place] + 1) % 11
        change = (ours(source, edited) - before).abs().amax(dim=(0, 2))  # (T,)
        assert (change[:place] == 0).all() and (change[place:] > 1e-5).all()
    edited = source.clone()
    edited[:, -1] = (edited[:, -1] + 1) % 11
    assert ((ours(edited, target) - before).abs().amax(dim=-1) > 1e-5).all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_padding_the_source_changes_nothing(options):
    ours, source, target = model(**options), tokens(2, 5), tokens(2, 6)
    padded = torch.cat([source, tokens(2, 3, seed=7)], dim=1)
    real = torch.arange(8).expand(2, 8) < 5
    assert_same(ours(padded, target, real), ours(source, target))
    assert (ours(padded, target) - ours(source, target)).abs().max() > 1e-3


def test_position_is_what_orders_the_source():
    """Without it a permuted source is the same source."""
    source, target = tokens(1, 6), tokens(1, 4)
    order = torch.tensor([5, 3, 0, 4, 1, 2])
    blind, sighted = model(position="none"), model()
    assert_same(blind(source[:, order], target), blind(source, target))
    assert (sighted(source[:, order], target) - sighted(source, target)).abs().max() > 1e-3


def test_the_paper_s_base_model_by_formula():
    """65 million parameters in table 3 of Vaswani et al. 2017; here by formula, with its vocabulary of 37,000."""
    config = TransformerConfig(37000, 37000)
    with torch.device("meta"):
        ours = Transformer(config)
    d, f, n = config.width, config.hidden, config.num_encoder_layers
    attention, feed_forward, norm = 4 * (d * d + d), 2 * d * f + f + d, 2 * d
    layers = n * (attention + feed_forward + 2 * norm) + n * (2 * attention + feed_forward + 3 * norm)
    assert sum(p.numel() for p in ours.parameters()) == layers + 2 * 37000 * d


def test_the_defaults_are_the_paper_s_base_model():
    """Table 3, with the dropout of 0.1; the position is the sinusoidal one and the output is tied (sections 3.4 and 3.5)."""
    config = TransformerConfig(1, 1)
    assert (config.num_heads, config.dropout, config.activation, config.norm_first) == (8, 0.1, "relu", False)
    assert (config.position, config.tie_output, config.max_length) == ("sinusoidal", True, 512)


def test_dropout_reaches_every_part():
    ours = model(dropout=0.25)
    dropped = [part.p for part in ours.modules() if isinstance(part, nn.Dropout)]
    dropped += [part.dropout for part in ours.modules() if isinstance(part, MultiHeadAttention)]
    assert set(dropped) == {0.25} and len(dropped) == 1 + 2 * 3 + 2 * 4


def test_the_embedded_tokens_are_dropped():
    ours, states = model(), []
    ours.dropout.p = 1.0
    for stack in (ours.layers.encoder, ours.layers.decoder):
        stack.register_forward_pre_hook(lambda stack, arguments: states.append(arguments[0]))
    ours(tokens(2, 5), tokens(2, 6))
    assert [tuple(x.shape) for x in states] == [(2, 5, 16), (2, 6, 16)] and all((x == 0).all() for x in states)


def test_source_and_target_learn_positions_of_their_own():
    ours = model(position="learned")
    assert ours.source_position.table is not ours.target_position.table


def test_matrices_start_with_xavier_and_biases_at_zero():
    ours = model(width=64, hidden=96, tie_output=False, target_vocabulary=40)
    for module in ours.modules():
        if isinstance(module, nn.Linear):
            bound = math.sqrt(6 / sum(module.weight.shape))  # of the uniform distribution
            assert 0.97 * bound < module.weight.abs().max().item() <= bound
            assert module.bias is None or (module.bias == 0).all()


def test_the_longest_sequence_fits_and_the_cache_counts():
    ours = model(position="none").eval()
    assert ours(tokens(1, 20), tokens(1, 20)).shape == (1, 20, 13)
    conditioned = ours.condition(tokens(1, 5))
    cache = conditioned.new_cache(21)
    conditioned(tokens(1, 15), cache=cache)
    with pytest.raises(ValueError, match="target reaches 21 tokens, but max_length is 20"):
        conditioned(tokens(1, 6), cache=cache)


def test_tokens_may_be_int32_and_none():
    ours, source, target = model(), tokens(2, 5), tokens(2, 6)
    assert torch.equal(ours(source.int(), target.int()), ours(source, target))
    assert ours(source, target[:, :0]).shape == (2, 0, 13)


def test_the_output_is_the_target_embedding_when_tied():
    tied, free = model(), model(tie_output=False)
    assert tied.output.weight is tied.target_embedding.weight
    assert free.output.weight is not free.target_embedding.weight
    hidden = torch.randn(1, 1, 16)
    assert_same(tied.output(hidden), hidden @ tied.target_embedding.weight.T)


def test_embeddings_enter_with_variance_one():
    ours = model(width=256, num_heads=4, source_vocabulary=1000, position="none")
    states = []
    ours.layers.encoder.layers[0].register_forward_pre_hook(lambda layer, arguments: states.append(arguments[0]))
    ours.encode(torch.arange(1000)[:, None])
    assert states[0].std().item() == pytest.approx(1.0, abs=0.02)


def test_the_cached_decoder_is_the_decoder(device):
    ours, source, target = model(norm_first=True).to(device).eval(), tokens(2, 5).to(device), tokens(2, 6).to(device)
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2], device=device)
    conditioned = ours.condition(source, real)
    with torch.inference_mode():
        cache = conditioned.new_cache(6)
        pieces = [conditioned(piece, cache=cache) for piece in target.split([2, 1, 3], dim=1)]
        assert_same(torch.cat(pieces, dim=1), ours(source, target, real))
        assert_same(conditioned(target), ours(source, target, real))


def test_a_conditioned_model_takes_several_rows_a_source():
    ours, source, target = model().eval(), tokens(2, 5), tokens(6, 4)
    output = ours.condition(source)(target)
    assert_same(output, ours(source.repeat_interleave(3, dim=0), target))
    with pytest.raises(ValueError, match="tokens must have a multiple of the source's 2 rows, got 3"):
        ours.condition(source)(target[:3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_follows_device_and_dtype(device, dtype):
    ours = model().to(device, dtype)
    logits = ours(tokens(2, 5).to(device), tokens(2, 4).to(device))
    assert logits.device.type == device.type and logits.dtype == dtype
    torch.testing.assert_close(logits.float().cpu(), model()(tokens(2, 5), tokens(2, 4)), atol=0.15, rtol=0.05)


@pytest.mark.parametrize("norm_first", [False, True])
def test_it_overfits_one_batch(norm_first):
    ours = model(norm_first=norm_first, width=32)
    source, target = tokens(8, 6), tokens(8, 7, 13, seed=3)
    optimizer = torch.optim.Adam(ours.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = F.cross_entropy(ours(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 < math.log(13)


@pytest.mark.parametrize("source, target, message", [
    (torch.tensor([[0, 11]]), torch.tensor([[0]]), r"source must lie in \[0, 11\), the vocabulary, got values from 0 to 11"),
    (torch.tensor([[0, -1]]), torch.tensor([[0]]), r"source must lie in \[0, 11\), the vocabulary, got values from -1 to 0"),
    (torch.tensor([[0]]), torch.tensor([[13]]), r"target must lie in \[0, 13\)"),
    (torch.tensor([0, 1]), torch.tensor([[0]]), r"source must be integer tokens .*, got torch.int64 \(2,\)"),
    (torch.tensor([[0]]), torch.tensor([[0.5]]), r"target must be integer tokens .*, got torch.float32 \(1, 1\)"),
    (torch.zeros(1, 21, dtype=torch.int64), torch.tensor([[0]]), "source reaches 21 tokens, but max_length is 20"),
    (torch.tensor([[0]]), torch.zeros(1, 21, dtype=torch.int64), "target reaches 21 tokens, but max_length is 20")])
def test_tokens_that_do_not_fit(source, target, message):
    with pytest.raises(ValueError, match=message):
        model()(source, target)


@pytest.mark.parametrize("options, message", [
    (dict(width=18), "width must be a positive multiple of num_heads, got width=18, num_heads=4"),
    (dict(position="rotary"), "position must be 'sinusoidal', 'learned' or 'none', got 'rotary'"),
    (dict(activation="swish"), r"activation must be one of \['gelu', .*'relu', .*\], got 'swish'")])
def test_configs_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        model(**options)


def test_a_source_mask_that_does_not_fit():
    with pytest.raises(ValueError, match=r"padding_mask must be boolean of shape \(B, S\) = \(2, 5\)"):
        model()(tokens(2, 5), tokens(2, 4), torch.ones(2, 4, dtype=torch.bool))


@pytest.mark.parametrize("size", ["source_vocabulary", "target_vocabulary", "width", "num_heads", "num_encoder_layers",
                                  "num_decoder_layers", "hidden", "max_length"])
@pytest.mark.parametrize("value", [0, -1, 2.0])
def test_sizes_are_whole_and_positive(size, value):
    with pytest.raises(ValueError, match=f"{size} must be .*{value}"):
        model(**{size: value})


def test_the_last_logits_alone_are_the_last_of_all():
    ours, source, target = model(), tokens(2, 5), tokens(2, 6)
    conditioned = ours.condition(source)
    assert_same(conditioned(target, last_only=True), ours(source, target)[:, -1:])
    assert_same(conditioned(target, conditioned.new_cache(6), last_only=True), ours(source, target)[:, -1:])
