"""A clean stop: kind by kind, in the order of the data, so that each drains what it was sent."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.clock import NS_PER_S, Clock
from pipeline.run.child import Child
from pipeline.transport.topics import STAGES

# Capture may sit in a read, so it gets the largest part of the time; the other kinds share what is
# left. 5 % of the time is kept for killing.
FIRST_SHARE, OTHER_SHARES = 0.4, 0.55

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shutdown:
    """Stops stages within ``stop_s`` and kills those that don't leave in time.

    None: a stage has as long as it sends heartbeats, as at the end of a lossless run. ``send_stop``
    tells a stage to stop, ``turn`` polls and shows what has arrived, ``patience_s`` is how long a
    stage may be silent. A further signal, which ``signals`` counts, ends the wait for one kind.
    """

    clock: Clock
    stop_s: float | None
    send_stop: Callable[[Child], None]
    turn: Callable[[], None]
    patience_s: Callable[[Child], float]
    signals: Callable[[], int]

    def run(self, children: Sequence[Child]) -> None:
        for child in children:
            child.unwatch()
        began_ns = self.clock.monotonic_ns()
        for place, kind in enumerate(STAGES):
            of_kind = [child for child in children if child.spec.kind == kind]
            for child in of_kind:
                if child.started:
                    self.send_stop(child)
            share = FIRST_SHARE + OTHER_SHARES * place / (len(STAGES) - 1)
            deadline_ns = (
                None if self.stop_s is None else began_ns + int(share * self.stop_s * NS_PER_S)
            )
            self._await_exit(of_kind, deadline_ns)

    def _await_exit(self, children: Sequence[Child], deadline_ns: int | None) -> None:
        signals = self.signals()
        while any(child.alive for child in children):
            if self.signals() > signals:
                return
            now_ns = self.clock.monotonic_ns()
            if deadline_ns is not None and now_ns > deadline_ns:
                break
            if deadline_ns is None and any(self._is_hung(child, now_ns) for child in children):
                break
            self.turn()
        for child in children:
            if child.alive:
                log.warning("%s did not stop in time; killing it", child.name)
                child.kill()

    def _is_hung(self, child: Child, now_ns: int) -> bool:
        return child.started and child.silent_s(now_ns) > self.patience_s(child)
