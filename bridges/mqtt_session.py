"""One connection to a broker, from connect to disconnect, run by one thread.

A session that was lost is thrown away: what it hadn't got acknowledged is sent again by a new one.
So nothing has to survive here, and the broker isn't asked to keep a session.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridges.mqtt_settings import MqttSettings
from bridges.receiver import Away
from pipeline.errors import os_reason

CONNECT_S = 5.0
ACKNOWLEDGE_S = 20.0
"""A broker that is silent for so long about a message is taken for dead."""
WINDOW = 20
"""Messages that wait for their acknowledgement at once; the broker may ask for fewer."""
GOODBYE_S = 1.0
LOGIN_RETRY_S = 10.0
"""Brokers lock out who tries wrong passwords too often."""
_TURN_S = 0.1
_ROOM = 64
"""Bytes of a message beside its topic and payload, at most."""
_TOO_LARGE, _FORMAT, _TOPIC = 149, 153, 144
_FOR_GOOD = {
    _TOO_LARGE: "it is too large for the broker",
    _FORMAT: "the broker doesn't take its format",
    _TOPIC: "the broker doesn't take its topic",
}
_OTHER_VERSION, _BAD_CLIENT_ID, _BAD_LOGIN, _NOT_AUTHORISED = 132, 133, 134, 135
_TAKEN_OVER = 142


@dataclass(frozen=True)
class Will:
    """What the broker publishes, retained, when the bridge is gone."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class Received:
    """A message of a topic that was subscribed to."""

    topic: str
    payload: bytes
    retained: bool


@dataclass
class _Waiting:
    """A message that was sent and isn't acknowledged."""

    topic: str
    tag: str | None
    since: float


class Session:
    """Connects in its constructor; raises :class:`Away`, and then is closed."""

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        will: Will,
        context: ssl.SSLContext | None,
        stopping: Callable[[], bool],
        refused: Callable[[str, str], None],
    ) -> None:
        """``refused`` is told the tag of a message that will never be taken, and why."""
        self._settings, self._client_id = settings, client_id
        self._stopping, self._refused = stopping, refused
        self._waiting: dict[int, _Waiting] = {}
        self._received: list[Received] = []
        self._answer: ReasonCode | None = None
        self._lost: str | None = None
        self.window = WINDOW
        self.largest: int | None = None
        """Bytes of the largest message that the broker takes; None: it didn't say."""
        self._client = self._made(will, context)
        try:
            self._connect()
        except Away:
            self.abandon()
            raise

    def _made(self, will: Will, context: ssl.SSLContext | None) -> paho.Client:
        settings = self._settings
        is_5 = settings.protocol == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            self._client_id,
            clean_session=None if is_5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages = 0  # none of paho's own; the window is kept here
        if settings.username is not None:
            secret = settings.password
            client.username_pw_set(
                settings.username, secret.get_secret_value() if secret is not None else None
            )
        if context is not None:
            client.tls_set_context(context)
        client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _connect(self) -> None:
        host, port = self._settings.host, self._settings.port
        where = f"{self._settings.scheme}://{host}:{port}"
        options: dict[str, Any] = {"clean_start": True} if self._settings.protocol == "5" else {}
        try:
            self._client.connect(host, port, self._settings.keepalive_s, **options)
        except (OSError, ValueError) as error:
            raise Away(f"{where}: {_no_connection(error)}") from None
        until = time.monotonic() + CONNECT_S
        while self._answer is None and self._lost is None:
            self._turn(_TURN_S)
            if time.monotonic() > until:
                raise Away(f"{where}: it doesn't answer as a broker does within {CONNECT_S:g} s")
            if self._stopping():
                raise Away("stopping")
        if self._answer is None:
            raise Away(f"{where}: it isn't a broker of MQTT {self._settings.protocol}{_OTHER}")
        if self._answer.is_failure:
            raise _refusal(where, self._answer, self._settings, self._client_id)

    @property
    def culprit(self) -> str | None:
        """The tag of the message that a broker that hung up may have hung up for.

        It takes messages in order, so that is the oldest that it hasn't acknowledged.
        """
        oldest = next(iter(self._waiting.values()), None)
        return oldest.tag if oldest is not None and self._lost == _HUNG_UP else None

    def takes(self, topic: str, payload: bytes) -> bool:
        """Whether the broker takes messages of this size, as far as it has said."""
        return self.largest is None or len(topic.encode()) + len(payload) + _ROOM <= self.largest

    def publish(self, topic: str, payload: bytes, *, retain: bool, tag: str | None = None) -> None:
        """Send at QoS 1; waits only while too many are unacknowledged. Raises :class:`Away`.

        ``tag`` names what is told to ``refused`` if the broker will never take this message.
        """
        self._until(lambda: len(self._waiting) < self.window)
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._turn(0.0)
            raise Away(self._lost or _HUNG_UP)
        self._waiting[info.mid] = _Waiting(topic, tag, time.monotonic())
        self._turn(0.0)
        self._check()

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for messages; a broker that refuses is not asked again."""
        if self._settings.protocol == "5":
            # What it says itself, a bridge needn't hear.
            options = SubscribeOptions(qos=1, noLocal=True)
            self._client.subscribe([(topic, options) for topic in topics])
        else:
            self._client.subscribe([(topic, 1) for topic in topics])

    def attend(self) -> list[Received]:
        """Do what the connection needs, without waiting; what has arrived meanwhile."""
        self._turn(0.0)
        self._check()
        received, self._received = self._received, []
        return received

    def rest(self, seconds: float) -> None:
        """Send nothing for a while; raises :class:`Away` when the connection is lost meanwhile."""
        until = time.monotonic() + seconds
        self._until(lambda: time.monotonic() >= until)

    def settle(self) -> None:
        """Return when the broker has acknowledged everything."""
        self._until(lambda: not self._waiting)

    def close(self, last: tuple[str, bytes] | None = None) -> None:
        """Say a last, retained word, if the broker still listens, and go. Never raises."""
        with contextlib.suppress(Away, ValueError):
            if last is not None and self._lost is None:
                mid = self._client.publish(last[0], last[1], qos=1, retain=True).mid
                self._waiting[mid] = _Waiting(last[0], None, time.monotonic())
                self._turn_until(lambda: mid not in self._waiting)
            self._client.disconnect()
            # A socket closed with something unread in it is reset, and the broker, which may not
            # have read the goodbye yet, would publish the will.
            self._turn_until(lambda: self._lost is not None)
        self.abandon()

    def abandon(self) -> None:
        """Cut the connection; the broker publishes the will."""
        sock = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    def _until(self, condition: Callable[[], bool]) -> None:
        """Turn until the condition holds; a broker that doesn't acknowledge is away."""
        asked = None
        while not condition():
            self._turn(_TURN_S)
            self._check()
            if self._stopping():
                now = time.monotonic()
                asked = asked or now
                if now - asked > 2.0:
                    raise Away("stopping, and the broker hasn't acknowledged everything")

    def _turn_until(self, condition: Callable[[], bool]) -> None:
        """For a moment only."""
        until = time.monotonic() + GOODBYE_S
        while not condition() and self._lost is None and time.monotonic() < until:
            self._turn(_TURN_S)

    def _check(self) -> None:
        """Raise :class:`Away` when the connection is lost, or as good as lost."""
        if self._lost is None:
            now = time.monotonic()
            # Messages are acknowledged in the order in which they were sent.
            oldest = next(iter(self._waiting.values()), None)
            if oldest is not None and now - oldest.since > ACKNOWLEDGE_S:
                self._lost = f"the broker hasn't acknowledged a message for {ACKNOWLEDGE_S:g} s"
        if self._lost is not None:
            raise Away(self._lost)

    def _turn(self, seconds: float) -> None:
        if self._lost is not None:
            return
        code = self._client.loop(seconds)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS and self._lost is None:
            self._lost = _HUNG_UP

    # What paho calls back, always within `_turn`.

    def _on_connect(
        self,
        _client: paho.Client,
        _data: Any,
        _flags: Any,
        code: ReasonCode,
        said: Properties | None,
    ) -> None:
        self._answer = code
        self.window = min(WINDOW, getattr(said, "ReceiveMaximum", WINDOW))
        self.largest = getattr(said, "MaximumPacketSize", None)
        if getattr(said, "MaximumQoS", 1) < 1:
            self._lost = "the broker can't acknowledge messages (its maximum QoS is 0)"
        elif not getattr(said, "RetainAvailable", 1):
            self._lost = "the broker can't retain messages; switch that on there"

    def _on_disconnect(
        self, _client: object, _data: object, flags: Any, code: ReasonCode, _said: object
    ) -> None:
        if self._lost is not None or self._answer is None or self._answer.is_failure:
            return
        words = _plain(str(code))
        if flags.is_disconnect_packet_from_server:
            if code.value == _TAKEN_OVER:
                words += (
                    f": another client connected as {self._client_id!r}; give each its `client_id`"
                )
            self._lost = f"the broker ended the connection: {words}"
        else:
            self._lost = _HUNG_UP

    def _on_publish(
        self, _client: object, _data: object, mid: int, code: ReasonCode, _said: object
    ) -> None:
        sent = self._waiting.pop(mid, None)
        if sent is None or not code.is_failure:
            return
        if code.value == _NOT_AUTHORISED:
            # Its rules can be changed, so the message isn't lost: it comes again.
            self._lost = (
                f"the broker's access rules refuse to let {self._who()} publish to {sent.topic!r}; "
                "allow it there"
            )
        elif code.value in _FOR_GOOD:
            if sent.tag is not None:
                self._refused(sent.tag, _FOR_GOOD[code.value])
                self._lost = f"the broker refused a message: {_FOR_GOOD[code.value]}"
        else:
            self._lost = f"the broker refused a message to {sent.topic!r}: {_plain(str(code))}"

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self._received.append(Received(message.topic, bytes(message.payload), message.retain))

    def _who(self) -> str:
        user = self._settings.username
        return f"the user {user!r}" if user is not None else "clients without a login"


_HUNG_UP = "the connection is lost"
_OTHER = "; look at `broker`, and try `protocol` 3.1.1 or 5"


def _plain(words: str) -> str:
    return words.rstrip(".").lower()


def _no_connection(error: OSError | ValueError) -> str:
    """Why no connection could be made, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate isn't good: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'no TLS there'}"
    if isinstance(error, socket.gaierror):
        return f"no such host: {error.strerror}"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:g} s"
    if isinstance(error, OSError):
        return os_reason(error)
    return "no broker can be there"


def _refusal(where: str, answer: ReasonCode, settings: MqttSettings, client_id: str) -> Away:
    """What a broker that doesn't let the bridge in has said, in words."""
    words = _plain(str(answer))
    if answer.value in (_BAD_LOGIN, _NOT_AUTHORISED):
        login = (
            f"the user {settings.username!r} and its password"
            if settings.username is not None
            else "a bridge without `username` and `password`"
        )
        return Away(f"{where}: it refuses {login} ({words})", LOGIN_RETRY_S)
    if answer.value == _OTHER_VERSION:
        return Away(f"{where}: it doesn't speak MQTT {settings.protocol}{_OTHER}")
    if answer.value == _BAD_CLIENT_ID:
        return Away(f"{where}: it refuses the client id {client_id!r}; set `client_id`")
    return Away(f"{where}: it refuses the connection: {words}")
