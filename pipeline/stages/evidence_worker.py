"""The thread that makes evidence: it decodes, encodes and waits for the disk."""

import itertools
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence

from pipeline.clock import NS_PER_S, Clock
from pipeline.config import Config
from pipeline.evidence.actions import Task
from pipeline.evidence.clip import NoClip
from pipeline.evidence.feed import Run, size
from pipeline.evidence.file_pieces import pieces_of_file
from pipeline.evidence.render import Renderer, lost
from pipeline.evidence.store import EvidenceStore
from pipeline.transport.messages import EvidenceMade

QUEUE_BYTES = 128 << 20
"""What waits for a slow disk, at most."""
UPKEEP_S = 30.0
GIVEN_UP = "given up: the disk or the processor is too slow for all that happens"

log = logging.getLogger(__name__)

Waiting = tuple[Task, Sequence[Run] | None]
"""Runs None: they are read from the camera's file."""


class EvidenceWorker:
    """Takes tasks and gives records back. Pictures and clips are made in turn.

    When too much waits, clips are given up, the newest first; then pictures.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        settings = config.evidence
        assert settings.folder is not None
        self._config, self._clock = config, clock
        self._store = EvidenceStore(settings.folder, settings.keep_days, settings.keep_gb, clock)
        self._renderer = Renderer(settings, self._store, config.people.folder)
        self._changed = threading.Condition()
        self._queues: dict[str, deque[Waiting]] = {"pictures": deque(), "clip": deque()}
        self._bytes = 0
        self._done: deque[EvidenceMade] = deque()
        self._busy = False
        self._clip_next = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)
        self._thread.start()

    def put(self, task: Task, runs: Sequence[Run] | None) -> None:
        """Have a task done; ``runs`` None: the pieces are read from the camera's file."""
        with self._changed:
            self._queues[task.work].append((task, runs))
            self._bytes += size(runs or ())
            while self._bytes > QUEUE_BYTES and any(self._queues.values()):
                self._give_up()
            self._changed.notify()

    def take(self) -> list[EvidenceMade]:
        """The records since the last call."""
        with self._changed:
            done = list(self._done)
            self._done.clear()
        return done

    @property
    def alive(self) -> bool:
        """Whether it works; otherwise something happened that nobody expected."""
        return self._thread.is_alive()

    @property
    def idle(self) -> bool:
        with self._changed:
            return not self._busy and not any(self._queues.values())

    def close(self) -> None:
        """Stop after what is being made now; what waits is left."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        # A thread that hangs on a disk ends with the process.
        self._thread.join(timeout=1.0)

    def _give_up(self) -> None:
        queue = self._queues["clip"] or self._queues["pictures"]
        task, runs = queue.pop()
        self._bytes -= size(runs or ())
        self._done.extend(lost(task, kind, GIVEN_UP) for kind in self._renderer.kinds(task))

    def _run(self) -> None:
        self._guard(self._store.clean)
        due_ns = 0
        while True:
            waiting = self._next()
            if self._closing:
                break
            if waiting is not None:
                self._make(*waiting)
            now_ns = self._clock.monotonic_ns()
            if now_ns >= due_ns:
                due_ns = now_ns + int(UPKEEP_S * NS_PER_S)
                self._guard(self._delete_old)
        self._store.close()

    def _next(self) -> Waiting | None:
        """The next task; None after a while without one."""
        with self._changed:
            self._busy = False
            if not any(self._queues.values()) and not self._closing:
                self._changed.wait(UPKEEP_S)
            # In turn: many pictures must not keep a clip waiting for ever, nor the other way round.
            first, other = ("clip", "pictures") if self._clip_next else ("pictures", "clip")
            queue = self._queues[first] or self._queues[other]
            if not queue:
                return None
            self._busy = True
            task, runs = queue.popleft()
            self._clip_next = task.work == "pictures"
            return task, runs

    def _make(self, task: Task, runs: Sequence[Run] | None) -> None:
        camera = self._config.cameras[task.event.camera]
        found: Sequence[Run] = runs or ()
        try:
            if runs is None:
                found = pieces_of_file(
                    camera.source, task.event.camera, task.first_ns, task.last_ns
                )
            made = self._renderer.render(task, found, camera)
        except NoClip as error:
            made = [lost(task, kind, str(error)) for kind in self._renderer.kinds(task)]
        with self._changed:
            self._bytes -= size(runs or ())
            self._done.extend(made)

    def _delete_old(self) -> None:
        for made in itertools.islice(self._store.delete_old(), 500):
            with self._changed:
                self._done.append(made)

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, sqlite3.Error) as error:
            log.warning("evidence: old files could not be looked after: %s", error)
