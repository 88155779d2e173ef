"""What the program prints: every event once, even those that the socket dropped."""

import contextlib
import io
import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from pipeline.clock import SYSTEM_CLOCK
from pipeline.config import validate
from pipeline.public.camera_states import CameraStates
from pipeline.public.event_line import event_line
from pipeline.public.event_log import EventLog
from pipeline.public.records import Event, to_json
from pipeline.run.metrics import StageMetrics
from pipeline.run.outputs.base import Outputs, RunView
from pipeline.run.outputs.lines import EventLines, as_json, as_text, encoded
from pipeline.run.outputs.table import LiveTable
from pipeline.run.standard_streams import Outlet
from pipeline.topology import stages
from pipeline.transport.bus import Bus
from pipeline.transport.messages import CameraStatus, StreamScores
from pipeline.transport.public_sockets import PublicPublisher
from testbed.clock import HandClock
from testbed.samples import event
from tests.pipeline.public.test_event_log import append


class Stage:
    """A stage that has just been started."""

    ready = False
    total_restarts = 0


class Wire:
    """The log, the PUB socket and the view from which an output reads."""

    def __init__(self, root: Path) -> None:
        self.bus = Bus(root, lossless=False)
        self.log_path = root / "log"
        config = validate(
            {"cameras": {"door": {}, "yard": {}}, "publish": {"events": f"ipc://{root}/events"}}
        )
        self.publisher: PublicPublisher = self.bus.public_publisher(config.publish.events)
        self.view = RunView(
            config=config,
            log_path=self.log_path,
            stages={spec.name: Stage() for spec in stages(config)},
            cameras=CameraStates(),
            metrics=StageMetrics(),
            started_ns=SYSTEM_CLOCK.monotonic_ns(),
        )

    def store(self, number: int, kind: str = "start") -> Event:
        log = EventLog(self.log_path)
        stored = append(log, number, kind, key=f"door/{number}")
        log.close()
        return stored

    def publish(self, one: Event) -> None:
        self.publisher.send(f"action/{one.camera}/{one.label}/", to_json(one))


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    made = Wire(tmp_path)
    yield made
    made.bus.close()


class Reader:
    """A pipe: the output writes to ``outlet``, and what it wrote is read here."""

    def __init__(self) -> None:
        self._end, write_end = os.pipe()
        os.set_blocking(self._end, False)
        self.outlet = Outlet(write_end)
        self.write_end = write_end
        self._text = b""

    def read(self) -> bytes:
        """All that was written so far."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._end, 65_536):
                self._text += data
        return self._text

    def seqs(self) -> list[int]:
        return [json.loads(line)["seq"] for line in self.read().splitlines()]

    def leave(self) -> None:
        """As `head` does when it has seen enough."""
        os.close(self._end)


def until_shown(wire: Wire, lines: EventLines, reader: Reader, one: Event) -> None:
    for _ in range(500):
        wire.publish(one)
        wire.bus.poll(0.01)
        lines.tick()
        if reader.read():
            return
    pytest.fail("nothing was heard")


def test_each_event_of_this_run_is_one_line_of_json(wire: Wire) -> None:
    wire.store(1)
    reader = Reader()
    lines = EventLines(wire.bus, wire.view, as_json, reader.outlet)
    until_shown(wire, lines, reader, wire.store(2))
    wire.store(3)
    wire.publish(wire.store(4))
    wire.bus.poll(1.0)
    lines.tick()
    wire.store(5)
    lines.close()
    # 1 is of a run before; 3 was lost on the wire, 5 came after the last tick.
    assert reader.seqs() == [2, 3, 4, 5]


def test_what_was_not_heard_at_all_is_shown_at_the_end(wire: Wire) -> None:
    reader = Reader()
    lines = EventLines(wire.bus, wire.view, as_json, reader.outlet)
    for number in (1, 2, 3):
        wire.store(number)
    lines.tick()
    assert reader.seqs() == []
    lines.close()
    assert reader.seqs() == [1, 2, 3]


def test_a_reader_that_left_does_not_stop_the_pipeline(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader()
    outputs = Outputs(
        [partial(EventLines, form=as_json, outlet=reader.outlet)], wire.bus, wire.view
    )
    reader.leave()
    wire.store(1)
    wire.store(2)
    for _ in range(3):
        outputs.tick()
    outputs.close()
    outputs.tick()
    outputs.close()
    assert caplog.text.count("standard output can't be written (Broken pipe)") == 1


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_a_reader_that_takes_nothing_holds_nobody_up_and_gets_all_later(
    wire: Wire, shared: bool
) -> None:
    reader = Reader()
    if shared:
        # As if the pipe were another user's: it can't be opened anew.
        reader.outlet._own = None
    while reader.outlet.write(b" " * 65_535 + b"\n"):
        pass
    lines = EventLines(wire.bus, wire.view, as_json, reader.outlet)
    began = time.monotonic()
    for number in range(1, 41):
        wire.publish(wire.store(number))
        wire.bus.poll(0.01)
        lines.tick()
    assert time.monotonic() - began < 20
    reader.read()
    for _ in range(1000):
        lines.tick()
        reader.read()
        if b'"seq":40' in reader.read():
            break
    text = reader.read().decode().replace(" ", "")
    assert [json.loads(line)["seq"] for line in text.splitlines() if line] == list(range(1, 41))


@pytest.mark.slow
def test_the_end_does_not_wait_for_a_reader_that_takes_nothing(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader()
    lines = EventLines(wire.bus, wire.view, as_json, reader.outlet)
    while reader.outlet.write(b" " * 1000):
        pass
    wire.store(1)
    began = time.monotonic()
    lines.close()
    assert time.monotonic() - began < 20
    assert "standard output isn't read" in caplog.text


def test_json_is_json_on_a_terminal_that_knows_no_umlauts(wire: Wire) -> None:
    body = '{"reason":"Tür 🚪"}'
    line = encoded(body + "\n", "ascii", is_json=True)
    assert json.loads(line.decode("ascii")) == json.loads(body)
    assert encoded(body + "\n", "utf-8", is_json=True).decode() == body + "\n"
    assert encoded("α 0.3\n", "ascii", is_json=False) == b"\\u03b1 0.3\n"


def test_a_log_that_is_none_is_said_and_does_not_stop_the_end(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    wire.log_path.write_text("no database" * 1000)
    lines = EventLines(wire.bus, wire.view, as_json, Reader().outlet)
    lines.close()
    assert "file is not a database" in caplog.text


def test_a_line_for_people_says_who_what_why() -> None:
    one = msgspec.structs.replace(
        event(41, "end"), reason="gap", streams=StreamScores(spatial=0.71, temporal=None, alpha=0.3)
    )
    line = as_text(to_json(one))
    assert line == event_line(one).plain
    for word in ("41", "10:00:00.120", "door", "end", "left", "0.95", "spatial 0.71", "α 0.30"):
        assert word in line
    assert "temporal" not in line
    assert line.endswith("18 ms  (gap)")


def test_the_table_shows_cameras_scores_stages_and_events(wire: Wire) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140, height=40)
    table = LiveTable(wire.bus, wire.view, console)
    status = CameraStatus(camera="door", state="online", reason=None, at_ns=1, size=(48, 64))
    wire.view.cameras.note(status)
    wire.view.metrics.update("capture:door", {"frames": 77.0})
    scores = {
        "camera": "door",
        "pack": "tiny",
        "scores": {"left": 0.91, "right": 0.05},
        "streams": {"spatial": None, "temporal": {"left": 0.83, "right": 0.1}},
        "alpha": None,
        "latency_ms": {"total": 21.4},
    }
    for _ in range(500):
        wire.publisher.send("score/door/", json.dumps(scores).encode())
        wire.publisher.send("action/door/left/", b"nonsense")
        wire.publish(event(1))
        wire.bus.poll(0.01)
        table.tick()
        # Scores and events come by subscriptions of their own, either first.
        if "0.91" in text(table) and "no event yet" not in text(table):
            break
    seen = text(table)
    for word in ("64×48", "77", "online", "starting", "0.91", "masked", "0.83", "21 ms", "flow:0"):
        assert word in seen
    assert "no event yet" not in seen
    table.close()


def test_the_table_shows_each_pack_of_a_camera(wire: Wire) -> None:
    table = LiveTable(wire.bus, wire.view, Console(file=io.StringIO(), width=140, height=40))
    packs = {"falls": 0.91, "fights": 0.82}
    records = [scores_of(score, pack=pack) for pack, score in packs.items()]
    shown(wire, table, records, "0.91", "0.82")
    lines = text(table).splitlines()
    rows = [number for number, line in enumerate(lines) if " door " in line]
    (row,) = rows
    assert "falls" in lines[row + 1]
    assert "0.91" in lines[row + 1]
    assert "fights" in lines[row + 2]
    assert "0.82" in lines[row + 2]
    table.close()


def test_the_table_shows_people_while_they_are_there(wire: Wire) -> None:
    clock = HandClock()
    console = Console(file=io.StringIO(), width=140, height=40)
    table = LiveTable(wire.bus, wire.view, console, clock)
    people = {"p1": 0.91, "p2": 0.82}
    records = [scores_of(score, pack="falls", subject=name) for name, score in people.items()]
    shown(wire, table, records, "falls p1", "falls p2")
    assert "falls p1" in text(table)
    clock.sleep(3.0)
    assert "falls" not in text(table)
    table.close()


def scores_of(score: float, **which: str) -> dict[str, Any]:
    return {
        "camera": "door",
        **which,
        "scores": {"left": score, "right": 0.05},
        "streams": {"spatial": None, "temporal": None},
        "alpha": None,
        "latency_ms": {"total": 21.4},
    }


def shown(wire: Wire, table: LiveTable, records: list[dict[str, Any]], *words: str) -> None:
    """Send ``records`` until the table has all the words, or for some seconds."""
    for _ in range(500):
        for record in records:
            wire.publisher.send("score/door/", json.dumps(record).encode())
        wire.bus.poll(0.01)
        table.tick()
        if all(word in text(table) for word in words):
            break


def text(table: LiveTable) -> str:
    console = Console(file=io.StringIO(), width=140, height=40)
    with console.capture() as capture:
        console.print(table.render())
    return capture.get()
