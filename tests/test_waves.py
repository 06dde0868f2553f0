"""WAV files there and back, what is no such file, and sound in a page."""

import re
import wave

import pytest
import torch

from tutorlib.waves import Player, read_wave, wave_bytes


def written(path, samples=b"\0\0" * 9, channels=1, width=2, rate=16_000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples)
    return path


def test_there_and_back(tmp_path):
    samples = torch.linspace(-1.2, 1.2, 99)
    path = tmp_path / "x.wav"
    path.write_bytes(wave_bytes(samples))
    assert torch.allclose(read_wave(path), samples.clamp(-1, 1), atol=1e-4)


@pytest.mark.parametrize("make, error, message", [
    (lambda folder: folder / "none.wav", FileNotFoundError, "file: there is no file 'none.wav'"),
    (lambda folder: folder, FileNotFoundError, "file: there is no file"),
    (lambda folder: written(folder / "a.wav", channels=2, samples=b"\0" * 8), ValueError, "a.wav has 2 channels, 16 bits"),
    (lambda folder: written(folder / "a.wav", rate=44_100), ValueError, "44100 samples a second; expected 1, 16 and 16000"),
    (lambda folder: written(folder / "a.wav", width=1), ValueError, "a.wav has 1 channels, 8 bits"),
    (lambda folder: written(folder / "a.wav", samples=b""), ValueError, "a.wav is empty; expected at least one sample")])
def test_a_wrong_file_gets_a_sentence(tmp_path, make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        read_wave(make(tmp_path))


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound at all, a text that is longer than a header of a file"])
def test_what_is_no_wav_is_refused(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="file: a.wav is no WAV file that can be read"):
        read_wave(path)


def test_a_player_stands_in_the_page_with_its_label():
    player = Player(torch.zeros(10), 'say "yes" & <no>')
    shown = player._repr_html_()
    assert 'src="data:audio/wav;base64,UklGR' in shown and 'aria-label="say &quot;yes&quot; &amp; &lt;no&gt;"' in shown
    assert repr(player) == 'sound: say "yes" & <no>' and "controls" in shown and "autoplay" not in shown
    with pytest.raises(ValueError, match=r"samples must be \(N,\) with N at least 1, got \(0,\)"):
        wave_bytes(torch.zeros(0))
