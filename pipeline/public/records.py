"""The records on the public sockets, and the topics that they travel under.

``docs/messages.md`` and ``docs/messages.schema.json`` are generated from here
(:mod:`pipeline.public.schema`). Every record is JSON on the wire.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pipeline.transport.messages import SCHEMA_VERSION, BadMessage, CameraState
from pipeline.transport.public_sockets import PublicTopic

MAX_REPLAY = 1000
"""Most events in one answer; a client asks again from the last that it got."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _unit(unit: str) -> dict[str, Any]:
    return {"x-unit": unit}


Schema = Annotated[int, Meta(description="version of this record's layout; now 1")]
CameraName = Annotated[str, Meta(description="the camera's name in the config")]
Time = Annotated[
    str, Meta(description="UTC, as 2026-11-22T10:00:00.120Z", extra_json_schema=_unit("ISO 8601"))
]
Score = Annotated[float, Meta(description="probability", extra_json_schema=_unit("0 to 1"))]
Reason = Annotated[str | None, Meta(description="why, in words; null when there is nothing to say")]
LogIdentity = Annotated[
    str, Meta(description="identity of the event log; `seq` counts within one log")
]
Seq = Annotated[int, Meta(description="number of the newest event in the log; 0 when it is empty")]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The steps that a score stands on."""

    first_step: Annotated[int, Meta(description="oldest step in the window")]
    last_step: Annotated[int, Meta(description="newest step in the window")]
    missing: Annotated[int, Meta(description="steps of the window that lack a stream")]
    segment: Annotated[
        int, Meta(description="grows at each gap, reconnect or change of size; no window spans two")
    ]


class Streams(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of the two streams by themselves."""

    spatial: Annotated[
        float | None,
        Meta(
            description="the label's score by appearance alone; null: no frame in the window",
            extra_json_schema=_unit("0 to 1"),
        ),
    ]
    temporal: Annotated[
        float | None,
        Meta(
            description="the label's score by motion alone; null: no flow in the window",
            extra_json_schema=_unit("0 to 1"),
        ),
    ]
    alpha: Annotated[
        float | None,
        Meta(
            description="weight of appearance against motion at the newest step that has both",
            extra_json_schema=_unit("0 to 1"),
        ),
    ]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The pack that decided."""

    name: Annotated[str, Meta(description="name of the pack")]
    version: Annotated[str, Meta(description="version of the pack")]
    sha256: Annotated[str, Meta(description="hash of the pack's network files")]


LatencyMs = Annotated[
    dict[str, float],
    Meta(
        description="time in each stage, and `total` from grab to publication",
        extra_json_schema=_unit("ms"),
    ),
]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An action starts, goes on, or ends."""

    schema: Schema = SCHEMA_VERSION
    seq: Annotated[int, Meta(description="number of this event in the log; no holes")]
    id: Annotated[str, Meta(description="the same in all events of one action")]
    type: Annotated[
        Literal["start", "update", "end"], Meta(description="what happens to the action")
    ]
    camera: CameraName
    label: Annotated[str, Meta(description="the action, one of the pack's labels")]
    score: Annotated[
        float, Meta(description="the label's score now", extra_json_schema=_unit("0 to 1"))
    ]
    top_score: Annotated[
        float,
        Meta(description="its highest score in this action", extra_json_schema=_unit("0 to 1")),
    ]
    start_time: Annotated[
        str,
        Meta(description="when the action started, UTC", extra_json_schema=_unit("ISO 8601")),
    ]
    end_time: Annotated[
        str | None,
        Meta(
            description="when it ended, UTC; null while it goes on",
            extra_json_schema=_unit("ISO 8601"),
        ),
    ]
    media_time: Annotated[
        tuple[float | None, float | None],
        Meta(
            description="start and end in the source's own time: the place in a file",
            extra_json_schema=_unit("s"),
        ),
    ]
    reason: Annotated[
        str | None,
        Meta(
            description="why it ended, unless its score fell: gap, no frames, end of stream, "
            "stopped, quarantined, interrupted"
        ),
    ]
    window: Window
    streams: Streams
    latency_ms: LatencyMs
    model: Model
    log: LogIdentity = ""


class CameraStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a camera. Sent when it changes, and every five seconds."""

    schema: Schema = SCHEMA_VERSION
    camera: CameraName
    state: Annotated[CameraState, Meta(description="what the camera does")]
    reason: Reason
    time: Time
    segment: Annotated[int | None, Meta(description="the segment that its steps are in now")]
    size: Annotated[
        tuple[int, int] | None,
        Meta(description="height and width of its frames", extra_json_schema=_unit("pixels")),
    ]


class LogStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The health of the event log. Sent when it changes, and again while it is bad."""

    schema: Schema = SCHEMA_VERSION
    log: LogIdentity
    state: Annotated[
        Literal["online", "failed"], Meta(description="failed: events can't be stored now")
    ]
    reason: Reason
    time: Time


class GovernorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How much of each step is done. Sent when it changes, and every five seconds after."""

    schema: Schema = SCHEMA_VERSION
    level: Annotated[int, Meta(description="0: everything is done; 4: the least")]
    spatial_every: Annotated[
        int, Meta(description="appearance is computed in one of this many steps")
    ]
    fast_flow: Annotated[bool, Meta(description="flow is computed by its fastest preset")]
    step_every: Annotated[int, Meta(description="one of this many steps is made at all")]
    reason: Annotated[str, Meta(description="why the level changed")]
    time: Time


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """All scores of one step. Sent only with `publish.scores: true`."""

    schema: Schema = SCHEMA_VERSION
    camera: CameraName
    time: Annotated[
        str,
        Meta(description="when the step's frame was grabbed, UTC",
             extra_json_schema=_unit("ISO 8601")),
    ]  # fmt: skip
    media_time: Annotated[
        float | None,
        Meta(description="the frame's own time", extra_json_schema=_unit("s")),
    ]
    scores: Annotated[
        dict[str, float],
        Meta(description="fused score of each label", extra_json_schema=_unit("0 to 1")),
    ]
    streams: Annotated[
        dict[str, dict[str, float] | None],
        Meta(
            description="scores of each label by `spatial` and `temporal` alone; null: masked",
            extra_json_schema=_unit("0 to 1"),
        ),
    ]
    alpha: Annotated[
        float | None,
        Meta(description="weight of appearance against motion", extra_json_schema=_unit("0 to 1")),
    ]
    window: Window
    latency_ms: LatencyMs


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client asks of the ROUTER socket."""

    request: Annotated[Literal["snapshot", "replay"], Meta(description="what is wanted")]
    schema: Schema = SCHEMA_VERSION
    since: Annotated[int, Meta(description="replay: events with a larger `seq`")] = 0
    limit: Annotated[int, Meta(description="replay: at most this many, 1 to 1000")] = MAX_REPLAY


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `snapshot`: how things stand."""

    schema: Schema = SCHEMA_VERSION
    log: LogIdentity
    seq: Seq
    cameras: Annotated[dict[str, CameraStatus], Meta(description="the state of each camera")]
    active: Annotated[list[Event], Meta(description="the newest event of each action that goes on")]
    event_log: Annotated[LogStatus, Meta(description="the health of the event log")]
    governor: Annotated[
        GovernorStatus | None, Meta(description="the newest pace; null while all is done")
    ]


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `replay`: events after `since`, oldest first."""

    schema: Schema = SCHEMA_VERSION
    log: LogIdentity
    seq: Seq
    events: Annotated[list[Event], Meta(description="at most `limit`; ask again from the last")]


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request that can't be served."""

    schema: Schema = SCHEMA_VERSION
    log: LogIdentity
    seq: Seq | UnsetType = UNSET
    error: Annotated[str, Meta(description="what is wrong with the request, or with the log")]


ACTION = PublicTopic("action", Event, ("camera", "label"))
STATUS = PublicTopic("status", CameraStatus, ("camera",))
# No camera's name begins with an underscore.
LOG_STATUS = PublicTopic("status/_log", LogStatus)
GOVERNOR_STATUS = PublicTopic("status/_governor", GovernorStatus)
SCORE = PublicTopic("score", Scores, ("camera",))

TOPICS = (ACTION, STATUS, LOG_STATUS, GOVERNOR_STATUS, SCORE)
"""Every topic of the PUB socket."""
ANSWERS = (Snapshot, Replay, Error)
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


def request_from_json(data: bytes) -> Request:
    """A client's request; raises :class:`BadMessage`."""
    try:
        return _requests.decode(data)
    except _UNREADABLE as error:
        raise BadMessage(str(error)) from None
