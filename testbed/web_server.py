"""A real web server for tests: files with ranges, live HLS, MJPEG in the forms that servers send.

::

    with web_server(folder) as address:        # http://127.0.0.1:PORT
        open_somehow(f"{address}/film.mp4")
"""

import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import av

MjpegForm = Literal[
    "plain", "no first boundary", "image/jpg", "no part header", "no dashes", "no length", "bare"
]


class _Handler(SimpleHTTPRequestHandler):
    """Serves files; with ``Range``, the part that was asked for (RFC 9110, 14.2)."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: standard error belongs to the test."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        wanted = self.headers.get("Range", "")
        if not path.is_file() or not wanted.startswith("bytes="):
            super().do_GET()
            return
        whole = path.read_bytes()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(whole) - 1), len(whole) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(whole)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start + 1))
        self.end_headers()
        self.wfile.write(whole[start : end + 1])

    def end_headers(self) -> None:
        # FFmpeg asks for it, and servers say that they do it (RFC 9112, 9.6).
        self.send_header("Connection", "close")
        super().end_headers()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return  # the client has gone


@contextmanager
def web_server(folder: Path, certificate: Path | None = None) -> Iterator[str]:
    """Serve the files in ``folder``; yields the address.

    With a ``certificate`` (PEM, with its key) it speaks HTTPS.
    """
    with _serving(partial(_Handler, directory=str(folder)), certificate) as address:
        yield address


@contextmanager
def _serving(
    handler: type[SimpleHTTPRequestHandler] | partial[_Handler], certificate: Path | None = None
) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def then_silence(body: bytes, media_type: str, seconds: float = 60) -> Iterator[str]:
    """Serve ``body`` at once, and then nothing on a connection that stays; yields the URL."""

    class Camera(_Handler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.end_headers()
            self.wfile.write(body)
            time.sleep(seconds)

    with _serving(Camera) as address:
        yield f"{address}/live"


@contextmanager
def mjpeg_in_form(form: MjpegForm, pictures: Sequence[bytes], fps: float) -> Iterator[str]:
    """Serve JPEG pictures in a loop, in one of the forms that browsers accept; yields the URL."""

    class Camera(_Handler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            due, index = time.monotonic(), 0
            while True:
                picture = pictures[index % len(pictures)]
                self.wfile.write(_part(form, picture, first=index == 0))
                index += 1
                due += 1 / fps
                time.sleep(max(0.0, due - time.monotonic()))

    with _serving(Camera) as address:
        yield f"{address}/video"


def _part(form: MjpegForm, picture: bytes, *, first: bool) -> bytes:
    if form == "bare":
        return picture
    boundary = b"frame\r\n" if form == "no dashes" else b"--frame\r\n"
    if form == "no first boundary" and first:
        boundary = b""
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n".encode()
    if form == "image/jpg":
        head = head.replace(b"image/jpeg", b"image/jpg")
    if form == "no length":
        head = b"Content-Type: image/jpeg\r\n"
    if form == "no part header":
        head = b""
    return boundary + head + b"\r\n" + picture + b"\r\n"


@contextmanager
def live_playlist(clip: Path, folder: Path, segment_s: float = 2.0) -> Iterator[str]:
    """Serve ``clip``, an H.264 file, over and over as a live HLS stream; yields its URL."""
    stop = threading.Event()
    thread = threading.Thread(target=_broadcast, args=(clip, folder, segment_s, stop), daemon=True)
    thread.start()
    playlist = folder / "live.m3u8"
    deadline = time.monotonic() + 60
    while not playlist.exists() or playlist.read_text().count("#EXTINF") < 3:
        if time.monotonic() > deadline:
            raise RuntimeError("the live playlist didn't start within 60 s")
        time.sleep(0.05)
    try:
        with web_server(folder) as address:
            yield f"{address}/live.m3u8"
    finally:
        stop.set()
        thread.join(10)


def _broadcast(clip: Path, folder: Path, segment_s: float, stop: threading.Event) -> None:
    options = {"hls_time": str(segment_s), "hls_list_size": "5", "hls_flags": "delete_segments"}
    with av.open(str(folder / "live.m3u8"), "w", format="hls", options=options) as out:
        target = None
        began, shift = time.monotonic(), 0.0
        while True:
            with av.open(str(clip)) as source:
                stream = source.streams.video[0]
                target = target or out.add_stream_from_template(stream)
                base = stream.time_base
                assert base is not None
                end = shift
                for packet in source.demux(stream):
                    if packet.pts is None or packet.dts is None:
                        continue
                    due = shift + float(packet.pts * base)
                    end = max(end, due + float((packet.duration or 0) * base))
                    packet.pts += round(shift / base)
                    packet.dts += round(shift / base)
                    packet.stream = target
                    if stop.wait(max(0.0, began + due - time.monotonic())):
                        return
                    out.mux(packet)
            shift = end
