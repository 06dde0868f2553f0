"""What silent faults cost: the documents' programs, repaired but for one, guess the hidden letter of a text.

    OMP_NUM_THREADS=1 python experiments/train_silent.py experiments/records/silent.json

Seven letters of the World English Bible, the middle one hidden. The programs are those of the chapter Repairing PyTorch
programs. The record is written after every run; a second call goes on.
"""

import argparse
import math
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorlib.data.bible import load_bible
from tutorlib.records import missing, open_record, rounded, surroundings, write_record
from tutorlib.text.characters import CharacterTokenizer
from tutorlib.training import warmup_cosine

WINDOW, MIDDLE, WIDTH, HEADS, BATCH, STEPS, RATE = 7, 3, 32, 4, 128, 600, 6e-3
HELD_OUT = 4000


class Encoder004(nn.Module):
    def __init__(self, input_dim, output_dim, nhead, *, position, batch_first):
        super().__init__()
        self.embedding = nn.Linear(input_dim, output_dim)
        self.pos_encoding = nn.Parameter(torch.zeros(position))
        layer = nn.TransformerEncoderLayer(
            d_model=output_dim, nhead=nhead, dim_feedforward=4 * output_dim,
            batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x):
        position = self.pos_encoding[..., : x.size(1), :]  # (1, T, D); (1, D) as it is
        return self.encoder(self.embedding(x) + position)  # (B, T, D)


class RepairedPosition(nn.Module):
    def __init__(self, width, max_length=100):
        super().__init__()
        place = torch.arange(max_length).unsqueeze(1)  # (L, 1)
        rate = self.rates(torch.arange(0, width, 2), width)  # (D/2,)
        table = torch.zeros(1, max_length, width)  # (1, L, D)
        table[:, :, 0::2] = torch.sin(place * rate)
        table[:, :, 1::2] = torch.cos(place * rate)
        self.register_buffer("table", table)

    def rates(self, even, width):
        return torch.exp(-math.log(10000) * even / width)

    def forward(self, x):
        return x + self.table[:, : x.size(1)]  # (B, T, D) + (1, T, D)


class RisingPosition(RepairedPosition):
    def rates(self, even, width):  # as document 000 prints it
        return torch.exp((even * math.pi) / (10000 ** 0.5))


class PrintedAttention(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.Wq, self.Wk, self.Wv, self.proj = (
            nn.Linear(embed_dim, embed_dim) for _ in range(4))

    def cut(self, z):
        return z.view(z.size(0), self.num_heads, -1).transpose(1, 2)

    def forward(self, x):
        q, k, v = self.cut(self.Wq(x)), self.cut(self.Wk(x)), self.cut(self.Wv(x))
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.embed_dim // self.num_heads)
        output = (scores.softmax(dim=-1) @ v).transpose(1, 2).contiguous()
        return self.proj(output.view(x.size(0), -1, self.embed_dim))  # (B, T, D)


class RepairedAttention(PrintedAttention):
    def cut(self, z):
        return z.view(z.size(0), z.size(1), self.num_heads, -1).transpose(1, 2)


class Program000(nn.Module):
    def __init__(self, input_dim, width, num_heads, *, attention, position):
        super().__init__()
        self.embedding, self.position = nn.Linear(input_dim, width), position(width)
        self.attention, self.norm = attention(width, num_heads), nn.LayerNorm(width)

    def forward(self, x):
        x = self.position(self.embedding(x))  # (B, T, D)
        return self.norm(x + self.attention(x))  # (B, T, D)


class Guess(nn.Module):
    """The hidden letter, from the state at its place."""

    def __init__(self, program, letters):
        super().__init__()
        self.program, self.letters = program, letters
        self.read = nn.Linear(WIDTH, letters)

    def forward(self, windows):
        x = F.one_hot(windows, self.letters + 1).float()  # (B, T, V + 1)
        return self.read(self.program(x)[:, MIDDLE])  # (B, V)


def encoder_004(position, batch_first):
    return lambda letters: Encoder004(letters + 1, WIDTH, HEADS, position=position, batch_first=batch_first)


def program_000(attention, position, heads=HEADS):
    return lambda letters: Program000(letters + 1, WIDTH, heads, attention=attention, position=position)


ARMS = {"004, repaired": encoder_004((1, WINDOW, WIDTH), True),
        "004 with P20": encoder_004((1, WIDTH), True),
        "004 with P21": encoder_004((1, WINDOW, WIDTH), False),
        "000, repaired": program_000(RepairedAttention, RepairedPosition),
        "000 with P8": program_000(PrintedAttention, RepairedPosition),
        "000 with P2": program_000(RepairedAttention, RisingPosition),
        # as many rows of weights in a window of seven, 56, as P8 makes of four heads
        "000, 8 heads": program_000(RepairedAttention, RepairedPosition, heads=8)}


class Run(NamedTuple):
    arm: str
    seed: int


class Text:
    """Windows of seven letters, the middle one replaced by a sign of its own."""

    def __init__(self):
        text, held_out = ("\n".join(part).lower() for part in load_bible())
        tokenizer = CharacterTokenizer(text + held_out)
        self.train, self.held_out = torch.tensor(tokenizer.encode(text)), torch.tensor(tokenizer.encode(held_out))
        self.letters = len(tokenizer)

    def windows(self, ids: Tensor, starts: Tensor, length: int = WINDOW) -> tuple[Tensor, Tensor]:
        found = ids[starts[:, None] + torch.arange(length)]  # (B, T)
        answers = found[:, MIDDLE].clone()
        found[:, MIDDLE] = self.letters
        return found, answers

    def batch(self) -> tuple[Tensor, Tensor]:
        return self.windows(self.train, torch.randint(len(self.train) - WINDOW, (BATCH,)))

    def test(self, length: int = WINDOW) -> tuple[Tensor, Tensor]:
        """The same hidden letters for each length: what a longer window adds stands on the right."""
        return self.windows(self.held_out, torch.linspace(0, len(self.held_out) - 10, HELD_OUT).long(), length)

    def counted(self) -> dict[str, float]:
        """What counting gets: the most frequent letter, and the most frequent one between the two neighbors."""
        V, x, (asked, answers) = self.letters, self.train, self.test()
        between = torch.zeros(V * V, V)
        between.index_put_((V * x[:-2] + x[2:], x[1:-1]), torch.ones(()), accumulate=True)
        named = between.argmax(-1)[V * asked[:, MIDDLE - 1] + asked[:, MIDDLE + 1]]
        share = x.bincount() / len(x)
        return {"most frequent": (answers == share.argmax()).float().mean().item(),
                "between the neighbors": (answers == named).float().mean().item(),
                "entropy": -(share * share.log()).nansum().item()}


def fit(arm: str, seed: int, text: Text, steps: int = STEPS) -> dict:
    """The losses of a run, and the share of hidden letters named, in windows of seven and of eight letters."""
    torch.manual_seed(seed)
    model = Guess(ARMS[arm](text.letters), text.letters)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    scheduler, losses = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(20, steps)), []
    for _ in range(steps):
        windows, answers = text.batch()
        loss = F.cross_entropy(model(windows), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    model.eval()
    lengths = (WINDOW,) if arm.startswith("004") else (WINDOW, WINDOW + 1)  # a learned position ends with the window
    with torch.no_grad():
        scores = [(model(asked).argmax(-1) == answers).float().mean().item() for asked, answers in map(text.test, lengths)]
    return {"score": scores[0], "longer": scores[-1] if len(scores) > 1 else None,
            "losses": [sum(losses[i:i + 20]) / 20 for i in range(0, steps, 20)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write, or to go on with")
    path, text = parser.parse_args().record, Text()
    record = open_record(path, lambda: {"settings": {"steps": STEPS, "rate": RATE, "batch": BATCH}, **surroundings(),
                                        "counted": rounded(text.counted()), "runs": []})
    for run in missing([Run(arm, seed) for seed in range(3) for arm in ARMS], record):
        start = time.process_time()
        found = {name: value if value is None else rounded(value) for name, value in fit(run.arm, run.seed, text).items()}
        record["runs"].append(run._asdict() | found | {"seconds": round(time.process_time() - start, 1)})
        write_record(path, record)
        print(run, found["score"], found["longer"], found["losses"][0], found["losses"][-1], flush=True)


if __name__ == "__main__":
    main()
