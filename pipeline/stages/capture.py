"""Capture: one camera's frames become steps in its ring. One process per camera."""

import dataclasses
import logging
from functools import partial

from pipeline import topology
from pipeline.arrays import Frame, picture_size
from pipeline.clock import NS_PER_S
from pipeline.config import CameraConfig
from pipeline.errors import RingError, SourceError, SourceErrorKind
from pipeline.sources import Grab, Source, SourceOptions, create
from pipeline.stages.base import Context, Stopped
from pipeline.stages.frozen_picture import FrozenPicture
from pipeline.stages.kept_pieces import kept_pieces
from pipeline.stages.order import Order
from pipeline.steps.frame_rate import FrameRate
from pipeline.steps.ignore_mask import IgnoreMask
from pipeline.steps.sampling import Steps
from pipeline.transport import topics
from pipeline.transport.frame_ring import RingWriter, Shape
from pipeline.transport.messages import (
    CameraState,
    CameraStatus,
    EndOfStream,
    FrameRef,
    Moment,
    Stamp,
)

FIRST_RETRY_S = 0.5
FIRST_LOGIN_RETRY_S = 10.0
RING_RETRY_S = 3.0
STEADY_S = 10.0
"""A camera that was online for this long is tried again at once when it is lost."""
_STATES: dict[SourceErrorKind, CameraState] = {
    "stalled": "stalled",
    "unauthorised": "unauthorised",
}

log = logging.getLogger(__name__)


class Capture:
    """Opens the source, samples its frames to steps, and puts those into the ring.

    Only frames that stand for a step are decoded to pixels; the others are grabbed and dropped. A
    lost source is tried again for ever, with growing pauses, unless trying can't help.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._camera = context.spec.cameras[0]
        self._settings = context.config.cameras[self._camera]
        self._source: Source | None = None
        self._ring: RingWriter | None = None
        self._retry_s = FIRST_RETRY_S
        self._retry_at_ns = 0
        self._no_room_until_ns = 0
        self._over = False
        self._was_open = False
        self._opened_ns: int | None = None
        self._reported_segment = -1
        self._state: CameraState = "connecting"
        self._frozen = FrozenPicture(self._settings.frozen_s)
        self._mask = IgnoreMask(self._settings.ignore)
        self._kept = kept_pieces(context, self._camera)
        watched = topology.watched(context.config, [self._camera])
        step_hz = topology.step_hz(watched[self._camera])
        self._order = Order(self._camera, FrameRate(step_hz, self._settings.gap_s))
        self._steps = Steps(
            self._camera,
            step_hz,
            self._settings.gap_s,
            first_segment=context.first_number,
            # Media time starts at 0 with the file; a camera's steps count from the run's start.
            origin_ns=None if context.lossless else context.origin_ns,
        )
        routes = topology.routes(context.config, watched)
        self._publisher = context.publisher(topics.FRAME, routes)

    def work(self) -> float | None:
        if self._over:
            return None
        if self._context.link.stop_requested:
            self._finish()
            return None
        if not self._publisher.ready():
            return None
        now = self._context.clock.monotonic_ns()
        if self._source is None and now < self._retry_at_ns:
            return (self._retry_at_ns - now) / NS_PER_S
        try:
            if self._source is None:
                self._connect()
                return 0.0
            grab = self._source.grab()
            if grab is None:
                self._finish()
                return None
            self._take(self._source, grab)
            self._kept.send_new()
        except SourceError as error:
            self._lost(error)
        except Stopped:
            self._finish()
            return None
        except RingError as error:
            self._no_room(error)
        return 0.0

    def drained(self) -> bool:
        return self._over

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
        if self._ring is not None:
            self._ring.close()

    def _connect(self) -> None:
        settings, context = self._settings, self._context
        options = source_options(settings, lossless=context.lossless, origin_ns=context.origin_ns)
        idle = partial(context.idle, 0.0)
        options = dataclasses.replace(options, idle=idle, roll=self._kept.packets)
        self._report("connecting", None)
        try:
            source = create(
                settings.source, camera=self._camera, clock=context.clock, options=options
            )
            self._source = source
            source.open()
        except SourceError as error:
            self._lost(error)
            return
        self._was_open = True
        self._opened_ns = context.clock.monotonic_ns()
        self._steps.new_segment()
        self._steps.put_on_grid(not source.ends)
        # A film may well hold the same picture for a minute.
        self._frozen = FrozenPicture(0.0 if source.ends else settings.frozen_s)
        self._order.forget()
        self._report("online", None)

    def _lost(self, error: SourceError) -> None:
        """Report it, and try again later, later each time; or give up where it can't help."""
        if self._source is not None:
            self._source.close()
            self._source = None
        self._context.counters["source_failures"] += 1
        # What never existed is most likely mistyped; what existed may be plugged in again.
        mistyped = error.kind == "not_found" and not self._was_open
        if error.permanent or mistyped:
            log.error("%s", error)
            self._end("failed", str(error))
            return
        self._report(_STATES.get(error.kind, "offline"), str(error))
        pause_s = self._pause_s(error)
        log.warning("%s; trying again in %.1f s", error, pause_s)
        self._retry_at_ns = self._context.clock.monotonic_ns() + int(pause_s * NS_PER_S)

    def _pause_s(self, error: SourceError) -> float:
        """Seconds until the next try: twice as long each time, until it was well for a while."""
        now = self._context.clock.monotonic_ns()
        if self._opened_ns is not None and now - self._opened_ns > STEADY_S * NS_PER_S:
            self._retry_s = FIRST_RETRY_S
        self._opened_ns = None
        longest_s = self._settings.retry_max_s
        if error.kind == "unauthorised":
            # Cameras lock accounts after a few wrong passwords, and users out with them.
            self._retry_s = max(self._retry_s, FIRST_LOGIN_RETRY_S)
            longest_s = self._settings.login_retry_max_s
        pause_s = min(self._retry_s, longest_s)
        self._retry_s = 2 * pause_s
        return pause_s

    def _no_room(self, error: RingError) -> None:
        """Try again for a ring in a while; frames are dropped meanwhile.

        Lossless, a hole in the steps ends the run, and a file without any step has failed.
        """
        log.error("camera %s: %s", self._camera, error)
        if not self._context.lossless:
            pause_ns = int(RING_RETRY_S * NS_PER_S)
            self._no_room_until_ns = self._context.clock.monotonic_ns() + pause_ns
            if self._state != "offline":
                self._report("offline", str(error))
        elif self._context.counters["steps"]:
            raise error
        else:
            self._end("failed", str(error))

    def _finish(self) -> None:
        stopped = self._context.link.stop_requested
        self._end("ended", "stopped" if stopped else "the source came to its end")

    def _end(self, state: CameraState, reason: str) -> None:
        """Nothing more will come. Report it last: at the last end the supervisor stops the run."""
        self._publisher.send(self._camera, EndOfStream(camera=self._camera))
        self._over = True
        if self._ring is not None and not self._context.link.stop_requested:
            self._await_readers(self._ring)
        self._report(state, reason)

    def _take(self, source: Source, grab: Grab) -> None:
        """Put one grabbed frame into the ring if it stands for a step."""
        self._context.counters["frames"] += 1
        due = self._steps.due(grab, self._note(source, grab))
        if due is None or due.step_id % self._context.link.pace.step_every:
            return
        if self._ring is None and self._context.clock.monotonic_ns() < self._no_room_until_ns:
            return
        slot = self._ring.reserve() if self._ring is not None else None
        frame = source.retrieve(slot)
        # Before the mask is painted: a clock in an ignored corner shows that the camera lives.
        if self._frozen.is_frozen(frame, grab.captured_ns):
            if self._state != "frozen":
                self._report("frozen", f"the same picture for {self._settings.frozen_s:g} s")
            return
        self._kept.add_picture(frame, grab.scene_ns)
        in_place = frame is slot
        del slot  # _write may close the ring, which can't be while a view of it is alive
        fresh = self._state in ("frozen", "offline") or not (in_place or self._fits(frame))
        moment = self._steps.moment(due, fresh=fresh)
        ring = self._write(frame) if self._ring is None or not in_place else self._ring
        if self._mask:
            self._mask.paint(ring.reserve())
        self._publish(moment, ring)

    def _note(self, source: Source, grab: Grab) -> int:
        """Report what is wrong with the source, if that has changed; returns the frame's time."""
        time_ns = grab.step_ns(source.ends)
        if self._order.note(source, time_ns) and self._state == "online":
            self._report("online", None)
        return time_ns

    def _fits(self, frame: Frame) -> bool:
        """Whether the camera's frames have had this size so far."""
        return self._ring is None or self._ring.shape == frame.shape

    def _write(self, frame: Frame) -> RingWriter:
        """Copy a frame that is not in its slot yet, into a new ring if it has another size."""
        shape: Shape = (frame.shape[0], frame.shape[1], frame.shape[2])
        ring = self._ring
        if ring is not None and ring.shape != shape:
            height, width = picture_size(shape)
            log.info("camera %s: frames are now %d×%d", self._camera, width, height)
            self._await_readers(ring)
            ring.close()
            self._ring = ring = None
        if ring is None:
            name = self._context.request_ring(self._camera, "frame", shape)
            wait = self._wait if self._context.lossless else None
            ring = self._ring = RingWriter(name, self._context.run, wait)
            self._report("online", None, picture_size(shape))
        ring.reserve()[:] = frame
        return ring

    def _publish(self, moment: Moment, ring: RingWriter) -> None:
        number = ring.commit()
        self._context.counters["steps"] += 1
        if moment.segment != self._reported_segment:
            # Before its first step: a capture that follows this one must not use the number again.
            self._report("online", None)
        stamp = Stamp("capture", moment.captured_ns, self._context.clock.monotonic_ns())
        self._publisher.send(
            self._camera,
            FrameRef(moment=moment, ring=ring.name, number=number, trail=(stamp,)),
        )

    def _wait(self) -> None:
        self._context.idle(0.001)

    def _await_readers(self, ring: RingWriter) -> None:
        while self._context.lossless and not ring.drained():
            self._wait()

    def _report(
        self, state: CameraState, reason: str | None, size: tuple[int, int] | None = None
    ) -> None:
        status = CameraStatus(
            camera=self._camera,
            state=state,
            reason=self._order.trouble if state == "online" else reason,
            at_ns=self._context.clock.monotonic_ns(),
            segment=self._steps.segment,
            size=size or (picture_size(self._ring.shape) if self._ring is not None else None),
        )
        if state == "online":
            self._reported_segment = self._steps.segment
        self._context.status(status)
        self._state = state


def source_options(settings: CameraConfig, *, lossless: bool, origin_ns: int) -> SourceOptions:
    """The options of a camera's source; defaults where the config says nothing."""
    options = SourceOptions(
        transport=settings.transport,
        open_timeout_s=settings.open_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        loop=settings.loop,
        realtime=not lossless,
        origin_ns=origin_ns,
        decoder=settings.decoder,
        loop_filter=settings.loop_filter,
    )
    given = {
        key: value
        for key in ("width", "height", "fps")
        if (value := getattr(settings, key)) is not None
    }
    return dataclasses.replace(options, **given)
