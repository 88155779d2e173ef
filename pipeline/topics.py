"""Topics: where each message travels, with what delivery rule, and who reads it. One table.

A topic on the wire is ``<name>/<camera>/``: ZeroMQ subscriptions are prefix matches, so the slash
at the end keeps ``door`` from hearing ``door2``. Where messages of several cameras travel together
a ``*`` stands in the camera's place.
"""

from dataclasses import dataclass
from enum import StrEnum

from pipeline import messages
from pipeline.messages import Message


class Rule(StrEnum):
    """What happens to a message whose reader is slow."""

    STEPS = "steps"
    """Live: the reader keeps the newest steps and skips the rest, counted. Lossless: all kept,
    the ring's cursors hold the writer back."""
    ALL = "all"
    """Kept in order until read; few and small."""
    ACKNOWLEDGED = "acknowledged"
    """Kept by the sender until the reader says that it is on disk."""
    PUBLIC = "public"
    """A slow subscriber loses messages, and sees it from ``seq``."""


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    types: tuple[type[Message], ...]
    rule: Rule
    writer: str
    readers: tuple[str, ...]
    per_camera_socket: bool = False
    together: bool = False
    """Whether messages of several cameras travel as one. Its readers read all cameras."""

    def of(self, camera: str) -> bytes:
        """The topic of one camera on the wire."""
        return f"{self.name}/{'*' if self.together else camera}/".encode()


_STREAM_END = messages.EndOfStream

FRAME = Topic(
    "frame",
    (messages.FrameRef, _STREAM_END),
    Rule.STEPS,
    "capture",
    ("spatial", "flow"),
    per_camera_socket=True,
)
FLOW = Topic(
    "flow", (messages.FlowRef, _STREAM_END), Rule.STEPS, "flow", ("temporal",), together=True
)


def _features_of(stream: str) -> Topic:
    types = (messages.Feature, _STREAM_END)
    return Topic(f"feature/{stream}", types, Rule.STEPS, stream, ("fusion",), together=True)


SPATIAL, TEMPORAL = _features_of("spatial"), _features_of("temporal")
TRANSITION = Topic(
    "transition",
    (messages.Outgoing, messages.Accepted),
    Rule.ACKNOWLEDGED,
    "fusion",
    ("publish",),
)
SCORE = Topic("score", (messages.StepScores,), Rule.ALL, "fusion", ("publish",))
STATUS = Topic(
    "status",
    (messages.CameraStatus, messages.Quarantined, messages.Pacing),
    Rule.ALL,
    "every stage",
    ("publish",),
)
CONTROL = Topic(
    "control",
    (
        messages.Hello,
        messages.Ready,
        messages.Heartbeat,
        messages.Failed,
        messages.CameraStatus,
        messages.Quarantined,
        messages.RingRequest,
        messages.RingGrant,
        messages.Pacing,
        messages.Stop,
    ),
    Rule.ALL,
    "every stage",
    ("supervisor",),
)
ACTION = Topic("action", (), Rule.PUBLIC, "publish", ("subscribers",))

TABLE = (FRAME, FLOW, SPATIAL, TEMPORAL, TRANSITION, SCORE, STATUS, CONTROL, ACTION)
"""Every topic there is."""

PUBLIC_EVENT, PUBLIC_STATUS, PUBLIC_SCORE = "action", "status", "score"
LOG = "_log"
"""In the place of a camera, in the status of the event log; no camera's name begins so."""
GOVERNOR = "_governor"
"""The same, in the status of the governor."""


def ring_readers(content: str) -> tuple[str, ...]:
    """Stages that read a ring, in the order of their cursors in it."""
    return FRAME.readers if content == "frame" else FLOW.readers
