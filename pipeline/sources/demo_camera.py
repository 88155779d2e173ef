"""The demo scene as a camera: in real time, or every frame for a lossless run."""

from pipeline.arrays import Frame
from pipeline.clock import NS_PER_S, Clock
from pipeline.sources.base import Grab, SourceOptions
from pipeline.sources.demo import DemoScene


class DemoCamera:
    """Frames of :class:`~pipeline.sources.demo.DemoScene`; media time is the script's time.

    In real time, a frame is due every 1/fps second after the origin, and a late reader gets the
    newest due frame, as from a camera. Otherwise the reader gets every frame, without a wait.
    """

    ends = False
    trouble = None
    codec = "drawn"

    def __init__(self, clock: Clock, options: SourceOptions, seed: int) -> None:
        self.live = options.realtime
        self._clock = clock
        self._fps = options.fps or 30.0
        self._scene = DemoScene(seed, options.width or 640, options.height or 480)
        self._origin_ns = options.origin_ns
        self._index = -1

    @property
    def size(self) -> tuple[int, int]:
        return self._scene.height, self._scene.width

    @property
    def origin_ns(self) -> int | None:
        """Monotonic time of media time 0; None before the first open."""
        return self._origin_ns

    def open(self) -> None:
        if self._origin_ns is None:
            self._origin_ns = self._clock.monotonic_ns()

    def grab(self) -> Grab:
        if self._origin_ns is None:
            raise RuntimeError("demo camera: grab before open")
        now_ns = self._clock.monotonic_ns()
        self._index += 1
        if self.live:
            # Skip frames that a camera would have dropped by now.
            newest = int((now_ns - self._origin_ns) * self._fps / NS_PER_S)
            self._index = max(self._index, newest)
            due_ns = self._origin_ns + self._pts_ns()
            while now_ns < due_ns:
                self._clock.sleep((due_ns - now_ns) / NS_PER_S)
                now_ns = self._clock.monotonic_ns()
        return Grab(now_ns, self._pts_ns())

    def retrieve(self, out: Frame | None = None) -> Frame:
        fits = out is not None and out.shape == (*self.size, 3)
        return self._scene.render(self._pts_ns() / NS_PER_S, out if fits else None)

    def close(self) -> None:
        """Do nothing: there is nothing to release, and a later open continues with the clock."""

    def _pts_ns(self) -> int:
        return round(self._index * NS_PER_S / self._fps)
