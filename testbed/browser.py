"""A headless Chromium that plays a clip, as the browsers of users do."""

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from testbed.resources import process_family

_PAGE = b"""<!doctype html><meta charset="utf-8"><video id="v" muted></video><script>
const tell = (what) => fetch("/told", {method: "POST", body: JSON.stringify(what)});
(async () => {
  const at = Number(new URLSearchParams(location.search).get("at"));
  const video = document.getElementById("v");
  video.onerror = () => tell({error: video.error.message || String(video.error.code)});
  video.src = URL.createObjectURL(await (await fetch("/clip")).blob());
  await new Promise(done => video.onloadeddata = done);
  // A busy machine says that it has sought before it shows the picture of that time.
  const shown = new Promise(done => video.requestVideoFrameCallback(done));
  await new Promise(done => { video.onseeked = done; video.currentTime = at; });
  await Promise.race([shown, new Promise(done => setTimeout(done, 5000))]);
  await new Promise(done => setTimeout(done, 300));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0);
  const pixels = Array.from(pen.getImageData(0, 0, canvas.width, canvas.height).data);
  tell({size: [canvas.height, canvas.width], seconds: video.duration, pixels});
})().catch(error => tell({error: String(error)}));
</script>"""


@dataclass(frozen=True)
class Played:
    """What a browser shows of a clip."""

    seconds: float
    """How long it takes the clip to be."""
    picture: npt.NDArray[np.uint8]
    """(H, W, 3) uint8 RGB at the time that was asked for."""


def browser() -> str | None:
    """Chromium's command; None where it isn't installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def played(clip: Path, at_s: float, timeout_s: float = 120.0) -> Played:
    """Open ``clip`` in Chromium, go to ``at_s``, and return the picture there."""
    command = browser()
    assert command is not None
    with (
        _site(clip) as (port, told),
        # A process of Chromium's that was born meanwhile may still write there.
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        _chromium(command, f"http://127.0.0.1:{port}/?at={at_s}", folder),
    ):
        try:
            answer = told.get(timeout=timeout_s)
        except Empty:
            raise AssertionError(f"the browser said nothing for {timeout_s:g} s") from None
    if "error" in answer:
        raise AssertionError(f"the browser can't play {clip}: {answer['error']}")
    pixels = np.array(answer["pixels"], np.uint8).reshape(*answer["size"], 4)
    return Played(answer["seconds"], pixels[..., :3])


@contextmanager
def _chromium(command: str, page: str, folder: str) -> Iterator[None]:
    """Chromium shows a page; at the end none of its processes is left to write in ``folder``."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    process = subprocess.Popen(
        [command, *options, f"--user-data-dir={folder}/profile", page],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": folder},
    )
    try:
        yield
    finally:
        family = process_family(process.pid)
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
        psutil.wait_procs(family, timeout=10)


@contextmanager
def _site(clip: Path) -> Iterator[tuple[int, "Queue[dict[str, Any]]"]]:
    """A page that plays the clip, and what the page tells."""
    told: Queue[dict[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_clip = self.path == "/clip"
            body = clip.read_bytes() if is_clip else _PAGE
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4" if is_clip else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, told
    finally:
        server.shutdown()
        server.server_close()
