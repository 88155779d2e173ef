"""Topics: the table agrees with itself and with the messages."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.messages import AnyMessage, Transition
from pipeline.topics import TABLE, Topic, ring_readers
from pipeline.topology import KINDS

CAMERA_NAMES = st.from_regex(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$", fullmatch=True)


@given(CAMERA_NAMES, CAMERA_NAMES)
def test_no_camera_hears_another(one: str, other: str) -> None:
    for topic, listened in product(TABLE, TABLE):
        heard = topic.of(other).startswith(listened.of(one))
        assert heard == (topic is listened and (one == other or topic.together))


def test_names_are_unique_and_every_message_type_has_a_topic() -> None:
    assert len({topic.name for topic in TABLE}) == len(TABLE)
    travelling = {kind for topic in TABLE for kind in topic.types}
    # A transition travels inside an Outgoing.
    assert travelling == set(AnyMessage.__args__) - {Transition}


@pytest.mark.parametrize("topic", TABLE, ids=lambda t: t.name)
def test_writers_and_readers_are_stages(topic: Topic) -> None:
    outside = {"every stage", "supervisor", "subscribers"}
    assert {topic.writer, *topic.readers} <= {*KINDS, *outside}


def test_messages_flow_one_way_through_the_kinds() -> None:
    for topic in TABLE:
        for reader in topic.readers:
            if topic.writer in KINDS and reader in KINDS:
                assert KINDS.index(topic.writer) < KINDS.index(reader)


def test_cursors_follow_the_readers_of_the_table() -> None:
    assert ring_readers("frame") == ("spatial", "flow")
    assert ring_readers("flow") == ("temporal",)
