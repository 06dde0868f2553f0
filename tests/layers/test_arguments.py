"""The range of tokens is looked at where a look costs nothing, and a compiled, exported or mapped model is one graph."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.closeness import assert_same
from tests.models.examples import BERT_SIZES, GPT_SIZES, LLAMA_SIZES, shaken
from tutorlib.layers.arguments import bounds, check_tokens
from tutorlib.models import BERT, GPT, Llama, Transformer, TransformerConfig

TRANSFORMER = TransformerConfig(23, 23, 16, 2, 1, 1, 20, max_length=12)
MODELS = {"gpt": lambda: GPT(GPT_SIZES), "llama": lambda: Llama(LLAMA_SIZES), "bert": lambda: BERT(BERT_SIZES),
          "transformer": lambda: Transformer(TRANSFORMER)}


def inputs(name, tokens):
    """What the model is called with: BERT is given a mask, too."""
    return {"transformer": (tokens, tokens, tokens > 0), "bert": (tokens, (tokens > 0).long())}.get(name, (tokens,))


def test_bounds():
    assert bounds(torch.tensor([[3, 1], [7, 2]])) == (1, 7)
    assert bounds(torch.empty(0, 4, dtype=torch.int64)) is None
    assert bounds(torch.zeros(2, 2, dtype=torch.int64, device="meta")) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_model_is_one_graph(name):
    torch.manual_seed(0)
    model, tokens = shaken(MODELS[name]()), torch.randint(1, 23, (2, 9))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert_same(compiled(*inputs(name, tokens)), model(*inputs(name, tokens)))
    torch.compiler.reset()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_runs_where_no_value_can_be_read(name):
    model, tokens = MODELS[name]().eval(), torch.zeros(2, 9, dtype=torch.int64)
    given = inputs(name, tokens)
    expected = model(*given).shape
    assert model.to("meta")(*(each.to("meta") for each in given)).shape == expected
    with FakeTensorMode() as mode:
        faked = MODELS[name]().eval()
        assert faked(*map(mode.from_tensor, given)).shape == expected


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_a_model_can_be_mapped_over_a_batch(name):
    torch.manual_seed(0)
    model, tokens = shaken(MODELS[name]()), torch.randint(23, (3, 2, 5))
    with torch.no_grad():
        assert_same(torch.func.vmap(model)(tokens), torch.stack([model(each) for each in tokens]))


def test_outside_the_vocabulary_and_not_integers():
    with pytest.raises(ValueError, match=r"tokens must lie in \[0, 5\), the vocabulary, got values from -1 to 2"):
        check_tokens("tokens", torch.tensor([[-1, 2]]), 5)
    with pytest.raises(ValueError, match=r"tokens must lie in \[0, 5\), the vocabulary, got values from 0 to 5"):
        check_tokens("tokens", torch.tensor([[0, 5]], dtype=torch.int32), 5)
    check_tokens("tokens", torch.tensor([[0, 4]]), 5)
