"""`webhook`: each record an HTTP POST, signed, in order, until the answer is 2xx."""

import contextlib
import hashlib
import hmac
import re
import ssl
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import httpx2

from bridges.patience import Patience
from bridges.receiver import Away, Place
from bridges.records import Record, State, json_of, key_of
from bridges.webhook_settings import WebhookSettings, address_of
from bridges.worker import Worker
from pipeline.clock import NS_PER_S
from pipeline.errors import ConfigError, os_reason
from pipeline.public.records import Evidence

TIMESTAMP, SIGNATURE, KEY = "Two-Stream-Timestamp", "Two-Stream-Signature", "Idempotency-Key"
_LATER = {408, 425, 429, 502, 503, 504}
"""Answers that say by themselves that another try will help."""
_FOR_ITS_CONTENT = {400, 409, 410, 411, 413, 414, 415, 422, 431}
"""Answers that may be about this one record."""
_MOST_ANSWER = 65_536
"""Bytes of an answer that are read, so that the connection can be used again."""


class _Answer(NamedTuple):
    status: int
    retry_after: str


class WebhookReceiver:
    """Posts records to one address."""

    def __init__(self, settings: WebhookSettings, place: Place) -> None:
        self._settings = settings
        self._url = settings.url.get_secret_value()
        self._address = address_of(self._url)
        self._clock, self._warn = place.clock, place.warn
        self._trust = _trust(settings)
        try:
            self._client = self._new_client()
            self._client.build_request("POST", self._url)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError):
            raise ConfigError("url: no server can have this name") from None
        except ValueError:
            raise ConfigError("HTTPS_PROXY, HTTP_PROXY or ALL_PROXY: it isn't an address") from None
        self._worker = Worker(place.stopping)
        self._patience = Patience(
            place.file("failing.json"),
            settings.give_up_days * 86_400,
            settings.set_aside_minutes * 60,
            place.clock,
        )
        if not settings.verify_tls:
            place.warn("verify_tls is off: anybody between can read and answer what is sent")

    def send(self, record: Record) -> None:
        try:
            answer = self._worker.call(self._posting(record), 3 * self._settings.timeout_s)
        except UnicodeError:
            raise Away(f"{self._address}: no server can have this name") from None
        except httpx2.HTTPError as error:
            raise Away(f"{self._address}: {_words(error, self._settings.timeout_s)}") from None
        except Away as away:
            # What hangs keeps its connection; the next try gets another.
            self._client = self._new_client()
            raise Away(f"{self._address}: {away}") from None
        if 200 <= answer.status < 300:
            self._patience.taken()
            return
        self._judge(record, answer)

    def settle(self) -> None:
        pass

    def state(self, state: State) -> None:
        pass

    def idle(self) -> None:
        pass

    def close(self) -> None:
        self._client.close()

    def _new_client(self) -> httpx2.Client:
        # A redirect would send the record, and its signature, to somebody whom nobody chose; and
        # most clients make a GET without a body of it.
        return httpx2.Client(
            verify=self._trust, timeout=self._settings.timeout_s, follow_redirects=False
        )

    def _posting(self, record: Record) -> Callable[[], _Answer]:
        """What posts the record once. It runs in a thread of its own."""
        client, request = self._client, self._request(record)

        def post() -> _Answer:
            response = client.send(request, stream=True)
            with contextlib.closing(response), contextlib.suppress(httpx2.HTTPError):
                read = 0
                for part in response.iter_raw():
                    read += len(part)
                    if read > _MOST_ANSWER:
                        break
            return _Answer(response.status_code, response.headers.get("Retry-After", ""))

        return post

    def _request(self, record: Record) -> httpx2.Request:
        body = json_of(record)
        headers = {name: one.get_secret_value() for name, one in self._settings.headers.items()}
        headers |= {"User-Agent": "two-stream", KEY: key_of(record)}
        raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
        if self._settings.body == "multipart":
            parts = [("record", ("record.json", body, "application/json"))]
            parts += self._file_of(record)
            request = self._client.build_request("POST", self._url, headers=raw, files=parts)
            body = request.read()
        else:
            raw[b"Content-Type"] = b"application/json"
            request = self._client.build_request("POST", self._url, headers=raw, content=body)
        if self._settings.secret is not None:
            now = str(self._clock.wall_ns() // NS_PER_S)
            request.headers[TIMESTAMP] = now
            secret = self._settings.secret.get_secret_value()
            request.headers[SIGNATURE] = f"v1={signature(secret, now, body)}"
        return request

    def _file_of(self, record: Record) -> list[tuple[str, tuple[str, bytes, str]]]:
        """The file of a piece of evidence as a part, if there is one and it can be read."""
        if not isinstance(record, Evidence) or record.state != "ready" or not record.path:
            return []
        path = Path(record.path)
        most = int(self._settings.max_file_mb * 1e6)
        try:
            with path.open("rb") as file:
                data = file.read(most + 1)
        except (OSError, ValueError) as error:
            reason = os_reason(error) if isinstance(error, OSError) else "no file's name"
            self._warn(f"{key_of(record)}: sent without its file {path.name}: {reason}")
            return []
        if len(data) > most:
            self._warn(f"{key_of(record)}: sent without its file {path.name}: over max_file_mb")
            return []
        return [("file", (path.name, data, record.media_type or "application/octet-stream"))]

    def _judge(self, record: Record, answer: _Answer) -> None:
        status = answer.status
        words = f"{self._address} answered {status}"
        pause = retry_after_s(answer.retry_after, self._clock.wall_ns())
        if status in _LATER:
            raise Away(words, pause)
        if 300 <= status < 400:
            words += ", a redirect, which isn't followed; put the final address into url"
        elif status in (401, 403, 407):
            words += "; look at the login or token in url and headers"
        elif status in (404, 405):
            words += "; look at url"
        self._patience.refused(
            record, words, for_its_content=status in _FOR_ITS_CONTENT, retry_after_s=pause
        )


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 of ``timestamp.body``, in hexadecimal digits."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def retry_after_s(text: str, now_ns: int) -> float:
    """Seconds that ``Retry-After`` asks for, as a number or a date; 0 for nothing and nonsense."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - now_ns / NS_PER_S)
    except (TypeError, ValueError, OverflowError, OSError):
        return 0.0


def _trust(settings: WebhookSettings) -> ssl.SSLContext | bool:
    if not settings.verify_tls:
        return False
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except ssl.SSLError:
        raise ConfigError(f"ca_file: {settings.ca_file}: it holds no certificate (PEM)") from None
    except OSError as error:
        raise ConfigError(f"ca_file: {settings.ca_file}: {os_reason(error)}") from None


def _words(error: httpx2.HTTPError, timeout_s: float) -> str:
    """What went wrong. The library's own words may hold the address, so only some are shown."""
    if isinstance(error, httpx2.ConnectTimeout):
        return f"no connection within {timeout_s:g} s"
    if isinstance(error, httpx2.TimeoutException):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, httpx2.ConnectError):
        return f"no connection: {re.sub(r'://[^ ]*', '://…', str(error))}"
    if isinstance(error, httpx2.RemoteProtocolError):
        return "its answer isn't HTTP, or it hung up"
    if isinstance(error, httpx2.ProxyError):
        return "the proxy (HTTPS_PROXY) doesn't let it through"
    return f"the connection broke ({type(error).__name__})"
