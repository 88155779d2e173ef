"""Addresses: what is refused and why, and that no part of a secret is ever seen."""

import base64
import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

import pytest

from pipeline.clock import SYSTEM_CLOCK
from pipeline.config import load, validate
from pipeline.errors import ConfigError, SourceError
from pipeline.sources import create
from pipeline.sources.address import is_file, kind, parse, problem, redact, scrub

RARE = "QXZJKWV"
"""Letters that stand in secrets only, so that one of them anywhere is a leak."""
SECRET_NAMES = ("password", "passwd", "pwd", "token", "key", "api_key", "auth", "loginpas")
SPECIAL = "@/?#:%&;=[]{}<>\"'\\ +$!*()|^~,.-_`ü€"


def secret(rng: random.Random, without: str = "") -> str:
    """Rare letters with special characters between them."""
    allowed = [c for c in SPECIAL if c not in without]
    parts = []
    for _ in range(rng.randint(2, 5)):
        parts.append("".join(rng.choices(RARE, k=rng.randint(1, 4))))
        parts.append("".join(rng.choices(allowed, k=rng.randint(0, 2))))
    return "".join(parts) + rng.choice(RARE)


def addresses(count: int) -> Iterator[str]:
    """Addresses with a secret in one of the places where cameras have them."""
    rng = random.Random(15)
    encoders = (lambda s: s, lambda s: quote(s, safe=""), quote, quote_plus)
    names = (*SECRET_NAMES, "sid", "code", "usr_pw", "hash", "st")
    for _ in range(count):
        scheme = rng.choice(("rtsp", "rtsps", "http", "https", "RTSP", "Http", "gopher"))
        host = rng.choice(
            (
                "cam.local",
                "10.0.0.7",
                "[::1]",
                "localhost",
                "cam",
                "[fe80::1%25eth0]",
                "tür.example",
            )
        )
        port = rng.choice(("", ":554", ":8554", ":99999", ":x"))
        path = rng.choice(("", "/", "/stream1", "/h264/ch1/main", "/a@b", "/x?channel=1&user=me"))
        encode = rng.choice(encoders)
        place = rng.randrange(8)
        if place <= 2:
            user = rng.choice(("", "me", "ad.min", "a%40b", "me%"))
            text = f"{scheme}://{user}:{encode(secret(rng))}@{host}{port}{path}"
        elif place == 3:  # a key in the user's place; with ":" it would be a user and a password
            text = f"{scheme}://{encode(secret(rng, without=':'))}@{host}{port}{path}"
        elif place == 4:
            text = f"{scheme}://{encode(secret(rng, without=':'))}:@{host}{port}{path}"
        elif place == 5:
            join = "&" if "?" in path else "?"
            tail = rng.choice(("", "&channel=1", "&more=1", "#end"))
            text = f"{scheme}://{host}{port}{path}{join}{rng.choice(names)}={encode(secret(rng))}{tail}"
        elif place == 6:
            tail = rng.choice(("", "_channel=1_stream=0.sdp", "&channel=1"))
            text = f"{scheme}://{host}{port}/user=me_password={encode(secret(rng))}{tail}"
        else:
            text = rng.choice(
                (
                    f"me:{secret(rng)}@{host}{port}/stream",
                    f"rtsp:/me:{secret(rng)}@{host}{path}",
                    f"rtsp//me:{secret(rng)}@{host}{path}",
                    f"://me:{secret(rng)}@{host}{path}",
                    f"{scheme}://me:{secret(rng, without='@/?#')}",
                    f"{scheme}://me:{quote(secret(rng) + '@', safe='')}{host}{path}",
                )
            )
        around = rng.choice(("", "", " ", "\t", "\n"))
        yield around + text + around


CORPUS = list(addresses(800))


def leaks(text: str) -> list[str]:
    """Rare letters in a text; some of the program's own words have one, too."""
    for ours in ("SQLite", "(A to Z,"):
        text = text.replace(ours, "")
    return [letter for letter in RARE if letter in text]


def test_no_part_of_a_secret_is_shown() -> None:
    for address in CORPUS:
        parsed = parse(address)
        shown = [redact(address), problem(address) or "", repr(parsed)]
        shown += [parsed.shown] if parsed else []
        for text in shown:
            assert not leaks(text), (address, text)
            assert "\n" not in text


def test_what_is_shown_stays_as_it_is() -> None:
    for address in CORPUS:
        assert redact(redact(address)) == redact(address)


def said(act: Callable[[], object]) -> str:
    """The error that ``act`` raises, else the ``repr`` of what it returns."""
    try:
        return repr(act())
    except (ConfigError, SourceError) as error:
        return str(error)


@pytest.mark.slow
def test_no_error_of_a_source_or_config_shows_a_part_of_a_secret() -> None:
    for address in CORPUS[:400]:
        for place in config_places(address):
            text = said(partial(validate, place))
            assert not leaks(text), (address, place, text)
        text = said(partial(create, address, camera="door", clock=SYSTEM_CLOCK))
        assert not leaks(text), (address, text)


def config_places(address: str) -> list[dict[str, Any]]:
    """The address where it belongs, and where somebody may put it by mistake."""
    return [
        {"cameras": {"door": address}},
        {"cameras": {"door": {"source": address, "transport": "smoke"}}},
        {"cameras": {"door": {"source": address}}, "runtime": {"delivery": "lossless"}},
        {"cameras": {"door": {"source": address, address: None}}},
        {"cameras": {"door": {"source": address, "transport": address, "fps": address}}},
        {"cameras": {address: {"source": "demo"}}},
        {"cameras": {"door": {address: 1}}},
        {"cameras": address},
        {"cameras": [address]},
        {"cameras": {"door": [address]}},
        {"cameras": {"door": {"source": [address]}}},
        {address: {"a": 1}},
        {"model": address, "events": {"log": address, "thresholds": {address: {"start": 2}}}},
        {"events": address},
        {"publish": {"events": address, "replay": address, "keys": address}},
        {"supervisor": {"metrics": address}},
        {"flow": {"method": address}, "runtime": {"run_dir": address, "providers": address}},
    ]


@pytest.mark.slow
def test_no_error_of_a_file_shows_a_part_of_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for address in CORPUS[:300]:
        for text in (
            f"cameras:\n  door: {address}\n",
            f"cameras:\n  door: {{source: {address}}}\n",
            f"cameras:\n  door: {{source: {address}, transport: udp}}\n",
            f"cameras:\n  door: {json.dumps(address)}\n  door: demo\n",
            f"cameras:\n  {address}: demo\n",
            f"cameras:\n  - {address}\n",
            f"cameras: {{door: '{address}}}\n",
            f"door: *{address}\n",
            f"door: &{address} x\ndoor: !{address} y\n",
            f"{json.dumps(address)}: 1\n{json.dumps(address)}: 2\n",
        ):
            path.write_text(text, encoding="utf-8")
            words = said(partial(load, path))
            assert not leaks(words), (text, words)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("rtsp://me:p@ss:w/rd@cam/s", "write '@' as %40 and '/' as %2F"),
        (
            "rtsp://me:a/b@cam/s",
            "'/' stands before an '@': in a user or password write '/' as %2F;",
        ),
        ("rtsp://me:a?b@cam/s", "write '?' as %3F;"),
        ("rtsp://me:a#b@cam/s", "write '#' as %23;"),
        ("rtsp://key/with@cam.local", "write '/' as %2F; elsewhere write '@' as %40"),
        ("rtsp://me:50%off@cam/s", "write the % of a user or password as %25"),
        ("rtsp://me:100%@cam/s", "write the % of a user or password as %25"),
        ("rtsp://me:a b@cam/s", "a space; write it as %20"),
        ("rtsp://me:a\nb@cam/s", "a line break or another control character"),
        ("rtsp://me:${PW}@cam/s", "environment variables aren't expanded"),
        ("rtsp://me:pw%40cam/s", "must stand a port from 1 to 65535"),
        ("rtsp://me:pw", "must stand a port from 1 to 65535"),
        ("rtsp://cam:0/s", "must stand a port from 1 to 65535"),
        ("rtsp://me:pw@/s", "it names no host"),
        ("rtsp:///s", "it names no host"),
        ("rtsp://me:pw@:554/s", "it names no host"),
        ("rtsp://2001:db8::1/s", "an IPv6 address stands in []"),
        ("rtsp://[2001:db8::x]/s", "isn't an IPv6 address"),
        ("rtsp://me:pw@ca(m/s", "a character that no host's name may hold"),
        ("gopher://cam/s", "unknown scheme 'gopher'; must be one of rtsp://, rtsps://, http://"),
        ("://cam/s", "doesn't begin with a scheme"),
        ("me:pw@10.0.0.1/s", "must begin with its scheme, as in rtsp://"),
        ("rtsp:/me:pw@10.0.0.1/s", "must begin with its scheme, as in rtsp://"),
        ("demo:x", "the demo's seed must be a whole number"),
        ("", "it is empty"),
        ("  ", "it is empty"),
    ],
)
def test_what_is_refused_says_what_would_be_right(address: str, says: str) -> None:
    assert says in (problem(address) or "")


@pytest.mark.parametrize(
    ("address", "user", "password", "host", "port", "url"),
    [
        ("rtsp://me:pw@cam:554/s?a=1", "me", "pw", "cam", 554, "rtsp://me:pw@cam:554/s?a=1"),
        (" RTSP://me:pw@cam/s\n", "me", "pw", "cam", None, "rtsp://me:pw@cam/s"),
        ("rtsp://me:p%40s%2Fs@cam", "me", "p@s/s", "cam", None, "rtsp://me:p%40s%2Fs@cam"),
        # The last @ before the path is certain to end the login.
        ("rtsp://me:p@ss:w@cam/s", "me", "p@ss:w", "cam", None, "rtsp://me:p%40ss%3Aw@cam/s"),
        ("rtsp://me:p[s]@cam/s", "me", "p[s]", "cam", None, "rtsp://me:p%5Bs%5D@cam/s"),
        ("http://me:@cam/", "me", "", "cam", None, "http://me:@cam/"),
        ("http://:pw@cam/", "", "pw", "cam", None, "http://:pw@cam/"),
        ("http://key@cam/", "key", None, "cam", None, "http://key:@cam/"),
        ("rtsp://me:pw@[::1]:554/s", "me", "pw", "::1", 554, "rtsp://me:pw@[::1]:554/s"),
        ("rtsp://cam/s", None, None, "cam", None, "rtsp://cam/s"),
        # Nobody can take an IP address for a user.
        ("http://10.0.0.1:80/a@b", None, None, "10.0.0.1", 80, "http://10.0.0.1:80/a@b"),
        ("http://localhost:80/a@b", None, None, "localhost", 80, "http://localhost:80/a@b"),
    ],
)
def test_the_parts_of_an_address(
    address: str, user: str | None, password: str | None, host: str, port: int | None, url: str
) -> None:
    parsed = parse(address)
    assert parsed is not None
    assert parsed.problem is None
    assert (parsed.user, parsed.password, parsed.host, parsed.port) == (user, password, host, port)
    assert parsed.url == url
    again = parse(parsed.url)
    assert again is not None
    assert (again.user, again.password or None) == (user, password or None)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://cam/Streaming/Channels/101?transportmode=unicast", None),
        ("rtsp://10.0.0.1:554/h264Preview_01_main", None),
        ("rtsps://10.0.0.1:7441/abcDEF1234567890?enableSrtp", "rtsps://10.0.0.1:7441/***?***"),
        ("http://cam/v?sid=abc&channel=2", "http://cam/v?***&channel=2"),
        ("http://cam/v?channel=2&sid=abc", "http://cam/v?channel=2&***"),
        ("http://cam/v?password=a&b&size=2", "http://cam/v?password=***&size=2"),
        ("http://cam/0/me:pw/main", "http://cam/0/***/main"),
        ("http://cam/v#abc", "http://cam/v#***"),
        ("rtsp://cam.local:554/user=a_password=p@ss", "rtsp://cam.local:***@***"),
        ("/home/me/12:30@door.mp4", None),
        ("./12:30@door.mp4", None),
        ("file\nERROR.mp4", "file?ERROR.mp4"),
    ],
)
def test_what_is_shown(address: str, shown: str | None) -> None:
    assert redact(address) == (address if shown is None else shown)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("/dev/v4l/by-id/usb-cam-index0", "webcam"),
        ("/dev/video0", "webcam"),
        ("12", "webcam"),
        ("²", "file"),
        ("demo.mp4", "file"),
        ("./rtsp://x", "file"),
        ("/data/a://b", "file"),
        ("HTTP://h", "address"),
    ],
)
def test_the_kind_of_a_source(source: str, what: str) -> None:
    assert kind(source) == what
    assert is_file(source) == (what == "file")


def test_every_form_of_a_secret_is_scrubbed() -> None:
    rng = random.Random(7)
    for _ in range(25):
        password, token = secret(rng), secret(rng)
        written = quote(password, safe="")
        address = parse(f"rtsp://me:{written}@cam.local/s?token={quote(token, safe='')}")
        assert address is not None
        for word in (password, token):
            forms = [word, quote(word, safe=""), quote(word), quote_plus(word), repr(word)]
            forms += [quote(word, safe="").lower() if word.upper() != word else word]
            forms += [json.dumps(word), ascii(word), quote(quote(word, safe=""), safe="")]
            text = " | ".join(forms)
            assert not leaks(address.scrub(f"can't open: {text}")), (word, text)
        login = base64.b64encode(f"me:{password}".encode()).decode()
        assert login not in address.scrub(f"sent {login} to cam.local")
        assert unquote(written) not in address.scrub(address.url)
        assert not leaks(address.scrub(f"{address.url}: Connection refused"))


def test_a_message_is_scrubbed_to_one_line() -> None:
    text = "open rtsp://me:hunter2@cam/s:\n302 to http://other/x?ticket=hunter2, failed"
    assert scrub(text) == "open rtsp://me:***@cam/s: 302 to http://other/x?***, failed"
    assert scrub("Authorization: Basic aHVudGVyMg==\r\nnext") == "Authorization: *** next"
    assert scrub("[rtsp @ 0x55] method DESCRIBE failed: 401") == (
        "[rtsp @ 0x55] method DESCRIBE failed: 401"
    )
