"""Publish: transitions become public events, in the log before on the wire.

Two public sockets: PUB for events, status and scores; ROUTER for snapshot and replay
(``docs/messages.md``).
"""

from collections import deque
from typing import cast

import msgspec

from pipeline.clock import NS_PER_S
from pipeline.errors import EventLogError
from pipeline.public import records
from pipeline.public.access import ClientAccess
from pipeline.public.camera_states import CameraStates
from pipeline.public.event_log import EventLog, Stored, log_path
from pipeline.public.records import Event, to_json
from pipeline.public.retention import LogUpkeep
from pipeline.public.wording import Wording, latency, milliseconds
from pipeline.stages.base import Context
from pipeline.transport import topics
from pipeline.transport.counters import Timing, key
from pipeline.transport.messages import (
    Accepted,
    BadMessage,
    CameraStatus,
    EvidenceMade,
    EvidenceStored,
    HeldBack,
    Outgoing,
    Pacing,
    PeopleCount,
    Quarantined,
    Stamp,
    StepScores,
)
from pipeline.transport.public_sockets import PublicTopic

REPEAT_STATUS_S = 5.0
KEPT_HELD_BACK = 100
"""Actions that rules held back, which the snapshot tells of."""


class Publish:
    """Stores each transition as an event, publishes it, and answers requests."""

    def __init__(self, context: Context) -> None:
        config, bus = context.config, context.bus
        self._clock = context.clock
        self._counters = context.counters
        self._event_latency = {
            camera: Timing(context.counters, "event_latency", camera)
            for camera in context.spec.cameras
        }
        self._states = CameraStates()
        self._shown: dict[str, CameraStatus] = {}
        self._people: dict[str, int] = {}
        self._held_back: deque[records.HeldBack] = deque(maxlen=KEPT_HELD_BACK)
        self._pacing: Pacing | None = None
        self._repeat_ns = 0
        keys = config.publish.keys
        self._access = (
            None if keys is None else ClientAccess(keys, bus, context.clock, context.counters)
        )
        authenticator = self._access.authenticator if self._access is not None else None
        self._public = bus.public_publisher(config.publish.events, authenticator)
        self._router = bus.public_router(config.publish.replay, authenticator)
        self._log = EventLog(log_path(context.run_dir, config.events.log), context.clock)
        self._wording = Wording(
            log=self._log.identity,
            wall_ns=self._wall_ns,
            media_timed=config.lossless,
        )
        self._upkeep = LogUpkeep(
            self._log,
            context.clock,
            context.counters,
            self._send_log_status,
            keep_days=config.events.keep_days,
            keep_mb=config.events.keep_mb,
        )
        self._fusion = bus.router(topics.TRANSITION)
        self._status = bus.pull(topics.STATUS)
        self._scores = bus.pull(topics.SCORE)
        self._evidence = bus.router(topics.EVIDENCE)
        bus.watch(self._fusion, self._on_transitions)
        bus.watch(self._evidence, self._on_evidence)
        bus.watch(self._status, self._on_status)
        bus.watch(self._scores, self._on_scores)
        bus.watch(self._router, self._on_requests)

    def work(self) -> float | None:
        waits = [self._repeat_statuses(), self._upkeep.delete_old()]
        if self._access is not None:
            waits.append(self._access.look())
        return min(wait for wait in waits if wait is not None)

    def drained(self) -> bool:
        return True

    def close(self) -> None:
        self._log.close()

    def _on_transitions(self) -> None:
        for sender, message in self._fusion.drain():
            if not isinstance(message, Outgoing):
                continue
            try:
                accepted = self._accept(message)
            except EventLogError as error:
                # Not acknowledged: fusion keeps it and sends it again.
                self._upkeep.failed(error)
                continue
            self._upkeep.succeeded()
            self._fusion.send(sender, Accepted(epoch=message.epoch, number=accepted))

    def _accept(self, message: Outgoing) -> int:
        """Store and publish a transition if it is the next of its epoch.

        Returns the number of the last transition that is stored.
        """
        accepted = self._log.accepted(message.epoch)
        if message.number != accepted + 1:
            return accepted
        took_ns = self._clock.monotonic_ns()
        transition = message.transition
        if transition is None:
            for stored in self._log.begin_epoch(message.epoch, self._interrupted, message.number):
                self._publish(stored)
            return message.number

        def event(seq: int, known_id: str | None) -> Event:
            latency_ms = self._latency(transition.captured_ns, transition.trail, took_ns)
            start_time = None if known_id is None else self._log.last_of(known_id).start_time
            return self._wording.event(transition, seq, known_id, latency_ms, start_time)

        self._publish(self._log.append(message.epoch, message.number, transition.key, event))
        if transition.change.type == "start":
            now_ns = self._clock.monotonic_ns()
            self._event_latency[transition.camera].add(now_ns - transition.captured_ns)
        return message.number

    def _publish(self, stored: Stored) -> None:
        event = stored.event
        self._public.send(records.ACTION.of(event), stored.json)
        self._counters[key("event_records", event.type)] += 1
        if event.type == "start":
            self._counters[key("events", event.camera, event.model.name, event.label)] += 1

    def _on_evidence(self) -> None:
        for sender, message in self._evidence.drain():
            if not isinstance(message, EvidenceMade):
                continue
            try:
                stored = self._log.append_evidence(message)
            except EventLogError as error:
                # Not acknowledged: it is sent again.
                self._upkeep.failed(error)
                continue
            self._upkeep.succeeded()
            self._evidence.send(sender, EvidenceStored(key=message.key))
            if stored is not None:
                self._public.send(records.EVIDENCE.of(stored.evidence), stored.json)

    def _send(self, topic: PublicTopic, record: msgspec.Struct) -> None:
        self._public.send(topic.of(record), to_json(record))

    def _interrupted(self, seq: int, last: Event) -> Event:
        """The end of an event whose fusion process is gone."""
        return self._wording.interrupted(last, seq, self._clock.monotonic_ns())

    def _wall_ns(self, monotonic_ns: int) -> int:
        return self._clock.wall_ns() - (self._clock.monotonic_ns() - monotonic_ns)

    def _latency(
        self, captured_ns: int, trail: tuple[Stamp, ...], took_ns: int
    ) -> dict[str, float]:
        now_ns = self._clock.monotonic_ns()
        stamps = (*trail, Stamp("publish", took_ns, now_ns))
        return {**latency(stamps), "total": milliseconds(now_ns - captured_ns)}

    def _on_status(self) -> None:
        for message in self._status.drain():
            if isinstance(message, Pacing):
                self._pacing = message
                self._send_pacing(message)
            elif isinstance(message, CameraStatus | Quarantined) and self._states.note(message):
                status = self._states.get(message.camera)
                if status is not None and self._is_news(status):
                    self._send_status(status)
            elif isinstance(message, HeldBack):
                self._held_back.append(self._wording.held_back(message))
            elif isinstance(message, PeopleCount):
                status = self._states.get(message.camera)
                changed = self._people.get(message.camera) != message.people
                self._people[message.camera] = message.people
                if status is not None and changed:
                    self._send_status(status)

    def _is_news(self, status: CameraStatus) -> bool:
        """Whether subscribers don't know it yet. Time and segment change all the time."""
        shown = self._shown.get(status.camera)
        return shown is None or (shown.state, shown.reason, shown.size) != (
            status.state, status.reason, status.size,
        )  # fmt: skip

    def _repeat_statuses(self) -> float:
        """Send all states again now and then, for new subscribers; seconds until the next time."""
        now = self._clock.monotonic_ns()
        if now >= self._repeat_ns:
            self._repeat_ns = now + int(REPEAT_STATUS_S * NS_PER_S)
            for status in self._states:
                self._send_status(status)
            if self._pacing is not None:
                self._send_pacing(self._pacing)
            if self._upkeep.problem is not None:
                self._send_log_status()
        return (self._repeat_ns - now) / NS_PER_S

    def _send_status(self, status: CameraStatus) -> None:
        self._shown[status.camera] = status
        self._send(records.STATUS, self._camera_status(status))

    def _camera_status(self, status: CameraStatus) -> records.CameraStatus:
        """With the people in the picture, if they are counted and there is a picture."""
        people = self._people.get(status.camera) if status.state == "online" else None
        return self._wording.camera_status(status, msgspec.UNSET if people is None else people)

    def _send_pacing(self, pacing: Pacing) -> None:
        self._send(records.GOVERNOR_STATUS, self._wording.governor_status(pacing))

    def _send_log_status(self) -> None:
        self._send(records.LOG_STATUS, self._log_status())

    def _log_status(self) -> records.LogStatus:
        return self._wording.log_status(self._upkeep.problem, self._clock.monotonic_ns())

    def _on_scores(self) -> None:
        for message in self._scores.drain():
            if isinstance(message, StepScores):
                took_ns = self._clock.monotonic_ns()
                latency_ms = self._latency(message.captured_ns, message.trail, took_ns)
                self._send(records.SCORE, self._wording.scores(message, latency_ms))

    def _on_requests(self) -> None:
        self._router.serve(lambda body: to_json(self._answer(body)))

    def _answer(
        self, body: bytes
    ) -> records.Snapshot | records.Replay | records.EvidenceReplay | records.Error:
        log = self._log.identity
        try:
            request = records.request_from_json(body)
        except BadMessage as error:
            self._counters["requests_refused"] += 1
            return records.Error(log=log, error=str(error))
        seq: int | msgspec.UnsetType = msgspec.UNSET
        try:
            seq = self._log.last_seq()
            if request.request == "snapshot":
                return self._snapshot(seq)
            limit = min(max(request.limit, 1), records.MAX_REPLAY)
            if request.request == "evidence":
                return self._evidence_since(request.since, limit)
            events = _as_stored([json for _, json in self._log.since(request.since, limit)])
        except EventLogError as error:
            return records.Error(log=log, seq=seq, error=str(error))
        return records.Replay(log=log, seq=seq, events=events)

    def _evidence_since(self, number: int, limit: int) -> records.EvidenceReplay:
        found = [msgspec.Raw(json) for _, json in self._log.evidence_since(number, limit)]
        return records.EvidenceReplay(
            log=self._log.identity,
            number=self._log.last_evidence(),
            evidence=cast(list[records.Evidence], found),
        )

    def _snapshot(self, seq: int) -> records.Snapshot:
        pacing, wording = self._pacing, self._wording
        return records.Snapshot(
            log=self._log.identity,
            seq=seq,
            cameras={status.camera: self._camera_status(status) for status in self._states},
            active=_as_stored(self._log.open_events()),
            event_log=self._log_status(),
            governor=None if pacing is None else wording.governor_status(pacing),
            held_back=list(self._held_back) or msgspec.UNSET,
        )


def _as_stored(bodies: list[bytes]) -> list[Event]:
    """Events as they stand in the log, put into an answer byte for byte, without decoding."""
    return cast(list[Event], [msgspec.Raw(body) for body in bodies])
