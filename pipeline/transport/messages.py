"""Messages: the small typed records that travel between stages, as msgpack.

Every message carries its schema version. Decoding raises :class:`BadMessage` for another version,
an unknown type or a malformed body. Pixels never travel: a :class:`FrameRef` names the ring and
the slot where they are. The public records are in :mod:`pipeline.public.records`.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

SCHEMA_VERSION = 1
MAX_BYTES = 1 << 20


class BadMessage(Exception):
    """Bytes that are no message of this program; the text names what is wrong with them."""


class Message(
    msgspec.Struct, frozen=True, tag=True, tag_field="is", kw_only=True, forbid_unknown_fields=True
):
    schema: int = SCHEMA_VERSION


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """When a stage received a message and when it sent its own, monotonic nanoseconds."""

    stage: str
    took_ns: int
    let_go_ns: int


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """The step of a camera that a message is about; identical in all messages of the step."""

    camera: str
    segment: int
    step_id: int
    frame_id: int
    captured_ns: int
    pts_ns: int | None
    elapsed_steps: float
    """Time since the previous step's frame in nominal steps."""
    skipped: int
    """Steps just before this one that had no frame."""
    taken_ns: int | None = None
    """When the camera took the picture, by its own stamp, in the time of ``captured_ns``; None
    where only ``captured_ns`` is known."""

    @property
    def scene_ns(self) -> int:
        """When what the picture shows happened."""
        return self.captured_ns if self.taken_ns is None else self.taken_ns

    def time_ns(self, media: bool) -> int:
        """The time that durations are measured in; ``media``: that of the file, so they repeat."""
        return self.pts_ns if media and self.pts_ns is not None else self.scene_ns


Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in 0..1 of the upright picture, x right, y down."""


class Person(msgspec.Struct, frozen=True, array_like=True):
    """A tracked person (:class:`pipeline.people.tracks.Track`)."""

    name: str
    box: Box
    score: float


class FrameRef(Message, frozen=True, kw_only=True):
    """A step's frame is image ``number`` of ``ring``."""

    moment: Moment
    ring: str
    number: int
    people: tuple[Person, ...] | None = None
    """Who is in the picture; None where nobody has looked."""
    trail: tuple[Stamp, ...]


class FieldRef(msgspec.Struct, frozen=True, kw_only=True):
    """Quantised flow fields are image ``number`` of ``ring``; None: the step has none."""

    kind: str
    """Of flow (:attr:`pipeline.model.watch.FlowKind.key`)."""
    ring: str | None
    number: int
    span: int
    """Steps that the field spans, in steps of its kind: 1, or more when frames were missing."""
    subjects: tuple[str, ...] = ("frame",)
    """Whose fields lie in the image, one below the other ..."""
    places: int = 1
    """... and for how many there is place."""


Regions = dict[str, dict[str, Box]]
"""By view and subject; a view about which nothing is known is missing."""


class FlowRef(Message, frozen=True, kw_only=True):
    """The flow of a step, fields for each kind that takes it, and the step's frame."""

    moment: Moment
    fields: tuple[FieldRef, ...]
    ring: str
    number: int
    regions: Regions = {}
    trail: tuple[Stamp, ...]


class Feature(Message, frozen=True, kw_only=True):
    """One stream's features of a step, by network: d float32 in native order, None when masked.

    A network that doesn't take the step isn't there. The keys are those of
    :func:`pipeline.model.watch.feature_key`.
    """

    moment: Moment
    stream: Literal["spatial", "temporal"]
    vectors: dict[str, bytes | None]
    regions: Regions = {}
    moved: float | None = None
    """Temporal, for a camera with a memory: the share of the picture that moves; None: no flow."""
    trail: tuple[Stamp, ...]

    @property
    def masked(self) -> bool:
        """Whether no network has a feature."""
        return not any(vector is not None for vector in self.vectors.values())


class EndOfStream(Message, frozen=True, kw_only=True):
    """Nothing more comes from this camera's present capture process."""

    camera: str


class StreamScores(msgspec.Struct, frozen=True, kw_only=True):
    spatial: float | None
    temporal: float | None
    alpha: float | None


class WindowInfo(msgspec.Struct, frozen=True, kw_only=True):
    first_step: int
    last_step: int
    missing: int
    segment: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What the event rules say of a label at a step. Times are capture times of steps."""

    type: Literal["start", "update", "end"]
    label: str
    number: int
    """Counts the events of a pack at a camera; the same in all changes of one event."""
    score: float
    top_score: float
    start_ns: int
    start_pts_ns: int | None
    end_ns: int | None
    end_pts_ns: int | None
    reason: str | None
    box: Box | None = None
    """Where the subject is; None where it is the whole picture."""
    top_box: Box | None = None
    """Where it was when the label's score was highest."""
    zone: str | None = None
    """The zone that ``box`` is in."""
    top_ns: int | None = None
    """When the label's score was highest."""
    top_pts_ns: int | None = None


class PackId(msgspec.Struct, frozen=True, kw_only=True):
    """Which pack decided."""

    name: str
    version: str
    sha256: str


class Transition(Message, frozen=True, kw_only=True):
    """A change with all that explains it, as fusion decides it; publish makes it public."""

    camera: str
    pack: PackId
    subject: str = "frame"
    """Whose action it is: ``frame``, ``moving``, or a person's name."""
    change: Change
    window: WindowInfo
    streams: StreamScores
    captured_ns: int
    trail: tuple[Stamp, ...]

    @property
    def key(self) -> str:
        """The same for all transitions of one event of one fusion process."""
        return f"{self.camera}/{self.pack.sha256}/{self.change.number}"


class StepScores(Message, frozen=True, kw_only=True):
    """All scores of one step, for subscribers that ask for them."""

    camera: str
    pack: str
    """Its name."""
    subject: str = "frame"
    scores: dict[str, float]
    window: WindowInfo
    streams: dict[str, dict[str, float] | None]
    alpha: float | None
    captured_ns: int
    pts_ns: int | None
    trail: tuple[Stamp, ...]


CameraState = Literal[
    "connecting", "online", "stalled", "frozen", "quarantined", "unauthorised", "offline",
    "failed", "ended",
]  # fmt: skip


class CameraStatus(Message, frozen=True, kw_only=True):
    """A camera's state changed."""

    camera: str
    state: CameraState
    reason: str | None
    at_ns: int
    segment: int | None = None
    size: tuple[int, int] | None = None


class Quarantined(Message, frozen=True, kw_only=True):
    """A stage skips a camera for a while, because it failed on the camera's data.

    ``reason`` None: it processes the camera again.
    """

    camera: str
    stage: str
    reason: str | None
    at_ns: int


class HeldBack(Message, frozen=True, kw_only=True):
    """An event that a rule of the config held back."""

    camera: str
    label: str
    reason: str
    at_ns: int


class PeopleCount(Message, frozen=True, kw_only=True):
    """How many people are in a camera's picture; sent when that changes."""

    camera: str
    people: int


class Outgoing(Message, frozen=True, kw_only=True):
    """A transition on its way from fusion to publish; fusion keeps it until acknowledged.

    ``epoch`` is the identity of the fusion process; ``number`` counts from 1 within it.
    """

    epoch: str
    number: int
    transition: Transition | None
    """None in the first message of a new epoch."""


class Accepted(Message, frozen=True, kw_only=True):
    """Everything up to ``number`` of ``epoch`` is in the event log."""

    epoch: str
    number: int


class Remembered(Message, frozen=True, kw_only=True):
    """A step as fusion decided it, on its way to the memory."""

    moment: Moment
    spatial: Feature | None
    temporal: Feature | None
    people: tuple[Person, ...] | None
    active: bool
    """Whether an event goes on."""


EvidenceKind = Literal["snapshot", "clean", "motion", "clip"]
EvidenceState = Literal["ready", "lost", "removed"]


class EvidenceMade(Message, frozen=True, kw_only=True):
    """A file about an event is whole, can't be made, or was deleted. Sent until acknowledged.

    The fields are those of :class:`pipeline.public.records.Evidence`.
    """

    id: str
    seq: int
    camera: str
    label: str
    kind: EvidenceKind
    state: EvidenceState
    reason: str | None = None
    part: int = 1
    path: str | None = None
    media_type: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    first_time: str | None = None
    last_time: str | None = None
    media_time: tuple[float, float] | None = None
    codec: str | None = None
    encoded: bool = False
    size: tuple[int, int] | None = None

    @property
    def key(self) -> str:
        """What can be in the log only once."""
        return f"{self.id}/{self.seq}/{self.kind}/{self.part}/{self.state}"


class Record(Message, frozen=True, kw_only=True):
    """Evidence asks a capture for what its camera sends, from a time on.

    Capture sends what it has kept since then, and goes on until ``until_ns``. It is asked again
    while more is wanted: an asker that died is sent nothing for long.
    """

    camera: str
    since_ns: int
    until_ns: int
    after: int
    """The newest piece that the asker has; -1: it has none."""


class PieceForm(msgspec.Struct, frozen=True, array_like=True):
    """What pieces are made of; see :class:`pipeline.sources.packet_roll.StreamForm`."""

    opened_ns: int
    codec: str
    """FFmpeg's name of the codec; ``bgr24`` or ``yuv420p`` for pictures."""
    size: tuple[int, int]
    time_base: tuple[int, int]
    extradata: bytes


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A packet that a camera sent, or a picture of one that sends no packets."""

    number: int
    time_ns: int
    """When it was taken, monotonic."""
    pts: int | None
    dts: int | None
    duration: int
    key: bool
    data: bytes


class Pieces(Message, frozen=True, kw_only=True):
    """Some pieces of one stream of a camera, in order."""

    camera: str
    form: PieceForm
    pieces: tuple[Piece, ...]
    since_ns: int | None = None
    """With this, all that is kept since then has been sent."""


class EvidenceStored(Message, frozen=True, kw_only=True):
    """What has this key is in the event log."""

    key: str


class Hello(Message, frozen=True, kw_only=True):
    """The first message of a stage to its supervisor: the process runs."""

    stage: str
    pid: int


class Ready(Message, frozen=True, kw_only=True):
    """The stage has opened all that it needs and works from now on."""


class Heartbeat(Message, frozen=True, kw_only=True):
    """Sent by the work loop itself, so that a hung loop falls silent."""

    counters: dict[str, float]


class Failed(Message, frozen=True, kw_only=True):
    """The stage can't go on, and a restart would not help; ``exit_code`` is the program's."""

    reason: str
    exit_code: int


class RingRequest(Message, frozen=True, kw_only=True):
    """A writer asks the owner of all shared memory for a ring."""

    camera: str
    content: Literal["frame", "flow"]
    kind: str = ""
    """Of flow; each has a ring of its own."""
    shape: tuple[int, int, int]


class RingGrant(Message, frozen=True, kw_only=True):
    """The ring's name; None when it can't be had, and ``reason`` says why."""

    camera: str
    content: Literal["frame", "flow"]
    ring: str | None
    reason: str | None


class Pace(msgspec.Struct, frozen=True):
    """How much of each step is done."""

    spatial_every: int = 1
    """Appearance is computed in one of this many steps; in the others it is masked."""
    fast_flow: bool = False
    """Flow is computed by its method's fastest preset."""
    people_every: int = 1
    """People are looked for so many times less often."""
    subjects: int | None = None
    """At most so many people are looked at, if fewer than the config allows."""
    step_every: int = 1
    """One of this many steps is made at all."""


class Pacing(Message, frozen=True, kw_only=True):
    """The pace from now on (:mod:`pipeline.decision.governor`), and why."""

    level: int
    """0: all of each step is done."""
    pace: Pace
    reason: str
    at_ns: int


class Stop(Message, frozen=True, kw_only=True):
    """The supervisor's order to finish what has arrived and leave."""


AnyMessage = (
    FrameRef
    | FlowRef
    | Feature
    | EndOfStream
    | Transition
    | StepScores
    | CameraStatus
    | Quarantined
    | PeopleCount
    | HeldBack
    | Outgoing
    | Accepted
    | Remembered
    | EvidenceMade
    | EvidenceStored
    | Record
    | Pieces
    | Hello
    | Ready
    | Heartbeat
    | Failed
    | RingRequest
    | RingGrant
    | Pacing
    | Stop
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)
_decoder_of_many = msgspec.msgpack.Decoder(list[AnyMessage])
# RecursionError: a body nested a thousand deep, even in a field that would be skipped.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(message: Message) -> bytes:
    """``message`` as msgpack."""
    return _encoder.encode(message)


def encode_all(messages: Sequence[Message]) -> bytes:
    """Several messages as one msgpack array."""
    return _encoder.encode(messages)


def decode(data: bytes, max_bytes: int = MAX_BYTES) -> AnyMessage:
    """The message in ``data``; raises :class:`BadMessage`."""
    message: AnyMessage = _decoded(data, _decoder, max_bytes)
    _check_schema(message)
    return message


def decode_all(data: bytes) -> list[AnyMessage]:
    """The messages in ``data``; raises :class:`BadMessage` if any of them is not one."""
    messages: list[AnyMessage] = _decoded(data, _decoder_of_many, MAX_BYTES)
    for message in messages:
        _check_schema(message)
    return messages


def _decoded(data: bytes, decoder: "msgspec.msgpack.Decoder[Any]", max_bytes: int) -> Any:
    if len(data) > max_bytes:
        raise BadMessage(f"{len(data)} bytes; a message has at most {max_bytes}")
    try:
        return decoder.decode(data)
    except _UNREADABLE as error:
        raise BadMessage(str(error)) from None


def _check_schema(message: AnyMessage) -> None:
    if message.schema != SCHEMA_VERSION:
        raise BadMessage(f"schema {message.schema}; this program speaks {SCHEMA_VERSION}")
