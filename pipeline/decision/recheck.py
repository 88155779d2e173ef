"""Recheck: a recording's decisions are made again from its features, and differences counted.

The program calls it ``--replay DIR``.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from pipeline.decision.decisions import CameraDecisions, decide_batch
from pipeline.decision.recording import (
    Advanced,
    ClockSet,
    Entry,
    Interrupted,
    Made,
    Recording,
)
from pipeline.decision.rule_filter import RuleFilters
from pipeline.errors import PackError
from pipeline.model.pack import ModelPack, Threshold
from pipeline.model.session import Network
from pipeline.public.records import Event, Model
from pipeline.public.wording import Wording, latency
from pipeline.steps.join import DecidedStep
from pipeline.transport.messages import Transition


@dataclass
class Recheck:
    """Runs a recording through the pack's fusion network and the event rules.

    Iterating gives the public events, numbered from 1. Afterwards ``differing`` counts the
    transitions that only one of the two runs made, or that differ. Raises :class:`PackError` for a
    pack that isn't the recorded one, and :class:`pipeline.errors.RecordingError`.
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
        self._wording = Wording(
            log="",
            model=Model(name=about.name, version=about.version, sha256=about.sha256),
            wall_ns=lambda ns: ns + about.wall_minus_monotonic_ns,
            media_timed=about.media_timed,
        )

    def __iter__(self) -> Iterator[Event]:
        for part in self.recording.parts():
            self._ids.clear()
            for transition in self._checked(part):
                self.made += 1
                yield self._event(transition)

    def _checked(self, part: Iterator[Entry]) -> Iterator[Transition]:
        """This part's transitions, each compared with the recorded one."""
        ours: deque[Transition] = deque()
        filters = self._filters()
        cameras = self._cameras(filters)
        for entry in part:
            if isinstance(entry, Made):
                if not ours or _untimed(ours.popleft()) != _untimed(entry.transition):
                    self.differing += 1
                continue
            if isinstance(entry, ClockSet):
                filters.go_by(entry.wall_minus_monotonic_ns)
                continue
            # All that the recorded run made of the entry before has been read.
            self.differing += len(ours)
            ours.clear()
            for transition in self._decide(cameras, entry):
                ours.append(transition)
                yield transition
        # The end of a part may be cut off, so what is left in ``ours`` can't be judged.

    def _filters(self) -> RuleFilters:
        about = self.recording.about
        return RuleFilters(self.recording.rules, about.wall_minus_monotonic_ns, about.media_timed)

    def _cameras(self, filters: RuleFilters) -> dict[str, CameraDecisions]:
        about = self.recording.about
        thresholds = {name: Threshold(**values) for name, values in about.thresholds.items()}
        return {
            name: CameraDecisions(
                name,
                self.pack.contract,
                thresholds,
                about.update_every_s,
                about.media_timed,
                filters.of(name),
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
        batch = [
            (cameras[step.moment.camera], DecidedStep(step.moment, step.spatial, step.temporal))
            for step in entry.steps
        ]
        decided = decide_batch(
            self._network.run,
            batch,
            entry.took_ns,
            lambda: entry.took_ns,
            # The recorded run quarantined the camera.
            guard=lambda _camera: suppress(ValueError),
        )
        return [transition for one in decided for transition in one.transitions]

    def _event(self, transition: Transition) -> Event:
        known = self._ids.get(transition.key)
        event = self._wording.event(transition, self.made, known, latency(transition.trail))
        self._ids[transition.key] = event.id
        return event


def _untimed(transition: Transition) -> Transition:
    """Without the times at which it was made."""
    return msgspec.structs.replace(transition, trail=())
