"""The webhook against a real server: signed, acknowledged, refused, redirected, over TLS."""

import runpy
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from bridges.patience import Patience
from bridges.receiver import Away, Place, Refused
from bridges.records import Record, json_of
from bridges.webhook import WebhookReceiver, retry_after_s
from bridges.webhook_settings import WebhookSettings, address_of
from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.errors import ConfigError
from pipeline.public.records import Evidence
from testbed.clock import HandClock
from testbed.receiving_server import Answer, ReceivingServer
from testbed.samples import event
from tests.structure import PROJECT

SECRET = "0123456789abcdef-of-a-test"
Open = Callable[..., WebhookReceiver]
HAPPENED_S = from_isoformat(event(1).start_time) / NS_PER_S


@pytest.fixture
def server() -> Iterator[ReceivingServer]:
    with ReceivingServer() as one:
        yield one


@pytest.fixture
def opened(server: ReceivingServer, tmp_path: Path) -> Iterator[Open]:
    made = []

    def open_it(place: Any = None, **settings: Any) -> WebhookReceiver:
        whole = {"kind": "webhook", "url": server.url + "/hook/TOKEN", **settings}
        place = place or Place("one", tmp_path)
        made.append(WebhookReceiver(WebhookSettings.model_validate(whole), place))
        return made[-1]

    yield open_it
    for one in made:
        one.close()


def evidence(picture: Path, **fields: Any) -> Evidence:
    values = {
        "number": 7, "log": "9f", "id": "door-1", "seq": 1, "camera": "door", "label": "left",
        "kind": "snapshot", "state": "ready", "reason": None, "path": str(picture),
        "media_type": "image/jpeg", "sha256": None, "bytes": None, "first_time": None,
        "last_time": None, "codec": None, "size": None,
    }  # fmt: skip
    return msgspec.convert({**values, **fields}, Evidence)


def test_a_record_is_posted_under_its_key(server: ReceivingServer, opened: Open) -> None:
    record = msgspec.structs.replace(event(41), log="9f")
    opened(headers={"Authorization": "Bearer TOKEN"}).send(record)
    (posted,) = server.posted
    assert posted.path == "/hook/TOKEN"
    assert posted.body == json_of(record)
    assert posted.headers["Content-Type"] == "application/json"
    assert posted.headers["Idempotency-Key"] == "9f/41"
    assert posted.headers["Authorization"] == "Bearer TOKEN"
    assert "Two-Stream-Signature" not in posted.headers


@pytest.mark.parametrize("body", ["json", "multipart"])
def test_the_docs_example_verifies_what_is_sent(
    server: ReceivingServer, opened: Open, body: str
) -> None:
    text = (PROJECT / "docs" / "bridges.md").read_text(encoding="utf-8")
    code = text.partition("<!-- verify -->\n```python\n")[2].partition("```")[0]
    example = PROJECT / "build" / "verify_example.py"
    example.parent.mkdir(exist_ok=True)
    example.write_text(code, encoding="utf-8")
    verify = cast(Callable[..., bool], runpy.run_path(str(example))["verify"])
    opened(secret=SECRET, body=body).send(event(1))
    (posted,) = server.posted
    assert verify(SECRET, posted.headers, posted.body)
    assert not verify(SECRET, posted.headers, posted.body + b" ")
    assert not verify(SECRET + "x", posted.headers, posted.body)
    late = {**posted.headers, "Two-Stream-Timestamp": str(int(time.time()) - 1000)}
    assert not verify(SECRET, late, posted.body)
    assert not verify(SECRET, {}, posted.body)


def parts(body: bytes, content_type: str) -> list["Message[str, str]"]:
    whole = f"Content-Type: {content_type}\r\n\r\n".encode() + body
    return cast(list["Message[str, str]"], BytesParser().parsebytes(whole).get_payload())


def test_a_snapshot_travels_with_its_evidence(
    server: ReceivingServer, opened: Open, tmp_path: Path
) -> None:
    picture = tmp_path / "door.jpg"
    picture.write_bytes(b"\xff\xd8" + bytes(range(256)))
    record = evidence(picture)
    opened(body="multipart").send(record)
    (posted,) = server.posted
    first, second = parts(posted.body, posted.headers["Content-Type"])
    assert first.get_payload(decode=True) == json_of(record)
    assert second.get_payload(decode=True) == picture.read_bytes()
    assert (second.get_filename(), second.get_content_type()) == ("door.jpg", "image/jpeg")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("gone.jpg", {}),
        ("large.jpg", {}),
        ("door.jpg", {"state": "lost"}),
        ("door.jpg", {"path": None}),
        ("a\0b", {}),
    ],
)
def test_without_a_file_the_record_goes_alone(
    server: ReceivingServer, opened: Open, tmp_path: Path, name: str, fields: dict[str, Any]
) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(2000))
    (tmp_path / "door.jpg").write_bytes(bytes(200))
    opened(body="multipart", max_file_mb=0.001).send(evidence(tmp_path / name, **fields))
    (posted,) = server.posted
    assert len(parts(posted.body, posted.headers["Content-Type"])) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_who_says_later_is_asked_later(server: ReceivingServer, opened: Open, status: int) -> None:
    server.answer = lambda _: Answer(status, (("Retry-After", "17"),))
    with pytest.raises(Away, match=f"answered {status}$") as caught:
        opened(give_up_days=0, set_aside_minutes=0).send(event(1))
    assert caught.value.retry_after_s == 17
    assert "TOKEN" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120), ("Thu, 01 Jan 1970 00:01:40 GMT", 90), ("-5", 0), ("soon", 0), ("", 0),
     ("9" * 400, 0), ("Thu, 01 Jan 1960 00:00:00 GMT", 0)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float) -> None:
    assert retry_after_s(text, 10 * NS_PER_S) == seconds


@pytest.mark.parametrize(
    ("status", "says"),
    [(301, "put the final address into url"), (308, "redirect"), (401, "look at the login"),
     (403, "login"), (404, "look at url"), (400, "answered 400"), (500, "answered 500")],
)  # fmt: skip
def test_a_wrong_address_throws_nothing_away(
    server: ReceivingServer, opened: Open, status: int, says: str
) -> None:
    """Old events neither: nobody has had days yet to see it."""
    server.answer = lambda _: Answer(status, (("Location", server.url + "/other"),))
    receiver = opened()
    for _ in range(3):
        with pytest.raises(Away, match=says):
            receiver.send(event(1))
    assert {one.path for one in server.posted} == {"/hook/TOKEN"}


def test_no_connection_is_away_and_says_where_alone(
    server: ReceivingServer, opened: Open, tmp_path: Path
) -> None:
    receiver = opened()
    server.stop()
    with pytest.raises(Away, match=rf"^http://127\.0\.0\.1:{server.port}: no connection: ") as away:
        receiver.send(event(1))
    assert "TOKEN" not in str(away.value)
    server.start()
    receiver.send(event(1))


def test_who_never_answers_is_away(server: ReceivingServer, opened: Open) -> None:
    server.answer = lambda _: Answer(delay_s=0.4)
    receiver = opened(timeout_s=0.1)
    with pytest.raises(Away, match=r"no answer within 0\.1 s|no whole answer"):
        receiver.send(event(1))
    server.answer = lambda _: Answer(hang_up=True)
    with pytest.raises(Away, match="isn't HTTP, or it hung up"):
        receiver.send(event(1))
    server.answer = lambda _: Answer()
    receiver.send(event(1))


def test_a_stop_ends_a_try(server: ReceivingServer, opened: Open, tmp_path: Path) -> None:
    server.answer = lambda _: Answer(delay_s=5.0)
    began = time.monotonic()
    with pytest.raises(Away, match="told to stop"):
        opened(Place("one", tmp_path, stopping=lambda: True)).send(event(1))
    assert time.monotonic() - began < 3


@pytest.fixture
def patience(tmp_path: Path) -> tuple[Patience, HandClock]:
    clock = HandClock(HAPPENED_S)
    return Patience(tmp_path / "failing", 3 * 86_400, 600, clock), clock


def refuse(patience: Patience, record: Record, *, content: bool = False) -> str:
    try:
        patience.refused(record, "no", for_its_content=content)
    except Away:
        return "away"
    except Refused:
        return "given up"


def test_a_record_is_given_up_when_it_and_the_failure_are_days_old(
    patience: tuple[Patience, HandClock],
) -> None:
    one, clock = patience
    assert refuse(one, event(1)) == "away"
    clock.sleep(2.9 * 86_400)
    assert refuse(one, event(1)) == "away"
    clock.sleep(0.2 * 86_400)
    assert refuse(one, event(1)) == "given up"
    # What has just happened has its own days.
    new = msgspec.structs.replace(event(2), start_time="2026-11-25T00:00:00.000Z")
    assert refuse(one, new) == "away"
    one.taken()
    assert refuse(one, event(3)) == "away"


def test_one_record_alone_is_set_aside_but_not_two_in_a_row(
    patience: tuple[Patience, HandClock],
) -> None:
    one, clock = patience
    # Before anything was taken, the address itself may be wrong.
    for _ in range(3):
        assert refuse(one, event(1), content=True) == "away"
        clock.sleep(700)
    one.taken()
    assert refuse(one, event(2), content=True) == "away"
    clock.sleep(601)
    assert refuse(one, event(2), content=True) == "given up"
    for _ in range(3):
        assert refuse(one, event(3), content=True) == "away"
        clock.sleep(700)
    one.taken()
    assert refuse(one, event(4), content=False) == "away"
    clock.sleep(700)
    assert refuse(one, event(4), content=False) == "away"


def test_the_days_are_counted_over_restarts_and_survive_a_wrong_clock(tmp_path: Path) -> None:
    path = tmp_path / "failing"
    for day in range(5):
        clock = HandClock(HAPPENED_S + 10 * 365 * 86_400)
        one = Patience(path, 3 * 86_400, 600, clock)
        assert refuse(one, event(1)) == ("away" if day < 3 else "given up")
        clock.sleep(1.01 * 86_400)
        assert refuse(one, event(1)) == ("away" if day < 2 else "given up")
        if day < 2:
            continue
        break


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, pem = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(pem)],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, pem


@pytest.mark.slow
def test_certificates_are_verified(
    certificate: tuple[Path, Path], tmp_path: Path, opened: Open
) -> None:
    key, pem = certificate
    with ReceivingServer() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, key)
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        url = server.url.replace("http", "https")
        with pytest.raises(Away, match="certificate"):
            opened(url=url).send(event(1))
        opened(url=url, ca_file=pem).send(event(1))
        said: list[str] = []
        opened(Place("x", tmp_path, warn=said.append), url=url, verify_tls=False).send(event(2))
        assert "anybody between" in said[0]
        assert len(server.taken) == 2


@pytest.mark.parametrize(
    "host",
    ["a" * 70 + ".org", "xn--\N{LATIN SMALL LETTER A WITH DIAERESIS}", "-", "a..b", "256.1.1.1"],
)
def test_a_name_that_no_server_has_is_told_and_no_crash(opened: Open, host: str) -> None:
    with pytest.raises((ConfigError, Away), match=r"no server can have this name|no connection"):
        opened(url=f"http://{host}:1/").send(event(1))


def test_a_proxy_that_is_no_address_is_told(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "nonsense://u:TOKEN@x")
    with pytest.raises(ConfigError, match="HTTP_PROXY") as caught:
        opened()
    assert "TOKEN" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_ca_file_that_cant_be_used_is_named(
    opened: Open, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"ca_file: {path}"):
        opened(ca_file=path)


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert address_of("https://u:p@host:99/hook/TOKEN?key=1") == "https://host:99"
    assert address_of("http://[::1]/x") == "http://[::1]"
