"""Draw the first picture of the chapter "Segmentation" from the recorded networks.

    python experiments/draw_segmentation.py book/drawings/segmentation-two.svg
"""

import base64
import io
import json
import runpy
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tutorlib.data.digits import load_digits

HERE = Path(__file__).parent
DRAWINGS = HERE.parent / "book" / "drawings"
PAIR = "no skips, 800 steps", "U-Net, 800 steps"
SEED, SIDE, STEP = 7, 98, 106  # of the scenes; units of a picture, and from one to the next
COLORS = "f2f2f2 0072b2 d55e00 00805e aa4499 5b3a1a 7f7f7f 56b4e9 e69f00".split()  # the ground, digits, shapes


def main(path: Path) -> None:
    program = runpy.run_path(str(HERE / "train_segmentation.py"))
    record = HERE / "records" / "train_segmentation_long.json"
    models = program["load_weights"](record.with_suffix(".safetensors"))
    made = program["scenes"](3, load_digits().test, SEED)
    answers = [program["answer"](models[name], made.images) for name in PAIR]
    parts = []
    for row in range(len(made.images)):
        for column, picture in enumerate((made.images, made.classes, *answers)):
            pixels = picture[row] if picture.dim() == 4 else painted(picture[row])
            parts.append(f'<image x="{10 + STEP * column}" y="{28 + STEP * row}" width="{SIDE}" height="{SIDE}" '
                         f'style="image-rendering:pixelated" href="data:image/png;base64,{png(pixels)}"/>')
    for column, name in enumerate(("picture", "truth", "wires cut", "whole")):
        parts.append(f'<text class="middle bold" x="{10 + STEP * column + SIDE / 2:g}" y="18">{name}</text>')
    below = 28 + STEP * len(made.images) + 14
    scores = [mean_boundary(json.loads(record.read_text()), name) for name in PAIR]
    parts.append(f'<text class="end" x="{10 + STEP * 2 - 12}" y="{below}">boundary IoU, three pairs</text>')
    parts += [f'<text class="middle bold" data-of="rim" x="{10 + STEP * column + SIDE / 2:g}" y="{below}">{score:.2f}</text>'
              for column, score in enumerate(scores, start=2)]
    x = 14
    for color, name in zip(COLORS[1:], program["CLASSES"][1:], strict=True):
        parts.append(f'<rect x="{x}" y="{below + 15}" width="12" height="12" rx="2" fill="#{color}"/>')
        parts.append(f'<text x="{x + 17}" y="{below + 26}">{name}</text>')
        x += 38 if len(name) == 1 else 28 + 7 * len(name)
    style = (DRAWINGS / "style.css").read_text().rstrip("\n")
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 440 {below + 36}">\n'
                    f'<style>\n{style}\n</style>\n' + "\n".join(parts) + "\n</svg>\n")


def mean_boundary(record: dict, name: str) -> float:
    """Of the three seeds of a network that had 800 steps."""
    further = [run for run in record["longer"] if f"{run['name']}, {run['steps']} steps" == name]
    return sum(run["boundary"] for run in (record["long"][name], *further)) / (1 + len(further))


def painted(classes: Tensor) -> Tensor:
    """(H, W) -> the classes' colors (3, H, W), 0 to 1."""
    colors = torch.tensor([[int(color[place:place + 2], 16) for place in (0, 2, 4)] for color in COLORS]) / 255
    return colors[classes].movedim(-1, 0)


def png(pixels: Tensor) -> str:
    """(3, H, W), 0 to 1, as the base64 of a PNG file."""
    file = io.BytesIO()
    Image.fromarray((255 * pixels.movedim(0, -1)).round().byte().numpy()).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
