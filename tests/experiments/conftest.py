"""What tests of an experiment share: its script, run as a module, and its record, named TOOL and RECORD in each test file."""

import json
import runpy

import pytest


@pytest.fixture(scope="module")
def program(request: pytest.FixtureRequest) -> dict:
    """What the script defines."""
    return runpy.run_path(str(request.module.TOOL))


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest) -> dict:
    return json.loads(request.module.RECORD.read_text())
