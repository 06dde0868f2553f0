"""The drawing that opens the chapter on DETR shows the boxes of its record, and the objects that these miss."""
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT, TOP, SIDE = 8, 24, 200  # of the picture on the left, in units of the drawing


def test_the_drawing_shows_the_ordered_boxes_of_the_record():
    drawing = (ROOT / "book" / "drawings" / "detr-first.svg").read_text(encoding="utf-8")
    runs = json.loads((ROOT / "experiments" / "records" / "number_detr.json").read_text())["rules"]["left to right"]
    scene = next(run for run in runs if run["seed"] == 1)["by number"]["4"]["scenes"][1]
    number = r'="([\d.]+)"'
    drawn = re.findall(f'<rect x{number} y{number} width{number} height{number} style="fill:none;stroke:(#\\w+)', drawing)
    left = [(*map(float, box), color) for *box, color in drawn if float(box[0]) < LEFT + SIDE]
    said = [box for box in left if box[4] != "#ff6b5e"]
    assert len(left) == 6 and len(said) == 4  # two objects are lost
    for (x, y, width, height, _), (cx, cy, w, h) in zip(said, scene["boxes"], strict=False):
        there = LEFT + SIDE * (cx - w / 2), TOP + SIDE * (cy - h / 2), SIDE * w, SIDE * h
        assert (x, y, width, height) == pytest.approx(there, abs=0.06)
