"""Messages: what goes in comes out, and nothing but BadMessage comes of anything else."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.public.records import event_from_json, to_json
from pipeline.transport import messages
from pipeline.transport.messages import (
    MAX_BYTES,
    SCHEMA_VERSION,
    AnyMessage,
    BadMessage,
    EndOfStream,
    decode,
    encode,
)
from testbed.samples import ONE_OF_EACH, event


def test_there_is_one_example_of_each_type() -> None:
    assert {type(m) for m in ONE_OF_EACH} == set(messages.AnyMessage.__args__)


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda m: type(m).__name__)
def test_every_type_survives_the_round_trip(message: AnyMessage) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda m: type(m).__name__)
def test_another_schema_is_refused(message: AnyMessage) -> None:
    stranger = msgspec.structs.replace(message, schema=SCHEMA_VERSION + 1)
    with pytest.raises(BadMessage, match=f"schema {SCHEMA_VERSION + 1}.*speaks {SCHEMA_VERSION}"):
        decode(encode(stranger))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_bad_message(data: bytes) -> None:
    try:
        message = decode(data)
    except BadMessage as error:
        assert str(error)  # noqa: PT017 – either outcome is right, nothing else is
    else:
        assert decode(encode(message)) == message


@given(st.sampled_from(ONE_OF_EACH), st.data())
def test_a_damaged_message_raises_nothing_but_bad_message(
    message: AnyMessage, data: st.DataObject
) -> None:
    body = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for damaged in (bytes(body), bytes(body[:cut])):
        try:
            decode(damaged)
        except BadMessage as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\xa1x" + b"\x91" * 100_000 + b"\x01\xa2is\xa4Stop",
        b"\x82\xa2is\xa7Feature\xa6moment\x81\xa1x" + b"\x81\xa1a" * 100_000,
        b"\x82\xa2is\xa7Feature\xa5trail\xdd\xff\xff\xff\xff",
        b"\x82\xa2is\xabEndOfStream\xa6camera\xdb\xff\xff\xff\xff",
    ],
    ids=["deep array before the tag", "deep map in a skipped field", "huge array", "huge string"],
)
def test_bodies_made_to_hurt_are_bad_messages(data: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(data)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"is": "Nonsense"}, "Nonsense"),
        ({"is": "EndOfStream"}, "camera"),
        ({"is": "EndOfStream", "camera": "door", "extra": 1}, "extra"),
        ({"is": "EndOfStream", "camera": 3}, "str"),
    ],
)
def test_a_malformed_body_is_named(body: dict[str, object], says: str) -> None:
    with pytest.raises(BadMessage, match=says):
        decode(msgspec.msgpack.encode(body))


def test_what_is_too_long_is_refused_by_its_length() -> None:
    big = encode(EndOfStream(camera="x" * MAX_BYTES))
    with pytest.raises(BadMessage, match=rf"at most {MAX_BYTES}"):
        decode(big)


def test_an_event_survives_json() -> None:
    assert event_from_json(to_json(event(3))) == event(3)


@given(st.binary(max_size=100) | st.just(b'{"x":' + b"[" * 100_000))
def test_bad_json_raises_nothing_but_bad_message(data: bytes) -> None:
    with pytest.raises(BadMessage):
        event_from_json(data)


def test_public_json_has_no_nan() -> None:
    assert b'"score":null' in to_json(msgspec.structs.replace(event(1), score=math.nan))
