"""Each thing that the site check reports is found on a small broken site, and not on a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import check_site

GOOD = """<!DOCTYPE html><html lang="en"><head><title>A page</title><link rel="stylesheet" href="style.css"></head>
<body><h1 id="top">A page</h1><a href="#top">up</a> <a href="other.html#part">there</a> <a href="https://example.org">out</a>
<img src="dot.svg" alt="A dot in the middle"></body></html>"""
OTHER = '<!DOCTYPE html><html lang="en"><head><title>Other</title></head><body><p id="part">x</p></body></html>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text(GOOD)
    (tmp_path / "other.html").write_text(OTHER)
    (tmp_path / "style.css").write_text("body { background: url(dot.svg) }")
    (tmp_path / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    return tmp_path


def change(site: Path, old: str, new: str) -> list[str]:
    page = site / "index.html"
    assert old in page.read_text()
    page.write_text(page.read_text().replace(old, new))
    return check_site.findings(site)


def test_a_whole_site_has_no_findings(site: Path, capsys) -> None:
    assert check_site.findings(site) == []
    assert check_site.main([str(site)]) == 0
    assert "2 pages checked, 0 problems" in capsys.readouterr().out


OUTSIDE = "from outside the site"
MISSING = "which does not exist"
BROKEN = [
    ("</body>", '<script src="https://cdn.example.org/a.js"></script></body>', OUTSIDE),
    ("</body>", '<script src="//cdn.example.org/a.js"></script></body>', OUTSIDE),
    ("style.css", "https://fonts.example.org/style.css", OUTSIDE),
    ("</head>", '<link rel="preconnect" href="https://fonts.example.org"></head>', OUTSIDE),
    ("</head>", "<style>@import 'https://fonts.example.org/x.css';</style></head>", OUTSIDE),
    ("dot.svg", "https://example.org/dot.svg", OUTSIDE),
    ("<img ", '<img srcset="https://example.org/dot.svg 2x" ', OUTSIDE),
    ("</body>", '<script>fetch("https://example.org/data.json")</script></body>', OUTSIDE),
    ("</body>", '<script>const THEBE_JS_URL = "https://example.org/thebe.js"</script></body>', OUTSIDE),
    ("</body>", '<p style="background: url(https://example.org/x.png)">x</p></body>', OUTSIDE),
    ("</body>", '<iframe src="https://example.org"></iframe></body>', OUTSIDE),
    ("dot.svg", "gone.svg", MISSING),
    ("other.html#part", "gone.html", MISSING),
    ("other.html#part", "../other.html", MISSING),
    ("other.html#part", "other.html#gone", "no such anchor"),
    ("#top", "#bottom", "no such anchor"),
    (' alt="A dot in the middle"', "", "no alternative text"),
    ("A dot in the middle", " ", "empty alternative text"),
    ("A dot in the middle", "dot.svg", "a file name as alternative text"),
    ("</body>", '<p id="top">again</p></body>', "the id 'top' is used 2 times"),
    (' lang="en"', "", "no lang attribute"),
    ("<title>A page</title>", "", "no title"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN)
def test_each_fault_is_found(site: Path, old: str, new: str, message: str) -> None:
    found = change(site, old, new)
    assert len(found) == 1
    assert found[0].startswith("index.html: ")
    assert message in found[0]


def test_style_sheets_are_read(site: Path) -> None:
    (site / "style.css").write_text("@font-face { src: url('https://fonts.example.org/a.woff2') }")
    assert [line for line in check_site.findings(site) if "style.css: loads" in line and OUTSIDE in line]


def test_a_heavy_page_is_found_and_the_exit_code_says_so(site: Path, capsys) -> None:
    (site / "dot.svg").write_text("x" * 2_000_000)
    assert check_site.main([str(site), "--heaviest", "1"]) == 1
    assert "2.0 MB with what it loads" in capsys.readouterr().err


def test_an_image_for_decoration_needs_no_words(site: Path) -> None:
    assert change(site, 'alt="A dot in the middle"', 'alt="" role="presentation"') == []


def test_an_empty_folder_is_not_a_site(tmp_path: Path) -> None:
    assert check_site.main([str(tmp_path)]) == 1
