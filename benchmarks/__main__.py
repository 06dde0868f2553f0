"""`python -m benchmarks`: run the comparisons, print each table, write them to book/benchmarks.md."""

import argparse
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from benchmarks import (
    attention,
    bert,
    detr,
    encoder_decoder,
    growth,
    language_models,
    optimizers,
    recurrent,
    resnet,
    speed,
    tokenizers,
    vit,
)
from benchmarks.harness import Row, Variant, compare
from tutorlib.device import has_fast_bfloat16, processor_name

PAGE = Path(__file__).resolve().parent.parent / "book" / "benchmarks.md"

HEAD = """# Benchmarks

What `make bench` measured. Variants of the same work run in turn in one process; their outputs are compared first, and one
that differs is not timed. A round runs each variant once.

- **ms** is the median over the rounds of the milliseconds that one run of the work takes: processor time on one thread, clock
  time on more.
- **ratio** is how many times as fast as the first row. It is taken within each round, the first row's time over the variant's
  own; the tables give the median of these ratios and, in brackets, their quartiles. Above 1 is faster.

The two medians are taken apart, so a ratio is not the quotient of two entries of the column *ms*: where the machine slows down
for some rounds, a variant can have the slower median and the better ratio. The ratio is the one to trust, since both of its
times come from the same round. Ratios whose quartiles overlap tell no difference.

Only ratios carry over to another machine, and even they shift with the processor: the gain of bfloat16, above all, is that of
this one's instructions.

{setting}
"""


def table(title: str, caption: str, rows: list[Row]) -> str:
    """A section with a Markdown table, the first row being the measure of the others."""
    lines = [f"## {title}", "", caption, "", "| variant | ms | ratio (quartiles) |", "|---|---|---|"]
    lines += [f"| {row.name} | {row.seconds * 1000:.1f} | {row.ratio:.2f} ({row.low:.2f} to {row.high:.2f}) |"
              for row in rows]
    return "\n".join(lines) + "\n"


def summary(tables: list[tuple[str, list[Row]]]) -> str:
    """The page in one table: our fastest variant of each comparison, beside the fastest peer and the one with its switches.

    Variants have the same switches where their names agree behind the first comma.
    """
    lines = ["## In short", "",
             "For each comparison the fastest variant of `tutorlib`, how many times as fast as the first row's peer, "
             "as the peer with the same switches (where one was run), and as the fastest peer that was run: quotients of the "
             "median ratios below. What stands within a few hundredths of 1 is no difference.", "",
             "| work | tutorlib's fastest | first row | same switches | fastest peer |", "|---|---|---|---|---|"]
    for title, rows in tables:
        ours = [row for row in rows if row.name.startswith("tutorlib")]
        peers = [row for row in rows if not row.name.startswith("tutorlib")]
        best, rival = (max(some, key=lambda row: row.ratio) for some in (ours, peers))
        alike = [row for row in peers if row.name.partition(", ")[2] == best.name.partition(", ")[2]]
        same = f"{best.ratio / alike[-1].ratio:.2f}" if alike else ""
        switches = best.name.partition(", ")[2] or "as it comes"
        lines.append(f"| {title} | {switches} | {best.ratio:.2f} | {same} | {best.ratio / rival.ratio:.2f} |")
    return "\n".join(lines) + "\n"


def memory_table() -> str:
    """Peak bytes over the length, with the fitted exponents."""
    peaks = attention.memory()
    lines = ["## Attention: memory over the length", "",
             "Peak memory allocated by one causal head of width 64, batch 1, float32, without gradients, in MB, and the "
             "exponent fitted over the lengths: 2 is quadratic growth, 1 linear.", "",
             "| form | " + " | ".join(f"n = {length}" for length in attention.MEMORY_LENGTHS) + " | exponent |",
             "|---|" + "---|" * (len(attention.MEMORY_LENGTHS) + 1)]
    for name, values in peaks.items():
        slope = attention.exponent(attention.MEMORY_LENGTHS, values)
        lines.append(f"| {name} | " + " | ".join(f"{value / 1e6:.1f}" for value in values) + f" | {slope:.2f} |")
    return "\n".join(lines) + "\n"


def part_on_code() -> list[tuple[str, str, Callable[[], list[Variant]]]]:
    """Title, caption and variants of the comparisons of language models and tokenizers."""
    step = (f"{language_models.TRAINING_SIZES}; forward, cross-entropy, backward and fused AdamW. nanoGPT's architecture is "
            "written anew in torch's modules; all three have the erf GELU.")
    llama = (f"{language_models.LLAMA_SIZES}. In int8 are the weights of the linear layers (`FusedInt8Linear`); rounded "
             "weights are compared by their logits behind the prompt.")
    padded = f"{bert.SIZES} of {bert.LENGTH} tokens; evaluation mode."
    ragged = (f"{bert.SIZES} of {bert.SHORTEST} to {bert.LENGTH} tokens; evaluation mode. A bucket is {bert.BUCKET} sentences "
              "of like lengths, padded to its own longest.")
    return [("GPT: training step", step, language_models.training),
            ("GPT: generation", f"{language_models.GENERATION_SIZES}.", language_models.generation),
            ("Llama, 135 million parameters: generation", llama, language_models.llama_generation),
            ("BERT: sentences of one length", padded, bert.padded), ("BERT: sentences of many lengths", ragged, bert.ragged),
            ("Byte-level BPE: encoding", f"{tokenizers.SIZES}. {tokenizers.CAVEATS}", tokenizers.encoding),
            ("Byte-level BPE: learning merges", f"{tokenizers.SIZES}; a vocabulary of {tokenizers.VOCABULARY:,}.",
             tokenizers.training)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="rounds of each comparison (default: 25)")
    parser.add_argument("--threads", type=int, default=1,
                        help="1 is timed by the process's CPU clock; more by the wall clock, on a quiet machine (default: 1)")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write the tables (default: the book's page)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    bfloat16 = "has" if has_fast_bfloat16("cpu") else "has no"
    setting = (f"Measured on {date.today()} on {processor_name()} with PyTorch {torch.__version__.partition('+')[0]}, "
               f"Python {platform.python_version()}, "
               f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()} ({bfloat16} bfloat16 instructions), "
               f"{arguments.threads} thread(s), {arguments.rounds} rounds.")
    sections, tables = [], []
    step = (f"{encoder_decoder.SIZES}; forward, backward and fused AdamW. Most of tutorlib's lead in bfloat16 comes from one "
            "line: at this length it lets the attention kernel work in float32, whose backward pass is faster on a CPU.")
    comparisons = [("Encoder-decoder: training step", step, encoder_decoder.training),
                   ("Encoder-decoder: forward pass", f"{encoder_decoder.SIZES}; evaluation mode.", encoder_decoder.forward)]
    layer = f"Causal self-attention, batch 1, width {attention.WIDTH}, {attention.HEADS} heads, float32, inference."
    comparisons += [(f"Attention layer at n = {length}", layer, lambda length=length: attention.layer(length))
                    for length in attention.LENGTHS]
    comparisons += [("ResNet-18: training step", f"{resnet.SIZES}; forward, backward and fused AdamW.", resnet.training),
                    ("ResNet-18: inference", f"{resnet.SIZES}; evaluation mode.", resnet.forward),
                    ("DETR: training step", f"{detr.SIZES}; forward, backward and fused AdamW.", detr.training),
                    ("DETR: inference", f"{detr.SIZES}; evaluation mode.", detr.forward),
                    ("ViT: training step", f"{vit.SIZES}; forward, backward and fused AdamW.", vit.training),
                    ("ViT: inference", f"{vit.SIZES}; evaluation mode.", vit.forward),
                    ("LSTM: training step", f"{recurrent.SIZES}; forward and backward.", recurrent.training),
                    ("LSTM: forward pass", f"{recurrent.SIZES}; inference.", recurrent.forward)]
    comparisons += part_on_code()
    for name, shapes in (("a small GPT", optimizers.gpt()), ("ResNet-18", optimizers.resnet18())):
        comparisons += [(f"{method} on the parameters of {name}", optimizers.caption(shapes),
                         lambda method=method, shapes=shapes: optimizers.step(method, shapes)) for method in optimizers.METHODS]
    for title, caption, variants in comparisons:
        rows = compare(variants(), arguments.rounds, clock)
        tables.append((title, rows))
        sections.append(table(title, caption, rows))
        print(sections[-1])
    sections.append(speed.table(speed.measure(arguments.rounds, clock), ""))
    print(sections[-1])
    sections.append(growth.table(growth.measure(max(1, arguments.rounds // 5), clock), ""))
    print(sections[-1])
    sections.append(memory_table())
    print(sections[-1])
    arguments.page.write_text("\n".join([HEAD.format(setting=setting), summary(tables), *sections]), "utf8")
    print(f"Written to {arguments.page}")


if __name__ == "__main__":
    main()
