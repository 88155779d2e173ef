"""The kinds of bridges: which there are, their settings, and what opens them.

To add a kind: a module with its settings, derived from :class:`BridgeSettings`, which imports
nothing that its extra installs; a module with the receiver; and a row in :data:`KINDS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridges.file_settings import FileSettings
from bridges.mqtt_settings import MqttSettings
from bridges.notify_settings import NotifySettings
from bridges.receiver import Place, Receiver
from bridges.settings import BridgeSettings
from bridges.webhook_settings import WebhookSettings
from pipeline.errors import needs_extra

Open = Callable[[Any, Place], Receiver]
"""Makes a receiver from its settings. Connects to nothing that may be away: ``send`` does that.

Raises :class:`pipeline.errors.TwoStreamError` for what another try can't change; ``--check`` shows
it too, so it leaves nothing behind that ``close`` doesn't remove.
"""


@dataclass(frozen=True)
class Kind:
    """One kind of bridge."""

    settings: type[BridgeSettings]
    load: Callable[[], Open]
    """Imports the receiver and the libraries that it needs."""


def _file() -> Open:
    from bridges.file import FileReceiver

    return FileReceiver


def _webhook() -> Open:
    with needs_extra("webhook", WEBHOOK):
        from bridges.webhook import WebhookReceiver

    return WebhookReceiver


def _mqtt() -> Open:
    with needs_extra("mqtt", MQTT):
        from bridges.mqtt import MqttReceiver

    return MqttReceiver


def _notify() -> Open:
    with needs_extra("notify", NOTIFY):
        from bridges.notify import NotifyReceiver

    return NotifyReceiver


MQTT, WEBHOOK, NOTIFY = ("paho",), ("httpx2",), ("apprise",)
"""What the extras of these names install."""

KINDS = {
    "file": Kind(FileSettings, _file),
    "mqtt": Kind(MqttSettings, _mqtt),
    "notify": Kind(NotifySettings, _notify),
    "webhook": Kind(WebhookSettings, _webhook),
}


def open_receiver(settings: BridgeSettings, place: Place) -> Receiver:
    """The receiver of a bridge; raises :class:`pipeline.errors.TwoStreamError`."""
    return KINDS[settings.kind].load()(settings, place)
