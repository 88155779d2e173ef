"""A real MJPEG-over-HTTP camera for tests, which plays clips in an endless loop.

::

    python http_mjpeg_server.py --port 8080 door=a.mp4 hall=b.mp4,c.mp4

serves ``http://127.0.0.1:8080/door`` and so on. Prints ``ready PORT`` when it listens.
"""

import argparse
import base64
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

BOUNDARY = "frame"


def encode(clips: list[str], width: int, height: int) -> list[bytes]:
    """Encode the clips' frames as JPEG files; exits with the reason if there is no frame."""
    images = []
    for clip in clips:
        capture = cv2.VideoCapture(clip)
        while True:
            more, frame = capture.read()
            if not more:
                break
            _, image = cv2.imencode(".jpg", cv2.resize(frame, (width, height)))
            images.append(image.tobytes())
    if not images:
        sys.exit(f"http_mjpeg_server: no frames in {', '.join(clips)}")
    return images


class CameraServer(ThreadingHTTPServer):
    """Serves each stream of ``streams`` (name → JPEG files) to any number of clients."""

    daemon_threads = True

    def __init__(self, port: int, streams: dict[str, list[bytes]], login: str, fps: float) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.streams = streams
        self.login = "Basic " + base64.b64encode(login.encode()).decode() if login else ""
        self.period_s = 1.0 / fps


class Handler(BaseHTTPRequestHandler):
    """Answers one client, with its stream until it disconnects."""

    server: CameraServer

    def do_GET(self) -> None:
        if self.server.login and self.headers.get("Authorization") != self.server.login:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        images = self.server.streams.get(self.path.strip("/"))
        if images is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        try:
            self._stream(images)
        except OSError:
            return  # the client has disconnected

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: standard error belongs to the test."""

    def _stream(self, images: list[bytes]) -> None:
        due = time.monotonic()
        index = 0
        while True:
            image = images[index % len(images)]
            head = (
                f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
            )
            self.wfile.write(head.encode() + image + b"\r\n")
            index += 1
            due += self.server.period_s
            time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("streams", nargs="+", metavar="NAME=CLIP[,CLIP…]")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--fps", type=float, default=30.0)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    streams = {}
    for stream in arguments.streams:
        name, _, clips = stream.partition("=")
        streams[name] = encode(clips.split(","), arguments.width, arguments.height)
    login = f"{arguments.user}:{arguments.password}" if arguments.user else ""
    server = CameraServer(arguments.port, streams, login, arguments.fps)
    print("ready", server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
