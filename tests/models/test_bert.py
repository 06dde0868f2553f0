"""BERT and its heads: what they see, what padding may change (nothing), and what they refuse."""

from dataclasses import replace

import pytest
import torch

from tests.closeness import assert_same
from tests.models.examples import BERT_SIZES, shaken
from tutorlib.models import (
    BERT,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)

BERTS = {
    "states": lambda: BERT(BERT_SIZES),
    "masked": lambda: BERTForMaskedLM(BERT_SIZES),
    "sequence": lambda: BERTForSequenceClassification(BERT_SIZES, 4),
    "tokens": lambda: BERTForTokenClassification(BERT_SIZES, 3),
    "answers": lambda: BERTForQuestionAnswering(BERT_SIZES),
}
SHAPES = {"states": (2, 7, 16), "masked": (2, 7, 23), "sequence": (2, 4), "tokens": (2, 7, 3), "answers": (2, 7)}


@pytest.mark.parametrize("name", BERTS)
def test_padding_changes_nothing_for_real_tokens(name, device):
    torch.manual_seed(0)
    model = shaken(BERTS[name]()).to(device)
    tokens = torch.randint(23, (2, 7), device=device)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3], device=device)
    padded = torch.where(mask == 1, tokens, 5)

    def outputs(*inputs):
        output = model(*inputs)
        return output if isinstance(output, tuple) else (output,)

    for one, other, alone in zip(outputs(tokens, mask), outputs(padded, mask), outputs(tokens[1:, :4]), strict=True):
        assert one.shape == SHAPES[name]
        assert_same(other[0], one[0])
        short = (other[1], one[1]) if name == "sequence" else (other[1, :4], one[1, :4])
        assert_same(*short)
        assert_same(short[0], alone[0])
    assert (outputs(tokens)[0][1] - outputs(tokens, mask)[0][1]).abs().max() > 1e-3  # the mask does something


def test_bert_sees_in_both_directions_and_tells_types_apart():
    torch.manual_seed(0)
    model, tokens = shaken(BERT(BERT_SIZES)), torch.randint(23, (1, 7))
    changed = tokens.clone()
    changed[0, 6] = (changed[0, 6] + 1) % 23
    assert ((model(changed) - model(tokens)).abs().amax(dim=(0, 2)) > 1e-4).all()
    types = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    assert_same(model(tokens, None, torch.zeros_like(types)), model(tokens))
    assert (model(tokens, None, types) - model(tokens)).abs().max() > 1e-3


def test_bert_predicts_at_chosen_positions_what_it_predicts_everywhere():
    torch.manual_seed(0)
    model, tokens = shaken(BERTForMaskedLM(BERT_SIZES)), torch.randint(23, (2, 7))
    masked = torch.rand(2, 7) < 0.4
    assert_same(model.predict(model.bert(tokens)[masked]), model(tokens)[masked])
    assert model.output.weight is model.bert.embedding.weight
    assert BERTForMaskedLM(replace(BERT_SIZES, tie_output=False)).output.weight is not model.output.weight


@pytest.mark.parametrize("inputs, message", [
    (dict(tokens=torch.full((1, 3), 23)), r"tokens must lie in \[0, 23\)"),
    (dict(tokens=torch.zeros(1, 13, dtype=torch.int64)), "the sequence reaches position 13, but max_length is 12"),
    (dict(attention_mask=torch.ones(2, 3)), r"attention_mask must hold integers, 1 keep and 0 pad, of shape \(1, 3\), got"),
    (dict(attention_mask=torch.ones(1, 3)), "attention_mask must hold integers, .* got torch.float32"),
    (dict(token_type_ids=torch.full((1, 3), 2)), r"token_type_ids must lie in \[0, 2\)"),
    (dict(token_type_ids=torch.zeros(1, 2, dtype=torch.int64)), r"token_type_ids must have the shape \(1, 3\) of tokens"),
    (dict(token_type_ids=torch.zeros(2, 3, dtype=torch.int64)), r"token_type_ids must have the shape \(1, 3\) of tokens")])
def test_bert_refuses(inputs, message):
    with pytest.raises(ValueError, match=message):
        BERT(BERT_SIZES)(**(dict(tokens=torch.zeros(1, 3, dtype=torch.int64)) | inputs))


def test_an_additive_mask_is_refused():
    """0 keep, -10000 pad would act the other way round; so would any other pair of integers."""
    tokens = torch.zeros(1, 3, dtype=torch.int64)
    for wrong in ([0, 0, -10000], [1, 1, 2]):
        with pytest.raises(ValueError, match="attention_mask must hold 1, keep, and 0, pad, got values from"):
            BERT(BERT_SIZES)(tokens, torch.tensor([wrong]))
        with pytest.raises(ValueError, match="attention_mask must hold 1, keep, and 0, pad"):
            BERT.pool(torch.zeros(1, 3, 16), torch.tensor([wrong]))


@pytest.mark.parametrize("size", ["vocabulary", "max_length", "width", "num_heads", "num_layers", "hidden", "token_types"])
@pytest.mark.parametrize("value", [0, -1, 2.0])
def test_sizes_are_whole_and_positive(size, value):
    with pytest.raises(ValueError, match=f"{size} must be .*{value}"):
        BERT(replace(BERT_SIZES, **{size: value}))
