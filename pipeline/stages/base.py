"""What a stage is, and what it is given."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from pipeline import topology
from pipeline.clock import NS_PER_S, Clock
from pipeline.config import Config
from pipeline.errors import RingError
from pipeline.stages.link import SupervisorLink
from pipeline.topology import Routes, StageSpec
from pipeline.transport import topics
from pipeline.transport.bus import Bus, Publisher, Push
from pipeline.transport.frame_ring import Shape
from pipeline.transport.messages import CameraStatus, Quarantined, RingRequest
from pipeline.transport.run_identity import RunIdentity
from pipeline.transport.topics import Topic

RING_GRANT_S = 5.0


class Stopped(Exception):
    """Raised out of a wait, when the stage was told to stop meanwhile."""


@dataclass
class Context:
    """What a stage is given: its part of the config, its sockets and its link to the supervisor."""

    spec: StageSpec
    config: Config
    run: RunIdentity
    run_dir: Path
    bus: Bus
    link: SupervisorLink
    clock: Clock
    origin_ns: int
    first_number: int
    """Of the segments of a capture, or of the names that people give."""
    counters: "Counter[str]"
    _status: Push | None = None
    _reported: dict[tuple[str, str], CameraStatus | Quarantined] = field(default_factory=dict)

    @property
    def lossless(self) -> bool:
        return self.config.lossless

    def idle(self, seconds: float) -> None:
        """Wait inside a piece of work: heartbeats go on, a stop raises :class:`Stopped`."""
        self.bus.poll(min(seconds, self.link.until_heartbeat_s()))
        self.link.heartbeat(self.counters)
        if self.link.stop_requested:
            raise Stopped

    def request_ring(self, camera: str, content: str, shape: Shape, kind: str = "") -> str:
        """Ask the owner of all shared memory for a ring; returns its name or raises RingError."""
        request = RingRequest(
            camera=camera,
            content="frame" if content == "frame" else "flow",
            kind=kind,
            shape=shape,
        )
        self.link.send(request)
        deadline = self.clock.monotonic_ns() + int(RING_GRANT_S * NS_PER_S)
        while self.clock.monotonic_ns() < deadline:
            self.idle(0.05)
            grant = self.link.take_grant()
            if grant is not None and grant.camera == camera:
                if grant.ring is None:
                    raise RingError(grant.reason or "refused")
                return grant.ring
        raise RingError(f"the supervisor did not answer for {camera} within {RING_GRANT_S:g} s")

    def status(self, status: CameraStatus | Quarantined) -> None:
        """Report to the supervisor, and to publish, which tells subscribers.

        What was reported already, apart from the time, is not sent again.
        """
        key = (status.camera, getattr(status, "stage", ""))
        timeless = msgspec.structs.replace(status, at_ns=0)
        if self._reported.get(key) == timeless:
            return
        self._reported[key] = timeless
        if self._status is None:
            self._status = self.bus.push(topics.STATUS)
        self.link.send(status)
        self._status.send(status)

    def publisher(self, topic: Topic, routes: Routes) -> Publisher:
        """The socket on which this stage publishes its cameras' steps.

        Lossless, it is ready once all have subscribed to whom their ``routes`` lead.
        """
        cameras = self.spec.cameras
        readers = {camera: topology.readers(topic, routes[camera]) for camera in cameras}
        made = self.bus.publisher(
            topic, self.spec.instance, cameras, readers if self.lossless else None
        )
        if self.lossless:
            self.bus.watch(made)
        return made


class Stage(Protocol):
    """One kind of work. Made, worked, drained when told to stop, closed.

    Its constructor takes a :class:`Context`, and loads and binds all that it needs. It raises
    :class:`pipeline.errors.TwoStreamError` where another try would not help.
    """

    def work(self) -> float | None:
        """Do what there is to do. Returns after how many seconds it must be called again.

        None: when something arrives. 0: at once.
        """
        ...

    def drained(self) -> bool:
        """After a stop: whether all that the stage will ever get has been worked off."""
        ...

    def close(self) -> None: ...
