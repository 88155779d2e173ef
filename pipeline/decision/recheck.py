"""Recheck: a recording's decisions are made again from its features, and differences counted.

The program calls it ``--replay DIR``.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pipeline.decision.decisions import PackDecisions, decide_packs
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
from pipeline.model.watch import watches
from pipeline.public.records import Event
from pipeline.public.wording import Wording, latency
from pipeline.steps.join import DecidedStep
from pipeline.transport.messages import Transition


@dataclass
class Recheck:
    """Runs a recording through its packs' fusion networks and the event rules.

    Iterating gives the public events, numbered from 1. Afterwards ``differing`` counts the
    transitions that only one of the two runs made, or that differ. Raises :class:`PackError` for
    packs that aren't the recorded ones, and :class:`pipeline.errors.RecordingError`.
    """

    recording: Recording
    packs: Mapping[str, ModelPack]
    """By their hash (:func:`packs_of`)."""
    made: int = 0
    differing: int = 0
    _ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        about = self.recording.about
        self._networks = {
            sha256: Network(pack, "fusion").run for sha256, pack in self.packs.items()
        }
        self._thresholds = {
            pack.sha256: {name: Threshold(**values) for name, values in pack.thresholds.items()}
            for pack in about.packs
        }
        self._watches = {
            name: watches(
                [self.packs[sha256] for sha256 in camera.packs], flow_method=about.flow_method
            )
            for name, camera in about.cameras.items()
        }
        self._wording = Wording(
            log="",
            wall_ns=lambda ns: ns + about.wall_minus_monotonic_ns,
            media_timed=about.media_timed,
        )

    def __iter__(self) -> Iterator[Event]:
        first = next(iter(self._watches.values()))
        for part in self.recording.parts(first):
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
                if not ours or _comparable(ours.popleft()) != _comparable(entry.transition):
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
        return RuleFilters(
            self.recording.rules,
            about.wall_minus_monotonic_ns,
            about.media_timed,
            zones={name: camera.zones for name, camera in about.cameras.items()},
        )

    def _cameras(self, filters: RuleFilters) -> dict[str, list[PackDecisions]]:
        about = self.recording.about
        return {
            name: [
                PackDecisions(
                    name,
                    watch,
                    self._thresholds[watch.pack.sha256],
                    about.update_every_s,
                    about.media_timed,
                    filters,
                )
                for watch in watches
            ]
            for name, watches in self._watches.items()
        }

    def _decide(
        self, cameras: dict[str, list[PackDecisions]], entry: Advanced | Interrupted
    ) -> list[Transition]:
        if isinstance(entry, Interrupted):
            if entry.forget:
                for decisions in cameras[entry.camera]:
                    decisions.forget()
            return [
                transition
                for decisions in cameras[entry.camera]
                for transition in decisions.interrupt(entry.reason, entry.at_ns)
            ]
        steps = [
            DecidedStep(step.moment, step.spatial, step.temporal, step.people)
            for step in entry.steps
        ]
        batch = [(cameras[step.moment.camera], step) for step in steps]
        return [
            transition
            for decided in decide_packs(
                self._networks,
                batch,
                entry.took_ns,
                lambda: entry.took_ns,
                # The recorded run quarantined the camera.
                guard=lambda _camera: suppress(ValueError),
            )
            for transition in decided.transitions
        ]

    def _event(self, transition: Transition) -> Event:
        known = self._ids.get(transition.key)
        event = self._wording.event(transition, self.made, known, latency(transition.trail))
        self._ids[transition.key] = event.id
        return event


def packs_of(recording: Recording, folder: Path | None = None) -> dict[str, ModelPack]:
    """The packs of a recording by their hash; ``folder`` names the only one, if it has moved.

    Raises :class:`PackError`.
    """
    recorded = recording.about.packs
    if folder is not None and len(recorded) > 1:
        raise PackError(f"{folder}: the recording has {len(recorded)} packs; put them in place")
    found = {}
    for about in recorded:
        pack = ModelPack.load(folder or Path(about.model))
        if pack.sha256 != about.sha256:
            raise PackError(
                f"{pack.folder}: is not the pack of the recording, "
                f"{about.name} {about.version} ({about.sha256[:12]}…)"
            )
        found[about.sha256] = pack
    return found


def _comparable(transition: Transition) -> Transition:
    """Without the times at which it was made, and without what earlier recordings don't have."""
    change = msgspec.structs.replace(transition.change, top_ns=None, top_pts_ns=None)
    return msgspec.structs.replace(transition, trail=(), change=change)
