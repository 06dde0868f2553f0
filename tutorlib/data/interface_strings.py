"""English and Chinese of one program: the strings of JupyterLab's menus and messages, with their translation by volunteers.

The files are read by path from the installed package `jupyterlab-language-pack-zh-CN`, which is never imported. Kept are
strings of at most 60 characters with a letter in them, whose translation has a Chinese character. Strings that differ only in
case, blanks or punctuation ("Save", "Save...") form a group and lie in the same part.
"""

import json
import re
from typing import NamedTuple

from tutorlib.arguments import check_whole
from tutorlib.data.splits import split_by_group
from tutorlib.packages import check_files_sha256, installed_file

PACKAGE = "jupyterlab_language_pack_zh_CN"
NAMES = ("jupyterlab notebook retrolab jupyterlab_git jupyterlab_lsp jupyterlab_tour jupyterlab_widgets jupyterlab_recents "
         "jupyterlab_search_replace jupyterlab_spreadsheet_editor jupyter_archive jupyter_collaboration "
         "jupyter_resource_usage jupytext nbdime spellchecker dask_labextension").split()
SHA256 = "67ecd146849d28559a75b9b0dc04a2da402018ea30a80ec757e30ec266a9d9b2"  # 4.5.post3
LONGEST = 60  # characters of a source


class Pair(NamedTuple):
    """An English string and its Chinese translation. %1, %2 stand for what the program fills in."""

    source: str
    target: str


class Splits(NamedTuple):
    """Three disjoint lists; strings of one group (see `group_of`) lie in the same list."""

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]


def load_interface_strings(longest: int = LONGEST) -> Splits:
    """The pairs, split by group: about 75 % train, 5 % valid, 20 % test.

    Where files translate a string differently the first of `NAMES` decides, and of plural forms the first. Raises
    ModuleNotFoundError where the package is missing, FileNotFoundError where it lacks a file, ValueError where the files are
    not the expected ones, and for `longest` below 1.
    """
    check_whole("longest", longest)
    paths = [installed_file(PACKAGE, f"locale/zh_CN/LC_MESSAGES/{name}.json", distribution="jupyterlab-language-pack-zh-CN",
                            what="The interface strings") for name in NAMES]
    check_files_sha256(paths, SHA256, "the interface strings", "jupyterlab-language-pack-zh-CN 4.5.post3")
    pairs: dict[str, str] = {}
    for path in paths:
        for source, target in _read(json.loads(path.read_text(encoding="utf-8"))):
            if len(source) <= longest:
                pairs.setdefault(source, target)
    return split([Pair(*pair) for pair in pairs.items()])


def _read(entries: dict) -> list[tuple[str, str]]:
    """The pairs of a file: 'context' U+0004 'source' -> one form, or several by number; blanks made one."""
    found = []
    for key, value in entries.items():
        source = " ".join(key.split("\x04")[-1].split())
        forms = value if isinstance(value, list) else [value]
        target = " ".join(forms[0].split()) if key and forms else ""  # the empty key holds the file's description
        if re.search("[a-zA-Z]", source) and re.search("[\u4e00-\u9fff]", target):
            found.append((source, target))
    return found


def group_of(source: str) -> str:
    """What is left without case, blanks and punctuation: letters and digits."""
    return re.sub("[^a-z0-9]", "", source.lower())


def split(pairs: list[Pair], valid: float = 0.05, test: float = 0.2) -> Splits:
    """Split by group: each goes where the sha256 of its name says, whatever else is in the list.

    Raises ValueError where `valid` and `test` are no shares of a whole.
    """
    return Splits(*split_by_group(pairs, lambda pair: group_of(pair.source), valid=valid, test=test))


def string_words(text: str) -> list[str]:
    """What a translator reads: words in small letters, each digit and each other sign alone; %1 is one word."""
    return re.findall(r"%\d|[a-z]+|\d|[^\sa-z\d]", text.lower())
