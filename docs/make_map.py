"""Writes the generated part of docs/map.md: one line a module, from the modules' docstrings.

``python docs/make_map.py``
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PROJECT = DOCS.parent
BEGIN, END = "<!-- generated: the modules -->", "<!-- end of what is generated -->"
# From the top down: a room imports itself and what comes after it.
ROOMS = (
    "run", "run/outputs", "backtest", "reviews", "stages", "evaluate", "evaluate/page", "decision",
    "evidence", "memory", "public", "config", "steps", "people", "sources", "flow", "transport",
    "model",
)  # fmt: skip
PACKAGES = (
    "two_stream", "bridges", "training", "training/flow", "export", "export/base", "export/people",
    "testbed", "benchmarks", "benchmarks/peers",
)  # fmt: skip


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring, as Markdown."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    first = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", first)
    return first.replace("``", "`").replace("|", "\\|").rstrip(":.") + "."


def _table(folder: Path) -> Iterator[str]:
    yield "| module | what it is |"
    yield "|---|---|"
    for path in sorted(folder.glob("*.py")):
        if path.stem != "__init__":
            yield f"| [{path.name}](../{path.relative_to(PROJECT)}) | {summary(path)} |"
    yield ""


def modules() -> str:
    """A table for the doors of ``pipeline/``, for each room, and for each other package."""
    parts = ["### pipeline: what users and every room know\n", *_table(PROJECT / "pipeline")]
    for room in ROOMS:
        folder = PROJECT / "pipeline" / room
        parts += [f"### pipeline/{room}\n", f"{summary(folder / '__init__.py')}\n", *_table(folder)]
    for package in PACKAGES:
        folder = PROJECT / package
        parts += [f"### {package}\n", f"{summary(folder / '__init__.py')}\n", *_table(folder)]
    return "\n".join(parts)


def put_into(page: str) -> str:
    """``page`` with what stands between the markers made again."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{modules()}\n{END}{tail}"


if __name__ == "__main__":
    path = DOCS / "map.md"
    path.write_text(put_into(path.read_text(encoding="utf-8")), encoding="utf-8")
