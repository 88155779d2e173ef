"""The resources that processes use, memory, files, CPU time, and how to run short of them."""

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self, TypedDict

import psutil

from testbed.program import PipelineRun


def process_family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Starvation:
    """How late the machine lets a thread run that only wants to wake up, while inside.

    Limits on times of real processes grow by it: a busy machine is no fault of the program's.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.is_set():
            due = time.monotonic() + 0.02
            self._over.wait(0.02)
            self.worst_s = max(self.worst_s, time.monotonic() - due)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class Sample(TypedDict):
    """What a process uses: unique memory (USS), open files, CPU seconds so far."""

    pid: int
    uss_mb: float
    files: int
    cpu_s: float


def sample(run: PipelineRun) -> dict[str, Sample]:
    """Sample each process by its stage's name; the program itself is ``supervisor``."""
    names = {pid: name for name, pid in run.stages().items()}
    names[run.process.pid] = "supervisor"
    found: dict[str, Sample] = {}
    for process in process_family(run.process.pid):
        if process.pid not in names:
            continue
        try:
            times = process.cpu_times()
            found[names[process.pid]] = {
                "pid": process.pid,
                "uss_mb": process.memory_full_info().uss / 2**20,
                "files": process.num_fds(),
                "cpu_s": times.user + times.system,
            }
        except psutil.NoSuchProcess:
            continue
    return found


def proportional_mb(run: PipelineRun) -> float:
    """The memory of all the program's processes; what several share counts once (PSS)."""
    return sum(p.memory_full_info().pss for p in process_family(run.process.pid)) / 2**20


@contextmanager
def no_room_after(size: int) -> Iterator[None]:
    """The kernel refuses to let files grow beyond ``size`` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
