"""A small vision-language model on easy-VQA, what it gets without the picture, and what it says to a false premise, by seeds.

    OMP_NUM_THREADS=1 python experiments/train_vision_language.py experiments/records/vision_language.json

First convolutions learn the shape and the color of the training pictures; then they stay as they are, and a GPT of two layers
learns to answer with their output before its words, in one arm three times as long (`--longer`). Beside the record stand the
weights of seed 0 of three arms, "picture", "balanced" and "premises" (vision_language.safetensors, float16). The record is
written after every run; a second call goes on where it stopped.
"""

import argparse
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.batches import ShuffledBatches
from tutorlib.data.digits import load_digits
from tutorlib.data.easy_vqa import (
    COLORS,
    MEAN,
    NONE,
    SHAPES,
    STD,
    VOCABULARY,
    Questions,
    false_premise,
    kind,
    load_questions,
    premise,
    question_tokens,
    to_input,
    words,
)
from tutorlib.device import seed_everything
from tutorlib.layers import fold_batch_norms
from tutorlib.models import GPT, GPTConfig
from tutorlib.models.vision_language import ConvolutionalStem, VisionLanguage, answer_loss, at_mark
from tutorlib.records import load_half, missing, open_record, rounded, run_of, save_half, surroundings, write_record
from tutorlib.training import train, warmup_cosine

SIZES = GPTConfig(vocabulary=len(VOCABULARY), max_length=28, width=64, num_heads=4, num_layers=2, hidden=128)
MARK = VOCABULARY.encode(["?"])[0]  # where the answer is read
SEEDS = (0, 1, 2)
EYE_STEPS, STEPS, BATCH, RATE = 400, 1400, 64, 4e-3
FIRST = 3  # losses at the start, which another machine can repeat
EVERY = 100  # steps between two points of a curve
ARMS = ("picture", "text alone", "balanced", "premises")
LONGER, TIMES = "picture, longer", 3  # so many times the steps
DROPPED = "rows dropped"  # the usual answer to a question for a color, down to as many rows as the rare one has
KEPT = ("picture", "balanced", "premises")  # whose weights of seed 0 are kept
KINDS = ("yes or no", "shape", "color")


class Run(NamedTuple):
    """One training."""

    arm: str
    seed: int


def runs() -> list[Run]:
    """Seed by seed, so that what is there at any time is whole comparisons."""
    return ([Run(arm, seed) for seed in SEEDS for arm in ARMS] + [Run(LONGER, seed) for seed in SEEDS]
            + [Run(DROPPED, seed) for seed in SEEDS])


def length(run: Run, share: float = 1.0) -> int:
    """Steps of a training on a `share` of the questions: each is met as often as in all of them."""
    return round(share * STEPS * (TIMES if run.arm == LONGER else 1))


class Material(NamedTuple):
    """Of a part: pictures (N, 3, 32, 32); of each question the picture (Q,), tokens (Q, T), answer (Q,) and the text."""

    pictures: Tensor
    picture: Tensor
    tokens: Tensor
    answers: Tensor
    questions: list[str]


def material(part: Questions) -> Material:
    return Material(to_input(part.pictures), part.picture, question_tokens(part.questions),
                    torch.tensor(VOCABULARY.encode(part.answers)), part.questions)


def with_premises(part: Material, about: tuple[str, ...], share: float, seed: int) -> Material:
    """A share of the questions that take a word of `about` for granted ask about another one; their answer is `NONE`."""
    generator = torch.Generator().manual_seed(seed)
    dice = torch.rand(len(part.questions), generator=generator)
    others = torch.randint(64, dice.shape, generator=generator)
    questions, answers = list(part.questions), part.answers.clone()
    for row, question in enumerate(questions):
        if premise(question) in about and dice[row] < share:
            questions[row] = false_premise(question, int(others[row]))
            answers[row] = VOCABULARY.encode([NONE])[0]
    return part._replace(questions=questions, tokens=question_tokens(questions), answers=answers)


def rows_of(part: Material) -> dict[str, dict[int, list[int]]]:
    """The rows of each question by their answer."""
    by_question = defaultdict(lambda: defaultdict(list))
    for row, (question, answer) in enumerate(zip(part.questions, part.answers.tolist(), strict=True)):
        by_question[question][answer].append(row)
    return by_question


def asked(part: Material, rows: list[int]) -> Material:
    """These rows of the questions, about all pictures."""
    return part._replace(picture=part.picture[rows], tokens=part.tokens[rows], answers=part.answers[rows],
                         questions=[part.questions[row] for row in rows])


def balanced(part: Material, seed: int) -> Material:
    """Of each yes-or-no question as many rows as before, half of them yes: rare rows come several times, others not at all."""
    generator, rows = torch.Generator().manual_seed(seed), []
    for question, by_answer in rows_of(part).items():
        if kind(question) != "yes or no":
            rows += [row for same in by_answer.values() for row in same]
            continue
        half = sum(map(len, by_answer.values())) // 2
        for same in by_answer.values():
            rows += [same[i] for i in torch.randint(len(same), (half,), generator=generator).tolist()]
    return asked(part, rows)


def dropped(part: Material, seed: int) -> Material:
    """Of each yes-or-no question for a color the rows of its usual answer are cut down to as many as the other has."""
    generator, rows = torch.Generator().manual_seed(seed), []
    for question, by_answer in rows_of(part).items():
        fewest = min(map(len, by_answer.values()))
        cut = kind(question) == "yes or no" and set(words(question)) & set(COLORS)
        for same in by_answer.values():
            rows += [same[i] for i in torch.randperm(len(same), generator=generator)[:fewest].tolist()] if cut else same
    return asked(part, rows)


# -- the eyes ----------------------------------------------------------------------------------------------------------


class Eyes(nn.Module):
    """The stem with a head for the shape and one for the color, on the largest value of each channel."""

    def __init__(self):
        super().__init__()
        self.stem = ConvolutionalStem()
        self.heads = nn.ModuleList(nn.Linear(self.stem.width, len(classes)) for classes in (SHAPES, COLORS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, 3, 32, 32) -> logits (B, 3) of the shapes and (B, 8) of the colors."""
        state = self.stem(images).amax(1)  # (B, E)
        return self.heads[0](state), self.heads[1](state)


def labels(part: Material) -> Tensor:
    """(N, 2): the numbers of shape and color of each picture, as far as an answer names them; else -100."""
    found = torch.full((len(part.pictures), 2), -100)
    for question, picture, answer in zip(part.questions, part.picture.tolist(), part.answers.tolist(), strict=True):
        if kind(question) != "yes or no":
            word = VOCABULARY.symbols[answer]
            family = 0 if word in SHAPES else 1
            found[picture, family] = (SHAPES, COLORS)[family].index(word)
    return found


def train_eyes(part: Material, seed: int, steps: int = EYE_STEPS) -> Eyes:
    """On the shapes and colors that the answers of the training part name."""
    seed_everything(seed)
    eyes = Eyes()

    def loss(model: Eyes, batch: tuple[Tensor, Tensor]) -> Tensor:
        return sum(F.cross_entropy(logits, batch[1][:, i]) for i, logits in enumerate(model(batch[0])))

    optimizer = torch.optim.AdamW(eyes.parameters(), lr=3e-3)
    train(eyes, ShuffledBatches(part.pictures, labels(part), batch_size=64, seed=seed), loss, optimizer, steps=steps,
          schedule=warmup_cosine(20, EYE_STEPS), progress=False)
    return eyes.eval()


# -- a run -------------------------------------------------------------------------------------------------------------


def new_model(stem: nn.Module) -> VisionLanguage:
    """Weights larger than GPT-2's, whose deviation of .02 is made for a width of 768."""
    model = VisionLanguage(stem, GPT(SIZES))
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=SIZES.width**-0.5)
    return model


def prepare(run: Run, part: Material, eyes: Eyes) -> tuple[VisionLanguage, Material]:
    """The model of a run, from its seed, and what it is trained on."""
    seed_everything(run.seed)
    stem = fold_batch_norms(eyes.stem).requires_grad_(False)
    if run.arm == "text alone":
        part = part._replace(pictures=torch.zeros_like(part.pictures))
    if run.arm == "premises":  # about shapes only, so that colors are left to see whether it carries over
        part = with_premises(part, SHAPES, 0.5, run.seed)
    if run.arm == "balanced":
        part = balanced(part, run.seed)
    if run.arm == DROPPED:
        part = dropped(part, run.seed)
    return new_model(stem), part


def fit(run: Run, part: Material, eyes: Eyes, steps: int | None = None) -> tuple[VisionLanguage, list[float]]:
    """The trained model and its losses, of all steps or of the first ones."""
    model, shown = prepare(run, part, eyes)
    whole = length(run, len(shown.questions) / len(part.questions))

    def loss(model: VisionLanguage, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        picture, tokens, answers = batch
        return answer_loss(model(shown.pictures[picture], tokens), tokens, answers, MARK)

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, betas=(0.9, 0.98), fused=True)
    history = train(model, ShuffledBatches(shown.picture, shown.tokens, shown.answers, batch_size=BATCH, seed=run.seed), loss,
                    optimizer, steps=whole if steps is None else steps,
                    schedule=warmup_cosine(whole // 20, whole), progress=False)
    return model.eval(), history.losses


# -- scores ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def probabilities(model: VisionLanguage, pictures: Tensor, picture: Tensor, tokens: Tensor) -> Tensor:
    """Of each question (Q,) those of the next word, (Q, V)."""
    return torch.cat([at_mark(model(pictures[p], t), t, MARK).softmax(-1)
                      for p, t in zip(picture.split(512), tokens.split(512), strict=True)])


def counted(part: Material) -> dict[str, int]:
    """The most frequent answer to each question of the training part, word for word; of equals the first."""
    found = defaultdict(Counter)
    for question, answer in zip(part.questions, part.answers.tolist(), strict=True):
        found[question][answer] += 1
    return {question: counter.most_common(1)[0][0] for question, counter in found.items()}


def groups(part: Material, usual: dict[str, int]) -> dict[str, Tensor]:
    """Which questions (Q,) belong to a kind, to all, and to the yes-or-no questions whose usual answer is right, or wrong.

    The last are also given by what they ask for, a shape or a color.
    """
    kinds = [kind(question) for question in part.questions]
    found = {name: torch.tensor([each == name for each in kinds]) for name in KINDS}
    common = torch.tensor([usual[question] for question in part.questions])
    of_shape = torch.tensor([bool(set(words(question)) & set(SHAPES)) for question in part.questions])
    against = found["yes or no"] & (common != part.answers)
    return found | {"all": torch.ones(len(kinds), dtype=torch.bool), "as usual": found["yes or no"] & ~against,
                    "against the usual": against, "against, shape": against & of_shape, "against, color": against & ~of_shape}


def shares(right: Tensor, parts: dict[str, Tensor]) -> dict[str, float]:
    return {name: right[rows].float().mean().item() for name, rows in parts.items()}


def scores(model: VisionLanguage, part: Material, parts: dict[str, Tensor], blind: bool) -> dict:
    """Shares right by kind, with its own and with another question's picture; the coverage; and what has no right answer."""
    pictures = torch.zeros_like(part.pictures) if blind else part.pictures
    found = probabilities(model, pictures, part.picture, part.tokens)  # (Q, V)
    sure, chosen = found.max(-1)  # (Q,) each
    right = chosen == part.answers
    shuffled = probabilities(model, pictures, swapped(part), part.tokens).argmax(-1) == part.answers
    result = {"own picture": shares(right, parts), "another picture": shares(shuffled, parts),
              "coverage": {name: coverage(sure[rows], right[rows])
                           for name, rows in (("what", ~parts["yes or no"]), ("all", parts["all"]))}}
    return result if blind else result | {"strange": strange(model, part, parts), "false": false(model, part)}


def swapped(part: Material) -> Tensor:
    """Of each question (Q,) a picture that belongs to another one."""
    return (part.picture + 1 + torch.randint(len(part.pictures) - 1, part.picture.shape,
                                             generator=torch.Generator().manual_seed(5))) % len(part.pictures)


THRESHOLDS = (0.0, 0.5, 0.9, 0.99)


def coverage(sure: Tensor, right: Tensor) -> dict[str, list[float]]:
    """At each threshold the share that is answered, and the share right of those."""
    return {str(least): [(sure >= least).float().mean().item(), right[sure >= least].float().mean().item()]
            for least in THRESHOLDS}


def strange_pictures(count: int) -> dict[str, Tensor]:
    """What holds no colored shape, (N, 3, 32, 32): a ground alone, noise, and handwritten digits, black on white."""
    generator = torch.Generator().manual_seed(6)
    digits = F.pad(1 - load_digits().test.images[:count], (2, 2, 2, 2), value=1.0).expand(-1, 3, -1, -1)
    pictures = {"a bare ground": (0.9 + 0.05 * torch.randn(count, 3, 1, 1, generator=generator)).expand(-1, -1, 32, 32),
                "noise": torch.rand(count, 3, 32, 32, generator=generator), "a digit": digits}
    return {name: ((each.clamp(0, 1) - MEAN) / STD) for name, each in pictures.items()}


def strange(model: VisionLanguage, part: Material, parts: dict[str, Tensor]) -> dict[str, dict]:
    """How often the model is so sure of an answer to "what ..." that has none: shares at each threshold."""
    asked = ~parts["yes or no"]
    found = {}
    for name, pictures in strange_pictures(len(part.pictures)).items():
        sure = probabilities(model, pictures, part.picture[asked], part.tokens[asked]).max(-1).values
        found[name] = {str(least): (sure >= least).float().mean().item() for least in THRESHOLDS}
    return found


def false(model: VisionLanguage, part: Material) -> dict[str, dict]:
    """Questions with a premise, as they are and with a false one: how often it says none, and how sure it is of a word."""
    none, result = VOCABULARY.encode([NONE])[0], {}
    for name, about in (("shape", SHAPES), ("color", COLORS)):
        rows = torch.tensor([premise(question) in about for question in part.questions])
        true = asked(part, rows.nonzero()[:, 0].tolist())
        lie = with_premises(true, about, 1.0, 7)
        true_, false_ = (probabilities(model, each.pictures, each.picture, each.tokens) for each in (true, lie))
        said = torch.where(torch.arange(len(VOCABULARY)) == none, 0.0, false_)  # (Q, V): without none
        result[name] = {"true, right": (true_.argmax(-1) == true.answers).float().mean().item(),
                        "false, none": (false_.argmax(-1) == none).float().mean().item(),
                        "false, as if true": (false_.argmax(-1) == true.answers).float().mean().item(),
                        "sure": {str(least): (said.max(-1).values >= least).float().mean().item() for least in THRESHOLDS}}
    return result


def true_premises(model: VisionLanguage, part: Material) -> dict[str, float]:
    """How often it is so sure of an answer where the shape that a question takes for granted is there: at each threshold."""
    rows = torch.tensor([premise(question) in SHAPES for question in part.questions])
    sure = probabilities(model, part.pictures, part.picture[rows], part.tokens[rows]).max(-1).values
    return {str(least): (sure >= least).float().mean().item() for least in THRESHOLDS}


SENTENCES = {"is there a {}?": 0, "is the shape a {}?": 0, "is there a {} shape?": 1, "is the shape {}?": 1}


def sentences(model: VisionLanguage, part: Material) -> dict[str, dict]:
    """Four sentences, two of them no pattern of the set, of each picture whose shape and color the answers name.

    Each is asked with its own word (the answer is yes) and with another (no): the share right, and of each the words said.
    """
    shown = labels(part)
    known, result = (shown >= 0).all(1).nonzero()[:, 0], {}
    for sentence, column in SENTENCES.items():
        family, said = (SHAPES, COLORS)[column], {}
        for name, shift in (("own", 0), ("another", 1)):
            tokens = question_tokens([sentence.format(family[(number + shift) % len(family)])
                                      for number in shown[known, column].tolist()])
            chosen = probabilities(model, part.pictures, known, tokens).argmax(-1).tolist()
            said[name] = {VOCABULARY.symbols[word]: count / len(known) for word, count in Counter(chosen).most_common()}
        result[sentence] = {"right": (said["own"].get("yes", 0.0) + said["another"].get("no", 0.0)) / 2} | said
    return result


def rules(eyes: Eyes, part: Material) -> Tensor:
    """The strongest baseline: the two heads, and rules for the 24 forms of question; which answers are right, (Q,)."""
    with torch.no_grad():
        shape, color = (logits.argmax(-1)[part.picture].tolist() for logits in eyes(part.pictures))
    right = []
    for question, answer, s, c in zip(part.questions, part.answers.tolist(), shape, color, strict=True):
        shown = {SHAPES[s], COLORS[c]}
        asked = set(question.rstrip("?").split())
        if kind(question) == "yes or no":
            said = "yes" if bool(asked & shown) != bool(asked & {"no", "not"}) else "no"
        else:
            said = SHAPES[s] if kind(question) == "shape" else COLORS[c]
        right.append(VOCABULARY.symbols[answer] == said)
    return torch.tensor(right)


# -- the record --------------------------------------------------------------------------------------------------------


def perform(run: Run, part: Material, test: Material, eyes: Eyes) -> tuple[dict, VisionLanguage]:
    start = time.process_time()
    parts = groups(test, counted(part))
    model, losses = fit(run, part, eyes)
    curve = [sum(losses[i:i + EVERY]) / EVERY for i in range(0, len(losses), EVERY)]
    found = {"losses": losses[:FIRST], "curve": curve, "scores": scores(model, test, parts, run.arm == "text alone")}
    if run.arm in ("picture", "balanced"):
        found["sentences"] = sentences(model, test)
    if run.arm == "picture":
        found["sure of a true premise"] = true_premises(model, test)
        found["rules"] = shares(rules(eyes, test), parts)
    return run._asdict() | {"seconds": round(time.process_time() - start, 1)} | rounded(found), model


def baselines(part: Material, test: Material) -> dict:
    """What counting gets, and how many questions there are."""
    usual = counted(part)
    parts = groups(test, usual)
    right = torch.tensor([usual[question] for question in test.questions]) == test.answers
    return rounded({"counted": shares(right, parts)}) | {"questions": {name: int(rows.sum()) for name, rows in parts.items()}}


def load_weights(path: Path) -> nn.ModuleDict:
    """The models of seed 0 of the arms `KEPT`, in float32. Raises FileNotFoundError where there is no file."""
    return load_half(kept(), path)


def kept() -> nn.ModuleDict:
    return nn.ModuleDict({arm: new_model(fold_batch_norms(ConvolutionalStem().eval())) for arm in KEPT})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    parser.add_argument("--longer", action="store_true", help="make only the runs that came later: longer, dropped")
    parser.add_argument("--most", type=int, default=len(runs()), help="runs to make in this call")
    options = parser.parse_args()
    path, weights = options.record, options.record.with_suffix(".safetensors")
    part, test = material(load_questions("train")), material(load_questions("test"))
    record = open_record(path, lambda: {
        "settings": {"steps": STEPS, "longer": STEPS * TIMES, "eye steps": EYE_STEPS, "batch": BATCH, "rate": RATE},
        **surroundings(), **baselines(part, test), "runs": []})
    eyes = {}
    models = load_weights(weights) if weights.exists() else kept()
    wanted = [run for run in missing(runs(), record) if run.arm in (LONGER, DROPPED) or not options.longer]
    for run in wanted[:options.most]:
        if run.seed not in eyes:
            eyes = {run.seed: train_eyes(part, run.seed)}
        found, model = perform(run, part, test, eyes[run.seed])
        record["runs"].append(found)
        record["runs"].sort(key=lambda each: runs().index(run_of(Run, each)))
        if run.seed == 0 and run.arm in KEPT:
            models[run.arm].load_state_dict(model.state_dict())
            save_half(models, weights)
        write_record(path, record)
        print(run, found["seconds"], found["scores"], flush=True)


if __name__ == "__main__":
    main()
