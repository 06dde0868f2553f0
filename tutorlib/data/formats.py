"""Three layouts in which data sets come: folders of images as ImageNet has them, COCO's JSON, Wikipedia's XML dump.

Nothing is fetched. Each reader takes files as those sites write them and keeps what a course needs of them.
"""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from tutorlib.arguments import check_string

IMAGES = {".jpeg", ".jpg", ".png"}


class ImageFolder(NamedTuple):
    """The names of the classes in order, and one pair (file, place of its class) an image."""

    classes: list[str]
    images: list[tuple[Path, int]]


class Annotated(NamedTuple):
    """An image of COCO: its file's name, boxes (x, y, width, height) in pixels, and the names of what is in them."""

    file: str
    boxes: list[tuple[float, float, float, float]]
    names: list[str]


class Page(NamedTuple):
    """A page of Wikipedia: its title and its text in wiki markup."""

    title: str
    text: str


def image_folder(root: Path) -> ImageFolder:
    """ImageNet's layout: a folder a class, named by its WordNet number, such as n01440764, and in it the class's images.

    Classes are numbered in the order of their names, files follow theirs. Raises ValueError where there is no folder, or one
    that has no image.
    """
    folders = sorted(path for path in Path(root).iterdir() if path.is_dir())
    if not folders:
        raise ValueError(f"root must hold a folder a class, got none in {root}")
    images = []
    for number, folder in enumerate(folders):
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
        if not files:
            raise ValueError(f"each class must have an image ({', '.join(sorted(IMAGES))}), got none in {folder.name}")
        images += [(path, number) for path in files]
    return ImageFolder([folder.name for folder in folders], images)


def coco_objects(path: Path) -> list[Annotated]:
    """The images of a file of COCO's detection annotations in its order, those without an object too.

    An object's category is a number with gaps (COCO's 80 categories end at 90), so it is looked up and never counted.
    Raises ValueError where an annotation names an image or a category that the file has not.
    """
    with Path(path).open(encoding="utf-8") as file:
        found = json.load(file)
    names = {each["id"]: each["name"] for each in found["categories"]}
    images = {each["id"]: Annotated(each["file_name"], [], []) for each in found["images"]}
    for each in found["annotations"]:
        for kind, number, known in (("image", each["image_id"], images), ("category", each["category_id"], names)):
            if number not in known:
                raise ValueError(f"annotation {each['id']} names {kind} {number}, which the file has not")
        images[each["image_id"]].boxes.append(tuple(map(float, each["bbox"])))
        images[each["image_id"]].names.append(names[each["category_id"]])
    return list(images.values())


def wikipedia_pages(file: Path | IO[bytes], namespace: str = "0") -> Iterator[Page]:
    """The pages of a dump one after the other, however large it is: what was read of a page is let go before the next.

    `namespace` 0 holds the articles. Redirects are left out. The file may be one that `bz2.open` gives. Raises ValueError for
    a namespace that is no string.
    """
    check_string("namespace", namespace)
    return _pages(str(file) if isinstance(file, Path) else file, namespace)


def _pages(file: str | IO[bytes], namespace: str) -> Iterator[Page]:
    root = None
    for event, element in ElementTree.iterparse(file, events=("start", "end")):
        if root is None:
            root = element
        if event == "start" or _plain(element.tag) != "page":
            continue
        parts = {_plain(part.tag): part for part in element.iter()}
        if parts["ns"].text == namespace and "redirect" not in parts:
            yield Page(parts["title"].text, parts["text"].text or "")
        root.clear()  # a page that is done must not stay in the tree


def _plain(tag: str) -> str:
    """The name of an element without its name space, which changes with the version of the format."""
    return tag.rpartition("}")[2]
