"""Train the denoisers of the chapter "Image generation" on 2,000 digits, draw 500 with each, and score what they drew.

    OMP_NUM_THREADS=1 python experiments/train_diffusion.py experiments/records/train_diffusion.json

writes the scores, each {judge, frechet, nearest}: the share of drawn digits that a judge, trained on other digits, reads as
asked for; the Frechet distance of its features from those of 1,000 real digits that nobody trained on; the mean distance to
the nearest training digit. Parts: `real` (what needs no training), `long` (4,500 steps on the straight path; the curve,
guidance, number of steps, errors by time), `middle` (1,500 steps: velocity, image and noise at a rate that stays, the
velocity at one that falls too; what the record has of them, with all sets, is kept), `targets` (300 steps: two paths, three
targets, seeds, with and without averaged weights; two of them take turns), `vae`, `few` (the same network on 20 digits),
`controls` (of the kept weights: losses on seen and unseen digits beside those of the best guess, distances to as many unseen
digits, copies with repetition, the same network on the other path), `weighted` (300 steps to the noise, by the loss of the
image behind it). Weights of judge and long run lie beside the record in float16.
The record is written after every run, so that one that is cut leaves what it reached, and `--parts` adds what is missing.

    python experiments/train_diffusion.py experiments/records/train_diffusion.json --drawing book/drawings/digits-drawn.svg

draws the first figure of the chapter with the kept weights.
"""

import argparse
import base64
import io
import json
import math
import platform
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from tutorlib.data.batches import ShuffledBatches
from tutorlib.data.digits import load_digits
from tutorlib.device import has_fast_bfloat16, processor_name, seed_everything
from tutorlib.diffusion import (
    CLEAN,
    NOISE,
    VELOCITY,
    Denoise,
    Parts,
    at,
    bounded,
    cosine,
    denoiser,
    exact,
    guided,
    mix,
    sample_back,
    straight,
    walk_back,
)
from tutorlib.evaluation import accuracy
from tutorlib.evaluation.images import frechet_distance, inputs_of, nearest
from tutorlib.models import ConvNet
from tutorlib.models.diffusion import Denoiser
from tutorlib.models.vae import VAE, negative_bound
from tutorlib.records import load_half, save_half
from tutorlib.training import train, warmup_cosine, warmup_linear
from tutorlib.training.augmentation import rotate, shift
from tutorlib.training.averaging import MovingAverage
from tutorlib.training.denoising import denoising_loss, drop_labels
from tutorlib.training.loop import update
from tutorlib.training.losses import cross_entropy

TRAINED_ON, DRAWN, BATCH, RATE, DECAY, DROPPED = 2000, 500, 64, 2e-3, 0.995, 0.1
EARLY = 500  # steps, after which a run of the middle part is scored for the first time
WARMUP, SLOW = 50, 0.999  # steps; the decay of the average that the long run is drawn with
DRAWS, CHEAP = (1000, 1001, 1002), 6  # seeds of the noise; draws of what needs no network
STEPS, WEIGHT = 10, 1.5  # of sampling; of guidance
PATHS = {"straight": straight, "cosine": cosine}
TARGETS = {"image": CLEAN, "noise": NOISE, "velocity": VELOCITY}
WEIGHTED = "noise, weighted"
UNDOES = TARGETS | {WEIGHTED: NOISE}
TIMES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
LATE = 0.98  # where drawing from predicted noise may begin: at 1 there is nothing to divide by
PARTS = ["real", "long", "middle", "targets", "vae", "few", "controls", "weighted"]
CHOICES = (("velocity", "stays", 2), ("image", "stays", 1), ("velocity", "falls", 1), ("noise", "stays", 1))  # number of seeds
HEAVIEST = 100.0  # of the weights (s/a)² of the noise's loss, with which it is that of the image
SOONEST, EACH = 0.1, 4  # of the times in the losses of `controls`; times for each digit
DEVIATIONS = (0.3, 1.0, 1.5, 2.0, 3.0)  # that the autoencoder grants a pixel
FIRST = 4  # losses in float32 at the start, which another machine can repeat


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    if options.drawing:
        write_drawing(load_weights(options.record.with_suffix(".safetensors"))["straight"], options.drawing)
    else:
        train_all(options)


def train_all(options: argparse.Namespace) -> None:
    experiment = Experiment(options)
    for part in options.parts:
        getattr(experiment, part)()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write; the weights go beside it")
    parser.add_argument("--steps", type=int, default=4500, help="of the long run (default: %(default)s)")
    parser.add_argument("--middle", type=int, default=1500, help="of those beside it (default: %(default)s)")
    parser.add_argument("--short", type=int, default=300, help="steps of the runs that are compared (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the runs that are compared (default: 0 1)")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS,
                        help="train these alone and add them to a record that is there (default: all, anew)")
    parser.add_argument("--drawing", type=Path, help="train nothing; draw with the kept weights, into this SVG file")
    return parser.parse_args()


def signed(images: Tensor) -> Tensor:
    """Pixels from [0, 1] to [-1, 1]."""
    return 2 * images - 1


def asked_for(number: int) -> Tensor:
    """The labels that are drawn: 0 to 9 in turn, (N,)."""
    return torch.arange(number) % 10


def train_judge(images: Tensor, labels: Tensor, steps: int = 1500) -> ConvNet:
    """A digit classifier whose weights are rounded to float16, as they are kept."""
    seed_everything(0)
    judge = ConvNet()

    def moved(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return shift(rotate(images, 10, generator), 2, generator), labels

    train(judge, ShuffledBatches(images, labels, batch_size=BATCH, augment=moved),
          cross_entropy, torch.optim.AdamW(judge.parameters(), 2e-3),
          steps=steps, schedule=warmup_linear(50, steps), progress=False)
    return judge.half().float().eval()


def run(images: Tensor, labels: Tensor, path: str, target: str, steps: int, seed: int, *, fast: torch.dtype | None,
        falling: bool = False, at_step=lambda step, network, average: None) -> tuple[Denoiser, Denoiser, list[float]]:
    """A trained network, its averaged one, and the losses. The rate stays, or falls to 0 along half a cosine."""
    seed_everything(seed)
    rate = warmup_cosine(WARMUP, steps) if falling else lambda number: min(1, (number + 1) / WARMUP)
    network = Denoiser()
    average, batches = MovingAverage(network, DECAY), ShuffledBatches(images, labels, batch_size=BATCH, seed=seed)
    optimizer, generator = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01), torch.Generator().manual_seed(seed)

    def loss(network: Denoiser, batch: tuple[Tensor, Tensor]) -> Tensor:
        told = drop_labels(batch[1], network.unlabeled, DROPPED, generator=generator)
        if target == WEIGHTED:
            return weighted_loss(network, batch[0], told, PATHS[path], generator)
        return denoising_loss(network, batch[0], told, PATHS[path], TARGETS[target], generator=generator)

    losses = []
    for number in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * rate(number)
        losses.append(update(network, batches, loss, optimizer, number, clip_norm=1.0, autocast=fast)[0])
        average.update(network)
        at_step(number + 1, network, average.model)
    return network.eval(), average.model, losses


def weighted_loss(network: Denoiser, clean: Tensor, labels: Tensor, path, generator: torch.Generator) -> Tensor:
    """Of the noise, each square times (s/a)², `HEAVIEST` at most: what it costs the image behind it."""
    time, noise = torch.rand(len(clean), generator=generator), torch.randn(clean.shape, generator=generator)
    c = at(path, time, clean)
    weight = (c.noise / c.signal).square().clamp(max=HEAVIEST)  # (B, 1, 1, 1)
    return (weight * (network(mix(clean, noise, c), time, labels) - noise).square()).mean()


def drawing(network: Denoiser, target: str, path: str, labels: Tensor, weight: float = WEIGHT) -> Denoise:
    """The guided denoiser of a network, its images held in [-1, 1]."""
    given, free = (denoiser(network, UNDOES[target], PATHS[path], told) for told in (labels, None))
    return bounded(guided(given, free, weight), PATHS[path])


class Experiment:
    """The data, the judge, and the record that grows."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.fast = options, torch.bfloat16 if has_fast_bfloat16("cpu") else None
        digits = load_digits()
        self.images, self.labels = signed(digits.train.images[:TRAINED_ON]), digits.train.labels[:TRAINED_ON]
        self.other, self.held_out = digits.train, signed(digits.test.images)
        if options.parts != PARTS:
            self.record = json.loads(options.record.read_text())
            self.record |= {part: [] for part in options.parts if part not in ("real", "long", "middle", "controls")}
            self.record |= {"relay": []} if "targets" in options.parts else {}
            self.record["settings"] |= self.settings(options)
            self.judge = load_weights(options.record.with_suffix(".safetensors"))["judge"]
            self.features = self.features_of(self.held_out)
            return
        start = time.process_time()
        self.judge = train_judge(digits.train.images[TRAINED_ON:], digits.train.labels[TRAINED_ON:])
        self.features = self.features_of(self.held_out)
        self.record = {
            "settings": self.settings(options),
            "torch": torch.__version__, "python": platform.python_version(), "processor": processor_name(), "threads": 1,
            "autocast": str(self.fast), "parameters": sum(p.numel() for p in Denoiser().parameters()),
            "judge": {"accuracy": accuracy(self.judge, *digits.test), "seconds": round(time.process_time() - start, 1)},
            "first_losses": run(self.images, self.labels, "straight", "velocity", FIRST, 0, fast=None)[2],
            "real": {}, "long": {}, "middle": [], "targets": [], "relay": [], "vae": [], "few": [], "controls": {},
            "weighted": [],
        }

    @staticmethod
    def settings(options: argparse.Namespace) -> dict:
        return {"steps": options.steps, "middle": options.middle, "short": options.short, "batch": BATCH, "rate": RATE,
                "decay": DECAY, "slow": SLOW, "dropped": DROPPED, "trained_on": TRAINED_ON, "drawn": DRAWN,
                "sampling_steps": STEPS, "weight": WEIGHT, "heaviest": HEAVIEST, "early": EARLY, "late": LATE,
                "seeds": options.seeds}

    def add(self, part: str, **entry) -> None:
        self.record[part].append(entry)
        self.write(entry)

    def write(self, what) -> None:
        self.options.record.write_text(json.dumps(self.record, indent=1) + "\n")
        print(what, flush=True)

    def features_of(self, images: Tensor) -> Tensor:
        return inputs_of(self.judge.output, self.judge, (images + 1) / 2)  # (N, 128)

    def score(self, images: Tensor, labels: Tensor) -> dict:
        """What was drawn, (N, 1, 28, 28) in [-1, 1]: three numbers."""
        features = self.features_of(images)
        read = self.judge.output(features).argmax(1)
        return {"judge": round((read == labels).float().mean().item(), 4),
                "frechet": round(frechet_distance(features, self.features), 2),
                "nearest": round(nearest(images, self.images)[0].mean().item(), 3)}

    def draw(self, denoise, path: str, steps: int = STEPS, eta: float = 0.0, seed: int = DRAWS[0],
             first: float = 1.0) -> Tensor:
        """(N, 1, 28, 28), for the denoiser that `denoise` makes of labels; from noise, taken for what is there at `first`."""
        generator = torch.Generator().manual_seed(seed)
        noise, drawn = torch.randn(DRAWN, *self.images.shape[1:], generator=generator), []
        for labels, start in zip(asked_for(DRAWN).split(250), noise.split(250)):
            with torch.autocast("cpu", dtype=self.fast, enabled=self.fast is not None):
                drawn.append(sample_back(denoise(labels), PATHS[path], start, steps, eta=eta, first=first, generator=generator))
        return torch.cat(drawn)

    def drawn_score(self, network: Denoiser, target: str, path: str, weight: float = WEIGHT, **how) -> dict:
        images = self.draw(lambda labels: drawing(network, target, path, labels, weight), path, **how)
        return self.score(images, asked_for(DRAWN))

    def real(self) -> None:
        """Real digits, and what takes no training."""
        copied = []
        for seed in range(CHEAP):
            generator = torch.Generator().manual_seed(seed)
            which = torch.stack([torch.randperm(TRAINED_ON // 10, generator=generator)[:DRAWN // 10] for _ in range(10)], 1)
            rows = (10 * which + torch.arange(10)).flatten()  # (N,): a quarter of each digit
            copied.append(self.score(self.images[rows], asked_for(DRAWN)))
        scores = {"copies": copied, "held out": [self.score(some, asked_for(DRAWN)) for some in self.held_out.split(DRAWN)]}
        by_class = [self.images[self.labels == label].flatten(1) for label in range(10)]
        means = torch.stack([each.mean(0) for each in by_class])[asked_for(DRAWN)]  # (N, 784)
        scores["class means"] = self.score(means.view(-1, 1, 28, 28), asked_for(DRAWN))
        scores["best guess"] = [self.score(self.draw(self.best, "straight", seed=DRAWS[0] + k), asked_for(DRAWN))
                                for k in range(CHEAP)]
        scores["normal distribution of each class"] = [self.score(normal(by_class, seed), asked_for(DRAWN)) for seed in DRAWS]
        self.record["real"] = scores
        self.write(scores)

    def best(self, labels: Tensor) -> Denoise:
        """The best denoiser of the training digits, for labels (N,)."""
        each = [exact(self.images[self.labels == label], 0.0, straight) for label in range(10)]

        def denoise(noisy: Tensor, time: Tensor) -> Parts:
            clean = torch.empty_like(noisy)  # (N, 1, 28, 28)
            for label in range(10):
                some = labels == label  # (N,)
                with torch.autocast("cpu", enabled=False):
                    clean[some] = each[label](noisy[some].float(), time[some]).clean
            return CLEAN.parts(clean, noisy, at(straight, time, noisy))
        return denoise

    def long(self) -> None:
        """The long run, and its dials."""
        network = self.train_long("straight", self.options.seeds[0])
        save_weights({"judge": self.judge, "straight": network}, self.options.record.with_suffix(".safetensors"))
        self.sweep("straight", network)

    def train_long(self, path: str, seed: int) -> Denoiser:
        curve, start, spent, slow = [], time.process_time(), 0.0, None

        def at_step(step: int, network: Denoiser, average: Denoiser) -> None:
            nonlocal spent, slow
            slow = slow or MovingAverage(network, SLOW)
            slow.update(network)
            if step in (150, 500, 1500, 3000, self.options.steps):
                begun = time.process_time()
                curve.append({"step": step, "seconds": round(begun - start - spent, 1),
                              "scores": self.three(slow.model, "velocity", path)})
                if step == self.options.steps:
                    curve[-1] |= {"faster average": self.three(average, "velocity", path),
                                  "raw": self.three(network, "velocity", path)}
                spent += time.process_time() - begun
                print(curve[-1], flush=True)

        losses = run(self.images, self.labels, path, "velocity", self.options.steps, seed, fast=self.fast, falling=True,
                     at_step=at_step)[2]
        means = [round(sum(losses[i:i + 50]) / len(losses[i:i + 50]), 4) for i in range(0, len(losses), 50)]
        self.record["long"] = {path: {"seed": seed, "curve": curve, "losses": means}}
        self.write(path)
        return slow.model.half().float()

    def three(self, network: Denoiser, target: str, path: str, **how) -> list[dict]:
        """The scores of as many drawings from three noises."""
        return [self.drawn_score(network, target, path, seed=seed, **how) for seed in DRAWS]

    def sweep(self, path: str, network: Denoiser) -> None:
        long = self.record["long"][path]
        long["draws"] = self.three(network, "velocity", path)
        self.write(long["draws"])
        for name, eta in (("steps", 0.0), ("steps, fresh noise", 1.0)):
            long[name] = {steps: self.three(network, "velocity", path, steps=steps, eta=eta)
                          for steps in (1, 2, 5, 10, 20, 50)}
            self.write(long[name])
        long["weights"] = {weight: self.three(network, "velocity", path, weight=weight)
                           for weight in (0, 1, 1.25, 1.5, 2, 3, 5, 8)}
        long["errors"] = {name: self.errors(network, "velocity", path, images)
                          for name, images in (("training", self.images[:DRAWN]), ("held out", self.held_out[:DRAWN]))}
        self.write(long)

    def middle(self) -> None:
        """A third of the long run: three targets at a rate that stays, and the velocity at one that falls."""
        kept = [run for run in self.record["middle"] if len(run["raw"]) == len(run["scores"]) == len(DRAWS)]
        self.record["middle"], done = kept, {(run["target"], run["rate"], run["seed"]) for run in kept}
        for target, rate, seeds in CHOICES:
            for seed in self.options.seeds[:seeds]:
                if (target, rate, seed) not in done:
                    self.train_middle(target, rate, seed)

    def train_middle(self, target: str, rate: str, seed: int) -> None:
        early = []

        def at_step(number: int, network: Denoiser, average: Denoiser) -> None:
            if number == EARLY:
                early.append(self.drawn_score(average, target, "straight"))

        network, average, _ = run(self.images, self.labels, "straight", target, self.options.middle, seed, fast=self.fast,
                                  falling=rate == "falls", at_step=at_step)
        late = {"late": self.three(average, target, "straight", first=LATE)} if target == "noise" else {}
        self.add("middle", target=target, rate=rate, seed=seed, early=early, scores=self.three(average, target, "straight"),
                 raw=self.three(network, target, "straight"), **late)

    def errors(self, network: Denoiser, target: str, path: str, images: Tensor) -> list[float]:
        """Mean square error of the clean image, for the times of `TIMES`."""
        found, generator = [], torch.Generator().manual_seed(7)
        for moment in TIMES:
            time, noise = torch.full((len(images),), moment), torch.randn(images.shape, generator=generator)
            noisy = mix(images, noise, at(PATHS[path], time, images))
            with torch.no_grad():
                clean = torch.cat([denoiser(network, UNDOES[target], PATHS[path], labels)(some, moments).clean
                                   for some, moments, labels in zip(noisy.split(250), time.split(250),
                                                                    asked_for(len(images)).split(250))])
            found.append(round((clean - images).square().mean().item(), 5))
        return found

    def targets(self) -> None:
        """Each path with each target, and the relay of two networks."""
        for seed in self.options.seeds:
            trained = {(path, target): self.train_target(path, target, seed) for path in PATHS for target in TARGETS}
            self.relay("cosine", trained["cosine", "image"], trained["cosine", "noise"], seed)

    def train_target(self, path: str, target: str, seed: int) -> Denoiser:
        network, average, losses = run(self.images, self.labels, path, target, self.options.short, seed, fast=self.fast)
        first = seed == self.options.seeds[0]
        late = {"late": self.drawn_score(average, target, path, first=LATE)} if target == "noise" else {}
        self.add("weighted" if target == WEIGHTED else "targets", path=path, target=target, seed=seed,
                 loss=round(sum(losses[-100:]) / 100, 4), **self.drawn_score(average, target, path),
                 raw=self.drawn_score(network, target, path),
                 errors=self.errors(average, target, path, self.held_out[:DRAWN]) if first else None, **late)
        return average

    def relay(self, path: str, image: Denoiser, noise: Denoiser, seed: int) -> None:
        """One network as long as the time is above `switch`, the other below."""
        for name, late, early in (("image, then noise", (image, "image"), (noise, "noise")),
                                  ("noise, then image", (noise, "noise"), (image, "image"))):
            for switch in (0.5, 0.3):
                def both(labels: Tensor, late=late, early=early, switch=switch) -> Denoise:
                    first, second = (drawing(*which, path, labels) for which in (late, early))
                    return lambda noisy, time: (first if time[0] > switch + 0.01 else second)(noisy, time)
                self.add("relay", path=path, order=name, switch=switch, seed=seed,
                         **self.score(self.draw(both, path), asked_for(DRAWN)))

    def vae(self) -> None:
        for seed in self.options.seeds:
            for deviation in DEVIATIONS:
                vae, generator = train_vae(self.images, self.labels, deviation, seed), torch.Generator().manual_seed(1000)
                with torch.no_grad():
                    drawn = vae.decode(torch.randn(DRAWN, vae.code, generator=generator), asked_for(DRAWN))
                    again = vae(self.held_out[:DRAWN], asked_for(DRAWN), generator)[0]
                drawn = drawn.view(-1, 1, 28, 28).clamp(-1, 1)
                self.add("vae", deviation=deviation, seed=seed, **self.score(drawn, asked_for(DRAWN)),
                         real_codes=self.score(again.clamp(-1, 1), asked_for(DRAWN)),
                         error=round((again - self.held_out[:DRAWN]).square().mean().item(), 4))

    def few(self) -> None:
        """The short run of the velocity on the first 20 digits, and where its drawings lie."""
        for seed in self.options.seeds:
            some = self.images[:20]
            _, average, _ = run(some.repeat(4, 1, 1, 1), self.labels[:20].repeat(4), "straight", "velocity",
                                self.options.short, seed, fast=self.fast)
            drawn = self.draw(lambda labels, network=average: drawing(network, "velocity", "straight", labels), "straight")
            pairs = torch.cat([drawn[:10], some[nearest(drawn[:10], some)[1]]])
            self.add("few", digits=len(some), seed=seed, png=png(grey(pairs, 2)),
                     nearest=round(nearest(drawn, some)[0].mean().item(), 3),
                     held_out=round(nearest(self.held_out[:DRAWN], some)[0].mean().item(), 3))


    def controls(self) -> None:
        """What the scores of the long run are worth: no training, but the weights that are kept."""
        network = load_weights(self.options.record.with_suffix(".safetensors"))["straight"]
        unseen = signed(self.other.images[TRAINED_ON:])  # the judge's: as many, and 0 to 9 in turn as well
        told = lambda labels: denoiser(network, VELOCITY, straight, labels)  # noqa: E731
        losses = {name: {of: self.loss(guess, images) for of, images in (("training", self.images), ("unseen", unseen))}
                  for name, guess in (("network", told), ("best guess", self.best))}
        self.record["controls"] = {"losses": losses, "soonest": SOONEST}
        self.write(losses)
        crowds = {"network": [self.draw(lambda labels: drawing(network, "velocity", "straight", labels), "straight", seed=seed)
                              for seed in DRAWS],
                  "best guess": [self.draw(self.best, "straight", seed=seed) for seed in DRAWS],
                  "held out": list(self.held_out.split(DRAWN))}
        found = {name: [{"training": round(nearest(some, self.images)[0].mean().item(), 3),
                         "unseen": round(nearest(some, unseen)[0].mean().item(), 3)} for some in crowd]
                 for name, crowd in crowds.items()}
        distinct = [len(nearest(some, self.images)[1].unique()) for some in crowds["best guess"]]
        self.record["controls"] |= {"nearest": found, "distinct": distinct}
        self.write((found, distinct))
        again = [torch.randint(TRAINED_ON // 10, (DRAWN,), generator=torch.Generator().manual_seed(seed))
                 for seed in range(CHEAP)]
        self.record["controls"] |= {
            "copies, repeated": [self.score(self.images[10 * which + asked_for(DRAWN)], asked_for(DRAWN)) for which in again],
            "best guess, 50 steps": [self.score(self.draw(self.best, "straight", steps=50, seed=seed), asked_for(DRAWN))
                                     for seed in DRAWS]}
        self.record["controls"]["other path"] = {
            steps: [self.score(self.draw(lambda labels: on_cosine(drawing(network, "velocity", "straight", labels)), "cosine",
                                         steps=steps, seed=seed), asked_for(DRAWN)) for seed in DRAWS] for steps in (5, 10)}
        self.write(self.record["controls"])

    def weighted(self) -> None:
        """The short run to the noise, its squares weighted as those of the image behind it."""
        for seed in self.options.seeds:
            self.train_target("straight", WEIGHTED, seed)

    def loss(self, denoise, images: Tensor) -> list[float]:
        """Of the velocity, for images that show 0 to 9 in turn, at times above `SOONEST`: mean and standard error."""
        generator, each = torch.Generator().manual_seed(11), []
        for some in images.split(500):
            losses = []
            for _ in range(EACH):
                time = SOONEST + (1 - SOONEST) * torch.rand(len(some), generator=generator)  # (B,)
                noise = torch.randn(some.shape, generator=generator)
                noisy = mix(some, noise, at(straight, time, some))
                with torch.no_grad():
                    guess = denoise(asked_for(len(some)))(noisy, time)
                losses.append((guess.noise - guess.clean - (noise - some)).square().flatten(1).mean(1))  # (B,)
            each.append(torch.stack(losses).mean(0))
        each = torch.cat(each)  # (N,)
        return [round(each.mean().item(), 5), round((each.std() / len(each)**0.5).item(), 5)]


def on_cosine(denoise: Denoise) -> Denoise:
    """A denoiser of the straight path, asked on the cosine one: x_t / (a + s) lies on the first, at time s / (a + s)."""
    def asked(noisy: Tensor, time: Tensor) -> Parts:
        c = cosine(time)
        total = c.signal + c.noise  # (B,)
        return denoise(noisy / total.view(-1, *[1] * (noisy.dim() - 1)), c.noise / total)
    return asked


def train_vae(images: Tensor, labels: Tensor, deviation: float, seed: int, steps: int = 1500) -> VAE:
    seed_everything(seed)
    vae, generator = VAE(), torch.Generator().manual_seed(seed)

    def loss(vae: VAE, batch: tuple[Tensor, Tensor]) -> Tensor:
        decoded, mean, log_variance = vae(*batch, generator)
        return negative_bound(decoded, batch[0], mean, log_variance, deviation)

    train(vae, ShuffledBatches(images, labels, batch_size=BATCH, seed=seed), loss, torch.optim.AdamW(vae.parameters(), 1e-3),
          steps=steps, schedule=warmup_linear(50, steps), clip_norm=None, progress=False)
    return vae.eval()


def normal(by_class: list[Tensor], seed: int = DRAWS[0]) -> Tensor:
    """Digits from the normal distribution with the mean and covariance of each class (M, 784): (N, 1, 28, 28)."""
    generator, drawn = torch.Generator().manual_seed(seed), []
    for label in asked_for(DRAWN).tolist():
        some = by_class[label]  # (M, 784)
        weights = torch.randn(len(some), generator=generator) / math.sqrt(len(some) - 1)  # (M,)
        drawn.append(some.mean(0) + weights @ (some - some.mean(0)))  # (784,)
    return torch.stack(drawn).clamp(-1, 1).view(-1, 1, 28, 28)


def save_weights(networks: dict[str, nn.Module], path: Path) -> None:
    """All in one file, in float16."""
    save_half(nn.ModuleDict(networks), path)


def load_weights(path: Path) -> dict[str, nn.Module]:
    """The judge, and the denoiser."""
    return dict(load_half(nn.ModuleDict({"judge": ConvNet(), "straight": Denoiser()}), path).items())


def shown(network: Denoiser) -> dict[str, Tensor]:
    """Grey levels (H, W) from 0 to 255: fifty drawings in five rows, and the way of a seven in six stages."""
    generator = torch.Generator().manual_seed(0)
    labels = asked_for(50)
    noise = torch.randn(50, 1, 28, 28, generator=generator)
    drawn = sample_back(drawing(network, "velocity", "straight", labels), straight, noise, STEPS)  # (50, 1, 28, 28)
    seven = drawing(network, "velocity", "straight", labels[7:8])
    way = [noise[7:8], *(noisy for noisy, _ in walk_back(seven, straight, noise[7:8], STEPS))][::2]  # 6 of (1, 1, 28, 28)
    return {"grid": grey(drawn, 5), "way": grey(torch.cat(way), 1)}


def grey(images: Tensor, rows: int) -> Tensor:
    """Images (N, 1, 28, 28) in rows, ink dark on white: (rows * 28, N / rows * 28) of uint8."""
    ink = (1 - (images[:, 0].clamp(-1, 1) + 1) / 2) * 255  # (N, 28, 28)
    return ink.round().to(torch.uint8).unflatten(0, (rows, -1)).transpose(1, 2).flatten(2).flatten(0, 1)


def write_drawing(network: Denoiser, path: Path) -> None:
    """The images as pixels in an SVG of the book's style."""
    parts, top = [], 8
    for name, pixels in shown(network).items():
        height = 424 * pixels.size(0) / pixels.size(1)
        parts.append(f'<image data-of="{name}" x="8" y="{top}" width="424" height="{height:g}" '
                     f'style="image-rendering:pixelated" href="data:image/png;base64,{png(pixels)}"/>')
        top += height + 10
    for k in range(6):
        parts.append(f'<text class="middle" x="{8 + 424 * (k + 0.5) / 6:g}" y="{top + 10:g}">{2 * k}</text>')
    style = (path.parent / "style.css").read_text()
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 440 {top + 20:g}">\n<style>\n'
                    f"{style}</style>\n" + "\n".join(parts) + "\n</svg>\n")


def png(pixels: Tensor) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


if __name__ == "__main__":
    main()
