"""What is wrong with a network stream that FFmpeg couldn't open or read, in a user's words."""

import socket

import av.error

from pipeline.errors import SourceErrorKind
from pipeline.sources.address import Address, parse

Verdict = tuple[SourceErrorKind, str]

_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


def diagnose(url: str, error: Exception, waited_s: float, timeout_s: float) -> Verdict:
    """An error kind and half a sentence, which holds no password.

    ``waited_s``: how long FFmpeg took to fail. Where its error says nothing, this looks up the
    host and connects to it, and waits at most ``timeout_s`` for each.
    """
    parts = parse(url)
    assert parts is not None  # only addresses are opened by what calls this
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    address = f"{parts.host}:{port}"
    if (verdict := _by_status(error, parts)) is not None:
        return verdict
    if isinstance(error, av.error.ConnectionRefusedError):
        return "unreachable", f"nothing listens at {address} (connection refused)"
    if (verdict := _by_connecting(parts.host, port, timeout_s)) is not None:
        return verdict
    if waited_s >= 0.9 * timeout_s or isinstance(error, av.error.TimeoutError | av.error.ExitError):
        return "unreachable", f"{address} didn't answer within {timeout_s:g} s"
    if parts.scheme.startswith("rtsp"):
        encrypted = "" if parts.scheme == "rtsps" else "; if it is encrypted, write rtsps://"
        return "unreachable", (
            f"{address} accepts the connection, but doesn't answer in RTSP{encrypted}"
        )
    return "unreadable", "the server answers, but sends no video that can be decoded"


def _by_status(error: Exception, parts: Address) -> Verdict | None:
    """What the server's status says; RTSP has the same numbers as HTTP."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        status = 401 if isinstance(error, av.error.HTTPUnauthorizedError) else 403
        login = parts.user is not None
        what = "refuses this user and password" if login else "asks for a user and password"
        return "unauthorised", f"it {what} ({status})"
    if isinstance(error, av.error.HTTPNotFoundError):
        return "not_found", "the server has no such stream (404)"
    if isinstance(error, av.error.HTTPTooManyRequestsError):
        return "unreachable", "the server asks for fewer requests (429)"
    if isinstance(error, av.error.HTTPServerError):
        return "unreachable", "the server fails (status 5xx)"
    if isinstance(error, av.error.HTTPClientError):
        return "unreachable", "the server refuses the request (status 4xx)"
    if isinstance(error, av.error.DecoderNotFoundError):
        return "unreadable", "its video codec is unknown to this build of FFmpeg"
    return None


def _by_connecting(host: str, port: int, timeout_s: float) -> Verdict | None:
    """What a plain connection to the server shows; None if it works."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except socket.gaierror:
        return "unreachable", f"host name {host!r} can't be resolved"
    except ConnectionRefusedError:
        return "unreachable", f"nothing listens at {host}:{port} (connection refused)"
    except TimeoutError:
        return "unreachable", f"{host}:{port} didn't answer within {timeout_s:g} s"
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return "unreachable", f"{host}:{port} can't be reached ({reason})"
    return None
