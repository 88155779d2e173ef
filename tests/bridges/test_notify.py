"""Notifications: words, limits, quiet hours, pictures; Apprise posts to a real server."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridges.notify import NotifyReceiver
from bridges.notify_settings import FIELDS, NotifySettings
from bridges.receiver import Away, Place, Refused
from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.errors import ConfigError
from pipeline.public.records import Event, Evidence
from testbed.clock import HandClock
from testbed.receiving_server import Answer, ReceivingServer
from testbed.samples import event
from tests.bridges.test_webhook import evidence

NOON_S = from_isoformat("2026-11-22T12:00:00.000Z") / NS_PER_S
Open = Callable[..., NotifyReceiver]


@pytest.fixture
def server() -> Iterator[ReceivingServer]:
    with ReceivingServer() as one:
        yield one


@pytest.fixture
def clock() -> HandClock:
    return HandClock(NOON_S)


@pytest.fixture
def opened(server: ReceivingServer, clock: HandClock, tmp_path: Path) -> Open:
    def open_it(**settings: Any) -> NotifyReceiver:
        urls = [f"json://127.0.0.1:{server.port}/TOKEN"]
        whole = {"kind": "notify", "urls": urls, **settings}
        place = Place("one", tmp_path, clock=clock)
        return NotifyReceiver(NotifySettings.model_validate(whole), place)

    return open_it


def told(server: ReceivingServer) -> list[tuple[str, str]]:
    bodies = [json.loads(one.body) for one in server.taken]
    return [(body["title"], body["message"]) for body in bodies]


def one(seq: int, kind: str = "start", **fields: Any) -> Event:
    return msgspec.structs.replace(event(seq, kind, f"door-{seq}"), log="9f", **fields)


def test_the_default_is_one_message_when_an_action_starts(
    server: ReceivingServer, opened: Open
) -> None:
    receiver = opened()
    for kind in ("start", "update", "end"):
        receiver.send(one(1, kind))
    assert told(server) == [("left at door", "left at door has started, 10:00:00 (90 %)")]


def test_words_are_given_for_each_kind_and_in_a_time_zone(
    server: ReceivingServer, opened: Open
) -> None:
    every = " ".join(f"{name}=${name}" for name in FIELDS)
    receiver = opened(
        on=["start", "end"],
        timezone="Asia/Tokyo",
        message={"title": "Achtung $$: $label\n", "body": "x"},
        messages={"end": {"title": "", "body": every}},
    )
    receiver.send(one(1, subject="p17", zone="stairs"))
    receiver.send(one(2, "end", end_time="2026-11-22T10:00:12.120Z", reason="left"))
    assert told(server)[0] == ("Achtung $: left", "x")
    title, body = told(server)[1]
    assert title == ""
    assert body == (
        "camera=door label=left type=end happened=has ended percent=90 top_percent=95 "
        "time=19:00:00 date=2026-11-22 duration=12 s subject= zone= reason=left id=door-2 seq=2"
    )


def test_an_event_cant_put_words_into_the_template(server: ReceivingServer, opened: Open) -> None:
    receiver = opened(message={"title": "$label", "body": "$zone"})
    receiver.send(one(1, label="$id {id}", zone="$seq ${camera} %(x)s"))
    assert told(server) == [("$id {id}", "$seq ${camera} %(x)s")]


def test_a_picture_comes_with_its_message(
    server: ReceivingServer, opened: Open, tmp_path: Path
) -> None:
    picture = tmp_path / "door.jpg"
    picture.write_bytes(b"\xff\xd8picture")
    receiver = opened(on=["snapshot"])
    receiver.send(one(1))
    receiver.send(evidence(picture))
    receiver.send(evidence(picture, number=11, seq=3))  # its score grew; once is enough
    receiver.send(
        evidence(picture, number=8, id="door-2", state="lost", path=None, reason="no room")
    )
    receiver.send(evidence(picture, number=9, state="removed"))
    receiver.send(evidence(picture, number=10, kind="clean"))
    first, second = (json.loads(posted.body) for posted in server.taken)
    assert first["attachments"][0]["filename"] == "door.jpg"
    assert first["message"] == "left at door snapshot, 10:00:00 (90 %)"
    assert second["attachments"] == []


def test_more_than_the_limit_is_held_back_and_summed_up_once(
    server: ReceivingServer, opened: Open, clock: HandClock
) -> None:
    receiver = opened(limit={"messages": 2, "minutes": 10})
    for seq in range(1, 8):
        receiver.send(one(seq, label="left" if seq < 5 else "right"))
        clock.sleep(20)
    assert len(told(server)) == 2
    receiver.idle()
    assert len(told(server)) == 2
    clock.sleep(600)
    receiver.idle()
    receiver.idle()
    assert told(server)[2:] == [
        ("5 messages were held back", "3 × right at door\n2 × left at door")
    ]
    receiver.send(one(8))
    assert len(told(server)) == 4


def test_what_was_held_back_survives_a_crash_and_isnt_counted_twice(
    server: ReceivingServer, opened: Open, clock: HandClock
) -> None:
    first = opened(limit={"messages": 1, "minutes": 10})
    for seq in (1, 2, 3):
        first.send(one(seq))
    first.settle()
    # The cursor wasn't moved: all of them come again.
    second = opened(limit={"messages": 1, "minutes": 10})
    for seq in (1, 2, 3, 4):
        second.send(one(seq))
    clock.sleep(601)
    second.idle()
    assert [title for title, _ in told(server)] == ["left at door", "3 messages were held back"]


def test_quiet_hours_are_quiet_and_end_with_a_summary(
    server: ReceivingServer, opened: Open, clock: HandClock
) -> None:
    # 12:00 UTC is 21:00 in Tokyo.
    receiver = opened(quiet="20:30-22:00", timezone="Asia/Tokyo", limit={"messages": 1})
    receiver.send(one(1))
    receiver.idle()
    assert told(server) == []
    clock.sleep(3600)
    receiver.idle()
    assert told(server) == [("1 message was held back", "1 × left at door")]


def test_a_service_that_is_away_gets_the_message_later_and_others_get_it_once(
    server: ReceivingServer, opened: Open
) -> None:
    with ReceivingServer() as other:
        urls = [f"json://127.0.0.1:{one.port}/TOKEN" for one in (server, other)]
        receiver = opened(urls=urls)
        other.answer = lambda _: Answer(500)
        for _ in range(2):
            with pytest.raises(Away, match="a service didn't take the message") as away:
                receiver.send(one(1))
            assert "TOKEN" not in str(away.value)
        other.answer = lambda _: Answer(200)
        receiver.send(one(1))
        assert (len(server.taken), len(other.taken)) == (1, 1)


def test_a_message_is_given_up_after_its_hours(
    server: ReceivingServer, opened: Open, clock: HandClock
) -> None:
    server.answer = lambda _: Answer(500)
    receiver = opened(give_up_hours=24)
    with pytest.raises(Away):
        receiver.send(one(1))
    clock.sleep(24 * 3600 + 1)
    with pytest.raises(Refused):
        receiver.send(one(1))


@pytest.mark.parametrize("url", ["nonsense://TOKEN", "json://", "mailto://", "slack://TOKEN"])
def test_an_address_that_apprise_doesnt_know_is_found_by_the_check(
    opened: Open, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match=r"urls: number 2 isn't an address") as caught:
        opened(urls=["json://localhost", url])
    assert "TOKEN" not in str(caught.value) + caplog.text


def test_a_text_that_becomes_empty_still_says_something(
    server: ReceivingServer, opened: Open
) -> None:
    opened(message={"title": "", "body": "$zone"}).send(one(1))
    assert told(server) == [("", "left at door")]


def test_evidence_of_an_unknown_action_has_what_it_says_itself(
    server: ReceivingServer, opened: Open, tmp_path: Path
) -> None:
    record: Evidence = evidence(tmp_path / "no.jpg", first_time="2026-11-22T10:00:01.000Z")
    opened(on=["snapshot"], message={"title": "$label", "body": "$time [$percent]"}).send(record)
    assert told(server) == [("left", "10:00:01 []")]
