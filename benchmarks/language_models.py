"""A GPT's training step against nanoGPT's architecture and transformers' GPT-2; generation at batch 1 against transformers."""

import copy
import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel
from transformers import LlamaConfig as PeerLlamaConfig
from transformers.utils import logging

from benchmarks.harness import Variant, autocast, inference, training_step
from tutorlib.compression.int8 import quantize
from tutorlib.device import has_fast_bfloat16
from tutorlib.generation import generate
from tutorlib.models import GPT
from tutorlib.pretrained import from_transformers

WIDTH, HEADS, LAYERS, VOCABULARY, LENGTH, BATCH = 384, 6, 6, 256, 256, 8
PROMPT, NEW = 64, 128
TRAINING_SIZES = (f"GPT with {LAYERS} layers, width {WIDTH}, {HEADS} heads, vocabulary {VOCABULARY}, batch {BATCH}, {LENGTH} "
                  "tokens, no dropout")
GENERATION_SIZES = f"The same GPT, batch 1, greedy, {PROMPT} tokens of prompt and {NEW} new ones, with a key-value cache"
LLAMA_PROMPT, LLAMA_NEW = 32, 32
LLAMA_SIZES = (f"Llama in the shape of SmolLM2-135M, random weights, batch 1, greedy, {LLAMA_PROMPT} tokens of prompt and "
               f"{LLAMA_NEW} new ones, with a key-value cache")


# -- nanoGPT's architecture -------------------------------------------------------------------------------------------


class NanoBlock(nn.Module):
    """Pre-norm; one matrix for query, key and value together; PyTorch's attention kernel; GELU with erf."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (part.view(batch, length, self.num_heads, -1).transpose(1, 2)
                   for part in self.c_attn(self.ln_1(x)).split(width, dim=2))  # (B, H, T, K) each
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(batch, length, width))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    """Learned positions, blocks, a last norm, and a head tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.h = nn.ModuleList(NanoBlock(WIDTH, HEADS) for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.size(1), device=tokens.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def nano_from(ours: GPT) -> NanoGPT:
    """nanoGPT's architecture with the weights of ours."""
    nano, state = NanoGPT(), ours.state_dict()
    names = {"wte": "embedding", "ln_f": "norm", "lm_head": "output"}
    weights = {"wpe.weight": state["position.table"]}
    for number in range(LAYERS):
        for theirs, own in {"ln_1": "attention_norm", "ln_2": "feed_forward_norm", "c_proj": "attention.output",
                            "c_fc": "feed_forward.expand", "c_out": "feed_forward.contract"}.items():
            names[f"h.{number}.{theirs}"] = f"layers.{number}.{own}"
        for kind in ("weight", "bias"):
            parts = [state[f"layers.{number}.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            weights[f"h.{number}.c_attn.{kind}"] = torch.cat(parts)
    weights |= {f"{theirs}.{kind}": state[f"{own}.{kind}"] for theirs, own in names.items() for kind in ("weight", "bias")
                if f"{own}.{kind}" in state}
    nano.load_state_dict(weights)
    return nano


# -- training ---------------------------------------------------------------------------------------------------------


def _gpt2(activation: str = "gelu") -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
                                      activation_function=activation, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                                      bos_token_id=None, eos_token_id=None))


def _logits(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(tokens, use_cache=False).logits if isinstance(model, PreTrainedModel) else model(tokens)


def training() -> list[Variant]:
    """A step of nanoGPT's architecture (the measure), transformers' GPT-2, ours; then all with bfloat16 autocast."""
    peer = _gpt2()
    ours = from_transformers(peer)
    models = {"nanoGPT's architecture": nano_from(ours), "transformers": peer, "tutorlib": ours}
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]  # (B, T) each

    def loss(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    forwards = {name: partial(_logits, model, inputs) for name, model in models.items()}
    variants = [Variant(f"{name}, float32", training_step(forwards[name], model, loss), 1e-3) for name, model in models.items()]
    if has_fast_bfloat16("cpu"):
        variants += [Variant(f"{name}, bfloat16 autocast", training_step(autocast(forwards[name]), model, loss), 0.1)
                     for name, model in models.items()]
    return variants


# -- generation -------------------------------------------------------------------------------------------------------


def _theirs(peer: nn.Module, tokens: Tensor, new: int) -> Callable[[], Tensor]:
    """Greedy generation by the library's own method, with its cache."""
    logging.set_verbosity_error()
    mask = torch.ones_like(tokens)
    return inference(lambda: peer.generate(tokens, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=0))


def _ours(model: nn.Module, tokens: Tensor, new: int) -> Callable[[], Tensor]:
    return inference(lambda: generate(model, tokens, new, temperature=0))


def generation() -> list[Variant]:
    """Greedy decoding of transformers' GPT-2 (the measure) and ours: the same tokens."""
    peer = _gpt2().eval()
    tokens = torch.randint(VOCABULARY, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    return [Variant("transformers, float32", _theirs(peer, tokens, NEW), 0.0),
            Variant("tutorlib, float32", _ours(from_transformers(peer), tokens, NEW), 0.0)]


def llama_generation() -> list[Variant]:
    """Greedy decoding of transformers' Llama (the measure) and ours: float32, weights in bfloat16, and in int8 for ours.

    Rounded weights may choose other tokens, and then no two variants end with the same ones: they are compared by their
    logits behind the prompt instead.
    """
    torch.manual_seed(0)
    peer = LlamaForCausalLM(PeerLlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None)).eval()
    ours = from_transformers(peer)
    tokens = torch.randint(49152, (1, LLAMA_PROMPT), generator=torch.Generator().manual_seed(0))
    variants = [Variant("transformers, float32", _theirs(peer, tokens, LLAMA_NEW), 0.0),
                Variant("tutorlib, float32", _ours(ours, tokens, LLAMA_NEW), 0.0)]
    rounded = [("tutorlib, int8 weights", quantize(ours, fused=True), _ours)]
    if has_fast_bfloat16("cpu"):
        rounded = [("transformers, bfloat16 weights", copy.deepcopy(peer).bfloat16(), _theirs),
                   ("tutorlib, bfloat16 weights", copy.deepcopy(ours).bfloat16(), _ours), *rounded]
    expected = inference(lambda: ours(tokens)[:, -1])()  # (1, V)
    for name, model, write in rounded:
        _check(name, inference(lambda model=model: _logits(model, tokens)[:, -1])(), expected)
        variants.append(Variant(name, write(model, tokens, LLAMA_NEW), math.inf))
    return variants


def _check(name: str, logits: Tensor, expected: Tensor) -> None:
    """Raise ValueError where logits (1, V) of rounded weights point elsewhere than those of the weights as they were."""
    likeness = F.cosine_similarity(logits.float(), expected).item()
    if not likeness > 0.99:
        raise ValueError(f"the logits of {name!r} have a cosine of {likeness:.3f} with those in float32, expected over 0.99")
