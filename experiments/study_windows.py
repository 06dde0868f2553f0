"""What SmolLM2-135M loses when it may look back at some tokens only, and how far back it looks when it may look anywhere.

    OMP_NUM_THREADS=1 python experiments/study_windows.py experiments/records/windows.json --most 1

Passages are the first 512 tokens of chapters of the World English Bible; the loss is that of the last 256. Every head of every
layer is held to the same keys. The record is written after every passage; a second call goes on, by `--most` passages.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorlib.data.bible import load_bible
from tutorlib.layers import MultiHeadAttention
from tutorlib.layers.position import turn
from tutorlib.pretrained import load
from tutorlib.records import open_record, rounded, surroundings, write_record

LENGTH, SCORED, PASSAGES = 512, 256, 8
EDGES = 1, 2, 4, 8, 16, 32, 64, 128  # tokens back, where a new group of distances begins; the first token is one of its own


class Condition(NamedTuple):
    """Which keys a query sees: the last `recent`, itself among them, and one far token `kept`, its value perhaps struck out."""

    recent: int
    kept: int | None = None
    struck: bool = False
    without: int | None = None  # a token that nobody sees once it is 128 back
    replaced: bool = False  # a line break stands in place of the first token


CONDITIONS = {
    "all": Condition(LENGTH),
    "last 128": Condition(128),
    "first, last 127": Condition(127, kept=0),
    "fifth, last 127": Condition(127, kept=4),
    "first without value, last 127": Condition(127, kept=0, struck=True),
    "line break first, last 127": Condition(127, kept=0, replaced=True),
    "all but the first": Condition(LENGTH, without=0),
    "last 32": Condition(32),
    "first, last 31": Condition(31, kept=0),
}


def seen(condition: Condition, length: int = LENGTH) -> Tensor:
    """Who sees whom: (T, T) boolean."""
    place = torch.arange(length)
    back = place[:, None] - place  # (T, T)
    mask = (back >= 0) & (back < condition.recent)
    if condition.kept is not None:
        mask |= (back >= 0) & (place == condition.kept)
    if condition.without is not None:
        mask &= (back < 128) | (place != condition.without)
    return mask


def struck(condition: Condition, length: int = LENGTH) -> Tensor:
    """Whose weight takes its share of the softmax and brings no value: (T, T) boolean."""
    place = torch.arange(length)
    far = place[:, None] - place >= condition.recent  # (T, T)
    return far & (place == condition.kept) & condition.struck


@contextmanager
def limited(model, mask: Tensor, silent: Tensor, weights: list[Tensor] | None = None) -> Iterator[None]:
    """Hold every layer to `mask`, and let keys in `silent` bring no value; `weights` takes each layer's (B, H, T, T)."""
    layers = [layer for layer in model.modules() if isinstance(layer, MultiHeadAttention)]

    def attend(layer: MultiHeadAttention, x: Tensor, rotation) -> Tensor:
        queries = turn(layer.query(x).unflatten(-1, (-1, layer.head_width)).transpose(1, 2), rotation)  # (B, H, T, K)
        keys, values = (each.repeat_interleave(layer.num_heads // layer.num_key_value_heads, 1)
                        for each in layer.keys_and_values(x, x, 0, rotation))  # (B, H, T, K)
        scores = queries @ keys.mT / layer.head_width ** 0.5  # (B, H, T, T)
        share = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        if weights is not None:
            weights.append(share)
        heads = share.masked_fill(silent, 0.0) @ values  # (B, H, T, K)
        return layer.output(heads.transpose(1, 2).flatten(2))

    for layer in layers:
        layer.forward = lambda x, *_, rotation, layer=layer, **__: attend(layer, x, rotation)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own is seen again


@torch.no_grad()
def loss(model, tokens: Tensor, condition: Condition, line_break: int, weights: list[Tensor] | None = None) -> float:
    """Nats a token over the last half of tokens (T,)."""
    if condition.replaced:
        tokens = torch.cat([tokens.new_tensor([line_break]), tokens[1:]])
    length = len(tokens)
    with limited(model, seen(condition, length), struck(condition, length), weights):
        logits = model(tokens[None])[0]  # (T, V)
    scored = length // 2
    return F.cross_entropy(logits[-scored - 1:-1], tokens[-scored:]).item()


def by_distance(weights: list[Tensor], edges: tuple[int, ...] = EDGES) -> list[float]:
    """Shares of the weight of the last half of all queries, over heads and layers: the first token, itself, then EDGES on."""
    share = torch.stack(weights).mean((0, 1, 2))  # (T, T)
    length = len(share)
    place = torch.arange(length)
    back = (place[:, None] - place).masked_fill(place == 0, -1)  # (T, T); -1 is the first token
    rows = slice(length - length // 2, None)
    group = torch.bucketize(back[rows], torch.tensor((0, *edges)), right=True)  # 0 the first token, 1 itself, 2 one back
    found = torch.zeros(len(edges) + 2).index_add(0, group.flatten(), share[rows].flatten())
    return (found / (length // 2)).tolist()


def passages(tokenizer) -> Tensor:
    """The first LENGTH tokens of chapters that have so many: (PASSAGES, LENGTH)."""
    chapters = [tokenizer.encode(text)[:LENGTH] for text in load_bible().held_out]
    long = [tokens for tokens in chapters if len(tokens) == LENGTH]
    return torch.tensor(long[5::11][:PASSAGES])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    parser.add_argument("--most", type=int, default=PASSAGES, help="passages to add, at most")
    arguments = parser.parse_args()
    record = open_record(arguments.record, lambda: {
        "settings": {"length": LENGTH, "scored": SCORED, "edges": EDGES}, **surroundings(),
        "losses": {name: [] for name in CONDITIONS}, "distances": [], "seconds": []})
    done = len(record["distances"])
    if done == PASSAGES:
        return
    model, tokenizer = load("smollm2")
    line_break = tokenizer.encode("\n")[0]
    for tokens in passages(tokenizer)[done:done + arguments.most]:
        start, weights = time.process_time(), []
        for name, condition in CONDITIONS.items():
            collected = weights if name == "all" else None
            record["losses"][name].append(rounded(loss(model, tokens, condition, line_break, collected)))
        record["distances"].append(rounded(by_distance(weights)))
        record["seconds"].append(round(time.process_time() - start, 1))
        write_record(arguments.record, record)
        print({name: values[-1] for name, values in record["losses"].items()}, record["seconds"][-1], flush=True)


if __name__ == "__main__":
    main()
