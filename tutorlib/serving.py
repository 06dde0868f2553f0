"""Many readers, one model: prompts wait in a queue, and a new one joins the batch as soon as a row has ended.

Orca calls it iteration-level scheduling (Yu et al. 2022, section 3.1); servers today call it continuous batching.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tutorlib.arguments import check_counts
from tutorlib.generation import Generators, Model, check_request, choose, left_padded


@dataclass
class Traffic:
    """What a run of `serve` did: for every step of the model the rows that wrote a token, and the steps that read a prompt."""

    rows: list[int] = field(default_factory=list)
    prompts_read: int = 0


@dataclass
class _Row:
    number: int  # of the prompt
    tokens: list[int]
    length: int  # of the prompt


def serve(model: Model, prompts: Sequence[Tensor], max_new_tokens: int | Sequence[int], *, slots: int, temperature: float = 1.0,
          top_k: int | None = None, top_p: float | None = None, generators: Sequence[torch.Generator] | None = None,
          eos: int | Sequence[int] | None = None, traffic: Traffic | None = None) -> list[Tensor]:
    """Answer prompts (T_i,), at most `slots` at a time -> (T_i + new_i,) each, as `generate` answers each alone.

    A row ends with `eos`, or after its `max_new_tokens`, one number for all or one a prompt. Its place is given to the next
    prompt, which is read by itself; the keys of all rows are then put side by side so that they end in one column, and a mask
    hides what lies before a row's first. `generators`, one a prompt, make samples those of the prompt alone. `traffic` is
    filled with what was done. The model takes `padding_mask=`. Raises ValueError for arguments out of range.
    """
    left_padded(prompts)  # refuses what is no prompt
    news = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    check_counts(slots=slots, max_new_tokens=min(news))
    for name, given in (("max_new_tokens", news), ("generators", generators)):
        if given is not None and len(given) != len(prompts):
            raise ValueError(f"{name} must have one entry for each of the {len(prompts)} prompts, got {len(given)}")
    for prompt, new in zip(prompts, news, strict=True):  # all of them, before the first is read
        ends = check_request(model, prompt[None], new, temperature=temperature, top_k=top_k, top_p=top_p, eos=eos)
    batch = _Batch(model, max(len(prompt) + new for prompt, new in zip(prompts, news, strict=True)), traffic or Traffic())
    waiting, answers = deque(enumerate(prompts)), [torch.empty(0)] * len(prompts)

    def draw(logits: Tensor, rows: list[_Row]) -> list[_Row]:
        """Write the next token of each row, and the answers of the rows that have ended, which it returns."""
        own: Generators = None if generators is None else [generators[row.number] for row in rows]
        chosen = choose(logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=own).tolist()
        for row, token in zip(rows, chosen, strict=True):
            row.tokens.append(token)
        ended = [row for row in rows if row.tokens[-1] in ends or len(row.tokens) - row.length == news[row.number]]
        for row in ended:
            answers[row.number] = prompts[row.number].new_tensor(row.tokens)
        return ended

    while waiting or batch.rows:
        while waiting and len(batch.rows) < slots:
            row, logits, cache = batch.read(*waiting.popleft())
            if not draw(logits, [row]):
                batch.join(row, cache)
        if batch.rows and (ended := draw(batch.step(), batch.rows)):
            batch.leave(ended)
    return answers


class _Batch:
    """Rows that are being written, and their keys and values, which all end in one column."""

    def __init__(self, model: Model, capacity: int, traffic: Traffic):
        self.model, self.capacity, self.traffic, self.rows = model, capacity, traffic, list[_Row]()
        self.cache = model.new_cache(capacity)

    @torch.no_grad()
    def read(self, number: int, prompt: Tensor) -> tuple[_Row, Tensor, list]:
        """A prompt (T,) by itself: its row, the logits (1, V) behind it, its cache."""
        cache = self.model.new_cache(self.capacity)
        self.traffic.prompts_read += 1
        logits = self.model(prompt.long()[None], cache=cache, last_only=True)[:, -1]  # (1, V)
        return _Row(number, prompt.tolist(), len(prompt)), logits, cache

    def join(self, row: _Row, cache: list) -> None:
        self._align(self.rows, cache)
        self.rows = [*self.rows, row]

    def leave(self, ended: list[_Row]) -> None:
        self._align([row for row in self.rows if row not in ended])

    def _align(self, kept: list[_Row], joining: list | None = None) -> None:
        """Keep these rows and let the newcomer's join; the last token of a kept row is not in the cache yet."""
        places = torch.tensor([self.rows.index(row) for row in kept], dtype=torch.long)
        lengths = [len(row.tokens) - 1 for row in kept] + ([joining[0].length] if joining else [])
        for layer, more in zip(self.cache, joining or [None] * len(self.cache), strict=True):
            layer.align(places, max(lengths, default=0), more)
        self.rows = kept

    @torch.no_grad()
    def step(self) -> Tensor:
        """The logits (B, V) behind the last token of every row."""
        columns, device = self.cache[0].length + 1, self.cache[0].keys.device
        last = torch.tensor([[row.tokens[-1]] for row in self.rows], device=device)  # (B, 1)
        starts = torch.tensor([[columns - len(row.tokens)] for row in self.rows], device=device)  # (B, 1)
        real = torch.arange(columns, device=device) >= starts  # (B, S)
        self.traffic.rows.append(len(self.rows))
        return self.model(last, cache=self.cache, last_only=True, padding_mask=None if real.all() else real)[:, -1]  # (B, V)
