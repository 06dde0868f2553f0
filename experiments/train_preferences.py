"""A tiny model that adds carelessly, tuned by preferences and by rewards: three seeds each, from the same start.

    OMP_NUM_THREADS=1 python experiments/train_preferences.py experiments/records/preferences.json

The start is learned once, from careless answers, and kept beside the record. The seed of a run draws its data, its order and
its samples. All scores are on 48 questions that no tuning saw, 16 samples each. The record is written after every run; a
second call goes on where it stopped.
"""

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.sums import (
    ANSWER,
    END,
    PROMPT,
    VOCABULARY,
    careless_answers,
    is_exact,
    mentions_sum,
    questions,
    traits,
)
from tutorlib.generation import generate
from tutorlib.minimum import minimize
from tutorlib.models.gpt import GPT, GPTConfig
from tutorlib.records import load_half, missing, open_record, rounded, save_half, surroundings, write_record
from tutorlib.training import warmup_cosine
from tutorlib.training.preferences import (
    answer_log_prob,
    answer_mask,
    dpo_loss,
    dpo_margin,
    group_advantages,
    grpo_loss,
    kl_estimate,
    last_reward,
    reward_loss,
    reward_model,
    token_log_probs,
)

CONFIG = GPTConfig(vocabulary=VOCABULARY, max_length=PROMPT + ANSWER, width=48, num_heads=4, num_layers=2)
SEEDS = (0, 1, 2)
STEPS, RATE, BATCH = 1500, 3e-3, 128  # of the start
TASTE = torch.tensor([2.0, 1.0, -1.0])  # what the readers' utility gives for right, brackets, each further guess
PAIRS, EPOCHS, PAIR_BATCH, BETA = 1024, 6, 64, 0.1
DPO_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
FINE_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
SMALLER = (("dpo", 1e-5), ("fine", 1e-5), ("fine", 3e-5))  # run when 3e-5 had turned out the best of DPO's
ALL_RATES = (3e-5, 1e-4, 3e-4, 1e-3)  # of fine-tuning on both answers of a pair, who won and who lost
REWARD_RATE = 1e-3
ROUNDS, GROUPS, GROUP, PASSES, POLICY_RATE = 80, 8, 8, 2, 1e-3
GENTLE = 2e-4  # a fifth of it
EVERY = 10  # rounds between looks at a policy
REWARDS: dict[str, Callable[[Tensor], Tensor]] = {"exact": is_exact, "mention": mentions_sum}


class Run(NamedTuple):
    """`kind` dpo, fine (plain fine-tuning on the chosen), all (on both answers), reward, form (a reward of the traits that can
    be seen without adding) or policy; of a policy what is rewarded, the price of KL."""

    kind: str
    seed: int
    rate: float = 0.0
    reward: str = ""
    beta: float = 0.0
    baseline: str = ""  # group: advantages of the group; none: the reward itself


def runs() -> list[Run]:
    """Seed by seed, so that what is there at any time is whole comparisons; what was added later stands at the end."""
    planned = []
    for seed in SEEDS:
        planned += [Run("reward", seed, REWARD_RATE)]
        planned += [Run("dpo", seed, rate) for rate in DPO_RATES] + [Run("fine", seed, rate) for rate in FINE_RATES]
        for reward, beta, baseline in (("exact", 0.02, "group"), ("mention", 0.02, "group"), ("exact", 0.02, "none"),
                                       ("mention", 0.3, "group"), ("exact", 0.3, "group")):
            planned += [Run("policy", seed, POLICY_RATE, reward, beta, baseline)]
    planned += [Run("policy", seed, GENTLE, "exact", 0.02, "group") for seed in SEEDS]
    planned += [Run(kind, seed, rate) for seed in SEEDS for kind, rate in SMALLER]
    planned += [Run("all", seed, rate) for seed in SEEDS for rate in ALL_RATES] + [Run("form", seed) for seed in SEEDS]
    return planned + [Run("policy", seed, GENTLE, "exact", 0.02, "none") for seed in SEEDS]


# -- the start, what it writes and how that is judged --------------------------------------------------------------------


def pretrained(steps: int = STEPS) -> tuple[GPT, list[float]]:
    """The model that has learned from careless answers to all questions, and its losses."""
    torch.manual_seed(0)
    model, dice, losses = GPT(CONFIG), torch.Generator().manual_seed(0), []
    everything = torch.cat(questions())  # (144, 4)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(50, STEPS))
    for _ in range(steps):
        tokens = careless_answers(everything[torch.randint(len(everything), (BATCH,), generator=dice)], dice)
        losses.append(step(model, optimizer, fine_loss(model, tokens)))
        scheduler.step()
    return model.eval(), losses


def start(folder: Path) -> GPT:
    return load_half(GPT(CONFIG), folder / "preferences.safetensors")


def step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def fine_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Plain fine-tuning: nats a token of the answers."""
    mask = answer_mask(tokens, PROMPT, END)
    return -(token_log_probs(model, tokens) * mask).sum() / mask.sum()


def sample(model: nn.Module, prompts: Tensor, each: int, dice: torch.Generator) -> Tensor:
    """`each` answers to every prompt: (P, 4) -> (P each, 17)."""
    tokens = generate(model, prompts.repeat_interleave(each, 0), ANSWER, generator=dice, eos=END)
    return F.pad(tokens, (0, PROMPT + ANSWER - tokens.size(1)), value=END)


def most_probable(model: nn.Module, prompts: Tensor) -> Tensor:
    """The greedy answer to every prompt: (P, 4) -> (P, 17)."""
    tokens = generate(model, prompts, ANSWER, temperature=0, eos=END)
    return F.pad(tokens, (0, PROMPT + ANSWER - tokens.size(1)), value=END)


@torch.no_grad()
def judged(model: nn.Module, base: nn.Module, seed: int = 0) -> dict[str, float]:
    """On held-out questions: exact, in brackets somewhere, first guess right, brackets, tokens, KL to the start in nats.

    All of drawn answers, but for "greedy": the share of most probable answers that are exact.
    """
    tokens = sample(model, questions()[1], 16, torch.Generator().manual_seed(1000 + seed))
    mask, (right, brackets, _) = answer_mask(tokens, PROMPT, END), traits(tokens).mean(0).tolist()
    kl = (kl_estimate(token_log_probs(model, tokens), token_log_probs(base, tokens)) * mask).sum(1).mean().item()
    return {"exact": is_exact(tokens).float().mean().item(), "mention": mentions_sum(tokens).float().mean().item(),
            "right": right, "brackets": brackets, "length": mask.sum(1).float().mean().item(), "kl": kl,
            "greedy": is_exact(most_probable(model, questions()[1])).float().mean().item()}


def win_rate(model: nn.Module, base: nn.Module, seed: int) -> float:
    """How often the judge's rule puts an answer above the start's to the same question; a tie is half."""
    dice = torch.Generator().manual_seed(2000 + seed)
    ours, theirs = (is_exact(sample(each, questions()[1], 16, dice)).float() for each in (model, base))
    return ((ours - theirs).sign() / 2 + 0.5).mean().item()


# -- preferences ---------------------------------------------------------------------------------------------------------


class Pairs(NamedTuple):
    """Two answers to each question, (N, 17) each, the preferred one first."""

    chosen: Tensor
    rejected: Tensor


def pairs(base: nn.Module, prompts: Tensor, number: int, seed: int) -> Pairs:
    """Two samples a question; a reader prefers the first with the probability sigmoid(u_1 - u_2), u = TASTE . traits."""
    dice = torch.Generator().manual_seed(seed)
    asked = prompts[torch.randint(len(prompts), (number,), generator=dice)]
    one, two = (sample(base, asked, 1, dice) for _ in range(2))
    gap = (traits(one) - traits(two)) @ TASTE  # (N,)
    first = (torch.rand(number, generator=dice) < gap.sigmoid())[:, None]
    return Pairs(torch.where(first, one, two), torch.where(first, two, one))


def margins(model: nn.Module, base: nn.Module, some: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Implicit rewards' difference (N,), and how much more probable chosen and rejected have become, in nats (N,)."""
    with torch.no_grad():
        both = [(answer_log_prob(each, tokens, answer_mask(tokens, PROMPT, END))) for each in (model, base) for tokens in some]
    return dpo_margin(both[0], both[1], both[2], both[3], BETA), both[0] - both[2], both[1] - both[3]


def epochs(number: int, dice: torch.Generator, count: int = EPOCHS) -> list[Tensor]:
    return [rows for _ in range(count) for rows in torch.randperm(number, generator=dice).split(PAIR_BATCH)]


def tune(run: Run, base: nn.Module, seen: Pairs, steps: int | None = None) -> tuple[nn.Module, list[float]]:
    """DPO on the pairs, or plain fine-tuning on the chosen answers or on all."""
    model = copy.deepcopy(base)
    optimizer = torch.optim.AdamW(model.parameters(), run.rate, weight_decay=0.0)
    masks = [answer_mask(tokens, PROMPT, END) for tokens in seen]
    with torch.no_grad():
        fixed = [answer_log_prob(base, tokens, mask) for tokens, mask in zip(seen, masks, strict=True)]
    losses = []
    for rows in epochs(len(seen.chosen), torch.Generator().manual_seed(run.seed))[:steps]:
        if run.kind == "fine":
            loss = fine_loss(model, seen.chosen[rows])
        elif run.kind == "all":
            loss = fine_loss(model, torch.cat([part[rows] for part in seen]))
        else:
            tokens, mask = (torch.cat([part[rows] for part in each]) for each in (seen, masks))  # one pass for both
            loss = dpo_loss(*answer_log_prob(model, tokens, mask).chunk(2), *(each[rows] for each in fixed), BETA)
        losses.append(step(model, optimizer, loss))
    return model, losses


def tuned(run: Run, base: nn.Module) -> dict:
    train, test = questions()
    seen, unseen = pairs(base, train, PAIRS, run.seed), pairs(base, test, 512, run.seed + 100)
    model, losses = tune(run, base, seen)
    found = {"losses": losses[::4], "win": win_rate(model, base, run.seed)} | judged(model, base, run.seed)
    for name, some in (("seen", seen), ("unseen", unseen)):
        margin, up, down = margins(model, base, some)
        found |= {f"{name} won": (margin > 0).float().mean().item(), f"{name} margin": margin.mean().item(),
                  f"{name} chosen": up.mean().item(), f"{name} rejected": down.mean().item()}
    return found


def fit_reward(run: Run, base: nn.Module, seen: Pairs) -> nn.Module:
    """A network with one output, two epochs on the pairs."""
    model = reward_model(base)
    optimizer = torch.optim.AdamW(model.parameters(), run.rate, weight_decay=0.0)
    for rows in epochs(len(seen.chosen), torch.Generator().manual_seed(run.seed), 2):
        tokens = torch.cat([part[rows] for part in seen])
        step(model, optimizer, reward_loss(*last_reward(model, tokens, answer_mask(tokens, PROMPT, END)).chunk(2)))
    return model


def agreement(won: Tensor, lost: Tensor) -> float:
    """How often a score (N,) puts the answer first that the reader preferred; a tie is half."""
    return ((won > lost).float() + (won == lost) / 2).mean().item()


def fit_traits(seen: Pairs) -> Tensor:
    """Weights (2,) of brackets and of each further guess, by the likelihood of the choices; the sum is left out."""
    gap = (traits(seen.chosen) - traits(seen.rejected))[:, 1:]  # (N, 2)
    weights = torch.zeros(2, requires_grad=True)
    minimize(lambda: reward_loss(gap @ weights, torch.zeros(len(gap))), [weights])
    return weights.detach()


def without_the_sum(run: Run, base: nn.Module) -> dict:
    """On unseen questions' pairs: accuracy of a reward that sees brackets and length, and not whether the sum is right."""
    train, test = questions()
    weights = fit_traits(pairs(base, train, PAIRS, run.seed))
    return {"accuracy": agreement(*(traits(tokens)[:, 1:] @ weights for tokens in pairs(base, test, 512, run.seed + 100))),
            "weights": weights.tolist()}


@torch.no_grad()
def rewarded(run: Run, base: nn.Module) -> dict:
    """On unseen questions' pairs: accuracy of the reward model, of the readers' own utility, and their correlation."""
    train, test = questions()
    with torch.enable_grad():
        model = fit_reward(run, base, pairs(base, train, PAIRS, run.seed))
    some = pairs(base, test, 512, run.seed + 100)
    got, true = ([score(tokens) for tokens in some] for score in (
        lambda tokens: last_reward(model, tokens, answer_mask(tokens, PROMPT, END)), lambda tokens: traits(tokens) @ TASTE))
    return {"accuracy": agreement(*got), "ceiling": agreement(*true),
            "correlation": torch.corrcoef(torch.stack([torch.cat(got), torch.cat(true)]))[0, 1].item()}


# -- rewards ---------------------------------------------------------------------------------------------------------------


def round_of(model: nn.Module, base: nn.Module, optimizer: torch.optim.Optimizer, prompts: Tensor, run: Run,
             dice: torch.Generator) -> float:
    """Sample groups of answers, reward them, and take a few steps; the mean reward."""
    asked = prompts[torch.randint(len(prompts), (GROUPS,), generator=dice)]
    tokens = sample(model, asked, GROUP, dice)  # (P G, 17)
    mask, rewards = answer_mask(tokens, PROMPT, END), REWARDS[run.reward](tokens).float().view(GROUPS, GROUP)
    advantages = (group_advantages(rewards) if run.baseline == "group" else rewards).flatten()  # (P G,)
    with torch.no_grad():
        sampled, reference = token_log_probs(model, tokens), token_log_probs(base, tokens)  # (P G, 17)
    for _ in range(PASSES):
        step(model, optimizer, grpo_loss(token_log_probs(model, tokens), sampled, reference, advantages, mask, beta=run.beta))
    return rewards.mean().item()


def improved(run: Run, base: nn.Module, rounds: int = ROUNDS) -> tuple[nn.Module, dict]:
    """The policy after so many rounds; the reward of each, and how it was judged after every tenth."""
    model, dice = copy.deepcopy(base), torch.Generator().manual_seed(run.seed)
    optimizer = torch.optim.AdamW(model.parameters(), run.rate, weight_decay=0.0)
    course, looks = [], [{"round": 0} | judged(model, base, run.seed)]
    for number in range(1, rounds + 1):
        course.append(round_of(model, base, optimizer, questions()[0], run, dice))
        if number % EVERY == 0:
            looks.append({"round": number} | judged(model, base, run.seed))
    return model, {"rewards": course, "looks": looks}


def perform(run: Run, base: nn.Module) -> dict:
    if run.kind in ("reward", "form"):
        return (rewarded if run.kind == "reward" else without_the_sum)(run, base)
    return improved(run, base)[1] if run.kind == "policy" else tuned(run, base)


def begin(path: Path) -> dict:
    """Learn the start, keep it, and say how it is judged."""
    began = time.process_time()
    model, losses = pretrained()
    save_half(model, path.with_suffix(".safetensors"))
    seconds = time.process_time() - began
    return {"settings": {"steps": STEPS, "pairs": PAIRS, "epochs": EPOCHS, "beta": BETA, "rounds": ROUNDS,
                         "groups": [GROUPS, GROUP], "passes": PASSES}, **surroundings(),
            "start": rounded({"losses": losses[::50], "seconds": seconds} | looked_at(start(path.parent))), "runs": []}


def looked_at(base: nn.Module) -> dict:
    """How the start is judged: three draws of answers, and the most probable ones."""
    right = traits(most_probable(base, questions()[1])).mean(0)[0].item()
    return {"sampled": [judged(base, base, seed) for seed in SEEDS], "greedy right": right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    record = open_record(path, lambda: begin(path))
    write_record(path, record)
    print(record["start"], flush=True)
    base = start(path.parent)
    for run in missing(runs(), record):
        began = time.process_time()
        found = rounded(perform(run, base))
        record["runs"].append(run._asdict() | found | {"seconds": round(time.process_time() - began, 1)})
        write_record(path, record)
        print(run, {name: value for name, value in found.items() if isinstance(value, float)} or found["looks"][-1], flush=True)


if __name__ == "__main__":
    main()
