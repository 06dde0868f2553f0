"""Patching: a donor's states at all places make its answer, at none nothing; a head that is off is a block of zeros in W_O."""

import copy

import pytest
import torch

from tests.closeness import assert_same, draw
from tutorlib.interpretation import at_places, heads_off, patched, states_of
from tutorlib.models import GPT, GPTConfig, Llama, LlamaConfig, ViT, ViTConfig


def vit():
    torch.manual_seed(0)
    model = ViT(ViTConfig(12, 4, 1, 3, width=8, num_heads=2, num_layers=3)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("stage", range(4))
def test_all_places_make_the_donors_answer_and_none_changes_nothing(stage):
    model, images, donor = vit(), draw(2, 1, 12, 12), draw(2, 1, 12, 12, seed=1)
    module = [model.position, *model.layers][stage]
    states, = states_of(model, [module], donor)
    everywhere = torch.arange(10).expand(2, -1)
    with torch.no_grad():
        with patched(module, at_places(everywhere, states)):
            assert_same(model(images), model(donor))  # the second runs patched too, with its own states
        with patched(module, at_places(everywhere[:, :0], states)):
            inside = model(images)
        assert_same(inside, model(images))
    assert hooks(model) == 0


def test_a_patched_place_is_the_donors_and_the_others_are_not():
    states, donor = draw(2, 5, 3), draw(2, 5, 3, seed=1)
    found = at_places(torch.tensor([[0, 3], [1, 2]]), donor)(states)
    expected = states.clone()
    expected[0, [0, 3]], expected[1, [1, 2]] = donor[0, [0, 3]], donor[1, [1, 2]]
    assert torch.equal(found, expected)


def test_hooks_are_removed_where_the_model_raises():
    model = vit()
    with pytest.raises(ValueError, match="change must keep the shape"), patched(model.layers[0], lambda x: x[:, 1:]):
        model(draw(2, 1, 12, 12))
    with pytest.raises(ZeroDivisionError), heads_off(model, [(0, 0)]):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="images must have the shape"):
        states_of(model, [model.layers[0]], draw(2, 1, 16, 16))
    assert hooks(model) == 0


@pytest.mark.parametrize("model", [GPT(GPTConfig(11, 9, 12, 3, 2)), Llama(LlamaConfig(11, 9, 12, 6, 2, 2, 16))])
def test_a_head_that_is_off_has_zeros_in_the_output_matrix(model):
    tokens, off = torch.randint(11, (2, 7), generator=torch.Generator().manual_seed(0)), [(0, 1), (1, 2), (0, 0)]
    cut = copy.deepcopy(model)
    with torch.no_grad():
        for layer, head in off:
            attention = cut.layers[layer].attention
            attention.output.weight[:, head * attention.head_width:(head + 1) * attention.head_width] = 0
        with heads_off(model, off):
            found = model(tokens)
        assert_same(found, cut(tokens))
        assert not torch.allclose(found, model(tokens))
    assert hooks(model) == 0


@pytest.mark.parametrize("head", [(2, 0), (0, 3), (-1, 0), (0, -1)])
def test_heads_that_are_not_there_are_refused(head):
    model = GPT(GPTConfig(11, 9, 12, 3, 2))
    with pytest.raises(ValueError, match="heads must be pairs .* of the 2 layers"), heads_off(model, [head]):
        pass


def test_modules_that_are_not_called_once_are_refused():
    model = vit()
    with pytest.raises(ValueError, match="Linear was called 0 times"):
        states_of(model, [torch.nn.Linear(2, 2)], draw(2, 1, 12, 12))
