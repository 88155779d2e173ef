"""The settings of `notify`: messages to people."""

import string
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from bridges.settings import BridgeSettings, Secret
from pipeline.config.hours import HoursSetting, ZoneSetting
from pipeline.config.section import Section

What = Literal["start", "update", "end", "snapshot", "clip"]
FIELDS = {
    "camera": "its name",
    "label": "the action",
    "type": "start, update, end, snapshot or clip",
    "happened": "in words: has started, goes on, has ended, snapshot, clip",
    "percent": "the score now, 0 to 100",
    "top_percent": "the highest score of the action so far",
    "time": "when it started, in the time zone of the settings: 10:00:00",
    "date": "the day of that: 2026-11-22",
    "duration": "how long it lasted, such as 12 s; empty until it has ended",
    "subject": "who, such as p17; empty: the whole picture",
    "zone": "the camera's zone; empty: none",
    "reason": "why it ended, or why there is no picture; mostly empty",
    "id": "the action's id, the same in all its messages",
    "seq": "the event's number in the log",
}
"""What templates may name. A field that isn't known is empty."""


class Message(Section):
    """One message: ``$label at $camera``; ``$$`` is a dollar."""

    title: str = Field(default="$label at $camera", max_length=500)
    body: str = Field(
        default="$label at $camera $happened, $time ($percent %)", min_length=1, max_length=4000
    )

    @field_validator("title", "body")
    @classmethod
    def _template(cls, text: str) -> str:
        template = string.Template(text)
        if not template.is_valid():
            raise ValueError("a $ stands alone; write $$ for a dollar, and a field as $camera")
        unknown = [name for name in template.get_identifiers() if name not in FIELDS]
        if unknown:
            raise ValueError(f"there is no field ${unknown[0]}; there are {', '.join(FIELDS)}")
        return text


class Limit(Section):
    """At most so many messages in so many minutes."""

    messages: int = Field(default=10, ge=1, le=10_000)
    minutes: float = Field(default=10.0, gt=0, le=1440)


class NotifySettings(BridgeSettings):
    """A bridge to people's phones, chats and mailboxes."""

    kind: Literal["notify"]
    urls: list[Secret] = Field(
        min_length=1, max_length=32, description="where to, as Apprise writes it; never shown"
    )
    on: list[What] = Field(
        default=["start"], min_length=1, description="what there is a message for"
    )
    message: Message = Message()
    messages: dict[What, Message] = Field(
        default_factory=dict, description="other words for one of them"
    )
    limit: Limit = Limit()
    quiet: HoursSetting | None = Field(
        default=None, description="hours without messages, such as 22:00-06:00; then one sums up"
    )
    timezone: ZoneSetting = Field(default="UTC", description="of quiet, and of $time and $date")
    timeout_s: float = Field(default=60.0, gt=0, le=600, description="for one message to one url")
    give_up_hours: float = Field(
        default=24.0, ge=0, le=8760, description="a message that can't be sent is then given up"
    )

    @field_validator("urls", mode="before")
    @classmethod
    def _alone(cls, value: object) -> object:
        return value if isinstance(value, list) else [value]

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: list[SecretStr]) -> list[SecretStr]:
        for number, url in enumerate(urls, 1):
            if "://" not in url.get_secret_value():
                raise ValueError(
                    f"number {number} doesn't look like service://…; see docs/bridges.md"
                )
        return urls

    @model_validator(mode="before")
    @classmethod
    def _no_type_filter(cls, data: object) -> object:
        if isinstance(data, dict) and ("types" in data or "evidence" in data):
            raise ValueError("`on` says what there is a message for; leave types and evidence out")
        return data
