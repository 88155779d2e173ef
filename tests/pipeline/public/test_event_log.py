"""The event log: numbers without holes, even after a kill; an event is stored whole or not."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.errors import EventLogError
from pipeline.public.event_log import DELETE_AT_ONCE, EventLog, read_since
from pipeline.public.records import Event, event_from_json
from testbed.clock import HandClock
from testbed.samples import event

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    made = EventLog(tmp_path / "events.sqlite")
    yield made
    made.close()


def append(
    log: EventLog, number: int, kind: str = "start", key: str = "door/1", epoch: str = "e"
) -> Event:
    stored = log.append(
        epoch, number, key, lambda seq, known: event(seq, kind, known or f"door-{seq}")
    )
    assert event_from_json(stored.json) == stored.event
    return stored.event


def append_many(log: EventLog, first: int, end: int) -> None:
    """Events whose number is also their ``seq``: first, …, end - 1."""
    for number in range(first, end):
        assert append(log, number, key=f"door/{number}").seq == number


def end_of(seq: int, last: Event) -> Event:
    return msgspec.structs.replace(last, seq=seq, type="end", reason="interrupted")


def seqs(path: Path, since: int = 0) -> list[int]:
    return [event_from_json(body).seq for body in read_since(path, since)]


def test_numbers_go_on_over_events_and_openings(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.sqlite"
    for opening in range(3):
        log = EventLog(path)
        assert log.last_seq() == 2 * opening
        append(log, 2 * opening + 1)
        append(log, 2 * opening + 2, "end")
        log.close()
    assert seqs(path) == [1, 2, 3, 4, 5, 6]
    assert seqs(path, since=4) == [5, 6]


def test_a_log_keeps_its_identity_and_no_two_share_one(tmp_path: Path) -> None:
    identities = []
    for name in ("a", "a", "b"):
        log = EventLog(tmp_path / name)
        identities.append(log.identity)
        log.close()
    assert identities[0] == identities[1] != identities[2]


def test_one_event_keeps_its_id_from_start_to_end(log: EventLog) -> None:
    ids = [append(log, n, kind).id for n, kind in enumerate(("start", "update", "end"), 1)]
    assert ids == ["door-1"] * 3
    assert append(log, 4).id == "door-4"
    assert append(log, 5, key="yard/1").id == "door-5"


def test_what_was_accepted_is_remembered_by_epoch_and_number(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    assert log.accepted("e") == 0
    append(log, 1)
    append(log, 2, "end")
    assert (log.accepted("e"), log.accepted("other")) == (2, 0)
    log.close()
    again = EventLog(tmp_path / "log")
    assert again.accepted("e") == 2
    again.close()


def test_open_events_are_their_last_record(log: EventLog) -> None:
    append(log, 1)
    append(log, 2, key="yard/1")
    append(log, 3, "update")
    assert [event_from_json(body).seq for body in log.open_events()] == [2, 3]
    append(log, 4, "end")
    assert [event_from_json(body).seq for body in log.open_events()] == [2]


def test_a_new_epoch_ends_what_the_one_before_left_open(log: EventLog) -> None:
    append(log, 1)
    append(log, 2, key="yard/1")
    append(log, 3, "end", key="yard/1")
    append(log, 4, "update")
    ended = [stored.event for stored in log.begin_epoch("f", end_of, number=1)]
    assert [(e.seq, e.id, e.type, e.reason) for e in ended] == [(5, "door-1", "end", "interrupted")]
    assert log.open_events() == []
    assert (log.accepted("e"), log.accepted("f")) == (0, 1)
    assert log.begin_epoch("g", end_of) == []
    # The new process counts its keys from the start; they are other events.
    assert append(log, 1, epoch="g").id == "door-6"


def test_an_epoch_does_not_end_its_own_events(log: EventLog) -> None:
    append(log, 1)
    assert log.begin_epoch("e", end_of, number=2) == []
    assert len(log.open_events()) == 1


def test_since_gives_at_most_so_many(log: EventLog) -> None:
    for number in range(1, 8):
        append(log, number, key=f"door/{number}")
    assert [seq for seq, _ in log.since(2, 3)] == [3, 4, 5]
    assert [event_from_json(body).seq for _, body in log.since(5, 100)] == [6, 7]


@pytest.mark.parametrize("since", [1 << 63, 1 << 64, 10**30, -(1 << 63) - 1])
def test_since_may_be_any_number(log: EventLog, since: int) -> None:
    append(log, 1)
    assert len(list(log.since(since, 10))) == (1 if since < 0 else 0)


def test_what_fails_half_way_is_not_stored(log: EventLog) -> None:
    append(log, 1)

    def fail(seq: int, known: str | None) -> Event:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        log.append("e", 2, "door/1", fail)
    assert (log.last_seq(), log.accepted("e")) == (1, 1)
    assert append(log, 2, "end").seq == 2


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    """SQLite's own limit of pages replaces the full disk; the error is the real SQLITE_FULL."""
    path = tmp_path / "events.sqlite"
    log = EventLog(path)
    append(log, 1)
    pages = log._db.execute("PRAGMA page_count").fetchone()[0]
    log._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    for _ in range(3):
        with pytest.raises(EventLogError, match=f"event log {path}: database or disk is full"):
            append_many(log, log.last_seq() + 1, 500)
    stored = log.last_seq()
    log._db.execute("PRAGMA max_page_count = 100000")
    assert log.accepted("e") == stored
    append_many(log, stored + 1, stored + 50)
    log.close()
    assert seqs(path) == list(range(1, stored + 50))


def test_a_locked_log_is_told(log: EventLog) -> None:
    log._db.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(EventLogError, match="locked"):
        append(log, 1)
    other.execute("ROLLBACK")
    other.close()
    assert append(log, 1).seq == 1


def test_what_is_no_log_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be looked at" * 100)
    with pytest.raises(EventLogError, match=f"event log {path}: file is not a database"):
        EventLog(path)
    with pytest.raises(EventLogError, match=f"event log {path}: file is not a database"):
        read_since(path, 0)
    with pytest.raises(EventLogError, match=r"event log .*notes.txt/log"):
        EventLog(path / "log")


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 4")
    db.close()
    with pytest.raises(EventLogError, match=r"newer version \(4\)"):
        EventLog(path)


def test_a_log_of_the_first_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = EventLog(path)
    append_many(log, 1, 4)
    identity = log.identity
    log._db.executescript("ALTER TABLE events DROP COLUMN stored_ns; PRAGMA user_version = 1;")
    log.close()
    log = EventLog(path)
    assert log.identity == identity
    append_many(log, 4, 6)
    assert log.delete_old(keep_s=60.0, keep_bytes=None) == 0
    log.close()
    assert seqs(path) == [1, 2, 3, 4, 5]


def test_events_that_are_older_are_forgotten(tmp_path: Path) -> None:
    clock = HandClock()
    log = EventLog(tmp_path / "log", clock)
    append(log, 1, key="door/open")
    for number in range(2, 42, 2):
        append(log, number, key=f"door/{number}")
        append(log, number + 1, "end", key=f"door/{number}")
        clock.sleep(1.0)
    assert log.delete_old(keep_s=10.5, keep_bytes=None) == 20
    # An action that continues is kept, however old: its end refers to it.
    assert seqs(log.path) == [1, *range(22, 42)]
    clock.sleep(100.0)
    assert log.delete_old(keep_s=10.5, keep_bytes=None) == 19
    assert seqs(log.path) == [1, 41]
    assert append(log, 42, "end", key="door/open").seq == 42
    log.close()
    log = EventLog(tmp_path / "log", clock)
    assert log.last_seq() == 42
    log.close()


@pytest.mark.slow
def test_a_log_that_is_too_large_shrinks_on_disk(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    for number in range(1, 4001, 2):
        append(log, number, key=f"door/{number}")
        append(log, number + 1, "end", key=f"door/{number}")
    before = log.size()
    calls = 0
    while log.delete_old(keep_s=None, keep_bytes=before // 2) == DELETE_AT_ONCE:
        calls += 1
    assert 3 <= calls <= 6
    assert log.size() <= before // 2
    assert seqs(log.path)[-1] == 4000
    log._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert log.path.stat().st_size < 0.7 * before
    log.close()


def test_reading_where_there_is_nothing_yet(tmp_path: Path) -> None:
    assert read_since(tmp_path / "none", 0) == []
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").touch()
    assert read_since(tmp_path / "empty", 0) == []


WRITER = """
import sys
from pathlib import Path
from pipeline.public.event_log import EventLog
from tests.pipeline.public.test_event_log import append, end_of
log = EventLog(Path(sys.argv[1]))
epoch = sys.argv[2]
for ended in log.begin_epoch(epoch, end_of, 1):
    print(ended.event.seq, flush=True)
number = 1
while True:
    number += 1
    kind = "start" if number % 2 == 0 else "end"
    print(append(log, number, kind, f"door/{number // 2}", epoch).seq, flush=True)
"""


def kill_a_writer(path: Path, epoch: str, after_s: float) -> list[int]:
    """Numbers that a writer reported as stored, until it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), epoch],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = [process.stdout.readline()]
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    told += process.stdout.readlines()
    process.communicate(timeout=20)
    return [int(line) for line in told if line.endswith("\n")]


@pytest.mark.slow
def test_twenty_writers_killed_leave_no_hole(tmp_path: Path) -> None:
    path, told = tmp_path / "events.sqlite", list[int]()
    chance = random.Random(7)
    for life in range(20):
        told += kill_a_writer(path, f"epoch-{life}", chance.uniform(0.0, 0.05))
    log = EventLog(path)
    log.begin_epoch("last", end_of)
    log.close()
    stored = [event_from_json(body) for body in read_since(path, 0)]
    assert [e.seq for e in stored] == list(range(1, len(stored) + 1))
    # Everything reported as stored is there; each event starts once and ends once.
    assert len(set(told)) == len(told) > 20
    assert set(told) <= {e.seq for e in stored}
    kinds: dict[str, list[str]] = {}
    for e in stored:
        kinds.setdefault(e.id, []).append(e.type)
    assert set(map(tuple, kinds.values())) == {("start", "end")}


def test_a_log_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    first = EventLog(path)
    with pytest.raises(EventLogError, match=r"events\.sqlite: another run is writing it"):
        EventLog(path)
    first.close()
    EventLog(path).close()
