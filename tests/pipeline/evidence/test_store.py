"""The folder of evidence: whole files only, an index, and the retention."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.evidence.store import EvidenceStore
from pipeline.transport.messages import EvidenceMade
from testbed.clock import HandClock

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0


class WallClock(HandClock):
    """A clock that somebody can set."""

    def __init__(self) -> None:
        super().__init__()
        self.set_ns = from_isoformat("2026-11-22T10:00:00.000Z") - self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns + self.set_ns

    def jump(self, seconds: float) -> None:
        self.set_ns += int(seconds * NS_PER_S)


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


def runs(store: EvidenceStore, clock: WallClock, seconds: float) -> list[EvidenceMade]:
    """What is deleted while the program runs for so long."""
    gone = list(store.delete_old())
    for _ in range(int(seconds // HOUR_S)):
        clock.sleep(HOUR_S)
        gone += store.delete_old()
    clock.sleep(seconds % HOUR_S)
    return [*gone, *store.delete_old()]


def made(name: str, camera: str = "door") -> EvidenceMade:
    return EvidenceMade(
        id=name, seq=4, camera=camera, label="left", kind="clip", state="ready"
    )  # fmt: skip


def put(store: EvidenceStore, name: str, size: int = 1000) -> EvidenceMade:
    def write(path: Path) -> dict[str, Any]:
        path.write_bytes(name.encode() * (size // len(name)))
        return {"codec": "h264"}

    return store.put(made(name), ".1.mp4", write)


def test_a_file_is_named_with_its_hash_and_size(tmp_path: Path, clock: WallClock) -> None:
    done = put(EvidenceStore(tmp_path / "new", None, None, clock), "door-01")
    assert done.path == str(tmp_path / "new/door/2026-11-22/door-01.1.mp4")
    data = Path(done.path).read_bytes()
    assert (done.bytes, done.sha256) == (1000 // 7 * 7, hashlib.sha256(data).hexdigest())
    assert (done.codec, done.state) == ("h264", "ready")


def test_what_fails_leaves_nothing(tmp_path: Path, clock: WallClock) -> None:
    def write(path: Path) -> dict[str, Any]:
        path.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    store = EvidenceStore(tmp_path, None, None, clock)
    with pytest.raises(OSError, match="No space"):
        store.put(made("door-01"), ".1.mp4", write)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_killed_program_left_is_removed_and_nothing_else(
    tmp_path: Path, clock: WallClock
) -> None:
    store = EvidenceStore(tmp_path, None, None, clock)
    put(store, "door-01")
    left = tmp_path / "door/2026-11-22/.door-02.1.mp4.part"
    own = tmp_path / "door/2026-11-22/holiday.part"
    for path in (left, own):
        path.write_bytes(b"x")
    store.clean()
    assert not left.exists()
    assert own.exists()


@pytest.mark.parametrize("keep_days", [1.0, 30.0])
def test_files_are_kept_to_the_minute(tmp_path: Path, clock: WallClock, keep_days: float) -> None:
    store = EvidenceStore(tmp_path, keep_days, None, clock)
    done = put(store, "door-01")
    clock.sleep(3 * MINUTE_S)
    young = put(store, "door-02")
    assert runs(store, clock, keep_days * DAY_S - 3.5 * MINUTE_S) == []
    (gone,) = runs(store, clock, MINUTE_S)
    assert (gone.state, gone.id, gone.path) == ("removed", "door-01", done.path)
    assert "keep_days" in (gone.reason or "")
    assert not Path(done.path or "").exists()
    assert Path(young.path or "").exists()
    assert runs(store, clock, MINUTE_S) == []


@pytest.mark.parametrize("days", [20, 400, -400])
def test_a_clock_that_is_set_for_a_while_deletes_nothing(
    tmp_path: Path, clock: WallClock, days: float
) -> None:
    store = EvidenceStore(tmp_path, 10.0, None, clock)
    put(store, "door-01")
    assert runs(store, clock, HOUR_S) == []
    clock.jump(days * DAY_S)
    assert runs(store, clock, 12 * HOUR_S) == []
    store.close()
    store = EvidenceStore(tmp_path, 10.0, None, clock)
    assert runs(store, clock, HOUR_S) == []
    clock.jump(-days * DAY_S)
    assert runs(store, clock, 9 * DAY_S) == []
    assert [one.id for one in runs(store, clock, DAY_S)] == ["door-01"]


def test_time_between_two_runs_counts(tmp_path: Path, clock: WallClock) -> None:
    store = EvidenceStore(tmp_path, 10.0, None, clock)
    put(store, "door-01")
    assert runs(store, clock, HOUR_S) == []
    store.close()
    clock.jump(20 * DAY_S)  # the machine was off
    store = EvidenceStore(tmp_path, 10.0, None, clock)
    young = put(store, "door-02")
    assert [one.id for one in runs(store, clock, 2 * DAY_S)] == ["door-01"]
    assert Path(young.path or "").exists()


def test_of_too_much_the_oldest_go(tmp_path: Path, clock: WallClock) -> None:
    store = EvidenceStore(tmp_path, None, 2500 / 1e9, clock)
    for at in range(5):
        put(store, f"door-{at}", size=1000)
        clock.sleep(1.0)
    gone = [one.id for one in store.delete_old()]
    assert gone == ["door-0", "door-1", "door-2"]
    assert sorted(path.name[:6] for path in tmp_path.rglob("*.mp4")) == ["door-3", "door-4"]


def test_a_file_of_somebody_else_is_never_deleted(tmp_path: Path, clock: WallClock) -> None:
    store = EvidenceStore(tmp_path, 1.0, 1 / 1e9, clock)
    put(store, "door-01")
    other = tmp_path / "door/2026-11-22/mine.mp4"
    other.write_bytes(b"x" * 10_000)
    assert len(runs(store, clock, 2 * DAY_S)) == 1
    assert other.exists()


def test_a_file_that_somebody_deleted_is_said_to_be_gone(tmp_path: Path, clock: WallClock) -> None:
    store = EvidenceStore(tmp_path, 1.0, None, clock)
    done = put(store, "door-01")
    Path(done.path or "").unlink()
    assert [one.state for one in runs(store, clock, 2 * DAY_S)] == ["removed"]


def test_the_index_outlives_the_program_and_a_vanished_folder(
    tmp_path: Path, clock: WallClock
) -> None:
    folder = tmp_path / "files"
    store = EvidenceStore(folder, 1.0, None, clock)
    put(store, "door-01")
    store.close()
    again = EvidenceStore(folder, 1.0, None, clock)
    folder.rename(tmp_path / "away")
    assert runs(again, clock, HOUR_S) == []
    put(again, "door-02")
    assert [one.id for one in runs(again, clock, 2 * DAY_S)] == ["door-02"]
