"""Train the DETR of the chapter "DETR" on scenes, and compare it with what one would do without matching.

    OMP_NUM_THREADS=1 python experiments/train_detr.py experiments/records/train_detr.json

first teaches its ResNet to name pictures of one object (the paper's comes from ImageNet), then the whole network to detect. It
writes the learning curve, the scores on scenes of digits that were never trained on, and those of the baseline; beside it the
weights in float16 (train_detr.safetensors). Both are written anew at every checkpoint.

    python experiments/train_detr.py experiments/records/ablate_detr.json --arms 0 1 2 --steps 600

trains the same model from the given seeds in each way of `ARMS`, shorter and on simpler scenes (`SIMPLE`): queries matched, or
fixed to objects by an order; without the auxiliary losses; with "no object" at full weight; with a ResNet that was taught
nothing. Nothing else differs between arms. `--only matched "left to right"` takes these two alone (race_detr.json, with 2,400
steps). `--rule "left to right"` is the long run by that rule (train_detr_ordered.json, broken off after 4,000 steps), and
`--pool 20000` the one with a fifth of the scenes (train_detr_fewer.json, whose scenes were drawn in one piece, from seed 0).

    python experiments/train_detr.py experiments/records/number_detr.json --numbers 0 1 --steps 1600

trains "left to right" and "matched" from each seed on scenes of one to five objects that do not hide each other (`APART`), and
tests both on scenes of exactly one, two, ... five: nothing but the number changes. It counts which object each output holds and
what is found by the gap to the nearest object.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.baselines.components import Templates, detect_components, fitted
from tutorlib.data.batches import ShuffledBatches, numbered_generator
from tutorlib.data.digits import Images, load_digits
from tutorlib.data.scenes import NAMES, Scenes, make_scenes, shape_ink, tight
from tutorlib.device import has_fast_bfloat16, seed_everything
from tutorlib.evaluation.classification import accuracy
from tutorlib.evaluation.detection import Detections, Objects, average_precision, detections, iou, kinds_of_error
from tutorlib.models.detr import DETR, Backbone, DETRConfig
from tutorlib.records import load_half, save_half, surroundings, write_record
from tutorlib.training.loop import train
from tutorlib.training.matching import NO_OBJECT, Targets, match, set_loss
from tutorlib.training.schedules import warmup_cosine

CONFIG = DETRConfig(num_classes=len(NAMES), num_queries=8, width=64, num_heads=4, hidden=192, num_encoder_layers=2,
                    num_decoder_layers=3, dropout=0.0, base=20.0, depths=(1, 2), widths=(48, 128), stem_width=32,
                    bottleneck=False)
POOL, CHUNK, BATCH, RATE, WARMUP = 100_000, 5_000, 32, 1e-3, 200
SINGLE = dict(size=32, objects=(1, 1), sides=(14, 28))  # pictures of one object, which teach the ResNet first
PICTURES, SINGLE_STEPS, SINGLE_BATCH, SINGLE_RATE = 8_000, 2_000, 64, 2e-3
TEST, TEST_SEED = 500, 1  # scenes of test digits
SIMPLE = dict(size=32, objects=(1, 3), sides=(12, 20))  # the scenes of the arms, of one digit and three shapes
FEW = (0,)
SIMPLE_BATCH, SIMPLE_POOL = 16, 3000
APART = dict(size=48, sides=(10, 14), visible=1.0)  # scenes in which no object hides another, of one digit and three shapes
NUMBERS, APART_POOL, APART_TEST = range(1, 6), 6000, 300
APART_SINGLE_STEPS = 600
GAPS = 0, 1, 2, 4, 8, 1000  # pixels
FIRST = 3  # losses in float32 at the start, which another machine can repeat


def main() -> None:
    options = arguments()
    digits, record = load_digits(), about(options)
    if options.arms:
        record_arms(digits, options, record)
    elif options.numbers:
        record_numbers(digits, options, record)
    else:
        record_long(digits, options, record)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write; the weights go beside it")
    parser.add_argument("--steps", type=int, default=16_000, help="steps of training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    parser.add_argument("--arms", type=int, nargs="+", metavar="SEED", help="train each of ARMS from each of these seeds")
    parser.add_argument("--numbers", type=int, nargs="+", metavar="SEED", help="test two arms by the number of objects")
    parser.add_argument("--rule", choices=ARMS, default="matched", help="the way of the long run (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS), help="these arms (default: all)")
    parser.add_argument("--pool", type=int, default=POOL, help="scenes to train on (default: %(default)s)")
    return parser.parse_args()


def about(options: argparse.Namespace) -> dict:
    return {"settings": {"steps": options.steps, "scenes": options.pool, "batch": BATCH, "rate": RATE, "warmup": WARMUP,
                         "test scenes": TEST, "pictures": PICTURES, "pictures, steps": SINGLE_STEPS},
            "seed": options.seed, **surroundings(), "autocast": str(fast())}


def fast() -> torch.dtype | None:
    return torch.bfloat16 if has_fast_bfloat16("cpu") else None


class SceneBatches:
    """Batches of a pool of scenes, drawn in chunks; in each image the three colors change places by chance.

    `batches(step)` is (images (B, 3, S, S), targets), and depends on `seed` and the step alone.
    """

    def __init__(self, chunks: Iterable[Scenes], batch_size: int, seed: int):
        kept = [((each.images * 255).round().byte(), each.boxes, each.labels) for each in chunks]  # a byte a color value
        images, boxes, labels = zip(*kept, strict=True)
        self.images = torch.cat(images)  # (N, 3, S, S)
        self.boxes, self.labels, self.seed = [*chain(*boxes)], [*chain(*labels)], seed
        self.rows = ShuffledBatches(torch.arange(len(self.images)), batch_size=batch_size, seed=seed)

    def __call__(self, step: int) -> tuple[Tensor, Targets]:
        rows, = self.rows(step)  # (B,)
        order = torch.rand(len(rows), 3, generator=numbered_generator(self.seed, step)).argsort(1)  # (B, 3)
        images = self.images[rows[:, None], order].float() / 255  # (B, 3, S, S)
        images = images.contiguous(memory_format=torch.channels_last)  # the order that convolutions are fast in
        return images, Targets.of([self.labels[row] for row in rows], [self.boxes[row] for row in rows])


class Classifier(nn.Module):
    """The ResNet of a DETR, the mean over its map, one linear map to the classes."""

    def __init__(self):
        super().__init__()
        self.backbone, self.output = Backbone(CONFIG), nn.Linear(CONFIG.widths[-1], CONFIG.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C)."""
        return self.output(self.backbone(images).mean((2, 3)))


def taught(digits, seed: int, steps: int = SINGLE_STEPS) -> tuple[Classifier, float]:
    """A classifier of pictures that show one object, and its accuracy on those of digits that it never saw."""
    seed_everything(seed)
    model = Classifier().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=SINGLE_RATE, weight_decay=1e-4, fused=True)

    def loss(model: Classifier, batch: tuple[Tensor, Targets]) -> Tensor:
        return F.cross_entropy(model(batch[0]).float(), batch[1].labels)

    train(model, SceneBatches([make_scenes(PICTURES, digits.train, 2, **SINGLE)], SINGLE_BATCH, seed), loss, optimizer,
          steps=steps, schedule=warmup_cosine(min(50, steps // 5), steps), autocast=fast(), progress=False)
    test = make_scenes(TEST, digits.test, 3, **SINGLE)
    return model.eval(), accuracy(model, test.images, torch.cat(test.labels))


def pool_of(number: int, digits) -> Iterator[Scenes]:
    """Scenes of training digits in chunks, since their masks and floats would fill the memory."""
    for chunk, start in enumerate(range(0, number, CHUNK)):
        yield make_scenes(min(CHUNK, number - start), digits.train, 10 + chunk)


def new_model(seed: int, classifier: Classifier | None = None) -> DETR:
    """From a seed, with the ResNet of a classifier or one that starts at random as the rest."""
    seed_everything(seed)
    model = DETR(CONFIG)
    if classifier is not None:
        model.backbone.load_state_dict(classifier.backbone.state_dict())
    return model.to(memory_format=torch.channels_last)


def optimizer_of(model: DETR) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-4, fused=True)


Choice = Callable[[Tensor, Tensor, Targets], Tensor]  # which query answers for each object


def drawing_order(logits: Tensor, boxes: Tensor, targets: Targets) -> Tensor:
    """Query k for the k-th object from the back."""
    return _rank(torch.arange(len(targets.image)), targets.image)


def left_to_right(logits: Tensor, boxes: Tensor, targets: Targets) -> Tensor:
    """Query k for the k-th object from the left."""
    return _rank(targets.boxes[:, 0], targets.image)


def _rank(value: Tensor, image: Tensor) -> Tensor:
    """The place of each object among those of its image by a value (M,): 0 for the least."""
    before = (image == image[:, None]) & (value < value[:, None])  # (M, M)
    return before.sum(1)


def loss_of(choose: Choice = match, *, auxiliary: bool = True, no_object: float = NO_OBJECT) -> Callable:
    """`detr_loss` with its three choices open."""
    def loss(model: DETR, batch: tuple[Tensor, Targets]) -> Tensor:
        images, targets = batch
        logits, boxes = model.every_layer(images) if auxiliary else (each[None] for each in model(images))
        layers = zip(logits.float(), boxes.float(), strict=True)
        return sum(set_loss(*layer, targets, choose(*layer, targets), no_object=no_object) for layer in layers)
    return loss


class Arm(NamedTuple):
    """A loss, and whether the ResNet was taught to name objects before."""

    loss: Callable
    taught: bool = True


ARMS = {
    "matched": Arm(loss_of()),
    "in drawing order": Arm(loss_of(drawing_order)),
    "left to right": Arm(loss_of(left_to_right)),
    "matched, no auxiliary losses": Arm(loss_of(auxiliary=False)),
    "matched, no object weighs 1": Arm(loss_of(no_object=1.0)),
    "matched, ResNet untaught": Arm(loss_of(), taught=False),
}


@torch.no_grad()
def found_by(model: DETR, images: Tensor, least: float = 0.0) -> list:
    """All detections of images (N, 3, S, S), in evaluation mode and float32."""
    was, found = model.training, []
    model.eval()
    for part in images.split(100):
        found += detections(*model(part), least)
    model.train(was)
    return found


def objects_of(scenes: Scenes) -> list[Objects]:
    return [Objects(*each) for each in zip(scenes.boxes, scenes.labels, strict=True)]


def scores(found: list, there: list[Objects]) -> dict:
    return {"AP50": round(average_precision(found, there, [0.5]), 4), "AP": round(average_precision(found, there), 4)}


def test_scenes(digits) -> Scenes:
    return make_scenes(TEST, digits.test, TEST_SEED)


def first_losses(pool: Scenes, seed: int) -> list[float]:
    """The losses of the first steps in float32, of a ResNet that was taught nothing; the first 200 scenes are enough."""
    model = new_model(seed)
    return train(model, SceneBatches([pool], BATCH, seed), loss_of(), optimizer_of(model), steps=FIRST,
                 schedule=warmup_cosine(WARMUP, 1000), clip_norm=1.0, progress=False).losses


def run(model: DETR, batches: SceneBatches, steps: int, loss: Callable, **watch) -> list[float]:
    """Train; the losses."""
    history = train(model, batches, loss, optimizer_of(model), steps=steps,
                    schedule=warmup_cosine(min(WARMUP, steps // 5), steps), clip_norm=1.0, autocast=fast(), progress=False,
                    **watch)
    model.eval()
    return history.losses


def record_long(digits, options: argparse.Namespace, record: dict) -> None:
    batches, test = SceneBatches(pool_of(options.pool, digits), BATCH, options.seed), test_scenes(digits)
    there, weights, spent = objects_of(test), options.record.with_suffix(".safetensors"), 0.0
    record["first_losses"] = first_losses(make_scenes(200, digits.train, 0), options.seed)
    start = time.perf_counter()
    classifier, right = taught(digits, options.seed)
    record["classifier"] = {"accuracy": right, "seconds": round(time.perf_counter() - start, 1)}
    record["curve"] = []

    def evaluate(model: DETR) -> None:
        nonlocal spent
        begun = time.perf_counter()
        step = len(record["curve"]) * every + every
        record["curve"].append({"step": min(step, options.steps), "seconds": round(begun - start - spent, 1),
                                "AP50": round(average_precision(found_by(model, test.images), there, [0.5]), 4)})
        save_half(model, weights)
        if options.rule == "left to right":
            record["right by place"] = right_by_place(load_weights(weights), test)
        write_record(options.record, record)
        print(record["curve"][-1], flush=True)
        spent += time.perf_counter() - begun  # evaluating is not training

    every, start = max(1, options.steps // 8), time.perf_counter()
    model = new_model(options.seed, classifier)
    losses = run(model, batches, options.steps, ARMS[options.rule].loss, evaluate=evaluate, evaluate_every=every)
    record["parameters"] = sum(p.numel() for p in model.parameters())
    record["losses"] = [round(sum(part) / len(part), 4) for part in chunks(losses, max(1, options.steps // 60))]
    save_half(model, weights)
    kept = load_weights(weights)
    record |= final_scores(kept, test, there)
    record |= {"own scenes": own_scores(kept, digits), "baseline": baseline(digits, test, there)}
    write_record(options.record, record)


def chunks(values: list, size: int) -> list[list]:
    return [values[start:start + size] for start in range(0, len(values) - size + 1, size)]


def final_scores(model: DETR, test: Scenes, there: list[Objects]) -> dict:
    """Of the weights as they are kept: scores, AP50 by the number of objects, errors of what is sure, and each layer's AP50."""
    with torch.no_grad():
        logits, boxes = (torch.cat(part, 1) for part in zip(*map(model.every_layer, test.images.split(100)), strict=True))
    found = detections(logits[-1], boxes[-1])  # the last layer answers
    by_number = {}
    for number in sorted({len(each.labels) for each in there}):
        chosen = [k for k, each in enumerate(there) if len(each.labels) == number]
        by_number[number] = scores([found[k] for k in chosen], [there[k] for k in chosen])["AP50"]
    layers = [scores(detections(*layer), there)["AP50"] for layer in zip(logits, boxes, strict=True)]
    return {"scores": scores(found, there), "AP50 by objects": by_number, "AP50 by layer": layers,
            "errors": kinds_of_error(detections(logits[-1], boxes[-1], 0.5), there)}


def own_scores(model: DETR, digits) -> dict:
    """On the first scenes that it was trained on."""
    scenes = next(pool_of(TEST, digits))
    return scores(found_by(model, scenes.images), objects_of(scenes))


@torch.no_grad()
def right_by_place(model: DETR, test: Scenes, objects: int = 5) -> list[float]:
    """Of scenes with this many objects: how often output k has the box of the k-th from the left (IoU of one half)."""
    chosen = [k for k, labels in enumerate(test.labels) if len(labels) == objects]
    boxes = torch.cat([model(part)[1] for part in test.images[chosen].split(100)])[:, :objects]  # (N, M, 4)
    there = torch.stack([test.boxes[k][test.boxes[k][:, 0].argsort()] for k in chosen])  # (N, M, 4)
    return [round(share, 4) for share in (iou(boxes, there) >= 0.5).float().mean(0).tolist()]


def baseline(digits, test: Scenes, there: list[Objects]) -> dict:
    """Components of one color, named by the most similar training digit or shape: settings chosen on training digits."""
    found = detect_components(test.images, templates(digits.train))
    return {"scores": scores(found, there), "errors": kinds_of_error(found, there)}


def templates(digits: Images) -> Templates:
    """Every training digit, and each shape."""
    shapes = [shape_ink(name, 28) for name in NAMES[10:]]
    inks = [*map(tight, digits.images[:, 0]), *shapes]
    labels = torch.cat([digits.labels, torch.arange(10, len(NAMES))])
    return Templates(torch.stack([fitted((ink > 0.5).float()) for ink in inks]), labels)


def few(digits: Images) -> Images:
    """Only the digits `FEW`."""
    rows = (digits.labels[:, None] == torch.tensor(FEW)).any(1)  # (N,)
    return Images(digits.images[rows], digits.labels[rows])


def record_arms(digits, options: argparse.Namespace, record: dict) -> None:
    pool = make_scenes(SIMPLE_POOL, few(digits.train), 0, **SIMPLE)
    test = make_scenes(TEST, few(digits.test), TEST_SEED, **SIMPLE)
    record["settings"] |= {"scenes": SIMPLE_POOL, "batch": SIMPLE_BATCH, "digits": FEW} | SIMPLE
    record["arms"] = {name: [] for name in options.only}
    for seed in options.arms:
        classifier, _ = taught(digits, seed)
        batches = SceneBatches([pool], SIMPLE_BATCH, seed)
        for name in options.only:
            record["arms"][name].append({"seed": seed} | record_arm(ARMS[name], classifier, batches, test, options))
            write_record(options.record, record)
            print(name, record["arms"][name][-1], flush=True)


def record_arm(arm: Arm, classifier: Classifier, batches: SceneBatches, test: Scenes, options: argparse.Namespace) -> dict:
    """One run: AP50 at each eighth of the steps, and the errors at the end."""
    there, begun = objects_of(test), time.perf_counter()
    model, way = new_model(batches.seed, classifier if arm.taught else None), []

    def evaluate(model: DETR) -> None:
        way.append(round(average_precision(found_by(model, test.images), there, [0.5]), 4))

    run(model, batches, options.steps, arm.loss, evaluate=evaluate, evaluate_every=max(1, options.steps // 8))
    return {"seconds": round(time.perf_counter() - begun, 1), "AP50": way[-1], "on the way": way,
            "errors": kinds_of_error(found_by(model, test.images, 0.5), there)}


def record_numbers(digits, options: argparse.Namespace, record: dict) -> None:
    pool = make_scenes(APART_POOL, few(digits.train), 0, objects=(1, max(NUMBERS)), **APART)
    tests = {number: scenes_of(number, digits) for number in NUMBERS}
    record["settings"] |= {"scenes": APART_POOL, "batch": SIMPLE_BATCH, "digits": FEW,
                           "pictures, steps": APART_SINGLE_STEPS, "gaps": GAPS,
                           "test scenes": {number: len(test.labels) for number, test in tests.items()}} | APART
    record["rules"] = {"left to right": [], "matched": []}
    for seed in options.numbers:
        classifier, _ = taught(digits, seed, APART_SINGLE_STEPS)
        batches = SceneBatches([pool], SIMPLE_BATCH, seed)
        for rule, runs in record["rules"].items():
            begun, model = time.perf_counter(), new_model(seed, classifier)
            run(model, batches, options.steps, ARMS[rule].loss)
            runs.append({"seed": seed, "seconds": round(time.perf_counter() - begun, 1),
                         "by number": {number: by_number(model, test) for number, test in tests.items()}})
            write_record(options.record, record)
            print(rule, runs[-1], flush=True)


def scenes_of(number: int, digits) -> Scenes:
    """Scenes of test digits with just this many objects; where one of them found no place, the scene is left out."""
    drawn = make_scenes(APART_TEST, few(digits.test), TEST_SEED, objects=(number, number), **APART)
    rows = [k for k, labels in enumerate(drawn.labels) if len(labels) == number]
    return Scenes(drawn.images[rows], *([each[k] for k in rows] for each in (drawn.boxes, drawn.labels, drawn.masks)),
                  drawn.classes[rows])


def by_number(model: DETR, test: Scenes) -> dict:
    """AP50 and errors, with all boxes and once each; which object each output holds; what is found by gap; two scenes."""
    with torch.no_grad():
        logits, boxes = (torch.cat(part) for part in zip(*map(model, test.images.split(100)), strict=True))  # (N, Q, ...)
    there, found, sure = objects_of(test), detections(logits, boxes), detections(logits, boxes, 0.5)
    return {"AP50": scores(found, there)["AP50"], "AP50, once": scores([*map(first_only, found)], there)["AP50"],
            "errors": kinds_of_error(sure, there), "errors, once": kinds_of_error([*map(first_only, sure)], there),
            "held": held(boxes, test), "by gap": by_gap(logits, boxes, test),
            "scenes": [rounded(logits[k], boxes[k]) for k in range(2)]}


def held(boxes: Tensor, test: Scenes) -> list[list[int]]:
    """Of M objects from left to right: how often output k (row) holds object j (column), at an IoU of one half; last: none."""
    number = len(test.labels[0])
    there = torch.stack([each[each[:, 0].argsort()] for each in test.boxes])  # (N, M, 4)
    overlap, which = iou(boxes[:, :number, None], there[:, None]).max(-1)  # (N, M) each
    which = which.masked_fill(overlap < 0.5, number)
    return [which[:, k].bincount(minlength=number + 1).tolist() for k in range(number)]


def by_gap(logits: Tensor, boxes: Tensor, test: Scenes) -> list[list[int]]:
    """Of the objects whose nearest neighbor from left to right lies within each of `GAPS`: how many, how many found.

    Found by any output with a score of one half, at an IoU of one half; the name does not count.
    """
    there = torch.stack(test.boxes)  # (N, M, 4)
    away = (there[:, :, None, 0] - there[:, None, :, 0]).abs() * APART["size"]  # (N, M, M), in pixels
    gap = (away + away.size(1) * APART["size"] * torch.eye(away.size(1))).amin(-1)  # (N, M)
    sure = logits.softmax(-1)[..., :-1].amax(-1) >= 0.5  # (N, Q)
    found = ((iou(there[:, :, None], boxes[:, None]) >= 0.5) & sure[:, None]).any(-1)  # (N, M)
    within = [(gap >= low) & (gap < high) for low, high in pairwise(GAPS)]
    return [[int(chosen.sum()), int((chosen & found).sum())] for chosen in within]


def rounded(logits: Tensor, boxes: Tensor) -> dict:
    """All outputs of one scene, as a page can draw them: boxes (Q, 4) and the scores (Q,)."""
    score = logits.softmax(-1)[:, :-1].amax(-1)
    return {"boxes": [[round(x, 3) for x in box] for box in boxes.tolist()], "scores": [round(x, 3) for x in score.tolist()]}


def first_only(answer: Detections, level: float = 0.5) -> Detections:
    """Without the boxes that overlap a surer one of their class: what other detectors do with boxes that come twice."""
    order = answer.scores.argsort(descending=True, stable=True)
    boxes, labels, kept = answer.boxes[order], answer.labels[order], []
    for row in range(len(order)):
        if all(labels[row] != labels[other] or iou(boxes[row], boxes[other]) < level for other in kept):
            kept.append(row)
    return Detections(*(part[order][kept] for part in answer))


def load_weights(path: Path) -> DETR:
    """The recorded model, in float32."""
    return load_half(DETR(CONFIG), path)


if __name__ == "__main__":
    main()
