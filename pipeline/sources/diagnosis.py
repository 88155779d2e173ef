"""Find out why a network camera didn't open.

OpenCV reports only that it failed, so this module makes a request of its own.
"""

import base64
import hashlib
import http.client
import re
import socket
from urllib.parse import SplitResult, unquote, urlsplit

from pipeline.errors import SourceErrorKind

Verdict = tuple[SourceErrorKind, str]

_DEFAULT_PORTS = {"rtsp": 554, "http": 80, "https": 443}


class _NotRTSP(Exception):
    """The server doesn't answer in RTSP; the text follows its address in the message."""


def diagnose(url: str, timeout_s: float) -> Verdict:
    """Return what is wrong with the camera at ``url``: an error kind and half a sentence.

    It makes at most two requests and waits about ``timeout_s`` for each. The sentence holds no
    password.
    """
    try:
        parts = urlsplit(url)
        scheme, port = parts.scheme.lower(), parts.port
    except ValueError:
        return "unreachable", "the address isn't a valid URL"
    host = parts.hostname
    if not host:
        return "unreachable", "the address names no host"
    if scheme not in _DEFAULT_PORTS:  # rtsps: only FFmpeg can do RTSP over TLS here
        return "unreachable", "it couldn't be opened"
    port = port or _DEFAULT_PORTS[scheme]
    try:
        if scheme == "rtsp":
            status = _rtsp_status(parts, host, port, timeout_s)
        else:
            status = _http_status(parts, host, port, timeout_s)
    except socket.gaierror:
        return "unreachable", f"host name {host!r} can't be resolved"
    except ConnectionRefusedError:
        return "unreachable", f"nothing listens at {host}:{port} (connection refused)"
    except TimeoutError:
        return "unreachable", f"{host}:{port} didn't answer within {timeout_s:g} s"
    except _NotRTSP as error:
        return "unreachable", f"{host}:{port} {error}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return "unreachable", f"{host}:{port} can't be reached ({reason})"
    return _judge(status, has_login=parts.username is not None)


def _judge(status: int, *, has_login: bool) -> Verdict:
    if status in (401, 403):
        what = "refuses this user and password" if has_login else "asks for a user and password"
        return "unauthorised", f"it {what} ({status})"
    if status == 404:
        return "not_found", "the server has no such stream (404)"
    if status == 200:
        return "unreadable", "the server answers, but sends no video that can be decoded"
    return "unreachable", f"the server answers with status {status}"


def _rtsp_status(parts: SplitResult, host: str, port: int, timeout_s: float) -> int:
    """Status of DESCRIBE, with the login if the server asks for one (RFC 2326, RFC 2617)."""
    address = f"[{host}]" if ":" in host else host
    target = f"rtsp://{address}:{port}{parts.path}" + (f"?{parts.query}" if parts.query else "")
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        status, headers = _describe(connection, target, 1, "")
        if status == 401 and parts.username is not None:
            login = unquote(parts.username), unquote(parts.password or "")
            if authorisation := _authorisation(headers, target, *login):
                status, _ = _describe(connection, target, 2, authorisation)
    return status


def _describe(
    connection: socket.socket, target: str, sequence: int, authorisation: str
) -> tuple[int, str]:
    lines = [f"DESCRIBE {target} RTSP/1.0", f"CSeq: {sequence}", "Accept: application/sdp"]
    if authorisation:
        lines.append(f"Authorization: {authorisation}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    reply = b""
    # The header ends with an empty line; a server that never sends one is cut off at 64 KiB.
    while b"\r\n\r\n" not in reply and len(reply) < 65536:
        if not (chunk := connection.recv(4096)):
            break
        reply += chunk
    match = re.match(rb"RTSP/1\.\d (\d{3})", reply)
    if match is None:
        answers = "answers, but not in RTSP" if reply else "closes the connection without an answer"
        raise _NotRTSP(answers)
    return int(match[1]), reply.decode("latin-1")


def _authorisation(headers: str, target: str, user: str, password: str) -> str:
    """The Authorization header for the server's challenge; empty for an unknown scheme."""
    if challenge := re.search(r"^WWW-Authenticate: *Digest (.*)$", headers, re.I | re.M):
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge[1]))
        realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
        secret = _md5(f"{_md5(f'{user}:{realm}:{password}')}:{nonce}:{_md5(f'DESCRIBE:{target}')}")
        return (
            f'Digest username="{user}", realm="{realm}", nonce="{nonce}", '
            f'uri="{target}", response="{secret}"'
        )
    if re.search(r"^WWW-Authenticate: *Basic", headers, re.I | re.M):
        return _basic(user, password)
    return ""


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _http_status(parts: SplitResult, host: str, port: int, timeout_s: float) -> int:
    secure = parts.scheme.lower() == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(host, port, timeout=timeout_s)
    headers = {}
    if parts.username is not None:
        login = unquote(parts.username), unquote(parts.password or "")
        headers["Authorization"] = _basic(*login)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()
