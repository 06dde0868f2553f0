"""A small recognizer and a small speaker of synthesized English: what each can do, and where it ends.

    OMP_NUM_THREADS=1 python experiments/train_speech.py experiments/records/speech.json tutorlib/data/speech.safetensors

Words and voices are parted before anything is learned (`tutorlib.data.utterances`). The record is written after every run; a
second call goes on where it stopped. The networks of the longest run of `read` and of `speak` are kept, in two bytes a weight.
With --only a kind of run, the others are left for another time.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tutorlib.baselines.warping import halve, sketch, spot_template, warped_distances
from tutorlib.ctc import BLANK, NEVER, greedy_letters, spot
from tutorlib.data.bible import load_bible
from tutorlib.data.synthesis import Request, synthesize
from tutorlib.data.utterances import (
    KNOWN_VOICES,
    NEW_VOICES,
    SpokenBatches,
    Utterance,
    collate,
    draw_requests,
    leveled,
    load_words,
    say,
    with_noise,
)
from tutorlib.device import seed_everything
from tutorlib.evaluation.sequences import character_edits, edit_distance, rate_error, word_edits
from tutorlib.evaluation.spotting import operating_curve, peaks
from tutorlib.layers.spectrogram import RATE, griffin_lim, log_mel, magnitude_of
from tutorlib.models.speech import Recognizer, Speaker
from tutorlib.pretrained.silero import load_silero
from tutorlib.records import load_half, missing, open_record, rounded, run_of, save_half, surroundings, write_record
from tutorlib.text.spelling import decode_letters, encode_letters
from tutorlib.training import train, warmup_cosine
from tutorlib.training.reading import even_loss, letter_durations, reading_loss, speaking_loss, steps_in

UTTERANCES, BATCH, PEAK = 6000, 32, 3e-3
SHORT, LONG = 1000, 5000  # steps: of the runs that are compared, and of the one that is kept
TEST, SINGLES, LIST_TEST = 250, 150, 150
SETS = {"neither new": (False, False), "voice new": (True, False), "word new": (False, True), "both new": (True, True)}
NOISES = (None, 20, 10, 5, 0, -5, -10, -15)  # decibels; None is without
TEMPLATE_VOICES = ("m1", "f2", "Andy", "linda")
SPEAKER_VOICE, SPOKEN, SPEAK_STEPS, SPEAK_BATCH = "f2", 1200, 1200, 8
KEYWORDS, SAID, MINUTES = ("lamp", "computer", "turn on the radio"), 40, 60


class Run(NamedTuple):
    """`read` learns clean and noisy sound, `clean` clean only, `phonemes` writes sounds.

    `even` is told a letter at every step, spread evenly, and `aligned` too, but as the longest run of `read` aligns them.
    `alone` is the speaker `speak` without neighbors.
    """

    kind: str
    seed: int = 0
    steps: int = SHORT


BEST = Run("read", steps=LONG)
RUNS = [BEST, Run("read"), Run("read", 1), Run("even"), Run("clean"), Run("phonemes"), Run("speak"), Run("templates"),
        Run("spot"), Run("gate"), Run("aligned"), Run("alone"), Run("nearest")]


# -- sounds -------------------------------------------------------------------------------------------------------------------


@cache
def vocabulary() -> tuple[dict[str, tuple[str, ...]], list[str], list[str]]:
    """Phonemes of every word, the known words, and the unseen ones."""
    words = load_words()
    said = {entry.word: entry.phonemes for part in words for entry in part}
    return said, [entry.word for entry in words.known], [entry.word for entry in words.unseen]


@cache
def training_sounds(seed: int = 0, count: int = UTTERANCES) -> tuple[list[str], list[Tensor], list[Tensor]]:
    """Texts, their clean mels, and the same with white noise of 20 to -5 decibels."""
    dice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    spoken = say(draw_requests(vocabulary()[1], KNOWN_VOICES, count, seed))
    clean = [log_mel(leveled(each.samples)).half() for each in spoken]
    noisy = [log_mel(leveled(with_noise(each.samples, dice.uniform(-5, 20), generator))).half() for each in spoken]
    return [each.text for each in spoken], clean, noisy


@cache
def test_sounds(name: str, longest: int = 3, count: int = TEST) -> list[Utterance]:
    voice_is_new, word_is_new = SETS[name]
    words = vocabulary()[2 if word_is_new else 1]
    number = 100 + [*SETS].index(name) + 10 * longest
    return say(draw_requests(words, NEW_VOICES if voice_is_new else KNOWN_VOICES, count, number, longest))


@cache
def babble() -> Tensor:
    """Six voices at once, a minute of words."""
    said = [each.samples for each in say(draw_requests(vocabulary()[1], KNOWN_VOICES, 400, 77))]
    rows = [torch.cat(said[start::6])[:40 * RATE] for start in range(6)]
    shortest = min(map(len, rows))
    return torch.stack([row[:shortest] for row in rows]).sum(0)


def disturbed(spoken: Sequence[Utterance], decibels: float | None, kind: str = "white") -> list[Tensor]:
    """The mels of the sounds, with noise."""
    generator, mels = torch.Generator().manual_seed(5), []
    for each in spoken:
        samples = each.samples
        if decibels is not None:
            start = int(torch.randint(len(babble()) - len(samples), (), generator=generator)) if kind == "babble" else 0
            noise = babble()[start:] if kind == "babble" else None
            samples = with_noise(samples, decibels, generator, noise)
        mels.append(log_mel(leveled(samples)))
    return mels


# -- reading ------------------------------------------------------------------------------------------------------------------

SOUND_NAMES = sorted({phoneme for phonemes in vocabulary()[0].values() for phoneme in phonemes} | {" "})


def in_phonemes(text: str) -> list[int]:
    """Phonemes from 1, with a mark between words."""
    words = [[SOUND_NAMES.index(phoneme) + 1 for phoneme in vocabulary()[0][word]] for word in text.split()]
    return [number for place, word in enumerate(words) for number in ([SOUND_NAMES.index(" ") + 1] if place else []) + word]


def as_words(ids: Sequence[int]) -> str:
    """Phonemes as a text of one character each, with a space for the mark between words."""
    return "".join(" " if SOUND_NAMES[number - 1] == " " else chr(256 + number) for number in ids)


def told_when(teacher: nn.Module, text: str, mel: Tensor) -> list[int]:
    """A letter for every step of the mel, as the teacher's best path has them; spread evenly where the text does not fit."""
    letters, steps = encode_letters(text), (len(mel) + 1) // 2
    try:
        durations = letter_durations(teacher, mel.float(), letters)
    except ValueError:
        return [letters[step * len(letters) // steps] for step in range(steps)]
    return torch.tensor(letters).repeat_interleave(durations)[::2].tolist()


@torch.no_grad()
def read(model: nn.Module, mels: Sequence[Tensor]) -> list[list[int]]:
    """The ids that the most probable path spells, of each mel."""
    found = []
    for start in range(0, len(mels), 50):
        batch = collate(mels[start:start + 50], [[1]] * len(mels[start:start + 50]))
        found += greedy_letters(model(batch.mel), steps_in(batch.lengths))
    return found


def rates(predicted: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """Word and character error rates with their bootstrap errors."""
    words, letters = word_edits(predicted, expected), character_edits(predicted, expected)
    return {"wer": (words[0].sum() / words[1].sum()).item(), "wer error": rate_error(*words),
            "cer": (letters[0].sum() / letters[1].sum()).item(), "cer error": rate_error(*letters)}


def learner(run: Run, steps: int | None = None, count: int = UTTERANCES,
            teacher: nn.Module | None = None) -> tuple[nn.Module, list[float]]:
    texts, clean, noisy = training_sounds(0, count)
    if run.kind == "aligned":
        targets = [told_when(teacher, text, mel) for text, mel in zip(texts, clean, strict=True)]
    else:
        targets = [(in_phonemes if run.kind == "phonemes" else encode_letters)(text) for text in texts]
    seed_everything(run.seed)
    model = Recognizer(symbols=len(SOUND_NAMES) + 1 if run.kind == "phonemes" else 28)
    batches = SpokenBatches([clean] if run.kind == "clean" else [clean, noisy], targets, batch_size=BATCH, seed=run.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.01)
    loss = even_loss if run.kind in ("even", "aligned") else reading_loss  # told as many letters as steps, it spreads nothing
    history = train(model, batches, loss, optimizer, steps=steps or run.steps,
                    schedule=warmup_cosine(100, run.steps), progress=False)
    return model.eval(), history.losses


def first_losses() -> list[float]:
    """Of three steps on 96 utterances: what a repetition compares."""
    return learner(Run("read"), steps=3, count=96)[1]


def learned(run: Run, teacher: nn.Module) -> tuple[dict, nn.Module]:
    model, losses = learner(run, teacher=teacher)
    return {"losses": losses[:5] + losses[99::100], **judged(run, model)}, model


def judged(run: Run, model: nn.Module) -> dict:
    scores = {}
    for name in SETS:
        spoken = test_sounds(name)
        found = read(model, disturbed(spoken, None))
        if run.kind == "phonemes":
            sounds = rates([*map(as_words, found)], [as_words(in_phonemes(each.text)) for each in spoken])
            scores[name] = {key.replace("cer", "per"): value for key, value in sounds.items()}
        else:
            scores[name] = rates([decode_letters(ids) for ids in found], [each.text for each in spoken])
    more = {"scores": scores}
    if run.kind in ("read", "clean"):
        kinds = ("white", "babble") if run.kind == "read" else ("white",)
        spoken = test_sounds("voice new")
        more["noise"] = {kind: [rates([decode_letters(ids) for ids in read(model, disturbed(spoken, snr, kind))],
                                      [each.text for each in spoken]) for snr in NOISES] for kind in kinds}
    if run == BEST:
        spoken = test_sounds("both new")[:40]
        more["samples"] = [[each.text, decode_letters(ids)] for each, ids in
                           zip(spoken, read(model, disturbed(spoken, None)), strict=True)]
    return more


# -- one word of a list -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def in_list(model: nn.Module, mel: Tensor, words: Sequence[str]) -> str:
    """The word of the list whose CTC probability is the highest."""
    log_probs = model(mel[None]).transpose(0, 1)  # (T, 1, V)
    spelled = [encode_letters(word) for word in words]
    losses = torch.nn.functional.ctc_loss(
        log_probs.expand(-1, len(words), -1), torch.tensor([number for word in spelled for number in word]),
        torch.full((len(words),), len(log_probs)), torch.tensor([*map(len, spelled)]), reduction="none")
    return words[int(losses.argmin())]


def compared(model: nn.Module) -> dict:
    """Single words: nearest template, the recognizer, and the recognizer with the list of all 2,000."""
    _, known, unseen = vocabulary()
    templates = sorted(((each.text, sketch(log_mel(leveled(each.samples)))) for voice in TEMPLATE_VOICES
                        for each in say([Request(word, voice) for word in known])), key=lambda pair: len(pair[1]))
    everything, found = sorted(known + unseen), {}
    for name in ("neither new", "voice new", "both new"):
        spoken = test_sounds(name, 1, SINGLES)
        mels = [log_mel(leveled(each.samples)) for each in spoken]
        texts = [each.text for each in spoken]
        nearest = [templates[int(distances(mel, [sound for _, sound in templates]).argmin())][0] for mel in mels]
        spelled = [decode_letters(ids) for ids in read(model, mels)]
        listed = [in_list(model, mel, everything) for mel in mels]
        found[name] = {"template": rates(nearest, texts), "read": rates(spelled, texts), "listed": rates(listed, texts)}
    return {"scores": found, "templates": len(templates)}


def nearest(model: nn.Module) -> dict:
    """Single words, as read, and then the word of the 2,000 of the nearest spelling, by edits, the first in the alphabet."""
    _, known, unseen = vocabulary()
    everything, found, own = sorted(known + unseen), {}, {}
    for name in ("neither new", "voice new", "both new"):
        spoken = test_sounds(name, 1, SINGLES)
        spelled = [decode_letters(ids) for ids in read(model, [log_mel(leveled(each.samples)) for each in spoken])]
        listed = [min(everything, key=lambda word, letters=text: edit_distance(letters, word)) for text in spelled]
        found[name] = {"nearest": rates(listed, [each.text for each in spoken])}
        own[name] = sum(each.voice in TEMPLATE_VOICES for each in spoken)
    return {"scores": found, "in voices of templates": own}


def distances(mel: Tensor, templates: Sequence[Tensor], together: int = 300) -> Tensor:
    """From templates that are sorted by length, a few hundred at a time."""
    one = sketch(mel)
    return torch.cat([warped_distances(one, templates[start:start + together])
                      for start in range(0, len(templates), together)])


# -- speaking -----------------------------------------------------------------------------------------------------------------


@cache
def spoken_sounds(count: int = SPOKEN) -> list[tuple[str, Tensor]]:
    return [(each.text, log_mel(leveled(each.samples))) for each in
            say(draw_requests(vocabulary()[1], [SPEAKER_VOICE], count, 50))]


def aligned(recognizer: nn.Module, sounds: Sequence[tuple[str, Tensor]]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Letters, their durations and the mel, of those that the recognizer can align."""
    rows = []
    for text, mel in sounds:
        letters = encode_letters(text)
        rows.append((torch.tensor(letters), letter_durations(recognizer, mel, letters), mel))
    return rows


class LoneSpeaker(Speaker):
    """The control without neighbors: the same weights, but each letter's length and sound are made of it alone.

    Between letters stands so much nothing that no convolution reaches from one to the next.
    """

    apart = 14  # frames: 2 * (1 + 2 + 4), as far as `voice` sees

    def _states(self, letters: Tensor) -> Tensor:
        return self.context(self.embedding(letters)[:, None])[:, 0]  # (L, W), L sequences of one letter

    def _voiced(self, frames: Tensor, durations: Tensor) -> Tensor:
        letter = torch.arange(len(durations)).repeat_interleave(durations)
        places = torch.arange(len(frames)) + self.apart * letter
        spread = frames.new_zeros(int(places[-1]) + 1, frames.size(1)).index_copy(0, places, frames)
        return super()._voiced(spread, durations)[places]  # (T, W)


def speaker(recognizer: nn.Module, steps: int = SPEAK_STEPS, count: int = SPOKEN,
            kind: type[Speaker] = Speaker) -> tuple[Speaker, list[float], list]:
    seed_everything(0)
    rows, model, dice = aligned(recognizer, spoken_sounds(count)), kind(), random.Random(0)
    chosen = [dice.sample(rows, SPEAK_BATCH) for _ in range(steps)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    history = train(model, lambda step: chosen[step], speaking_loss, optimizer, steps=steps,
                    schedule=warmup_cosine(100, SPEAK_STEPS), progress=False)
    return model.eval(), history.losses, rows


def average_letters(rows: Sequence[tuple[Tensor, Tensor, Tensor]], parts: int = 5) -> Callable[[Tensor], Tensor]:
    """The simple speaker: each letter's mean length, and its mean sound in five parts, whatever stands beside it."""
    total, count = torch.zeros(28, parts, rows[0][2].size(1)), torch.zeros(28, parts)
    lasted, said = torch.zeros(28), torch.zeros(28)
    for letters, durations, mel in rows:
        which = letters.repeat_interleave(durations)
        start = (durations.cumsum(0) - durations).repeat_interleave(durations)
        part = (torch.arange(len(mel)) - start) * parts // durations.repeat_interleave(durations)
        total.index_put_((which, part), mel, accumulate=True)
        count.index_put_((which, part), torch.ones(len(mel)), accumulate=True)
        lasted.index_add_(0, letters, durations.float())
        said.index_add_(0, letters, torch.ones(len(letters)))
    mean, long = total / count.clamp(min=1)[..., None], (lasted / said.clamp(min=1)).round().clamp(min=1).long()

    def speak(letters: Tensor) -> Tensor:
        return torch.cat([mean[number, torch.arange(int(long[number])) * parts // int(long[number])] for number in letters])
    return speak


def heard(recognizer: nn.Module, mels: Sequence[Tensor]) -> list[str]:
    """Round trip: mel -> sound by Griffin-Lim -> mel -> letters."""
    generator = torch.Generator().manual_seed(0)
    again = [log_mel(leveled(griffin_lim(magnitude_of(mel), generator=generator))) for mel in mels]
    return [decode_letters(ids) for ids in read(recognizer, again)]


def spoken(recognizer: nn.Module) -> tuple[dict, Speaker]:
    model, losses, rows = speaker(recognizer)
    return {"losses": losses[:5] + losses[99::100], "scores": round_trips(recognizer, model, rows)}, model


def to_say(name: str) -> list[Request]:
    """120 texts of known words, or of unseen ones."""
    words = vocabulary()[1 if name == "known" else 2]
    return [each._replace(speed=160, pitch=50) for each in draw_requests(words, [SPEAKER_VOICE], 120, 51)]


@torch.no_grad()
def spoken_alone(recognizer: nn.Module) -> dict:
    """The round trips of the speaker without neighbors."""
    with torch.enable_grad():
        model, losses, _ = speaker(recognizer, kind=LoneSpeaker)
    scores = {}
    for name in ("known", "unseen"):
        texts = [each.text for each in to_say(name)]
        mels = [model(torch.tensor(encode_letters(text)))[0] for text in texts]
        scores[name] = {"alone": rates(heard(recognizer, mels), texts)}
    return {"losses": losses[:5] + losses[99::100], "scores": scores}


@torch.no_grad()
def round_trips(recognizer: nn.Module, model: Speaker, rows: list) -> dict:
    """Five sources of sound for 120 texts of known words and 120 of unseen ones, read again."""
    simple, scores = average_letters(rows), {}
    for name in ("known", "unseen"):
        requests = to_say(name)
        true = [log_mel(leveled(each.samples)) for each in say(requests)]
        texts = [each.text for each in requests]
        letters = [torch.tensor(encode_letters(text)) for text in texts]
        ours = heard(recognizer, [model(each)[0] for each in letters])
        scores[name] = {
            "recording": rates([decode_letters(ids) for ids in read(recognizer, true)], texts),
            "griffin-lim": rates(heard(recognizer, true), texts),
            "speaker": rates(ours, texts),
            "averages": rates(heard(recognizer, [simple(each) for each in letters]), texts),
            "another text": rates(ours, texts[1:] + texts[:1])}
    return scores


# -- keywords -----------------------------------------------------------------------------------------------------------------


def stream() -> tuple[Tensor, dict[str, list[tuple[int, int]]]]:
    """Minutes of verses from held-out chapters in new voices, (minutes, samples), with the keywords said between them.

    With them the steps in which each keyword ends, counted through all minutes. A minute ends in silence where nothing more
    fits into it, so that nothing is cut.
    """
    dice = random.Random(9)
    verses = [verse for chapter in load_bible().held_out for verse in chapter.split("\n")
              if not any(word in verse.lower() for word in KEYWORDS)]
    verses = dice.sample(verses, 12 * MINUTES)
    commands = [word for word in KEYWORDS for _ in range(SAID)]
    requests = [Request(text, dice.choice(NEW_VOICES), dice.randint(130, 190), dice.randint(30, 70))
                for text in verses + commands]
    sounds = [leveled(sound) for sound in synthesize(requests)]
    running, called = sounds[:len(verses)], list(zip(commands, sounds[len(verses):], strict=True))
    dice.shuffle(called)
    whole, ends, each = torch.zeros(MINUTES, 60 * RATE), {word: [] for word in KEYWORDS}, len(called) / MINUTES
    for minute in range(MINUTES):
        mine = called[round(minute * each):round((minute + 1) * each)]
        place = 0
        for number in range(100):
            word, sound = mine.pop() if mine and number else (None, running.pop())
            if place + len(sound) > 60 * RATE:
                break
            whole[minute, place:place + len(sound)] = sound
            if word:
                first = minute * 3000 + place // 320
                ends[word].append((first + len(sound) // 640, first + len(sound) // 320 + 15))
            place += len(sound)
    return whole, ends


@torch.no_grad()
def spotted(recognizer: nn.Module) -> dict:
    samples, ends = stream()
    mels = [log_mel(minute)[:6000] for minute in samples]  # 6,000 frames, 3,000 steps a minute
    log_probs = torch.stack([recognizer(mel[None])[0] for mel in mels])  # (minutes, T, V)
    hours, found = MINUTES / 60, {}
    for word in KEYWORDS:
        said = [log_mel(leveled(sound)) for sound in synthesize([Request(word, voice) for voice in TEMPLATE_VOICES])]
        keyword = encode_letters(word)
        third = log_probs.topk(3, -1).values[..., 2:]
        scores = {"ctc": spot(log_probs, keyword), "edits": spot_spelling(log_probs.argmax(-1), keyword),
                  "three choices": spot(log_probs.masked_fill(log_probs < third, NEVER), keyword)}
        for name, features in (("template", halve), ("template, no tint", sketch)):
            stretch = torch.stack([features(mel) for mel in mels])  # (minutes, T, M)
            scores[name] = torch.stack([spot_template(stretch, features(mel)) for mel in said]).amax(0)
        found[word] = {name: thinned(operating_curve(peaks(score.flatten(), 25), ends[word], hours))
                       for name, score in scores.items()}
    return {"hours": hours, "said": {word: len(each) for word, each in ends.items()}, "curves": found}


def spot_spelling(ids: Tensor, keyword: Sequence[int]) -> Tensor:
    """The rival that reads first: ids (..., T) of the best path -> minus the fewest edits between the keyword and any stretch
    of the letters read that ends at each step (Sellers 1980): 0 where the keyword was read."""
    cost = torch.arange(len(keyword) + 1.0).expand(*ids.shape[:-1], -1).clone()  # of the keyword's first j letters
    before, scores = torch.full_like(ids[..., 0], BLANK), []
    for symbol in ids.unbind(-1):
        row = [torch.zeros_like(cost[..., 0])]
        for place, letter in enumerate(keyword):
            replaced = cost[..., place] + (symbol != letter)
            row.append(torch.minimum(replaced, torch.minimum(cost[..., place + 1], row[-1]) + 1))
        said = (symbol != BLANK) & (symbol != before)  # a step that reads a letter
        cost = torch.where(said[..., None], torch.stack(row, -1), cost)
        before = symbol
        scores.append(-cost[..., -1])
    return torch.stack(scores, -1)


def thinned(points: Sequence, most: float = 200.0) -> list:
    """The corners of a curve up to so many alarms an hour."""
    kept = []
    for point in points:
        if point.alarms <= most and (not kept or point.missed < kept[-1][1] or point.alarms > 1.05 * kept[-1][2] + 0.01):
            kept.append([max(point.threshold, -1e9) if point.threshold < 1e9 else 1e9, point.missed, point.alarms])
    return kept


# -- the gate -----------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def gated(recognizer: nn.Module) -> dict:
    """Utterances with three seconds of noise before and after: what the detector lets through, and what is then read."""
    detector, _ = load_silero()
    spoken, found = test_sounds("voice new")[:100], {}
    for decibels, knocks in [*((decibels, False) for decibels in (None, 20, 10, 5, 0, -5)), (20, True)]:
        generator, texts, read_as = torch.Generator().manual_seed(3), [], {"all": [], "gated": [], "loud": []}
        passed, total, speech = {"gated": 0, "loud": 0}, 0, 0
        for each in spoken:
            quiet = torch.zeros(3 * RATE)
            samples = torch.cat([quiet, each.samples, quiet])
            power = each.samples.square().mean()
            level_of = 1e-4 if decibels is None else (power / 10 ** (decibels / 10)).sqrt().item()
            samples = samples + level_of * torch.randn(samples.shape, generator=generator)
            if knocks:
                samples = samples + knocked(len(samples), power.sqrt().item(), generator)
            opens = {"gated": opened(detector(samples[None])[0]), "loud": opened(loud(samples))}
            total, speech = total + len(samples), speech + len(each.samples)
            mel = log_mel(samples * 0.1 / power.sqrt())
            ids = recognizer(mel[None])[0].argmax(-1)  # (T,)
            texts.append(each.text)
            read_as["all"].append(decode_letters(greedy_ids(ids)).strip())
            for name, chunks in opens.items():
                gate = chunks.repeat_interleave(512)[:len(samples)]
                passed[name] += int(gate.sum())
                step_gate = gate[::320][:len(ids)]
                step_gate = torch.cat([step_gate, step_gate.new_zeros(len(ids) - len(step_gate))])
                read_as[name].append(decode_letters(greedy_ids(ids.masked_fill(~step_gate, 0))).strip())
        found[f"{decibels}{', knocks' if knocks else ''}"] = {
            "passed": passed["gated"] / total, "loud passed": passed["loud"] / total, "speech": speech / total,
            **{name: rates(letters, texts) for name, letters in read_as.items()}}
    return {"noise": found}


def loud(samples: Tensor) -> Tensor:
    """The simple detector: 1 for each chunk of 512 samples whose power is over twice the recording's median, else 0."""
    power = torch.nn.functional.pad(samples, (0, -len(samples) % 512)).unflatten(0, (-1, 512)).square().mean(1)
    return (power > 2 * power.median()).float()


def knocked(length: int, level: float, generator: torch.Generator) -> Tensor:
    """Four knocks of a tenth of a second, as loud as the voice: one in each second from the ends, but for the nearest."""
    out, long = torch.zeros(length), RATE // 10
    for start in (RATE, 2 * RATE, length - RATE, length - 2 * RATE):
        out[start:start + long] = level * torch.randn(long, generator=generator)
    return out


def greedy_ids(ids: Tensor) -> list[int]:
    return greedy_letters(torch.nn.functional.one_hot(ids, 28)[None].float(), torch.tensor([len(ids)]))[0]


def opened(probabilities: Tensor, threshold: float = 0.5, before: int = 3, after: int = 6) -> Tensor:
    """Chunks with speech, and some before and after, in which a word may begin or end: (N,) -> boolean (N,)."""
    wide = torch.nn.functional.pad((probabilities > threshold).float(), (after, before))
    return wide.unfold(0, before + after + 1, 1).amax(1) > 0


# -- the record ---------------------------------------------------------------------------------------------------------------


def perform(run: Run, weights: Path, kept: nn.ModuleDict) -> dict:
    """One run. Those after the first ask the recognizer as it is kept, in two bytes a weight."""
    start = time.process_time()
    if run.kind in ("read", "clean", "even", "phonemes", "aligned"):
        outcome, model = learned(run, kept["recognizer"])
        if run == BEST:
            kept["recognizer"].load_state_dict(model.state_dict())
            save_half(kept, weights)
    elif run.kind == "speak":
        outcome, model = spoken(kept["recognizer"])
        kept["speaker"].load_state_dict(model.state_dict())
        save_half(kept, weights)
    else:
        asked = {"templates": compared, "spot": spotted, "gate": gated, "alone": spoken_alone, "nearest": nearest}[run.kind]
        outcome = asked(kept["recognizer"])
    return run._asdict() | outcome | {"seconds": time.process_time() - start}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("record", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--only", help="runs of this kind")
    paths = parser.parse_args()
    _, known, unseen = vocabulary()
    record = open_record(paths.record, lambda: {**surroundings(), "words": [len(known), len(unseen)],
                                                "first": first_losses(), "runs": []})
    for run in missing([run for run in RUNS if paths.only in (None, run.kind)], record):
        kept = nn.ModuleDict({"recognizer": Recognizer(), "speaker": Speaker()}).eval()
        if paths.weights.exists():
            load_half(kept, paths.weights)
        record["runs"].append(rounded_run(perform(run, paths.weights, kept)))
        record["runs"].sort(key=lambda found: RUNS.index(run_of(Run, found)))
        write_record(paths.record, record)
        print(run, round(record["runs"][-1]["seconds"]), flush=True)


def rounded_run(run: dict) -> dict:
    """Numbers to four decimals; texts as they are."""
    texts = {name: run[name] for name in ("kind", "samples") if name in run}
    return rounded({name: value for name, value in run.items() if name not in texts}) | texts


if __name__ == "__main__":
    main()
