"""What Home Assistant is told, so that it finds cameras and actions by itself. Pure.

One retained message for each camera, which is a *device* there. Home Assistant's form of it:
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from bridges.mqtt_topics import Topics

BIRTH = "status"
"""Below the discovery prefix: Home Assistant says here that it has started."""
ONLINE = b"online"
EVENT_TYPES = ("start", "end")
"""Fixed, because Home Assistant drops an event of a type that it wasn't told of before."""

_ID = re.compile(r"[A-Za-z0-9_-]+")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST_ID = 80

# The template must not name a label or camera: these are data, whatever characters they have.
_EVENT = (
    "{% if value_json.type in ('start', 'end') %}"
    "{{ {'event_type': value_json.type, 'label': value_json.label, 'id': value_json.id, "
    "'score': value_json.score, 'top_score': value_json.top_score, "
    "'start_time': value_json.start_time, 'end_time': value_json.end_time, "
    "'subject': value_json.subject | default(none), 'zone': value_json.zone | default(none), "
    "'reason': value_json.reason, 'log': value_json.log, 'seq': value_json.seq} | tojson }}"
    "{% endif %}"
)
# Home Assistant drops an attribute called `state`.
_DETAILS = (
    "{{ {'camera_state': value_json.state, 'reason': value_json.reason, "
    "'size': value_json.size} | tojson }}"
)


@dataclass(frozen=True)
class Announcement:
    """A retained message."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class Discovery:
    """The messages of one bridge.

    ``prefix`` is Home Assistant's discovery prefix, ``name`` stands before the cameras' names.
    """

    topics: Topics
    prefix: str = "homeassistant"
    name: str = ""
    version: str = ""
    snapshots: bool = False

    @property
    def birth(self) -> str:
        """The topic on which Home Assistant says ``online`` when it has started."""
        return f"{self.prefix}/{BIRTH}"

    def device_id(self, camera: str) -> str:
        """The camera's device, stable and unlike that of any other camera or bridge."""
        return safe_id(self.topics.prefix, camera)

    def topic(self, camera: str) -> str:
        return f"{self.prefix}/device/{self.device_id(camera)}/config"

    def camera(
        self, camera: str, labels: Iterable[str], dropped: Iterable[str] = ()
    ) -> Announcement:
        """The camera with an entity for each label; those of ``dropped`` labels go away."""
        identity = self.device_id(camera)
        message = {
            "dev": {
                "ids": [identity],
                "name": shown(f"{self.name} {camera}"),
                "mf": "two-stream",
                "mdl": "action recognition",
                **({"sw": self.version} if self.version else {}),
            },
            "o": {"name": "two-stream", **({"sw": self.version} if self.version else {})},
            "availability": [
                _available(self.topics.program),
                _available(self.topics.camera(camera)),
            ],
            "availability_mode": "all",
            "qos": 1,
            "cmps": self._entities(camera, identity, labels, dropped),
        }
        return Announcement(self.topic(camera), msgspec.json.encode(message))

    def gone(self, camera: str) -> Announcement:
        """Takes the camera's device away."""
        return Announcement(self.topic(camera), b"")

    def _entities(
        self, camera: str, identity: str, labels: Iterable[str], dropped: Iterable[str]
    ) -> dict[str, dict[str, Any]]:
        topics = self.topics
        entities: dict[str, dict[str, Any]] = {
            "online": {
                "p": "binary_sensor",
                "name": "online",
                "unique_id": f"{identity}_online",
                "default_entity_id": self._entity_id("binary_sensor", camera, "online"),
                "device_class": "connectivity",
                "entity_category": "diagnostic",
                "state_topic": topics.camera(camera),
                "payload_on": "online",
                "payload_off": "offline",
                "json_attributes_topic": topics.details(camera),
                "json_attributes_template": _DETAILS,
                # Its own: a sensor that says "offline" must be there while the camera isn't.
                "availability": [_available(topics.program)],
            },
            "action": {
                "p": "event",
                "name": "action",
                "unique_id": f"{identity}_action",
                "default_entity_id": self._entity_id("event", camera, "action"),
                "event_types": list(EVENT_TYPES),
                "state_topic": topics.event(camera),
                "value_template": _EVENT,
                "icon": "mdi:run",
                # An event may come after the camera was lost, and must not be missed then.
                "availability": [_available(topics.program)],
            },
        }
        if self.snapshots:
            entities["snapshot"] = {
                "p": "image",
                "name": "snapshot",
                "unique_id": f"{identity}_snapshot",
                "default_entity_id": self._entity_id("image", camera, "snapshot"),
                "image_topic": topics.snapshot(camera),
                "content_type": "image/jpeg",
                # The picture of yesterday's event is worth seeing while the camera is away.
                "availability": [_available(topics.program)],
            }
        for label in sorted(set(labels)):
            own = safe_id(label)
            entities[f"label_{own}"] = {
                "p": "binary_sensor",
                "name": shown(label),
                "unique_id": f"{identity}_label_{own}",
                "default_entity_id": self._entity_id("binary_sensor", camera, label),
                "state_topic": topics.state(camera, label),
                "payload_on": "ON",
                "payload_off": "OFF",
                "icon": "mdi:motion-sensor",
            }
        for label in sorted(set(dropped) - set(labels)):
            # A component with its platform alone is removed.
            entities[f"label_{safe_id(label)}"] = {"p": "binary_sensor"}
        return entities

    def _entity_id(self, platform: str, camera: str, what: str) -> str:
        parts = [slug(part) for part in (self.name, camera) if part]
        return f"{platform}.{'_'.join([*parts, slug(what)])}"


def safe_id(*parts: str) -> str:
    """An id of letters, digits, ``_`` and ``-`` for any names; different names, different ids."""
    plain = "_".join(parts)
    if _ID.fullmatch(plain) and len(plain) <= _LONGEST_ID and not any("_" in p for p in parts[:-1]):
        return plain
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    mark = hashlib.sha256(data).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", _ascii(plain)).strip("_")[: _LONGEST_ID - 12]
    # Two underscores: no plain id of a name that wasn't changed ends like this by chance.
    return f"{readable}__{mark}"


def slug(name: str) -> str:
    """The name as a part of an entity id: small letters, digits and ``_``."""
    found = _NOT_SLUG.sub("_", _ascii(name).lower()).strip("_")
    if found:
        return found[:64].strip("_")
    return "x" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def shown(name: str) -> str:
    """The name as people see it: without control characters, and not empty."""
    return _CONTROL.sub(" ", name).strip() or "–"


def _ascii(name: str) -> str:
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def _available(topic: str) -> dict[str, str]:
    return {
        "topic": topic,
        "payload_available": "online",
        "payload_not_available": "offline",
    }
