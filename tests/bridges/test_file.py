"""The file of JSON lines: rotated, torn, full, taken away."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridges.file import FileReceiver
from bridges.file_settings import FileSettings
from bridges.receiver import Away, Place
from bridges.records import json_of
from pipeline.clock import NS_PER_S
from pipeline.errors import ConfigError
from pipeline.public.records import Event
from testbed.clock import HandClock
from testbed.samples import event

LINE = len(json_of(event(10))) + 1
Open = Callable[..., FileReceiver]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    made = []

    def open_it(clock: Any = None, **settings: Any) -> FileReceiver:
        place = Place("one", path.parent, **({"clock": clock} if clock else {}))
        whole = {"kind": "file", "path": path, **settings}
        made.append(FileReceiver(FileSettings.model_validate(whole), place))
        return made[-1]

    yield open_it
    for one in made:
        one.close()


def lines(path: Path) -> list[int]:
    return [json.loads(line)["seq"] for line in path.read_bytes().splitlines()]


def write(receiver: FileReceiver, *events: Event) -> None:
    for one in events:
        receiver.send(one)
    receiver.settle()


def test_a_line_is_the_record_as_it_is_on_the_sockets(path: Path, opened: Open) -> None:
    write(opened(), event(1), event(2))
    assert path.read_bytes() == json_of(event(1)) + b"\n" + json_of(event(2)) + b"\n"


@pytest.mark.parametrize("torn", [b"{", b'{"schema":1,"seq":2', b'{"a":1}\n{"b'])
def test_a_torn_line_is_cut_off_and_comes_again(path: Path, opened: Open, torn: bytes) -> None:
    path.write_bytes(json_of(event(1)) + b"\n" + torn)
    write(opened(), event(2))
    kept = torn[: torn.rfind(b"\n") + 1]
    assert path.read_bytes() == json_of(event(1)) + b"\n" + kept + json_of(event(2)) + b"\n"


def test_a_file_that_is_one_torn_line_begins_anew(path: Path, opened: Open) -> None:
    path.write_bytes(b'{"schema":1,')
    write(opened(), event(1))
    assert lines(path) == [1]


def test_what_stands_there_already_isnt_written_twice(path: Path, opened: Open) -> None:
    """As after a crash between the file and the cursor, also over the end of a file."""
    first = opened(rotate_mb=0.001)
    write(first, *(event(n) for n in range(1, 6)))
    first.close()
    write(opened(rotate_mb=0.001), *(event(n) for n in range(3, 8)))
    files = sorted(path.parent.glob("events.*"))
    assert sorted(seq for one in files for seq in lines(one)) == list(range(1, 8))


@pytest.mark.parametrize("content", [b"notes of mine", b"seq,label\n1,left\n", b"\x00\x01"])
def test_a_file_of_somebody_else_is_left_alone(path: Path, opened: Open, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Away, match="holds something else than JSON lines"):
        opened().send(event(1))
    assert path.read_bytes() == content


def test_full_files_are_put_aside_and_the_oldest_deleted(path: Path, opened: Open) -> None:
    receiver = opened(rotate_mb=2.5 * LINE / 1e6, keep_files=2)
    write(receiver, *(event(n) for n in range(10, 19)))
    names = sorted(one.name for one in path.parent.iterdir())
    assert names == ["events.000003.jsonl", "events.000004.jsonl", "events.jsonl"]
    assert lines(path) == [18]
    assert lines(path.with_name("events.000004.jsonl")) == [16, 17]


def test_a_new_day_begins_a_new_file(path: Path, opened: Open) -> None:
    clock = HandClock(1_800_000_000)
    receiver = opened(clock)
    write(receiver, event(1))
    os.utime(path, (clock.now_ns // NS_PER_S, clock.now_ns // NS_PER_S))
    receiver.close()
    write(receiver, event(2))
    assert lines(path) == [1, 2]
    receiver.close()
    os.utime(path, (clock.now_ns // NS_PER_S, clock.now_ns // NS_PER_S))
    clock.sleep(86_400)
    write(receiver, event(3))
    assert (lines(path), lines(path.with_name("events.000001.jsonl"))) == ([3], [1, 2])


def test_a_folder_that_isnt_there_is_waited_for(path: Path, opened: Open) -> None:
    """It may be a disk that isn't mounted; what would be written below it would be hidden later."""
    path.parent.rmdir()
    receiver = opened()
    with pytest.raises(Away, match="No such file or directory"):
        receiver.send(event(1))
    path.parent.mkdir()
    write(receiver, event(1))
    assert lines(path) == [1]


@pytest.mark.parametrize("how", ["deleted", "moved", "folder"])
def test_what_was_taken_away_before_it_was_acknowledged_comes_again(
    path: Path, opened: Open, how: str
) -> None:
    receiver = opened()
    write(receiver, event(1))
    receiver.send(event(2))
    if how == "deleted":
        path.unlink()
    elif how == "moved":
        path.rename(path.with_name("old"))
    else:
        path.parent.rename(path.parent.with_name("elsewhere"))
        path.parent.mkdir()
    with pytest.raises(Away, match="moved or deleted"):
        receiver.settle()
    write(receiver, event(2))
    assert lines(path) == [2]


@contextmanager
def at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_means_away_and_leaves_no_half_line(path: Path, opened: Open) -> None:
    receiver = opened()
    write(receiver, event(10))
    with at_most(LINE + LINE // 2), pytest.raises(Away, match="File too large"):
        receiver.send(event(11))
    write(receiver, event(11))
    assert lines(path) == [10, 11]


def test_two_bridges_dont_write_one_file(path: Path, opened: Open) -> None:
    write(opened(), event(1))
    with pytest.raises(Away, match="another process writes it"):
        opened().send(event(2))


def test_what_is_no_file_is_refused_at_once(path: Path, opened: Open) -> None:
    path.mkdir()
    with pytest.raises(ConfigError, match="isn't a file"):
        opened()
