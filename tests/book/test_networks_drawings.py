"""The drawings of the chapter on networks show the numbers of its page: the shares that open it, and the worked example."""

import json
import re
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
DRAWINGS = ROOT / "book" / "drawings"
BARS = {"straight boundary": "straight boundary", "two linear layers": "two linear layers, 64",
        "nearest sentence": "nearest sentence", "max(z, 0) between": "relu, 64"}  # in the drawing: in the table


def printed_tables():
    cells = json.loads((ROOT / "chapters" / "concepts" / "networks.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "\n".join("".join(output.get("data", {}).get("text/plain", "")) for output in outputs)


def test_the_opening_shows_the_shares_of_the_table():
    drawing, printed = (DRAWINGS / "netw-two.svg").read_text(encoding="utf-8"), printed_tables()
    for bar, row in BARS.items():
        drawn = re.search(rf">{re.escape(bar)}</text>.*?class=\"bold\"[^>]*>(\d+)<", drawing, re.S)[1]
        assert re.search(rf"^{row} .* \.{drawn}\u00a0±", printed, re.M), (bar, drawn)


def test_the_worked_example_shows_values_and_gradients():
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    w1 = torch.tensor([[1.0, 2.0], [1.0, -2.0]], requires_grad=True)
    w2 = torch.tensor([[1.0], [3.0]], requires_grad=True)
    z = x @ w1
    h = z.clamp(min=0)
    y = h @ w2
    loss = (y - 1).square().sum() / 2
    for result in (z, h, y, loss):
        result.retain_grad()
    loss.backward()
    pairs = [(tensor[place].item(), tensor.grad[place].item()) for tensor in (x, w1, z, h, w2, y)
             for place in torch.cartesian_prod(*map(torch.arange, tensor.shape)).unbind() for place in [tuple(place)]]
    expected = sorted((f"{a:.0f}".replace("-", "−"), f"{b:.0f}") for a, b in [*pairs, (loss.item(), 1.0)])
    drawing = (DRAWINGS / "netw-chain.svg").read_text(encoding="utf-8")
    numbers = re.findall(r">(−?\d)</text>", drawing)
    assert sorted(zip(numbers[::2], numbers[1::2], strict=True)) == expected
