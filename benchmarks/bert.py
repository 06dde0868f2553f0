"""BERT's states against transformers' `BertModel`: sentences of one length, and of many lengths, padded or in buckets."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from benchmarks.harness import Variant, autocast, inference
from tutorlib.device import has_fast_bfloat16
from tutorlib.fast import in_buckets
from tutorlib.pretrained import from_transformers

WIDTH, HEADS, LAYERS, BATCH, LENGTH, SHORTEST, BUCKET = 384, 12, 6, 32, 128, 16, 8
SIZES = f"BERT with {LAYERS} layers, width {WIDTH}, {HEADS} heads, {BATCH} sentences"
Forward = Callable[[Tensor, Tensor | None], Tensor]


def _pair(dtype: torch.dtype = torch.float32) -> dict[str, Forward]:
    """The peer, without its pooler, and ours with the same weights: (tokens, attention_mask) -> states (B, T, D)."""
    torch.manual_seed(0)
    config = BertConfig(hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * WIDTH)
    peer = BertModel(config, add_pooling_layer=False).eval().to(dtype)
    return {"transformers": lambda tokens, mask: peer(tokens, attention_mask=mask).last_hidden_state,
            "tutorlib": from_transformers(peer)}


def _sentences() -> Tensor:
    return torch.randint(BertConfig().vocab_size, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))


def padded() -> list[Variant]:
    """All sentences as long as the longest: the peer (the measure) and ours, float32, autocast, rounded weights."""
    tokens = _sentences()

    def runs(dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
        return {name: partial(model, tokens, None) for name, model in _pair(dtype).items()}
    variants = [Variant(f"{name}, float32", inference(run)) for name, run in runs(torch.float32).items()]
    if has_fast_bfloat16("cpu"):
        variants += [Variant(f"{name}, bfloat16 autocast", inference(autocast(run)), 0.1)
                     for name, run in runs(torch.float32).items()]
        variants += [Variant(f"{name}, bfloat16 weights", inference(run), 0.1) for name, run in runs(torch.bfloat16).items()]
    return variants


def ragged() -> list[Variant]:
    """Lengths from 16 to 128: the peer on the padded batch (the measure), ours on it, and both in buckets of like lengths.

    Compared by the states of real tokens; those of padding are made zero.
    """
    tokens = _sentences()
    lengths = torch.randint(SHORTEST, LENGTH + 1, (BATCH,), generator=torch.Generator().manual_seed(1))  # (B,)
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()  # (B, T)

    def whole(model: Forward) -> Tensor:
        return model(tokens, mask) * mask[..., None]  # (B, T, D)

    def bucketed(model: Forward) -> Tensor:
        return in_buckets(model, tokens, mask, BUCKET).float()  # (B, T, D)

    dtypes = [torch.float32, torch.bfloat16] if has_fast_bfloat16("cpu") else [torch.float32]
    return [Variant(f"{name}, {how}, {str(dtype).removeprefix('torch.')}", inference(partial(run, model)),
                    0.1 if dtype == torch.bfloat16 else 1e-4)
            for dtype in dtypes for how, run in (("padded", whole), ("buckets", bucketed))
            for name, model in _pair(dtype).items()]
