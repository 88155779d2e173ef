"""The cursor's file: moved, damaged, foreign, owned by another."""

import json
import os
from pathlib import Path

import msgspec
import pytest

from bridges import durable
from bridges.cursor import MOST_LOGS, Cursor, CursorError, Position
from testbed.samples import event


def reopened(path: Path, bridge: str = "phone") -> Position | None:
    cursor = Cursor(path, bridge)
    position = cursor.position
    cursor.close()
    return position


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "phone.cursor"
    cursor = Cursor(path, "phone")
    assert cursor.position is None
    cursor.move(Position("a", 41, 7))
    cursor.close()
    return path


def test_it_is_where_it_was_left(path: Path) -> None:
    assert reopened(path) == Position("a", 41, 7)
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_remembers_its_place_in_the_newest_logs(path: Path) -> None:
    cursor = Cursor(path, "phone")
    for number in range(MOST_LOGS + 3):
        cursor.move(Position(f"log{number}", number))
    cursor.move(Position("log5", 50))
    cursor.close()
    again = Cursor(path, "phone")
    assert again.position == Position("log5", 50)
    assert len(again.known()) == MOST_LOGS
    assert "a" not in again.known()
    assert again.known()["log7"] == Position("log7", 7)
    again.close()


def test_a_record_moves_it_on_in_its_own_log() -> None:
    here = Position("a", 4, 2)
    assert here.after(msgspec.structs.replace(event(5), log="a")) == Position("a", 5, 2)
    assert here.after(msgspec.structs.replace(event(1), log="b")) == Position("b", 1, 0)


def test_every_flipped_byte_is_found_and_the_file_is_left_alone(path: Path) -> None:
    good = path.read_bytes()
    for place in range(len(good) - 1):
        damaged = bytearray(good)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CursorError, match=r"phone\.cursor: .*delete it.*from: oldest"):
            Cursor(path, "phone")
        assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 200, b"{}", b"[1]", b"\xff\xfe", b'{"format": "two-stream bri']
)
def test_what_is_no_cursor_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CursorError, match="isn't a bridge's cursor"):
        Cursor(path, "phone")


def test_the_cursor_of_another_bridge_is_refused(path: Path) -> None:
    with pytest.raises(CursorError, match="it is the cursor of the bridge 'phone'"):
        Cursor(path, "mail")


def test_a_newer_version_is_refused_by_name(path: Path) -> None:
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "format": "two-stream bridge cursor 2"}))
    with pytest.raises(CursorError, match="another version of the program"):
        Cursor(path, "phone")


def test_only_one_may_have_it_and_a_failed_one_lets_go(path: Path) -> None:
    first = Cursor(path, "phone")
    with pytest.raises(CursorError, match="another process runs the bridge phone"):
        Cursor(path, "phone")
    first.close()
    with pytest.raises(CursorError):
        Cursor(path, "mail")
    assert reopened(path) == Position("a", 41, 7)


def test_a_folder_that_cant_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CursorError, match="let `cursor` name a file in a folder"):
        Cursor(tmp_path / "file" / "phone.cursor", "phone")
    with pytest.raises(CursorError, match="can be written"):
        Cursor(Path("/proc/phone.cursor"), "phone")


def test_a_move_that_fails_leaves_the_old_place(path: Path) -> None:
    cursor = Cursor(path, "phone")
    path.parent.rename(path.parent.with_name("gone"))
    with pytest.raises(OSError, match="No such file"):
        cursor.move(Position("a", 42))
    assert cursor.position == Position("a", 41, 7)
    cursor.close()


def test_a_durable_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    durable.write(path, b"old")
    durable.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]
