"""Topics: where each message travels, with what delivery rule, who writes it and who reads it.

One table. The sockets follow from it (:mod:`pipeline.transport.bus`): their kind, the length of
their queues, what is dropped, which types they carry, and who may open them. The public topics are
a table of their own, beside their records (:mod:`pipeline.public.records`).

A topic on the wire is ``<name>/<camera>/``. ZeroMQ subscriptions are prefix matches: the slash at
the end keeps ``door`` from receiving ``door2``. Where messages of several cameras travel together,
``*`` stands for the camera.
"""

from dataclasses import dataclass
from enum import Enum

from pipeline.clock import NS_PER_S
from pipeline.transport import messages
from pipeline.transport.messages import Message

STAGES = (
    "capture",
    "people",
    "flow",
    "spatial",
    "temporal",
    "fusion",
    "memory",
    "evidence",
    "publish",
)
"""Kinds of stages in the order in which data passes them, and in which they stop."""
SUPERVISOR = "supervisor"


class Wire(Enum):
    """Which sockets carry a topic."""

    PUBLISH = "publish"
    """Each writer binds PUB, readers connect SUB. Lossless: XPUB, which knows its subscribers."""
    COLLECT = "collect"
    """The one reader binds PULL, writers connect PUSH."""
    DIALOGUE = "dialogue"
    """The one reader binds ROUTER, writers connect DEALER; answers go back."""


class Drop(Enum):
    """What is lost when a reader is slow."""

    OLDEST_STEPS = "oldest steps"
    """Live, the reader keeps the newest :data:`MAX_BACKLOG` steps of a camera and counts the rest.
    Lossless, nothing: the ring's cursors hold the writer back."""
    NEWEST = "newest"
    """A message that finds the queue full is dropped. They are few and small, or their reader takes
    them in at once. ``messages_dropped`` counts what PUSH and DEALER drop; PUB does not report."""
    NOTHING = "nothing"
    """The writer keeps a message until the reader has acknowledged it, and sends it again."""


@dataclass(frozen=True, slots=True)
class Silence:
    """How long a writer may be silent before its readers go on without it."""

    steps: float = 0.0
    """In step periods."""
    seconds: float = 0.0
    setting: str = ""
    """The config key that says how long, where it can be configured."""

    def ns(self, step_period_ns: float) -> float:
        return self.steps * step_period_ns + self.seconds * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One row of the table."""

    name: str
    wire: Wire
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    types: tuple[type[Message], ...]
    """What writers send."""
    answers: tuple[type[Message], ...] = ()
    """What the reader of a dialogue sends back."""
    drop: Drop = Drop.NEWEST
    queue: int = 256
    """Messages that a live socket holds. A lossless one holds all: the rings bound them."""
    silence: Silence = Silence()
    max_bytes: int = messages.MAX_BYTES
    together: bool = False
    """Whether messages of several cameras travel as one. Each reader then reads all cameras."""

    def of(self, camera: str) -> bytes:
        """The topic of one camera on the wire."""
        return f"{self.name}/{'*' if self.together else camera}/".encode()


MAX_BACKLOG = 2
"""Live: steps of one camera that may wait before a stage. A slower stage skips to the newest."""

_END = messages.EndOfStream

FRAME = Topic(
    name="frame",
    wire=Wire.PUBLISH,
    writers=("capture",),
    # People are last: a ring of a camera without them has a cursor less.
    readers=("spatial", "flow", "people"),
    types=(messages.FrameRef, _END),
    drop=Drop.OLDEST_STEPS,
    silence=Silence(steps=3),
)
PEOPLE = Topic(
    name="people",
    wire=Wire.PUBLISH,
    writers=("people",),
    readers=("flow", "fusion"),
    types=(messages.FrameRef, _END),
    drop=Drop.OLDEST_STEPS,
    silence=Silence(steps=3),
)
FLOW = Topic(
    name="flow",
    wire=Wire.PUBLISH,
    writers=("flow",),
    readers=("temporal", "spatial"),
    types=(messages.FlowRef, _END),
    drop=Drop.OLDEST_STEPS,
    silence=Silence(steps=3),
    together=True,
)


def _features(stream: str) -> Topic:
    return Topic(
        name=f"feature/{stream}",
        wire=Wire.PUBLISH,
        writers=(stream,),
        readers=("fusion",),
        types=(messages.Feature, _END),
        silence=Silence(seconds=2.0),
        together=True,
    )


SPATIAL, TEMPORAL = _features("spatial"), _features("temporal")
TRANSITION = Topic(
    name="transition",
    wire=Wire.DIALOGUE,
    writers=("fusion",),
    readers=("publish",),
    types=(messages.Outgoing,),
    answers=(messages.Accepted,),
    drop=Drop.NOTHING,
)
SCORE = Topic(
    name="score",
    wire=Wire.COLLECT,
    writers=("fusion",),
    readers=("publish",),
    types=(messages.StepScores,),
)
MEMORY = Topic(
    name="memory",
    wire=Wire.COLLECT,
    writers=("fusion",),
    readers=("memory",),
    types=(messages.Remembered,),
)
EVIDENCE = Topic(
    name="evidence",
    wire=Wire.DIALOGUE,
    writers=("evidence",),
    readers=("publish",),
    types=(messages.EvidenceMade,),
    answers=(messages.EvidenceStored,),
    drop=Drop.NOTHING,
)
RECORD = Topic(
    name="record",
    wire=Wire.PUBLISH,
    writers=("evidence",),
    readers=("capture",),
    types=(messages.Record,),
)
PIECES = Topic(
    name="pieces",
    wire=Wire.COLLECT,
    writers=("capture",),
    readers=("evidence",),
    types=(messages.Pieces,),
    # A key frame of a camera of highest resolution, or a picture as it is.
    max_bytes=1 << 26,
)
STATUS = Topic(
    name="status",
    wire=Wire.COLLECT,
    writers=("capture", "people", "flow", "spatial", "temporal", "fusion", SUPERVISOR),
    readers=("publish",),
    types=(
        messages.CameraStatus,
        messages.Quarantined,
        messages.Pacing,
        messages.PeopleCount,
        messages.HeldBack,
    ),
)
CONTROL = Topic(
    name="control",
    wire=Wire.DIALOGUE,
    writers=STAGES,
    readers=(SUPERVISOR,),
    types=(
        messages.Hello,
        messages.Ready,
        messages.Heartbeat,
        messages.Failed,
        messages.CameraStatus,
        messages.Quarantined,
        messages.RingRequest,
    ),
    answers=(messages.RingGrant, messages.Pacing, messages.Stop),
    silence=Silence(setting="supervisor.hang_s"),
)

TABLE = (
    FRAME,
    PEOPLE,
    FLOW,
    SPATIAL,
    TEMPORAL,
    TRANSITION,
    SCORE,
    MEMORY,
    EVIDENCE,
    RECORD,
    PIECES,
    STATUS,
    CONTROL,
)
"""Every internal topic."""


def ring_readers(content: str, *, people: bool = False) -> tuple[str, ...]:
    """Stages that read a ring, in the order of their cursors in it.

    ``people``: whether people are looked for at the camera.
    """
    if content == "flow":
        return ("temporal",)
    return FRAME.readers if people else tuple(r for r in FRAME.readers if r != "people")
