"""Train what the chapter "Segmentation" compares: networks that differ in one thing, three seeds each, and one for longer.

    OMP_NUM_THREADS=1 python experiments/train_segmentation.py experiments/records/train_segmentation.json

writes the scores of each network, and those of the baseline, on 400 scenes of unseen digits. The record is written anew after
every network, so that a run that is cut leaves the part that it reached.

    python experiments/train_segmentation.py experiments/records/train_segmentation_long.json --long "U-Net"

trains one network for longer, any of LONG, and adds its scores to the record, its weights, in float16, to the file beside it.
That with photographs for grounds goes on from the U-Net that is there. `--longer` trains those of LONGER, or the named ones of
LONGER and OPEN; their scores alone are kept. `--photographs` asks again the networks of the file, or the baseline for a record
without one, before the photographs.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.baselines.components import Templates
from tutorlib.baselines.silhouettes import segment_components, silhouettes
from tutorlib.data.batches import ShuffledBatches
from tutorlib.data.digits import Images, load_digits
from tutorlib.data.photographs import load_photographs
from tutorlib.data.scenes import NAMES, Scenes, make_scenes
from tutorlib.device import has_fast_bfloat16, seed_everything
from tutorlib.evaluation.segmentation import (
    boundary_iou,
    confusion_matrix,
    distance_to_boundary,
    iou,
    mean_iou,
    named_objects,
    near_boundary,
    pixel_accuracy,
)
from tutorlib.models.segmenter import PatchHead, PixelHead, Segmenter
from tutorlib.models.unet import ConvBlock, concatenate, unet
from tutorlib.records import run_of, surroundings, write_record
from tutorlib.training import train, warmup_cosine
from tutorlib.training.losses import dice_loss, pixel_cross_entropy

SIZE, DIGITS, BATCH, RATE = 40, 5, 16, 3e-3
SCENES = dict(size=SIZE, objects=(1, 3), sides=(13, 22))
CLASSES = ("ground", *NAMES[:DIGITS], *NAMES[10:])  # the digits 0 to 4 and three shapes
WIDTHS = (16, 32, 64, 128)
GROUND = 0.1  # the weight of a pixel of the ground, where classes are weighted
FARTHEST = 6  # pixels from a boundary
FIRST = 4  # losses in float32 at the start, which another machine can repeat
SEEDS = 0, 1, 2
LONG = {"U-Net": 2500, "U-Net, 800 steps": 800, "no skips, 800 steps": 800, "on photographs": 800}  # steps
HELD_OUT = 6  # photographs that are never trained on
CONTRAST, ALIKE = 0.12, 0.11  # of the baseline, chosen on training scenes


def few(images: Images) -> Images:
    """The digits that are used here."""
    used = images.labels < DIGITS
    return Images(images.images[used], images.labels[used])


def scenes(number: int, digits: Images, seed: int, **options) -> Scenes:
    """Scenes with the classes of this chapter: shapes come right behind the digits, and 0 is the ground."""
    made = make_scenes(number, few(digits), seed, **(SCENES | options))
    def renumber(numbers: Tensor) -> Tensor:
        return numbers.where(numbers <= DIGITS, numbers - (10 - DIGITS))
    return made._replace(classes=renumber(made.classes), labels=[renumber(each + 1) for each in made.labels])


def photographs() -> list[Tensor]:
    """Twenty of (3, 96, 96), 0 to 1; the first HELD_OUT are for tests."""
    return [F.adaptive_avg_pool2d(photo.image.float() / 255, (96, 96)) for photo in load_photographs()]


def pasted(made: Scenes, grounds: list[Tensor], seed: int) -> Scenes:
    """The scenes with pieces of photographs, each as likely as another, behind their objects."""
    draw, images = torch.Generator().manual_seed(seed), []
    for image, classes in zip(made.images, made.classes, strict=True):
        room = 97 - image.size(-1)
        which, top, left = (int(torch.randint(most, (), generator=draw)) for most in (len(grounds), room, room))
        piece = grounds[which][:, top:top + image.size(-2), left:left + image.size(-1)]
        images.append(torch.where(classes > 0, image, piece))
    return made._replace(images=torch.stack(images))


# The skips


def muted(fine: Tensor, coarse: Tensor) -> Tensor:
    """What a skip would bring is zero, and nothing else is changed."""
    return concatenate(torch.zeros_like(fine), coarse)


def forward_only(fine: Tensor, coarse: Tensor) -> Tensor:
    """A skip brings what it brings, and no gradient goes back through it."""
    return concatenate(fine.detach(), coarse)


def only(wanted: Callable[[int], bool]) -> Callable[[Tensor, Tensor], Tensor]:
    """Skips at those sizes alone, in pixels, that are wanted."""
    return lambda fine, coarse: (concatenate if wanted(fine.size(-1)) else muted)(fine, coarse)


def window() -> nn.Module:
    """Four convolutions that never halve: each pixel is named by the 9 x 9 pixels around it."""
    return nn.Sequential(ConvBlock(3, 40), ConvBlock(40, 40), nn.Conv2d(40, len(CLASSES), 1))


def spread(steps: tuple[int, ...] = (1, 2, 4, 8)) -> nn.Module:
    """The window with its taps so many pixels apart, layer by layer: as many weights and products, but 31 x 31 pixels."""
    model = window()
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]
    for convolution, step in zip(convolutions, steps, strict=True):
        convolution.dilation = convolution.padding = (step, step)
    return model


def transformer(patch: int, head: type[nn.Module] = PixelHead) -> Segmenter:
    return Segmenter(head(96, len(CLASSES), patch), image_size=SIZE, patch=patch, width=96, num_heads=4, num_layers=5)


# The losses


def plain(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return pixel_cross_entropy(model(batch[0]).float(), batch[1])


def weighted(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return pixel_cross_entropy(model(batch[0]).float(), batch[1], weights())


def overlap(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return dice_loss(model(batch[0]), batch[1])


def weights() -> Tensor:
    """(C,): the ground counts less."""
    return torch.tensor([GROUND] + [1.0] * (len(CLASSES) - 1))


def network(**options) -> nn.Module:
    return unet(len(CLASSES), widths=WIDTHS, **options)


class Longer(NamedTuple):
    """A run beside those of LONG."""

    name: str
    steps: int
    seed: int = 0


LONGER = [*(Longer(name, 800, seed) for seed in (1, 2) for name in ("no skips", "U-Net")),  # seed 0: in LONG
          Longer("no skips", 2500), Longer("window of 31", 2500)]
OPEN = [Longer("plain loss", 2500), *(Longer("forward only", 800, seed) for seed in SEEDS),  # the record has not got these yet
        *(Longer("window of 31, far first", 300, seed) for seed in SEEDS)]


class Arm(NamedTuple):
    """A network and how it is trained."""

    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor] = weighted
    rate: float = RATE
    layout: torch.memory_format = torch.channels_last


ARMS = {
    "U-Net": Arm(network),
    "no skips": Arm(lambda: network(join=muted)),
    "window of 9": Arm(window),
    "patches of 8": Arm(lambda: transformer(8), rate=1e-3),
    "patches of 4": Arm(lambda: transformer(4), rate=1e-3),
    "plain loss": Arm(network, plain),
    "overlap loss": Arm(network, overlap),
    "finest skip only": Arm(lambda: network(join=only(lambda side: side == SIZE))),
    "all but the finest": Arm(lambda: network(join=only(lambda side: side < SIZE))),
    "patches of 4, one vector each": Arm(lambda: transformer(4, PatchHead), rate=1e-3),
    # bfloat16 with dilation and channels last gave nan in torch 2.13
    "window of 31": Arm(spread, layout=torch.contiguous_format),
}
FURTHER = {  # not among those that are compared
    "forward only": Arm(lambda: network(join=forward_only)),
    "window of 31, far first": Arm(lambda: spread((8, 4, 2, 1)), layout=torch.contiguous_format),
}


BOTTOMS = {  # of the network without skips, with four times as many numbers: from one seed
    "wider": Arm(lambda: unet(len(CLASSES), widths=(*WIDTHS[:-1], 4 * WIDTHS[-1]), join=muted)),
    "finer": Arm(lambda: unet(len(CLASSES), widths=(*WIDTHS[:-2], WIDTHS[-1]), join=muted)),
}


def main() -> None:
    options = arguments()
    digits = load_digits()
    data = scenes(options.scenes, digits.train, 1)
    test = scenes(400, digits.test, 2)
    if options.long:
        train_long(options, data, test)
    elif options.photographs:
        ask_again(options, data)
    elif options.longer is not None:
        train_longer(options, data, test)
    elif options.arms:
        train_again(options, data, test)
    else:
        compare(options, data, test)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    parser.add_argument("--steps", type=int, default=300, help="of each network that is compared (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=3000, help="to train on (default: %(default)s)")
    parser.add_argument("--arms", choices=ARMS, nargs="+", help="train these again, and nothing else")
    parser.add_argument("--long", choices=LONG, help="train this one for longer, and nothing else")
    parser.add_argument("--longer", nargs="*", choices=sorted({run.name for run in LONGER + OPEN}), metavar="NAME",
                        help="train those of LONGER, or the named ones of LONGER and OPEN, and nothing else")
    parser.add_argument("--photographs", action="store_true", help="ask again before photographs, and train nothing")
    return parser.parse_args()


def compare(options: argparse.Namespace, data: Scenes, test: Scenes) -> None:
    templates = silhouettes(data.masks, data.labels)
    baseline = scores(without(test.images, templates), test)
    baseline["photographs"] = on_each_photograph(lambda images: without(images, templates))
    record = about(options, data) | {"first_losses": first_losses(data), "truth": shares(test),
                                     "arms": {name: [] for name in ARMS}, "silhouettes": baseline}
    for seed in SEEDS:
        for name, arm in ARMS.items():
            record["arms"][name].append(run(arm, data, options.steps, seed, test))
            write_record(options.record, record)
            print(seed, name, *list(record["arms"][name][-1].values())[:6], flush=True)
    record["bottoms"] = {name: run(arm, data, options.steps, SEEDS[0], test) for name, arm in BOTTOMS.items()}
    write_record(options.record, record)


def train_again(options: argparse.Namespace, data: Scenes, test: Scenes) -> None:
    """The networks of some arms; the others stay in the record as they are."""
    record = json.loads(options.record.read_text())
    for name in options.arms:
        record["arms"][name] = [run(ARMS[name], data, options.steps, seed, test) for seed in SEEDS]
        write_record(options.record, record)
        print(name, [found["two questions"]["boundary"] for found in record["arms"][name]], flush=True)


def train_longer(options: argparse.Namespace, data: Scenes, test: Scenes) -> None:
    """Networks whose scores alone are kept; the others stay in the record as they are."""
    record = json.loads(options.record.read_text())
    kept = {run_of(Longer, run): run for run in record.get("longer", [])}
    for longer in [run for run in LONGER + OPEN if run.name in options.longer] if options.longer else LONGER:
        arm, start = (ARMS | FURTHER)[longer.name], time.process_time()
        model = trained(arm, data, longer.steps, longer.seed)
        kept[longer] = scored(longer, model, time.process_time() - start, test)
        record["longer"] = [kept[each] for each in LONGER + OPEN if each in kept]
        write_record(options.record, record)
        print(*longer, {key: kept[longer][key] for key in ("seconds", "errors")}, flush=True)


def scored(longer: Longer, model: nn.Module, seconds: float, test: Scenes) -> dict:
    """What the record keeps of a longer run: scores for the two questions, the weights taken back if there were any."""
    logits = predict(model, test.images)
    told = in_two_steps(logits + taken_back() if (ARMS | FURTHER)[longer.name].loss is weighted else logits)
    found = {key: [rounded(value) for value in pair] for key, pair in errors(told, test).items()}
    return longer._asdict() | {"seconds": round(seconds, 1), "autocast": str(fast())} | scores(told, test) | {"errors": found}


def run(arm: Arm, data: Scenes, steps: int, seed: int, test: Scenes) -> dict:
    """Train a network, and its scores: with the largest logit as it comes, with the weights of the loss taken back, if there
    are any, and then for the two questions."""
    start = time.process_time()
    model = trained(arm, data, steps, seed)
    seconds = round(time.process_time() - start, 1)
    logits = predict(model, test.images)  # (N, C, H, W)
    found = {"seed": seed, "seconds": seconds, "parameters": sum(p.numel() for p in model.parameters()),
             **scores(logits.argmax(1), test)}
    if arm.loss is weighted:
        logits = logits + taken_back()
        found["taken back"] = scores(logits.argmax(1), test)
    found["two questions"] = scores(in_two_steps(logits), test)
    return found


def without(images: Tensor, templates: Templates) -> Tensor:
    """The classes (N, H, W) by the baseline, which knows the silhouettes of the training scenes."""
    return segment_components(images, templates, contrast=CONTRAST, alike=ALIKE)


def trained(arm: Arm, data: Scenes, steps: int, seed: int, **watch) -> nn.Module:
    """The network of an arm, from its seed."""
    seed_everything(seed)
    model = arm.build().to(memory_format=arm.layout)
    optimizer = torch.optim.AdamW(model.parameters(), arm.rate, weight_decay=0.01)
    train(model, batches(data, seed, arm.layout), arm.loss, optimizer, steps=steps, schedule=warmup_cosine(steps // 10, steps),
          autocast=fast(), progress=False, **watch)
    return model.eval()


def batches(data: Scenes, seed: int, layout: torch.memory_format = torch.channels_last) -> ShuffledBatches:
    return ShuffledBatches(data.images.contiguous(memory_format=layout), data.classes, batch_size=BATCH, seed=seed)


def fast() -> torch.dtype | None:
    return torch.bfloat16 if has_fast_bfloat16("cpu") else None


def first_losses(data: Scenes) -> list[float]:
    """The losses of the U-Net's first steps in float32, at a constant rate."""
    seed_everything(0)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    return train(model, batches(data, 0), weighted, optimizer, steps=FIRST, progress=False).losses


def train_long(options: argparse.Namespace, data: Scenes, test: Scenes) -> None:
    record, weights = about(options, data) | {"seed": 0, "long": {}}, options.record.with_suffix(".safetensors")
    models, name = (load_weights(weights) if weights.exists() else {}), options.long
    if models:
        record |= {key: found for key, found in json.loads(options.record.read_text()).items() if key.startswith("long")}
    arm = ARMS.get(name.removesuffix(", 800 steps"))
    if arm is None:
        pieces, begun = photographs(), models["U-Net"]
        data = pasted(data, pieces[HELD_OUT:], 1)
        arm = Arm(lambda: copy.deepcopy(begun), rate=RATE / 2)
    record["settings"]["steps"] = LONG
    start = time.process_time()
    models[name] = model = trained(arm, data, LONG[name], 0)
    seconds = round(time.process_time() - start, 1)
    record["long"][name] = {"steps": LONG[name], "seconds": seconds, **scores(answer(model, test.images), test),
                            "photographs": on_each_photograph(lambda images: answer(model, images))}
    print(name, record["long"][name], flush=True)
    save_weights(models, weights)
    write_record(options.record, record)


def ask_again(options: argparse.Namespace, data: Scenes) -> None:
    """The scores before photographs of what a record has."""
    record, weights = json.loads(options.record.read_text()), options.record.with_suffix(".safetensors")
    if weights.exists():
        for name, model in load_weights(weights).items():
            record["long"][name]["photographs"] = on_each_photograph(lambda images, model=model: answer(model, images))
    else:
        templates = silhouettes(data.masks, data.labels)
        record["silhouettes"]["photographs"] = on_each_photograph(lambda images: without(images, templates))
    write_record(options.record, record)


def on_each_photograph(answer: Callable[[Tensor], Tensor]) -> dict[str, list[float]]:
    """Scores on 200 scenes before each of the photographs that are held out."""
    test = scenes(200, load_digits().test, 2)
    shown = [pasted(test, [photo], 0) for photo in photographs()[:HELD_OUT]]
    found = [scores(answer(made.images), made) for made in shown]
    return {key: [each[key] for each in found] for key in ("named", "boundary", "mean_iou")}


def answer(model: nn.Module, images: Tensor) -> Tensor:
    """The classes (N, H, W) by a network that was trained with weights, which are taken back."""
    return in_two_steps(predict(model, images) + taken_back())


@torch.no_grad()
def predict(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The logits of every pixel, (N, C, H, W)."""
    return torch.cat([model(some) for some in images.split(50)])


def taken_back() -> Tensor:
    """What undoes the weights of the loss in the logits, (C, 1, 1)."""
    return -weights().log().view(-1, 1, 1)


def in_two_steps(logits: Tensor) -> Tensor:
    """The classes (N, H, W): an object where the ground has less than half, and then the likeliest object."""
    p = logits.softmax(1)  # (N, C, H, W)
    return torch.where(p[:, 0] < 0.5, 1 + p[:, 1:].argmax(1), 0)


def scores(predicted: Tensor, test: Scenes) -> dict:
    confusion, there = confusion_matrix(predicted, test.classes, len(CLASSES)), test.classes > 0
    either = confusion_matrix((predicted > 0).long(), there.long(), 2)
    distance = distance_to_boundary(test.classes, FARTHEST)  # (N, H, W)
    wrong = (predicted != test.classes).double()
    return {
        "mean_iou": rounded(mean_iou(confusion)), "pixels": rounded(pixel_accuracy(confusion)),
        "named": rounded(named_objects(predicted, test.masks, test.labels).double().mean().item()),
        "boundary": rounded(boundary_iou((predicted > 0).long(), there.long(), 2)[1].item()),
        "objects_iou": rounded(iou(either)[1].item()),
        "precision": rounded((either[1, 1] / either[:, 1].sum()).item()),
        "recall": rounded((either[1, 1] / either[1].sum()).item()),
        "classes": [rounded(value) for value in iou(confusion).tolist()],
        "wrong_at": [rounded(wrong[distance == pixels].mean().item()) for pixels in range(1, FARTHEST + 1)],
    }


def errors(predicted: Tensor, test: Scenes, draws: int = 200) -> dict:
    """Scores with their standard errors, from drawing the scenes again: (value, error) of each."""
    ours, true = predicted > 0, test.classes > 0  # (N, H, W)
    rims, number = [mask & near_boundary(mask, 1) for mask in (ours, true)], len(predicted)
    above_and_below = {"boundary": (rims[0] & rims[1], rims[0] | rims[1]), "recall": (ours & true, true),
                       "precision": (ours & true, ours)}
    counts = {key: torch.stack(some).sum((2, 3)).mT for key, some in above_and_below.items()}  # (N, 2)
    wrong, distance = predicted != test.classes, distance_to_boundary(test.classes, FARTHEST)
    for pixels in (1, 2, 3):
        at = distance == pixels
        counts[f"wrong at {pixels}"] = torch.stack([wrong & at, at]).sum((2, 3)).mT
    right = [named_objects(*([each] for each in scene)) for scene in zip(predicted, test.masks, test.labels, strict=True)]
    counts["named"] = torch.tensor([(some.sum(), len(some)) for some in right])
    confusions = torch.stack([confusion_matrix(*pair, len(CLASSES)) for pair in zip(predicted, test.classes, strict=True)])

    def of(some: Tensor) -> Tensor:
        sums = [count[some].sum(0) for count in counts.values()]
        ious = iou(confusions[some].sum(0))  # (C,)
        return torch.tensor([*(above / below for above, below in sums), ious.nanmean(), ious[1:DIGITS + 1].nanmean(),
                             ious[DIGITS + 1:].nanmean()])

    draw = torch.Generator().manual_seed(0)
    again = torch.stack([of(some) for some in torch.randint(number, (draws, number), generator=draw)])
    pairs = zip(of(torch.arange(number)).tolist(), again.std(0).tolist(), strict=True)
    return dict(zip([*counts, "mean_iou", "digits", "shapes"], pairs, strict=True))


def shares(test: Scenes) -> dict:
    """Of the test scenes: the share of each class, and of the pixels at each distance from a boundary."""
    count = test.classes.flatten().bincount(minlength=len(CLASSES)).double()
    distance = distance_to_boundary(test.classes, FARTHEST).flatten().bincount(minlength=FARTHEST + 1)[1:].double()
    return {"objects": sum(map(len, test.labels)), "classes": [rounded(value) for value in (count / count.sum()).tolist()],
            "distance": [rounded(value) for value in (distance / distance.sum()).tolist()]}


def about(options: argparse.Namespace, data: Scenes) -> dict:
    return {"settings": {"steps": options.steps, "scenes": len(data.images), "batch": BATCH, "rate": RATE, "size": SIZE,
                         "widths": WIDTHS, "ground": GROUND, "classes": CLASSES},
            **surroundings(), "autocast": str(fast())}


def save_weights(models: dict[str, nn.Module], path: Path) -> None:
    """All weights and running averages of networks in float16."""
    from safetensors.torch import save_file

    save_file({f"{network}/{name}": weight.half().contiguous() for network, model in models.items()
               for name, weight in model.state_dict().items()}, path)


def load_weights(path: Path) -> dict[str, nn.Module]:
    """The networks that `save_weights` kept."""
    from safetensors.torch import load_file

    stored, models = load_file(path), {}
    for name in LONG:
        found = {key.removeprefix(f"{name}/"): weight for key, weight in stored.items() if key.startswith(f"{name}/")}
        if found:
            models[name] = ARMS.get(name.removesuffix(", 800 steps"), ARMS["U-Net"]).build().eval()
            models[name].load_state_dict(found)
    return models


def rounded(value: float) -> float:
    return round(value, 4)


if __name__ == "__main__":
    main()
