"""How the wheel differs from a checkout: everything lies below one name, ``two_stream``.

A checkout has ``pipeline/``, ``bridges/``, ``teach/``, ``training/``, ``export/`` and
``run_stream.py`` at its top. They are imported by these names, and an editable install keeps that.
Installed among other people's packages, such names would collide. So a build puts them below
``two_stream``, changes the imports to match, and adds the packs and example configs. All else about
the project is in pyproject.toml.
"""

import ast
import re
import shutil
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info
from setuptools.errors import SetupError

NAME = "two_stream"
PACKAGES = ("pipeline", "bridges", "teach", "training", "export")
PROGRAM = "run_stream"
DATA = {"models": ["*/*"], "configs": ["*.yaml", "schema.json", "train/*.yaml"]}
"""Folder → its files, as patterns. They lie beside ``pipeline`` in both layouts."""

_MOVED = (*PACKAGES, PROGRAM)
_FROM = re.compile(rb"from[ \t]+(?=\w)")


def moved(source: bytes, file: str) -> bytes:
    """A module's source with its imports of the project changed to ``two_stream.…``.

    Only import statements change, at the places where the parser found them. Raises
    :class:`SetupError` for a form that can't be changed without changing its meaning.
    """
    edits = []  # (line, column in bytes, text to insert)
    for node in ast.walk(ast.parse(source, file)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _ours(node.module or ""):
            line = source.splitlines(keepends=True)[node.lineno - 1]
            start = _FROM.match(line, node.col_offset)
            if start is None:
                raise SetupError(f"{file}:{node.lineno}: write `from` and its module on one line")
            edits.append((node.lineno, start.end(), f"{NAME}."))
        elif isinstance(node, ast.Import):
            for alias in filter(lambda alias: _ours(alias.name), node.names):
                if alias.asname is None and "." in alias.name:
                    raise SetupError(
                        f"{file}:{node.lineno}: `import {alias.name}` binds "
                        f"{alias.name.partition('.')[0]}, which the wheel doesn't have; "
                        "use `from … import …`"
                    )
                edits.append((alias.lineno, alias.col_offset, f"{NAME}."))
                if alias.asname is None:
                    end = (alias.end_lineno or 0, alias.end_col_offset or 0)
                    edits.append((*end, f" as {alias.name}"))
    lines = source.splitlines(keepends=True)
    for number, column, text in sorted(edits, reverse=True):
        line = lines[number - 1]
        lines[number - 1] = line[:column] + text.encode() + line[column:]
    return b"".join(lines)


def _ours(module: str) -> bool:
    return module.partition(".")[0] in _MOVED


class BuildBelowOneName(build_py):
    """``build_py``, with :data:`PACKAGES`, :data:`PROGRAM` and :data:`DATA` below :data:`NAME`."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.editable_mode:
            return
        inner = [name for name in self.packages or () if name.partition(".")[0] in PACKAGES]
        below = {f"{NAME}.{name}": name for name in (*inner, *DATA)}
        self.packages = [NAME, *below]
        self.package_dir |= {name: folder.replace(".", "/") for name, folder in below.items()}
        files = {**self.package_data, **DATA}
        self.package_data = {f"{NAME}.{name}": files[name] for name in files}
        self.py_modules = None
        self.force = True  # a file of an earlier build is already changed, and may be newer

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found = super().find_package_modules(package, package_dir)  # type: ignore[no-untyped-call]
        return [*found, (NAME, PROGRAM, f"{PROGRAM}.py")] if package == NAME else found

    def build_module(self, module: str, module_file: str, package: str) -> Any:
        out, copied = super().build_module(  # type: ignore[no-untyped-call]
            module, module_file, package
        )
        if package.partition(".")[0] == NAME:
            Path(out).write_bytes(moved(Path(module_file).read_bytes(), module_file))
        return out, copied

    def run(self) -> None:
        if not self.editable_mode:
            # What an earlier build left here would get into the wheel, too.
            for name in (NAME, *PACKAGES, "testbed", "benchmarks"):
                shutil.rmtree(Path(self.build_lib) / name, ignore_errors=True)
            (Path(self.build_lib) / f"{PROGRAM}.py").unlink(missing_ok=True)
        super().run()


class MetadataOfOneName(egg_info):
    """``egg_info``, which says that :data:`NAME` is all there is to import."""

    def write_file(self, what: str, filename: str, data: str) -> None:
        if Path(filename).name == "top_level.txt":
            data = f"{NAME}\n"
        super().write_file(what, filename, data)


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildBelowOneName, "egg_info": MetadataOfOneName})
