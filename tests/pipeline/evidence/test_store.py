"""The folder of evidence: whole files only, an index, and the retention."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.evidence.store import EvidenceStore
from pipeline.transport.messages import EvidenceMade

NOW_NS = from_isoformat("2026-11-22T10:00:00.000Z")
MINUTE_NS = 60 * NS_PER_S
DAY_NS = 86_400 * NS_PER_S


def made(name: str, camera: str = "door") -> EvidenceMade:
    return EvidenceMade(
        id=name, seq=4, camera=camera, label="left", kind="clip", state="ready"
    )  # fmt: skip


def put(store: EvidenceStore, name: str, at_ns: int = NOW_NS, size: int = 1000) -> EvidenceMade:
    def write(path: Path) -> dict[str, Any]:
        path.write_bytes(name.encode() * (size // len(name)))
        return {"codec": "h264"}

    return store.put(made(name), ".1.mp4", at_ns, write)


def test_a_file_is_named_with_its_hash_and_size(tmp_path: Path) -> None:
    done = put(EvidenceStore(tmp_path / "new", None, None), "door-01")
    assert done.path == str(tmp_path / "new/door/2026-11-22/door-01.1.mp4")
    data = Path(done.path).read_bytes()
    assert (done.bytes, done.sha256) == (1000 // 7 * 7, hashlib.sha256(data).hexdigest())
    assert (done.codec, done.state) == ("h264", "ready")


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def write(path: Path) -> dict[str, Any]:
        path.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    store = EvidenceStore(tmp_path, None, None)
    with pytest.raises(OSError, match="No space"):
        store.put(made("door-01"), ".1.mp4", NOW_NS, write)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_killed_program_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, None, None)
    put(store, "door-01")
    left = tmp_path / "door/2026-11-22/.door-02.1.mp4.part"
    own = tmp_path / "door/2026-11-22/holiday.part"
    for path in (left, own):
        path.write_bytes(b"x")
    store.clean()
    assert not left.exists()
    assert own.exists()


@pytest.mark.parametrize("keep_days", [1.0, 30.0, 1 / 1440])
def test_files_are_kept_to_the_minute(tmp_path: Path, keep_days: float) -> None:
    store = EvidenceStore(tmp_path, keep_days, None)
    done = put(store, "door-01")
    young = put(store, "door-02", NOW_NS + 3 * MINUTE_NS)
    end_ns = NOW_NS + int(keep_days * DAY_NS)
    assert list(store.delete_old(end_ns)) == []
    assert Path(done.path or "").exists()
    (gone,) = store.delete_old(end_ns + MINUTE_NS)
    assert (gone.state, gone.id, gone.path) == ("removed", "door-01", done.path)
    assert "keep_days" in (gone.reason or "")
    assert not Path(done.path or "").exists()
    assert Path(young.path or "").exists()
    assert list(store.delete_old(end_ns + MINUTE_NS)) == []


def test_of_too_much_the_oldest_go(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, None, 2500 / 1e9)
    for at in range(5):
        put(store, f"door-{at}", NOW_NS + at, size=1000)
    gone = [one.id for one in store.delete_old(NOW_NS + 10)]
    assert gone == ["door-0", "door-1", "door-2"]
    assert sorted(path.name[:6] for path in tmp_path.rglob("*.mp4")) == ["door-3", "door-4"]


def test_a_file_of_somebody_else_is_never_deleted(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, 1.0, 1 / 1e9)
    put(store, "door-01")
    other = tmp_path / "door/2026-11-22/mine.mp4"
    other.write_bytes(b"x" * 10_000)
    assert len(list(store.delete_old(NOW_NS + 100 * DAY_NS))) == 1
    assert other.exists()


def test_a_file_that_somebody_deleted_is_said_to_be_gone(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, 1.0, None)
    done = put(store, "door-01")
    Path(done.path or "").unlink()
    assert [one.state for one in store.delete_old(NOW_NS + 2 * DAY_NS)] == ["removed"]


def test_the_index_outlives_the_program_and_a_vanished_folder(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    store = EvidenceStore(folder, 1.0, None)
    put(store, "door-01")
    store.close()
    again = EvidenceStore(folder, 1.0, None)
    folder.rename(tmp_path / "away")
    assert list(again.delete_old(NOW_NS + 9 * DAY_NS)) == []
    put(again, "door-02")
    assert [one.id for one in again.delete_old(NOW_NS + 9 * DAY_NS)] == ["door-02"]
