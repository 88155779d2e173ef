"""What Home Assistant is told: its own form, whatever the names are.

With ``HOME_ASSISTANT_PYTHON``, a Python that has Home Assistant's package, its own schemas read the
messages as well (``tests/bridges/home_assistant_schemas.py``). It is too large for every machine.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.home_assistant import Discovery, safe_id, slug
from bridges.mqtt_topics import Topics
from tests.bridges.home_assistant_messages import NAMES, lines

SCHEMAS = Path(__file__).with_name("home_assistant_schemas.py")

_COMMON: dict[str, Any] = {
    "name": {"type": "string", "minLength": 1},
    "unique_id": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
    "icon": {"pattern": "^mdi:[a-z0-9-]+$"},
    "entity_category": {"enum": ["diagnostic", "config"]},
    "availability": {"$ref": "#/$defs/availability"},
    "json_attributes_topic": {"$ref": "#/$defs/topic"},
    "json_attributes_template": {"type": "string"},
}


def _entity(platform: str, required: list[str], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "p": {"const": platform},
            "default_entity_id": {"pattern": rf"^{platform}\.[a-z0-9][a-z0-9_]*$"},
            **_COMMON,
            **more,
        },
        "required": ["p", "name", "unique_id", "default_entity_id", *required],
        "additionalProperties": False,
    }


SCHEMA: dict[str, Any] = {
    "$defs": {
        "topic": {"type": "string", "pattern": "^[^+#\\u0000]+$", "maxLength": 65535},
        "availability": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "topic": {"$ref": "#/$defs/topic"},
                    "payload_available": {"const": "online"},
                    "payload_not_available": {"const": "offline"},
                },
                "required": ["topic"],
                "additionalProperties": False,
            },
        },
    },
    "type": "object",
    "properties": {
        "dev": {
            "type": "object",
            "properties": {
                "ids": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                **{key: {"type": "string", "minLength": 1} for key in ("name", "mf", "mdl", "sw")},
            },
            "required": ["ids", "name"],
            "additionalProperties": False,
        },
        "o": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "sw": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        "availability": {"$ref": "#/$defs/availability"},
        "availability_mode": {"const": "all"},
        "qos": {"enum": [0, 1, 2]},
        "cmps": {
            "type": "object",
            "additionalProperties": {
                "oneOf": [
                    _entity(
                        "binary_sensor",
                        ["state_topic"],
                        state_topic={"$ref": "#/$defs/topic"},
                        payload_on={"type": "string"},
                        payload_off={"type": "string"},
                        device_class={"const": "connectivity"},
                    ),
                    _entity(
                        "event",
                        ["state_topic", "event_types"],
                        state_topic={"$ref": "#/$defs/topic"},
                        event_types={"type": "array", "items": {"type": "string"}},
                        value_template={"type": "string"},
                    ),
                    _entity(
                        "image",
                        ["image_topic"],
                        image_topic={"$ref": "#/$defs/topic"},
                        content_type={"const": "image/jpeg"},
                    ),
                    {"type": "object", "properties": {"p": {}}, "additionalProperties": False},
                ]
            },
        },
    },
    "required": ["dev", "o", "cmps", "availability", "availability_mode"],
    "additionalProperties": False,
}


def discovery(prefix: str = "two-stream", name: str = "") -> Discovery:
    return Discovery(Topics(prefix), name=name, version="0.1.0", snapshots=True)


def told(camera: str, *labels: str, prefix: str = "two-stream") -> Any:
    return json.loads(discovery(prefix).camera(camera, labels).payload)


@pytest.mark.parametrize("camera", NAMES)
def test_a_message_has_home_assistants_form(camera: str) -> None:
    message = discovery().camera(camera, NAMES, dropped=["old"])
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", message.topic)
    jsonschema.validate(json.loads(message.payload), SCHEMA)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=64), st.lists(st.text(max_size=64), max_size=3), st.text(max_size=20))
def test_any_names_at_all_do(camera: str, labels: list[str], prefix: str) -> None:
    message = Discovery(Topics("p"), name=prefix).camera(camera, labels)
    jsonschema.validate(json.loads(message.payload), SCHEMA)


def test_what_a_camera_has() -> None:
    message = told("door", "fall", "wave")
    found = {
        key: (entity["p"], entity["default_entity_id"]) for key, entity in message["cmps"].items()
    }
    assert found == {
        "online": ("binary_sensor", "binary_sensor.door_online"),
        "action": ("event", "event.door_action"),
        "snapshot": ("image", "image.door_snapshot"),
        "label_fall": ("binary_sensor", "binary_sensor.door_fall"),
        "label_wave": ("binary_sensor", "binary_sensor.door_wave"),
    }
    assert "object_id" not in json.dumps(message)
    assert [place["topic"] for place in message["availability"]] == [
        "two-stream/status",
        "two-stream/door/status",
    ]
    # The sensor that says "offline" must be there while the camera isn't.
    online = message["cmps"]["online"]
    assert online["device_class"] == "connectivity"
    assert [place["topic"] for place in online["availability"]] == ["two-stream/status"]


def test_ids_are_stable_and_all_different() -> None:
    assert told("door", "fall") == told("door", "fall")
    seen: list[str] = []
    for prefix in ("two-stream", "two_stream", "a/b"):
        for camera in (*NAMES, "door_online", "door_label_fall", "Door"):
            message = told(camera, *NAMES, prefix=prefix)
            seen += [entity["unique_id"] for entity in message["cmps"].values()]
    assert len(seen) == len(set(seen))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_different_names_have_different_ids(one: str, other: str) -> None:
    assert (safe_id("p", one) == safe_id("p", other)) == (one == other)
    assert (safe_id(one, "x") == safe_id(other, "x")) == (one == other)
    assert re.fullmatch("[A-Za-z0-9_-]+", safe_id(one))
    assert re.fullmatch("[a-z0-9_]+", slug(one))


def test_a_label_that_is_wanted_no_more_goes_away_and_so_does_a_camera() -> None:
    message = json.loads(discovery().camera("door", ["fall"], dropped=["fall", "wave"]).payload)
    assert message["cmps"]["label_wave"] == {"p": "binary_sensor"}
    assert message["cmps"]["label_fall"]["name"] == "fall"
    gone = discovery().gone("door")
    assert (gone.topic, gone.payload) == ("homeassistant/device/two-stream_door/config", b"")


@pytest.mark.parametrize("label", NAMES)
def test_the_event_entity_gets_a_type_that_it_knows(label: str) -> None:
    """Home Assistant renders the template with what arrived as ``value_json``."""
    entity = told("door")["cmps"]["action"]
    template = jinja2.Environment(autoescape=False).from_string(entity["value_template"])
    event = {
        "type": "start", "label": label, "id": "door-1", "score": 0.9, "top_score": 0.95,
        "start_time": "2026-11-22T10:00:00.120Z", "end_time": None, "reason": None, "log": "a",
        "seq": 41,
    }  # fmt: skip
    rendered = json.loads(template.render(value_json=event))
    assert rendered["event_type"] in entity["event_types"]
    assert (rendered["label"], rendered["seq"], rendered["zone"]) == (label, 41, None)
    with_zone = event | {"type": "end", "subject": "p17", "zone": "stairs"}
    rendered = json.loads(template.render(value_json=with_zone))
    assert (rendered["event_type"], rendered["subject"]) == ("end", "p17")
    # An update is no moment; what renders to nothing is ignored.
    assert template.render(value_json=event | {"type": "update"}) == ""


def test_the_online_sensor_tells_the_cameras_state() -> None:
    """By another name, because Home Assistant keeps `state` for the entity's own."""
    entity = told("door")["cmps"]["online"]
    template = jinja2.Environment(autoescape=False).from_string(entity["json_attributes_template"])
    details = {"state": "stalled", "reason": 'no "frames"', "size": [480, 640], "time": "…"}
    assert json.loads(template.render(value_json=details)) == {
        "camera_state": "stalled", "reason": 'no "frames"', "size": [480, 640],
    }  # fmt: skip


if "HOME_ASSISTANT_PYTHON" in os.environ:

    @pytest.mark.slow
    def test_home_assistants_own_schemas_take_all_messages() -> None:
        done = subprocess.run(
            [*os.environ["HOME_ASSISTANT_PYTHON"].split(), str(SCHEMAS)],
            input="\n".join(lines()), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
