"""Devices, seeds and the memory meter."""

import pytest
import torch

from tutorlib.device import available_devices, default_device, has_fast_bfloat16, peak_memory, processor_name, seed_everything

MEGABYTE = 1 << 20


def block(megabytes: int) -> torch.Tensor:
    return torch.empty(megabytes * MEGABYTE, dtype=torch.uint8)


def test_default_device_is_the_cpu_unless_the_environment_names_another(monkeypatch):
    monkeypatch.delenv("TUTORLIB_DEVICE", raising=False)
    assert default_device() == torch.device("cpu")
    for device in available_devices():
        monkeypatch.setenv("TUTORLIB_DEVICE", str(device))
        assert default_device() == device


@pytest.mark.parametrize("name", ["potato", "meta", "xpu", "", "cpu:1", "cpu:one", "cuda:99"])
def test_default_device_refuses_what_the_machine_lacks(monkeypatch, name):
    monkeypatch.setenv("TUTORLIB_DEVICE", name)
    with pytest.raises(ValueError, match=f"TUTORLIB_DEVICE.*{name}"):
        default_device()


def test_available_devices_work():
    assert available_devices()[0] == torch.device("cpu")
    for device in available_devices():
        assert torch.ones(2, device=device).sum().item() == 2


def test_seed_everything_repeats_both_generators():
    first = seed_everything(3)
    a, b = torch.rand(4), torch.rand(4, generator=first)
    second = seed_everything(3)
    assert torch.equal(a, torch.rand(4)) and torch.equal(b, torch.rand(4, generator=second))
    assert not torch.equal(b, torch.rand(4, generator=seed_everything(4)))


def test_fast_bfloat16_follows_the_instructions(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for found, expected in [({}, False), ({"avx512_f": True}, False), ({"avx512_bf16": True}, True), ({"bf16": True}, True),
                            ({"amx_bf16": True}, True)]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)  # torch 2.5 lacks it
        assert has_fast_bfloat16("cpu") is expected
    for name in ("DEFAULT", "NO AVX"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=name: name)
        assert has_fast_bfloat16("cpu") is False
    assert has_fast_bfloat16("mps") is False


def test_peak_memory_sees_the_highest_point_and_not_the_end():
    def rise_and_fall():
        first, second = block(8), block(16)
        del first
        third = block(4)
        del second, third
        return "done"

    result, peak = peak_memory(rise_and_fall)
    assert result == "done"
    assert peak == 24 * MEGABYTE


def test_peak_memory_counts_temporaries_of_an_operation():
    x = torch.ones(MEGABYTE)  # 4 MiB, in use before: not counted
    _, peak = peak_memory(lambda: ((x + 1) * 2).sum())
    assert 8 * MEGABYTE <= peak < 9 * MEGABYTE  # both intermediate results live at once


def test_peak_memory_of_views_is_zero():
    x = torch.ones(MEGABYTE)
    _, peak = peak_memory(lambda: x.view(1024, 1024).transpose(0, 1))
    assert peak == 0


def test_peak_memory_counts_the_backward_pass_too():
    x = torch.ones(MEGABYTE, requires_grad=True)
    _, peak = peak_memory(lambda: (x * x).sum().backward())
    assert peak >= 8 * MEGABYTE  # the square and the gradient


def test_peak_memory_refuses_devices_without_a_record():
    with pytest.raises(ValueError, match="device: meta"):
        peak_memory(lambda: None, device="meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_on_cuda():
    _, peak = peak_memory(lambda: torch.empty(32 * MEGABYTE, dtype=torch.uint8, device="cuda").sum(), device="cuda")
    assert 32 * MEGABYTE <= peak < 40 * MEGABYTE


@pytest.mark.parametrize("info, expected", [("processor\t: 0\nmodel name\t: Fast One 3\nmodel name\t: Other\n", "Fast One 3"),
                                            ("processor\t: 0\n", "what Python says"), (None, "what Python says")])
def test_a_processor_is_named_by_linux_or_else_by_python(monkeypatch, info, expected):
    monkeypatch.setattr("pathlib.Path.exists", lambda path: info is not None)
    monkeypatch.setattr("pathlib.Path.read_text", lambda path, encoding: info)
    monkeypatch.setattr("platform.processor", lambda: "what Python says")
    assert processor_name() == expected
