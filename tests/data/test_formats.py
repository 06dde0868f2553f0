"""The layouts of ImageNet, COCO and Wikipedia: what is written in them comes back."""

import bz2
import io
import json
import tracemalloc

import pytest

from tutorlib.data.formats import coco_objects, image_folder, wikipedia_pages

HEAD = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo><sitename>W</sitename></siteinfo>'


def page(title, text, ns=0, redirect=False):
    moved = '<redirect title="x"/>' if redirect else ""
    return (f"<page><title>{title}</title><ns>{ns}</ns><id>1</id>{moved}<revision><id>2</id>"
            f"<text>{text}</text></revision></page>")


def test_a_folder_a_class(tmp_path):
    for name in ("n02/b.JPEG", "n02/a.JPEG", "n01/c.png", "n01/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "README").write_text("no class")
    found = image_folder(tmp_path)
    assert found.classes == ["n01", "n02"]
    assert [(path.name, number) for path, number in found.images] == [("c.png", 0), ("a.JPEG", 1), ("b.JPEG", 1)]


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="root must hold a folder a class"):
        image_folder(tmp_path)
    (tmp_path / "n01").mkdir()
    with pytest.raises(ValueError, match="got none in n01"):
        image_folder(tmp_path)


def written(path, **changed):
    given = {"images": [{"id": 9, "file_name": "a.jpg"}, {"id": 4, "file_name": "b.jpg"}],
             "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
             "annotations": [{"id": 1, "image_id": 9, "category_id": 90, "bbox": [1, 2, 3, 4]},
                             {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 5, 5]}]}
    path.write_text(json.dumps({**given, **changed}))
    return path


def test_objects_go_to_their_images_by_their_numbers(tmp_path):
    first, second = coco_objects(written(tmp_path / "instances.json"))
    assert first == ("a.jpg", [(1.0, 2.0, 3.0, 4.0), (0.0, 0.0, 5.0, 5.0)], ["toothbrush", "person"])
    assert second == ("b.jpg", [], [])


@pytest.mark.parametrize("wrong", ["image", "category"])
def test_an_unknown_number_is_refused(tmp_path, wrong):
    one = {"id": 5, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1], f"{wrong}_id": 77}
    with pytest.raises(ValueError, match=f"annotation 5 names {wrong} 77"):
        coco_objects(written(tmp_path / "instances.json", annotations=[one]))


def test_articles_come_one_by_one(tmp_path):
    text = HEAD + page("Attention", "A &amp; B") + page("Talk:Attention", "hm", ns=1) + page("Old", "", redirect=True)
    text += page("Empty", "") + "</mediawiki>"
    path = tmp_path / "dump.xml"
    path.write_text(text)
    assert [*wikipedia_pages(path)] == [("Attention", "A & B"), ("Empty", "")]
    assert [one.title for one in wikipedia_pages(path, namespace="1")] == ["Talk:Attention"]
    packed = tmp_path / "dump.xml.bz2"
    packed.write_bytes(bz2.compress(text.encode()))
    with bz2.open(packed) as file:
        assert next(wikipedia_pages(file)).title == "Attention"


def test_a_dump_is_not_kept_in_memory():
    whole = (HEAD + page("x", "word " * 2000) * 500 + "</mediawiki>").encode()  # 5 MB
    tracemalloc.start()
    assert sum(1 for _ in wikipedia_pages(io.BytesIO(whole))) == 500
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5e6


def test_a_namespace_is_a_string():
    with pytest.raises(ValueError, match="namespace must be a string, got int 0"):
        wikipedia_pages(io.BytesIO(b""), namespace=0)
