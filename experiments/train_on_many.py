"""What processes of one machine say to one another, hold, and survive: the launches behind the chapter on distributed training.

    OMP_NUM_THREADS=1 python experiments/train_on_many.py                 # all of it, into records/distributed.json
    torchrun --nproc-per-node 4 experiments/train_on_many.py show         # one part, printed as JSON by the first process

Parts: `show` (sums, gradients, memory, stages, on any number of processes), `schedules` (their bubbles), `survive FOLDER` (a
run, and the same run with a worker that is killed), `go_on FOLDER STEPS` (a checkpoint of pieces, read by another number of
processes), `rings` and `steps` (seconds of sums of many sizes, and of steps of many batches).
"""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tutorlib.data.batches import RandomWindows
from tutorlib.data.bible import load_bible
from tutorlib.device import peak_memory
from tutorlib.distributed.data_parallel import average_gradients, own_rows, ring_all_reduce, star_all_reduce
from tutorlib.distributed.launch import launch, process_group
from tutorlib.distributed.pipeline import stage_of
from tutorlib.distributed.running import Divided, clip_norm, divide
from tutorlib.distributed.sharded import bytes_held, load_pieces, process_mesh, save_pieces, shard
from tutorlib.distributed.tensor import split_by_hand, split_layers
from tutorlib.models import GPT, GPTConfig
from tutorlib.records import open_record, rounded, surroundings, write_record
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import token_cross_entropy
from tutorlib.training.loop import update

CONTEXT, ROWS, RATE, SEED = 64, 8, 3e-3, 0
KILLED_AT, EVERY, STEPS = 13, 10, 20  # in step 13 of 20; the last checkpoint is that of step 10
FORWARD, BACKWARD = 0.03, 0.06  # seconds that a stage sleeps


def new_gpt(width: int = 64, layers: int = 4, **options) -> GPT:
    """The same weights in every process."""
    torch.manual_seed(SEED)
    return GPT(GPTConfig(vocabulary=96, max_length=CONTEXT, width=width, num_heads=4, num_layers=layers, **options))


def small_gpt() -> GPT:
    """In float64, where sums in another order differ in the sixteenth digit and not in the seventh."""
    return new_gpt(32, 2).double()


def text_batches(rows: int = ROWS) -> RandomWindows:
    """Rows of 64 characters of the Bible: `batches(step)` is the same in every process."""
    chapters = load_bible()[0]
    text = "\n\n".join(chapters)[:200_000]
    tokens = torch.tensor(CharacterTokenizer("\n\n".join(chapters)).encode(text))
    return RandomWindows(tokens, CONTEXT, batch_size=rows, seed=SEED)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return token_cross_entropy(model(batch[0]), batch[1])


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=RATE, foreach=False)


def everywhere(value: object) -> list:
    """The values of all processes, in their order."""
    found = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def farthest(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference, over the largest magnitude."""
    largest = max(tensor.abs().max().item() for tensor in theirs)
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True)) / largest


# -- show -----------------------------------------------------------------------------------------------------------


def show() -> dict:
    return {"processes": dist.get_world_size(), "sums": sums(), "gradients": gradients(), "memory": memory(),
            "tensor": tensor_parallel(), "stages": stages()}


def sums() -> dict:
    """The bytes that each process sends to sum a vector of a million numbers, and how far from PyTorch's sum it ends."""
    found = {}
    for name, reduce in (("ring", ring_all_reduce), ("star", star_all_reduce)):
        torch.manual_seed(dist.get_rank())
        values = torch.randn(1_000_000)
        wanted = values.clone()
        dist.all_reduce(wanted)
        found[name] = {"sent": everywhere(reduce(values)), "apart": max(everywhere(farthest([values], [wanted])))}
    return found


def gradients() -> dict:
    """The gradient of a batch of 8 in one process; of its parts, averaged by our ring and by DistributedDataParallel."""
    batch = text_batches()(0)
    model = new_gpt()
    loss_of(model, batch).backward()
    whole = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    loss_of(model, own_rows(batch)).backward()
    own = farthest([parameter.grad for parameter in model.parameters()], whole)
    sent = average_gradients(model)
    ours = farthest([parameter.grad for parameter in model.parameters()], whole)
    model.zero_grad()
    loss_of(model, own_rows(batch, rank=0)).backward()  # the mistake: everybody takes the same rows
    average_gradients(model)
    same = farthest([parameter.grad for parameter in model.parameters()], whole)
    model.zero_grad()
    wrapped = DistributedDataParallel(model)
    loss_of(wrapped, own_rows(batch)).backward()
    theirs = farthest([parameter.grad for parameter in model.parameters()], whole)
    return {"parameters": sum(map(torch.numel, whole)), "sent": sent, "own": everywhere(own), "ring": max(everywhere(ours)),
            "ddp": max(everywhere(theirs)), "same rows": max(everywhere(same))}


def memory() -> dict:
    """Bytes that each process holds after two steps, and the peak that a third one adds; DDP makes buffers in the second."""
    found = {}
    for way in ("data", "sharded"):
        parts = divide(new_gpt(128, 6), text_batches(), way)
        optimizer, loss = adam(parts.model), parts.loss(loss_of)
        for number in (0, 1):
            update(parts.model, parts.batches, loss, optimizer, number, clip=clip_norm)
        held = bytes_held(parts.model, optimizer)
        def step(parts=parts, loss=loss, optimizer=optimizer):
            return update(parts.model, parts.batches, loss, optimizer, 2, clip=clip_norm)
        found[way] = {name: everywhere(size) for name, size in held.items()} | {"peak": everywhere(peak_memory(step)[1])}
    model, batches = new_gpt(128, 6), text_batches()
    layer, optimizer = sum(map(torch.numel, model.layers[0].parameters())), adam(model)
    def alone(step):
        return update(model, lambda number: own_rows(batches(number)), loss_of, optimizer, step)
    for number in (0, 1):
        alone(number)  # one process with the same rows
    found["alone"] = {"peak": everywhere(peak_memory(lambda: alone(2))[1])}
    return found | {"parameters": sum(map(torch.numel, model.parameters())), "layer": layer}


def tensor_parallel() -> dict:
    """Loss and gradients with heads and units divided, by hand and by PyTorch, beside one process with all of them."""
    batch, model = text_batches()(0), new_gpt()
    loss = loss_of(model, batch)
    loss.backward()
    whole = {name: parameter.grad for name, parameter in model.named_parameters()}
    byhand, counted = split_by_hand(new_gpt(), dist.get_rank(), dist.get_world_size()), []
    plain = dist.all_reduce
    dist.all_reduce = lambda tensor, *rest: (counted.append(tensor.nbytes), plain(tensor, *rest))[1]
    try:
        own = loss_of(byhand, batch)
        own.backward()
    finally:
        dist.all_reduce = plain
    theirs = split_layers(new_gpt())
    loss_of(theirs, batch).backward()
    theirs = {name: parameter.grad.full_tensor() if hasattr(parameter.grad, "full_tensor") else parameter.grad
              for name, parameter in theirs.named_parameters()}
    mine = {name: parameter.grad for name, parameter in byhand.named_parameters()}
    apart = farthest(list(mine.values()), [piece_of(whole[name], gradient) for name, gradient in mine.items()])
    return {"loss": abs(own.item() - loss.item()), "by hand": max(everywhere(apart)), "sums": len(counted),
            "bytes": sum(counted), "parallelize_module": max(everywhere(farthest(list(theirs.values()), list(whole.values())))),
            "held": everywhere(sum(map(torch.numel, byhand.parameters())))}


def piece_of(whole: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor, along the dimension in which its parameter is smaller."""
    for dim, (size, own) in enumerate(zip(whole.shape, like.shape, strict=True)):
        if size != own:
            return whole.chunk(dist.get_world_size(), dim)[dist.get_rank()]
    return whole


def stages() -> dict:
    """A GPT cut into as many stages as processes: gradients of PyTorch's two schedules beside one process."""
    from torch.distributed.pipelining import PipelineStage  # takes seconds to load, which other parts do not need

    rank, size = dist.get_rank(), dist.get_world_size()
    batch, model = text_batches()(0), new_gpt(tie_output=False)
    loss_of(model, batch).backward()
    whole = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    found = {}
    for name, schedule in pipeline_schedules().items():
        model.zero_grad()
        stage = PipelineStage(stage_of(model, rank, size), rank, size, torch.device("cpu"))
        run = schedule(stage, 4, loss_fn=token_cross_entropy)
        run.step(*([batch[0]] if rank == 0 else []), **(dict(target=batch[1]) if rank == size - 1 else {}))
        mine = {each: parameter.grad for each, parameter in model.named_parameters() if parameter.grad is not None}
        found[name] = max(everywhere(farthest(list(mine.values()), [whole[each] for each in mine])))
        found["parameters"] = everywhere(sum(parameter.numel() for parameter in mine.values()))
    return found


def pipeline_schedules() -> dict[str, type]:
    from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

    return {"GPipe": ScheduleGPipe, "1F1B": Schedule1F1B}


class Sleep(torch.autograd.Function):
    """Work of a known length, which two stages on one core do at the same time."""

    @staticmethod
    def forward(context, x: Tensor) -> Tensor:
        time.sleep(FORWARD)
        return x.clone()

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        time.sleep(BACKWARD)
        return gradient


class Sleeper(nn.Module):
    """A stage that computes nothing and takes its time."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return Sleep.apply(x * self.scale)


def schedules(microbatches: tuple[int, ...] = (1, 2, 4, 8, 16, 32), repeats: int = 5) -> dict:
    """The idle shares of PyTorch's schedules with stages that sleep, by the number of microbatches: of some steps, in order."""
    idle = {name: [sleeping_step(schedule, number, repeats) for number in microbatches]
            for name, schedule in pipeline_schedules().items()}
    return {"microbatches": microbatches, "idle": idle}


def sleeping_step(schedule: type, number: int, repeats: int) -> list[float] | None:
    """PyTorch's 1F1B asks for as many microbatches as stages, at least."""
    from torch.distributed.pipelining import PipelineStage

    rank, size = dist.get_rank(), dist.get_world_size()
    if schedule.__name__ == "Schedule1F1B" and number < size:
        return None
    stage = PipelineStage(Sleeper(), rank, size, torch.device("cpu"))
    run = schedule(stage, number, loss_fn=lambda output, target: (output - target).square().mean())
    walls = []
    for _ in range(repeats + 1):  # the first one also finds out the shapes
        dist.barrier()
        start = time.perf_counter()
        run.step(*([torch.ones(number, 4)] if rank == 0 else []),
                 **(dict(target=torch.zeros(number, 4)) if rank == size - 1 else {}))
        dist.barrier()
        walls.append(time.perf_counter() - start)
    return [1 - number * (FORWARD + BACKWARD) / wall for wall in sorted(walls[1:])]


# -- survive, go on -------------------------------------------------------------------------------------------------


def survive(folder: str) -> dict:
    """Train unbroken; then train again, and let the last process be killed in the middle of a step, once.

    torchrun then starts all processes again, and this function with them: it finds the unbroken run done.
    """
    folder, attempt = Path(folder), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if attempt == 0:
        model, _, losses = sharded_run(folder / "unbroken", STEPS)
        torch.save(whole_state(model), folder / f"unbroken-{dist.get_rank()}.pt")
        (folder / f"losses-{dist.get_rank()}.json").write_text(json.dumps(losses))
    model, started, losses = sharded_run(folder / "broken", STEPS, kill=attempt == 0)
    unbroken = torch.load(folder / f"unbroken-{dist.get_rank()}.pt", weights_only=True)
    differ = sum(int((value != unbroken[name]).sum()) for name, value in whole_state(model).items())
    return {"attempt": attempt, "killed at": KILLED_AT, "started from": started, "steps": STEPS,
            "parameters": sum(value.numel() for value in unbroken.values()), "differ": max(everywhere(differ)),
            "losses": losses, "unbroken": json.loads((folder / f"losses-{dist.get_rank()}.json").read_text())}


def go_on(folder: str, steps: str) -> dict:
    """Go on with the run of `survive` on this number of processes, to that number of steps."""
    model, started, losses = sharded_run(Path(folder) / "broken", int(steps))
    state = whole_state(model)
    if dist.get_rank() == 0:
        torch.save(state, Path(folder) / f"after-{steps}.pt")
    return {"processes": dist.get_world_size(), "started from": started, "steps": int(steps), "losses": losses}


def sharded_run(folder: Path, steps: int, kill: bool = False) -> tuple:
    """Train a sharded GPT, from the last whole checkpoint where there is one."""
    model, batches = shard(small_gpt()), text_batches()     # the same everywhere
    optimizer, last = adam(model), latest(folder)
    started = load_pieces(last, model, optimizer) if last else 0
    losses = []
    for step in range(started, steps):
        loss = loss_of(model, own_rows(batches(step)))      # layer by layer gathered
        if kill and step == KILLED_AT and dist.get_rank() == dist.get_world_size() - 1:
            os.kill(os.getpid(), signal.SIGKILL)            # no last word
        optimizer.zero_grad()
        loss.backward()                                     # sums are scattered
        optimizer.step()                                    # each moves its own pieces
        losses.append(sum(everywhere(loss.item())) / dist.get_world_size())
        if (step + 1) % EVERY == 0:
            save_pieces(folder / f"step-{step + 1:04}", model, optimizer, step + 1)
    return model, started, losses


def latest(folder: Path) -> Path | None:
    """The last whole checkpoint: its list of contents, .metadata, is written last."""
    whole = sorted(path.parent for path in folder.glob("step-*/.metadata"))
    return whole[-1] if whole else None


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().full_tensor() for name, parameter in model.named_parameters()}


def unbroken_alone(steps: int) -> tuple[dict[str, Tensor], list[float]]:
    """The same run in one process, with nothing of this file's machinery but the model and the batches."""
    model, batches = small_gpt(), text_batches()
    optimizer = adam(model)
    losses = [update(model, batches, loss_of, optimizer, step)[0] for step in range(steps)]
    return {name: parameter.detach() for name, parameter in model.named_parameters()}, losses


# -- time -----------------------------------------------------------------------------------------------------------


def time_rings(repeats: int = 60) -> dict:
    sizes = [2**power for power in range(10, 25, 2)]  # bytes
    found = {}
    for name, reduce in (("ours", ring_all_reduce), ("gloo", dist.all_reduce)):
        best = []
        for size in sizes:
            values, walls = torch.ones(size // 4), []
            for _ in range(repeats):
                dist.barrier()
                start = time.perf_counter()
                reduce(values)
                walls.append(time.perf_counter() - start)
                values.fill_(1.0)
            best.append(min(max(pair) for pair in zip(*everywhere(walls), strict=True)))
        found[name] = best
    return {"bytes": sizes, "seconds": found, "processes": dist.get_world_size()}


def time_steps(repeats: int = 21, rows: tuple[int, ...] = (2, 8, 32)) -> dict:
    """A step of the 6-layer GPT in one process and on two, and a sum of its gradients alone: all ways in turn, each turn kept.

    Each process has one thread. Seconds on the clock, and seconds of the processor that the busier process took; the first
    turn, which makes buffers, is left out.
    """
    found: dict[str, list[dict]] = {}
    for number in rows:
        runs = {"alone": alone(number)} | {way: divided(number, way) for way in ("data", "sharded", "tensor")}
        runs |= {"sharded, one unit": sharded_as_one(number)} | sums_of_gradients()
        clocks, works = {name: [] for name in runs}, {name: [] for name in runs}
        for turn in range(repeats):
            for name, step in runs.items():
                dist.barrier()
                start, work = time.perf_counter(), time.process_time()
                if dist.get_rank() == 0 or name != "alone":
                    step(turn)
                works[name].append(time.process_time() - work)
                dist.barrier()
                clocks[name].append(time.perf_counter() - start)
        for name in runs:
            busier = [max(pair) for pair in zip(*everywhere(works[name][1:]), strict=True)]
            found.setdefault(name, []).append({"processor": rounded(busier, 6), "clock": rounded(clocks[name][1:], 6)})
    model = new_gpt(128, 6)
    return {"rows": rows, "seconds": found, "parameters": sum(map(torch.numel, model.parameters()))}


def alone(rows: int):
    model, batches = new_gpt(128, 6), text_batches(rows)
    optimizer = adam(model)
    return lambda step: update(model, batches, loss_of, optimizer, step)


def divided(rows: int, way: str):
    return stepping(divide(new_gpt(128, 6), text_batches(rows), way))


def sharded_as_one(rows: int):
    """Sharded, with all layers gathered at once: the same bytes in one message where `shard` sends one for each layer."""
    model, batches = fully_shard(new_gpt(128, 6), mesh=process_mesh()), text_batches(rows)
    return stepping(Divided(model, model, lambda step: own_rows(batches(step)), {}))


def stepping(parts: Divided):
    optimizer, loss = adam(parts.model), parts.loss(loss_of)
    return lambda step: update(parts.model, parts.batches, loss, optimizer, step, clip=clip_norm)


def sums_of_gradients() -> dict:
    """What data parallelism adds to a step: the sum of a vector as long as all gradients."""
    values = torch.zeros(sum(map(torch.numel, new_gpt(128, 6).parameters())))
    return {"our ring": lambda step: ring_all_reduce(values), "gloo": lambda step: dist.all_reduce(values)}


# -- all of it ------------------------------------------------------------------------------------------------------

PARTS = {"show": show, "schedules": schedules, "survive": survive, "go_on": go_on, "rings": time_rings, "steps": time_steps}


def run_part(processes: int, *arguments: object, restarts: int = 0) -> dict:
    tool = str(Path(__file__).resolve())
    return json.loads(launch(tool, processes, *arguments, restarts=restarts, timeout=1800).splitlines()[-1])


def killed_and_gone_on() -> dict:
    """The run that is killed goes on in one process, then in four."""
    with tempfile.TemporaryDirectory() as folder:
        found = run_part(2, "survive", folder, restarts=1)
        on_one, on_four = run_part(1, "go_on", folder, 30), run_part(4, "go_on", folder, 40)
        wanted, losses = unbroken_alone(40)
        ended = torch.load(Path(folder) / "after-40.pt", weights_only=True)
        apart = farthest(list(ended.values()), [wanted[name] for name in ended])
    return found | {"one": on_one, "four": on_four, "alone": losses, "apart": apart}


RECORDED = {"show": lambda: run_part(4, "show"), "schedules": lambda: run_part(4, "schedules"),
            "survive": killed_and_gone_on, "rings": lambda: run_part(2, "rings"), "steps": lambda: run_part(2, "steps")}


def record(path: Path) -> None:
    """Run the parts that the record lacks; to have one again, take it out."""
    found = open_record(path, lambda: {"kind": "launches of 1, 2 and 4 processes on one machine, gloo", "seed": SEED,
                                       "surroundings": surroundings(), "cores": os.cpu_count(), "seconds": {}})
    for name, part in RECORDED.items():
        if name not in found:
            begun = time.perf_counter()
            found[name] = part()
            found["seconds"][name] = round(time.perf_counter() - begun)
            write_record(path, found)


def main() -> None:
    if len(sys.argv) == 1:
        record(Path(__file__).parent / "records" / "distributed.json")
        return
    torch.set_num_threads(1)
    with process_group():
        found = PARTS[sys.argv[1]](*sys.argv[2:])
        if dist.get_rank() == 0:
            print(json.dumps(found))


if __name__ == "__main__":
    main()
