"""`notify`: messages to people, by one of the services that Apprise knows."""

import logging
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from zoneinfo import ZoneInfo

import apprise

from bridges.held_back import HeldBack
from bridges.notify_settings import FIELDS, Message, NotifySettings, What
from bridges.patience import Patience
from bridges.receiver import Away, Place
from bridges.records import Record, State, key_of
from bridges.worker import Worker
from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.config.hours import Hours, time_zone
from pipeline.errors import ConfigError
from pipeline.public.records import Event

_REMEMBERED = 500
"""Actions whose newest event is remembered, for the words of a picture that comes after it."""
_MOST_FILE = 25_000_000
"""Bytes; few services take more."""
_HAPPENED = {
    "start": "has started",
    "update": "goes on",
    "end": "has ended",
    "snapshot": "snapshot",
    "clip": "clip",
}


class NotifyReceiver:
    """Sends a message for each record that there is to be one for."""

    def __init__(self, settings: NotifySettings, place: Place) -> None:
        # Its own log names addresses, which hold tokens.
        logging.getLogger("apprise").disabled = True
        self._settings = settings
        self._clock, self._warn = place.clock, place.warn
        self._zone = time_zone(settings.timezone)
        self._quiet = Hours.of(settings.quiet, settings.timezone) if settings.quiet else None
        urls = [url.get_secret_value() for url in settings.urls]
        self._services = [_service(number, url) for number, url in enumerate(urls, 1)]
        self._worker = Worker(place.stopping)
        self._patience = Patience(
            place.file("failing.json"), settings.give_up_hours * 3600, float("inf"), place.clock
        )
        limit = settings.limit
        self._held = HeldBack(place.file("held.json"), limit.messages, limit.minutes * 60)
        self._events: OrderedDict[str, Event] = OrderedDict()
        self._reached: tuple[str, set[int]] = ("", set())
        """The message that is being sent, and the services that have it already."""
        self._summary_failed_ns: int | None = None

    def send(self, record: Record) -> None:
        if isinstance(record, Event):
            self._events[record.id] = record
            self._events.move_to_end(record.id)
            while len(self._events) > _REMEMBERED:
                self._events.popitem(last=False)
        what = _what(record)
        if what is None or what not in self._settings.on:
            return
        keys = _keys_of(record)
        if any(map(self._held.knows, keys)):
            return
        self._sum_up()
        fields = self._fields(record, what)
        if self._held.must_hold(self._now_s(), quiet=self._is_quiet()):
            self._held.hold(keys, f"{fields['label']} at {fields['camera']}")
            return
        words = self._settings.messages.get(what, self._settings.message)
        title, body = _filled(words, fields)
        if not self._reach(key_of(record), title, body, _file_of(record)):
            reason = "a service didn't take the message, or can't be reached; try: apprise -vv URL"
            self._patience.refused(record, reason, for_its_content=False)
        self._patience.taken()
        self._held.sent(keys, self._now_s())

    def settle(self) -> None:
        try:
            self._held.store()
        except OSError as error:
            raise Away(f"{self._held.path}: {error.strerror}") from None

    def state(self, state: State) -> None:
        pass

    def idle(self) -> None:
        self._sum_up()
        self.settle()

    def close(self) -> None:
        pass

    def _now_s(self) -> float:
        return self._clock.wall_ns() / NS_PER_S

    def _is_quiet(self) -> bool:
        return self._quiet is not None and self._quiet.hold(self._clock.wall_ns())

    def _sum_up(self) -> None:
        """Say in one message what was held back, once messages may be sent again."""
        if not self._held.is_over(self._now_s(), quiet=self._is_quiet()):
            return
        count, lines = self._held.summary()
        if not count:
            self._held.release(self._now_s())
            return
        title = f"{count} message{'s were' if count != 1 else ' was'} held back"
        key = f"summary of {count}"
        now_ns = self._clock.monotonic_ns()
        if not self._reach(key, title, "\n".join(lines), None):
            since_ns = self._summary_failed_ns = self._summary_failed_ns or now_ns
            if (now_ns - since_ns) / NS_PER_S < self._settings.give_up_hours * 3600:
                raise Away("a service didn't take the summary of what was held back")
            self._warn(f"the summary of {count} messages was given up")
        self._summary_failed_ns = None
        self._held.release(self._now_s())

    def _reach(self, key: str, title: str, body: str, file: Path | None) -> bool:
        """Send one message to the services that don't have it yet; whether all have it now."""
        if self._reached[0] != key:
            self._reached = (key, set())
        done = self._reached[1]
        for number, service in enumerate(self._services):
            if number in done:
                continue

            def post(service: apprise.Apprise = service) -> bool:
                attach = str(file) if file is not None else None
                text = apprise.NotifyFormat.TEXT
                try:
                    return bool(
                        service.notify(body=body, title=title, body_format=text, attach=attach)
                    )
                except Exception:
                    # What the code of a hundred services raises is not known. It may hold tokens.
                    return False

            if self._worker.call(post, self._settings.timeout_s):
                done.add(number)
        return len(done) == len(self._services)

    def _fields(self, record: Record, what: What) -> dict[str, str]:
        event = record if isinstance(record, Event) else self._events.get(record.id)
        fields = dict.fromkeys(FIELDS, "")
        fields |= {
            "camera": record.camera, "label": record.label, "type": what, "id": record.id,
            "happened": _HAPPENED[what], "reason": record.reason or "", "seq": str(record.seq),
        }  # fmt: skip
        start = event.start_time if event is not None else None
        if start is None and not isinstance(record, Event):
            start = record.first_time
        if start is not None and (moment := _moment(start, self._zone)) is not None:
            fields |= {"time": f"{moment:%H:%M:%S}", "date": f"{moment:%Y-%m-%d}"}
        if event is not None:
            fields |= {
                "percent": f"{100 * event.score:.0f}",
                "top_percent": f"{100 * event.top_score:.0f}",
                "subject": event.subject or "", "zone": event.zone or "",
                "duration": _duration(event),
            }  # fmt: skip
        return fields


def _service(number: int, url: str) -> apprise.Apprise:
    # No plug-ins, and nothing stored, but what the settings say.
    asset = apprise.AppriseAsset(plugin_paths=[], secure_logging=True, async_mode=False)
    service = apprise.Apprise(asset=asset)
    if not service.add(url):
        raise ConfigError(
            f"urls: number {number} isn't an address that Apprise knows, or a part of it is "
            "missing; https://github.com/caronc/apprise/wiki lists them"
        )
    return service


def _what(record: Record) -> What | None:
    """What a message could be for; None: there is none for this."""
    if isinstance(record, Event):
        return record.type
    if record.state == "removed":
        return None
    if record.kind == "snapshot":
        return "snapshot"
    return "clip" if record.kind == "clip" else None


def _keys_of(record: Record) -> tuple[str, ...]:
    """Names of what the message tells. One that was told isn't told again.

    An action has a second snapshot where its score grew after the first; people get the first.
    """
    if isinstance(record, Event) or record.kind != "snapshot" or record.state != "ready":
        return (key_of(record),)
    return key_of(record), f"{record.log}/{record.id}/snapshot"


def _file_of(record: Record) -> Path | None:
    if isinstance(record, Event) or record.state != "ready" or not record.path:
        return None
    path = Path(record.path)
    try:
        return path if path.is_file() and path.stat().st_size <= _MOST_FILE else None
    except (OSError, ValueError):
        return None


def _filled(message: Message, fields: dict[str, str]) -> tuple[str, str]:
    title = Template(message.title).safe_substitute(fields)
    # A title becomes a line of a mail's head in some services.
    title = " ".join(title.split())
    body = Template(message.body).safe_substitute(fields)
    # Services refuse a message without a text.
    return title, body if body.strip() else title or f"{fields['label']} at {fields['camera']}"


def _moment(text: str, zone: ZoneInfo) -> datetime | None:
    try:
        return datetime.fromtimestamp(from_isoformat(text) / NS_PER_S, UTC).astimezone(zone)
    except (ValueError, OverflowError, OSError):
        return None


def _duration(event: Event) -> str:
    if event.end_time is None:
        return ""
    try:
        seconds = (from_isoformat(event.end_time) - from_isoformat(event.start_time)) / NS_PER_S
    except ValueError:
        return ""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
