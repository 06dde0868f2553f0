"""What the tests ask of processes that torchrun starts; the first one prints the answers as JSON."""

import json
import os
import sys
import time

import torch
import torch.distributed as dist

from tutorlib.command_line import main
from tutorlib.distributed.data_parallel import average_gradients, exchange, own_rows, ring_all_reduce, star_all_reduce
from tutorlib.distributed.launch import process_group
from tutorlib.distributed.running import clip_norm, divide
from tutorlib.distributed.sharded import bytes_held, load_pieces, save_pieces, shard
from tutorlib.distributed.tensor import split_by_hand, split_layers
from tutorlib.models import GPT, GPTConfig
from tutorlib.training import token_cross_entropy
from tutorlib.training.loop import update

CONFIG = dict(vocabulary=20, max_length=8, width=16, num_heads=4, num_layers=2)


def new_gpt(**options) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(**CONFIG | options)).double()


def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(20, (4, 9), generator=torch.Generator().manual_seed(step))  # (B, T + 1)
    return tokens[:, :-1], tokens[:, 1:]


def loss_of(model, batch):
    return token_cross_entropy(model(batch[0]), batch[1])


def adam(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)


def trained(model, optimizer, batches, loss, steps, **parts):
    return [update(model, batches, loss, optimizer, step, clip_norm=0.5, **parts) for step in steps]


def everywhere(value):
    found = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def full(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def farthest(model, whole) -> float:
    """The largest difference of weights, over all processes."""
    return max(everywhere(max((full(value.detach()) - whole[name]).abs().max().item()
                              for name, value in model.named_parameters())))


def sums() -> dict:
    """Of vectors of every awkward length: the sum's distance from the definition, and the bytes."""
    rank, size = dist.get_rank(), dist.get_world_size()
    found = {}
    for length in (0, 1, size - 1, size, 4 * size, 4 * size + 1, 1000):
        vectors = [torch.randn(length, generator=torch.Generator().manual_seed(other)) for other in range(size)]
        for name, reduce in (("ring", ring_all_reduce), ("star", star_all_reduce)):
            values = vectors[rank].clone()
            sent = reduce(values)
            apart = (values - sum(vectors)).abs().max().item() if length else 0.0
            found[f"{name} {length}"] = [max(everywhere(apart)), everywhere(sent)]
    return found


def exchanged() -> list:
    rank, size = dist.get_rank(), dist.get_world_size()
    incoming = torch.empty(1)
    exchange(torch.tensor([float(rank)]), (rank + 1) % size, incoming, (rank - 1) % size)
    return everywhere(incoming.item())


def averaged() -> dict:
    """Parts of a batch, averaged, beside the batch; and a parameter that no gradient reaches."""
    model, batch = new_gpt(), batches(0)
    loss_of(model, batch).backward()
    whole = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.unused = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    loss_of(model, own_rows(batch)).backward()
    sent = average_gradients(model)
    apart = max((parameter.grad - whole[name]).abs().max().item() for name, parameter in model.named_parameters()
                if name != "unused")
    return {"apart": max(everywhere(apart)), "sent": sent, "unused": model.unused.grad is None,
            "numbers": sum(map(torch.numel, whole.values()))}


def ways() -> dict:
    """Five steps in each way beside five in one process: losses, norms before clipping, weights; bytes held."""
    model = new_gpt()
    alone = trained(model, adam(model), batches, loss_of, range(5))
    whole = {name: value.detach() for name, value in model.named_parameters()}
    found = {}
    for way in ("data", "sharded", "tensor"):
        parts = divide(new_gpt(), batches, way)
        optimizer = adam(parts.model)
        steps = trained(parts.model, optimizer, parts.batches, parts.loss(loss_of), range(5), clip=clip_norm)
        found[way] = {"numbers": max(abs(a - b) for ours, theirs in zip(steps, alone) for a, b in zip(ours, theirs)),
                      "weights": farthest(parts.model, whole), "held": everywhere(bytes_held(parts.model, optimizer))}
    found["clipped"] = min(norm for _, norm in alone)
    found["parameters"] = sum(map(torch.numel, whole.values()))
    return found


def by_hand() -> dict:
    """Columns and rows by hand, in one step of plain SGD, beside one process and beside `parallelize_module`."""
    model, found = new_gpt(), {}
    torch.optim.SGD(model.parameters(), lr=1.0).step(lambda: loss_of(model, batches(0)).backward())
    whole = {name: value.detach() for name, value in model.named_parameters()}
    ours = split_by_hand(new_gpt(), dist.get_rank(), dist.get_world_size())
    for name, made in (("by hand", ours), ("split", split_layers(new_gpt()))):
        torch.optim.SGD(made.parameters(), lr=1.0, foreach=False).step(lambda made=made: loss_of(made, batches(0)).backward())
        own = {key: full(value.detach()) for key, value in made.named_parameters()}
        found[name] = max(everywhere(max((value - cut(whole[key], value)).abs().max().item() for key, value in own.items())))
    return found


def cut(whole, like):
    for dim, (size, own) in enumerate(zip(whole.shape, like.shape)):
        if size != own:
            return whole.chunk(dist.get_world_size(), dim)[dist.get_rank()]
    return whole


def dropped() -> dict:
    """Dropout belongs to the step and the process, not to what was drawn before."""
    parts = divide(new_gpt(dropout=0.5), batches, "data", seed=3)
    def loss(step):
        own = parts.batches(step)
        return loss_of(parts.model, own).item()
    first = [loss(0), loss(1)]
    torch.manual_seed(99)
    again = [loss(0), loss(1)] == first
    return {"again": again, "of processes": len(set(everywhere(torch.rand(1).item()))) == dist.get_world_size()}


def pieces(folder: str, before: str, steps: str) -> dict:
    """Go on from the pieces of that many steps, whoever wrote them, to so many."""
    model = shard(new_gpt())
    optimizer = adam(model)
    done = load_pieces(f"{folder}/{before}", model, optimizer) if before != "0" else 0
    trained(model, optimizer, lambda step: own_rows(batches(step)), loss_of, range(done, int(steps)), clip=clip_norm)
    save_pieces(f"{folder}/{steps}", model, optimizer, int(steps))
    alone = new_gpt()
    trained(alone, adam(alone), batches, loss_of, range(int(steps)))
    return {"done": done, "apart": farthest(model, dict(alone.named_parameters()))}


def refusals() -> dict:
    """What each wrong argument is told, in a group of more than one process."""
    size, found = dist.get_world_size(), {}
    gated = new_gpt()
    gated.layers[0].feed_forward = torch.nn.Linear(16, 16)
    wrong = {"rows": lambda: own_rows((torch.zeros(2 * size + 1, 3),)),
             "heads": lambda: split_layers(new_gpt(num_heads=1)), "hidden": lambda: split_layers(new_gpt(hidden=2 * size + 1)),
             "by hand": lambda: split_by_hand(new_gpt(num_heads=1), 0, size), "layer": lambda: split_layers(gated),
             "batch": lambda: divide(new_gpt(), lambda step: (torch.zeros(size + 1, 8),) * 2, "data")}
    for name, call in wrong.items():
        try:
            call()
        except ValueError as error:
            found[name] = str(error)
    return found


def command(folder: str) -> dict:
    """`python -m tutorlib train` in each way, broken off after 6 of 9 steps, and gone on with in another way."""
    common = ["train", "--data", f"{folder}/text.txt", *"--width 16 --heads 2 --layers 1 --context 8 --batch 4".split(),
              *"--no-progress --rate 0.02 --checkpoint-every 3".split()]
    found = {}
    for way, then in (("data", "sharded"), ("sharded", "tensor"), ("tensor", "data")):
        path = f"{folder}/{way}.pt"
        codes = [main([*common, "--parallel", each, "--steps", steps, "--schedule", "constant", "--checkpoint", path])
                 for each, steps in ((way, "6"), (then, "9"))]
        found[way] = everywhere(codes)
    found["batch"] = main([*common[:-4], "--batch", "5", "--parallel", "data", "--steps", "1"])
    found["without"] = main([*common, "--steps", "1"])
    return found


def break_off(how: str) -> dict:
    if how == "raise" and dist.get_rank() == 1:
        raise ValueError("process 1 has had enough")
    if how == "hang":
        time.sleep(600)
    return {"attempt": int(os.environ["TORCHELASTIC_RESTART_COUNT"])}


def everything(folder: str) -> dict:
    return {"world": everywhere(dist.get_rank()), "sums": sums(), "exchanged": exchanged(), "averaged": averaged(),
            "ways": ways(), "by hand": by_hand(), "dropped": dropped(), "refusals": refusals(),
            "pieces": pieces(folder, "0", "3"), "command": command(folder)}


def some(folder: str) -> dict:
    """On another number of processes, from the pieces that are there."""
    return {"world": everywhere(dist.get_rank()), "sums": sums(), "exchanged": exchanged(),
            "pieces": pieces(folder, "6", "9")}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with process_group():
        answers = globals()[sys.argv[1]](*sys.argv[2:])
        if dist.get_rank() == 0:
            print(f"\n{json.dumps(answers)}")
