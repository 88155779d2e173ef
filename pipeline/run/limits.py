"""The machine's limits: what a run needs of them, made room for before anything is started."""

import contextlib
import logging
import os
import resource
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import StartupError, os_reason
from pipeline.topology import flow_shards, stages
from pipeline.transport.frame_ring import SHM_FOLDER

SPARE_FILES = 16
"""Descriptors that a process needs for a moment: a new ring, a stage that is being started."""
CLIENTS = 1000
"""Public clients that there is room for where the hard limit allows it; each takes a descriptor."""
THREADS = 6
"""Threads of a process, at most, beside those of the networks."""
MIN_ADDRESS_SPACE = 1 << 30
"""Bytes. A stage maps about half of it before it has read its first frame."""
_CGROUP = Path("/sys/fs/cgroup")

log = logging.getLogger(__name__)


def make_room(config: Config, people: Collection[str] = ()) -> None:
    """Raise the limits that can be raised; StartupError names what is needed and what there is.

    ``people`` are the cameras at which people are looked for. ZeroMQ ends a process that has no
    descriptor left for a socket, without a word of what to do.
    """
    _files(max(files_needed(config).values()))
    _address_space()
    _processes(config, people)
    _shared_memory()


def files_needed(config: Config) -> Mapping[str, int]:
    """The file descriptors that a process of each kind of stage may have open.

    Counted in running programs of one to eight cameras (``tests/live/test_start_up.py`` counts
    them again). A mapped ring takes two.
    """
    cameras, workers = len(config.cameras), len(flow_shards(config))
    shard = max(len(shard) for shard in flow_shards(config).values())
    used = {
        "supervisor": 37 + 7 * cameras + 3 * workers,
        "capture": 26,
        "people": 24 + 3 * cameras,
        "flow": 18 + 5 * shard,
        "spatial": 20 + 3 * cameras,
        "temporal": 19 + 2 * cameras + workers,
        "fusion": 27,
        "publish": 40 + cameras + workers,
    }
    return {kind: number + SPARE_FILES for kind, number in used.items()}


def _files(needed: int) -> None:
    soft, hard = (_as_number(n) for n in resource.getrlimit(resource.RLIMIT_NOFILE))
    if hard < needed:
        raise StartupError(
            f"{needed} open files are needed for these cameras, {hard:.0f} are allowed; "
            "raise the limit (ulimit -n, LimitNOFILE= of a systemd service) or use fewer cameras"
        )
    wanted = needed + CLIENTS
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            _, given = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (int(min(wanted, hard)), given))


def _address_space() -> None:
    soft, hard = (_as_number(n) for n in resource.getrlimit(resource.RLIMIT_AS))
    if soft >= MIN_ADDRESS_SPACE:
        return
    if hard < MIN_ADDRESS_SPACE:
        raise StartupError(
            f"each process needs {MIN_ADDRESS_SPACE >> 20} MiB of address space, "
            f"{hard / 2**20:.0f} MiB are allowed; raise the limit (ulimit -v, LimitAS=)"
        )
    _, given = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (given, given))


def _processes(config: Config, people: Collection[str]) -> None:
    # And the program itself, its watcher over shared memory, and the fork server.
    count = len(stages(config, people)) + 3
    needed = count * THREADS + 3 * (config.runtime.threads - 1)
    soft, hard = (_as_number(n) for n in resource.getrlimit(resource.RLIMIT_NPROC))
    if soft < hard:
        _, given = resource.getrlimit(resource.RLIMIT_NPROC)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NPROC, (given, given))
    rooms: list[tuple[float, str]] = []
    if _is_counted(hard):
        rooms.append((hard - _threads_of(os.getuid()), "ulimit -u"))
    with contextlib.suppress(OSError, ValueError):
        free = int((_CGROUP / "pids.max").read_text()) - int((_CGROUP / "pids.current").read_text())
        rooms.append((free, "docker run --pids-limit, TasksMax= of a systemd service"))
    for room, where in rooms:
        if room < needed:
            raise StartupError(
                f"{needed} processes and threads are needed for these cameras, "
                f"{max(0, room):.0f} more are allowed; raise the limit ({where})"
            )


def _is_counted(hard: float) -> bool:
    """Whether the system counts this user's processes; it doesn't count those of root."""
    return hard != float("inf") and os.geteuid() != 0


def _threads_of(user: int) -> int:
    return sum(_threads(folder) for folder in _processes_of(user))


def _processes_of(user: int) -> Iterator[Path]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == user:
                yield folder


def _threads(process: Path) -> int:
    try:
        return len(os.listdir(process / "task"))
    except OSError:
        return 0


def _shared_memory() -> None:
    """Raise where no segment can be made at all; whether there is room shows later."""
    if not Path("/proc").is_dir():
        return  # shared memory has no folder on this system
    try:
        with tempfile.NamedTemporaryFile(dir=SHM_FOLDER, prefix="try-two-stream-"):
            pass
    except OSError as error:
        raise StartupError(
            f"shared memory: {SHM_FOLDER} can't be written: {os_reason(error)}; frames go through "
            "it, so mount a tmpfs there (docker run --shm-size=256m)"
        ) from None


def _as_number(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit
