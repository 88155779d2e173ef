"""Replay: a recording's decisions, made again from its features; what differs is told."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from pipeline.clock import isoformat
from pipeline.decisions import CameraDecisions
from pipeline.errors import PackError
from pipeline.messages import Event, ModelInfo, Transition
from pipeline.model_pack import ModelPack, Threshold
from pipeline.onnx_session import Network
from pipeline.public_events import milliseconds, new_id, public_event
from pipeline.recording import Advanced, Entry, Interrupted, Recording, Said
from pipeline.windows import DecidedStep, score_windows


@dataclass
class Replay:
    """Runs a recording through the pack's fusion network and the event rules.

    Iterating gives the public events, numbered from 1; afterwards ``differing`` counts the
    transitions that the recorded run made and this one didn't, or otherwise. Raises PackError for
    a pack that isn't the recorded one, and RecordingError.
    """

    recording: Recording
    pack: ModelPack
    made: int = 0
    differing: int = 0
    _ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        about = self.recording.about
        if self.pack.sha256 != about.sha256:
            raise PackError(
                f"{self.pack.folder}: is not the pack of the recording, "
                f"{about.name} {about.version} ({about.sha256[:12]}…)"
            )
        self._network = Network(self.pack, "fusion")

    def __iter__(self) -> Iterator[Event]:
        for part in self.recording.parts():
            self._ids.clear()
            for transition in self._checked(part):
                self.made += 1
                yield self._event(transition)

    def _checked(self, part: Iterator[Entry]) -> Iterator[Transition]:
        """This part's transitions, each held against what was recorded."""
        ours: deque[Transition] = deque()
        cameras = self._cameras()
        for entry in part:
            if isinstance(entry, Said):
                if not ours or _bare(ours.popleft()) != _bare(entry.transition):
                    self.differing += 1
                continue
            # What the recorded run said of the entry before has all been heard.
            self.differing += len(ours)
            ours.clear()
            for transition in self._decide(cameras, entry):
                ours.append(transition)
                yield transition
        # The end may be cut off: what it would have said can't be known.

    def _cameras(self) -> dict[str, CameraDecisions]:
        about = self.recording.about
        thresholds = {name: Threshold(**values) for name, values in about.thresholds.items()}
        return {
            name: CameraDecisions(
                name, self.pack.contract, thresholds, about.update_every_s, about.media_timed
            )
            for name in about.cameras
        }

    def _decide(
        self, cameras: dict[str, CameraDecisions], entry: Advanced | Interrupted
    ) -> list[Transition]:
        if isinstance(entry, Interrupted):
            if entry.forget:
                cameras[entry.camera].forget()
            return cameras[entry.camera].interrupt(entry.reason, entry.at_ns)
        said, scoring = [], []
        for step in entry.steps:
            camera = cameras[step.moment.camera]
            said += camera.advance(DecidedStep(step.moment, step.spatial, step.temporal))
            if not camera.window.empty:
                scoring.append(camera)
        if scoring:
            scored = score_windows(self._network.run, [camera.window for camera in scoring])
            for camera, one in zip(scoring, scored, strict=True):
                if one is not None:
                    said += camera.judge(one, entry.took_ns, entry.took_ns)
        return said

    def _event(self, transition: Transition) -> Event:
        about = self.recording.about
        start_ns = transition.start_pts_ns
        if start_ns is None or not about.media_timed:
            start_ns = transition.start_ns + about.wall_minus_monotonic_ns
        known = self._ids.get(transition.key)
        event_id = known or new_id(self.made, transition.camera, start_ns)
        self._ids[transition.key] = event_id
        parts = {s.stage: milliseconds(s.let_go_ns - s.took_ns) for s in transition.trail}
        return public_event(
            transition,
            seq=self.made,
            event_id=event_id,
            model=ModelInfo(name=about.name, version=about.version, sha256=about.sha256),
            log="",
            wall_of=lambda ns: isoformat(ns + about.wall_minus_monotonic_ns),
            latency_ms=parts,
        )


def _bare(transition: Transition) -> Transition:
    """Without the times at which it was made."""
    return msgspec.structs.replace(transition, trail=())
