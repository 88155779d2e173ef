"""Fusion's side of the acknowledged link to publish: what is sent is kept until it is stored."""

import logging
import os
from collections import deque
from itertools import islice

from pipeline.bus import Dealer
from pipeline.clock import NS_PER_S, Clock
from pipeline.messages import Accepted, Outgoing, Transition

RESEND_NS = NS_PER_S // 2
RESEND_AT_ONCE = 100
FEW, MANY = 1_000, 10_000
"""Kept transitions from which on no updates, and no new events, are taken in any more: a log that
can't be written for days must not take the memory instead."""

log = logging.getLogger(__name__)


class Outbox:
    """Numbers transitions and sends them again, in order, until publish says that it has them.

    ``epoch`` is random per process: a new one tells publish that whatever the one before left open
    will never be ended by it.
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
            # Counted from the oldest kept: what follows must not put off its being sent again.
            self._sent_ns = self._clock.monotonic_ns()
        message = Outgoing(epoch=self.epoch, number=self._number, transition=transition)
        self._kept.append(message)
        self._dealer.send(message)

    def work(self) -> float | None:
        """Take in acknowledgements, send again what has waited; seconds until it wants to."""
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
            if transition.type == "end":
                self._refused.discard(key)
            return True
        if transition.type == "start" and len(self._kept) >= MANY:
            self._refused.add(key)
            self.lost += 1
            log.error("%d events wait to be stored: one of %s is lost", MANY, transition.camera)
            return True
        return transition.type == "update" and len(self._kept) >= FEW

    @property
    def empty(self) -> bool:
        return not self._kept
