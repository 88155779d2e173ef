"""The run's private folder: closed to others, gone at the end, cleared away after a crash."""

import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.run.run_folder import RunFolder
from pipeline.transport.frame_ring import segment_names
from pipeline.transport.run_identity import RunIdentity

PROJECT = Path(__file__).resolve().parents[3]
OWNER = """
import sys
from pathlib import Path
from pipeline.transport.run_identity import RunIdentity
from pipeline.run.run_folder import RunFolder
run = RunIdentity(sys.argv[2])
folder = RunFolder(Path(sys.argv[1]), run)
(folder.path / "control.sock").touch()
# A segment that no tracker knows of: the tracker died with its process, as in a power cut.
Path("/dev/shm", run.prefix + "-1").write_bytes(bytes(4096))
print("made", flush=True)
sys.stdin.readline()
"""


def owned(root: Path, run: RunIdentity) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(root), run.hex],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    return process


def test_only_its_owner_may_look_into_it_and_it_goes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "new" / "root", RunIdentity.new())
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    (folder.path / "control.sock").touch()
    folder.close()
    assert list((tmp_path / "new" / "root").iterdir()) == []


def test_two_runs_never_share_one(tmp_path: Path) -> None:
    run = RunIdentity.new()
    folder = RunFolder(tmp_path, run)
    with pytest.raises(FileExistsError):
        RunFolder(tmp_path, run)
    folder.close()


@pytest.mark.slow
def test_what_a_killed_run_left_is_removed_with_its_memory(tmp_path: Path) -> None:
    run = RunIdentity.new()
    process = owned(tmp_path, run)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert segment_names(run.prefix) == [f"{run.prefix}-1"]
    assert RunFolder.remove_dead(tmp_path) == [run.prefix]
    assert segment_names(run.prefix) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_living_run_and_strange_folders_are_left_alone(tmp_path: Path) -> None:
    run = RunIdentity.new()
    process = owned(tmp_path, run)
    try:
        (tmp_path / "two-stream-notes").mkdir()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "owner.lock").touch()
        (tmp_path / "two-stream-link").symlink_to(tmp_path / "elsewhere")
        assert RunFolder.remove_dead(tmp_path) == []
        assert len(list(tmp_path.iterdir())) == 4
        assert segment_names(run.prefix) == [f"{run.prefix}-1"]
    finally:
        process.kill()
        process.communicate()
        assert RunFolder.remove_dead(tmp_path) == [run.prefix]
