"""People: who is in the picture. One process for all cameras at which somebody asks for it.

It passes on each step with the people in it. The detector works a few times a second, and only
while something moves; in between, tracks are predicted.
"""

from collections.abc import Sequence

from pipeline import topology
from pipeline.clock import NS_PER_S
from pipeline.people.detector import PersonDetector
from pipeline.people.looking import CameraPeople
from pipeline.people.tracks import Track, TrackRules
from pipeline.stages.base import Context
from pipeline.stages.step_stage import StepStage
from pipeline.topology import Inlet
from pipeline.transport import topics
from pipeline.transport.bus import Push
from pipeline.transport.counters import key
from pipeline.transport.frame_ring import FrameOverwritten
from pipeline.transport.messages import FrameRef, PeopleCount, Person, Stamp

REPEAT_S = 5.0
"""A count is sent again after this long, for a publish that was restarted."""


class People(StepStage[FrameRef, tuple[Person, ...]]):
    """Follows the people of each camera. The cameras share one detector."""

    def __init__(self, context: Context) -> None:
        settings, cameras = context.config.people, context.spec.cameras
        runtime, rules = context.config.runtime, TrackRules()
        # What is too faint for the detector's own users still keeps a track alive.
        detector = PersonDetector(
            settings.folder, rules.faint, None, runtime.threads, runtime.providers
        )
        self._people = {
            camera: CameraPeople(
                detector,
                settings.hz,
                rules,
                first=context.first_number,
                # Not all cameras at the same step: the last of them would wait for the others.
                phase=turn / len(cameras),
            )
            for turn, camera in enumerate(cameras)
        }
        self._counted: dict[str, tuple[int, int]] = {}
        """By camera: how many people were reported, and when."""
        self._status: Push | None = (
            context.bus.push(topics.STATUS) if context.config.publish.people else None
        )
        super().__init__(
            context, (FrameRef,), topics.PEOPLE, topology.watched(context.config, cameras)
        )

    def gather_s(self, inlets: Sequence[Inlet]) -> float:
        return 0.0  # the detector takes one frame at a time

    def take(self, ref: FrameRef, took_ns: int) -> tuple[Person, ...] | None:
        moment, context = ref.moment, self._context
        people = self._people[moment.camera]
        people.hz = context.config.people.hz / context.link.pace.people_every
        looks = people.looks
        try:
            ring = self._rings.get(moment.camera, ref.ring)
            with ring.view(ref.number) as frame:
                tracks = people.look(frame, moment.time_ns(context.lossless), moment.segment)
        except FrameOverwritten:
            context.counters[key("frames_overwritten", moment.camera)] += 1
            return None
        ring.done(ref.number)
        context.counters[key("looks", moment.camera)] += people.looks - looks
        self._note(moment.camera, tracks)
        return tuple(Person(track.name, track.box, track.score) for track in tracks)

    def _note(self, camera: str, tracks: Sequence[Track]) -> None:
        """Count who is there, and report a change."""
        self._context.counters[key("people", camera)] = len(tracks)
        # A name is used once: after a restart they go on from here.
        newest = max((person.next_number for person in self._people.values()), default=1)
        self._context.counters["people_named"] = newest - 1
        if self._status is None:
            return
        now_ns, count = self._context.clock.monotonic_ns(), len(tracks)
        before, at_ns = self._counted.get(camera, (-1, 0))
        if count != before or now_ns - at_ns > REPEAT_S * NS_PER_S:
            self._counted[camera] = count, now_ns
            self._status.send(PeopleCount(camera=camera, people=count))

    def finish(self, batch: list[tuple[FrameRef, tuple[Person, ...]]], took_ns: int) -> None:
        for ref, people in batch:
            self._send(ref, people, took_ns)

    def pass_over(self, ref: FrameRef, took_ns: int) -> None:
        self._send(ref, None, took_ns)

    def _send(self, ref: FrameRef, people: tuple[Person, ...] | None, took_ns: int) -> None:
        camera = ref.moment.camera
        self._context.counters[key("steps", camera)] += 1
        stamp = Stamp("people", took_ns, self._context.clock.monotonic_ns())
        message = FrameRef(
            moment=ref.moment,
            ring=ref.ring,
            number=ref.number,
            people=people,
            trail=(*ref.trail, stamp),
        )
        self._publisher.send(camera, message)
