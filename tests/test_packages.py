"""Files of installed packages: found without an import, checked, and refused by name."""

import hashlib
import sys

import pytest

from tutorlib.packages import check_sha256, installed_file


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package on the path that would betray its import."""
    folder = tmp_path / "a_package_with_data"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "data" / "numbers.csv").write_bytes(b"1,2,3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "a_package_with_data"


def test_the_file_is_found_and_the_package_not_imported(package):
    sha256 = hashlib.sha256(b"1,2,3\n").hexdigest()
    assert installed_file(package, "data/numbers.csv", sha256).read_bytes() == b"1,2,3\n"
    assert installed_file(package, "data/numbers.csv").name == "numbers.csv"
    assert package not in sys.modules


def test_another_content_is_refused(package):
    with pytest.raises(ValueError, match=f"path: numbers.csv has sha256 .*; expected {'0' * 64}, .*requirements-data.txt"):
        installed_file(package, "data/numbers.csv", "0" * 64)
    found = hashlib.sha256(b"1,2,3\n").hexdigest()
    for expected in (found[:-1], found[:-1] + ("1" if found[-1] == "0" else "0"), ""):  # wrong at the end, or no sum at all
        with pytest.raises(ValueError, match=f"has sha256 {found}; expected {expected}, "):
            installed_file(package, "data/numbers.csv", expected)


def test_a_missing_file_is_named(package):
    with pytest.raises(FileNotFoundError, match="The numbers: the installed package 'a-package' has no data/letters.csv; "
                                                "expected the version that requirements-data.txt pins"):
        installed_file(package, "data/letters.csv", distribution="a-package", what="The numbers")
    with pytest.raises(FileNotFoundError, match=f"This data: the installed package '{package}' has no data; "):  # a folder
        installed_file(package, "data")


@pytest.mark.parametrize("package", ["a_package_that_is_not_there", "bisect"])  # the second is a module, and has no folder
def test_a_missing_package_is_named_as_pip_knows_it(package):
    message = "The numbers comes from the package 'pip-name', which is not installed. .*pip install --no-deps"
    with pytest.raises(ModuleNotFoundError, match=message):
        installed_file(package, "data/numbers.csv", distribution="pip-name", what="The numbers")


def test_check_sha256_accepts_the_right_sum(tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    check_sha256(path, hashlib.sha256(b"").hexdigest())
