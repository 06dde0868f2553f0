"""Synthesized speech: the same list gives the same sounds, words and voices are parted, batches are functions of the step."""

import pytest
import torch

from tutorlib import packages
from tutorlib.data.pronunciation import stem
from tutorlib.data.synthesis import Request, synthesize
from tutorlib.data.utterances import (
    KNOWN_VOICES,
    NEW_VOICES,
    SILENCE,
    SpokenBatches,
    collate,
    draw_requests,
    leveled,
    load_words,
    say,
    with_noise,
)


@pytest.fixture(scope="module")
def words():
    return load_words()


def test_words_are_parted_by_their_stems(words):
    known, unseen = ({entry.word for entry in part} for part in words)
    assert len(known) + len(unseen) == 2000 and 180 < len(unseen) < 300
    assert not {stem(word) for word in known} & {stem(word) for word in unseen}
    assert not set(KNOWN_VOICES) & set(NEW_VOICES)


def test_the_same_list_sounds_the_same_and_voices_differ():
    requests = [Request("open the door", "f3"), Request("seven", "m5", speed=130), Request("seven", "m5", speed=190)]
    first, second = synthesize(requests), synthesize(requests)
    assert all(map(torch.equal, first, second))
    assert all(sound.abs().max() <= 1 and sound.square().mean().sqrt() > 0.01 for sound in first)
    assert len(first[1]) > 1.2 * len(first[2])
    one, other = synthesize([Request("seven", "m5"), Request("seven", "f3")])
    assert len(one) != len(other) or not torch.equal(one, other)


def test_every_voice_speaks_and_no_two_alike():
    sounds = synthesize([Request("red", voice) for voice in KNOWN_VOICES + NEW_VOICES])
    assert len({sound.numpy().tobytes() for sound in sounds}) == len(sounds)


def test_drawn_requests_keep_to_their_words_and_voices():
    drawn = draw_requests(["red", "light"], ["m1"], 60, seed=1)
    assert {word for each in drawn for word in each.text.split()} == {"red", "light"}
    assert {len(each.text.split()) for each in drawn} == {1, 2, 3} and {each.voice for each in drawn} == {"m1"}
    assert drawn == draw_requests(["red", "light"], ["m1"], 60, seed=1) != draw_requests(["red", "light"], ["m1"], 60, seed=2)
    assert say(drawn[:1])[0].text == drawn[0].text


@pytest.mark.parametrize("decibels", [20, 0, -10])
def test_noise_has_the_power_that_is_asked_for(decibels):
    samples = leveled(torch.sin(torch.arange(50_000) / 9))
    noise = with_noise(samples, decibels, torch.Generator().manual_seed(0)) - samples
    assert 10 * (samples.square().mean() / noise.square().mean()).log10() == pytest.approx(decibels, abs=0.01)
    given = with_noise(samples, decibels, torch.Generator(), torch.cos(torch.arange(60_000) / 7)) - samples
    assert given.square().mean() == pytest.approx(noise.square().mean().item(), rel=1e-3)


def test_batches():
    mels = [torch.full((length, 64), float(length)) for length in (3, 9, 4, 8)]
    targets = [[1], [2, 3], [4], [5, 6, 7]]
    batch = collate(mels[:2], targets[:2])
    assert batch.mel.shape == (2, 9, 64) and batch.mel[0, 3:].eq(SILENCE).all() and batch.targets.tolist() == [[1, 0], [2, 3]]
    batches = SpokenBatches([mels], targets, batch_size=2, shift=0, louder=0.0)
    one, two = batches(0), batches(1)
    assert sorted([one.lengths.tolist(), two.lengths.tolist()]) == [[3, 4], [8, 9]]  # like lengths lie together
    assert torch.equal(batches(0).mel, one.mel)


def test_an_augmented_batch_is_moved_and_louder_and_no_more():
    mel = torch.arange(64.0).expand(5, 64)
    batches = SpokenBatches([[mel] * 40], [[1]] * 40, batch_size=40, shift=2, louder=0.5)
    moved = batches(0).mel[:, 0, 32] - 32
    assert moved.min() < -1 and moved.max() > 1 and moved.abs().max() <= 2.5
    assert torch.equal(mel, torch.arange(64.0).expand(5, 64))


def test_refusals(monkeypatch):
    for request, message in ((Request(" "), "text must have something to say, got ' '"),
                             (Request("red", "nobody"), "voice must be a variant that espeak has, .* got 'nobody'")):
        with pytest.raises(ValueError, match=message):
            synthesize([request])
    with pytest.raises(ValueError, match="requests must be at least 1, got none"):
        synthesize([])
    with pytest.raises(ValueError, match="words and voices must be at least one each, got 0 and 1"):
        draw_requests([], ["m1"], 3, 0)
    with pytest.raises(ValueError, match="samples must not be silent"):
        with_noise(torch.zeros(9), 0, torch.Generator())
    with pytest.raises(ValueError, match="noise must be as long as the samples, 9, got 3"):
        with_noise(torch.ones(9), 0, torch.Generator(), torch.ones(3))
    with pytest.raises(ValueError, match="versions and targets must be equally many"):
        SpokenBatches([[torch.zeros(3, 64)]], [[1], [2]], batch_size=1)
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="The synthesizer comes from the package 'espeakng-loader', which"):
        synthesize([Request("red")])
