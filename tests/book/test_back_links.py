import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "sphinx_ext"))
from back_links import Chapter, first_use, imported, with_first_uses, with_users

ROOT = Path(__file__).resolve().parents[2]

BOOK = (Chapter("chapters/a.ipynb", "A", "A loss falls; a key\nframe.", frozenset({"tutorlib.text.bpe"})),
        Chapter("chapters/b.ipynb", "B", "The **loss** is squared, **key-frames** are few.", frozenset({"tutorlib.text.bpe"})))
GLOSSARY = """# Glossary

```{glossary}
:sorted:

loss
损失
  What is made small.
  It is a number.

gain
  What is made large.
```
"""


@pytest.mark.parametrize("term, title", [("loss", "B"), ("key frame", "B"), ("squared", "B"), ("falls", "A"), ("lo", None),
                                         ("loss (of a model)", "B")])
def test_a_term_is_introduced_where_it_is_bold_or_else_where_it_is_first_used(term, title):
    found = first_use(term, BOOK)
    assert (found and found.title) == title


def test_a_definition_ends_with_its_chapter_and_a_term_without_one_stays():
    linked = with_first_uses(GLOSSARY, BOOK)
    assert linked == GLOSSARY.replace("It is a number.", "It is a number. ([B](../chapters/b.ipynb))")


def test_the_users_of_a_module_stand_above_it_in_the_order_of_the_book():
    page = "```{eval-rst}\n.. automodule:: tutorlib.text.bpe\n   :members:\n```\n"
    assert with_users(page, BOOK) == "*Used in* [A](../../chapters/a.ipynb), [B](../../chapters/b.ipynb).\n\n" + page
    assert with_users(page, ()) == page
    assert "and 4 more." in with_users(page, BOOK * 5)


def test_a_name_of_a_room_counts_for_its_file():
    code = "import torch\nfrom tutorlib.layers import LayerNorm, causal_mask\nfrom tutorlib.data.digits import load_digits"
    assert set(imported(ROOT, [code])) == {"tutorlib.layers.normalization", "tutorlib.layers.masks", "tutorlib.data.digits"}
