"""The output that carries a model into the page."""

import base64
import hashlib
import json
from dataclasses import asdict

import torch

from tutorlib.compression.int8 import packed
from tutorlib.explorer.widgets import read_file, script_of
from tutorlib.models import GPT
from tutorlib.text.bpe import GPT2_PATTERN, BytePairTokenizer, to_visible

SIZES = ("width", "num_heads", "num_layers", "max_length", "activation", "eps")
PARTS = ("parts.js", "gpt.js", "tokenizer.js", "explorer.js")


class Explorer:
    """A model to type to, at the end of a cell: Jupyter and the built book show it alike.

    The page computes what `model` computes, from int8 weights: type, see each token tinted by its surprise in bits, the
    attention map of every head, the ten most probable next tokens at a temperature; draw tokens; switch heads off. With
    `inside` the maps are in sight at once, otherwise they unfold.
    Raises ValueError for a model that the page cannot run (another activation than GELU, an untied output), for a tokenizer
    with another number of tokens, and for an empty prompt.
    """

    def __init__(self, model: GPT, tokenizer: BytePairTokenizer, prompt: str, *, inside: bool = True):
        from safetensors.torch import save

        config = model.config
        if config.activation not in ("gelu", "gelu_tanh") or not config.tie_output:
            raise ValueError(f"model must have the activation 'gelu' or 'gelu_tanh' and a tied output, got {config}")
        if len(tokenizer) != config.vocabulary:
            raise ValueError(f"tokenizer must have the model's {config.vocabulary} tokens, got {len(tokenizer)}")
        if not tokenizer.encode(prompt):
            raise ValueError(f"prompt must hold at least one token, got {prompt!r}")
        with torch.no_grad():
            weights = base64.b64encode(save(packed(model))).decode()
        parts = {"tokens": [to_visible(tokenizer.token(number)) for number in range(len(tokenizer))],
                 "merges": [" ".join(map(to_visible, pair)) for pair in tokenizer.merges], "pattern": GPT2_PATTERN}
        sizes = {name: value for name, value in asdict(config).items() if name in SIZES}
        self.data = {"config": sizes, "tokenizer": parts, "prompt": prompt, "inside": inside, "weights": weights}

    def script(self, target: str) -> str:
        """The JavaScript that makes the element with the id `target` an explorer."""
        return script_of(PARTS, "explore", target, self.data)

    def html(self, target: str) -> str:
        """The element that the script fills, with its style; what it says is shown where no script runs."""
        return (f'<style>{read_file("explorer.css")}</style>\n<div class="gpt-explorer" id="{target}" role="group" '
                'aria-label="A GPT to explore">Here a small GPT runs in the page; it needs JavaScript.</div>')

    def __repr__(self) -> str:
        return f"Explorer of a GPT: {self.data['config']}"

    def _repr_html_(self) -> str:
        target = "gpt-" + hashlib.sha256(json.dumps(self.data).encode()).hexdigest()[:8]
        return f"{self.html(target)}\n<script>{self.script(target)}</script>"

