"""Small things to try in the page: attention of a few words, the choice of a token, a query and a key that turn.

Each ends a cell, in Jupyter and in the built book alike, and needs neither weights nor a network.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from torch import Tensor


@dataclass(frozen=True)
class Widget:
    """What a reader moves: `name` is that of the script, `data` what it begins with, `about` its name for a screen reader."""

    name: str
    about: str
    data: dict

    def __repr__(self) -> str:
        return f"Widget {self.name!r}: {self.about}"

    def _repr_html_(self) -> str:
        target = f"{self.name}-{hashlib.sha256(_as_literal(self.data).encode()).hexdigest()[:8]}"
        return (f'<style>{read_file("explorer.css")}</style>\n<div class="gpt-explorer widget" id="{target}" role="group" '
                f'aria-label="{self.about}">Here is something to move; it needs JavaScript.</div>\n'
                f"<script>{script_of(('parts.js', f'{self.name}.js'), self.name, target, self.data)}</script>")


def attention_by_hand(words: Sequence[str], queries: Tensor, keys: Tensor, values: Tensor, division: float = 1.0) -> Widget:
    """A table of queries (T, K), keys (T, K) and values (T, V) to write in, and the weights (T, T) and outputs that follow.

    Raises ValueError where a table has not a row for each word, queries and keys differ in width, or `division` is not above 0.
    """
    for name, table in (("queries", queries), ("keys", keys), ("values", values)):
        if table.dim() != 2 or len(table) != len(words):
            raise ValueError(f"{name} must have a row for each of the {len(words)} words, got {tuple(table.shape)}")
    if queries.size(1) != keys.size(1):
        raise ValueError(f"queries and keys must be equally wide, got {queries.size(1)} and {keys.size(1)}")
    if not division > 0:
        raise ValueError(f"division must be above 0, got {division}")
    data = {"words": list(words), "queries": queries.tolist(), "keys": keys.tolist(), "values": values.tolist(),
            "division": round(division, 2)}
    return Widget("attention", "Attention to calculate with", data)


def sampling(tokens: Sequence[str], scores: Tensor) -> Widget:
    """Bars of the probabilities of `tokens` by their scores (V,), with temperature, top-k and top-p to move, and draws.

    Raises ValueError where there is not a finite score for each token.
    """
    if scores.shape != (len(tokens),) or not scores.isfinite().all() or not len(tokens):
        raise ValueError(f"scores must hold a finite number for each of the {len(tokens)} tokens, got {tuple(scores.shape)}")
    data = {"tokens": list(tokens), "scores": [round(score, 4) for score in scores.tolist()]}
    return Widget("sampling", "The next token, to draw", data)


def turning(query: float, key: float, degrees: float, places: int = 12) -> Widget:
    """A query and a key of these lengths, turned by `degrees` a place, at places from 0 to `places` that a reader chooses.

    Raises ValueError for a length that is not above 0, and for fewer than three places.
    """
    if not (query > 0 and key > 0):
        raise ValueError(f"query and key must be lengths above 0, got {query} and {key}")
    if places < 3:
        raise ValueError(f"places must be 3 at least, got {places}")
    return Widget("turning", "Two hands that turn", {"query": query, "key": key, "degrees": degrees, "places": places})


def script_of(files_: Sequence[str], function: str, target: str, data: dict) -> str:
    """JavaScript that calls a function of these files with the element whose id is `target`, and with the data."""
    code = "\n".join(read_file(name) for name in files_)
    return f'(() => {{\n{code}\n{function}(document.getElementById("{target}"), {_as_literal(data)});\n}})();'


def _as_literal(data: dict) -> str:
    """The data as JavaScript that may stand in a page: no tag ends within it."""
    return json.dumps(data, ensure_ascii=False).replace("</", "<\\/")


def read_file(name: str) -> str:
    """A file of this room."""
    return (files("tutorlib.explorer") / name).read_text("utf8")
