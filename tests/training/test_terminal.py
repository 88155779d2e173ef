"""Progress where there is no terminal, and a run whose output nobody reads any more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.clock import HandClock
from training.terminal import EVERY_S, Lines

ROOT = Path(__file__).parents[2]


def lines_of(clock: HandClock) -> tuple[Lines, list[str]]:
    said: list[str] = []
    return Lines(said.append, lambda: clock.monotonic_ns() / 1e9), said


def test_progress_is_a_line_now_and_then_with_the_time_that_is_left() -> None:
    clock = HandClock()
    lines, said = lines_of(clock)
    with lines as bar:
        task = bar.add_task("fold0", total=900)
        for iteration in range(1, 901):
            clock.sleep(1.0)
            bar.update(task, completed=iteration, note="loss 1.234")
    assert said[0] == "fold0: 0 of 900"
    assert said[1] == "fold0: 10 of 900, loss 1.234, 15 min left"
    assert said[-2] == "fold0: 890 of 900, loss 1.234, 10 s left"
    assert said[-1] == "fold0: 900 of 900, loss 1.234"
    assert len(said) == 1 + 900 / EVERY_S


def test_a_resumed_task_does_not_count_what_was_done_before() -> None:
    clock = HandClock()
    lines, said = lines_of(clock)
    task = lines.add_task("final", total=1000, completed=900)
    for iteration in range(901, 911):
        clock.sleep(60.0)
        lines.update(task, completed=iteration, note="")
    assert said[0] == "final: 900 of 1000"
    assert said[-1] == "final: 910 of 1000, 1.5 h left"


def test_a_quick_task_has_a_beginning_and_an_end() -> None:
    lines, said = lines_of(HandClock())
    task = lines.add_task("clips", total=3)
    for _ in range(3):
        lines.advance(task)
    lines.update(lines.add_task("nothing", total=0), completed=0, note="")
    assert said == ["clips: 0 of 3", "clips: 3 of 3", "nothing: 0 of 0"]


PROGRAM = """
import sys
from training.terminal import console, print_line, progress_bar
with progress_bar() as bar:
    task = bar.add_task("fold0", total=100_000)
    for n in range(100_000):
        bar.advance(task)
    for n in range(5000):
        print_line(f"line {n} " + "\\udcff" + "x" * 100)
    console.print("markup [bold]here")
with open(sys.argv[1], "w") as file:
    file.write("finished")
"""


def run(tmp_path: Path, stderr: int, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "end")],
        cwd=ROOT, stderr=stderr, text=True, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.slow
def test_a_pipe_gets_lines_and_no_escapes(tmp_path: Path) -> None:
    done = run(tmp_path, subprocess.PIPE)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert lines[:2] == ["fold0: 0 of 100000", "fold0: 100000 of 100000"]
    assert "\x1b" not in done.stderr
    assert len(lines) == 5003


@pytest.mark.slow
def test_other_encodings_get_what_they_can_show(tmp_path: Path) -> None:
    done = run(tmp_path, subprocess.PIPE, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0
    assert "line 4999 ?xxx" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("end", ["closed pipe", "full disk", "closed"])
def test_a_run_goes_on_when_nobody_reads_it(tmp_path: Path, end: str) -> None:
    if end == "closed":
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / "end")]
        done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *words], cwd=ROOT, timeout=120)
        code = done.returncode
    elif end == "full disk":
        with open("/dev/full", "w") as full:
            code = run(tmp_path, full.fileno()).returncode
    else:
        reader, writer = os.pipe()
        os.close(reader)
        code = run(tmp_path, writer).returncode
        os.close(writer)
    assert code == 0
    assert (tmp_path / "end").read_text() == "finished"
