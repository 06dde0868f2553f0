"""Adapters: they begin as nothing, merge and leave without a trace, travel alone in a file, and refuse what makes no sense."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tutorlib.compression.int8 import quantize
from tutorlib.models import GPT, GPTConfig
from tutorlib.models.llama import Llama, LlamaConfig
from tutorlib.training import token_cross_entropy, train, warmup_linear
from tutorlib.training.adapters import (
    LoRALinear,
    adapter_parameters,
    adapters,
    insert_adapters,
    load_adapter,
    merge_adapters,
    remove_adapters,
    save_adapter,
    unmerge_adapters,
)

SMALL = LlamaConfig(vocabulary=19, max_length=16, width=12, num_heads=2, num_key_value_heads=1, num_layers=2, hidden=20)


def small(seed: int = 0) -> Llama:
    torch.manual_seed(seed)
    return Llama(SMALL).double().eval()


def tokens() -> torch.Tensor:
    return torch.randint(19, (2, 9), generator=torch.Generator().manual_seed(1))


def moved(model: nn.Module, seed: int = 2) -> nn.Module:
    """The model with other numbers in its adapters, as training would leave them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(model):
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def test_the_formula():
    layer = moved(LoRALinear(nn.Linear(5, 7).double(), 3, alpha=6.0))
    inputs = torch.randn(2, 4, 5, dtype=torch.float64)
    whole = layer.layer.weight + 2.0 * layer.up @ layer.down  # s = 6 / 3
    assert_close(layer(inputs), F.linear(inputs, whole, layer.layer.bias))
    assert_close(layer.change(), whole - layer.layer.weight)


def test_it_begins_as_the_model_that_it_was():
    model, before = small(), small()(tokens())
    assert torch.equal(insert_adapters(model, 4)(tokens()), before)
    for _, adapter in adapters(model):
        bound = adapter.layer.in_features**-0.5
        assert not adapter.up.any() and 0.8 * bound < adapter.down.abs().max() <= bound


def test_the_same_generator_draws_the_same():
    drawn = [adapter_parameters(insert_adapters(small(), 2, generator=torch.Generator().manual_seed(seed)))
             for seed in (3, 3, 4)]
    assert all(torch.equal(one, two) for one, two in zip(*drawn[:2], strict=True))
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_only_the_adapters_learn():
    model = insert_adapters(small(), 2)
    token_cross_entropy(model(tokens()), tokens()).backward()
    learning = {id(parameter) for parameter in adapter_parameters(model)}
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (id(parameter) in learning), name
    ups = [adapter.up.grad for _, adapter in adapters(model)]
    downs = [adapter.down.grad for _, adapter in adapters(model)]
    assert all(grad.any() for grad in ups) and not any(grad.any() for grad in downs)  # A moves when B has


def test_as_many_numbers_as_the_formula_says():
    counted = sum(parameter.numel() for parameter in adapter_parameters(insert_adapters(small(), 3)))
    layers = [(12, 12), (12, 6), (12, 6), (12, 12), (12, 20), (12, 20), (20, 12)]
    assert counted == 2 * sum(3 * (wide + high) for wide, high in layers)


def test_merged_is_unmerged_and_leaves_no_trace():
    model = moved(insert_adapters(small(), 4))
    beside = model(tokens())
    assert_close(merge_adapters(model)(tokens()), beside, rtol=1e-9, atol=1e-9)
    assert_close(unmerge_adapters(model)(tokens()), beside, rtol=1e-9, atol=1e-9)
    assert_close(remove_adapters(model)(tokens()), small()(tokens()), rtol=1e-9, atol=1e-9)
    assert not list(adapters(model)) and set(model.state_dict()) == set(small().state_dict())


def test_what_was_merged_stays_when_the_adapters_go():
    model = moved(insert_adapters(small(), 4))
    beside = model(tokens())
    assert_close(remove_adapters(merge_adapters(model))(tokens()), beside, rtol=1e-9, atol=1e-9)


def test_the_tied_output_is_left_alone():
    model = insert_adapters(small(), 2)
    assert type(model.output) is nn.Linear and model.output.weight is model.embedding.weight
    before = model.embedding.weight.clone()
    merge_adapters(moved(model))
    assert torch.equal(model.embedding.weight, before)
    untied = insert_adapters(GPT(GPTConfig(19, 16, width=8, num_heads=2, num_layers=1, tie_output=False)), 2)
    assert isinstance(untied.output, LoRALinear)


def test_names_choose_layers_by_their_ends():
    found = {name for name, _ in adapters(insert_adapters(small(), 2, names=("query", "attention.output")))}
    assert found == {f"layers.{place}.attention.{name}" for place in (0, 1) for name in ("query", "output")}
    one = [name for name, _ in adapters(insert_adapters(small(), 2, names="layers.1.attention.key"))]
    assert one == ["layers.1.attention.key"]
    with pytest.raises(ValueError, match="names: no linear layer is called"):
        insert_adapters(small(), 2, names=("uery",))  # an end is a whole part of the name


def test_a_layer_in_two_places_is_adapted_once():
    shared = nn.Linear(4, 4)
    model = insert_adapters(nn.Sequential(shared, nn.ReLU(), shared), 2)
    assert model[0] is model[2] and len(adapter_parameters(model)) == 2


def test_a_model_that_is_a_linear_layer():
    layer = nn.Linear(4, 3)
    model = insert_adapters(layer, 2)
    assert isinstance(model, LoRALinear) and remove_adapters(model) is layer


def test_a_file_holds_the_adapter_and_nothing_else(tmp_path):
    model = moved(insert_adapters(small(), 3, alpha=5.0, names=("gate", "value")))
    save_adapter(model, tmp_path / "adapter.safetensors")
    other = load_adapter(small(), tmp_path / "adapter.safetensors")
    assert torch.equal(other(tokens()), model(tokens()))
    assert [name for name, _ in adapters(other)] == [name for name, _ in adapters(model)]
    trained = [parameter for parameter in other.parameters() if parameter.requires_grad]
    assert {id(each) for each in trained} == {id(each) for each in adapter_parameters(other)}
    assert (tmp_path / "adapter.safetensors").stat().st_size < 8 * sum(each.numel() for each in trained) + 2000


def test_a_file_in_half_precision(tmp_path):
    model = moved(insert_adapters(small(), 3))
    save_adapter(model, tmp_path / "half", torch.float16)
    other = load_adapter(small(), tmp_path / "half")
    assert next(adapters(other))[1].up.dtype == torch.float64
    assert_close(next(adapters(other))[1].up, next(adapters(model))[1].up, rtol=1e-3, atol=1e-3)


def test_a_merged_model_can_be_quantized():
    model = merge_adapters(moved(insert_adapters(small().float(), 2)))
    assert_close(quantize(model)(tokens()), model(tokens()), rtol=0.2, atol=0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_of_the_layer(dtype):
    layer = LoRALinear(nn.Linear(4, 6).to(dtype), 2)
    assert layer.down.dtype == layer.up.dtype == layer(torch.ones(1, 4, dtype=dtype)).dtype == dtype


def test_it_learns_what_is_of_low_rank_and_not_what_is_not():
    """A change of rank 2 is found by rank 2 to the end; by rank 1 as far as its largest singular value goes (Eckart-Young)."""
    torch.manual_seed(0)
    layer, change = nn.Linear(8, 6, bias=False), torch.randn(6, 2) @ torch.randn(2, 8)
    inputs = torch.eye(8)
    wanted = layer(inputs).detach() + inputs @ change.T
    left = {}
    for rank in (1, 2):
        model = LoRALinear(nn.Linear(8, 6, bias=False), rank, alpha=2, generator=torch.Generator().manual_seed(1))
        model.layer.load_state_dict(layer.state_dict())
        optimizer = torch.optim.Adam([model.down, model.up], lr=0.02)
        loss = lambda model, batch: (model(inputs) - wanted).square().sum()  # noqa: E731
        left[rank] = train(model, lambda step: None, loss, optimizer, steps=600, schedule=warmup_linear(1, 600),
                           progress=False).losses[-1]
    assert left[2] < 1e-3
    assert left[1] == pytest.approx(torch.linalg.svdvals(change)[1].item() ** 2, rel=0.02)


def test_refusals(tmp_path):
    for rank, said in ((0, "rank must be at least 1"), (7, "rank must be at most 6, the narrower side"), (2.0, "whole number")):
        with pytest.raises(ValueError, match=said):
            LoRALinear(nn.Linear(9, 6), rank)
    for alpha in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="alpha must be a positive number"):
            LoRALinear(nn.Linear(9, 6), 2, alpha)
    with pytest.raises(ValueError, match="names: the weight of 'output' is another module's too"):
        insert_adapters(small(), 2, names=("output",))
    with pytest.raises(ValueError, match="has no nn.Linear"):
        insert_adapters(nn.ReLU(), 2)
    for function in (adapter_parameters, merge_adapters, unmerge_adapters, remove_adapters):
        with pytest.raises(ValueError, match="model: Llama has no adapters"):
            function(small())
    with pytest.raises(ValueError, match="model: Llama has no adapters"):
        save_adapter(small(), tmp_path / "nothing")
    model = insert_adapters(small(), 2)
    with pytest.raises(ValueError, match="model has adapters already"):
        insert_adapters(model, 2)
    with pytest.raises(ValueError, match="not merged"):
        unmerge_adapters(model)
    with pytest.raises(ValueError, match="merged already"):
        merge_adapters(merge_adapters(model))


def test_a_refused_model_is_as_it_was():
    model = small()
    with pytest.raises(ValueError, match="rank must be at most 6"):
        insert_adapters(model, 7)  # the keys are 6 wide
    assert all(parameter.requires_grad for parameter in model.parameters()) and type(model.layers[0].attention.key) is nn.Linear


def test_files_that_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError):
        load_adapter(small(), tmp_path / "none")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ValueError, match="text is no file of safetensors"):
        load_adapter(small(), tmp_path / "text")
    save_file({"weight": torch.ones(2)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="foreign is no adapter of this library"):
        load_adapter(small(), tmp_path / "foreign")
    save_adapter(insert_adapters(small(), 2), tmp_path / "ours")
    with pytest.raises(ValueError, match="model has adapters already"):
        load_adapter(insert_adapters(small(), 2), tmp_path / "ours")
    other = Llama(LlamaConfig(19, 16, 12, 2, 2, 2, 20))  # its keys and values are wider
    with pytest.raises(ValueError, match=r"'layers.0.attention.key' of shape \(6, 12\)"):
        load_adapter(other, tmp_path / "ours")
    assert all(parameter.requires_grad for parameter in other.parameters())
    with pytest.raises(ValueError, match="the model has no such layer"):
        load_adapter(nn.Sequential(nn.Linear(2, 2)), tmp_path / "ours")
