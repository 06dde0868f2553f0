"""A small CLIP on captioned shapes, its controls and the classifiers it is compared with, by seeds.

    OMP_NUM_THREADS=1 python experiments/train_multimodal.py experiments/records/multimodal.json

Of 216 captions (color, shape, place) 144 are shown and 72 are not; all scores are on pictures that no model was trained on.
Two last arms read every sentence in two wordings, half of a batch in each: once with the plain loss, once with the goal shared.
Beside the record stand the weights of the first CLIP (multimodal.safetensors, float16). The record is written after every run,
seed by seed, so a run that is cut leaves whole comparisons; a second call goes on where it stopped.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.batches import numbered_generator
from tutorlib.data.captions import (
    CAPTIONS,
    COLORS,
    PLACES,
    SHAPES,
    UNSEEN,
    VOCABULARY,
    caption_tokens,
    make_captioned,
    numbers_of_caption,
)
from tutorlib.device import seed_everything
from tutorlib.models import CLIP, CLIPConfig
from tutorlib.models.clip import ImageEncoder
from tutorlib.records import load_half, missing, open_record, save_half, surroundings, write_record
from tutorlib.training import decay_groups, train, warmup_cosine
from tutorlib.training.contrastive import contrastive_loss

SIZES = CLIPConfig(image_size=32, patch_size=8, image_width=64, image_heads=4, image_layers=3, image_hidden=128,
                   vocabulary=len(VOCABULARY), max_length=9, end=VOCABULARY.end, text_width=64, text_heads=4, text_layers=2,
                   text_hidden=128, embedding=32)
SEEDS = (0, 1, 2)
PICTURES = 100  # a caption, to train on
STEPS, BATCH, RATE, DECAY = 300, 144, 3e-3, 0.5
TESTS = 8  # pictures of an unseen caption, to test on; half as many of a seen one
FIRST = 3  # losses at the start, which another machine can repeat
ARMS, DRAWN = ("CLIP", "all captions", "three heads"), ("CLIP, drawn", "three heads, drawn")
WORDINGS = ("two wordings", "two wordings, shared")
SEEN, NEW = (~UNSEEN).nonzero()[:, 0], UNSEEN.nonzero()[:, 0]  # (144,) and (72,), places in CAPTIONS
SHUFFLED = torch.randperm(len(CAPTIONS), generator=torch.Generator().manual_seed(0))  # unseen by chance, not by a rule
WORDS = torch.tensor([numbers_of_caption(number) for number in range(len(CAPTIONS))])  # (216, 3)
KINDS = {"color": tuple(COLORS), "shape": SHAPES, "place": PLACES}
TOKENS = caption_tokens(CAPTIONS)  # (216, 9)
TURNED = tuple("at {1} {0}".format(*caption.split(" at ")) for caption in CAPTIONS)
BOTH = torch.cat([TOKENS, caption_tokens(TURNED)])  # (432, 9): "a red square at the top", then "at the top a red square"


class Run(NamedTuple):
    """One training."""

    arm: str
    seed: int


def runs() -> list[Run]:
    """Seed by seed, so that what is there at any time is whole comparisons."""
    parts = ((ARMS, SEEDS), (DRAWN, SEEDS), (WORDINGS, SEEDS[:2]))
    return [Run(arm, seed) for arms, seeds in parts for seed in seeds for arm in arms]


def split(arm: str) -> tuple[Tensor, Tensor]:
    """The seen captions (144,) and the unseen ones (72,) of an arm, in order."""
    return (SHUFFLED[72:].sort().values, SHUFFLED[:72].sort().values) if arm in DRAWN else (SEEN, NEW)


class Pictures:
    """batches(step) -> images (B, 3, 32, 32) and captions (B,), all different: of an image's texts in a batch one is right."""

    def __init__(self, images: Tensor, captions: Tensor, seed: int):
        self.images, self.captions, self.seed = images, captions, seed  # (P, K, 3, 32, 32): P pictures of K captions

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        generator = numbered_generator(self.seed, step)
        which = torch.randperm(len(self.captions), generator=generator)[:BATCH]  # (B,)
        picture = torch.randint(len(self.images), (len(which),), generator=generator)  # (B,)
        return self.images[picture, which], self.captions[which]


class TwiceWorded(Pictures):
    """The same for half as many captions, each with two pictures and two wordings: captions (B,) are places in `BOTH`."""

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        generator = numbered_generator(self.seed, step)
        which = torch.randperm(len(self.captions), generator=generator)[:BATCH // 2].repeat(2)  # (B,)
        picture = torch.randint(len(self.images), (len(which),), generator=generator)  # (B,)
        other = torch.arange(len(which)) >= len(which) // 2  # (B,)
        return self.images[picture, which], self.captions[which] + len(CAPTIONS) * other


def training_pictures(seed: int) -> Tensor:
    """(P, 216, 3, 32, 32): of all captions; those of unseen ones are for the arm that is shown all."""
    return make_captioned(torch.arange(len(CAPTIONS)).repeat(PICTURES), 1 + seed).images.unflatten(0, (PICTURES, -1))


class Heads(nn.Module):
    """The image encoder of CLIP with a linear head for the color, one for the shape and one for the place."""

    def __init__(self):
        super().__init__()
        self.image = ImageEncoder(SIZES)
        self.heads = nn.ModuleList(nn.Linear(SIZES.image_width, len(classes)) for classes in KINDS.values())

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, 32, 32) -> log probabilities (B, 216) of the captions."""
        state = self.image(images)  # (B, D)
        return sum(head(state).log_softmax(-1)[:, WORDS[:, kind]] for kind, head in enumerate(self.heads))


def new_model(arm: str) -> nn.Module:
    return Heads() if arm.startswith("three heads") else CLIP(SIZES)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, captions = batch
    if isinstance(model, Heads):
        return F.nll_loss(model(images), captions)
    return contrastive_loss(model(images, BOTH[captions]))


def shared_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """As `loss`, but all pairs of one meaning share the goal equally."""
    images, captions = batch
    meaning = captions % len(CAPTIONS)  # (B,)
    same = (meaning[:, None] == meaning).float()  # (B, B)
    logits, goal = model(images, BOTH[captions]), same / same.sum(1)
    return (F.cross_entropy(logits, goal) + F.cross_entropy(logits.T, goal)) / 2


def fit(run: Run, steps: int, pictures: Tensor) -> tuple[nn.Module, list[float]]:
    """The trained model and its losses; `pictures` are those of all captions (P, 216, 3, 32, 32)."""
    captions = torch.arange(len(CAPTIONS)) if run.arm == "all captions" else split(run.arm)[0]
    pictures = pictures[:, captions]  # (P, K, 3, 32, 32)
    seed_everything(run.seed)
    model = new_model(run.arm)
    optimizer = torch.optim.AdamW(decay_groups(model, DECAY), lr=RATE, betas=(0.9, 0.98), fused=True)
    batches = (TwiceWorded if run.arm in WORDINGS else Pictures)(pictures, captions, run.seed)
    history = train(model, batches, shared_loss if run.arm == WORDINGS[1] else loss, optimizer, steps=steps,
                    schedule=warmup_cosine(30, STEPS), progress=False)
    return model.eval(), history.losses


def first_losses(run: Run) -> list[float]:
    return fit(run, FIRST, training_pictures(run.seed))[1]


# -- scores ------------------------------------------------------------------------------------------------------------


def test_pictures(seen: Tensor = SEEN, new: Tensor = NEW) -> dict[str, tuple[Tensor, Tensor]]:
    """Images and captions, 576 each, of the seen and of the unseen captions; the same for all runs of a split."""
    drawn = {"seen": make_captioned(seen.repeat(TESTS // 2), 1001), "unseen": make_captioned(new.repeat(TESTS), 1002)}
    return {name: tuple(part) for name, part in drawn.items()}


@torch.no_grad()
def scores(model: nn.Module, tests: dict[str, tuple[Tensor, Tensor]], new: Tensor = NEW) -> dict[str, float]:
    """Shares right: captions among all 216 and, of unseen pictures, among 72; and the words of the caption chosen among 216."""
    found, fits = {}, []
    for name, (images, captions) in tests.items():
        logits = model(images) if isinstance(model, Heads) else model(images, TOKENS)  # (N, 216)
        fits.append(logits)
        chosen = logits.argmax(1)
        found[f"{name}, of 216"] = share(chosen == captions)
        for kind, right in zip(KINDS, (WORDS[chosen] == WORDS[captions]).float().mean(0).tolist(), strict=True):
            found[f"{name}, {kind}"] = right
        if name == "unseen":
            found["unseen, of 72"] = share(new[logits[:, new].argmax(1)] == captions)
            found["unseen, a seen caption chosen"] = share(~torch.isin(chosen, new))
    found |= search(torch.cat(fits), torch.cat([captions for _, captions in tests.values()]), new)
    if isinstance(model, CLIP):
        found |= zero_shot(model, *tests["unseen"]) | gap(model, *tests["unseen"], new)
    return found


def zero_shot(model: CLIP, images: Tensor, captions: Tensor) -> dict[str, float]:
    """Classes from words: each class the vector of its name alone, or the mean of the vectors of all captions that have it."""
    vectors, texts, found = model.encode_image(images), model.encode_text(TOKENS), {}
    for kind, (name, classes) in enumerate(KINDS.items()):
        truth = WORDS[captions, kind]  # (N,)
        alone = model.encode_text(caption_tokens(classes))  # (C, E)
        mean = torch.stack([texts[WORDS[:, kind] == number].mean(0) for number in range(len(classes))])  # (C, E)
        found[f"{name} by its name"] = share((vectors @ alone.T).argmax(1) == truth)
        found[f"{name} by all captions"] = share((vectors @ F.normalize(mean, dim=-1).T).argmax(1) == truth)
    return found


def search(logits: Tensor, captions: Tensor, new: Tensor) -> dict[str, float]:
    """A sentence for each unseen caption: the share of its eight best pictures that show it; logits (N, 216), captions (N,)."""
    best = captions[logits[:, new].T.topk(TESTS).indices]  # (72, 8)
    return {"search, of 8": share(best == new[:, None]), "search, first": share(best[:, 0] == new)}


def gap(model: CLIP, images: Tensor, captions: Tensor, new: Tensor) -> dict[str, float]:
    """Between the mean of the image vectors and that of the text vectors, and what it does to a search among both."""
    pictures, texts = model.encode_image(images), model.encode_text(TOKENS)
    between = pictures.mean(0) - texts[new].mean(0)  # (E,)
    found = {"gap": between.norm().item(), "cosine of pairs": (pictures * texts[captions]).sum(1).mean().item(),
             "cosine of pictures": cosine_of_others(pictures), "cosine of texts": cosine_of_others(texts[new])}
    centered = [F.normalize(vectors - vectors.mean(0), dim=-1) for vectors in (pictures, texts)]
    for name, (seen, read) in {"picture first": (pictures, texts), "picture first, centered": centered}.items():
        others = read @ read.T - 2 * torch.eye(len(read))  # (216, 216): a sentence does not find itself
        found[name] = share((read @ seen.T).amax(1)[new] > others.amax(1)[new])
    return found


@torch.no_grad()
def closer(model: CLIP, images: Tensor, captions: Tensor) -> dict[str, float]:
    """What the scores leave open about the unseen pictures.

    How far the own sentence leads those with one other word, what a single sentence a class tells, whether an unseen sentence
    finds a picture first where the two that differ in shape alone are not in the heap, and the choice of a sentence on pictures
    drawn after all settings were chosen.
    """
    vectors, texts = model.encode_image(images), model.encode_text(TOKENS)
    cosines = vectors @ texts.T  # (N, 216)
    own = cosines.gather(1, captions[:, None])  # (N, 1)
    differs = WORDS[captions][:, None] != WORDS  # (N, 216, 3)
    found = {}
    for kind, (name, classes) in enumerate(KINDS.items()):
        other = (differs.sum(2) == 1) & differs[..., kind]  # (N, 216)
        lead = (own - cosines)[other]  # (N * others,)
        found[f"lead over another {name}"] = lead.mean().item()
        found[f"own above another {name}"] = share(lead > 0)
        found[f"cosine of another {name}"] = cosines[other].mean().item()
        rows = torch.stack([(WORDS[:, kind] == number).nonzero()[:, 0] for number in range(len(classes))])  # (C, R)
        right = cosines[:, rows].argmax(1) == WORDS[captions, kind, None]  # (N, R): a class is one sentence, the rest alike
        found[f"{name} by one caption"] = share(right)
    others = texts @ texts.T  # (216, 216)
    for name, most in {"picture first": 0, "picture first, no neighbors": 1}.items():
        alike = (WORDS[:, None] != WORDS)[..., (0, 2)].any(2).logical_not() if most else torch.eye(len(texts)).bool()
        left = others.masked_fill(alike, -2)
        found[name] = share((texts @ vectors.T).amax(1)[NEW] > left.amax(1)[NEW])
    for name, part in {"seen": (SEEN.repeat(TESTS // 2), 2001), "unseen": (NEW.repeat(TESTS), 2002)}.items():
        fresh = make_captioned(*part)
        logits = model(fresh.images, TOKENS)
        found[f"fresh {name}, of 216"] = share(logits.argmax(1) == fresh.captions)
        if name == "unseen":
            found["fresh unseen, of 72"] = share(NEW[logits[:, NEW].argmax(1)] == fresh.captions)
    return found


def cosine_of_others(vectors: Tensor) -> float:
    """The mean cosine of two different rows."""
    number = len(vectors)
    return ((vectors.sum(0).square().sum() - number) / (number * (number - 1))).item()


def share(right: Tensor) -> float:
    return right.float().mean().item()


# -- the record --------------------------------------------------------------------------------------------------------


def perform(run: Run, pictures: Tensor) -> tuple[dict, nn.Module]:
    start = time.process_time()
    seed_everything(run.seed)
    seen, new = split(run.arm)
    tests = test_pictures(seen, new)
    before = scores(new_model(run.arm).eval(), tests) if run.arm == "CLIP" else {}
    model, losses = fit(run, STEPS, pictures)
    found = {"seconds": round(time.process_time() - start, 1), "parameters": sum(p.numel() for p in model.parameters()),
             "losses": [round(value, 4) for value in losses[:FIRST] + losses[49::50]],
             "last": round(sum(losses[-20:]) / 20, 4),
             "scores": {name: round(score, 4) for name, score in scores(model, tests, new).items()},
             "before": {name: round(score, 4) for name, score in before.items()}}
    if isinstance(model, CLIP):
        found["scale"] = round(model.logit_scale.exp().item(), 2)
    if run.arm == "CLIP":
        found["closer"] = {name: round(value, 4) for name, value in closer(model, *tests["unseen"]).items()}
    if run.arm in WORDINGS:
        with torch.no_grad():
            vectors = model.encode_text(BOTH)  # (432, E)
        found["cosine of wordings"] = round((vectors[:216] * vectors[216:]).sum(1).mean().item(), 4)
    return run._asdict() | found, model


def load_weights(path: Path) -> CLIP:
    """The CLIP of seed 0, in float32. Raises FileNotFoundError where there is none."""
    return load_half(CLIP(SIZES), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    parser.add_argument("--most", type=int, default=len(runs()), help="runs to make in this call")
    options = parser.parse_args()
    path = options.record
    record = open_record(path, lambda: {
        "settings": {"steps": STEPS, "batch": BATCH, "rate": RATE, "decay": DECAY, "pictures": PICTURES},
        **surroundings(), "runs": []})
    drawn = {}
    for run in missing(runs(), record)[:options.most]:
        if run.seed not in drawn:
            drawn = {run.seed: training_pictures(run.seed)}
        found, model = perform(run, drawn[run.seed])
        record["runs"].append(found)
        if run == Run("CLIP", 0):
            save_half(model, path.with_suffix(".safetensors"))
        write_record(path, record)
        print(run, found["seconds"], found["last"], found["scores"], flush=True)


if __name__ == "__main__":
    main()
