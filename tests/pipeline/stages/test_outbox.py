"""The acknowledged link: what is sent is kept, and sent again, until the other end has it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from pipeline.clock import NS_PER_S
from pipeline.stages.outbox import DROP_EVENTS_AT, RESEND_NS, Outbox
from pipeline.transport import topics
from pipeline.transport.bus import Bus, Router
from pipeline.transport.messages import Accepted, Outgoing
from testbed.clock import HandClock
from testbed.samples import transition


class Link:
    """An outbox and the router that it talks to."""

    def __init__(self, folder: Path) -> None:
        self.bus = Bus(folder, lossless=False)
        self.clock = HandClock()
        self.router: Router = self.bus.router(topics.TRANSITION)
        self.outbox = Outbox(self.bus.dealer(topics.TRANSITION, "fusion"), self.clock)

    def heard(self, count: int) -> list[int]:
        """Numbers that arrive; waits for ``count`` of them, and for one more a little."""
        found: list[int] = []
        deadline = time.monotonic() + 10.0
        while len(found) < count and time.monotonic() < deadline:
            found += self._drain()
            time.sleep(0.005)
        time.sleep(0.05)
        return found + self._drain()

    def _drain(self) -> list[int]:
        messages = [message for _, message in self.router.drain()]
        assert all(isinstance(m, Outgoing) and m.epoch == self.outbox.epoch for m in messages)
        return [message.number for message in messages if isinstance(message, Outgoing)]

    def accept(self, number: int, epoch: str | None = None) -> None:
        self.router.send("fusion", Accepted(epoch=epoch or self.outbox.epoch, number=number))
        time.sleep(0.1)
        self.outbox.work()


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    made = Link(tmp_path)
    yield made
    made.bus.close()


def test_the_first_word_opens_the_epoch(link: Link) -> None:
    assert link.heard(1) == [1]
    assert not link.outbox.empty
    link.accept(1)
    assert link.outbox.empty
    assert link.outbox.work() is None


def test_every_process_is_an_epoch_of_its_own(link: Link) -> None:
    other = Outbox(link.bus.dealer(topics.TRANSITION, "other"), link.clock)
    assert other.epoch != link.outbox.epoch


def test_what_is_not_accepted_is_sent_again_in_order(link: Link) -> None:
    link.outbox.send(transition())
    link.outbox.send(transition("end"))
    assert link.heard(3) == [1, 2, 3]
    assert link.outbox.work() == pytest.approx(RESEND_NS / NS_PER_S)
    assert link.heard(0) == []
    link.clock.now_ns += RESEND_NS
    link.outbox.work()
    assert link.heard(3) == [1, 2, 3]
    link.accept(2)
    link.clock.now_ns += RESEND_NS
    link.outbox.work()
    assert link.heard(1) == [3]


def test_new_transitions_do_not_put_off_the_old(link: Link) -> None:
    """More than two events a second, for ever, must not keep a lost one from being sent again."""
    assert link.heard(1) == [1]
    for _ in range(4):
        link.clock.now_ns += RESEND_NS // 3
        link.outbox.send(transition())
        link.outbox.work()
    assert 1 in link.heard(4)


def test_another_epochs_word_counts_for_nothing(link: Link) -> None:
    link.accept(1, epoch="somebody else's")
    assert not link.outbox.empty
    link.accept(0)
    assert not link.outbox.empty


def test_nothing_is_lost_while_the_other_end_is_away(tmp_path: Path) -> None:
    sender = Bus(tmp_path, lossless=False)
    clock = HandClock()
    outbox = Outbox(sender.dealer(topics.TRANSITION, "fusion"), clock)
    for _ in range(5):
        outbox.send(transition())
    late = Bus(tmp_path, lossless=False)
    router = late.router(topics.TRANSITION)
    found: set[int] = set()
    deadline = time.monotonic() + 10.0
    while not outbox.empty and time.monotonic() < deadline:
        clock.now_ns += RESEND_NS
        outbox.work()
        for name, message in router.drain():
            assert isinstance(message, Outgoing)
            found.add(message.number)
            router.send(name, Accepted(epoch=message.epoch, number=max(found)))
        time.sleep(0.01)
    assert outbox.empty
    assert found == set(range(1, 7))
    sender.close()
    late.close()


@pytest.mark.slow
def test_a_log_that_stays_away_does_not_take_the_memory(link: Link) -> None:
    outbox = link.outbox

    def send(number: int, kind: Literal["start", "update", "end"]) -> None:
        outbox.send(transition(kind, number))

    for number in range(DROP_EVENTS_AT - 1):
        send(number, "start")
    send(1, "update")  # from FEW on these are left out
    assert len(outbox._kept) == DROP_EVENTS_AT
    send(DROP_EVENTS_AT, "start")
    send(DROP_EVENTS_AT, "end")
    assert outbox.lost == 1
    send(1, "end")  # but what began is ended
    assert len(outbox._kept) == DROP_EVENTS_AT + 1
    assert not outbox._refused
    numbers = [kept.number for kept in outbox._kept]
    assert numbers == list(range(1, DROP_EVENTS_AT + 2))
