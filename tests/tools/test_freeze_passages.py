"""Chapters' Markdown becomes plain passages: what is left out, how formulas read, where passages are cut."""

import runpy
from pathlib import Path

import pytest

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "freeze_passages.py"))
LONG = " ".join(["word"] * 70)
PAGE = f"""# A title

:::{{admonition}} This chapter
:class: tip

Prerequisites: none.
:::

Opening words {LONG}.

:::{{figure-md}} fig-x
![alt](x.svg)

**A caption that stays** with {LONG}.
:::

## A [linked](x.md#a) heading: why?

(an-anchor)=
{LONG} as {{cite:t}}`vaswani2017attention` says {{cite}}`x` in {{numref}}`fig-x`.

:::{{admonition}} A box of errors
:class: dropdown erratum

{LONG}
:::

## Exercises

{LONG}
"""


@pytest.mark.parametrize("latex, plain", [
    (r"\frac{1}{\sqrt{d_k}}", "1/√d_k"), (r"\tfrac12 \alpha", "1/2 α"), (r"\mathcal{L} = -\log p", "L = -log p"),
    (r"x_{t+1} \in \mathbb{R}^{D}", "x_t+1 ∈ R^D"), (r"\frac{a + b}{2}", "(a + b)/2")])
def test_formulas_are_readable(latex, plain):
    assert TOOL["formula"](latex) == plain


def test_text_is_plain():
    assert TOOL["plain"]("**Bold**, *slanted*, `code`, [a link](x.md), .4 % and $d_k$.") == (
        "Bold, slanted, code, a link, .4 % and d_k.")
    assert TOOL["plain"]("| a | b |\n|---|---|\n| 1 | 2 |") == "a | b | | 1 | 2"


def test_a_page_keeps_text_and_captions_and_drops_boxes_and_exercises():
    found = list(TOOL["page_passages"]("chapters/x/y", PAGE))
    assert [(p["title"], p["anchor"]) for p in found] == [("A title", "a-title"), ("A title", "a-title"),
                                                         ("A title", "a-linked-heading-why")]
    assert found[1]["text"].startswith("A caption that stays") and "Prerequisites" not in found[0]["text"]
    assert found[2]["text"].endswith("as Vaswani says in the figure.")


def test_paragraphs_are_joined_up_to_a_length_and_leftovers_join_the_one_before():
    assert list(TOOL["packed"]([LONG, "a b c", LONG])) == [LONG + " a b c", LONG]
    short = " ".join(["x"] * 40)
    assert list(TOOL["packed"]([short, short, short])) == [" ".join([short] * 3)]
    assert list(TOOL["packed"](["too short"])) == []


def test_a_term_is_a_passage():
    entry, = TOOL["glossary_passages"]("```{glossary}\n:sorted:\n\nkey cache\n缓存\n  What *is* kept.\n```\n")
    assert entry["text"] == "key cache: What is kept." and entry["anchor"] == "term-key-cache"
