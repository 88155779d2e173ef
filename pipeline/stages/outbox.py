"""Fusion's end of the acknowledged dialogue with publish: transitions are kept until stored."""

import logging
import os
from collections import deque
from itertools import islice

from pipeline.clock import NS_PER_S, Clock
from pipeline.transport.bus import Dealer
from pipeline.transport.messages import Accepted, Outgoing, Transition

RESEND_NS = NS_PER_S // 2
RESEND_AT_ONCE = 100
DROP_UPDATES_AT, DROP_EVENTS_AT = 1_000, 10_000
"""With this many transitions kept, no more updates, and no new events, are taken in: a log that
can't be written for days must not fill the memory."""

log = logging.getLogger(__name__)


class Outbox:
    """Numbers transitions and sends them again, in order, until publish has stored them.

    ``epoch`` is random per process. A new one tells publish that the process before is gone, and
    that it won't end the events that it left open.
    """

    def __init__(self, dealer: Dealer, clock: Clock) -> None:
        self._dealer = dealer
        self._clock = clock
        self.epoch = os.urandom(8).hex()
        self._number = 0
        self._kept: deque[Outgoing] = deque()
        self._sent_ns = 0
        self._refused: set[str] = set()
        self.lost = 0
        self.send(None)

    def send(self, transition: Transition | None) -> None:
        """Keep and send a transition, unless too many wait already; None opens the epoch."""
        if transition is not None and self._refuses(transition):
            return
        self._number += 1
        if not self._kept:
            # Counted from the oldest kept: later ones must not delay its being sent again.
            self._sent_ns = self._clock.monotonic_ns()
        message = Outgoing(epoch=self.epoch, number=self._number, transition=transition)
        self._kept.append(message)
        self._dealer.send(message)

    def work(self) -> float | None:
        """Take in acknowledgements and send again what has waited; seconds until the next time."""
        for message in self._dealer.drain():
            if isinstance(message, Accepted) and message.epoch == self.epoch:
                while self._kept and self._kept[0].number <= message.number:
                    self._kept.popleft()
        if not self._kept:
            return None
        now = self._clock.monotonic_ns()
        if now - self._sent_ns >= RESEND_NS:
            self._sent_ns = now
            for kept in islice(self._kept, RESEND_AT_ONCE):
                self._dealer.send(kept)
        return max(0.0, (self._sent_ns + RESEND_NS - now) / NS_PER_S)

    def _refuses(self, transition: Transition) -> bool:
        key = transition.key
        if key in self._refused:
            if transition.change.type == "end":
                self._refused.discard(key)
            return True
        kind = transition.change.type
        if kind == "start" and len(self._kept) >= DROP_EVENTS_AT:
            self._refused.add(key)
            self.lost += 1
            log.error(
                "%d events wait to be stored: one of %s is lost", DROP_EVENTS_AT, transition.camera
            )
            return True
        return kind == "update" and len(self._kept) >= DROP_UPDATES_AT

    @property
    def empty(self) -> bool:
        return not self._kept
