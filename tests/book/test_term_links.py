import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "sphinx_ext"))
from term_links import HOMONYMS, definitions, first_uses, is_plain, matches

GLOSSARY = """```{glossary}
:sorted:

attention
注意力
  A weighted average. In matrices: $QK$.

attention weight
  The share of a position.

BPE (byte-pair encoding)
  A tokenizer.
```
"""


def test_definitions_are_the_sentences_without_a_formula():
    assert definitions(GLOSSARY) == {"attention": "A weighted average.", "attention weight": "The share of a position.",
                                     "BPE (byte-pair encoding)": "A tokenizer."}


def places(text: str) -> list[tuple[str, str]]:
    terms = {term: matches(term) for term in definitions(GLOSSARY)}
    return [(term, text[begin:end]) for begin, end, term in first_uses(text, terms)]


def test_the_first_place_counts_and_the_longer_term():
    assert places("Attention weights are not attention.") == [("attention weight", "Attention weights")]
    assert places("An attention-weight, BPE.") == [("attention weight", "attention-weight"),
                                                   ("BPE (byte-pair encoding)", "BPE")]


def test_parts_of_words_are_no_terms():
    assert places("inattention, cross-attention, bpe-like") == []


def test_a_word_of_many_senses_is_left_alone():
    assert not is_plain("kernel") and not is_plain("path (of diffusion)") and is_plain("attention")
    text = (Path(__file__).resolve().parents[2] / "book" / "glossary.md").read_text("utf8")
    assert {term.partition(" (")[0] for term in definitions(text)} >= HOMONYMS


def test_a_chapter_leads_to_the_glossary(site):
    page = (site / "chapters" / "attention" / "scaled-dot-product.html").read_text("utf8")
    start = page.index('<a class="term reference internal" href="../../book/glossary.html#term-')
    assert 'title="' in page[start:start + 700]
    assert page.count('glossary.html#term-attention"') == 1


def test_a_link_to_a_chapter_keeps_its_words(site):
    """A link that is resolved late must not be taken for text."""
    page = (site / "chapters" / "concepts" / "large-models.html").read_text("utf8")
    assert '<span class="std std-doc"></span>' not in page
