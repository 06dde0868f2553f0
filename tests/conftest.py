"""Fixtures for all tests: every device that the machine has, and one browser."""

import os

import pytest
import torch
from hypothesis import settings

from tools.browser import FLAGS, NAMES, find_browser
from tutorlib.device import available_devices

settings.register_profile("course", deadline=None, derandomize=True)  # the same drawn configs on every machine
settings.load_profile("course")


@pytest.fixture(params=[str(device) for device in available_devices()])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn: cpu, and cuda or mps where there is one."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def chromium():
    """The system's Chromium, started once."""
    executable = find_browser()
    if executable is None:
        reason = f"no Chromium found (looked for {', '.join(NAMES)}): the pages were not opened in a browser"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        yield launched
        launched.close()
