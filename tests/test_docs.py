"""The docs agree with the code: what is generated is up to date, and links lead somewhere."""

import re
import runpy
from pathlib import Path

import pytest

from tests.structure import PROJECT

PAGES = [
    *PROJECT.glob("*.md"),
    *(PROJECT / "docs").glob("*.md"),
    *(PROJECT / "examples").glob("*.md"),
    *(PROJECT / "models").glob("*/*.md"),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_the_map_names_every_module_as_its_docstring_does() -> None:
    page = (PROJECT / "docs" / "map.md").read_text(encoding="utf-8")
    put_into = runpy.run_path(str(PROJECT / "docs" / "make_map.py"))["put_into"]
    assert put_into(page) == page, "run `make schema`"


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    found = set()
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            text = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            found.add(text.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def test_the_public_face_is_what_it_promises() -> None:
    import pipeline

    for name in pipeline.__all__:
        assert getattr(pipeline, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pipeline.nonsense
