"""SmolLM2 as `load` reads it, against transformers' Llama with the file's tensors and a tokenizer of the library tokenizers."""

import random

import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig as PeerConfig
from transformers import LlamaForCausalLM

from tests.closeness import assert_same
from tutorlib.generation import generate
from tutorlib.models.llama import Llama, LlamaConfig
from tutorlib.pretrained import load
from tutorlib.pretrained.smollm2 import (
    chat_prompt,
    open_smollm2,
)


@pytest.fixture(scope="module")
def reader():
    return open_smollm2()


@pytest.fixture(scope="module")
def smollm2():
    return load("smollm2")


@pytest.fixture(scope="module")
def peer_tokenizer(reader):
    tokens, kinds, merges = (reader.fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges"))
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)
                                  for token, kind in zip(tokens, kinds, strict=True) if kind == 3])
    return tokenizer


def peer_model(reader) -> LlamaForCausalLM:
    """Filled without our loader: the rows are put back by the rule with which llama.cpp moved them."""
    config = PeerConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                        num_key_value_heads=3, rms_norm_eps=1e-5, rope_theta=1e5, max_position_embeddings=8192,
                        tie_word_embeddings=True)
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
             "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    state = {}
    for tensor in reader.tensors:
        values = np.array(dequantize(tensor.data, tensor.tensor_type))
        place, _, kind = tensor.name.removesuffix(".weight").rpartition(".")
        if kind in ("attn_q", "attn_k"):
            moved = values.reshape(-1, 64, 576)
            values = np.concatenate([moved[:, 0::2], moved[:, 1::2]], axis=1).reshape(values.shape)
        name = f"model.layers.{place[4:]}.{names[kind]}" if place else {"token_embd": "model.embed_tokens",
                                                                        "output_norm": "model.norm"}[kind]
        state[f"{name}.weight"] = torch.from_numpy(values)
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected
    model.tie_weights()
    return model.eval()


@pytest.mark.slow
@torch.no_grad()
def test_logits_and_greedy_tokens_are_those_of_transformers(reader, smollm2):
    model, tokenizer = smollm2
    peer = peer_model(reader)
    tokens = torch.tensor([tokenizer.encode("In the beginning, God created the heavens and the earth. 1234 <|im_end|>")])
    assert_same(model(tokens), peer(tokens).logits)
    prompt = torch.tensor([tokenizer.encode("The capital of France is")])
    ours = generate(model, prompt, 12, temperature=0)
    assert ours.tolist() == peer.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False,
                                          pad_token_id=2).tolist()
    assert tokenizer.decode(ours[0]).startswith("The capital of France is Paris.")


@pytest.mark.slow
def test_the_whole_file_is_in_the_model(reader, smollm2):
    model, tokenizer = smollm2
    assert isinstance(model, Llama) and model.config == LlamaConfig(eps=model.config.eps)
    assert model.config.eps == pytest.approx(1e-5) and not model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert sum(weight.numel() for weight in model.parameters()) == sum(tensor.n_elements for tensor in reader.tensors)
    assert model.output.weight is model.embedding.weight
    assert len(tokenizer) == model.config.vocabulary


@pytest.mark.slow
def test_loading_takes_no_second_copy_of_the_weights(smollm2):
    model, _ = smollm2
    assert len({weight.data_ptr() for weight in model.parameters()}) == len(list(model.parameters()))
    assert all(weight.untyped_storage().nbytes() == 4 * weight.numel() for weight in model.parameters())


PIECES = [" ", "  ", "\n", "\t", "a", "the", " of", "'s", "'", "1", "23", " 4", "½", "Ⅳ", "²", "é", "中文", "🙂", "!", "..",
          "_", "\u00a0", "\u3000", "\u2028", "\x1c", "\x85", "<|im_end|>", "<|endoftext|>", "ß", "Don't", "I'LL", "\r\n", "٣",
          "<|im_"]


@pytest.mark.slow
def test_tokens_are_those_of_the_library(smollm2, peer_tokenizer):
    _, tokenizer = smollm2
    drawn = random.Random(0)
    texts = ["".join(drawn.choices(PIECES, k=drawn.randint(0, 12))) for _ in range(3000)]
    texts += [chat_prompt([("user", "What is 17 + 25?")]), "def f(x):\n    return x**2  # a comment\n\n\n"]
    for text in texts:
        ids = tokenizer.encode(text)
        assert ids == peer_tokenizer.encode(text).ids, repr(text)
        assert tokenizer.decode(ids) == text


@pytest.mark.slow
def test_a_prompt_is_what_the_template_of_the_file_makes(reader):
    from jinja2 import Environment

    template = Environment().from_string(reader.fields["tokenizer.chat_template"].contents())
    messages = [("user", "Are dogs real?"), ("assistant", "They are."), ("user", "Prove it.")]
    turns = [{"role": role, "content": text} for role, text in messages]
    assert chat_prompt(messages) == template.render(messages=turns, add_generation_prompt=True)
