"""Faults planted in a small language model, one at a time: which stop it, which of five questions find the others, their cost.

    OMP_NUM_THREADS=1 python experiments/plant_faults.py experiments/records/faults.json

The program is that of the chapter Repairing PyTorch programs, from `Attention` to `evaluate`; a fault is one edit of its syntax
tree, made by the rules of `Edits`. Every edit is made and asked. The rules and the questions were written before the first
count. The record is written after every fault; a second call goes on.
"""

import argparse
import ast
import copy
import math
import time
import warnings
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.bible import load_bible
from tutorlib.models import GPT, GPTConfig
from tutorlib.records import open_record, rounded, surroundings, write_record
from tutorlib.text.characters import CharacterTokenizer

PARTS = "Attention", "Block", "Program", "loss_of", "train_step", "evaluate"
SMALL = {"vocabulary": 11, "length": 9, "width": 12, "num_heads": 3, "num_layers": 2}  # all sizes differ
USUAL = {"vocabulary": 46, "length": 32, "width": 32, "num_heads": 4, "num_layers": 1}  # as one would: batches of 32, too
ALIKE = {"vocabulary": 16, "length": 16, "width": 16, "num_heads": 4, "num_layers": 2}  # heads of width 4, batches of 16
NAMES = {"blocks.": "layers.", "feed_norm": "feed_forward_norm", "expand": "feed_forward.expand",
         "contract": "feed_forward.contract", "position": "position.table", "head.": "output."}
STEPS, RATE, SEEDS = 120, 3e-3, 5


class Attention(nn.Module):
    def __init__(self, width, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def cut(self, z):
        return z.view(z.size(0), z.size(1), self.num_heads, -1).transpose(1, 2)

    def forward(self, x):
        query, key = self.cut(self.query(x)), self.cut(self.key(x))
        value = self.cut(self.value(x))  # (B, H, T, K)
        scores = query @ key.transpose(-2, -1) / math.sqrt(key.size(-1))
        future = torch.ones(x.size(1), x.size(1), dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, float("-inf"))  # (B, H, T, T)
        joined = (scores.softmax(-1) @ value).transpose(1, 2)  # (B, T, H, K)
        return self.output(joined.reshape(x.shape))


class Block(nn.Module):
    def __init__(self, width, num_heads):
        super().__init__()
        self.attention = Attention(width, num_heads)
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        hidden = F.gelu(self.expand(self.feed_norm(x)))  # (B, T, F)
        return x + self.dropout(self.contract(hidden))  # (B, T, D)


class Program(nn.Module):
    def __init__(self, vocabulary, length, width, num_heads, num_layers):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(
            Block(width, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens):
        x = self.embedding(tokens) + self.position[:tokens.size(1)]  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))  # (B, T, V)


def loss_of(model, tokens):
    logits = model(tokens[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def train_step(model, optimizer, tokens):
    model.train()
    optimizer.zero_grad()
    loss = loss_of(model, tokens)
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def evaluate(model, tokens):
    model.eval()
    return loss_of(model, tokens).item()


def randomize(model):
    """Every parameter at random, in double precision, dropout off: no zero hides what it does."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


def fits(model, draw, width):
    for B, T in ((5, 7), (1, 7), (5, 1)):
        x = draw(B, T)
        given = x.clone()
        if model(x).shape != (B, T, width) or not x.equal(given):
            return False
    return True


def who_moves_whom(model, x, other):
    """(B, T, B, T): does an edit of the input (b, t) move the output (b', t')?"""
    before, moved = model(x), []
    for b, t in product(range(x.size(0)), range(x.size(1))):
        edited = x.clone()
        edited[b, t] = other[b, t]
        moved.append((model(edited) - before).abs().amax(-1) > 1e-9)
    return torch.stack(moved).unflatten(0, x.shape[:2])


def may_move(B, T, causal):
    pairs = torch.ones(T, T).triu() if causal else torch.ones(T, T)  # from t to t'
    return (torch.eye(B)[:, None, :, None] * pairs[None, :, None, :]).bool()


def hears_the_past_alone(model, vocabulary, B=3, T=5):
    x = torch.randint(vocabulary, (B, T))
    moved = who_moves_whom(model, x, (x + 1) % vocabulary)
    row = model(torch.full((1, T), 7))[0]  # one token T times: only places differ
    steps = (row[1:] - row[:-1]).abs().amax(-1)
    return moved.equal(may_move(B, T, causal=True)) and bool(steps.min() > 1e-9)


def unreached(model, x):
    """The names of the parameters that no gradient reaches."""
    model.zero_grad()
    output = model(x)
    (output * torch.randn_like(output)).sum().backward()  # no two outputs cancel
    return {name for name, p in model.named_parameters()
            if p.grad is None or p.grad.abs().max() < 1e-9}


def parameter_count(vocabulary, length, width, num_heads, num_layers):
    attention, norms = 4 * (width + 1) * width, 4 * width
    feed_forward = (width + 1) * 4 * width + (4 * width + 1) * width
    tables = (2 * vocabulary + length) * width  # embedding, head, positions
    return tables + num_layers * (attention + norms + feed_forward) + 2 * width


def learns_one_batch(model, train_step, evaluate, vocabulary, T=9):
    tokens = torch.randint(vocabulary, (4, T + 1))
    tokens[:, 0] = torch.arange(4)  # else two rows could begin alike
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    start = evaluate(model, tokens)
    for _ in range(80):
        train_step(model, optimizer, tokens)
    return abs(start - math.log(vocabulary)) < 0.5 and evaluate(model, tokens) < 0.1


def the_library(state, vocabulary, length, width, num_heads, num_layers):
    """tutorlib's GPT with the program's weights; an error where a name or a shape does not fit."""
    library = GPT(GPTConfig(vocabulary, length, width, num_heads, num_layers, activation="gelu", tie_output=False))
    for ours, theirs in NAMES.items():
        state = {name.replace(ours, theirs): value for name, value in state.items()}
    library.load_state_dict(state)
    return library.double().eval()


def equals_the_library(model, tokens, sizes):
    library = the_library(model.state_dict(), **sizes)
    return bool((library(tokens) - model(tokens)).abs().max() < 1e-9)


def questions(program: dict, sizes: dict = SMALL) -> dict:
    """The five, for a program (its parts by name) and sizes: each a function that answers True where nothing is wrong."""
    V, silent = sizes["vocabulary"], {f"blocks.{n}.attention.key.bias" for n in range(sizes["num_layers"])}

    def draw(*shape):
        return torch.randint(V, shape)

    def new():
        return program["Program"](**sizes)

    def counted():
        model = randomize(new())
        count = sum(p.numel() for p in model.parameters())
        return count == parameter_count(**sizes) and unreached(model, draw(5, sizes["length"])) == silent

    return {"shapes": lambda: fits(randomize(new()), draw, V),
            "edits": lambda: hears_the_past_alone(randomize(new()), V),
            "parameters": counted,
            "one batch": lambda: learns_one_batch(new(), program["train_step"], program["evaluate"], V),
            "reference": lambda: equals_the_library(randomize(new()), draw(5, sizes["length"]), sizes)}


def careless(program: dict) -> dict:
    """The same questions, each without one of its precautions."""
    def draw(*shape):
        return torch.randint(SMALL["vocabulary"], shape)

    def new(sizes=SMALL):
        return program["Program"](**sizes)

    def one_size():
        x = torch.randint(16, (16, 16))
        return new(ALIKE)(x).shape == (16, 16, 16)

    def map_of(model):
        x = draw(3, 5)
        return who_moves_whom(model, x, (x + 1) % SMALL["vocabulary"])

    def reached(model):
        output = model(draw(5, SMALL["length"]))
        output.sum().backward()
        return all(p.grad is not None and p.grad.any() for p in model.parameters())

    return {"sizes alike": one_size,
            "leaks alone": lambda: not (map_of(randomize(new())) & ~may_move(3, 5, causal=True)).any(),
            "new weights": lambda: hears_the_past_alone(new().double().eval(), SMALL["vocabulary"]),
            "a plain sum": lambda: reached(randomize(new()))}


def ask(question, seed: int = 0) -> bool:
    """True where the question finds nothing; an error is a finding."""
    torch.manual_seed(seed)
    try:
        return bool(question())
    except Exception:
        return False


class Edits(ast.NodeVisitor):
    """All edits of a tree by the rules, each as (rule, line, what changes, what is put in its place)."""

    def __init__(self, tree: ast.Module):
        self.found, self.locals, self.attributes = [], [], []
        self.visit(tree)

    def add(self, rule, node, *others):
        self.found += [(rule, node, other) for other in others]

    def visit_ClassDef(self, node):
        writes = [n for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
        methods = [n.name for n in node.body if isinstance(n, ast.FunctionDef)]
        self.attributes = sorted({n.attr for n in writes} - set(methods))
        self.generic_visit(node)
        self.attributes = []

    def visit_FunctionDef(self, node):
        stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self.locals = sorted(stored | {a.arg for a in node.args.args} - {"self"})
        self.statements(node.body)
        for statement in node.body:
            self.visit(statement)

    def visit_For(self, node):
        self.statements(node.body)
        self.generic_visit(node)

    def statements(self, body):
        for statement in body:
            if not isinstance(statement, ast.Return):
                self.add("a line left out", statement, ast.Pass())
        for one, two in pairwise(body):
            if not isinstance(two, ast.Return):
                self.add("two lines exchanged", one, (one, two))

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.add("another constant", node, ast.Constant(not node.value))
        elif isinstance(node.value, int):
            self.add("another constant", node, ast.Constant(node.value + 1), ast.Constant(node.value - 1))
        elif isinstance(node.value, float):
            self.add("another constant", node, ast.Constant(node.value * 5), ast.Constant(node.value / 5))

    def visit_UnaryOp(self, node):
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            value = -node.operand.value
            self.add("another constant", node, ast.Constant(value + 1), ast.Constant(value - 1))

    def visit_BinOp(self, node):
        other = {ast.Add: ast.Sub, ast.Mult: ast.Div, ast.Div: ast.Mult}.get(type(node.op))
        if other:
            self.add("another operation", node, ast.BinOp(node.left, other(), node.right))
        self.add("one side left out", node, node.left, node.right)
        self.generic_visit(node)

    def visit_Call(self, node):
        if isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name):
            self.add("a call left out", node, node.func.value)  # z.f(...) -> z
        elif isinstance(node.func, ast.Attribute) and node.func.value.id in self.locals:
            self.add("a call left out", node, node.func.value)
        elif len(node.args) == 1:
            self.add("a call left out", node, node.args[0])  # f(z) -> z
        for i in range(len(node.args) - 1):
            args = [*node.args]
            args[i], args[i + 1] = args[i + 1], args[i]
            self.add("two arguments exchanged", node, ast.Call(node.func, args, node.keywords))
        self.generic_visit(node)

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Load) and node.id in self.locals:
            others = [name for name in self.locals if name != node.id]
            self.add("another name", node, *(ast.Name(name, ast.Load()) for name in others))

    def visit_Attribute(self, node):
        if isinstance(node.ctx, ast.Load) and node.attr in self.attributes:
            others = [name for name in self.attributes if name != node.attr]
            self.add("another name", node, *(ast.Attribute(node.value, name, ast.Load()) for name in others))
        self.generic_visit(node)


class Put(ast.NodeTransformer):
    """One node replaced, or two statements exchanged."""

    def __init__(self, node, other):
        self.node, self.other = node, other

    def visit(self, node):
        if isinstance(self.other, tuple):
            body = getattr(node, "body", None)
            if isinstance(body, list) and self.other[0] in body:
                i = body.index(self.other[0])
                body[i], body[i + 1] = body[i + 1], body[i]
                return node
        elif node is self.node:
            return self.other
        return self.generic_visit(node)


def sources() -> str:
    """The program's text: its parts as this file has them."""
    text = Path(__file__).read_text()
    parts = [part for part in ast.parse(text).body if getattr(part, "name", None) in PARTS]
    return ast.unparse(ast.Module(parts, []))


def faults(text: str) -> Iterator[dict]:
    """Every edit that the rules allow, each text once: {"rule", "was", "is", "text"}; `was` and `is` are the changed lines."""
    seen, number = {text}, 0
    while True:
        tree = ast.parse(text)
        found = Edits(tree).found
        if number == len(found):
            return
        rule, node, other = found[number]
        number += 1
        put = Put(node, copy.deepcopy(other) if isinstance(other, ast.AST) else other)
        edited = ast.unparse(ast.fix_missing_locations(put.visit(tree)))
        if edited not in seen:
            seen.add(edited)
            was, now = text.splitlines(), edited.splitlines()
            place = next(i for i, pair in enumerate(zip(was, now, strict=False)) if pair[0] != pair[1])
            yield {"rule": rule, "was": was[place].strip(), "is": now[place].strip(), "text": edited}


def run(text: str) -> dict:
    """The program of a text, as names."""
    names = {"nn": nn, "F": F, "torch": torch, "math": math}
    exec(compile(text, "<program>", "exec"), names)
    return names


def letters(length: int = 33) -> tuple[Tensor, Tensor]:
    """The World English Bible in small letters, as numbers: to train on (N,), and 64 held-out windows (64, 33)."""
    text, held_out = ("\n".join(part).lower() for part in load_bible())
    tokenizer = CharacterTokenizer(text + held_out)
    train, held_out = torch.tensor(tokenizer.encode(text)), torch.tensor(tokenizer.encode(held_out))
    starts = torch.linspace(0, len(held_out) - length, 64).long()[:, None]
    return train, held_out[starts + torch.arange(length)]


def stops(program: dict) -> str | None:
    """The error that ends two steps and an evaluation at the usual sizes; None where nothing is raised."""
    torch.manual_seed(0)
    try:
        model = program["Program"](**USUAL)
        optimizer = torch.optim.Adam(model.parameters(), RATE)
        tokens = torch.randint(USUAL["vocabulary"], (32, USUAL["length"] + 1))
        for _ in range(2):
            program["train_step"](model, optimizer, tokens)
        program["evaluate"](model, tokens)
    except Exception as error:
        return type(error).__name__
    return None


def trace(program: dict, sizes: dict, state: dict, length: int) -> list[Tensor]:
    """What a program with these weights makes: logits, and losses and parameters over three steps."""
    model = program["Program"](**sizes)
    model.load_state_dict(state)
    model, optimizer = model.double().eval(), torch.optim.Adam(model.parameters(), RATE)
    torch.manual_seed(1)
    tokens = torch.randint(sizes["vocabulary"], (5, length + 1))
    made = [model(tokens[:, 1:]), torch.tensor(float(program["evaluate"](model, tokens)))]
    made += [torch.tensor(float(program["train_step"](model, optimizer, tokens))) for _ in range(3)]
    made.append(torch.tensor(float(program["evaluate"](model, tokens))))
    return [*made, *dict(sorted(model.state_dict().items())).values(), tokens]  # by name: their order is nobody's business


def beginnings(program: dict) -> Tensor:
    """Mean and spread of each new parameter at the usual sizes, over eight seeds: (parameters, 2)."""
    found = []
    for seed in range(8):
        torch.manual_seed(seed)
        parameters = sorted(program["Program"](**USUAL).named_parameters())
        found.append([p.detach().flatten() for _, p in parameters])
    joined = [torch.cat(parts) for parts in zip(*found, strict=True)]
    return torch.tensor([[p.mean().item(), p.std().item()] for p in joined])


def harmless(program: dict, right: dict) -> bool:
    """Does an edit change nothing that can be seen: no logit, no step, at two sets of sizes, and no beginning?"""
    try:
        for sizes, length in ((SMALL, SMALL["length"]), (SMALL, 4), (USUAL, USUAL["length"])):
            torch.manual_seed(0)
            state = randomize(right["Program"](**sizes)).state_dict()
            pairs = zip(trace(program, sizes, state, length), trace(right, sizes, state, length), strict=True)
            if not all(a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-7) for a, b in pairs):
                return False
        ours, theirs = beginnings(program), beginnings(right)
        return bool(((ours - theirs).abs().amax(1) <= 0.25 * theirs[:, 1]).all())
    except Exception:
        return False


def cost(program: dict, text: Tensor, held_out: Tensor, seed: int = 0, steps: int = STEPS) -> dict:
    """A training run: the losses it prints, its own held-out loss, and the honest one, from beginnings without a future."""
    torch.manual_seed(seed)
    model = program["Program"](**USUAL)
    optimizer, losses = torch.optim.Adam(model.parameters(), RATE), []
    for _ in range(steps):
        starts = torch.randint(len(text) - 33, (32, 1))
        losses.append(float(program["train_step"](model, optimizer, text[starts + torch.arange(33)])))
    said = float(program["evaluate"](model, held_out))
    model.eval()
    with torch.no_grad():
        honest = [F.cross_entropy(model(held_out[:, :t])[:, -1], held_out[:, t]).item() for t in range(1, 33)]
    return {"first": losses[0], "last": sum(losses[-20:]) / 20, "said": said, "honest": sum(honest) / 32}


def asked(program: dict) -> dict:
    """Which questions a program passes, with their precautions and without."""
    return {kind.__name__: [name for name, question in kind(program).items() if ask(question)]
            for kind in (questions, careless)}


def examine(fault: dict, right: dict, text: Tensor, held_out: Tensor) -> dict:
    """All that the record says of a fault."""
    program = run(fault["text"])
    found = {name: fault[name] for name in ("rule", "was", "is")}
    error = stops(program)
    if error or harmless(program, right):
        return found | {"outcome": error or "harmless"}
    found |= {"outcome": "silent", **asked(program)}
    try:
        costs = cost(program, text, held_out).items()
        return found | {name: round(value, 4) if math.isfinite(value) else None for name, value in costs}
    except Exception as late:
        return found | {"late": type(late).__name__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path = parser.parse_args().record
    record = open_record(path, lambda: {"settings": {"small": SMALL, "usual": USUAL, "steps": STEPS, "rate": RATE},
                                        **surroundings(), "seconds": 0.0, "right": [], "faults": []})
    source, (text, held_out) = sources(), letters()
    right = run(source)
    for seed in range(len(record["right"]), SEEDS):
        record["right"].append(rounded(cost(right, text, held_out, seed)))
        write_record(path, record)
        print("right", record["right"][-1], flush=True)
    if "alarms" not in record:  # of the right program, over ten seeds
        record["alarms"] = {name: sum(not ask(question, seed) for seed in range(10))
                            for name, question in questions(right).items()}
    warnings.simplefilter("ignore")  # what a fault makes PyTorch say
    for fault in list(faults(source))[len(record["faults"]):]:
        start = time.process_time()
        found = examine(fault, right, text, held_out)
        record["faults"].append(found)
        record["seconds"] = round(record["seconds"] + time.process_time() - start, 1)
        if len(record["faults"]) % 10 == 0:
            print(len(record["faults"]), record["seconds"], flush=True)
            write_record(path, record)
    write_record(path, record)


if __name__ == "__main__":
    main()
