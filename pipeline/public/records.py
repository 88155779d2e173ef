"""The records on the public sockets, and the topics that they travel under.

``docs/messages.md`` and ``docs/messages.schema.json`` are generated from here
(:mod:`pipeline.public.schema`). Every record is JSON on the wire.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pipeline.transport.messages import (
    SCHEMA_VERSION,
    BadMessage,
    Box,
    CameraState,
    EvidenceKind,
    EvidenceState,
)
from pipeline.transport.public_sockets import PublicTopic

MAX_REPLAY = 1000
"""Most events in one answer; a client asks again from the last that it got."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _means(text: str, unit: str | None = None) -> Meta:
    """What a field means, and its unit, for the schema and the docs."""
    return Meta(description=text, extra_json_schema=None if unit is None else {"x-unit": unit})


Schema = Annotated[int, _means("version of this record's layout; now 1")]
CameraName = Annotated[str, _means("the camera's name in the config")]
Time = Annotated[str, _means("UTC, as 2026-11-22T10:00:00.120Z", unit="ISO 8601")]
Reason = Annotated[str | None, _means("why, in words; null when there is nothing to say")]
LogIdentity = Annotated[str, _means("identity of the event log; `seq` counts within one log")]
Seq = Annotated[int, _means("number of the newest event in the log; 0 when it is empty")]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The steps that a score stands on."""

    first_step: Annotated[int, _means("oldest step in the window")]
    last_step: Annotated[int, _means("newest step in the window")]
    missing: Annotated[int, _means("steps of the window in which a stream is missing")]
    segment: Annotated[
        int, _means("grows at each gap, reconnect or change of size; no window spans two")
    ]


class Streams(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of the two streams by themselves."""

    spatial: Annotated[
        float | None,
        _means(
            "the label's score by appearance alone; null: no frame in the window", unit="0 to 1"
        ),
    ]
    temporal: Annotated[
        float | None,
        _means("the label's score by motion alone; null: no flow in the window", unit="0 to 1"),
    ]
    alpha: Annotated[
        float | None,
        _means(
            "weight of appearance against motion at the newest step that has both", unit="0 to 1"
        ),
    ]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The pack that decided."""

    name: Annotated[str, _means("name of the pack")]
    version: Annotated[str, _means("version of the pack")]
    sha256: Annotated[str, _means("hash of the pack's network files")]


Subject = Annotated[
    str, _means("who is looked at: a person (`p17`) or `moving`; missing: the whole picture")
]
LatencyMs = Annotated[
    dict[str, float],
    _means("time in each stage, and `total` from grab to publication", unit="ms"),
]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An action starts, goes on, or ends."""

    schema: Schema = SCHEMA_VERSION
    seq: Annotated[int, _means("number of this event in the log; no holes")]
    id: Annotated[str, _means("the same in all events of one action")]
    type: Annotated[Literal["start", "update", "end"], _means("what happens to the action")]
    camera: CameraName
    label: Annotated[str, _means("the action, one of the pack's labels")]
    score: Annotated[float, _means("the label's score now", unit="0 to 1")]
    top_score: Annotated[
        float,
        _means("its highest score in this action", unit="0 to 1"),
    ]
    start_time: Annotated[
        str,
        _means("when the action started, UTC", unit="ISO 8601"),
    ]
    end_time: Annotated[
        str | None,
        _means("when it ended, UTC; null while it goes on", unit="ISO 8601"),
    ]
    media_time: Annotated[
        tuple[float | None, float | None],
        _means("start and end in the source's own time: the place in a file", unit="s"),
    ]
    reason: Annotated[
        str | None,
        _means(
            "why it ended, unless its score fell: gap, no frames, end of stream, "
            "stopped, quarantined, interrupted, left (the person isn't there any more)"
        ),
    ]
    window: Window
    streams: Streams
    latency_ms: LatencyMs
    model: Model
    log: LogIdentity = ""
    subject: Subject | UnsetType = UNSET
    box: (
        Annotated[Box, _means("where the subject is: x0 y0 x1 y1", unit="0 to 1 of the picture")]
        | UnsetType
    ) = UNSET
    top_box: (
        Annotated[Box, _means("where it was at the top score", unit="0 to 1 of the picture")]
        | UnsetType
    ) = UNSET
    top_time: (
        Annotated[str, _means("when its score was highest, UTC", unit="ISO 8601")] | UnsetType
    ) = UNSET
    top_media_time: (
        Annotated[float, _means("the same in the source's own time", unit="s")] | UnsetType
    ) = UNSET
    zone: Annotated[str, _means("the camera's zone that it happens in")] | UnsetType = UNSET


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A clip or a picture of an action. Sent when the file is whole, when it can't be made, and
    when it was deleted.
    """

    schema: Schema = SCHEMA_VERSION
    number: Annotated[int, _means("counts the evidence in the log; no holes, and not `seq`")]
    log: LogIdentity
    id: Annotated[str, _means("the action's id, as in its events")]
    seq: Annotated[int, _means("the event that it belongs to")]
    camera: CameraName
    label: Annotated[str, _means("the action")]
    kind: Annotated[
        EvidenceKind,
        _means("snapshot: with boxes and scores; clean: without; motion: flow as colour"),
    ]
    state: Annotated[EvidenceState, _means("lost: there is no file, and won't be; see `reason`")]
    reason: Reason
    part: Annotated[int, _means("long actions have several clips; counts from 1")] = 1
    path: Annotated[str | None, _means("the file's absolute path; null: lost")]
    media_type: Annotated[str | None, _means("such as video/mp4, or image/jpeg")]
    sha256: Annotated[str | None, _means("hash of the file's content")]
    bytes: Annotated[int | None, _means("size of the file")]
    first_time: Annotated[str | None, _means("of the first frame, UTC", unit="ISO 8601")]
    last_time: Annotated[str | None, _means("of the last frame, UTC", unit="ISO 8601")]
    media_time: Annotated[
        tuple[float, float] | None,
        _means("first and last frame in the source's own time; null: it has none", unit="s"),
    ] = None
    codec: Annotated[str | None, _means("such as h264, hevc or jpeg")]
    encoded: Annotated[
        bool, _means("whether it was encoded here; otherwise it is what the camera sent")
    ] = False
    size: Annotated[tuple[int, int] | None, _means("height and width", unit="pixels")]


class CameraStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a camera. Sent when it changes, and every five seconds."""

    schema: Schema = SCHEMA_VERSION
    camera: CameraName
    state: Annotated[CameraState, _means("what the camera does")]
    reason: Reason
    time: Time
    segment: Annotated[int | None, _means("the segment that its steps are in now")]
    size: Annotated[
        tuple[int, int] | None,
        _means("height and width of its frames", unit="pixels"),
    ]
    people: (
        Annotated[int, _means("people in the picture; with `publish.people: true`")] | UnsetType
    ) = UNSET


class LogStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The health of the event log. Sent when it changes, and again while it is bad."""

    schema: Schema = SCHEMA_VERSION
    log: LogIdentity
    state: Annotated[Literal["online", "failed"], _means("failed: events can't be stored now")]
    reason: Reason
    time: Time


class GovernorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How much of each step is done. Sent when it changes, and every five seconds after."""

    schema: Schema = SCHEMA_VERSION
    level: Annotated[int, _means("0: everything is done; 4: the least")]
    spatial_every: Annotated[int, _means("appearance is computed in one of this many steps")]
    fast_flow: Annotated[bool, _means("flow is computed by its fastest preset")]
    step_every: Annotated[int, _means("one of this many steps is made at all")]
    people_every: Annotated[int, _means("people are looked for so many times less often")]
    subjects: Annotated[
        int | None, _means("at most so many people are looked at; null: as the config says")
    ]
    reason: Annotated[str, _means("why the level changed")]
    time: Time


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """All scores of one step. Sent only with `publish.scores: true`."""

    schema: Schema = SCHEMA_VERSION
    camera: CameraName
    pack: Annotated[str, _means("name of the pack")]
    time: Annotated[
        str,
        _means("when the step's frame was grabbed, UTC", unit="ISO 8601"),
    ]
    media_time: Annotated[
        float | None,
        _means("the frame's own time", unit="s"),
    ]
    scores: Annotated[
        dict[str, float],
        _means("fused score of each label", unit="0 to 1"),
    ]
    streams: Annotated[
        dict[str, dict[str, float] | None],
        _means(
            "scores of each label by `spatial` and `temporal` alone; null: masked", unit="0 to 1"
        ),
    ]
    alpha: Annotated[
        float | None,
        _means("weight of appearance against motion", unit="0 to 1"),
    ]
    window: Window
    latency_ms: LatencyMs
    subject: Subject | UnsetType = UNSET


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client asks of the ROUTER socket."""

    request: Annotated[Literal["snapshot", "replay", "evidence"], _means("what is wanted")]
    schema: Schema = SCHEMA_VERSION
    since: Annotated[
        int, _means("replay: events with a larger `seq`; evidence: with a larger `number`")
    ] = 0
    limit: Annotated[int, _means("replay, evidence: at most this many, 1 to 1000")] = MAX_REPLAY


class HeldBack(msgspec.Struct, frozen=True, kw_only=True):
    """An action that a rule of the config held back."""

    camera: CameraName
    label: Annotated[str, _means("the action")]
    reason: Annotated[str, _means("what the rule asks for: hours, cooldown, person, size, zone")]
    time: Time


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `snapshot`: how things stand."""

    schema: Schema = SCHEMA_VERSION
    log: LogIdentity
    seq: Seq
    cameras: Annotated[dict[str, CameraStatus], _means("the state of each camera")]
    active: Annotated[list[Event], _means("the newest event of each action that goes on")]
    event_log: Annotated[LogStatus, _means("the health of the event log")]
    governor: Annotated[GovernorStatus | None, _means("the newest pace; null while all is done")]
    held_back: (
        Annotated[list[HeldBack], _means("what rules held back, the newest 100; none: missing")]
        | UnsetType
    ) = UNSET


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `replay`: events after `since`, oldest first."""

    schema: Schema = SCHEMA_VERSION
    log: LogIdentity
    seq: Seq
    events: Annotated[list[Event], _means("at most `limit`; ask again from the last")]


class EvidenceReplay(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `evidence`: evidence after `since`, oldest first."""

    schema: Schema = SCHEMA_VERSION
    log: LogIdentity
    number: Annotated[int, _means("number of the newest evidence in the log; 0: there is none")]
    evidence: Annotated[list[Evidence], _means("at most `limit`; ask again from the last")]


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request that can't be served."""

    schema: Schema = SCHEMA_VERSION
    log: LogIdentity
    seq: Seq | UnsetType = UNSET
    error: Annotated[str, _means("what is wrong with the request, or with the log")]


ACTION = PublicTopic("action", Event, ("camera", "label"))
EVIDENCE = PublicTopic("evidence", Evidence, ("camera",))
STATUS = PublicTopic("status", CameraStatus, ("camera",))
# No camera's name begins with an underscore.
LOG_STATUS = PublicTopic("status/_log", LogStatus)
GOVERNOR_STATUS = PublicTopic("status/_governor", GovernorStatus)
SCORE = PublicTopic("score", Scores, ("camera",))

TOPICS = (ACTION, EVIDENCE, STATUS, LOG_STATUS, GOVERNOR_STATUS, SCORE)
"""Every topic of the PUB socket."""
ANSWERS = (Snapshot, Replay, EvidenceReplay, Error)
"""What the ROUTER socket answers to a :class:`Request`."""

_requests = msgspec.json.Decoder(Request)


def to_json(record: msgspec.Struct) -> bytes:
    """A public record as JSON."""
    return msgspec.json.encode(record)


def event_from_json(data: bytes) -> Event:
    """A public event; raises :class:`BadMessage`."""
    try:
        return msgspec.json.decode(data, type=Event)
    except _UNREADABLE as error:
        raise BadMessage(str(error)) from None


def evidence_from_json(data: bytes) -> Evidence:
    """A public record of evidence; raises :class:`BadMessage`."""
    try:
        return msgspec.json.decode(data, type=Evidence)
    except _UNREADABLE as error:
        raise BadMessage(str(error)) from None


def request_from_json(data: bytes) -> Request:
    """A client's request; raises :class:`BadMessage`."""
    try:
        return _requests.decode(data)
    except _UNREADABLE as error:
        raise BadMessage(str(error)) from None
