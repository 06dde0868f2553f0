"""Train the ViT and the small ResNet of the chapter "ViT": on few and many digits, whole, shuffled, with parts exchanged; and
on pairs of marks, of which they are to say whether they are the same.

    OMP_NUM_THREADS=1 python experiments/train_vit.py experiments/records/train_vit.json --seeds 0 1 2

writes `tuning` (every setting that was tried for either network, by accuracy on data that are in no other set), `beyond` (two
more rates, tried afterwards to see whether a chosen one lies at an edge that matters; they decide nothing), `controls` (the
rates, tried for the controls of the pairs; they decide that of the patch sum and nothing else), `runs` (one entry
a training), `baselines` (nearest neighbor and a linear map on pixels, of digits and of pairs) and `few` (a linear map on the
features of a network that ImageNet has trained, and of the same network untrained). The record is written anew after every
run, and a run that it holds is not done again.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.batches import ShuffledBatches, numbered_generator
from tutorlib.data.digits import Images, load_digits
from tutorlib.data.pairs import draw_pairs
from tutorlib.data.photographs import MEAN, STD
from tutorlib.evaluation.classification import accuracy
from tutorlib.layers import BatchNorm, ConvNorm, encoder_layer
from tutorlib.minimum import minimize
from tutorlib.models import MobileNetV2, ResNet, ViT, ViTConfig
from tutorlib.models.vit import patches
from tutorlib.pretrained import load
from tutorlib.records import surroundings, write_record
from tutorlib.training import train, warmup_cosine
from tutorlib.training.augmentation import move, rotate, shift

SIDE, PATCH, BATCH, FIRST = 28, 7, 32, 4
CONFIG = ViTConfig(SIDE, PATCH, in_channels=1, num_classes=10, width=64, num_heads=4, num_layers=3)
SIZES = 100, 300, 1000, 4000  # digits to learn from
STEPS = {30: 300, 100: 300, 300: 400, 1000: 500, 4000: 1500, "augmented": 2000, "longer": 2000,
         "pairs": 500, "three times": 1500}
RATES, DECAY = (1e-3, 3e-3, 1e-2), 0.05  # the rates are tried for both networks and both tasks
BEYOND = 3e-4, 3e-2
CONTROLS = "ViT, table", "ResNet, flattened", "patch sum"
LABELS = 30, 100, 300, 1000  # digits with a label, for the features of MobileNetV2
STARTS = {"starts": range(8), "more starts": range(8, 16)}  # seeds of a count of those that learn pairs
COPIES = 15  # turned and moved, of every digit, for the baselines
FEATURE_SIDE = 96  # pixels that MobileNetV2 is given
PENALTIES = 1e-4, 1e-3, 1e-2, 1e-1, 1.0


class Stem(nn.Module):
    """A convolutional stem in the place of the patch embedding (Xiao et al. 2021): 28 pixels a side become 14, 7 and 4."""

    def __init__(self, width: int):
        super().__init__()
        self.convolutions = nn.Sequential(ConvNorm(1, 16, 3, stride=2), ConvNorm(16, 32, 3, stride=2),
                                          ConvNorm(32, width, 3, stride=2))
        self.projection = nn.Linear(width, width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> (B, 16, D)."""
        states = self.convolutions(images)  # (B, D, 4, 4)
        return self.projection(states.flatten(2).mT)  # (B, 16, D)


class StemInside(Stem):
    """The same stem for each patch by itself: 7 pixels a side become 4, 2 and 1, and none sees across a border."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> (B, 16, D)."""
        alone = patches(images, PATCH).view(-1, 1, PATCH, PATCH)  # (16 B, 1, 7, 7)
        states = self.convolutions(alone).flatten(1)  # (16 B, D)
        return self.projection(states.unflatten(0, (len(images), -1)))  # (B, 16, D)


class Strips(nn.Module):
    """The mistake of the page: 49 numbers that follow each other in memory, for the 7 x 7 of a square."""

    def __init__(self, width: int):
        super().__init__()
        self.projection = nn.Linear(PATCH**2, width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> (B, 16, D)."""
        return self.projection(images.reshape(len(images), -1, PATCH**2))  # (B, 16, D)


class AttentionOnTop(nn.Module):
    """Two layers of the Transformer's encoder between the places of a map: what a ResNet lacks."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(*(encoder_layer(channels, 4, 4 * channels, activation="gelu", norm_first=True)
                                      for _ in range(2)))

    def forward(self, states: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        places = self.layers(states.flatten(2).mT)  # (B, h w, C)
        return places.mT.unflatten(2, states.shape[2:])


class Mixing(nn.Module):
    """In the place of attention: each head's weights are learned, one for each two places, whatever these hold.

    The table is multiplied by ten, so that in some hundred small steps a weight can come near 0 or 1.
    """

    def __init__(self, attention: nn.Module, places: int):
        super().__init__()
        self.value, self.output = attention.value, attention.output
        self.table = nn.Parameter(torch.zeros(attention.num_heads, places, places))

    def forward(self, states: Tensor, **options) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        values = self.value(states).unflatten(-1, (len(self.table), -1)).transpose(1, 2)  # (B, H, T, D / H)
        heads = (10 * self.table).softmax(-1) @ values
        return self.output(heads.transpose(1, 2).flatten(2))


class Flattened(nn.Module):
    """A ResNet whose linear map reads all places of the last maps, where the plain one reads the mean of each map."""

    def __init__(self, whole: ResNet, places: int):
        super().__init__()
        self.stem, self.blocks = whole.stem, whole.blocks
        self.output = nn.Linear(whole.output.in_features * places, whole.output.out_features)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, num_classes)."""
        return self.output(self.blocks(self.stem(images)).flatten(1))


class CellsAdded(nn.Module):
    """A ResNet that lays the 16 cells of its first block's maps over each other and adds them, before the other two."""

    def __init__(self, whole: ResNet):
        super().__init__()
        self.stem, self.blocks, self.output = whole.stem, whole.blocks, whole.output

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> logits (B, num_classes)."""
        maps = self.blocks[0](self.stem(images))  # (B, 8, 28, 28)
        across = SIDE // PATCH
        added = maps.reshape(len(maps), -1, across, PATCH, across, PATCH).sum((2, 4))  # (B, 8, 7, 7)
        return self.output(self.blocks[1:](added).mean((-2, -1)))


class OnInk(nn.Module):
    """A ViT whose places look only at those with ink, and at the class token: which these are it is told."""

    def __init__(self, whole: ViT):
        super().__init__()
        self.whole = whole

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> logits (B, num_classes)."""
        first, states = self.whole.class_token.expand(len(images), -1, -1), self.whole.patches(images)  # (B, 1, D), (B, 16, D)
        seen = F.pad(patches(images, PATCH).any(-1), (1, 0), value=True)  # (B, 17)
        states = self.whole.position(torch.cat([first, states], 1))
        for layer in self.whole.layers:
            states = layer(states, padding_mask=seen)
        return self.whole.output(self.whole.norm(states[:, 0]))


class PatchSum(nn.Module):
    """No layer that compares and none that mixes: the 16 patches are added, and one hidden layer reads the sum."""

    def __init__(self, classes: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(PATCH**2, 256), nn.ReLU(), nn.Linear(256, classes))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> logits (B, num_classes)."""
        return self.layers(patches(images, PATCH).sum(1))


def vit(classes: int = 10, *, patch: int = PATCH, stem: type[nn.Module] | None = None, positions: bool = True,
        looks: bool = True, table: bool = False) -> ViT:
    model = ViT(ViTConfig(**vars(CONFIG) | {"num_classes": classes, "patch_size": patch}))
    if stem is not None:
        model.patches = stem(CONFIG.width)
    if not positions:
        model.position = nn.Identity()
    if not looks:  # queries of zero, for good: every weight is 1 / T
        for layer in model.layers:
            for parameter in layer.attention.query.parameters():
                nn.init.zeros_(parameter.requires_grad_(False))
    if table:
        for layer in model.layers:
            layer.attention = Mixing(layer.attention, 1 + model.config.num_patches)
    return model


def resnet(classes: int = 10, *, channels: int = 1, attention: bool = False, flat: bool = False,
           added: bool = False) -> nn.Module:
    """Three stages of one block, 28, 14 and 7 pixels a side; a step costs about as much as one of the ViT."""
    model = ResNet((1, 1, 1), (8, 16, 32), num_classes=classes, in_channels=channels, stem_width=8,
                   small_images=True)
    if attention:
        model.blocks.append(AttentionOnTop(32))
    if flat:
        model = Flattened(model, 49)
    if added:
        model = CellsAdded(model)
    return model.to(memory_format=torch.channels_last)


# Of a number of classes: ten digits, or two answers.
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "ViT": vit,
    "ResNet": resnet,
    "ViT, no positions": partial(vit, positions=False),
    "ViT, equal weights": partial(vit, looks=False),
    "ViT, equal weights on the marks": lambda classes: OnInk(vit(classes, looks=False)),
    "ResNet, attention on top": partial(resnet, attention=True),
    "ViT, patches of 4": partial(vit, patch=4),
    "ViT, patches of 14": partial(vit, patch=14),
    "ViT, one patch": partial(vit, patch=28),
    "ViT, stem": partial(vit, stem=Stem),
    "ViT, stem inside patches": partial(vit, stem=StemInside),
    "ViT, strips": partial(vit, stem=Strips),
    "ViT, table": partial(vit, table=True),
    "ResNet, flattened": partial(resnet, flat=True),
    "ResNet, two channels": partial(resnet, channels=2),
    "ResNet, cells added": partial(resnet, added=True),
    "patch sum": PatchSum,
}
# What is done to every image, of both sets, by permutations of a seed. For a ViT "both" is another naming of its weights.
VITS_RATE = "ViT's rate"  # a change of the training alone: the rate that did best for the ViT
LOOKED = "looked into"  # nothing is changed: the finished network is asked what it needs
SHUFFLES = "patches", "inside", "both", "pixels"
# Of each part the trainings: network, digits to learn from (of pairs none), and what is done to them.
PARTS: dict[str, list[tuple[str, str, int, str]]] = {
    "whole": [("ViT", "digits", 1000, ""), ("ResNet", "digits", 1000, "")],
    "shuffled": [("ViT", "digits", 1000, "both"), ("ResNet", "digits", 1000, "both")],
    "pairs": [("ViT", "pairs", 0, ""), ("ResNet", "pairs", 0, "")],
    "comparing": [("ViT, equal weights", "pairs", 0, ""), ("ResNet, attention on top", "pairs", 0, "")],
    "comparing, again": [("ResNet, attention on top", "pairs", 0, VITS_RATE)],
    "neighbors": [(network, "digits", 1000, kind) for network in ("ViT", "ResNet") for kind in ("patches", "inside", "pixels")],
    "places": [("ViT, no positions", "digits", 1000, ""), ("ViT, strips", "digits", 1000, "")],
    "stem": [("ViT, stem", "digits", 1000, ""), ("ViT, stem inside patches", "digits", 1000, ""),
             ("ViT, stem", "digits", 1000, "inside")],
    "augmented": [("ViT", "digits", 1000, "augmented"), ("ResNet", "digits", 1000, "augmented")],
    "100 digits": [("ViT", "digits", 100, ""), ("ResNet", "digits", 100, "")],
    "300 digits": [("ViT", "digits", 300, ""), ("ResNet", "digits", 300, "")],
    "4000 digits": [("ViT", "digits", 4000, ""), ("ResNet", "digits", 4000, "")],
    "all augmented": [("ViT", "digits", 4000, "augmented"), ("ResNet", "digits", 4000, "augmented")],
    "near": [("ResNet", "near pairs", 0, ""), ("ViT", "near pairs", 0, "")],
    "drift": [(network, task, 0, "") for network in ("ViT", "ResNet") for task in ("drifting pairs", "resting pairs")],
    "longer": [("ViT", "digits", 1000, "longer"), ("ResNet", "digits", 1000, "longer")],
    "controls of pairs": [("ViT, table", "pairs", 0, ""), ("ResNet, flattened", "pairs", 0, ""),
                          ("ResNet", "pairs", 0, "three times")],
    "stem augmented": [("ViT, stem", "digits", 1000, "augmented")],
    "starts": [("ViT", "pairs", 0, ""), ("ResNet", "pairs", 0, "")],  # from more seeds: how many learn it
    "more starts": [("ViT", "pairs", 0, "")],
    "30 digits": [("ViT", "digits", 30, ""), ("ResNet", "digits", 30, "")],
    "patches": [("ViT, patches of 14", "digits", 1000, ""), ("ViT, one patch", "digits", 1000, ""),
                ("ViT, patches of 4", "digits", 1000, "")],
    "patch sum": [("patch sum", task, 0, "") for task in ("pairs", "resting pairs", "drifting pairs")],
    "brought together": [("ResNet, two channels", "parted pairs", 0, ""), ("ResNet, two channels", "laid pairs", 0, ""),
                         ("ResNet, cells added", "pairs", 0, "")],
    "looks": [("ViT", "pairs", 0, LOOKED)],
    "marks alone": [("ViT, equal weights on the marks", "pairs", 0, "")],
    "table, longer": [("ViT, table", "pairs", 0, "three times")],
    "patches, longer": [("ViT, patches of 14", "digits", 1000, "longer"), ("ViT, one patch", "digits", 1000, "longer")],
    "stem, drift": [("ViT, stem", "drifting pairs", 0, ""), ("ViT, stem", "resting pairs", 0, "")],
    "drift, longer": [("ViT", "drifting pairs", 0, "longer")],
    "stem, longer": [("ViT, stem", "digits", 1000, "longer")],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of weights, digits, batches and shuffles")
    parser.add_argument("--only", nargs="+", choices=["tuning", "beyond", "controls", *PARTS, "baselines", "few"],
                        help="parts (default: all)")
    options = parser.parse_args()
    wanted = options.only or ["tuning", "beyond", "controls", "baselines", "few", *PARTS]
    record = opened(options)
    for kind, rates in {"tuning": RATES, "beyond": BEYOND}.items():
        if kind in wanted:
            tune(record, options.record, kind, rates)
    if "controls" in wanted:
        tune(record, options.record, "controls", RATES, CONTROLS, ("pairs",))
    for kind, run in {"baselines": baselines, "few": few}.items():
        if kind in wanted and kind not in record:
            record[kind] = run(options.seeds)
            write_record(options.record, record)
    for job in (job for part in PARTS if part in wanted for job in jobs(part, options.seeds)):
        if not any(all(run[key] == value for key, value in job.items()) for run in record["runs"]):
            rate = chosen(record, job["task"], job["network"], job["change"])
            record["runs"].append(job | {"rate": rate} | trained(job, rate))
            write_record(options.record, record)


def opened(options: argparse.Namespace) -> dict:
    """The record so far, or its first lines."""
    parameters = {name: sum(p.numel() for p in build(10).parameters()) for name, build in NETWORKS.items()}
    if options.record.exists():
        return json.loads(options.record.read_text()) | {"parameters": parameters}
    first = {name: first_losses(NETWORKS[name], options.seeds[0]) for name in ("ViT", "ResNet")}
    return {"seeds": options.seeds, **surroundings(), "batch": BATCH, "decay": DECAY,
            "parameters": parameters, "first_losses": first, "tuning": [], "beyond": [], "runs": []}


def jobs(part: str, seeds: list[int]) -> list[dict]:
    """The trainings of a part: task, network, number of digits, what is done to them, steps, seed."""
    if part in STARTS:
        seeds = [seed for seed in STARTS[part] if seed not in seeds]
    return [{"task": task, "network": network, "digits": digits, "change": change, "seed": seed,
             "steps": STEPS[change if change in STEPS else digits or "pairs"]}
            for network, task, digits, change in PARTS[part] for seed in seeds]


def sample(number: int, seed: int) -> tuple[Images, Images]:
    """`number` digits of the training set, as many of each (of 30: three), and those that are left."""
    train_set = load_digits().train
    order = torch.randperm(len(train_set.labels) // 10, generator=torch.Generator().manual_seed(seed))  # of tens
    rows = (10 * order[:, None] + torch.arange(10)).flatten()  # (4000,)
    return tuple(Images(train_set.images[some], train_set.labels[some]) for some in (rows[:number], rows[number:]))


def shuffled(images: Tensor, kind: str, seed: int) -> Tensor:
    """All images (B, 1, 28, 28) by one permutation of the patches, of the pixels inside each, of both, or of all pixels."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "pixels":
        return images.flatten(1)[:, torch.randperm(SIDE**2, generator=generator)].view_as(images)
    cut = patches(images, PATCH)  # (B, 16, 49)
    if kind in ("patches", "both"):
        cut = cut[:, torch.randperm(cut.size(1), generator=generator)]
    if kind in ("inside", "both"):
        cut = cut[:, :, torch.randperm(cut.size(2), generator=generator)]
    return joined(cut)


def joined(cut: Tensor) -> Tensor:
    """Patches (B, 16, 49) put together to images (B, 1, 28, 28): `patches` undone."""
    across = SIDE // PATCH
    squares = cut.view(-1, across, across, PATCH, PATCH)  # (B, 4, 4, 7, 7)
    return squares.transpose(2, 3).reshape(-1, 1, SIDE, SIDE)  # (B, 1, 28, 28)


def augment(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turned by up to 15 degrees and moved by up to 2 pixels."""
    return shift(rotate(images, 15, generator), 2, generator), labels


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


class FreshPairs:
    """The batch of a step, drawn for it: a training on these sees no picture twice, but by chance."""

    def __init__(self, seed: int, task: str):
        self.seed, self.task = seed, task

    def __call__(self, step: int) -> Images:
        return drawn(BATCH, numbered_generator(self.seed, step), self.task)


def drawn(number: int, generator: torch.Generator, task: str) -> Images:
    """Pairs anywhere, in neighboring cells ("near"), or in nine of the cells, which are the first nine patches of a corner
    ("resting") or have been moved down and right by 0 to 6 pixels, another way in every picture ("drifting"). In two
    channels (N, 2, 28, 28): one mark in each, where it is ("parted"), or both in the cell of the first ("laid")."""
    if task in ("parted pairs", "laid pairs"):
        images, labels = draw_pairs(number, generator)
        return Images(in_channels(images, laid=task == "laid pairs"), labels)
    if task in ("pairs", "near pairs"):
        return draw_pairs(number, generator, near=task == "near pairs")
    images, labels = draw_pairs(8 * number + 100, generator)  # three of ten lie in the nine cells
    inside = (images[..., 21:, :].sum((1, 2, 3)) + images[..., :, 21:].sum((1, 2, 3)) == 0).nonzero()[:number, 0]
    images, labels = images[inside], labels[inside]
    if task == "drifting pairs":
        images = move(images, *torch.randint(PATCH, (2, number), generator=generator))
    return Images(images, labels)


def in_channels(images: Tensor, *, laid: bool) -> Tensor:
    """Pictures of two marks (N, 1, 28, 28) with a channel for each, (N, 2, 28, 28); `laid`: the second in the first's cell."""
    cut = patches(images, PATCH)  # (N, 16, 49)
    cells = inked(cut)  # (N, 2)
    rows, channels = torch.arange(len(cut))[:, None], torch.arange(2)
    parted = torch.zeros(len(cut), 2, *cut.shape[1:])  # (N, 2, 16, 49)
    parted[rows, channels, cells[:, :1] if laid else cells] = cut[rows, cells]
    return joined(parted.flatten(0, 1)).view(-1, 2, SIDE, SIDE)


def inked(cut: Tensor) -> Tensor:
    """Of patches (N, 16, 49) the two of each picture that hold a mark: (N, 2)."""
    return cut.any(-1).nonzero()[:, 1].view(-1, 2)


def fitted(build: Callable[[], nn.Module], batches: Callable[[int], tuple], steps: int, seed: int, rate: float,
           **options) -> tuple[nn.Module, list[float], list]:
    """A new network after `steps` steps, its training losses, and what `evaluate` found on the way."""
    torch.manual_seed(seed)
    model = build()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=DECAY, fused=True)
    history = train(model, batches, loss, optimizer, steps=steps, schedule=warmup_cosine(50, max(steps, 400)),
                    progress=False, **options)
    return model.eval(), history.losses, history.evaluations


def digit_batches(data: Images, seed: int, augmented: bool = False) -> ShuffledBatches:
    size = min(BATCH, len(data.labels))
    return ShuffledBatches(*data, batch_size=size, seed=seed, augment=augment if augmented else None)


def first_losses(build: Callable[[], nn.Module], seed: int) -> list[float]:
    """The first steps on all digits, which another machine can repeat."""
    return fitted(build, digit_batches(sample(max(SIZES), seed)[0], seed), FIRST, seed, 1e-3)[1]


def tune(record: dict, path: Path, kind: str, rates: tuple[float, ...], networks: tuple[str, ...] = ("ViT", "ResNet"),
         tasks: tuple[str, ...] = ("digits", "shuffled digits", "pairs")) -> None:
    """Try every rate for these networks and tasks, for half the steps, on data of a seed of their own.

    What is tried on shuffled digits decides nothing: it says whether the rate of whole ones suits them, too.
    """
    results = record.setdefault(kind, [])
    data, rest = sample(1000, seed=100)
    unseen = Images(rest.images[:1000], rest.labels[:1000])
    mixed = [Images(shuffled(part.images, "both", 100), part.labels) for part in (data, unseen)]
    sets = {"digits": (digit_batches(data, 100), unseen, STEPS[1000] // 2),
            "shuffled digits": (digit_batches(mixed[0], 100), mixed[1], STEPS[1000] // 2),
            "pairs": (FreshPairs(100, "pairs"), draw_pairs(1000, numbered_generator(101, 0)), STEPS["pairs"] // 2)}
    for task, name, rate in product(tasks, networks, rates):
        setting = {"task": task, "network": name, "rate": rate}
        if not any(all(tried[key] == value for key, value in setting.items()) for tried in results):
            batches, validation, steps = sets[task]
            model, _, _ = fitted(built(name, task), batches, steps, 100, rate)
            results.append(setting | {"accuracy": accuracy(model, *validation)})
            write_record(path, record)


def built(network: str, task: str) -> Callable[[], nn.Module]:
    return partial(NETWORKS[network], 2 if "pairs" in task else 10)


def chosen(record: dict, task: str, network: str, change: str = "") -> float:
    """The rate that did best: for a network whose parts were exchanged, that of the whole one, but where it is the ViT's."""
    name = "ViT" if change == VITS_RATE else network.split(",")[0]
    tried = [t for t in record["tuning"] + record.get("controls", []) if t["task"] == task.split()[-1] and t["network"] == name]
    return max(tried, key=lambda t: t["accuracy"])["rate"]


def trained(job: dict, rate: float) -> dict:
    """One run: its last losses, the test accuracy at each quarter, and what is measured of the finished network."""
    batches, test = of_job(job)
    start = time.process_time()
    model, losses, found = fitted(built(job["network"], job["task"]), batches, job["steps"], job["seed"], rate,
                                  evaluate=lambda model: accuracy(model, *test), evaluate_every=job["steps"] // 4)
    seconds = time.process_time() - start
    result = {"accuracy": found[-1][1], "on the way": [value for _, value in found],
              "loss": round(sum(losses[-50:]) / 50, 5), "seconds": round(seconds, 1)}
    if job["network"] in ("ViT", "ResNet") and job["change"] in ("", "augmented", "longer") and job["digits"] >= 1000:
        result["moved"] = moved_accuracy(model, test)
    if job["network"] == "ViT":
        result["positions"] = [[round(x, 3) for x in row] for row in position_likeness(model).tolist()]
    if job["change"] == LOOKED:
        result["looks"] = looks(model, *test)
    print(job, result["accuracy"], result["seconds"], flush=True)
    return result


def of_job(job: dict) -> tuple[Callable[[int], tuple], Images]:
    """The batches to train on, and the test set: 1,000 digits, or 1,000 pairs, of whose marks none is held out."""
    seed = job["seed"]
    if job["task"] != "digits":
        return FreshPairs(seed, job["task"]), drawn(1000, numbered_generator(200 + seed, 0), job["task"])
    data, test = sample(job["digits"], seed)[0], load_digits().test
    if job["change"] in SHUFFLES:
        data, test = (Images(shuffled(part.images, job["change"], seed), part.labels) for part in (data, test))
    return digit_batches(data, seed, job["change"] == "augmented"), test


def moved_accuracy(model: nn.Module, test: Images) -> list[float]:
    """On test digits moved by 0 to 4 pixels."""
    return [round(accuracy(model, *moved_all_ways(test, pixels)), 4) for pixels in range(5)]


def moved_all_ways(test: Images, pixels: int) -> Images:
    """Every picture four times, moved right and left, down and up."""
    still, forth = torch.zeros(len(test.labels), dtype=torch.int64), torch.full((len(test.labels),), pixels)  # (N,) each
    ways = (still, forth), (still, -forth), (forth, still), (-forth, still)
    return Images(torch.cat([move(test.images, *way) for way in ways]), test.labels.repeat(4))


def position_likeness(model: ViT) -> Tensor:
    """The cosine of the angle between the learned vectors of any two patches, less the mean of all vectors: (16, 16)."""
    table = model.position.table[1:].detach()  # (16, D)
    table = F.normalize(table - table.mean(0), dim=-1)
    return table @ table.T  # (16, 16)


@torch.no_grad()
def looks(model: ViT, images: Tensor, labels: Tensor) -> dict:
    """Of a judge of pairs: its accuracy when looks at the marks are forbidden, to the marks (each at the other), to the class
    token, to the empty cells, and to both of these, in all layers and in the first; and how much of the class token's
    attention lies on the two marks, in each layer."""
    marked = F.pad(patches(images, PATCH).any(-1), (1, 0))  # (N, 17): the class token and the empty cells are not
    kinds = {"marks": marked, "class token": torch.arange(17) == 0, "empty cells": ~marked & (torch.arange(17) > 0),
             "others": ~marked}
    itself = torch.eye(17, dtype=torch.bool)

    def answered(forbidden: Tensor, layers: int) -> tuple[float, list[float]]:
        start = model.class_token.expand(len(images), -1, -1)
        states, seen = model.position(torch.cat([start, model.patches(images)], 1)), []
        for number, layer in enumerate(model.layers):
            mask = ~(forbidden & (number < layers))  # (N, 17, 17)
            weights = layer.attention(layer.attention_norm(states), mask=mask, return_weights=True)[1].mean(1)  # (N, 17, 17)
            seen.append(round((weights[:, 0] * marked).sum(1).mean().item(), 3))
            states = layer(states, mask)
        answers = model.output(model.norm(states[:, 0])).argmax(-1)
        return (answers == labels).double().mean().item(), seen

    who = {name: kind.expand_as(marked)[:, :, None] & marked[:, None] & ~itself for name, kind in kinds.items()}  # (N, 17, 17)
    nothing, seen = answered(torch.zeros_like(who["marks"]), 0)
    return {"nothing": nothing, "seen": seen} | {name: answered(mask, len(model.layers))[0] for name, mask in who.items()} | {
        f"{name}, first layer": answered(mask, 1)[0] for name, mask in who.items()}


def baselines(seeds: list[int]) -> list[dict]:
    """The nearest neighbors and a linear map, on pixels; their one dial each chosen on the digits that tuned the networks."""
    test, (data, rest) = load_digits().test, sample(1000, seed=100)
    validation = Images(rest.images[:1000], rest.labels[:1000])
    neighbors = max((1, 3, 5), key=lambda k: nearest(data, validation, k))
    penalty = best_penalty(data, validation)
    moved = moved_all_ways(test, 2)

    def both(data: Images, test: Images) -> dict:
        return {"nearest": nearest(data, test, neighbors), "linear": linear(data, test, penalty)}

    dials = {"neighbors": neighbors, "penalty": penalty}
    digits = [{"task": "digits", "digits": n, "seed": seed} | dials | both(sample(n, seed)[0], test)
              for n, seed in product((min(LABELS), *SIZES), seeds)]
    away = [{"task": "moved by 2", "digits": 1000, "seed": seed} | dials | both(sample(1000, seed)[0], moved)
            for seed in seeds]
    more = [{"task": "augmented", "digits": 1000, "seed": seed} | dials | both(copied(sample(1000, seed)[0], seed), test)
            for seed in seeds]
    pairs = [{"task": task, "digits": 0, "seed": seed} | dials | both(
        all_shown(seed, task), drawn(1000, numbered_generator(200 + seed, 0), task))
        for task, seed in product(("pairs", "near pairs", "resting pairs", "drifting pairs"), seeds)]
    return digits + away + more + pairs


def all_shown(seed: int, task: str) -> Images:
    """The 16,000 pairs that a network of this seed is shown."""
    shown = map(FreshPairs(seed, task), range(STEPS["pairs"]))
    return Images(*map(torch.cat, zip(*shown, strict=True)))


def copied(data: Images, seed: int) -> Images:
    """The digits, and copies of each, turned and moved as for the networks."""
    generator = torch.Generator().manual_seed(seed)
    copies = [augment(*data, generator)[0] for _ in range(COPIES)]
    return Images(torch.cat([data.images, *copies]), data.labels.repeat(1 + COPIES))


def nearest(data: Images, test: Images, neighbors: int) -> float:
    """The share of test images whose nearest neighbors mostly have their label; a tie goes to the nearer one."""
    distance = torch.cdist(test.images.flatten(1), data.images.flatten(1))  # (N, n)
    near = data.labels[distance.topk(neighbors, largest=False).indices]  # (N, k)
    votes = F.one_hot(near, 10).double() + torch.linspace(0.1, 0, neighbors)[:, None] * F.one_hot(near, 10)
    return (votes.sum(1).argmax(-1) == test.labels).double().mean().item()


def best_penalty(data: Images, validation: Images) -> float:
    return max(PENALTIES, key=lambda penalty: linear(data, validation, penalty))


def linear(data: Images, test: Images, penalty: float) -> float:
    """A linear map of the inputs (n, ...), cross-entropy and a penalty on its squares, to its minimum; accuracy on `test`."""
    mean = data.images.flatten(1).mean(0)
    scale = (data.images.flatten(1) - mean).std()  # one number for all inputs
    inputs, others = ((part.images.flatten(1) - mean) / scale for part in (data, test))
    weight = torch.zeros(inputs.size(1) + 1, 10, requires_grad=True)

    def logits(x: Tensor) -> Tensor:
        return x @ weight[:-1] + weight[-1]  # (n, 10)

    minimize(lambda: F.cross_entropy(logits(inputs), data.labels) + penalty * weight[:-1].square().sum() / 2, [weight],
             iterations=100)
    return (logits(others).argmax(-1) == test.labels).double().mean().item()


def few(seeds: list[int]) -> list[dict]:
    """Linear maps on what MobileNetV2 makes of digits, trained on ImageNet or not at all, with few labels."""
    start, test = time.process_time(), load_digits().test
    results = []
    for kind, model in {"trained": load("mobilenet")[0], "untrained": untrained(seeds[0])}.items():
        tested = Images(features(model, test.images), test.labels)
        for seed in seeds:
            data, rest = sample(max(LABELS), seed)
            known = Images(features(model, data.images), data.labels)
            if seed == seeds[0]:  # the penalty, once for all, on digits of neither set
                others = Images(features(model, rest.images[:100]), rest.labels[:100])
                penalty = best_penalty(Images(known.images[:100], known.labels[:100]), others)
            for n in LABELS:
                some = Images(known.images[:n], known.labels[:n])
                results.append({"features": kind, "digits": n, "seed": seed, "penalty": penalty,
                                "accuracy": linear(some, tested, penalty)})
    return results + [{"seconds": round(time.process_time() - start, 1)}]


def untrained(seed: int) -> MobileNetV2:
    """Drawn weights; batch norms that know the mean and the spread of 64 digits, without which nothing would come through."""
    torch.manual_seed(seed)
    model = MobileNetV2().train()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.momentum = 1.0  # keep what this batch says, and nothing of the start
    with torch.no_grad():
        model.blocks(enlarged(sample(100, seed)[0].images[:64]))
    return model.eval()


def enlarged(images: Tensor, side: int = FEATURE_SIDE) -> Tensor:
    """(B, 1, 28, 28) -> (B, 3, side, side), in the colors that MobileNetV2 was trained on: white ink on black."""
    large = F.interpolate(images, size=(side, side), mode="bilinear").expand(-1, 3, -1, -1)  # (B, 3, side, side)
    return (large - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@torch.no_grad()
def features(model: MobileNetV2, images: Tensor) -> Tensor:
    """What stands before the last layer, the mean over places: (B, 1, 28, 28) -> (B, 1280)."""
    return torch.cat([model.blocks(enlarged(some)).mean((-2, -1)) for some in images.split(50)])


if __name__ == "__main__":
    main()
