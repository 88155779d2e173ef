"""A network line between a camera and the program, with faults on demand.

It carries RTSP with its media interleaved (TCP). While :attr:`Line.fault` is set, it cuts, damages
or misdates what the camera sends; the camera itself does not notice.
"""

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Literal

Fault = Literal["", "cut", "garbage", "timestamps"]
Misdate = Callable[[int], int]

RTP_HEADER = 12
TIMESTAMP = struct.Struct(">I")
RTP_HZ = 90_000
CUT_POLL_S = 0.02


class Line:
    """Listens at :attr:`port` and connects each client to ``camera_port``.

    ``cut``: nothing arrives, but the connection stays open. ``garbage``: three packets of ten hold
    noise, and some of these are too short. ``timestamps``: packets claim to be ten seconds older.

    ``every_s``: data are passed on in lumps, one in this many seconds, as relays do. ``twice``: one
    packet of media in ten comes a second time. ``misdate`` changes each RTP stamp, in units of
    1/90000 s since the first one.
    """

    def __init__(self, camera_port: int, seed: int = 0) -> None:
        self.fault: Fault = ""
        self.every_s = 0.0
        self.twice = False
        self.misdate: Misdate | None = None
        self._first_stamp: int | None = None
        self._camera_port = camera_port
        self._rng = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, stream: str, login: str = "") -> str:
        return f"rtsp://{login + '@' if login else ''}127.0.0.1:{self.port}/{stream}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        camera = ("127.0.0.1", self._camera_port)
        with near, suppress(OSError), socket.create_connection(camera) as far:
            threading.Thread(target=self._upward, args=(near, far), daemon=True).start()
            self._downward(far, near)

    def _upward(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
            far.shutdown(socket.SHUT_RDWR)

    def _downward(self, far: socket.socket, near: socket.socket) -> None:
        arriving = far.makefile("rb")
        held: list[bytes] = []
        lump = 0
        while message := _read_message(arriving):
            if self.fault == "cut":
                continue
            held.append(self._damaged(message))
            if self.twice and message[:2] == b"$\x00" and self._rng.random() < 0.1:
                held.append(held[-1])
            now = int(time.monotonic() / self.every_s) if self.every_s else lump + 1
            if now != lump or message[:1] != b"$":  # answers are not held back
                near.sendall(b"".join(held))
                held, lump = [], now
        near.shutdown(socket.SHUT_RDWR)

    def _damaged(self, message: bytes) -> bytes:
        """Apply the fault to an interleaved packet of video; other messages stay as they are."""
        # "$", channel 0, two bytes of length; then the RTP header, its timestamp at bytes 4 to 8.
        is_media = message[:2] == b"$\x00" and len(message) > 4 + RTP_HEADER
        if self.fault == "garbage" and is_media and self._rng.random() < 0.3:
            length = len(message) - 4 - RTP_HEADER
            noise = self._rng.randbytes(self._rng.choice((length, length // 2)))
            size = struct.pack(">H", RTP_HEADER + len(noise))
            return message[:2] + size + message[4 : 4 + RTP_HEADER] + noise
        misdate = _ten_seconds_older if self.fault == "timestamps" else self.misdate
        if misdate is not None and is_media:
            (stamp,) = TIMESTAMP.unpack(message[8:12])
            if self._first_stamp is None:
                self._first_stamp = stamp
            passed = (stamp - self._first_stamp) % 2**32
            wrong = (self._first_stamp + misdate(passed)) % 2**32
            return message[:8] + TIMESTAMP.pack(wrong) + message[12:]
        return message


def _ten_seconds_older(stamp: int) -> int:
    return stamp - 10 * RTP_HZ


def _read_message(stream: BinaryIO) -> bytes:
    """Read one interleaved packet, or one answer with its body; empty at the end.

    RFC 2326, 10.12.
    """
    first = stream.read(1)
    if first == b"$":
        head = stream.read(3)
        return (
            first + head + stream.read(int.from_bytes(head[1:], "big")) if len(head) == 3 else b""
        )
    if not first:
        return b""
    lines = [first + stream.readline()]
    while lines[-1] not in (b"\r\n", b""):
        lines.append(stream.readline())
    body = 0
    for line in lines:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            body = int(value)
    return b"".join(lines) + stream.read(body)


@contextmanager
def line_to(camera_port: int) -> Iterator[Line]:
    line = Line(camera_port)
    try:
        yield line
    finally:
        line.close()
