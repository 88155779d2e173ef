"""Topics, memory and settings of the MQTT bridge: what needs no broker."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from bridges.mqtt import client_id, tls_context
from bridges.mqtt_memory import Memory
from bridges.mqtt_settings import MqttSettings
from bridges.mqtt_topics import Topics, safe
from bridges.receiver import Place
from bridges.settings import load
from pipeline.errors import ConfigError
from pipeline.public.records import Event
from testbed.samples import event as an_event


def a_place(folder: Path, name: str = "home") -> Place:
    return Place(name, folder)


def event(seq: int, kind: str = "start", identity: str = "door-1", log: str = "a") -> Event:
    import msgspec

    return msgspec.structs.replace(an_event(seq, kind, identity), log=log)


# Topics.


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("door", "door"),
        ("a/b", "a%2Fb"),
        ("a+b#", "a%2Bb%23"),
        ("100%", "100%25"),
        ("a\0b\nc", "a%00b%0Ac"),
        ("$SYS", "%24SYS"),
        ("Küche 2", "Küche 2"),
        ("падение", "падение"),
        ("", "%"),
    ],
)
def test_a_name_becomes_one_level_of_a_topic(name: str, level: str) -> None:
    assert safe(name) == level


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_different_names_have_different_levels_that_a_broker_takes(one: str, other: str) -> None:
    assert (safe(one) == safe(other)) == (one == other)
    level = safe(one)
    assert level
    assert not set(level) & set("+#/\0$")
    level.encode()  # no lone surrogate
    topics = Topics("two-stream")
    assert topic_matches_sub(topics.all_states, topics.state(one, other))
    assert not topic_matches_sub(topics.all_states, topics.event(one))


# Memory.


def test_what_goes_on_survives_a_restart(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")
    memory.meet("door", "left")
    memory.take(event(1))
    memory.take(event(2, identity="door-2"))
    memory.take(event(3, "end"))
    memory.save()
    again = Memory(tmp_path / "memory")
    assert again.problem is None
    assert again.goes_on("door", "left")
    assert list(again.cameras) == ["door"]
    assert again.labels("door") == ["left"]
    again.take(event(4, "end", "door-2"))
    assert not again.goes_on("door", "left")


def test_the_same_events_once_more_change_nothing(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")
    events = [event(1), event(2, "update"), event(3, "end")]
    for one in events * 2:
        memory.take(one)
    assert not memory.goes_on("door", "left")


def test_what_the_program_does_not_name_any_more_has_ended(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")
    memory.take(event(1))
    memory.take(event(5, identity="door-2"))
    memory.take(event(9, identity="door-3"))
    memory.take(event(1, identity="old-1", log="b"))
    ended = list(memory.settle("a", 7, {"door-2"}))
    # door-3 began after that, and another log's action has no end any more.
    assert {(one.log, one.seq) for one in ended} == {("a", 1), ("b", 1)}
    assert memory.goes_on("door", "left")


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"format": "another"}', b"\xff\xfe", b"[" * 100_000, b'{"open": 1}']
)
def test_a_damaged_memory_is_said_and_begins_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "memory").write_bytes(content)
    memory = Memory(tmp_path / "memory")
    assert memory.problem
    assert not memory.cameras
    memory.meet("door")
    memory.save()
    assert Memory(tmp_path / "memory").problem is None


def test_a_camera_that_is_gone_is_forgotten_with_all_that_was_of_it(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")
    memory.meet("door", "left")
    memory.take(event(1))
    memory.forget("door")
    assert not memory.cameras
    assert not memory.goes_on("door", "left")


# Settings.


def loaded(folder: Path, **settings: Any) -> MqttSettings:
    path = folder / "bridges.yaml"
    whole = {"bridges": {"home": {"kind": "mqtt", **settings}}}
    path.write_text(json.dumps(whole))
    found = load(path, {"mqtt": MqttSettings}).by_name["home"].settings
    assert isinstance(found, MqttSettings)
    return found


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("mqtt://192.0.2.5", "192.0.2.5", 1883),
        ("mqtts://broker.example", "broker.example", 8883),
        ("mqtt://[2001:db8::7]:1884/", "2001:db8::7", 1884),
    ],
)
def test_the_address_of_a_broker(tmp_path: Path, address: str, host: str, port: int) -> None:
    found = loaded(tmp_path, broker=address)
    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "bridges.home.broker: Field required"),
        ({"broker": "192.0.2.5"}, "mqtt://192.0.2.5"),
        ({"broker": "http://x"}, "must look like"),
        ({"broker": "mqtt://x:99999"}, "must look like"),
        ({"broker": "mqtt://x/path"}, "must look like"),
        ({"broker": "mqtt://u:secret@x"}, "write `username` and `password`"),
        ({"broker": "mqtt://x", "prefix": "a/#"}, "no +, no #"),
        ({"broker": "mqtt://x", "prefix": "/"}, "is empty"),
        ({"broker": "mqtt://x", "prefix": "$SYS"}, "belong to the broker"),
        ({"broker": "mqtt://x", "password": "secret"}, "needs username"),
        ({"broker": "mqtt://x", "tls": {"ca": "x"}}, "mqtts://"),
        ({"broker": "mqtts://x", "tls": {"private_key": "x"}}, "needs certificate"),
        ({"broker": "mqtt://x", "protocol": "4"}, "protocol"),
        ({"broker": "mqtt://x", "home_asistant": {}}, "home_assistant"),
        ({"broker": "mqtt://x", "home_assistant": {"discovery": "a+"}}, "no +, no #"),
    ],
)
def test_settings_that_are_wrong_are_said(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, **settings)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_settings_as_people_write_them(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a secret\n")
    found = loaded(
        tmp_path,
        broker="mqtts://x",
        protocol=5,
        prefix="/house/cameras/",
        username="me",
        password={"file": "password"},
        home_assistant=True,
    )
    assert (found.protocol, found.prefix) == ("5", "house/cameras")
    assert found.home_assistant is not None
    assert found.password is not None
    assert found.password.get_secret_value() == "a secret"
    assert "a secret" not in repr(found)
    assert loaded(tmp_path, broker="mqtt://x", home_assistant=False).home_assistant is None


def test_certificates_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate")
    for tls, key in (
        ({"ca": "missing"}, "tls.ca"),
        ({"ca": "text"}, "tls.ca"),
        ({"certificate": "missing"}, "tls.certificate"),
        ({"certificate": "text"}, "tls.certificate"),
    ):
        with pytest.raises(ConfigError) as caught:
            tls_context(loaded(tmp_path, broker="mqtts://x", tls=tls))
        assert key in str(caught.value)
        assert str(tmp_path) in str(caught.value)


def test_each_bridge_and_machine_has_a_client_id_that_stays(tmp_path: Path) -> None:
    one = client_id(a_place(tmp_path))
    assert one == client_id(a_place(tmp_path))
    assert one != client_id(a_place(tmp_path, "other"))
    assert one != client_id(a_place(tmp_path / "elsewhere"))
