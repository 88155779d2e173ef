"""The layout that the design promises, read from the source itself."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PIPELINE = sorted((PROJECT / "pipeline").rglob("*.py"))
OURS = [
    *PIPELINE,
    PROJECT / "run_stream.py",
    *sorted((PROJECT / "training").rglob("*.py")),
    *sorted((PROJECT / "export").rglob("*.py")),
]
LONGEST_FUNCTION = 60


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PIPELINE}


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Dotted names that are imported, ``from a import b`` as ``a.b``; all imports are absolute."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(package: str, paths: list[Path]) -> set[str]:
    return {
        name_of(path)
        for path in paths
        for name in imported(ast.walk(tree(path)))
        if f"{name}.".startswith(f"{package}.")
    }


@pytest.mark.parametrize("package", ["torch", "training", "export", "onnx", "benchmarks", "tests"])
def test_the_pipeline_runs_without(package: str) -> None:
    assert importers(package, [*PIPELINE, PROJECT / "run_stream.py"]) == set()


@pytest.mark.parametrize(
    ("package", "where"),
    [
        ("zmq", {"pipeline/bus.py", "pipeline/client.py"}),
        ("multiprocessing.shared_memory", {"pipeline/frame_ring.py"}),
        ("onnxruntime", {"pipeline/onnx_session.py"}),
        ("sqlite3", {"pipeline/event_log.py"}),
        ("matplotlib", {"pipeline/evaluate/page/charts.py"}),
        ("jinja2", {"pipeline/evaluate/page/__init__.py"}),
    ],
)
def test_each_library_has_its_place(package: str, where: set[str]) -> None:
    assert importers(package, [*PIPELINE, PROJECT / "run_stream.py"]) == where


def test_only_the_clock_asks_for_the_time() -> None:
    asking = {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}
    found = set()
    for path in [*PIPELINE, PROJECT / "run_stream.py"]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                asks = node.value.id == "time" and node.attr in {*asking, "sleep"}
                asks |= node.value.id == "datetime" and node.attr in {"now", "utcnow", "today"}
                if asks:
                    found.add(name_of(path))
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                found.add(name_of(path))
    assert found == {"pipeline/clock.py", "pipeline/client.py"}


def module_level(path: Path) -> Iterator[ast.AST]:
    """Statements that run on import; what stands inside functions runs later."""
    waiting: list[ast.AST] = list(tree(path).body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def dependencies(module: str) -> set[str]:
    found = set()
    for name in imported(module_level(MODULES[module])):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name and name != module:
            found.add(name)
    return found


def test_imports_inside_the_pipeline_have_no_cycle() -> None:
    graph = {module: dependencies(module) for module in MODULES}
    graph.pop("pipeline", None)
    assert sum(map(len, graph.values())) > 50
    while graph:
        free = {module for module, needs in graph.items() if not needs & graph.keys()}
        assert free, f"a cycle among {sorted(graph)}"
        for module in free:
            del graph[module]


def test_every_function_fits_on_a_screen() -> None:
    long = [
        f"{name_of(path)}:{node.lineno} {node.name}: {lines} lines"
        for path in OURS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert long == []


def test_nothing_blind_catches_everything_but_where_it_is_said_why() -> None:
    """``except Exception`` only around onnxruntime, whose errors share no other base, and where a
    failure is kept to the camera that caused it, whatever it is."""
    found = {
        name_of(path)
        for path in PIPELINE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    }
    assert found <= {
        "pipeline/onnx_session.py",
        "pipeline/stages/inputs.py",
        "pipeline/stages/quarantine.py",
    }
