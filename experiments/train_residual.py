"""The runs of the chapter "Convolution and residual networks": what makes thirty-two layers trainable.

    python experiments/train_residual.py experiments/records/residual.json

trains networks of 16 channels on 4,000 digits of 7 x 7 pixels, 40 a step, with Adam. They differ in the depth; in the factor of
the skip (0 is a plain network, 1 a residual one); in the factor of the branch; in whether there is a norm, and over what; in
the rate, the steps, and the way that the gradient takes. Each entry of the record has the training loss, the mean of each ten
steps, and the accuracy on 1,000 digits of 28 x 28 averaged down alike. The "readers" are others, at 28 x 28 pixels or with
another head; theirs is the accuracy on test digits moved to the right by 0 to 4 of 28 pixels. A record that exists is gone on
with. About twenty minutes on one core.
"""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.batches import ShuffledBatches
from tutorlib.data.digits import Digits, Images, load_digits
from tutorlib.device import seed_everything
from tutorlib.evaluation.classification import accuracy
from tutorlib.layers.convolution import ConvNorm
from tutorlib.models.convnet import ConvNet
from tutorlib.models.mlp import MLP
from tutorlib.models.resnet import ResidualBlock, ResNet
from tutorlib.records import missing, open_record, rounded, surroundings, write_record
from tutorlib.training.loop import train
from tutorlib.training.losses import cross_entropy
from tutorlib.training.schedules import warmup_cosine

CHANNELS, BATCH = 16, 40
DEPTHS, SKIPS = (8, 14, 20, 26, 32), (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 2.0)
RATES, BARE_RATES = (0.03, 0.01, 0.003), (0.01, 0.003, 0.001, 0.0003)  # to choose from, with a norm and without
GROUPS = (0, 1, 4)  # batch norm, layer norm, group norm
SMALL = 15**-0.5  # of a branch: then the fifteen corrections of 32 layers have together the variance of one


class Run(NamedTuple):
    """One network and its training."""

    depth: int = 32
    skip: float = 1.0
    branch: float = 1.0
    normed: bool = True
    rate: float = 0.01
    steps: int = 100
    gradient: str = "both"  # or through the "skip" alone, or the "branch"; what the network computes stays the same
    groups: int = 0  # into which the channels of an image are divided for its mean and deviation; 0: batch norm
    seed: int = 0


class Reader(NamedTuple):
    """A network of two convolutions at 28 x 28 pixels, with what stands in its place; or one of 7 x 7, by its head."""

    kind: str
    seed: int


LARGE = "perceptron", "flattened", "mean", "unshared", "shuffled"
TUNED = {"mean, rate .01": (320, 0.01), "mean, 1,000 steps": (1000, 0.01)}  # steps and rate; of the others 320 and .003
FROZEN = "flattened, first kernels frozen"  # as they start
SMALL_MEAN = "mean, 7 x 7"  # the same two convolutions, whose places now see the whole digit
HEADS = {"plain 8": (8, 0.0, False), "residual 8": (8, 1.0, False), "residual 32": (32, 1.0, False),
         "residual 8, flattened": (8, 1.0, True)}


def planned() -> list[Run]:
    """All runs: five starts by depth, three of all others."""
    by_depth = [Run(depth=depth, skip=skip, seed=seed) for depth in DEPTHS for skip in (0.0, 1.0) for seed in range(5)]
    kinds = [Run(skip=skip) for skip in SKIPS if skip not in (0.0, 1.0)]
    kinds += [Run(gradient=gradient) for gradient in ("skip", "branch")]
    kinds += [Run(skip=skip, branch=branch, normed=False, rate=rate)
              for skip, branch in ((0.0, 1.0), (1.0, 1.0), (1.0, SMALL)) for rate in BARE_RATES]
    kinds += [Run(skip=0.0, rate=rate) for rate in RATES if rate != Run().rate]
    kinds += [Run(depth=depth, skip=skip, steps=300) for depth, skip in ((8, 0.0), (32, 0.0), (32, 1.0))]
    kinds += [Run(branch=SMALL, normed=False, rate=rate, steps=300) for rate in BARE_RATES]
    kinds += [Run(groups=groups, rate=rate) for groups in GROUPS for rate in RATES if groups or rate != Run().rate]
    return by_depth + [kind._replace(seed=seed) for kind in kinds for seed in range(3)]


class DialedBlock(ResidualBlock):
    """relu(skip · x + branch · f(x)), of whose derivative by x either term can be cut."""

    skip = branch = 1.0
    gradient = "both"

    def forward(self, images: Tensor) -> Tensor:
        passed = images.detach() if self.gradient == "branch" else images
        read = images.detach() if self.gradient == "skip" else images
        return F.relu(self.skip * passed + self.branch * self.correction(read))


def network(run: Run) -> ResNet:
    """The network of a run as it starts; its seed alone decides the weights."""
    seed_everything(run.seed)
    model = ResNet([(run.depth - 2) // 2], [CHANNELS], num_classes=10, in_channels=1, stem_width=CHANNELS, small_images=True)
    for unit in model.modules():
        if isinstance(unit, ResidualBlock):
            unit.__class__ = DialedBlock
            unit.skip, unit.branch, unit.gradient = run.skip, run.branch, run.gradient
        if isinstance(unit, ConvNorm) and not run.normed:
            unit.norm = nn.Identity()
        elif isinstance(unit, ConvNorm) and run.groups:
            unit.norm = nn.GroupNorm(run.groups, CHANNELS)
    return model


def readers() -> list[Reader]:
    """Three starts of each kind; two of the one whose kernels are not shared, which takes longest."""
    kinds = *LARGE, *HEADS, *TUNED, SMALL_MEAN, FROZEN
    return [Reader(kind, seed) for kind in kinds for seed in range(2 if kind == "unshared" else 3)]


class Unshared(nn.Module):
    """A 3 x 3 convolution of stride 1 whose places have each their own kernel and biases."""

    def __init__(self, convolution: nn.Conv2d, side: int):
        super().__init__()
        weight = torch.empty(side * side, *convolution.weight.flatten(1).shape)  # (P, O, C K K), one kernel a place
        bound = weight.size(-1) ** -0.5
        self.weight = nn.Parameter(weight.uniform_(-bound, bound))  # as PyTorch starts a convolution
        self.bias = nn.Parameter(torch.empty(convolution.out_channels, side * side).uniform_(-bound, bound))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        columns = F.unfold(images, 3, padding=1)  # (B, C K K, P)
        outputs = torch.einsum("bkp,pok->bop", columns, self.weight) + self.bias  # (B, O, P)
        return outputs.unflatten(2, images.shape[-2:])


class MeanHead(ConvNet):
    """The two convolutions; then the mean of each map in place of all its places, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(self.conv2.out_channels, self.hidden.out_features)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.max_pool2d(F.relu(self.conv1(images)), 2)  # (B, 32, 14, 14)
        maps = F.max_pool2d(F.relu(self.conv2(maps)), 2)  # (B, 64, 7, 7)
        return self.output(F.relu(self.hidden(maps.mean((-2, -1)))))


class Shuffled(nn.Module):
    """A network that reads every image with its pixels in one and the same random order."""

    def __init__(self, model: nn.Module, pixels: int):
        super().__init__()
        self.model = model
        self.register_buffer("order", torch.randperm(pixels))

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.flatten(1)[:, self.order].view_as(images))


def reader(run: Reader) -> nn.Module:
    """The network of a reader as it starts."""
    if run.kind in HEADS:
        depth, skip, flat = HEADS[run.kind]
        model = network(Run(depth=depth, skip=skip, seed=run.seed))
        return nn.Sequential(model.stem, model.blocks, nn.Flatten(), nn.Linear(CHANNELS * 7 * 7, 10)) if flat else model
    seed_everything(run.seed)
    if run.kind == "perceptron":
        return MLP((784, 530, 10))  # as many parameters as the convolutional network
    model = MeanHead() if run.kind.startswith("mean") else ConvNet()
    if run.kind == FROZEN:
        model.conv1.requires_grad_(False)
    if run.kind == "unshared":
        model.conv1, model.conv2 = Unshared(model.conv1, 28), Unshared(model.conv2, 14)
    return Shuffled(model, 784) if run.kind == "shuffled" else model


def moved_scores(run: Reader, digits: Digits, steps: int | None = None) -> tuple[list[float], list[float]]:
    """Losses of the training, and the accuracy on test digits moved to the right by 0 to 4 pixels."""
    large, deep = run.kind in {*LARGE, *TUNED, FROZEN}, run.kind in HEADS
    model, seen = reader(run), digits if large else shrunk(digits)
    number, rate = TUNED.get(run.kind, (320, 3e-3))
    plan = {"steps": 100, "batch": BATCH, "rate": 0.01} if deep else {"steps": number, "batch": 50, "rate": rate}
    batches = ShuffledBatches(*seen.train, batch_size=plan["batch"], seed=run.seed)
    optimizer = torch.optim.Adam(model.parameters(), plan["rate"])
    schedule = warmup_cosine(plan["steps"] // 10, plan["steps"])
    history = train(model, batches, cross_entropy, optimizer, steps=steps or plan["steps"], schedule=schedule, progress=False)
    scores = []
    for pixels in range(5):
        images = F.pad(digits.test.images, (pixels, 0))[..., :28]
        scores.append(accuracy(model, images if large else F.avg_pool2d(images, 4), digits.test.labels))
    return history.losses, scores


def shrunk(digits: Digits) -> Digits:
    """Both sets at 7 x 7 pixels."""
    return Digits(*(Images(F.avg_pool2d(part.images, 4), part.labels) for part in digits))


def trained(run: Run, digits: Digits, steps: int | None = None) -> tuple[ResNet, list[float]]:
    """The trained network and its losses; `steps` ends the run sooner, on the same schedule, and so does a loss not finite."""
    model, losses = network(run), []

    def recorded(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = cross_entropy(model, batch)
        losses.append(loss.item())
        return loss

    batches = ShuffledBatches(*digits.train, batch_size=BATCH, seed=run.seed)
    optimizer = torch.optim.Adam(model.parameters(), run.rate)
    schedule = warmup_cosine(run.steps // 10, run.steps)
    with suppress(FloatingPointError):
        train(model, batches, recorded, optimizer, steps=steps or run.steps, schedule=schedule, progress=False)
    return model, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    options = parser.parse_args()
    torch.set_num_threads(1)
    full = load_digits()
    digits = shrunk(full)
    record = open_record(options.record, lambda: {"surroundings": surroundings(), "runs": [], "readers": []})
    for run in missing(planned(), record):
        model, losses = trained(run, digits)
        finished = len(losses) == run.steps
        tens = [sum(losses[k:k + 10]) / 10 for k in range(0, len(losses) - 9, 10)]
        score = accuracy(model, *digits.test) if finished else 0.1
        record["runs"].append(run._asdict() | {"finished": finished, "accuracy": score, "losses": rounded(tens)})
        write_record(options.record, record)
        print(run, f"loss {tens[-1]:.2f}, accuracy {score:.3f}", flush=True)
    for run in missing(readers(), {"runs": record["readers"]}):
        losses, scores = moved_scores(run, full)
        record["readers"].append(run._asdict() | {"accuracy": scores, "losses": rounded(losses[:3])})
        write_record(options.record, record)
        print(run, scores, flush=True)


if __name__ == "__main__":
    main()
