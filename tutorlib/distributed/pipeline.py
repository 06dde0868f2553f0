"""Each process keeps some layers, a stage; the batch goes through the stages in M microbatches (Huang et al. 2019).

A schedule says in which order a stage does its forward and backward passes. Its bubble is the share of time in which stages
wait: (K - 1) / (M + K - 1) for K stages, where a backward pass takes as long everywhere, and a forward pass too.
"""

from typing import NamedTuple

from torch import Tensor, nn

from tutorlib.arguments import check_counts


class Work(NamedTuple):
    """A pass of a stage: "F" or "B", of which microbatch."""

    direction: str
    microbatch: int


class Done(NamedTuple):
    """A pass with its place in time."""

    stage: int
    direction: str
    microbatch: int
    start: float
    end: float


def bubble(stages: int, microbatches: int) -> float:
    """(K - 1) / (M + K - 1), the share of time in which a stage has nothing to do (Huang et al. 2019, section 2.3)."""
    check_counts(stages=stages, microbatches=microbatches)
    return (stages - 1) / (microbatches + stages - 1)


def gpipe(stages: int, microbatches: int) -> list[list[Work]]:
    """Every stage: all forward passes, then all backward passes, the last microbatch first (Huang et al. 2019)."""
    check_counts(stages=stages, microbatches=microbatches)
    forward = [Work("F", number) for number in range(microbatches)]
    backward = [Work("B", number) for number in reversed(range(microbatches))]
    return [forward + backward for _ in range(stages)]


def one_forward_one_backward(stages: int, microbatches: int) -> list[list[Work]]:
    """1F1B: a stage fills the ones behind it, then goes back as soon as it can (Narayanan et al. 2019).

    It holds the activations of at most K - k microbatches (k counts stages from 0), not of all M.
    """
    check_counts(stages=stages, microbatches=microbatches)
    orders = []
    for stage in range(stages):
        ahead = min(stages - stage - 1, microbatches)
        order = [Work("F", number) for number in range(ahead)]
        for number in range(microbatches):
            if ahead + number < microbatches:
                order.append(Work("F", ahead + number))
            order.append(Work("B", number))
        orders.append(order)
    return orders


def simulate(orders: list[list[Work]], *, forward: float = 1.0, backward: float = 2.0) -> list[Done]:
    """When each pass happens, if a stage does its work in its order and each pass as soon as what it needs is there.

    A forward pass needs that of the stage before, a backward pass that of the stage behind and its own forward pass. Raises
    ValueError for orders in which every stage waits for another.
    """
    ends: dict[tuple[int, str, int], float] = {}
    free, place, done = [0.0] * len(orders), [0] * len(orders), []
    while len(done) < sum(map(len, orders)):
        before = len(done)
        for stage, order in enumerate(orders):
            while place[stage] < len(order) and _needs(stage, order[place[stage]], len(orders)) <= ends.keys():
                work = order[place[stage]]
                start = max([free[stage], *(ends[need] for need in _needs(stage, work, len(orders)))])
                free[stage] = start + (forward if work.direction == "F" else backward)
                ends[stage, *work] = free[stage]
                done.append(Done(stage, *work, start, free[stage]))
                place[stage] += 1
        if len(done) == before:
            raise ValueError(f"orders wait for one another: after {before} passes no stage can go on")
    return done


def _needs(stage: int, work: Work, stages: int) -> set[tuple[int, str, int]]:
    if work.direction == "F":
        return {(stage - 1, *work)} if stage else set()
    behind = {(stage + 1, *work)} if stage + 1 < stages else set()
    return behind | {(stage, "F", work.microbatch)}


def idle_share(done: list[Done]) -> float:
    """The share of all stages' time, from the first start to the last end, in which none of their passes runs."""
    stages = 1 + max(each.stage for each in done)
    wall = max(each.end for each in done) - min(each.start for each in done)
    return 1 - sum(each.end - each.start for each in done) / (stages * wall)


def most_held(orders: list[list[Work]]) -> list[int]:
    """For each stage, of how many microbatches it holds the activations at most."""
    most = []
    for order in orders:
        held, peak = 0, 0
        for work in order:
            held += 1 if work.direction == "F" else -1
            peak = max(peak, held)
        most.append(peak)
    return most


class Stage(nn.Module):
    """Some consecutive layers of a GPT, the first with the embeddings in front, the last with norm and output behind."""

    def __init__(self, gpt: nn.Module, stage: int, stages: int):
        super().__init__()
        cut = [round(place * len(gpt.layers) / stages) for place in (stage, stage + 1)]
        self.embedding, self.position = (gpt.embedding, gpt.position) if stage == 0 else (None, None)
        self.layers = nn.ModuleList(gpt.layers[cut[0]:cut[1]])
        self.norm, self.output = (gpt.norm, gpt.output) if stage == stages - 1 else (None, None)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, T), or states (B, T, D) in a later stage -> states (B, T, D), or logits (B, T, V) in the last."""
        states = x if self.embedding is None else self.position(self.embedding(x))  # (B, T, D)
        for layer in self.layers:
            states = layer(states, causal=True)  # (B, T, D)
        return states if self.output is None else self.output(self.norm(states))


def stage_of(gpt: nn.Module, stage: int, stages: int) -> Stage:
    """Stage number `stage`, from 0, of a GPT that is cut into `stages`; it shares the GPT's parameters.

    Raises ValueError where there are more stages than layers, or where input and output share a matrix, which would then
    lie on two processes, and its two gradients would have to be summed.
    """
    check_counts(stages=stages)
    if not 0 <= stage < stages <= len(gpt.layers):
        raise ValueError(f"stage must be from 0 to {stages - 1}, and stages at most the {len(gpt.layers)} layers, got stage "
                         f"{stage} of {stages}")
    if stages > 1 and gpt.output.weight is gpt.embedding.weight:
        raise ValueError("gpt must have an output matrix of its own (tie_output=False) to be cut into stages")
    return Stage(gpt, stage, stages)
