"""BERT's states against transformers' `BertModel`: sentences of one length, and of many lengths, padded or in buckets."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from benchmarks.harness import Variant, autocast, inference
from tutorlib.data.batches import LengthBuckets
from tutorlib.device import has_fast_bfloat16
from tutorlib.models import BERT
from tutorlib.pretrained import from_transformers

WIDTH, HEADS, LAYERS, BATCH, LENGTH, SHORTEST, BUCKET = 384, 12, 6, 32, 128, 16, 8
SIZES = f"BERT with {LAYERS} layers, width {WIDTH}, {HEADS} heads, {BATCH} sentences"
Forward = Callable[[Tensor, Tensor | None], Tensor]


def _pair() -> tuple[Forward, Forward]:
    """The peer, without its pooler, and ours with the same weights: (tokens, attention_mask) -> states (B, T, D)."""
    torch.manual_seed(0)
    config = BertConfig(hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * WIDTH)
    peer = BertModel(config, add_pooling_layer=False).eval()
    ours: nn.Module = from_transformers(peer)
    assert isinstance(ours, BERT)
    return (lambda tokens, mask: peer(tokens, attention_mask=mask).last_hidden_state), ours


def _sentences() -> Tensor:
    return torch.randint(BertConfig().vocab_size, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))


def _with_autocast(runs: dict[str, Callable[[], Tensor]]) -> list[Variant]:
    """Each run in float32, then each with bfloat16 autocast where the CPU has the instructions."""
    variants = [Variant(f"{name}, float32", inference(run)) for name, run in runs.items()]
    if has_fast_bfloat16("cpu"):
        variants += [Variant(f"{name}, bfloat16 autocast", inference(autocast(run)), 0.1) for name, run in runs.items()]
    return variants


def padded() -> list[Variant]:
    """All sentences as long as the longest: the peer (the measure) and ours."""
    peer, ours = _pair()
    tokens = _sentences()
    return _with_autocast({"transformers": lambda: peer(tokens, None), "tutorlib": lambda: ours(tokens, None)})


def ragged() -> list[Variant]:
    """Lengths from 16 to 128: the peer on the padded batch (the measure), ours on it, and both in buckets of like lengths.

    Compared by the states of real tokens; those of padding are made zero.
    """
    peer, ours = _pair()
    tokens = _sentences()
    lengths = torch.randint(SHORTEST, LENGTH + 1, (BATCH,), generator=torch.Generator().manual_seed(1))  # (B,)
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()  # (B, T)
    buckets = list(LengthBuckets(lengths, BUCKET))

    def whole(model: Forward) -> Tensor:
        return model(tokens, mask) * mask[..., None]  # (B, T, D)

    def bucketed(model: Forward) -> Tensor:
        states = torch.zeros(BATCH, LENGTH, WIDTH)  # (B, T, D)
        for bucket in buckets:
            longest = lengths[bucket].max()
            real = mask[bucket, :longest]  # (b, t)
            states[bucket, :longest] = (model(tokens[bucket, :longest], real) * real[..., None]).float()
        return states

    return _with_autocast({"transformers, padded": lambda: whole(peer), "tutorlib, padded": lambda: whole(ours),
                           "transformers, buckets": lambda: bucketed(peer), "tutorlib, buckets": lambda: bucketed(ours)})
