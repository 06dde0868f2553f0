"""The drawing that opens the chapter on depth shows the losses that its page prints."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_drawing_shows_the_losses_of_the_page():
    drawing = (ROOT / "book" / "drawings" / "depth-puzzle.svg").read_text(encoding="utf-8")
    cells = json.loads((ROOT / "chapters" / "attention" / "depth.ipynb").read_text(encoding="utf-8"))["cells"]
    printed = "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))
    drawn = re.findall(r'class="end bold"[^>]*>([\d.]+)<', drawing)
    assert drawn == [re.search(rf"{rule}: ([\d.]+) nats", printed)[1] for rule in ("post_norm", "pre_norm")]
