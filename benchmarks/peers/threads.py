"""A plain threaded loop: a thread reads each camera, another processes each newest frame."""

import threading
import time
from pathlib import Path
from typing import Any

import cv2

from benchmarks.peers.bare import Due, Tally, TwoStream, arguments


class Reader:
    """Reads a camera in a thread of its own and keeps the newest frame that is a step."""

    def __init__(self, url: str, step_hz: float, arrived: threading.Condition) -> None:
        self._url, self._due, self._arrived = url, Due(step_hz), arrived
        self.newest: tuple[float, Any] | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG)
        while True:
            more, frame = capture.read()
            grabbed = time.monotonic()
            if not more:
                return
            if self._due(grabbed):
                with self._arrived:
                    self.newest = grabbed, frame
                    self._arrived.notify()


def main() -> None:
    pack, step_hz, threads, settle, seconds, *urls = arguments()
    if int(threads):
        cv2.setNumThreads(int(threads))
    networks = TwoStream(Path(pack), int(threads))
    arrived = threading.Condition()
    readers = [Reader(url, float(step_hz), arrived) for url in urls]
    tally = Tally(len(urls), float(settle), float(seconds))
    while not tally.over():
        with arrived:
            if not any(reader.newest for reader in readers):
                arrived.wait(0.5)
            taken = [(place, reader.newest) for place, reader in enumerate(readers)]
            for reader in readers:
                reader.newest = None
        for place, newest in taken:
            if newest is not None:
                networks(place, newest[1])
                tally.add(place, newest[0])
    tally.report()


if __name__ == "__main__":
    main()
