"""Silero's detector: our module with the weights of the package's TorchScript file against that file, state and all."""

import pytest
import torch

from tutorlib.layers.spectrogram import hann
from tutorlib.models import VoiceDetector
from tutorlib.packages import installed_file
from tutorlib.pretrained import load
from tutorlib.pretrained.weights import fill, rename

SCRIPTED = {"stft.forward_basis_buffer": "stft.weight", "decoder.rnn": "memory", "decoder.decoder.2": "output"} | {
    f"encoder.{number}.reparam_conv": f"convolutions.{number}" for number in range(4)}


def twin(scripted):
    """Ours with the weights of the scripted model, which are of a later training than those of the safetensors file."""
    weights = rename(scripted._model.state_dict(), SCRIPTED)
    weights["output.weight"] = weights["output.weight"].squeeze(2)
    return fill(VoiceDetector, weights).eval()


def test_probabilities_equal_the_scripted_file_s():
    scripted = torch.jit.load(installed_file("silero_vad", "data/silero_vad.jit"))
    generator = torch.Generator().manual_seed(0)
    pitch = 2 * torch.pi * 120 * torch.arange(16_000) / 16_000
    voiced = sum(torch.sin(k * pitch) / k for k in range(1, 20)) * 0.1
    samples = torch.stack([torch.cat([torch.zeros(2048), voiced]), 0.1 * torch.randn(18_048, generator=generator)])
    with torch.no_grad():
        ours = twin(scripted)(samples)
        scripted.reset_states()
        filled = torch.nn.functional.pad(samples, (0, -samples.size(1) % 512))
        theirs = torch.cat([scripted(chunk, 16_000) for chunk in filled.split(512, 1)], 1)
    assert ours.shape == (2, 36) and ours.max() > 0.5 > ours.min()
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_published_weights_load_and_their_first_layer_is_a_fourier_transform():
    detector, rate = load("silero")
    assert rate == 16_000 and not detector.training and sum(p.numel() for p in detector.parameters()) == 309_633
    angle = 2 * torch.pi * torch.arange(129)[:, None] * torch.arange(256) / 256
    basis = torch.cat([angle.cos(), -angle.sin()]) * hann(256)
    assert torch.allclose(detector.stft.weight[:, 0], basis.float(), atol=1e-4)
    with torch.no_grad():
        assert detector(torch.zeros(1, 8000)).max() < 0.2


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"samples must be \(B, N\) with N at least 1, got \(5,\)"):
        VoiceDetector()(torch.zeros(5))
