import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "sphinx_ext"))
from fold_names import name_of


@pytest.mark.parametrize("code, name", [
    ("# check\nassert 1", "Check"),
    ("# data: every test word\nx = 1", "Data: every test word"),
    ("check.solution(3)", "Solution"),
    ("check(3, mine)", None),
    ("x = 1  # check", None),
    ("#\nx = 1", None),
    ("", None),
])
def test_a_fold_bears_the_comment_of_its_first_line(code, name):
    assert name_of(code) == name
