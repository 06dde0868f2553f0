"""Fixtures for all tests: every device that the machine has."""

import pytest
import torch
from hypothesis import settings

from tutorlib.device import available_devices

settings.register_profile("course", deadline=None, derandomize=True)  # the same drawn configs on every machine
settings.load_profile("course")


@pytest.fixture(params=[str(device) for device in available_devices()])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn: cpu, and cuda or mps where there is one."""
    return torch.device(request.param)
