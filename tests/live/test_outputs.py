"""What the program says, and to whom: outputs that can't be written, statuses, floods of lines."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import yaml

from testbed.footage import turned_clip
from testbed.program import PROJECT, PipelineRun
from tests.live.machine import limited


def settings(pack: Path, clip: Path, **sections: Any) -> dict[str, Any]:
    return {"model": str(pack), "cameras": {"a": {"source": str(clip), "loop": True}}, **sections}


class Program:
    """The program under a shell, which connects its standard streams."""

    def __init__(
        self, folder: Path, config: dict[str, Any], redirections: str, **more: Any
    ) -> None:
        self.folder = folder
        publish = {"events": f"ipc://{folder}/events", "replay": f"ipc://{folder}/replay"}
        runtime = {"run_dir": str(folder / "runs")}
        self.log_path = folder / "events.sqlite"
        config = {"publish": publish, "runtime": runtime, **config}
        config.setdefault("events", {})["log"] = str(self.log_path)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        arguments = more.pop("arguments", ["--json"])
        command = [sys.executable, "run_stream.py", "-c", str(folder / "config.yaml"), *arguments]
        self.errors = folder / "stderr.txt"
        self.process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" {redirections}', "sh", *command],
            cwd=PROJECT,
            env={**os.environ, "ERRORS": str(self.errors), **more.pop("environment", {})},
            **more,
        )

    def log(self) -> str:
        return self.errors.read_text(errors="replace") if self.errors.exists() else ""

    def seqs(self) -> list[int]:
        from pipeline.public.event_log import read_since
        from pipeline.public.records import event_from_json

        return [event_from_json(body).seq for body in read_since(self.log_path, 0)]

    def wait_for_events(self, more: int = 4) -> None:
        """Until it has stored some more events: it goes on."""
        goal = len(self.seqs()) + more
        deadline = time.monotonic() + 90
        while len(self.seqs()) < goal:
            assert self.process.poll() is None, f"it ended: {self.process.returncode}\n{self.log()}"
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def running(
    folder: Path, config: dict[str, Any], redirections: str, **more: Any
) -> Iterator[Program]:
    program = Program(folder, config, redirections, **more)
    try:
        yield program
        assert "Traceback" not in program.log()
    finally:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()
        for stream in (program.process.stdin, program.process.stdout):
            if stream is not None:
                stream.close()


def remains(folder: Path, known: set[str]) -> list[str]:
    left = [path.name for path in (folder / "runs").glob("*")]
    return left + sorted({path.name for path in Path("/dev/shm").glob("two-stream-*")} & known)


@pytest.mark.parametrize(
    ("redirections", "word"),
    [
        ('>&- 2>"$ERRORS"', "standard output is closed"),
        ('>/dev/full 2>"$ERRORS"', "standard output can't be written (No space left on device)"),
        (">/dev/full 2>&1", None),
        ('2>&- >"$ERRORS.out"', None),
        ('2>/dev/full >"$ERRORS.out"', None),
        ('<&- 2>"$ERRORS" >"$ERRORS.out"', None),
        ("<&- >&- 2>&-", None),
    ],
)
def test_streams_that_can_not_be_written_do_not_end_the_run(
    scratch: Path, tiny: Path, panning: Path, redirections: str, word: str | None
) -> None:
    with running(scratch, settings(tiny, panning), redirections) as program:
        program.wait_for_events()
        names = {path.name for path in (scratch / "runs").glob("two-stream-*")}
        segments = {p.name for p in Path("/dev/shm").glob("*") if p.name[:23] in names}
        assert segments
        program.wait_for_events()
        assert program.stop() == 0, program.log()
        assert remains(scratch, segments) == []
        if word is not None:
            assert program.log().count(word) == 1
        printed = Path(f"{program.errors}.out")
        if printed.exists():
            lines = [json.loads(line) for line in printed.read_text().splitlines()]
            assert [event["seq"] for event in lines] == program.seqs()


def test_a_reader_that_leaves_does_not_end_the_run(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    with running(
        scratch, settings(tiny, panning), '2>"$ERRORS"', stdout=subprocess.PIPE
    ) as program:
        assert program.process.stdout is not None
        assert json.loads(program.process.stdout.readline())["seq"] == 1
        program.process.stdout.close()
        program.wait_for_events(8)
        assert program.log().count("standard output can't be written (Broken pipe)") == 1
        assert program.stop() == 0


@pytest.mark.parametrize("streams", ["both", "stdout"])
def test_a_pipe_that_nobody_reads_holds_nobody_up(
    scratch: Path, tiny: Path, panning: Path, streams: str
) -> None:
    """Nothing is restarted, and what was not read is printed as soon as somebody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filler = 0
    while True:
        try:
            filler += os.write(writer, b" " * 512)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    redirections = "2>&1" if streams == "both" else '2>"$ERRORS"'
    config = settings(tiny, panning, supervisor={"hang_s": 3})
    with running(scratch, config, redirections, stdout=writer) as program:
        os.close(writer)
        program.wait_for_events(8)
        stages = {child.pid for child in psutil.Process(program.process.pid).children()}
        program.wait_for_events(8)
        assert stages == {child.pid for child in psutil.Process(program.process.pid).children()}
        if streams == "stdout":
            while filler:
                filler -= len(os.read(reader, filler))
            with os.fdopen(reader, closefd=False) as lines:
                printed = [json.loads(lines.readline())["seq"] for _ in range(16)]
            assert printed == list(range(1, 17))
        began = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - began < 10
    os.close(reader)


def test_a_lossless_run_waits_for_a_reader_that_is_slow(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    config = settings(tiny, panning, runtime={"delivery": "lossless"})
    config["runtime"]["run_dir"] = str(scratch / "runs")
    config["cameras"]["a"] = {"source": str(panning)}
    config["events"] = {"update_every_s": 0.1}
    with running(scratch, config, '2>"$ERRORS"', stdout=subprocess.PIPE) as program:
        deadline = time.monotonic() + 120
        while "publish is ready" not in program.log() or not _ended(program):
            assert time.monotonic() < deadline, program.log()
            time.sleep(0.1)
        time.sleep(3)  # longer than a live run would wait for its reader
        assert program.process.stdout is not None
        printed = [json.loads(line)["seq"] for line in program.process.stdout]
        assert program.process.wait(30) == 0
        assert len(printed) > 100
        assert printed == program.seqs()


def _ended(program: Program) -> bool:
    return "camera a is ended" in program.log()


@pytest.mark.parametrize("arguments", [["--json"], []])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_knows_few_letters_gets_every_event(
    scratch: Path, tiny: Path, panning: Path, arguments: list[str], encoding: str
) -> None:
    clip = scratch / "Tür 🚪.mp4"
    clip.write_bytes(panning.read_bytes())
    environment = {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    with running(
        scratch,
        settings(tiny, clip),
        '2>"$ERRORS" >"$ERRORS.out"',
        arguments=arguments,
        environment=environment,
    ) as program:
        program.wait_for_events()
        assert program.stop() == 0
        printed = Path(f"{program.errors}.out").read_bytes().decode(encoding).splitlines()
        assert len(printed) == len(program.seqs())
        if arguments:
            assert all(json.loads(line)["schema"] == 1 for line in printed)


def test_a_terminal_that_closes_ends_the_run_and_leaves_nothing(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    """The live table on a real terminal, which then hangs up."""
    main, terminal = pty.openpty()
    with running(
        scratch,
        settings(tiny, panning),
        '2>"$ERRORS"',
        arguments=[],
        stdin=terminal,
        stdout=terminal,
        start_new_session=True,
        preexec_fn=_take_terminal,
    ) as program:
        os.close(terminal)
        os.set_blocking(main, False)
        _read_until(main, b"online")
        program.wait_for_events()
        os.close(main)
        assert program.process.wait(20) == 0, program.log()
        assert remains(scratch, set()) == []


def test_a_terminal_that_is_held_does_not_hold_the_run(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    """As after ^S: nobody reads what the table draws."""
    main, terminal = pty.openpty()
    with running(
        scratch, settings(tiny, panning), '2>"$ERRORS"', arguments=[], stdout=terminal
    ) as program:
        os.close(terminal)
        program.wait_for_events(12)
        began = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - began < 15
    os.close(main)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read_until(number: int, word: bytes) -> None:
    text, deadline = b"", time.monotonic() + 60
    while word not in text:
        assert time.monotonic() < deadline, text
        try:
            text += os.read(number, 65_536)
        except BlockingIOError:
            time.sleep(0.05)


def test_a_log_file_that_is_full_does_not_end_the_run(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    """Files of 2 MB at most: standard output and error are beyond that, the rings are not."""
    for name in ("stderr.txt", "stderr.txt.out"):
        with (scratch / name).open("wb") as file:
            file.truncate(2_100_000)
    wrapper = " ".join(limited("--fsize=2000000"))
    with running(
        scratch, settings(tiny, panning), '2>>"$ERRORS" >>"$ERRORS.out"', arguments=["--json"]
    ) as program:
        subprocess.run([*wrapper.split(), "--pid", str(program.process.pid)], check=True)
        program.wait_for_events()
        assert program.stop() == 0


@pytest.mark.parametrize("endpoint", ["nonsense", "ipc:///tmp/" + "x" * 120])
def test_a_subscriber_says_what_an_endpoint_looks_like(endpoint: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.subscribe", "--connect", endpoint],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "error: --connect: " in done.stderr or f"can't connect to {endpoint}" in done.stderr
    assert "must look like tcp://" in done.stderr or "at most 107 bytes" in done.stderr


# --- statuses


def test_a_film_that_is_turned_is_online_once(scratch: Path, tiny: Path, panning: Path) -> None:
    clip = turned_clip(panning, scratch / "turned.mp4")
    with PipelineRun(scratch, settings(tiny, clip)) as run:
        run.wait_for(lambda: len(run.scores("a")) > 60, 60, "sixty steps")
        statuses = [h.body for h in run.statuses("a")]
        known = [(s["state"], s["reason"], s["size"]) for s in statuses]
        changes = [now for before, now in zip([None, *known], known, strict=False) if now != before]
        assert len(changes) <= 3
        assert changes[-1] == ("online", None, [320, 240])
        # Between two repetitions, which come every 5 s for those who have just subscribed.
        assert len(statuses) <= len(changes) + 3


def test_a_film_in_a_loop_is_online_once(scratch: Path, tiny: Path, panning: Path) -> None:
    folder = scratch / "images"
    folder.mkdir()
    for number in range(10):
        noise = np.random.default_rng(number).integers(0, 255, (120, 160, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{number:03}.png"), noise)
    config = settings(tiny, folder)
    config["cameras"]["a"]["fps"] = 20
    with PipelineRun(scratch, config) as run:
        segments: set[int] = set()

        def looped() -> bool:
            segments.update(h.body["window"]["segment"] for h in run.scores("a"))
            return len(segments) > 8

        run.wait_for(looped, 60, "eight loops")
        statuses = [(h.body["state"], h.body["size"]) for h in run.statuses("a")]
        seconds = run.heard[-1].at - run.heard[0].at
        assert len(statuses) <= 4 + seconds / 5


# --- floods


def test_a_flood_of_lines_is_summed_up(scratch: Path, tiny: Path) -> None:
    folder = scratch / "images"
    folder.mkdir()
    for number in range(300):
        path = folder / f"{number:03}.png"
        if number % 3:
            path.write_bytes(b"no picture")
        else:
            noise = np.random.default_rng(number).integers(0, 255, (120, 160, 3), np.uint8)
            assert cv2.imwrite(str(path), noise)
    config = settings(tiny, folder)
    config["cameras"]["a"] = {"source": str(folder), "fps": 30.0}
    with PipelineRun(scratch, config) as run:
        assert run.process.wait(90) == 0
        lines = [line for line in run.log().splitlines() if "can't be read" in line]
    assert 2 <= len(lines) <= 8, lines
    assert "… " in lines[-1]
    assert " times in " in lines[-1]
