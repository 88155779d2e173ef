"""Addresses of cameras: parsed once, shown without their secrets.

An address is ``scheme://user:password@host:port/path?query``. In a user or password, a character
with a meaning of its own must be percent-encoded. Where it isn't, nobody can tell where the login
ends: such an address is refused (:attr:`Address.problem`), and all that may belong to the login is
hidden. The same holds for a ``%`` that begins no percent-encoding, because it is unclear whether
the rest is encoded.
"""

import base64
import html
import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from urllib.parse import quote, unquote

SCHEMES = ("rtsp", "rtsps", "http", "https")
HIDDEN = "***"
Kind = Literal["demo", "webcam", "address", "file"]

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
# Without the punctuation of the sentence that it ends.
_URL_IN_TEXT = re.compile(
    r"([a-z][a-z0-9+.-]*://[^\s\"'<>]+?)([.,:;!)\]]*(?=[\s\"'<>]|$))", re.IGNORECASE
)
_AUTHORISATION = re.compile(r"(authorization\s*[:=]\s*)[^\r\n]*", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SPACE = re.compile(r"\s")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VARIABLE = re.compile(r"\$\{\w+\}")
_HOST = re.compile(r"[\w.-]{1,253}")
_USER = re.compile(r"[\w.-]{0,32}")
_RESERVED = "@/?#"
_TOO_MANY_COLONS = (
    "more than one ':' stands before the path; an IPv6 address stands in [], and after a login "
    "stands @"
)
_BAD_PORT = "after the host's ':' must stand a port from 1 to 65535 (and after a login, an @)"

# The values that are shown, wherever they stand. All others are hidden: cameras have too many names
# for a password or a key.
_HARMLESS = (
    r"user|username|usr|loginuse|channel|channels|ch|chn|stream|streamtype|subtype|profile|"
    r"resolution|res|size|width|height|fps|framerate|codec|videocodec|trackid|track|camera|"
    r"cam|transport|transportmode|quality|rotation"
)
_SECRET = (
    r"password|passwd|passw|pass|pwd|pw|loginpas|access_token|token|api_key|apikey|key|"
    r"secret|auth|signature|sig|session"
)
# XM cameras have their parameters in the path, with "_" between them: user=x_password=y_channel=1.
_PARAMETER = re.compile(
    rf"(?:(?<=[/?&;_,#])|^)(?:(?P<secret>{_SECRET})|{_HARMLESS})=", re.IGNORECASE
)
_PLAIN_VALUE = re.compile(r"[\w.,:+-]{0,24}")
_PLAIN_SEGMENT = re.compile(r"[\w.,~+@-]*")
# Some addresses carry a key as a part of the path: 16 and more letters and digits without a break.
_KEY_IN_PATH = re.compile(r"(?=[A-Za-z]*[0-9A-Z])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{16}")


@dataclass(frozen=True)
class Address:
    """The parts of an address; those that can't be told are empty or None.

    ``user`` and ``password`` are decoded; ``path``, ``query`` and ``fragment`` are as written.
    """

    scheme: str
    """In small letters."""
    user: str | None
    password: str | None
    """None where the login has no colon: then the user may be a key, and is as secret."""
    host: str
    """Without brackets."""
    port: int | None
    path: str
    query: str
    fragment: str
    shown: str
    """The address without secrets, for logs and messages."""
    problem: str | None
    """Why it can't be used, and what would be right; None if it can. Holds no secret."""
    _hidden: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @property
    def url(self) -> str:
        """The address as libraries understand it: scheme in small letters, login encoded.

        It holds the password: give it to what connects, and never print it.
        """
        login = ""
        if self.user is not None:
            # With the colon even where there is no password: FFmpeg sends no login without one.
            login = f"{quote(self.user, safe='')}:{quote(self.password or '', safe='')}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{login}{host}{port}{self.target}"

    @property
    def target(self) -> str:
        """Path, query and fragment as written."""
        query = f"?{self.query}" if self.query else ""
        return self.path + query + (f"#{self.fragment}" if self.fragment else "")

    def scrub(self, text: str) -> str:
        """A message of another program or library, on one line and without this address's secrets.

        It finds them in each form in which such messages repeat them: decoded, percent-encoded
        (once or more), escaped. Other addresses in the text, as after a redirect, are redacted.
        """
        if self._forms is not None:
            text = self._forms.sub(HIDDEN, text)
        return scrub(text)

    @cached_property
    def _forms(self) -> re.Pattern[str] | None:
        secrets = sorted(_pieces(self), key=len, reverse=True)
        return (
            re.compile("|".join("".join(map(_forms_of, s)) for s in secrets)) if secrets else None
        )


def kind(source: str) -> Kind:
    """What a source is, by its text alone; a folder of images is a ``file`` too."""
    source = source.strip()
    if source == "demo" or source.startswith("demo:"):
        return "demo"
    if re.fullmatch(r"[0-9]+|/dev/(video|v4l/).*", source):
        return "webcam"
    return "address" if "://" in source and not _is_path(source) else "file"


def is_file(source: str) -> bool:
    """Whether a source is on disk and ends: a video file or a folder of images."""
    return kind(source) == "file"


def parse(source: str) -> Address | None:
    """The parts of an address; None for what isn't one, as a file."""
    source = source.strip()
    if kind(source) != "address":
        return None
    match = _URL.fullmatch(source)
    if match is None:
        return _refused("", HIDDEN, "it doesn't begin with a scheme, such as rtsp://")
    scheme, after = match[1], match[2]
    authority, mark, behind = _cut(after, "/?#")
    rest = mark + behind
    if "@" in rest and not _is_certain(authority.rpartition("@")[2]):
        return _ambiguous(scheme, after)
    login, at, where = authority.rpartition("@")
    host, port, fault = _host_and_port(where)
    user, colon, password = login.partition(":")
    path, query, fragment = _split(rest)
    # What stands before a port that is none may be a user and a password.
    shown_host = HIDDEN if fault else _shown_host(host, port)
    return Address(
        scheme=scheme.lower(),
        user=unquote(user) if at else None,
        password=unquote(password) if at and colon else None,
        host=host,
        port=port,
        path=path,
        query=query,
        fragment=fragment,
        shown=f"{scheme}://{_shown_login(login) if at else ''}{shown_host}{_shown_rest(rest)}",
        problem=_problem(source, scheme, login) or fault,
        _hidden=(password, login if not password else "", *_hidden_values(rest)),
    )


def problem(source: str) -> str | None:
    """Why ``source`` can't be a source, and what would be right; None if its text is good.

    It doesn't look whether a file or a camera is there. The answer holds no secret.
    """
    source = source.strip()
    if not source:
        return "it is empty; give demo, a webcam (0), rtsp://, http://, a file or a folder"
    if _CONTROL.search(source):
        return "it holds a line break or another control character"
    address = parse(source)
    if address is not None:
        return address.problem
    if kind(source) == "demo":
        seed = source.removeprefix("demo").removeprefix(":")
        good = source == "demo" or re.fullmatch(r"[0-9]{1,18}", seed)
        return None if good else "the demo's seed must be a whole number, as in demo:7"
    if kind(source) == "file" and _is_login_without_scheme(source):
        return (
            "an address must begin with its scheme, as in rtsp://; "
            "the name of a file with ':' and '@' begins with './'"
        )
    return None


def redact(source: str) -> str:
    """Hide secrets: ``rtsp://user:secret@host/cam`` becomes ``rtsp://user:***@host/cam``.

    Passwords and keys among the parameters are hidden too, and a user without a password, who may
    be a key. A text that isn't an address is returned unchanged, but on one line.
    """
    address = parse(source)
    if address is not None:
        return address.shown
    source = _CONTROL.sub("?", source)
    if kind(source) == "file" and _is_login_without_scheme(source.strip()):
        _, _, rest = source.rpartition("@")
        return f"{HIDDEN}@{_shown_rest(rest)}"
    return source


def scrub(text: str) -> str:
    """A text on one line in which every address is redacted, and every header with a login."""
    text = _AUTHORISATION.sub(rf"\g<1>{HIDDEN}", text)
    text = _URL_IN_TEXT.sub(lambda found: redact(found[1]) + found[2], text)
    return " ".join(_CONTROL.sub(" ", text).split())


def _is_path(source: str) -> bool:
    return source.startswith(("/", "./", "../", "~"))


def _is_login_without_scheme(source: str) -> bool:
    """Whether a text that would be a file looks like user:password@host, or rtsp:/user:…"""
    if _is_path(source):
        return False
    login, at, _ = source.rpartition("@")
    begins = source.lower().startswith(tuple(f"{scheme}:" for scheme in SCHEMES))
    return begins or bool(at and ":" in login)


def _is_certain(where: str) -> bool:
    """Whether it is the host beyond doubt: an IP address or localhost, perhaps with a port."""
    host, _, fault = _host_and_port(where)
    if fault:
        return False
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower() == "localhost"
    return True


def _host_and_port(where: str) -> tuple[str, int | None, str | None]:
    """(host, port, what is wrong) of ``host:port``."""
    match = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", where)
    if match:
        host, port = match[1], match[2]
        try:
            ipaddress.IPv6Address(host.replace("%25", "%"))
        except ValueError:
            return "", None, "what stands in [] isn't an IPv6 address"
    else:
        host, colon, port_text = where.partition(":")
        port = port_text if colon else None
        if not host:
            return "", None, "it names no host: scheme://user:password@HOST/path"
        if where.count(":") > 1:
            return "", None, _TOO_MANY_COLONS
        if not _HOST.fullmatch(host):
            return "", None, "the host's name holds a character that no host's name may hold"
    if port is None or port == "":
        return host, None, None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        return host, None, _BAD_PORT
    return host, int(port), None


def _problem(source: str, scheme: str, login: str) -> str | None:
    """What is wrong with an address apart from its host."""
    if _CONTROL.search(source):
        return "it holds a line break or another control character"
    if scheme.lower() not in SCHEMES:
        named = f" {scheme!r}" if len(scheme) <= 10 else ""
        known = ", ".join(f"{name}://" for name in SCHEMES)
        return f"unknown scheme{named}; must be one of {known}"
    if _VARIABLE.search(source):
        return (
            "environment variables aren't expanded: write the value itself "
            "(the $ of a password as %24)"
        )
    if _SPACE.search(source):
        return "it holds a space; write it as %20"
    if _BAD_PERCENT.search(login):
        return (
            "the login holds a '%' that no two hexadecimal digits follow; "
            "write the % of a user or password as %25"
        )
    return None


def _ambiguous(scheme: str, after: str) -> Address:
    """An address with an @ behind the first slash, question mark or hash: a path, or a password."""
    login, _, rest = after.rpartition("@")
    found = [character for character in _RESERVED if character in login]
    codes = " and ".join(f"'{character}' as {quote(character, safe='')}" for character in found)
    first = next(character for character in login if character in "/?#")
    user = re.match(r"([\w.-]{0,32}):", login)
    shown = f"{scheme}://{user[1] + ':' if user else ''}{HIDDEN}@"
    # After a parameter such as password=…, what follows the @ may be the rest of its value.
    if "=" in login:
        shown += HIDDEN
    else:
        where, _, _ = _cut(rest, "/?#")
        host, port, fault = _host_and_port(where)
        shown += HIDDEN if fault else _shown_host(host, port) + _shown_rest(rest[len(where) :])
    return _refused(
        scheme,
        shown,
        f"where the login ends can't be told, because '{first}' stands before an '@': in a user or "
        f"password write {codes}" + ("" if "@" in found else "; elsewhere write '@' as %40"),
        (login, after),
    )


def _refused(scheme: str, shown: str, problem: str, hidden: tuple[str, ...] = ()) -> Address:
    return Address(scheme.lower(), None, None, "", None, "", "", "", shown, problem, hidden)


def _split(rest: str) -> tuple[str, str, str]:
    """(path, query, fragment) of what follows the host."""
    before, _, fragment = rest.partition("#")
    path, _, query = before.partition("?")
    return path, query, fragment


def _cut(text: str, marks: str) -> tuple[str, str, str]:
    """(what stands before the first of ``marks``, the mark, the rest), as ``str.partition``."""
    end = next((i for i, character in enumerate(text) if character in marks), len(text))
    return text[:end], text[end : end + 1], text[end + 1 :]


def _shown_host(host: str, port: int | None) -> str:
    return (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")


def _shown_login(login: str) -> str:
    """The login with its user, unless the user may be a key or a part of the password."""
    user, _, password = login.partition(":")
    if password and _USER.fullmatch(user) and user != password:
        return f"{user}:{HIDDEN}@"
    return f"{HIDDEN}@"


def _shown_rest(rest: str) -> str:
    """Path, query and fragment: only what is known to be harmless, or looks like a plain path."""
    shown, at = "", 0
    for secret, start, end, value in _parameters(rest):
        if not at:  # the path, and what separates it from the first parameter
            shown += _shown_path(rest[: max(0, start - 1)]) + rest[max(0, start - 1) : start]
        shown += rest[start : end - len(value)] + (HIDDEN if secret else _shown_value(value))
        # What separates it from the next parameter is a part of the value.
        if end < len(rest):
            shown += rest[end]
        at = end + 1
    return shown if at else _shown_path(rest)


def _parameters(rest: str) -> Iterator[tuple[bool, int, int, str]]:
    """(is secret, start, end, value) of each known parameter; its value reaches to the next one."""
    found = list(_PARAMETER.finditer(rest))
    for index, match in enumerate(found):
        # One character, such as "&" or "_", stands between a value and the next name.
        end = found[index + 1].start() - 1 if index + 1 < len(found) else len(rest)
        end = max(end, match.end())
        yield match["secret"] is not None, match.start(), end, rest[match.end() : end]


def _shown_value(value: str) -> str:
    """The value of a harmless parameter; what follows it, of unknown names, is hidden."""
    first, separator, others = _cut(value, "&;/?#")
    shown = first if _PLAIN_VALUE.fullmatch(first) else HIDDEN
    return shown + separator + (HIDDEN if others else "")


def _shown_path(text: str) -> str:
    """A path without parameters; what follows a question mark or hash is hidden."""
    path, mark, others = _cut(text, "?#")
    segments = [HIDDEN if _is_hidden_segment(part) else part for part in path.split("/")]
    return "/".join(segments) + mark + (HIDDEN if others else "")


def _is_hidden_segment(segment: str) -> bool:
    return not _PLAIN_SEGMENT.fullmatch(segment) or _KEY_IN_PATH.search(segment) is not None


def _hidden_values(rest: str) -> Iterator[str]:
    """What :func:`_shown_rest` hides."""
    parameters = list(_parameters(rest))
    for secret, _, _, value in parameters:
        if secret:
            yield value
        else:
            first, _, others = _cut(value, "&;/?#")
            yield others
            if not _PLAIN_VALUE.fullmatch(first):
                yield first
    before = rest[: parameters[0][1]] if parameters else rest
    path, query, fragment = _split(before)
    yield from (query, fragment)
    yield from (part for part in path.split("/") if _is_hidden_segment(part))


def _pieces(address: Address) -> set[str]:
    """All that must not be seen, decoded: whole secrets, and their parts where a parser may cut."""
    login = f"{address.user or ''}:{address.password or ''}"
    whole = [unquote(secret) for secret in address._hidden if secret]
    pieces = {base64.b64encode(login.encode()).decode()} if address.user is not None else set()
    for secret in whole:
        pieces |= {secret, *re.split(r"[\s/?#@:&;=%]", secret)}
        pieces |= {quote(secret, safe="")}
    # Shorter ones stand in every other word. In an address they are hidden all the same.
    return {piece for piece in pieces if len(piece) >= 3}


def _forms_of(character: str) -> str:
    """A pattern for a character as written, percent-encoded once or more, or escaped."""
    written = {character, html.escape(character), "+" if character == " " else character}
    written |= {text[1:-1] for text in (json.dumps(character), repr(character), ascii(character))}
    # A message that quotes a text puts backslashes before some of its characters.
    escaped = "" if character.isalnum() else r"\\{0,3}"
    forms = {escaped + re.escape(text) for text in written}
    for encoding in ("utf-8", "latin-1"):
        data = character.encode(encoding, "ignore" if encoding == "latin-1" else "surrogatepass")
        if data:
            forms.add("(?i:" + "".join(f"%(?:25)*{byte:02x}" for byte in data) + ")")
    return f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"
