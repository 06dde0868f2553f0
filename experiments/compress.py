"""Make the GPT of the chapter "GPT" smaller in four ways, and MiniLM in one, for the chapter "Compression".

    OMP_NUM_THREADS=1 python experiments/compress.py experiments/records/compress.json

The weights that are kept of the GPT are bytes: rounding them to eight bits again would change nothing. So the model is first
trained a little further (SETTLE steps), which takes every weight off that grid; what follows begins from there. Each row has
the bytes of the file and the loss on held-out text, nats a token, less the uncompressed model's, with standard errors over
windows or seeds. The record is written anew after each row, and a row that it holds is not done again.
`layer_times` and `token_times` say which way is faster and which only smaller.
"""

import argparse
import copy
import math
import runpy
import time
import warnings
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.baselines.bag_of_words import logistic_regression
from tutorlib.baselines.ngram import KneserNey
from tutorlib.compression.distillation import Distillation
from tutorlib.compression.int8 import FusedInt8Linear, quantize
from tutorlib.compression.low_rank import LowRankLinear, rank_for
from tutorlib.compression.pruning import Pruner, cubic_schedule, keep_units, magnitude_mask, two_of_four, unit_scores
from tutorlib.compression.quantization import (
    FusedInt4Linear,
    Quantized,
    QuantizedLinear,
    gptq,
    input_moments,
    matrices,
    quantize_linears,
    round_to_nearest,
    with_weights,
)
from tutorlib.data.batches import RandomWindows
from tutorlib.data.sentiment import load_sentiment
from tutorlib.device import has_fast_bfloat16
from tutorlib.generation import generate
from tutorlib.layers.linears import replace_linears
from tutorlib.models import BERT, GPT, GPTConfig
from tutorlib.pretrained import load
from tutorlib.records import missing, open_record, surroundings, write_record
from tutorlib.training import train, warmup_linear

HERE = Path(__file__).parent
GPT_RUN = runpy.run_path(str(HERE / "train_gpt.py"))
LENGTH, BATCH, VOCABULARY = (GPT_RUN[name] for name in ("LENGTH", "BATCH", "VOCABULARY"))
SETTLE, RATE = 60, 3e-4
EVERY = 16  # of the held-out windows
CALIBRATION = 64  # windows of the training text, from which the moments are taken
MEND, MEND_RATE = 20, 1e-3  # steps of training after something was taken out
STUDENT_STEPS, STUDENT_RATE = 150, 3e-3
GROUP = 64
LEARNED = 3000  # rated sentences, of which the linear map on MiniLM's states is made
WAYS = {"tensor": "tensor", "row": "row", "group": GROUP, "gptq row": "row", "gptq group": GROUP}
SEEDS = 0, 1, 2


class Run(NamedTuple):
    kind: str  # rounding, again, pruning, law, both, units, rank, mended, student, counted, minilm, minilm part, times
    way: str
    size: float  # bits, share that is out, share of units or weights that stay, steps, rows, width
    seed: int


def planned() -> list[Run]:
    rounding = [Run("rounding", way, bits, 0) for bits in (4, 3, 8, 2, 5) for way in WAYS]
    again = [Run("again", way, bits, 0) for way in ("row", "group") for bits in (8, 4, 3)]
    pruning = [Run("pruning", "magnitude", share, 0) for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)]
    pruning += [Run("pruning", "random", share, 0) for share in (0.1, 0.2, 0.3)] + [Run("pruning", "2:4", 0.5, 0)]
    pruning += [Run("units", way, share, 0) for way in ("largest", "random") for share in (0.875, 0.75, 0.5)]
    law = [Run("law", "rounded", 4, 0), Run("law", "random", 0.1, 0)]
    law += [Run("law", "magnitude", share, 0) for share in (0.1, 0.2, 0.3, 0.5, 0.8)]
    both = [Run("both", "magnitude", share, 0) for share in (0.3, 0.5)]
    rank = [Run("rank", way, share, 0) for way in ("plain", "aware") for share in (0.9, 0.75, 0.5)]
    mended = [Run("mended", way, size, seed) for seed in SEEDS for way, size in
              (("nothing", 0.0), ("at once", 0.8), ("schedule", 0.8), ("units", 0.25))]
    student = [Run("student", way, steps, seed) for seed in SEEDS for way, steps in
               (("hard", STUDENT_STEPS), ("soft", STUDENT_STEPS), ("hard", 2 * STUDENT_STEPS))]
    counted = [Run("counted", "pairs", 2, 0)]
    times = [Run("times", way, size, seed) for seed in SEEDS for way, size in
             (("layer", 1), ("layer", 64), ("token", 192), ("token", 768))]
    minilm = [Run("minilm", way, bits, 0) for bits in (8, 4, 3, 2) for way in ("row", "group", "gptq group")]
    minilm += [Run("minilm part", way, 4, 0) for way in ("row", "group")]
    return [*rounding, *again, *pruning, *law, *both, *rank, *student, *counted, *minilm, *mended, *times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    parser.add_argument("--only", nargs="+", help="these kinds of rows alone")
    options = parser.parse_args()
    bench = Bench()
    record = open_record(options.record, lambda: opened(bench))
    for run in missing(planned(), record):
        if options.only and run.kind not in options.only:
            continue
        start = time.process_time()
        found = bench.done(run)
        record["runs"].append(run._asdict() | found | {"seconds": round(time.process_time() - start, 1)})
        write_record(options.record, record)
        print({key: value for key, value in record["runs"][-1].items() if key != "text"}, flush=True)


def opened(bench: "Bench") -> dict:
    off = bench.off_the_grid()
    return {"settings": {"settle": SETTLE, "rate": RATE, "every": EVERY, "calibration": CALIBRATION,
                         "mend": MEND, "mend_rate": MEND_RATE, "group": GROUP,
                         "student_steps": STUDENT_STEPS, "student_rate": STUDENT_RATE},
            **surroundings(), "first_losses": bench.first_losses(), "windows": len(bench.windows),
            "off_the_grid": off, "full": bench.scored(bench.full) | {"bytes": 4 * parameters(bench.full)},
            "stored": bench.scored(bench.kept), "text": bench.written(bench.full), "runs": []}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class Bench:
    """Text, models, and what each kind of run does with them."""

    def __init__(self):
        _, self.tokenizer, self.tokens, unseen = GPT_RUN["prepared"]()
        self.windows = unseen.unfold(0, LENGTH + 1, LENGTH // 2)[::EVERY]  # (W, T + 1)

    @cached_property
    def kept(self) -> GPT:
        return GPT_RUN["load_weights"](HERE / "records" / "gpt.safetensors")

    @cached_property
    def full(self) -> GPT:
        """The kept model after SETTLE steps of training: its weights lie on no grid."""
        return self.trained(copy.deepcopy(self.kept), SETTLE, seed=100)

    @cached_property
    def nats(self) -> Tensor:
        """Of the uncompressed model, a mean for each window: (W,)."""
        return GPT_RUN["nats"](self.full, self.windows).double().mean(1)

    @cached_property
    def moments(self) -> dict[str, Tensor]:
        return self.moments_of(self.full)

    def moments_of(self, model: GPT) -> dict[str, Tensor]:
        batches = RandomWindows(self.tokens, LENGTH, batch_size=CALIBRATION // 4, seed=7)
        return input_moments(model, [(batches(step)[0],) for step in range(4)])

    def off_the_grid(self) -> float:
        """How far settling has moved the weights, root mean square, in steps of the 8-bit grid that they lay on."""
        moved = [((new - old) / (old.abs().amax(1, keepdim=True) / 127)).flatten()
                 for new, old in zip(matrices(self.full).values(), matrices(self.kept).values(), strict=True)]
        return round(torch.cat(moved).square().mean().sqrt().item(), 2)

    def first_losses(self) -> list[float]:
        batches = RandomWindows(self.tokens, LENGTH, batch_size=BATCH, seed=100)
        model = copy.deepcopy(self.kept)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
        losses = train(model, batches, GPT_RUN["next_token_loss"], optimizer, steps=3, progress=False).losses
        return [round(each, 4) for each in losses]

    def trained(self, model: GPT, steps: int, seed: int, rate: float = RATE, loss: Callable | None = None) -> GPT:
        """With AdamW, up in a tenth of the steps and down a line; in bfloat16 where that is fast."""
        batches = RandomWindows(self.tokens, LENGTH, batch_size=BATCH, seed=seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        train(model, batches, loss or GPT_RUN["next_token_loss"], optimizer, steps=steps, progress=False,
              autocast=torch.bfloat16 if has_fast_bfloat16("cpu") else None, schedule=warmup_linear(steps // 10, steps))
        return model.eval()

    def scored(self, model: GPT) -> dict:
        """Nats a token and its standard error over windows; less the uncompressed model's, and its error."""
        nats = GPT_RUN["nats"](model, self.windows).double().mean(1)  # (W,)
        more = nats - self.nats
        figures = (nats.mean(), nats.std() / len(nats) ** 0.5, more.mean(), more.std() / len(nats) ** 0.5)
        return dict(zip(("nats", "error", "more", "more_error"), (round(f.item(), 4) for f in figures), strict=True))

    def written(self, model: GPT) -> str:
        return GPT_RUN["sample"](model, self.tokenizer, 60)

    def done(self, run: Run) -> dict:
        return getattr(self, run.kind.replace(" ", "_"))(run)

    # -- ways to make it smaller --------------------------------------------------------------------------------------

    def rounding(self, run: Run) -> dict:
        model, moments = self.full, self.moments if run.way.startswith("gptq") else {}
        stored = rounded_matrices(model, int(run.size), WAYS[run.way], moments)
        small = with_weights(model, {name: each.weight for name, each in stored.items()})
        rest = parameters(model) - sum(each.integers.numel() for each in stored.values())
        count = sum(each.nbytes for each in stored.values()) + 2 * rest
        wrote = {"text": self.written(small)} if run.way in ("group", "gptq group") else {}
        return {"bytes": count, **self.scored(small), **wrote}

    def again(self, run: Run) -> dict:
        """The kept weights themselves, against themselves unrounded."""
        reference = GPT_RUN["nats"](self.kept, self.windows).double().mean(1)
        stored = rounded_matrices(self.kept, int(run.size), WAYS[run.way], {})
        small = with_weights(self.kept, {name: each.weight for name, each in stored.items()})
        more = GPT_RUN["nats"](small, self.windows).double().mean(1) - reference
        return {"more": round(more.mean().item(), 5), "more_error": round((more.std() / len(more) ** 0.5).item(), 5)}

    def pruning(self, run: Run) -> dict:
        weights, generator = inner(self.full), torch.Generator().manual_seed(run.seed)
        chosen = {"magnitude": lambda w: magnitude_mask(w, run.size), "2:4": two_of_four,
                  "random": lambda w: magnitude_mask(torch.rand(w.shape, generator=generator), run.size)}[run.way]
        small = with_weights(self.full, {name: weight * chosen(weight) for name, weight in weights.items()})
        return {"bytes": sparse_bytes(small), **self.scored(small)}

    def law(self, run: Run) -> dict:
        """A change of the layers' matrices alone: its square, as a share of their sum of squares, and what it costs."""
        weights, generator = inner(self.full), torch.Generator().manual_seed(run.seed)
        change = {"rounded": lambda w: round_to_nearest(w, int(run.size), GROUP).weight,
                  "magnitude": lambda w: w * magnitude_mask(w, run.size),
                  "random": lambda w: w * magnitude_mask(torch.rand(w.shape, generator=generator), run.size)}[run.way]
        changed = {name: change(weight) for name, weight in weights.items()}
        return {"square": round(share_of_squares(changed, weights), 5), **self.scored(with_weights(self.full, changed))}

    def both(self, run: Run) -> dict:
        """The smallest weights out, and four bits for those that stay and for the embedding; a bit for each place."""
        every, places = matrices(self.full), inner(self.full)
        small = {name: four_that_stay(w, run.size) if name in places else round_to_nearest(w, 4, GROUP).weight
                 for name, w in every.items()}
        numbers, of_layers = (sum(w.numel() for w in each.values()) for each in (every, places))
        count = of_layers / 8 + (numbers - run.size * of_layers) * (4 + 32 / GROUP) / 8 + 2 * (parameters(self.full) - numbers)
        return {"bytes": round(count), **self.scored(with_weights(self.full, small))}

    def units(self, run: Run) -> dict:
        small = self.fewer_units(run)
        return {"bytes": 2 * parameters(small), **self.scored(small)}

    def fewer_units(self, run: Run) -> GPT:
        small, generator = copy.deepcopy(self.full), torch.Generator().manual_seed(run.seed)
        for place, layer in enumerate(small.layers):
            scores = unit_scores(layer.feed_forward, self.moments[f"layers.{place}.feed_forward.contract.weight"])
            scores = torch.rand(len(scores), generator=generator) if run.way == "random" else scores
            layer.feed_forward = keep_units(layer.feed_forward, scores.topk(round(run.size * len(scores))).indices.sort()[0])
        return small

    def rank(self, run: Run) -> dict:
        small = self.thin(run.size, run.way == "aware")
        return {"bytes": 2 * parameters(small), **self.scored(small)}

    def thin(self, share: float, aware: bool) -> GPT:
        small = copy.deepcopy(self.full)
        for place, layer in enumerate(small.layers):
            names = {module: f"layers.{place}.{name}.weight" for name, module in layer.named_modules()}
            replace_linears(layer, lambda linear, names=names: LowRankLinear(
                linear, rank_for(linear.weight, share), self.moments[names[linear]] if aware else None))
        return small

    def mended(self, run: Run) -> dict:
        """MEND steps of training after, or while, something is taken out."""
        loss = None
        if run.way == "units":
            small = self.fewer_units(Run("units", "largest", run.size, 0))
        else:
            small = copy.deepcopy(self.full)
            loss = PrunedLoss(Pruner(small, list(inner(small))), run.size, run.way == "schedule") if run.size else None
        small = self.trained(small, MEND, run.seed, MEND_RATE, loss)
        if loss:
            loss.pruner()  # what the last step has moved
        size = sparse_bytes(small) if loss else 2 * parameters(small)
        return {"bytes": size, **self.scored(small)}

    def student(self, run: Run) -> dict:
        torch.manual_seed(run.seed)
        model = GPT(GPTConfig(VOCABULARY, LENGTH, width=96, num_heads=3, num_layers=3))
        loss = Distillation(self.full, soft=1.0 if run.way == "soft" else 0.0)
        model = self.trained(model, int(run.size), run.seed, STUDENT_RATE, loss)
        return {"bytes": 2 * parameters(model), **self.scored(model)}

    def counted(self, run: Run) -> dict:
        """Kneser-Ney on all the text, on the windows of the others; six bytes a gram: two tokens and its count."""
        model = KneserNey(self.tokens, VOCABULARY, order=int(run.size))
        half = LENGTH // 2
        nats = torch.stack([-model.score(window)[-half:] for window in self.windows]).mean(1)  # (W,)
        grams = len(self.tokens.unfold(0, int(run.size), 1).unique(dim=0))
        more = nats - self.nats
        figures = {"nats": nats.mean(), "error": nats.std() / len(nats) ** 0.5,
                   "more": more.mean(), "more_error": more.std() / len(more) ** 0.5}
        return {"grams": grams, "bytes": 6 * grams, **{name: round(each.item(), 4) for name, each in figures.items()}}

    def times(self, run: Run) -> dict:
        return {"faster": (layer_times if run.way == "layer" else token_times)(int(run.size))}

    # -- MiniLM -------------------------------------------------------------------------------------------------------

    @cached_property
    def sentences(self) -> "Sentences":
        return Sentences()

    def minilm(self, run: Run) -> dict:
        return self.sentences.rounded(int(run.size), WAYS[run.way], run.way.startswith("gptq"))

    def minilm_part(self, run: Run) -> dict:
        """The matrices that contract hidden units have the run's grids, all others the other kind."""
        return self.sentences.apart(int(run.size), run.way)


class PrunedLoss:
    """The loss of the next token after the pruner has been called: at once, or along the schedule over 3/4 of the steps."""

    def __init__(self, pruner: Pruner, share: float, gradual: bool):
        self.pruner, self.share, self.gradual, self.step = pruner, share, gradual, 0

    def __call__(self, model: GPT, batch: tuple[Tensor, Tensor]) -> Tensor:
        due = self.step == 0 or (self.gradual and self.step <= MEND * 3 // 4)
        now = cubic_schedule(self.step, 0, MEND * 3 // 4, self.share) if self.gradual else self.share
        self.pruner(now if due else None)
        self.step += 1
        return GPT_RUN["next_token_loss"](model, batch)


def inner(model: GPT) -> dict[str, Tensor]:
    """The matrices of the layers, without the embedding."""
    return {name: weight for name, weight in matrices(model).items() if name.startswith("layers.")}


def rounded_matrices(model: nn.Module, bits: int, group: int | str, moments: dict[str, Tensor]) -> dict:
    return {name: gptq(weight, moments[name], bits, group) if name in moments else round_to_nearest(weight, bits, group)
            for name, weight in matrices(model).items()}


def share_of_squares(changed: dict[str, Tensor], weights: dict[str, Tensor]) -> float:
    """The square of a change of the weights, as a share of their sum of squares."""
    return (sum((changed[name] - weight).square().sum() for name, weight in weights.items())
            / sum(weight.square().sum() for weight in weights.values())).item()


def four_that_stay(weight: Tensor, out: float) -> Tensor:
    """The smallest weights 0, a grid of four bits for each GROUP of those that stay."""
    stays = magnitude_mask(weight, out).bool()
    kept = weight[stays]  # (K,)
    groups = torch.cat([kept, kept[-1:].expand(-len(kept) % GROUP)]).view(-1, GROUP)
    found = torch.zeros_like(weight)
    found[stays] = round_to_nearest(groups, 4, GROUP).weight.flatten()[:len(kept)]
    return found


def sparse_bytes(model: GPT) -> int:
    """Two bytes a weight that is not zero, and one bit for each place of a matrix of the layers."""
    places = sum(weight.numel() for weight in inner(model).values())
    zeros = sum((weight == 0).sum().item() for weight in inner(model).values())
    return 2 * (parameters(model) - zeros) + math.ceil(places / 8)


class Sentences:
    """A linear map of MiniLM's states, fitted on the rated sentences with the model in float32, and then left as it is."""

    def __init__(self):
        self.model, tokenizer = load("minilm")
        data = load_sentiment()
        known = sorted(data.train[:LEARNED], key=lambda s: len(s.text))
        self.batches = {part: [tokenizer([s.text for s in some[start:start + 50]], max_length=64)
                               for start in range(0, len(some), 50)]
                        for part, some in (("train", known), ("test", data.test))}
        labels = torch.tensor([s.label for s in known])
        self.labels = torch.tensor([s.label for s in data.test])
        self.map = logistic_regression(self.states(self.model, "train"), labels, 1e-5)
        self.full = self.logits(self.model)

    @torch.no_grad()
    def states(self, model: BERT, part: str) -> Tensor:
        """(sentences, D) of length 1."""
        pooled = [BERT.pool(model(batch["tokens"], batch["attention_mask"]), batch["attention_mask"])
                  for batch in self.batches[part]]
        return F.normalize(torch.cat(pooled), dim=1).double()

    def logits(self, model: BERT) -> Tensor:
        weights, bias = self.map
        return self.states(model, "test") @ weights + bias

    @cached_property
    def moments(self) -> dict[str, Tensor]:
        return input_moments(self.model, [(b["tokens"], b["attention_mask"]) for b in self.batches["train"][20:40:2]])

    def rounded(self, bits: int, group: int | str, compensated: bool) -> dict:
        moments = self.moments if compensated else {}
        return self.scored(rounded_matrices(self.model, bits, group, moments))

    def apart(self, bits: int, way: str) -> dict:
        """And of the matrices that contract: the squared error, a share of their sum of squares."""
        other = {"row": "group", "group": "row"}[way]
        stored = {name: round_to_nearest(weight, bits, WAYS[way if "contract" in name else other])
                  for name, weight in matrices(self.model).items()}
        contracting = {name: weight for name, weight in matrices(self.model).items() if "contract" in name}
        square = share_of_squares({name: stored[name].weight for name in contracting}, contracting)
        return {"square": round(square, 4), **self.scored(stored)}

    def scored(self, stored: dict[str, Quantized]) -> dict:
        """Bytes, loss and share of right answers, beside those of the full model."""
        logits = self.logits(with_weights(self.model, {name: each.weight for name, each in stored.items()}))
        rest = parameters(self.model) - sum(each.integers.numel() for each in stored.values())
        loss = [F.binary_cross_entropy_with_logits(each, self.labels.double(), reduction="none")
                for each in (logits, self.full)]
        right = [((each > 0) == self.labels).double() for each in (logits, self.full)]
        found = {"bytes": sum(each.nbytes for each in stored.values()) + 2 * rest, "full_bytes": 4 * parameters(self.model)}
        for name, (ours, full) in {"nats": loss, "right": right}.items():
            more = ours - full
            found |= {name: round(ours.mean().item(), 4), f"full_{name}": round(full.mean().item(), 4),
                      f"{name}_more": round(more.mean().item(), 4),
                      f"{name}_more_error": round((more.std() / len(more) ** 0.5).item(), 4)}
        return found


# -- which is faster, and which only smaller --------------------------------------------------------------------------

LAYER, TURNS, TOKENS = (1024, 4096), 5, 8
AS_MANY_BYTES = {"1/2": 1 / 2, "1/4": 1 / 4, "9/64": 9 / 64}  # of 16, 8 and 4.5 bits: so much of the layer in float32


@torch.no_grad()
def layer_times(rows: int) -> dict[str, list[float]]:
    """Times faster than float32 of one layer in each of the ways, for so many rows at once: `ratios`."""
    torch.manual_seed(0)
    inputs = torch.randn(rows, LAYER[0])
    return ratios({name: partial(layer, inputs) for name, layer in layers(nn.Linear(*LAYER)).items()}, max(1, 16 // rows))


@torch.no_grad()
def token_times(width: int) -> dict[str, list[float]]:
    """Times faster than float32 of TOKENS tokens, one after the other, of a GPT of this width with random weights."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(VOCABULARY, LENGTH, width=width, num_heads=6, num_layers=6)).eval()
    prompt = torch.randint(VOCABULARY, (1, 16))
    return ratios({name: partial(generate, small, prompt, TOKENS, temperature=0)
                   for name, small in smaller(model).items()}, 1)


def layers(layer: nn.Linear) -> dict[str, Callable]:
    """One layer in each of the ways: the same product where the bits allow it, or a smaller one."""
    weight, out = layer.weight.detach(), layer.out_features
    zeros, few = copy.deepcopy(layer), nn.Linear(layer.in_features, out // 10)
    zeros.weight.data.mul_(magnitude_mask(weight, 0.9))
    with warnings.catch_warnings(action="ignore"):  # that this format is new
        sparse = zeros.weight.detach().to_sparse_csr()
    four = round_to_nearest(weight, 4, GROUP)
    thin = LowRankLinear(layer, rank_for(weight, 0.25))
    return {"float32": layer, "bfloat16": Rounded(layer), "zeros, dense": zeros,
            "zeros, sparse": lambda x: (sparse @ x.T).T + layer.bias, "a tenth of the units": few,
            "rank, a quarter": thin, "8 bits, kernel": FusedInt8Linear(layer), "4 bits, unpacked": QuantizedLinear(layer, four),
            "4 bits, kernel": FusedInt4Linear(layer, four),
            **{f"float32, {share}": nn.Linear(layer.in_features, round(part * out)) for share, part in AS_MANY_BYTES.items()}}


class Rounded(nn.Module):
    """A layer in bfloat16 for inputs in float32: the control of the kernels, which compute so."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.layer = copy.deepcopy(layer).bfloat16()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs.bfloat16()).to(inputs.dtype)


def smaller(model: GPT) -> dict[str, GPT]:
    """The model in each of the ways; what the weights are does not matter to the time."""
    zeros, few, thin, rounded = (copy.deepcopy(model) for _ in range(4))
    for weight in inner(zeros).values():
        weight.mul_(magnitude_mask(weight, 0.9))
    for layer in few.layers:
        layer.feed_forward = keep_units(layer.feed_forward, torch.arange(layer.feed_forward.expand.out_features // 4))
    for layer in thin.layers:
        replace_linears(layer, lambda linear: LowRankLinear(linear, rank_for(linear.weight, 0.25)))
    width, depth = model.config.width // 2, model.config.num_layers // 2
    student = GPT(GPTConfig(VOCABULARY, LENGTH, width=width, num_heads=3, num_layers=depth))
    models = {"float32": model, "bfloat16": replace_linears(rounded, Rounded), "zeros, dense": zeros,
              "a quarter of the units": few, "rank, a quarter": thin, "student": student,
              "8 bits, kernel": quantize(model, fused=True), "4 bits, kernel": quantize_linears(model, 4, GROUP, fused=True)}
    return {name: each.eval() for name, each in models.items()}


def ratios(calls: dict[str, Callable], times: int) -> dict[str, list[float]]:
    """Of each call its speed in those of the first: CPU seconds, by turns, so that what the machine does falls on all."""
    for call in calls.values():
        call()
    turns = []
    for _ in range(TURNS):
        spent = []
        for call in calls.values():
            start = time.process_time()
            for _ in range(times):
                call()
            spent.append(time.process_time() - start)
        turns.append([spent[0] / each for each in spent])
    low, middle, high = torch.tensor(turns).double().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), 0)
    return {name: [round(middle[place].item(), 2), round((high - low)[place].item() / 2, 2)]
            for place, name in enumerate(calls)}


if __name__ == "__main__":
    main()
