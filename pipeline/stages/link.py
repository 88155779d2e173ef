"""A stage's link to its supervisor: heartbeats out, orders in."""

import contextlib
import os
from collections import Counter
from pathlib import Path

from pipeline.clock import NS_PER_S, Clock
from pipeline.transport import topics
from pipeline.transport.bus import Bus
from pipeline.transport.messages import (
    Heartbeat,
    Hello,
    Message,
    Pace,
    Pacing,
    RingGrant,
    Stop,
)

GAUGES_S = 2.0
"""A heartbeat's memory and file figures are at most this old."""


class SupervisorLink:
    """A stage's side of the control socket."""

    def __init__(self, bus: Bus, stage: str, clock: Clock, heartbeat_s: float) -> None:
        self._clock = clock
        self._stage = stage
        self._period_ns = int(heartbeat_s * NS_PER_S)
        self._due_ns = 0
        self._gauges: dict[str, float] = {}
        self._gauged_ns: int | None = None
        self._grants: list[RingGrant] = []
        self._dealer = bus.dealer(topics.CONTROL, stage)
        self.stop_requested = False
        self.pace = Pace()
        bus.watch(self._dealer, self._receive)

    def send(self, message: Message) -> None:
        self._dealer.send(message)

    def hello(self) -> None:
        self.send(Hello(stage=self._stage, pid=os.getpid()))

    def heartbeat(self, counters: "Counter[str]") -> None:
        """Send a heartbeat when one is due.

        All stages send theirs at the same moments, which wakes the supervisor once for many.
        """
        now = self._clock.monotonic_ns()
        if now >= self._due_ns:
            self._due_ns = now - now % self._period_ns + self._period_ns
            if self._gauged_ns is None or now - self._gauged_ns >= GAUGES_S * NS_PER_S:
                self._gauges, self._gauged_ns = _process_gauges(), now
            self.send(Heartbeat(counters={**counters, **self._gauges}))

    def until_heartbeat_s(self) -> float:
        return max(0, self._due_ns - self._clock.monotonic_ns()) / NS_PER_S

    def take_grant(self) -> RingGrant | None:
        return self._grants.pop(0) if self._grants else None

    def _receive(self) -> None:
        for message in self._dealer.drain():
            if isinstance(message, Stop):
                self.stop_requested = True
            elif isinstance(message, RingGrant):
                self._grants.append(message)
            elif isinstance(message, Pacing):
                self.pace = message.pace


def _process_gauges() -> dict[str, float]:
    gauges = {}
    with contextlib.suppress(OSError):
        resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
        gauges["rss_bytes"] = float(resident * os.sysconf("SC_PAGE_SIZE"))
        # Without the rings, which belong to no single stage.
        gauges["private_bytes"] = float((resident - shared) * os.sysconf("SC_PAGE_SIZE"))
        user, system = os.times()[:2]
        gauges["cpu_seconds"] = user + system
        gauges["open_files"] = float(len(os.listdir("/proc/self/fd")))
    return gauges
