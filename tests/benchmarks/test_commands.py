"""The commands of ``python -m benchmarks``, and the table that lists them."""

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import pictures
from benchmarks.__main__ import BENCHMARKS, app, print_json, results
from benchmarks.chaos import Report, Trial
from benchmarks.ring import RingResult, Stress
from testbed.witness import Account
from tests.structure import PROJECT, module_name, tree

WITHOUT = """
import runpy, sys
for name in ("psutil", "onnx", "matplotlib"):
    sys.modules[name] = None  # an import of it fails
sys.argv = ["benchmarks", *sys.argv[1:]]
runpy.run_module("benchmarks", run_name="__main__")
"""


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_help_lists_every_benchmark_without_importing_it() -> None:
    done = python("-c", WITHOUT, "--help")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.replace("│", " ").split())
    for name, row in BENCHMARKS.items():
        assert f"{name} {row.help.split()[0]}" in words


@pytest.mark.slow
def test_a_module_that_is_not_asked_for_may_miss_its_packages() -> None:
    assert python("-c", WITHOUT, "ring", "--help").returncode == 0
    assert python("-c", WITHOUT, "soak", "--help").returncode != 0


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_command_has_help_and_its_options(name: str) -> None:
    shown = CliRunner(env={"COLUMNS": "150", "NO_COLOR": "1"}).invoke(app, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert BENCHMARKS[name].help in shown.output
    assert "--json" in shown.output
    assert ("--picture" in shown.output) == bool(BENCHMARKS[name].picture)


def test_every_module_that_measures_is_a_command() -> None:
    measuring = {
        module_name(path, PROJECT).removeprefix("benchmarks.")
        for path in (PROJECT / "benchmarks").rglob("*.py")
        if {"measure", "show"}
        <= {n.name for n in tree(path).body if isinstance(n, ast.FunctionDef)}
    }
    assert measuring == set(BENCHMARKS)


def test_every_picture_is_an_option() -> None:
    drawn = {
        name
        for name, function in inspect.getmembers(pictures, inspect.isfunction)
        if function.__module__ == pictures.__name__ and not name.startswith("_")
    }
    assert drawn == {name for name, row in BENCHMARKS.items() if row.picture}


def test_an_unknown_benchmark_is_refused() -> None:
    refused = CliRunner().invoke(app, ["rign"])
    assert refused.exit_code == 2
    assert "ring" in refused.output


@pytest.mark.slow
def test_a_quick_benchmark_prints_one_json_object() -> None:
    done = python("-m", "benchmarks", "ring", "--seconds", "1", "--reads", "1000", "--json")
    found = json.loads(done.stdout)
    assert found["benchmark"] == "ring"
    assert found["checked"]["reads"] >= 1000
    assert found["checked"]["torn"] == 0
    # On a busy machine the second run may end before an image tears.
    assert done.returncode == int(found["sequence_check_off"]["torn"] == 0), done.stderr


@pytest.mark.parametrize(("torn", "seen", "failed"), [(0, 9, False), (1, 9, True), (0, 0, True)])
def test_the_ring_fails_on_torn_images_and_on_a_check_that_finds_none(
    torn: int, seen: int, failed: bool
) -> None:
    def stress(torn: int) -> Stress:
        return Stress(1.0, 100, 50, 50, 3, torn, 5)

    assert RingResult(checked=stress(torn), sequence_check_off=stress(seen)).failed is failed


def test_a_part_of_a_result_is_printed_before_the_next_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = []

    def measure() -> Iterator[Report]:
        for run in ("stages", "cameras"):
            measured.append(run)
            yield Report(run, [Trial("kill -9 flow:0", 0.1, None)], Account(9, 0, 0, 0, 0))

    for part in results(measure()):
        print_json(part, one_line=True)
        printed = json.loads(capsys.readouterr().out)
        assert printed["run"] == measured[-1]
        assert printed["trials"] == [
            {"fault": "kill -9 flow:0", "notice_s": 0.1, "recover_s": None}
        ]
    assert measured == ["stages", "cameras"]


def test_without_data_the_flow_benchmark_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TWO_STREAM_DATA", raising=False)
    stopped = CliRunner().invoke(app, ["flow", "--json"])
    assert stopped.exit_code == 2
    assert "TWO_STREAM_DATA" in stopped.stderr
    monkeypatch.setenv("TWO_STREAM_DATA", str(tmp_path))
    stopped = CliRunner().invoke(app, ["flow", "--json"])
    assert stopped.exit_code == 2
    assert "frame10.png" in stopped.stderr
    assert stopped.stdout == ""
