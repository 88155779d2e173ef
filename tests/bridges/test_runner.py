"""The loop of a bridge, with a feed and a receiver that a test leads."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from bridges.backoff import FIRST_S, Backoff
from bridges.cursor import Cursor, Position
from bridges.dead_letters import DeadLetters
from bridges.feed import Feed
from bridges.lag import Lag
from bridges.measures import Measures
from bridges.receiver import Away, Refused
from bridges.records import Record, State
from bridges.runner import MOST_UNSETTLED, Runner
from bridges.settings import BridgeSettings
from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.public.records import Event
from testbed.clock import HandClock
from testbed.samples import event


class Events:
    """A feed: events 1 to ``count`` of the log ``9f``, after ``at``."""

    def __init__(self, count: int, at: int = 0) -> None:
        self._left = [msgspec.structs.replace(event(n), log="9f") for n in range(at + 1, count + 1)]
        self.start = Position("9f", at)
        self.newest_seq, self.forgotten, self.program = count, 0, "online"
        self.where = "ipc:///x"
        self.attended_s = 0.0
        self.clock = HandClock()

    def next(self, _seconds: float) -> Event | None:
        return self._left.pop(0) if self._left else None

    def attend(self, seconds: float) -> None:
        self.attended_s += seconds
        self.clock.sleep(seconds)

    def news(self) -> Iterator[State]:
        return iter(())

    def everything(self) -> None:
        pass


class Other:
    """A receiver. ``troubles`` are raised in turn by the calls that they name; ``durable`` is what
    it had when ``settle`` returned."""

    def __init__(self, troubles: list[tuple[str, Exception]] | None = None) -> None:
        self.troubles = troubles or []
        self.taken: list[int] = []
        self.durable: list[int] = []
        self.idles = 0

    def _trouble(self, where: str) -> None:
        if self.troubles and self.troubles[0][0] == where:
            raise self.troubles.pop(0)[1]

    def send(self, record: Record) -> None:
        self._trouble(f"send {record.seq}")
        self._trouble("send")
        self.taken.append(record.seq)

    def settle(self) -> None:
        try:
            self._trouble("settle")
        except Away:
            self.taken = self.durable.copy()
            raise
        self.durable = self.taken.copy()

    def state(self, state: State) -> None: ...

    def idle(self) -> None:
        self.idles += 1

    def close(self) -> None: ...


class Bridge:
    def __init__(self, folder: Path, feed: Events, other: Other, **settings: Any) -> None:
        self.feed, self.other = feed, other
        self.cursor = Cursor(folder / "one.cursor", "one")
        self.measures = Measures("one", "test")
        self.dead = DeadLetters(folder / "dead.jsonl", feed.clock)
        self.runner = Runner(
            BridgeSettings.model_validate({"kind": "test", **settings}), cast(Feed, feed), other,
            self.cursor, self.dead, self.measures, feed.clock,
        )  # fmt: skip

    def run_until(self, over: Callable[[], bool]) -> None:
        turns = iter(range(100_000))
        self.runner.run(lambda: over() or next(turns) > 20_000)
        self.cursor.close()

    def run(self) -> None:
        self.run_until(lambda: self.other.idles > 0)

    def value(self, name: str) -> float:
        labels = {"bridge": "one", "kind": "test"}
        extra = {"record": "event"} if "sent" in name else {}
        found = self.measures.registry.get_sample_value(f"two_stream_bridge_{name}", labels | extra)
        assert found is not None
        return found


AWAY = Away("no")


@pytest.mark.parametrize(
    "troubles",
    [
        [],
        [("send 1", AWAY)],
        [("send 7", AWAY)] * 3,
        [("settle", AWAY)],
        [("settle", AWAY), ("send 3", AWAY), ("settle", AWAY), ("send 3", AWAY)],
        [("send 70", AWAY), ("settle", AWAY), ("settle", AWAY)],
    ],
)
def test_all_come_in_order_once_whatever_fails(
    tmp_path: Path, troubles: list[tuple[str, Exception]]
) -> None:
    other = Other(list(troubles))
    bridge = Bridge(tmp_path, Events(150), other)
    bridge.run()
    assert other.durable == list(range(1, 151))
    assert other.troubles == []
    assert bridge.cursor.position == Position("9f", 150)
    assert bridge.value("sent_total") == 150
    assert (bridge.value("retries_total") > 0) == bool(troubles)


def test_the_cursor_never_passes_what_is_acknowledged(tmp_path: Path) -> None:
    """At every moment at which it could be killed."""
    feed, other = Events(200), Other([("settle", AWAY), ("send 130", AWAY)])
    bridge = Bridge(tmp_path, feed, other)
    move = bridge.cursor.move

    def watched(position: Position) -> None:
        assert list(range(1, position.seq + 1)) == other.durable[: position.seq]
        assert len(other.taken) - (bridge.cursor.position or position).seq <= MOST_UNSETTLED
        move(position)

    bridge.cursor.move = watched  # type: ignore[method-assign]
    bridge.run()
    assert other.durable == list(range(1, 201))


def test_what_is_refused_is_kept_and_the_next_follows(tmp_path: Path) -> None:
    other = Other([("send 2", Refused("too large"))])
    bridge = Bridge(tmp_path, Events(3), other)
    bridge.run()
    assert other.durable == [1, 3]
    (line,) = (tmp_path / "dead.jsonl").read_text().splitlines()
    letter = json.loads(line)
    assert (letter["key"], letter["reason"], letter["record"]["seq"]) == ("9f/2", "too large", 2)
    assert (bridge.value("refused_total"), bridge.value("sent_total")) == (1, 2)
    assert (tmp_path / "dead.jsonl").stat().st_mode & 0o777 == 0o600


def test_without_room_for_dead_letters_it_waits(tmp_path: Path) -> None:
    (tmp_path / "dead.jsonl").mkdir()
    other = Other([("send 2", Refused("no"))] * 3)
    bridge = Bridge(tmp_path, Events(3), other)
    bridge.run_until(lambda: len(other.troubles) == 1)
    assert other.taken == [1]
    assert bridge.cursor.position is not None
    assert bridge.cursor.position.seq == 1


def test_without_room_for_the_cursor_nothing_more_is_sent(tmp_path: Path) -> None:
    other = Other()
    bridge = Bridge(tmp_path, Events(500), other)
    move, fails = bridge.cursor.move, iter([False, *[True] * 5])

    def failing(position: Position) -> None:
        if next(fails, False):
            raise OSError(28, "No space left on device")
        move(position)

    bridge.cursor.move = failing  # type: ignore[method-assign]
    bridge.run_until(lambda: bridge.value("retries_total") == 4)
    assert len(other.taken) == MOST_UNSETTLED
    assert other.taken == list(range(1, MOST_UNSETTLED + 1))


def test_what_filters_leave_out_moves_the_cursor(tmp_path: Path) -> None:
    other = Other()
    bridge = Bridge(tmp_path, Events(4), other, labels=["right"])
    bridge.run()
    assert other.taken == []
    assert bridge.cursor.position == Position("9f", 4)
    assert bridge.value("skipped_total") == 4


def test_a_new_bridge_stores_where_it_begins_before_it_sends(tmp_path: Path) -> None:
    other = Other([("send 41", AWAY)] * 50)
    bridge = Bridge(tmp_path, Events(60, at=40), other)
    bridge.run_until(lambda: bridge.value("retries_total") >= 2)
    assert bridge.cursor.position == Position("9f", 40)


def test_it_waits_as_long_as_the_other_side_asks(tmp_path: Path) -> None:
    other = Other([("send 1", Away("later", 120.0))])
    bridge = Bridge(tmp_path, Events(1), other)
    bridge.run()
    assert 120 <= bridge.feed.attended_s <= 133


def test_pauses_grow_to_the_longest_and_differ() -> None:
    chances = iter([0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    backoff = Backoff(3.0, lambda: next(chances))
    assert [backoff.pause_s() for _ in range(5)] == [FIRST_S / 2, 1.0, 1.0, 3.0, 1.5]
    backoff.reset()
    assert backoff.pause_s() == FIRST_S / 2
    assert Backoff(60.0, lambda: 0.0).pause_s(1e9) == 3600


def test_the_lag_is_the_age_of_what_is_owed() -> None:
    clock = HandClock(from_isoformat(event(1).start_time) / NS_PER_S + 3600)
    lag = Lag(clock)
    assert lag.seconds(0, None) == 0
    # An hour late as soon as it starts; an update doesn't say when it was.
    assert lag.seconds(3, event(1)) == 3600
    assert lag.seconds(3, event(2, "update")) == 0
    clock.sleep(5)
    assert lag.seconds(2, event(2, "update")) == 5
    assert lag.seconds(2, None) == 5
    assert lag.seconds(0, None) == 0
