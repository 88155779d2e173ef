"""The structure of the source, measured: ``python -m tests.structure [FOLDER]`` prints it.

Read from the syntax trees alone; nothing is imported. Imports inside functions count, for they are
arrows too: a circle that is hidden in a function is a circle.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "pipeline",
    "bridges",
    "teach",
    "training",
    "export",
    "two_stream",
    "testbed",
    "benchmarks",
    "tests",
)
TESTS = ("tests",)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = Mapping[str, frozenset[str]]


class Class(NamedTuple):
    """A class: its place and its length."""

    path: Path
    name: str
    lines: int


class Attribute(NamedTuple):
    """An attribute that no constructor of its class sets, and the method that does."""

    path: Path
    cls: str
    method: str
    name: str


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def python_files(root: Path, packages: Iterable[str] = PACKAGES) -> list[Path]:
    """Every Python file of the project's packages, and the program itself."""
    found = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    return [*found, root / "run_stream.py"]


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Dotted names that are imported, ``from a import b`` as ``a.b``; all imports are absolute."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(root: Path, packages: Iterable[str] = PACKAGES) -> Graph:
    """Module → the modules of the project that it imports, anywhere in the file."""
    paths = {module_name(path, root): path for path in python_files(root, packages)}
    graph = {}
    for module, path in paths.items():
        found = set()
        for name in imported(ast.walk(tree(path))):
            while name and name not in paths:
                name = name.rpartition(".")[0]
            if name and name != module:
                found.add(name)
        graph[module] = frozenset(found)
    return graph


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules that import each other, by Tarjan's algorithm (SIAM J. Comput. 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for needed in graph[module]:
            if needed not in index:
                visit(needed)
            if needed in stack:
                low[module] = min(low[module], low[needed])
        if low[module] == index[module]:
            place = stack.index(module)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return sorted(found)


def depth(graph: Graph) -> list[str]:
    """The longest chain of imports, from the top down; modules of a circle count once each."""
    member = {module: tuple(group) for group in circles(graph) for module in group}

    @cache
    def chain(module: str) -> tuple[str, ...]:
        group = member.get(module, (module,))
        below = {needed for one in group for needed in graph[one] if needed not in group}
        chains = [chain(needed) for needed in sorted(below)]
        return (*group, *(max(chains, key=len) if chains else ()))

    return max((list(chain(module)) for module in sorted(graph)), key=len)


def classes(paths: Iterable[Path]) -> list[Class]:
    """Every class, the longest first."""
    found = [
        Class(path, node.name, (node.end_lineno or 0) - node.lineno + 1)
        for path in paths
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    ]
    return sorted(found, key=lambda one: -one.lines)


def _assigned(function: Function) -> Iterator[str]:
    """Attributes of ``self`` that a function assigns."""
    for node in ast.walk(function):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.For):
            targets = [node.target]
        elif isinstance(node, ast.With):
            targets = [item.optional_vars for item in node.items if item.optional_vars]
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
            for part in parts:
                if (
                    isinstance(part, ast.Attribute)
                    and isinstance(part.value, ast.Name)
                    and part.value.id == "self"
                ):
                    yield part.attr


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(one) for one in node.decorator_list)


def _class_level(node: ast.ClassDef) -> set[str]:
    """Names that the class itself declares or sets, properties among them."""
    found = set()
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            found |= {one.id for one in statement.targets if isinstance(one, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if statement.value is not None:
                found.add(statement.target.id)
        elif isinstance(statement, Function):
            found.add(statement.name)
    return found


def _classes_by_name(paths: Iterable[Path]) -> dict[str, ast.ClassDef]:
    return {
        node.name: node
        for path in paths
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }


def _born(node: ast.ClassDef, known: Mapping[str, ast.ClassDef]) -> set[str]:
    """Attributes that an object has when its constructor returns, those of its bases included."""
    found = _class_level(node)
    for statement in node.body:
        if isinstance(statement, Function) and statement.name in ("__init__", "__new__"):
            found |= set(_assigned(statement))
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        if name in known and known[name] is not node:
            found |= _born(known[name], known)
    return found


def born_late(paths: Iterable[Path]) -> list[Attribute]:
    """Attributes that are born outside ``__init__``, in classes that are no dataclasses."""
    paths = list(paths)
    known = _classes_by_name(paths)
    found = []
    for path in paths:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ClassDef) or _is_dataclass(node):
                continue
            born = _born(node, known)
            for method in node.body:
                if isinstance(method, Function):
                    for name in _assigned(method):
                        if name not in born:
                            born.add(name)
                            found.append(Attribute(path, node.name, method.name, name))
    return found


def comments_per_hundred_lines(paths: Iterable[Path]) -> float:
    """Comment lines in a hundred lines of code; blank lines and docstrings count as neither."""
    comments = code = 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                comments += not re.match(r"#\s*(fmt|type|noqa|ruff|pragma|!)", token.string)
            elif token.type not in _LAYOUT:
                lines |= set(range(token.start[0], token.end[0] + 1))
        code += len(lines - _docstring_lines(path))
    return 100 * comments / code


_LAYOUT = (
    tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
)  # fmt: skip


def _docstring_lines(path: Path) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree(path)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            found |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def flat_modules(root: Path) -> int:
    """Modules that lie in ``pipeline/`` itself, in none of its rooms."""
    return len([path for path in (root / "pipeline").glob("*.py") if path.stem != "__init__"])


def callers(paths: Iterable[Path], name: str, root: Path) -> list[str]:
    """Modules that call the function or method ``name``."""
    found = set()
    for path in paths:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                function = node.func
                called = function.attr if isinstance(function, ast.Attribute) else None
                called = function.id if isinstance(function, ast.Name) else called
                if called == name:
                    found.add(module_name(path, root))
    return sorted(found)


def main(root: Path) -> None:
    """Print the figures of a checkout."""
    packages = [package for package in PACKAGES if (root / package).is_dir()]
    shipped = python_files(root, [name for name in packages if name not in TESTS])
    graph = import_graph(root, packages)
    inner = import_graph(root, ["pipeline"])
    print(f"modules that stand flat in pipeline/: {flat_modules(root)}")
    for name, which in (("pipeline", inner), ("everything", graph)):
        chain = depth(which)
        print(f"import depth, {name}: {len(chain)} ({' > '.join(chain)})")
        print(f"import circles, {name}: {len(circles(which))}")
        for group in circles(which):
            print(f"  {', '.join(group)}")
    print("longest classes:")
    for one in classes(shipped)[:5]:
        print(f"  {one.lines} {one.path.relative_to(root)} {one.name}")
    late = born_late(shipped)
    print(f"attributes born outside __init__: {len(late)}")
    for place in late:
        print(f"  {place.path.relative_to(root)} {place.cls}.{place.method}: {place.name}")
    for what in ("gray_for_flow", "gray_for_flow", "flow_input", "spatial_input", "score_windows"):
        print(f"callers of {what}: {', '.join(callers(shipped, what, root)) or '–'}")
    print(f"comments in a hundred lines of code: {comments_per_hundred_lines(shipped):.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PROJECT)
