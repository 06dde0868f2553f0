"""What the practice part aims at: prompts in batches, fewer bytes; beside the peer and the machine's own limit.

A row's ratio is in tokens a second, so variants that write more tokens in a run are counted by them.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import LlamaConfig as PeerConfig
from transformers import LlamaForCausalLM

from benchmarks.harness import Row, in_turn, inference
from benchmarks.harness import _row as row_of
from tutorlib.device import has_fast_bfloat16
from tutorlib.fast import prepare
from tutorlib.generation import generate, left_padded
from tutorlib.pretrained import from_transformers
from tutorlib.roofline import Roofline, measure_roofline

NEW, WIDTH, VOCABULARY, WEIGHTS = 32, 576, 49152, 134_515_008
LENGTHS = 6, 11, 17, 24, 9, 30, 14, 20  # of the prompts


@dataclass(frozen=True)
class Work:
    """One variant: what it runs, the tokens that a run writes, and the least seconds that the machine needs for them."""

    name: str
    run: Callable[[], object]
    tokens: int
    least: float


def least(roof: Roofline, rows: int, width: int) -> float:
    """Seconds for NEW tokens of each row with weights of `width` bytes, by the roofline: the prompt, then token by token."""
    reading = roof.seconds(2 * WEIGHTS * rows * max(LENGTHS[:rows]), width * WEIGHTS)
    return reading + (NEW - 1) * roof.seconds(2 * WEIGHTS * rows, width * WEIGHTS)


def work() -> list[Work]:
    """The peer, one prompt and eight; ours in one, eight and thirty-two, in the forms of the fast room."""
    torch.manual_seed(0)
    peer = LlamaForCausalLM(PeerConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None)).eval()
    ours, dtypes = from_transformers(peer), [torch.float32, *([torch.bfloat16] if has_fast_bfloat16("cpu") else [])]
    roofs = {dtype: measure_roofline(dtype) for dtype in dtypes}
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(VOCABULARY, (LENGTHS[i % 8],), generator=generator) for i in range(32)]
    made: list[Work] = []
    for dtype in dtypes:
        name, width = str(dtype).split(".")[1], dtype.itemsize
        theirs = peer if dtype == torch.float32 else copy.deepcopy(peer).to(dtype)
        for rows in (1, 8):
            made.append(Work(f"transformers, {rows} prompt{'s' * (rows > 1)}, {name}", partial(_peer, theirs, prompts[:rows]),
                             rows * NEW, least(roofs[dtype], rows, width)))
        forms = {f"tutorlib, {name}": ours if dtype == torch.float32 else prepare(ours, dtype)}
        if dtype == torch.float32:
            forms["tutorlib, float32, column-major"] = prepare(ours)
        for form, model in forms.items():
            for rows in (1, 8, 32):
                made.append(Work(f"{form}, {rows} prompt{'s' * (rows > 1)}", partial(_ours, model, prompts[:rows]), rows * NEW,
                                 least(roofs[dtype], rows, width)))
    small = prepare(ours, torch.int8)
    made.append(Work("tutorlib, int8, 1 prompt", partial(_ours, small, prompts[:1]), NEW, least(roofs[torch.float32], 1, 1)))
    return made


@torch.inference_mode()
def _peer(model: LlamaForCausalLM, prompts: list[Tensor]) -> Tensor:
    tokens, real = left_padded(prompts)
    return model.generate(tokens, attention_mask=real.long(), max_new_tokens=NEW, do_sample=False, pad_token_id=0)


def _ours(model: torch.nn.Module, prompts: list[Tensor]) -> list[Tensor]:
    return inference(lambda: generate(model, prompts, NEW, temperature=0))()


def measure(rounds: int, clock: Callable[[], float] = time.process_time) -> list[tuple[Row, float]]:
    """Each variant in turn; ratios in tokens a second to the first, and the share of the machine's limit that it reaches."""
    variants = work()
    same = [variant.run() for variant in variants if variant.name in ("transformers, 8 prompts, float32",
                                                                      "tutorlib, float32, 8 prompts")]
    theirs, ours = same
    if not all(torch.equal(row[-NEW:], own[-NEW:]) for row, own in zip(theirs, ours, strict=True)):
        raise ValueError("transformers and tutorlib write different tokens")
    times = [[seconds / variant.tokens for seconds in own] for variant, own in zip(
        variants, in_turn([variant.run for variant in variants], rounds, clock), strict=True)]
    found = []
    for variant, own in zip(variants, times, strict=True):
        row = row_of(variant.name, list(zip(times[0], own, strict=True)))
        found.append((row, variant.least / variant.tokens / row.seconds))
    return found


def table(found: list[tuple[Row, float]], setting: str) -> str:
    """The section of the page."""
    lines = ["## Goals of the practice part: tokens a second", "",
             f"Llama in the shape of SmolLM2-135M, random weights, greedy, prompts of {min(LENGTHS)} to {max(LENGTHS)} tokens "
             f"and {NEW} new ones each, padded on the left. ms and ratio are for a token; *of the limit* is the least time by "
             f"the roofline, measured in the same run, over the median. {setting}", "",
             "| variant | ms a token | ratio (quartiles) | of the limit |", "|---|---|---|---|"]
    lines += [f"| {row.name} | {1000 * row.seconds:.1f} | {row.ratio:.2f} ({row.low:.2f} to {row.high:.2f}) | {share:.0%} |"
              for row, share in found]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the section alone."""
    import argparse
    from datetime import date

    from tutorlib.device import processor_name
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setting = (f"*{date.today()}, {processor_name()} with {torch.backends.cpu.get_cpu_capability()}, PyTorch "
               f"{torch.__version__.partition('+')[0]}, {arguments.rounds} rounds on one thread by the process's clock, while "
               "other work ran beside it.*")
    print(table(measure(arguments.rounds), setting))


if __name__ == "__main__":
    main()
