"""Freeze the book's own text as passages that a search can be tried on: tutorlib/data/passages.jsonl.gz.

    python tools/freeze_passages.py [tutorlib/data/passages.jsonl.gz]

A passage is one or more neighboring paragraphs under one heading of a chapter, about 120 words at most, or one term of the
glossary. Code, drawings, errata, folded answers, exercises and what a page repeats of itself (its summary, its box of
prerequisites) are left out, and so is the chapter that searches. Formulas become plain characters. The committed file is
frozen on purpose: the questions asked of it name its headings, and an edit of a chapter must not move a measured number.
Run this again only together with the questions, and write the new hash that is printed into tutorlib/data/passages.py.
"""

import argparse
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = 120  # a passage is closed where one more paragraph would pass it
FEWEST = 12  # shorter leftovers join the passage before
LEFT_OUT = re.compile(r"^(summary|questions|exercises?\b.*|references|(an )?errors? in the documents)$", re.I)
SELF = "retrieval-and-question-answering"
MARKS = ("text|textstyle|displaystyle|underbrace|boldsymbol|limits|mathrm|mathbf|mathcal|mathbb|operatorname|bar|overline|hat"
         "|tilde|[bB]ig[lr]?|left|right")
SIGNS = {
    "cdot": "·", "times": "×", "pi": "π", "sigma": "σ", "alpha": "α", "beta": "β", "gamma": "γ", "lambda": "λ", "mu": "μ",
    "theta": "θ", "eta": "η", "epsilon": "ε", "varepsilon": "ε", "delta": "δ", "Delta": "Δ", "phi": "φ", "varphi": "φ",
    "tau": "τ", "rho": "ρ", "omega": "ω", "kappa": "κ", "nabla": "∇", "ell": "ℓ", "infty": "∞", "sum": "Σ", "prod": "Π",
    "partial": "∂", "approx": "≈", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "neq": "≠", "ne": "≠", "pm": "±", "odot": "⊙",
    "in": "∈", "to": "→", "rightarrow": "→", "leftarrow": "←", "mid": "|", "top": "ᵀ", "ldots": "...", "dots": "...",
    "cdots": "...", "sim": "~", "propto": "∝", "ll": "≪", "gg": "≫", "langle": "⟨", "rangle": "⟩", "lfloor": "⌊",
    "rfloor": "⌋", "quad": " ", "qquad": " ", "succ": "≻", "ast": "*", "star": "*", "circ": "∘", "Vert": "‖",
    "lVert": "‖", "rVert": "‖", "cup": "∪", "vdots": "...",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=ROOT / "tutorlib" / "data" / "passages.jsonl.gz")
    path = parser.parse_args().file
    lines = "".join(json.dumps(passage, ensure_ascii=False) + "\n" for passage in book_passages(ROOT)).encode()
    path.write_bytes(gzip.compress(lines, 9, mtime=0))
    print(f"{lines.count(10)} passages, {path.stat().st_size} bytes, sha256 of the text {hashlib.sha256(lines).hexdigest()}")


def book_passages(root: Path) -> Iterator[dict[str, str]]:
    """All passages in the order of the table of contents, the glossary last."""
    pages = re.findall(r"file: (chapters/\S+)", (root / "_toc.yml").read_text("utf8"))
    for page in pages:
        if not page.endswith(SELF):
            cells = json.loads((root / f"{page}.ipynb").read_text("utf8"))["cells"]
            text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
            yield from page_passages(page, text)
    yield from glossary_passages((root / "book" / "glossary.md").read_text("utf8"))


def page_passages(page: str, text: str) -> Iterator[dict[str, str]]:
    """The passages of one chapter's Markdown."""
    title = heading = ""
    kept: list[tuple[str, list[str]]] = []  # of each heading its paragraphs
    for block in blocks(text):
        if found := re.match(r"(#+) (.*)", block):
            heading = plain(found[2])
            title = title or heading
            kept.append((heading, []))
        elif heading and not LEFT_OUT.match(heading) and (paragraph := plain(block)):
            kept[-1][1].append(paragraph)
    for heading, paragraphs in kept:
        for body in packed(paragraphs):
            yield {"page": page, "title": title, "heading": heading, "anchor": slug(heading), "text": body}


def blocks(text: str) -> Iterator[str]:
    """Paragraphs, headings and captions; boxes that repeat, quote or answer are skipped, others lose their fence."""
    text = re.sub(r"^```.*?^```[ ]*$", "", text, flags=re.M | re.S)
    text = re.sub(r"^(:{3,}\s*\{admonition\}.*?)^:{3,}\s*$", _box, text, flags=re.M | re.S)
    text = re.sub(r"^:{3,}.*$|^!\[.*$|^\([\w-]+\)=\s*$|^(---|\*\*\*)$|^:\w+:.*$", "", text, flags=re.M)
    text = re.sub(r"^(#+ .*)$", r"\n\1\n", text, flags=re.M)
    yield from (block.strip() for block in re.split(r"\n\s*\n", text) if block.strip())


def _box(found: re.Match) -> str:
    head, _, body = found[1].partition("\n")
    kind = re.search(r"^:class: (.*)$", body, re.M)
    if "This chapter" in head or (kind and re.search("erratum|question|tip", kind[1])):
        return ""
    return body


def packed(paragraphs: list[str]) -> Iterator[str]:
    """Neighbors joined up to WORDS words; what is too short for a passage joins the one before."""
    made: list[str] = []
    for paragraph in paragraphs:
        count = len(paragraph.split())
        if made and (len(made[-1].split()) + count <= WORDS or count < FEWEST):
            made[-1] += " " + paragraph
        else:
            made.append(paragraph)
    yield from (passage for passage in made if len(passage.split()) >= FEWEST)


def glossary_passages(text: str) -> Iterator[dict[str, str]]:
    """A passage a term: `name` and what it is."""
    inside = text.split("```{glossary}")[1].split("```")[0].replace(":sorted:", "")
    for entry in re.split(r"\n\s*\n", inside.strip()):
        lines = entry.split("\n")
        names = [line for line in lines if not line.startswith(" ")]
        says = plain(" ".join(line.strip() for line in lines if line.startswith(" ")))
        term = plain(names[0])
        if says:
            yield {"page": "book/glossary", "title": "Glossary", "heading": term,
                   "anchor": "term-" + re.sub(r"\s+", "-", names[0].strip()), "text": f"{term}: {says}"}


def plain(text: str) -> str:
    """A paragraph of Markdown as one line of plain characters."""
    text = " ".join(row for row in text.split("\n") if not re.fullmatch(r"[|:\s-]+", row))
    text = re.sub(r"\(?\{cite(:p)?\}`[^`]*`\)?", "", text)
    text = re.sub(r"\{cite:t\}`([a-z]+)\d{4}\w*`", lambda name: name[1].capitalize(), text)
    text = re.sub(r"\{(numref|eq)\}`[^`]*`", lambda role: "the figure" if role[1] == "numref" else "the equation", text)
    text = re.sub(r"\{\w+\}`([^`<]*)(<[^`]*>)?`", r"\1", text)
    text = re.sub(r"\$\$(.*?)\$\$(\s*\([\w-]+\))?|\$([^$]+)\$", lambda maths: formula(maths[1] or maths[3] or ""), text)
    text = re.sub(r"\[([^\]]*)\]\((?:[^()\s]|\([^)]*\))*\)(\{[^}]*\})?", r"\1", text)
    text = re.sub(r"\*\*|`|(?<!\w)\*(?=\S)|(?<=\S)\*(?!\w)|^[-*] |^\d\. |^> ?", "", text)
    text = re.sub(r"\s*\|\s*", " | ", text).strip(" |")
    return re.sub(r"\s+([,.;:?!)])(?!\d)", r"\1", re.sub(r"\s+", " ", text)).strip()


def formula(latex: str) -> str:
    """A formula in plain characters: \\frac{a}{b} as a/b, \\sqrt{d_k} as √d_k."""
    text = re.sub(rf"\\({MARKS})\*?(?![a-z])", "", latex)
    text = re.sub(r"\\(?:begin|end)\{\w+\}|\\\\|&", " ", text)
    text = re.sub(r"\\[td]?frac\s*(\d)\s*(\w)", r"\1/\2", text)
    text = re.sub(r"\\[td]?frac\s*([\w])\s*(?=\{)", r"\\frac{\1}", text)
    inner = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
    for _ in range(3):
        text = re.sub(r"\\[td]?frac\s*" + inner + r"\s*" + inner, lambda f: f"{_tied(f[1])}/{_tied(f[2])}", text)
        text = re.sub(r"\\sqrt\s*" + inner, lambda f: f"√{_tied(f[1])}", text)
    text = re.sub(r"\\[,;:! ]", " ", text)
    text = re.sub(r"\\([a-zA-Z]+)", lambda sign: SIGNS.get(sign[1], sign[1]), text)
    text = re.sub(r"[\^_]" + inner, lambda f: f[0][0] + (f[1] if len(f[1]) < 4 else f"({f[1]})"), text)
    return re.sub(r"\s+", " ", text.replace("{", "").replace("}", "").replace("\\", "").replace("~", " ")).strip()


def _tied(part: str) -> str:
    return part if re.fullmatch(r"[\w\\{}.]+", part.strip()) else f"({part.strip()})"


def slug(heading: str) -> str:
    """The anchor of a heading in the built book."""
    return re.sub(r"-+", "-", re.sub(r"[^a-z0-9]+", "-", heading.lower())).strip("-")


if __name__ == "__main__":
    main()
