"""The folder of a memory: what is kept, for how long, and what a reader finds."""

import sqlite3
from pathlib import Path

import pytest

from pipeline.clock import NS_PER_S
from pipeline.errors import FeatureMemoryError
from pipeline.memory.store import MemoryReader, MemoryWriter
from tests.pipeline.evidence.test_store import DAY_S, HOUR_S, WallClock
from tests.pipeline.memory.test_stretch import A, B, steps


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


def offset_ns(clock: WallClock) -> int:
    return clock.wall_ns() - steps(1)[0].moment.captured_ns


def writer(folder: Path, clock: WallClock, mb: float = 100.0) -> MemoryWriter:
    return MemoryWriter(folder, "door", 7.0, mb, clock)


def times(folder: Path) -> list[int]:
    return [one.first_ns for one in MemoryReader(folder).stretches("door")]


def test_what_is_written_is_read_while_it_goes_on(tmp_path: Path, clock: WallClock) -> None:
    memory = writer(tmp_path, clock)
    memory.append(steps(20), offset_ns(clock), media=False)
    reader = MemoryReader(tmp_path)
    assert reader.cameras() == ["door"]
    kept = reader.kept("door")
    assert kept is not None
    assert (kept.steps, kept.stretches, kept.networks) == (20, 1, frozenset({A, B}))
    first = next(iter(reader.stretches("door")))
    assert first.first_ns == clock.wall_ns()
    assert len(first.steps) == 20
    memory.append(steps(5), offset_ns(clock) + NS_PER_S, media=False)
    assert len(times(tmp_path)) == 2
    memory.close()


def test_a_part_of_the_time_is_read(tmp_path: Path, clock: WallClock) -> None:
    memory = writer(tmp_path, clock)
    for _ in range(5):
        memory.append(steps(3), offset_ns(clock), media=False)
        clock.sleep(HOUR_S)
    all_of_it = times(tmp_path)
    reader = MemoryReader(tmp_path)
    some = reader.stretches("door", all_of_it[1] + NS_PER_S, all_of_it[3])
    assert [one.first_ns for one in some] == all_of_it[2:4]


def test_old_stretches_go(tmp_path: Path, clock: WallClock) -> None:
    memory = writer(tmp_path, clock)
    for _ in range(10):
        memory.append(steps(3), offset_ns(clock), media=False)
        for _ in range(24):
            clock.sleep(HOUR_S)
            memory.delete_old()
    assert len(times(tmp_path)) == 7


def test_a_clock_that_jumps_deletes_nothing(tmp_path: Path, clock: WallClock) -> None:
    memory = writer(tmp_path, clock)
    memory.append(steps(3), offset_ns(clock), media=False)
    clock.jump(120 * DAY_S)
    memory.delete_old()
    memory.close()
    memory = writer(tmp_path, clock)
    memory.delete_old()
    assert len(times(tmp_path)) == 1


def test_the_oldest_go_where_there_is_too_much(tmp_path: Path, clock: WallClock) -> None:
    memory = writer(tmp_path, clock, mb=0.05)
    for _ in range(200):
        memory.append(steps(20), offset_ns(clock), media=False)
        clock.sleep(60)
    newest = times(tmp_path)[-1]
    left = memory.delete_old()
    assert 0 < left <= 50_000
    assert times(tmp_path)[-1] == newest
    # The disk gets its room back.
    assert memory.path.stat().st_size < 200_000


def test_a_file_that_somebody_deleted_is_made_anew(tmp_path: Path, clock: WallClock) -> None:
    memory = writer(tmp_path, clock)
    memory.append(steps(3), offset_ns(clock), media=False)
    for path in tmp_path.iterdir():
        path.unlink()
    memory.append(steps(4), offset_ns(clock), media=False)
    assert len(times(tmp_path)) == 1


def test_what_is_no_memory_is_told(tmp_path: Path, clock: WallClock) -> None:
    with pytest.raises(FeatureMemoryError, match="no such folder"):
        MemoryReader(tmp_path / "none")
    with pytest.raises(FeatureMemoryError, match="the cameras there are: none"):
        MemoryReader(tmp_path).kept("door")
    (tmp_path / "hall.features").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(FeatureMemoryError, match=r"hall\.features: "):
        MemoryReader(tmp_path).kept("hall")
    memory = writer(tmp_path, clock)
    memory.append(steps(3), offset_ns(clock), media=False)
    memory.close()
    with sqlite3.connect(tmp_path / "door.features") as db:
        db.execute("UPDATE stretches SET data = x'00'")
    with pytest.raises(FeatureMemoryError, match=r"door\.features: stretch 1: damaged"):
        times(tmp_path)
