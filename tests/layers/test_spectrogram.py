"""Spectrograms: equal to torch's, invertible, and mel filters that part the axis."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorlib.layers.spectrogram import (
    HOP,
    MELS,
    RATE,
    SIZE,
    griffin_lim,
    hann,
    istft,
    log_mel,
    magnitude_of,
    mel_filters,
    stft,
)


@given(size=st.sampled_from([16, 64, 512]), hop=st.integers(1, 200), extra=st.integers(1, 2000), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_stft_is_torchs(size, hop, extra, seed):
    samples = torch.randn(2, size // 2 + extra, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    theirs = torch.stft(samples, size, hop, window=torch.hann_window(size, dtype=torch.float64), return_complex=True)
    ours = stft(samples, size, hop)
    assert ours.shape == theirs.mT.shape
    assert (ours - theirs.mT).abs().max() <= 1e-10 * theirs.abs().max()


@given(count=st.integers(3, 40), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_istft_undoes_stft(count, seed):
    samples = torch.randn(count * HOP + 300, generator=torch.Generator().manual_seed(seed))
    again = istft(stft(samples))
    assert len(again) == len(samples) // HOP * HOP
    assert torch.allclose(again, samples[:len(again)], atol=1e-4)


def test_istft_is_torchs_where_no_sound_has_the_spectrum():
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.complex(*torch.randn(2, 12, SIZE // 2 + 1, generator=generator))
    theirs = torch.istft(spectrum.mT, SIZE, HOP, window=torch.hann_window(SIZE))
    assert torch.allclose(istft(spectrum), theirs, atol=1e-5)


def test_a_tone_stands_at_its_frequency():
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(RATE) / RATE)
    assert stft(tone).abs().mean(0).argmax() == 1000 * SIZE // RATE
    middle = log_mel(tone).mean(0).argmax()
    hertz = (mel_filters()[middle] * torch.linspace(0, RATE / 2, SIZE // 2 + 1)).sum() / mel_filters()[middle].sum()
    assert abs(hertz - 1000) < 60


def test_filters_cross_at_one_half_and_sum_to_one_between_the_first_and_the_last_center():
    filters = mel_filters()
    assert filters.shape == (MELS, SIZE // 2 + 1) and filters.min() == 0 and filters.max() <= 1
    inside = slice(int(filters[0].argmax()) + 1, int(filters[-1].argmax()))
    assert torch.allclose(filters.sum(0)[inside], torch.ones(inside.stop - inside.start), atol=1e-5)


def test_louder_is_higher_by_the_logarithm_of_the_power():
    samples = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(log_mel(10 * samples) - log_mel(samples), torch.tensor(math.log(100)), atol=1e-2)
    assert torch.allclose(log_mel(torch.zeros(4000)), torch.tensor(math.log(1e-5)))


def test_mels_come_back_from_their_magnitudes():
    samples = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(1))
    mel = log_mel(samples)
    again = (magnitude_of(mel) ** 2 @ mel_filters().mT).log()
    assert (again - mel).abs().mean() < 0.25


def test_griffin_lim_comes_nearer_with_each_step():
    tone = 0.3 * torch.sin(2 * math.pi * 300 * torch.arange(9600) / RATE * torch.linspace(1, 2, 9600))
    magnitude = stft(tone).abs()

    def distance(steps):
        sound = griffin_lim(magnitude, steps, torch.Generator().manual_seed(0))
        return (stft(sound).abs() - magnitude[:len(stft(sound))]).norm() / magnitude.norm()

    assert distance(32) < 0.5 * distance(1)


def test_the_window_is_torchs():
    assert torch.allclose(hann(512), torch.hann_window(512, dtype=torch.float64), atol=1e-12)


def test_short_sound_is_refused():
    with pytest.raises(ValueError, match="samples must be more than 256 a row, half a frame, got 256"):
        stft(torch.zeros(256))
    assert stft(torch.zeros(257)).shape == (2, 257)
