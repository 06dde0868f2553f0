"""The workflow asks for what the package promises, and for files and folders that are there."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
JOBS = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf8"))["jobs"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]


def said(job: str) -> str:
    return "\n".join(step.get("run", "") for step in JOBS[job]["steps"])


def test_the_quick_tests_run_on_three_systems_from_the_oldest_python():
    matrix = JOBS["quick"]["strategy"]["matrix"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"][0] == PROJECT["requires-python"].removeprefix(">=") and len(matrix["python"]) == 3
    assert '-m "not slow"' in said("quick")


def test_the_oldest_versions_are_those_that_are_promised():
    for name, version in (promise.split(">=") for promise in PROJECT["dependencies"]):
        assert f'"{name}=={version}.*"' in said("oldest")


def test_every_file_that_the_jobs_name_is_there():
    named = {name for job in JOBS for name in re.findall(r"(?<![\w/])(requirements[\w-]*\.txt|tests(?:/\w+)?)\b", said(job))}
    assert len(named) > 4 and all((ROOT / name).exists() for name in named)
