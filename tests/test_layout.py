"""The layout that the design promises, read from the source itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure import (
    PROJECT,
    born_late,
    circles,
    classes,
    import_graph,
    imported,
    python_files,
    tree,
)

PIPELINE = sorted((PROJECT / "pipeline").rglob("*.py"))
OURS = python_files(
    PROJECT,
    ["pipeline", "bridges", "teach", "training", "export", "two_stream", "testbed", "benchmarks"],
)
LONGEST_FUNCTION = 60
LONGEST_CLASS = 250


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def importers(package: str, paths: list[Path]) -> set[str]:
    return {
        name_of(path)
        for path in paths
        for name in imported(ast.walk(tree(path)))
        if f"{name}.".startswith(f"{package}.")
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "package",
    [
        "torch",
        "bridges",
        "teach",
        "training",
        "export",
        "two_stream",
        "onnx",
        "testbed",
        "benchmarks",
        "tests",
    ],
)
def test_the_pipeline_runs_without(package: str) -> None:
    assert importers(package, [*PIPELINE, PROJECT / "run_stream.py"]) == set()


@pytest.mark.parametrize(
    ("package", "where"),
    [
        (
            "zmq",
            {
                "pipeline/client.py",
                "pipeline/transport/bus.py",
                "pipeline/transport/public_sockets.py",
                "pipeline/transport/sockets.py",
                "pipeline/transport/zap.py",
            },
        ),
        ("multiprocessing.shared_memory", {"pipeline/transport/frame_ring.py"}),
        ("onnxruntime", {"pipeline/model/session.py"}),
        (
            "sqlite3",
            {
                "pipeline/evidence/render.py",
                "pipeline/evidence/store.py",
                "pipeline/memory/store.py",
                "pipeline/public/event_log.py",
                "pipeline/public/evidence_log.py",
                "pipeline/public/log_reader.py",
                "pipeline/public/row_ages.py",
                "pipeline/reviews/store.py",
                "pipeline/stages/evidence_worker.py",
                "pipeline/stages/memory.py",
            },
        ),
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


@pytest.mark.slow
def test_imports_have_no_circle_wherever_they_stand() -> None:
    assert circles(import_graph(PROJECT)) == []


ROOMS = (
    ("run", "backtest", "reviews"),
    ("stages", "evaluate"),
    ("topology",),
    ("decision", "evidence", "memory"),
    ("public",),
    ("config",),
    ("steps",),
    ("people",),
    ("sources", "flow", "transport"),
    ("model",),
    ("pictures",),
    ("clock", "errors", "arrays", "program"),
)
"""The rooms of ``pipeline/`` from the top down. A room imports itself and what stands below it;
rooms that stand side by side don't import each other."""
DOORS = ("", "client", "keys", "subscribe")
"""Modules at the paths that users were promised; nothing imports them."""


def room(module: str) -> str:
    """The room of a module: the part of its name after ``pipeline.``."""
    return module.split(".")[1] if "." in module else ""


def test_rooms_import_only_what_stands_below_them() -> None:
    floor = {name: number for number, row in enumerate(ROOMS) for name in row}
    wrong = []
    for module, needs in import_graph(PROJECT, ["pipeline"]).items():
        for needed in needs:
            here, there = room(module), room(needed)
            if here == there or here in DOORS or module == "run_stream":
                continue
            if there in DOORS or floor[here] >= floor[there]:
                wrong.append(f"{module} imports {needed}")
    assert wrong == []


def test_every_room_is_known() -> None:
    known = {*DOORS, "run_stream", *(name for row in ROOMS for name in row)}
    assert {room(module) or module for module in import_graph(PROJECT, ["pipeline"])} - known == {
        "pipeline"
    }


PACKAGES = (
    ("tests",),
    ("benchmarks",),
    ("testbed",),
    ("two_stream",),
    ("bridges",),
    ("export",),
    ("training",),
    ("teach",),
    ("pipeline",),
)
"""The packages of the project from the top down."""


@pytest.mark.slow
def test_packages_import_only_what_stands_below_them() -> None:
    floor = {name: number for number, row in enumerate(PACKAGES) for name in row}
    wrong = [
        f"{module} imports {needed}"
        for module, needs in import_graph(PROJECT).items()
        for needed in needs
        if (here := module.partition(".")[0]) in floor
        and floor[here] > floor.get(needed.partition(".")[0], len(floor))
    ]
    assert wrong == []


@pytest.mark.slow
def test_every_class_fits_in_a_head() -> None:
    long = [
        f"{name_of(one.path)} {one.name}: {one.lines} lines"
        for one in classes(OURS)
        if one.lines > LONGEST_CLASS
    ]
    assert long == []


@pytest.mark.slow
def test_objects_are_whole_when_they_are_made() -> None:
    assert born_late(OURS) == []


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
    """``except Exception`` only around onnxruntime, whose errors share no other base, where a
    failure is kept to the camera that caused it, whatever it is, for the last words of a stage
    and of the program, and where the same import is done once more to say what is wrong."""
    found = {
        name_of(path)
        for path in PIPELINE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    }
    assert found <= {
        "pipeline/model/session.py",
        "pipeline/run/command_line.py",
        "pipeline/run/fork_server_process.py",
        "pipeline/run/stage_process.py",
        "pipeline/stages/step_stage.py",
        "pipeline/stages/quarantine.py",
    }


@pytest.mark.slow
def test_the_supervisor_loads_nothing_that_only_stages_need() -> None:
    """It lives as long as the run, and every stage's start waits for it."""
    program = "import pipeline.run.command_line, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"cv2", "onnxruntime", "av", "asyncio", "onnx", "torch", "matplotlib"}
