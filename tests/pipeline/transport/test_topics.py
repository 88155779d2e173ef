"""Topics: the table agrees with itself and with the messages, and the bus follows it."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.transport import topics
from pipeline.transport.bus import Bus, TopicError
from pipeline.transport.messages import AnyMessage, Hello, Message, Ready, Stop, Transition, encode
from pipeline.transport.topics import STAGES, SUPERVISOR, TABLE, Drop, Topic, Wire, ring_readers
from testbed.samples import ONE_OF_EACH, transition

CAMERA_NAMES = st.from_regex(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$", fullmatch=True)
MEMBERS = (*STAGES, SUPERVISOR)


@pytest.mark.slow
@given(CAMERA_NAMES, CAMERA_NAMES)
def test_no_camera_hears_another(one: str, other: str) -> None:
    for topic, listened in product(TABLE, TABLE):
        heard = topic.of(other).startswith(listened.of(one))
        assert heard == (topic is listened and (one == other or topic.together))


def test_names_are_unique_and_every_message_type_has_a_topic() -> None:
    assert len({topic.name for topic in TABLE}) == len(TABLE)
    travelling = {kind for topic in TABLE for kind in (*topic.types, *topic.answers)}
    # A transition travels inside an Outgoing.
    assert travelling == set(AnyMessage.__args__) - {Transition}


@pytest.mark.parametrize("topic", TABLE, ids=lambda t: t.name)
def test_writers_and_readers_are_members(topic: Topic) -> None:
    assert {*topic.writers, *topic.readers} <= set(MEMBERS)
    assert topic.answers == () or topic.wire is Wire.DIALOGUE
    if topic.wire is not Wire.PUBLISH:
        assert len(topic.readers) == 1
        assert topic.drop is not Drop.OLDEST_STEPS


def test_messages_flow_one_way_through_the_stages() -> None:
    for topic in TABLE:
        for writer, reader in product(topic.writers, topic.readers):
            # But for the request for what capture has kept.
            if writer in STAGES and reader in STAGES and topic is not topics.RECORD:
                assert STAGES.index(writer) < STAGES.index(reader)


def test_the_setting_that_says_how_long_a_stage_may_be_silent_exists() -> None:
    section, key = topics.CONTROL.silence.setting.split(".")
    assert getattr(getattr(Config(), section), key) > 0


def test_cursors_follow_the_readers_of_the_table() -> None:
    assert ring_readers("frame") == ("spatial", "flow")
    # The cursors of the others stay where they are.
    assert ring_readers("frame", people=True) == ("spatial", "flow", "people")
    assert ring_readers("flow") == ("temporal",)


def open_sockets(bus: Bus, topic: Topic) -> None:
    """Open every end of a topic that the table may give a member."""
    if topic.wire is Wire.PUBLISH:
        bus.publisher(topic, "0", ["door"])
    elif topic.wire is Wire.COLLECT:
        bus.push(topic)
    else:
        bus.dealer(topic, "me")


def read_sockets(bus: Bus, topic: Topic) -> None:
    if topic.wire is Wire.PUBLISH:
        bus.subscriber(topic, ["0"], ["door"])
    elif topic.wire is Wire.COLLECT:
        bus.pull(topic)
    else:
        bus.router(topic)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("topic", TABLE, ids=lambda t: t.name)
def test_a_member_opens_only_the_ends_that_the_table_gives_it(
    topic: Topic, member: str, tmp_path: Path
) -> None:
    bus = Bus(tmp_path, lossless=False, member=member)
    for members, opens in ((topic.writers, open_sockets), (topic.readers, read_sockets)):
        if member in members:
            opens(bus, topic)
        else:
            with pytest.raises(TopicError, match=f"topic {topic.name}: {member} is none of"):
                opens(bus, topic)
    bus.close()


@pytest.mark.parametrize("topic", TABLE, ids=lambda t: t.name)
def test_a_topic_travels_by_its_own_sockets_alone(topic: Topic, tmp_path: Path) -> None:
    bus = Bus(tmp_path, lossless=False)
    others: dict[Wire, tuple[Callable[[], object], ...]] = {
        Wire.PUBLISH: (lambda: bus.push(topic), lambda: bus.router(topic)),
        Wire.COLLECT: (lambda: bus.publisher(topic, ""), lambda: bus.dealer(topic, "me")),
        Wire.DIALOGUE: (lambda: bus.pull(topic), lambda: bus.subscriber(topic, [], [])),
    }
    for opens in others[topic.wire]:
        with pytest.raises(TopicError, match=f"topic {topic.name} travels by {topic.wire.value}"):
            opens()
    bus.close()


@pytest.mark.slow
@pytest.mark.parametrize("topic", TABLE, ids=lambda t: t.name)
def test_a_wire_carries_what_the_table_says_and_nothing_else(topic: Topic, tmp_path: Path) -> None:
    bus = Bus(tmp_path, lossless=False)
    sends: list[tuple[tuple[type[Message], ...], Callable[[Message], None]]]
    if topic.wire is Wire.PUBLISH:
        publisher = bus.publisher(topic, "")
        sends = [(topic.types, lambda message: publisher.send("door", message))]
    elif topic.wire is Wire.COLLECT:
        sends = [(topic.types, bus.push(topic).send)]
    else:
        dealer, router = bus.dealer(topic, "me"), bus.router(topic)
        sends = [
            (topic.types, dealer.send),
            (topic.answers, lambda message: router.send("me", message)),
        ]
    for types, send in sends:
        for message in ONE_OF_EACH:
            if isinstance(message, types):
                send(message)
            else:
                with pytest.raises(TopicError, match="does not carry a"):
                    send(message)
    bus.close()


def test_an_answer_is_no_message_and_a_message_no_answer(tmp_path: Path) -> None:
    """What comes from a strange process is checked by direction too."""
    bus = Bus(tmp_path, lossless=False)
    assert bus.decode(b"", topics.CONTROL, topics.CONTROL.types) == []
    for message, types, taken in (
        (Hello(stage="x", pid=1), topics.CONTROL.types, 1),
        (Hello(stage="x", pid=1), topics.CONTROL.answers, 0),
        (Stop(), topics.CONTROL.answers, 1),
        (Stop(), topics.CONTROL.types, 0),
        (Ready(), topics.CONTROL.types, 1),
        (transition(), topics.TRANSITION.types, 0),
    ):
        data = encode(message)
        assert len(bus.decode(data, topics.CONTROL, types)) == taken
    bus.close()
