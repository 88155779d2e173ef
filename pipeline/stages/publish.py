"""Publish: transitions become public events, in the log before on the wire.

Two public sockets: PUB for events, status and scores; ROUTER for snapshot and replay
(``docs/messages.md``).
"""

import logging
from typing import Any, Literal

import msgspec

from pipeline import topics
from pipeline.camera_states import CameraStates
from pipeline.clock import NS_PER_S, isoformat
from pipeline.errors import EventLogError
from pipeline.event_log import EventLog, log_path
from pipeline.messages import (
    SCHEMA_VERSION,
    Accepted,
    CameraStatus,
    Event,
    ModelInfo,
    Outgoing,
    Pacing,
    Quarantined,
    Stamp,
    StepScores,
    Transition,
    to_json,
)
from pipeline.model_pack import ModelPack
from pipeline.public_events import (
    milliseconds,
    new_id,
    public_event,
    rounded_all,
    rounded_or_none,
    seconds,
)
from pipeline.stages.base import Context
from pipeline.stages.door import Door
from pipeline.stages.log_keeping import LogKeeping

MAX_REPLAY = 1000
"""Most events in one answer; a client asks again from the last it got."""

REPEAT_STATUS_S = 5.0

log = logging.getLogger(__name__)


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may ask of the ROUTER socket, as JSON."""

    request: Literal["snapshot", "replay"]
    schema: int = SCHEMA_VERSION
    since: int = 0
    limit: int = MAX_REPLAY


_request_decoder = msgspec.json.Decoder(Request)


class Publish:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._log: EventLog | None = None
        self._states = CameraStates()
        self._pacing: Pacing | None = None
        self._repeat_ns = 0

    def open(self) -> None:
        context, settings = self._context, self._context.config.publish
        pack = ModelPack.load(context.config.model)
        contract = pack.contract
        self._model = ModelInfo(name=contract.name, version=contract.version, sha256=pack.sha256)
        self._door = Door(context) if settings.keys is not None else None
        gate = self._door.gate if self._door is not None else None
        self._public = context.bus.public_publisher(settings.events, gate)
        self._router = context.bus.public_router(settings.replay, gate)
        self._events = EventLog(log_path(context.run_dir, context.config.events.log))
        self._log = self._events
        self._keeping = LogKeeping(context, self._events, self._send_log_status)
        self._fusion = context.bus.router(topics.TRANSITION)
        self._status = context.bus.pull(topics.STATUS)
        self._scores = context.bus.pull(topics.SCORE)
        context.bus.watch(self._fusion, self._on_transitions)
        context.bus.watch(self._status, self._on_status)
        context.bus.watch(self._scores, self._on_scores)
        context.bus.watch(self._router, self._on_requests)

    def work(self) -> float | None:
        waits = [self._repeat_statuses(), self._keeping.forget()]
        if self._door is not None:
            waits.append(self._door.look())
        return min(wait for wait in waits if wait is not None)

    def drained(self) -> bool:
        return True

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def _on_transitions(self) -> None:
        for sender, message in self._fusion.drain():
            if not isinstance(message, Outgoing):
                continue
            try:
                accepted = self._accept(message)
            except EventLogError as error:
                # Not acknowledged: fusion keeps it and sends it again.
                self._keeping.failed(error)
                continue
            self._keeping.succeeded()
            self._fusion.send(sender, Accepted(epoch=message.epoch, number=accepted))

    def _accept(self, message: Outgoing) -> int:
        """Store and publish a transition if it is the next of its epoch; the last one stored."""
        accepted = self._events.accepted(message.epoch)
        if message.number != accepted + 1:
            return accepted
        took_ns = self._context.clock.monotonic_ns()
        transition = message.transition
        if transition is None:
            for event in self._events.begin_epoch(message.epoch, self._interrupted, message.number):
                self._send(event)
            return message.number
        event = self._events.append(
            message.epoch,
            message.number,
            transition.key,
            lambda seq, known_id: self._event(seq, known_id, transition, took_ns),
        )
        self._send(event)
        return message.number

    def _send(self, event: Event) -> None:
        topic = f"{topics.PUBLIC_EVENT}/{event.camera}/{event.label}/"
        self._public.send(topic, to_json(event))
        self._context.counters["events"] += 1

    def _event(self, seq: int, known_id: str | None, transition: Transition, took_ns: int) -> Event:
        start_ns = transition.start_pts_ns
        if start_ns is None or not self._context.lossless:
            start_ns = self._wall_ns(transition.start_ns)
        return public_event(
            transition,
            seq=seq,
            event_id=known_id or new_id(seq, transition.camera, start_ns),
            model=self._model,
            log=self._events.identity,
            wall_of=self._wall,
            latency_ms=self._latency(transition.captured_ns, transition.trail, took_ns),
        )

    def _interrupted(self, seq: int, last: Event) -> Event:
        """The end of an event whose fusion process is gone."""
        return msgspec.structs.replace(
            last,
            seq=seq,
            type="end",
            reason="interrupted",
            end_time=isoformat(self._context.clock.wall_ns()),
        )

    def _wall_ns(self, monotonic_ns: int) -> int:
        clock = self._context.clock
        return clock.wall_ns() - (clock.monotonic_ns() - monotonic_ns)

    def _wall(self, monotonic_ns: int) -> str:
        return isoformat(self._wall_ns(monotonic_ns))

    def _latency(
        self, captured_ns: int, trail: tuple[Stamp, ...], took_ns: int
    ) -> dict[str, float]:
        now_ns = self._context.clock.monotonic_ns()
        stamps = (*trail, Stamp("publish", took_ns, now_ns))
        parts = {s.stage: milliseconds(s.let_go_ns - s.took_ns) for s in stamps}
        return {**parts, "total": milliseconds(now_ns - captured_ns)}

    def _on_status(self) -> None:
        for message in self._status.drain():
            if isinstance(message, Pacing):
                self._pacing = message
                self._send_pacing(message)
            elif isinstance(message, CameraStatus | Quarantined) and self._states.note(message):
                status = self._states.get(message.camera)
                if status is not None:
                    self._send_status(status)

    def _repeat_statuses(self) -> float:
        """Send all states again now and then, for who came later; seconds until the next time."""
        now = self._context.clock.monotonic_ns()
        if now >= self._repeat_ns:
            self._repeat_ns = now + int(REPEAT_STATUS_S * NS_PER_S)
            for status in self._states:
                self._send_status(status)
            if self._pacing is not None:
                self._send_pacing(self._pacing)
            if self._keeping.problem is not None:
                self._send_log_status()
        return (self._repeat_ns - now) / NS_PER_S

    def _send_log_status(self) -> None:
        public = {"schema": SCHEMA_VERSION, **self._public_log_status()}
        self._public.send(f"{topics.PUBLIC_STATUS}/{topics.LOG}/", to_json(public))

    def _send_pacing(self, pacing: Pacing) -> None:
        topic = f"{topics.PUBLIC_STATUS}/{topics.GOVERNOR}/"
        self._public.send(topic, to_json(self._public_pacing(pacing)))

    def _public_pacing(self, pacing: Pacing) -> dict[str, Any]:
        return {
            "schema": SCHEMA_VERSION,
            "level": pacing.level,
            "spatial_every": pacing.spatial_every,
            "fast_flow": pacing.fast_flow,
            "step_every": pacing.step_every,
            "reason": pacing.reason,
            "time": self._wall(pacing.at_ns),
        }

    def _public_log_status(self) -> dict[str, Any]:
        problem = self._keeping.problem
        return {
            "log": self._events.identity,
            "state": "online" if problem is None else "failed",
            "reason": problem,
            "time": isoformat(self._context.clock.wall_ns()),
        }

    def _send_status(self, status: CameraStatus) -> None:
        topic = f"{topics.PUBLIC_STATUS}/{status.camera}/"
        self._public.send(topic, to_json(self._public_status(status)))

    def _public_status(self, status: CameraStatus) -> dict[str, Any]:
        return {
            "schema": SCHEMA_VERSION,
            "camera": status.camera,
            "state": status.state,
            "reason": status.reason,
            "time": self._wall(status.at_ns),
            "segment": status.segment,
            "size": status.size,
        }

    def _on_scores(self) -> None:
        for message in self._scores.drain():
            if isinstance(message, StepScores):
                took_ns = self._context.clock.monotonic_ns()
                public = {
                    "schema": SCHEMA_VERSION,
                    "camera": message.camera,
                    "time": self._wall(message.captured_ns),
                    "media_time": seconds(message.pts_ns),
                    "scores": rounded_all(message.scores),
                    "streams": {
                        name: None if scores is None else rounded_all(scores)
                        for name, scores in message.streams.items()
                    },
                    "alpha": rounded_or_none(message.alpha),
                    "window": message.window,
                    "latency_ms": self._latency(message.captured_ns, message.trail, took_ns),
                }
                topic = f"{topics.PUBLIC_SCORE}/{message.camera}/"
                self._public.send(topic, to_json(public))

    def _on_requests(self) -> None:
        self._router.serve(lambda body: to_json(self._answer(body)))

    def _answer(self, body: bytes) -> dict[str, Any]:
        answer: dict[str, Any] = {"schema": SCHEMA_VERSION, "log": self._events.identity}
        try:
            request = _request_decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._context.counters["requests_refused"] += 1
            return {**answer, "error": str(error)}
        try:
            answer["seq"] = self._events.last_seq()
            if request.request == "snapshot":
                return {**answer, **self._snapshot()}
            limit = min(max(request.limit, 1), MAX_REPLAY)
            events = [msgspec.Raw(event) for _, event in self._events.since(request.since, limit)]
        except EventLogError as error:
            return {**answer, "error": str(error)}
        return {**answer, "events": events}

    def _snapshot(self) -> dict[str, Any]:
        return {
            "cameras": {status.camera: self._public_status(status) for status in self._states},
            "active": [msgspec.Raw(event) for event in self._events.open_events()],
            "event_log": self._public_log_status(),
            "governor": None if self._pacing is None else self._public_pacing(self._pacing),
        }
