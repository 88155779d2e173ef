"""The words of public records when clocks and files tell strange times."""

from collections.abc import Callable

import msgspec
import pytest

from pipeline.clock import NS_PER_MS, NS_PER_S, from_isoformat, isoformat
from pipeline.public.wording import Wording, base32
from pipeline.transport.messages import Transition
from testbed.samples import transition

ORDINARY_NS = 1_795_341_600_120 * NS_PER_MS


def wording(wall_ns: Callable[[int], int], media_timed: bool = False) -> Wording:
    return Wording(log="9f", wall_ns=wall_ns, media_timed=media_timed)


def made(kind: str, **changes: object) -> Transition:
    base = transition("end" if kind == "end" else "start")
    return msgspec.structs.replace(base, change=msgspec.structs.replace(base.change, **changes))


def test_an_ordinary_time_gives_the_id_that_it_always_gave() -> None:
    told = wording(lambda _: ORDINARY_NS).event(transition(), 34, None, {})
    assert told.id == "door-01M81B5HBR000012"
    assert told.start_time == "2026-11-22T10:00:00.120Z"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("media_timed", [False, True])
@pytest.mark.parametrize(
    ("start_ns", "digits"),
    [
        (-1, "0000000000"),
        (-(10**30), "0000000000"),
        (0, "0000000000"),
        (NS_PER_MS, "0000000001"),
        (32**10 * NS_PER_MS - 1, "ZZZZZZZZZZ"),
        (32**10 * NS_PER_MS, "ZZZZZZZZZZ"),
        (10**40, "ZZZZZZZZZZ"),
    ],
)
def test_any_time_gives_an_id_of_its_form(start_ns: int, digits: str, media_timed: bool) -> None:
    words = wording(lambda _: 5 if media_timed else start_ns, media_timed)
    event = words.event(made("start", start_pts_ns=start_ns), 34, None, {})
    assert event.id == f"door-{digits}000012"
    assert event.id != words.event(made("start", start_pts_ns=start_ns), 35, None, {}).id


@pytest.mark.timeout(20)
def test_base_32_has_no_negative_numbers() -> None:
    assert base32(0, 3) == "000"
    assert base32(32**6, 6) == "1000000"
    with pytest.raises(ValueError, match="0 or more, got -1"):
        base32(-1, 10)


@pytest.mark.parametrize("set_by_s", [-4e6, -7.5, 3600.0, 1e7, 1.7e9])
def test_an_action_keeps_its_start_when_the_clock_is_set(set_by_s: float) -> None:
    ahead_ns = ORDINARY_NS
    words = wording(lambda ns: ns + ahead_ns)
    first = words.event(made("start", start_ns=0), 1, None, {})
    ahead_ns += round(set_by_s * NS_PER_S)
    end = made("end", start_ns=0, end_ns=1500 * NS_PER_MS)
    last = words.event(end, 2, first.id, {}, first.start_time)
    assert (last.id, last.start_time) == (first.id, first.start_time)
    assert last.end_time == "2026-11-22T10:00:01.620Z"


def test_an_interrupted_action_does_not_end_before_it_starts() -> None:
    now_ns = ORDINARY_NS
    words = wording(lambda _: now_ns)
    first = words.event(transition(), 1, None, {})
    now_ns += 2 * NS_PER_S
    assert words.interrupted(first, 2, 0).end_time == "2026-11-22T10:00:02.120Z"
    now_ns = 0
    end = words.interrupted(first, 2, 0)
    assert (end.type, end.reason, end.seq) == ("end", "interrupted", 2)
    assert end.end_time == first.start_time


@pytest.mark.parametrize("wall_ns", [0, -1, ORDINARY_NS, -(10**18), 10**19, 10**30, -(10**30)])
def test_every_time_has_words(wall_ns: int) -> None:
    text = isoformat(wall_ns)
    assert len(text) == len("2026-11-22T10:00:00.120Z")
    assert isoformat(from_isoformat(text)) == text
