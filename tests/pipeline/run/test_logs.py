"""The log: one record is one record, and all of them bear UTC times."""

import json
import logging
import os
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from pipeline.run.logs import LONGEST_BYTES, JsonForm, LogForm, TextForm
from pipeline.topology import StageSpec
from tests.structure import PROJECT

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
CAPTURE = StageSpec("capture", "door", ("door",))
FLOW = StageSpec("flow", "1", ("door", "yard"))
FUSION = StageSpec("fusion", "", ("door", "yard"))


def record(message: str, *args: object, error: bool = False) -> logging.LogRecord:
    trace = None
    if error:
        try:
            raise KeyError("nothing")
        except KeyError:
            trace = sys.exc_info()
    made = logging.LogRecord("lib", logging.WARNING, "lib.py", 1, message, args, trace)
    made.created = 1795341600.12
    return made


def as_json(made: logging.LogRecord, spec: StageSpec | None = None) -> dict[str, Any]:
    line = JsonForm(spec).format(made)
    assert "\n" not in line
    assert len(line.encode()) < LONGEST_BYTES
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        (None, {"stage": "supervisor"}),
        (CAPTURE, {"stage": "capture", "camera": "door"}),
        (FLOW, {"stage": "flow", "worker": "1"}),
        (FUSION, {"stage": "fusion"}),
    ],
)
def test_a_record_names_its_place(spec: StageSpec | None, place: dict[str, str]) -> None:
    assert as_json(record("it has %d steps", 3), spec) == {
        "time": "2026-11-22T10:00:00.120Z",
        "level": "WARNING",
        **place,
        "logger": "lib",
        "message": "it has 3 steps",
    }


def test_a_record_names_its_camera_where_it_has_one() -> None:
    assert as_json(record("camera %s is %s", "yard", "online"))["camera"] == "yard"
    assert "camera" not in as_json(record("cameras: %s", "yard"))
    assert "camera" not in as_json(record("camera %s"))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_times_are_utc_wherever_it_runs(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert TextForm(CAPTURE).format(record("hello")) == (
            "2026-11-22T10:00:00.120Z WARNING capture:door hello"
        )
        assert as_json(record("hello"))["time"] == "2026-11-22T10:00:00.120Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_has_several_lines_stays_one_record() -> None:
    made = record("one\ntwo\r\nthree", error=True)
    found = as_json(made)
    assert found["message"] == "one\ntwo\r\nthree"
    assert found["exception"].startswith("Traceback")
    assert found["exception"].endswith("KeyError: 'nothing'")
    first, *others = TextForm().format(made).split("\n")
    assert first == "2026-11-22T10:00:00.120Z WARNING one"
    assert all(line.startswith("    ") for line in others)


@pytest.mark.parametrize("character", ["\x1b", "\r", "\x00", "\x07", "\x9b", "\x7f"])
def test_a_camera_can_not_write_to_the_terminal(character: str) -> None:
    text = TextForm().format(record("camera %s says %s", "door", f"a{character}[31mb"))
    assert character not in text
    assert f"a\\x{ord(character):02x}[31mb" in text


@pytest.mark.parametrize("text", ["x" * 20_000, "é" * 9000, '"\\' * 9000, "\x00" * 9000, "\ud800"])
def test_any_text_makes_one_short_line(text: str) -> None:
    assert as_json(record("start of it %s end of it", text))["message"].startswith("start of it")
    assert as_json(record("%s", text, error=True))["exception"].endswith("KeyError: 'nothing'")


SCRIPT = r"""
import ctypes, logging, os, subprocess, sys, threading, warnings
from pipeline.run import logs

logs.start("INFO", sys.argv[1])
logging.getLogger("a.library").warning("two\nlines")
warnings.warn("it is old")
libc = ctypes.CDLL(None)
libc.dprintf(2, b"said in C\nwith bytes \xff\xfe\n")
subprocess.run(["sh", "-c", "echo said by a child >&2"])
print('{"time": "no record', file=sys.stderr)
print("[1, 2]", file=sys.stderr)
thread = threading.Thread(target=lambda: [][1])
thread.start()
thread.join()
os.write(2, b"no end of line")
logging.getLogger("b").error("after it")
os.write(2, b"again none")
raise ValueError("the\nend")
"""


def said(form: LogForm) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, form],
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert done.returncode == 1
    assert done.stdout == b""
    return done.stderr


@pytest.mark.slow
def test_everything_on_standard_error_is_a_record() -> None:
    records = [json.loads(line) for line in said("json").splitlines()]
    assert all(TIME.match(one["time"]) for one in records)
    found = [(one["logger"], one["level"], one["message"]) for one in records]
    for one in (
        ("a.library", "WARNING", "two\nlines"),
        ("stderr", "WARNING", "said in C"),
        ("stderr", "WARNING", "with bytes \ufffd\ufffd"),
        ("stderr", "WARNING", "said by a child"),
        ("stderr", "WARNING", '{"time": "no record'),
        ("stderr", "WARNING", "[1, 2]"),
        ("stderr", "WARNING", "no end of line"),
        ("b", "ERROR", "after it"),
        ("stderr", "WARNING", "again none"),
    ):
        assert one in found, one
    assert any(name == "py.warnings" and "it is old" in text for name, _, text in found)
    crashes = [one["message"] for one in records if "unexpected error" in one["message"]]
    assert len(crashes) == 2
    assert "IndexError: list index out of range" in crashes[0]
    assert "stopped by an unexpected error: ValueError: the end" in crashes[1]


@pytest.mark.slow
def test_in_text_further_lines_are_indented() -> None:
    lines = said("text").decode(errors="replace").splitlines()
    place = next(n for n, line in enumerate(lines) if line.endswith("WARNING two"))
    assert lines[place + 1] == "    lines"
    assert TIME.match(lines[place].split()[0])


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2> >(true)"])
def test_a_log_that_nobody_can_read_ends_nothing(redirection: str) -> None:
    script = (
        "import logging, os; from pipeline.run import logs; logs.start('INFO', 'json');"
        "[logging.getLogger('x').warning('y' * 900) for _ in range(500)]; os.write(1, b'done')"
    )
    done = subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, script],
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert (done.returncode, done.stdout) == (0, b"done")
