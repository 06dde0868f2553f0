"""Small ViTs on images with planted evidence: where eight maps point, what probes read, what patching changes, by seeds.

    OMP_NUM_THREADS=1 python experiments/explain_planted.py experiments/records/planted.json

Images: `tutorlib.data.planted`. The weights of all seeds are written beside the record, as float16, and everything is measured
with these. The record is written after every seed; a second call goes on where it stopped.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.planted import CELL, GLYPHS, Planted, planted
from tutorlib.device import seed_everything
from tutorlib.evaluation.classification import accuracy
from tutorlib.interpretation import (
    LinearProbe,
    at_places,
    attention_rollout,
    attention_weights,
    gradient,
    gradient_times_input,
    integrated_gradients,
    occlusion,
    patched,
    share_found,
    states_of,
    with_shuffled_weights,
)
from tutorlib.models import ViT, ViTConfig
from tutorlib.records import load_half, open_record, rounded, save_half, surroundings, write_record
from tutorlib.training import train, warmup_cosine

CONFIG = ViTConfig(28, CELL, 1, len(GLYPHS), width=32, num_heads=2, num_layers=3, hidden=64)
SEEDS, STEPS, BATCH, RATE = (0, 1, 2, 3, 4), 300, 64, 3e-3
IMAGES = 100  # of each test, for each seed
PATH = 64  # steps of integrated gradients: its map then adds up to within .05
FIRST = 3  # losses at the start, which another machine can repeat
TESTS = {"one": {}, "two": {"copies": 2}, "rival": {"copies": 2, "rival": True}}


def batch(step: int, seed: int) -> Planted:
    """The images of a step: one bright shape or two of one class, in turn."""
    return planted(BATCH, torch.Generator().manual_seed(1000 * seed + step), copies=1 + step % 2)


def fit(seed: int, steps: int = STEPS) -> tuple[ViT, list[float]]:
    """A trained model, rounded to what the file holds, and its losses."""
    seed_everything(seed)
    model = ViT(CONFIG)
    history = train(model, lambda step: batch(step, seed), lambda model, b: F.cross_entropy(model(b.images), b.labels),
                    torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01), steps=steps,
                    schedule=warmup_cosine(30, STEPS), progress=False)
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model.eval(), history.losses


def cells(pixels: Tensor) -> Tensor:
    """The mean over each cell: (B, 1, 28, 28) -> (B, 16)."""
    return F.avg_pool2d(pixels, CELL).flatten(1)


def maps(model: ViT, images: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """What each method says of the logits of `classes` (B,), a number a cell: (B, 16) each. The last two ignore the model."""
    score = lambda x: model(x)[torch.arange(len(x)), classes]  # noqa: E731
    weights = attention_weights(model, images)  # a (B, H, T, T) a layer; place 0 is the class token
    return {"attention": weights[-1].mean(1)[:, 0, 1:], "attention, first layer": weights[0].mean(1)[:, 0, 1:],
            "rollout": attention_rollout(weights)[:, 0, 1:],
            "gradient": cells(gradient(score, images).abs()), "gradient x input": cells(gradient_times_input(score, images)),
            "integrated gradients": cells(integrated_gradients(score, images, steps=PATH)),
            "occlusion": occlusion(score, images, CELL).flatten(1), "brightness": cells(images), "ink": cells(images.abs())}


def drawn(test: str, seed: int, count: int = IMAGES, **given: Tensor) -> Planted:
    """The images of a test. The same seed gives the same ones, but for the shapes that are given."""
    return planted(count, torch.Generator().manual_seed(10**6 + seed), **TESTS[test], **given)


def localize(model: ViT, seed: int) -> dict[str, dict[str, float]]:
    """Of the cells with evidence for the class, the share that leads the map. In "rival", the second bright one is none."""
    found: dict[str, dict[str, float]] = {}
    for test in TESTS:
        images = drawn(test, seed)
        evidence = images.bright[:, :1] if test == "rival" else images.bright
        for name, each in maps(model, images.images, images.labels).items():
            found.setdefault(name, {})[test] = share_found(each, evidence).mean().item()
    return found


def on_ink(model: ViT, seed: int) -> dict[str, float]:
    """The share of a pixel map's magnitude that lies on the pixels of shapes, bright or dark; "everywhere" is their share of
    all pixels."""
    images = drawn("one", seed)
    score = lambda x: model(x)[torch.arange(len(x)), images.labels]  # noqa: E731
    bare = planted(IMAGES, torch.Generator().manual_seed(10**6 + seed), noise=0.0).images.abs()  # 1 where a shape is
    slope, path = gradient(score, images.images), integrated_gradients(score, images.images, steps=PATH)
    pixel = {"gradient": slope, "gradient on the path": path / images.images,  # without the factor x of the map
             "gradient x input": slope * images.images, "integrated gradients": path,
             "brightness": images.images, "everywhere": torch.ones_like(bare)}
    return {name: ((each.abs() * bare).sum((1, 2, 3)) / each.abs().sum((1, 2, 3))).mean().item()
            for name, each in pixel.items()}


def probe(model: ViT, seed: int, train_count: int = 600) -> dict[str, dict[str, list[float]]]:
    """Accuracy of probes behind the embedding and each layer, on images with one dark shape: which shape, read where."""
    sets = [planted(count, torch.Generator().manual_seed(2 * 10**6 + 10 * seed + i), dark=1)
            for i, count in enumerate((train_count, 300))]
    found: dict[str, dict[str, list[float]]] = {}
    modules = [model.position, *model.layers]
    states = [states_of(model, modules, each.images) for each in sets]
    for shape in ("bright", "dark"):
        labels = [each.labels if shape == "bright" else each.dark_shapes[:, 0] for each in sets]
        for place in ("own cell", "class token"):
            found.setdefault(shape, {})[place] = [
                LinearProbe(pick(states[0][layer], sets[0], shape, place), labels[0], len(GLYPHS), penalty=1e-2).accuracy(
                    pick(states[1][layer], sets[1], shape, place), labels[1]) for layer in range(len(modules))]
    return found


def pick(states: Tensor, images: Planted, shape: str, place: str) -> Tensor:
    """(B, T, D) -> (B, D): the state of the class token, or of the cell in which the shape stands."""
    return states[torch.arange(len(states)), 1 + getattr(images, shape)[:, 0] if place == "own cell" else 0]


def places(images: Planted) -> dict[str, Tensor]:
    """Token numbers (B, N): the bright cell, the dark ones, all others, the class token."""
    count = len(images.labels)
    used = torch.cat([images.bright, images.dark], 1)
    free = torch.ones(count, 16).scatter(1, used, 0).nonzero()[:, 1].view(count, -1)
    return {"bright cell": 1 + images.bright, "dark cells": 1 + images.dark, "empty cells": 1 + free,
            "class token": torch.zeros(count, 1, dtype=torch.long)}


def patch(model: ViT, seed: int) -> dict[str, dict[str, list[float]]]:
    """How far the answer goes over to the donor's when the states of some places are the donor's, behind each stage.

    Donors are the same images with another bright shape, or with three other dark ones. 0: nothing moves, 1: all the way, in
    the logit of the donor's class less that of the image's own. For dark donors, which have the same class: the share of
    answers that change.
    """
    images, shift = drawn("one", seed), torch.Generator().manual_seed(seed)
    bright = (images.labels + torch.randint(1, 4, (IMAGES,), generator=shift)) % 4  # (B,): another shape
    dark = (images.dark_shapes + torch.randint(1, 4, (IMAGES, 3), generator=shift)) % 4  # (B, 3): three others
    others = {"bright": drawn("one", seed, labels=bright), "dark": drawn("one", seed, dark_shapes=dark)}
    modules = [model.position, *model.layers]
    found: dict[str, dict[str, list[float]]] = {"bright": {}, "dark": {}}
    with torch.no_grad():
        answers = model(images.images).argmax(1)  # (B,)
    for shape, donor in others.items():
        donors = states_of(model, modules, donor.images)
        for name, where in places(images).items():
            for module, states in zip(modules, donors, strict=True):
                with torch.no_grad(), patched(module, at_places(where, states)):
                    changed = model(images.images)  # (B, 4)
                effect = moved(model, images, donor, changed) if shape == "bright" else (
                    changed.argmax(1) != answers).float().mean().item()
                found[shape].setdefault(name, []).append(effect)
    return found


@torch.no_grad()
def moved(model: ViT, images: Planted, donor: Planted, changed: Tensor) -> float:
    """The mean way of the difference of two logits, as a share of the whole way from the images' to the donors'."""
    def lead(logits: Tensor) -> Tensor:
        rows = torch.arange(len(logits))
        return logits[rows, donor.labels] - logits[rows, images.labels]  # (B,)

    start, end = lead(model(images.images)), lead(model(donor.images))
    return ((lead(changed) - start) / (end - start)).mean().item()


def measure(model: ViT, seed: int) -> dict:
    """Everything that the page shows of a seed."""
    right = {test: accuracy(model, each.images, each.labels) for test in TESTS for each in [drawn(test, seed, 1000)]}
    shuffled = with_shuffled_weights(model, torch.Generator().manual_seed(seed))
    return {"right": right, "found": localize(model, seed), "found_shuffled": localize(shuffled, seed),
            "on_ink": on_ink(model, seed), "on_ink_shuffled": on_ink(shuffled, seed),
            "probe": probe(model, seed), "probe_shuffled": probe(shuffled, seed), "patch": patch(model, seed)}


def load_models(path: Path) -> dict[int, ViT]:
    """The trained models of the file, by seed."""
    from safetensors import safe_open

    with safe_open(path, "pt") as tensors:
        seeds = sorted({name.split(".")[0] for name in tensors.keys()}, key=int)  # noqa: SIM118, the file is no dictionary
    models = load_half(nn.ModuleDict({seed: ViT(CONFIG) for seed in seeds}), path)
    return {int(seed): model for seed, model in models.items()}


def save_models(models: dict[int, ViT], path: Path) -> None:
    """All in one file."""
    save_half(nn.ModuleDict({str(seed): model for seed, model in models.items()}), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with; the weights go beside it")
    path = parser.parse_args().record
    weights = path.with_suffix(".safetensors")
    record = open_record(path, lambda: {
        "settings": {"steps": STEPS, "batch": BATCH, "rate": RATE, "images": IMAGES, "path": PATH}, **surroundings(),
        "runs": []})
    models = load_models(weights) if weights.exists() else {}
    for seed in SEEDS:
        if any(run["seed"] == seed for run in record["runs"]):
            continue
        start = time.process_time()
        models[seed], losses = fit(seed)
        found = rounded(measure(models[seed], seed))
        record["runs"].append({"seed": seed, "seconds": round(time.process_time() - start, 1),
                               "losses": rounded(losses[:FIRST] + losses[FIRST + 46::50])} | found)
        save_models(models, weights)
        write_record(path, record)
        print(seed, record["runs"][-1]["seconds"], found["right"], flush=True)


if __name__ == "__main__":
    main()
