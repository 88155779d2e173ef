"""The settings of `mqtt`: the broker, the topics, and Home Assistant."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from bridges.records import Record
from bridges.settings import BridgeSettings, Secret
from pipeline.config.paths import LocalPath
from pipeline.config.section import Section
from pipeline.public.records import Event

PORTS = {"mqtt": 1883, "mqtts": 8883}
_LOOKS = "must look like mqtt://192.0.2.5 or mqtts://broker.example:8883"
_BAD_IN_TOPIC = re.compile(r"[+#\x00-\x1f\x7f-\x9f]")


def _topic(value: str) -> str:
    """A prefix of topics, without a slash at its ends."""
    value = value.strip("/")
    if not value:
        raise ValueError("is empty; write a word such as two-stream")
    if _BAD_IN_TOPIC.search(value):
        raise ValueError("a topic may have no +, no # and no control characters")
    if value.startswith("$"):
        raise ValueError("topics that begin with $ belong to the broker")
    if "//" in value:
        raise ValueError("has an empty level: two slashes, one after the other")
    return value


class Tls(Section):
    """How the broker shows who it is, and the bridge who it is."""

    ca: LocalPath | None = Field(
        default=None, description="certificates that vouch for the broker; default: the system's"
    )
    certificate: LocalPath | None = Field(
        default=None, description="certificate of this bridge, where the broker asks for one"
    )
    private_key: LocalPath | None = Field(
        default=None, description="its private key; default: in the file of the certificate"
    )


class HomeAssistant(Section):
    """Entities in Home Assistant, which finds them by itself."""

    discovery: str = Field(default="homeassistant", description="its discovery prefix")
    name: str = Field(
        default="", max_length=64, description="stands before the cameras' names; default: nothing"
    )

    _prefix = field_validator("discovery")(_topic)


class MqttSettings(BridgeSettings):
    """A bridge to an MQTT broker."""

    kind: Literal["mqtt"]
    broker: str = Field(description="mqtt://host:port, or mqtts:// for TLS")
    username: str | None = Field(default=None, min_length=1, description="login at the broker")
    password: Secret | None = Field(default=None, description="{env: NAME} or {file: PATH}")
    tls: Tls = Tls()
    protocol: Literal["5", "3.1.1"] = Field(
        default="5",
        description="version of MQTT; with 3.1.1 a broker can't say that it refuses a message",
    )
    client_id: str | None = Field(
        default=None, min_length=1, max_length=128, description="default: made of the bridge's name"
    )
    keepalive_s: int = Field(
        default=15, ge=5, le=3600, description="a connection is dead after 1.5 times as long"
    )
    prefix: str = Field(default="two-stream", description="all topics begin with it")
    snapshots: bool = Field(default=False, description="send the bytes of snapshots, retained, too")
    snapshot_max_kb: int = Field(
        default=1024, ge=1, le=65_536, description="no larger snapshots are sent"
    )
    home_assistant: HomeAssistant | None = Field(
        default=None, description="{} announces cameras and actions to Home Assistant"
    )

    _prefix = field_validator("prefix")(_topic)

    @field_validator("broker")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            raise ValueError(_LOOKS) from None
        if "@" in parts.netloc:
            raise ValueError(
                "the login doesn't stand in the address; write `username` and `password`"
            )
        whole = parts.scheme in PORTS and parts.hostname and port != 0
        if not whole or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(_LOOKS)
        return value

    @field_validator("protocol", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return "5" if value in (5, 5.0, "5.0") and not isinstance(value, bool) else value

    @field_validator("home_assistant", mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        if isinstance(value, bool):
            return {} if value else None
        return value

    @model_validator(mode="after")
    def _fit(self) -> "MqttSettings":
        tls = self.tls
        if self.scheme == "mqtt" and (tls.ca or tls.certificate or tls.private_key):
            raise ValueError("tls: needs an address with mqtts://")
        if tls.private_key and not tls.certificate:
            raise ValueError("tls: private_key needs certificate")
        if self.password is not None and self.username is None:
            raise ValueError("password: needs username")
        return self

    @property
    def scheme(self) -> str:
        return urlsplit(self.broker).scheme

    @property
    def host(self) -> str:
        return urlsplit(self.broker).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.broker).port or PORTS[self.scheme]

    def wants(self, record: Record) -> bool:
        """All types of events: whether an action goes on is known from its start and end alone."""
        if not isinstance(record, Event):
            return super().wants(record)
        is_camera = self.cameras is None or record.camera in self.cameras
        return is_camera and (self.labels is None or record.label in self.labels)

    def sends(self, event: Event) -> bool:
        """Whether the event itself is sent, and not only what goes on."""
        return super().wants(event)
