"""One sample of each message and record, for tests."""

from typing import Literal

import msgspec

from pipeline.public.records import Event
from pipeline.transport.messages import (
    Accepted,
    AnyMessage,
    CameraStatus,
    Change,
    EndOfStream,
    EvidenceMade,
    EvidenceStored,
    Failed,
    Feature,
    FieldRef,
    FlowRef,
    FrameRef,
    Heartbeat,
    HeldBack,
    Hello,
    Moment,
    Outgoing,
    Pace,
    Pacing,
    PackId,
    PeopleCount,
    Person,
    Piece,
    PieceForm,
    Pieces,
    Quarantined,
    Ready,
    Record,
    Remembered,
    RingGrant,
    RingRequest,
    Stamp,
    StepScores,
    Stop,
    StreamScores,
    Transition,
    WindowInfo,
)

PACK = PackId(name="tiny", version="1.0.0", sha256="ab")
"""The pack that the samples are of."""
WINDOW = WindowInfo(first_step=1, last_step=6, missing=1, segment=0)
STREAMS = StreamScores(spatial=0.5, temporal=None, alpha=0.25)
TRAIL = (Stamp("capture", 1, 2), Stamp("flow", 3, 4))


def moment(step: int = 7, segment: int = 0, camera: str = "door") -> Moment:
    return Moment(
        camera=camera,
        segment=segment,
        step_id=step,
        frame_id=step,
        captured_ns=step * 100_000_000,
        pts_ns=None,
        elapsed_steps=1.0,
        skipped=0,
    )


def transition(
    kind: Literal["start", "update", "end"] = "start",
    number: int = 1,
    camera: str = "door",
    label: str = "left",
) -> Transition:
    change = Change(
        type=kind,
        label=label,
        number=number,
        score=0.9,
        top_score=0.95,
        start_ns=10,
        start_pts_ns=None,
        end_ns=20 if kind == "end" else None,
        end_pts_ns=None,
        reason=None,
    )
    return Transition(
        camera=camera,
        pack=PACK,
        change=change,
        window=WINDOW,
        streams=STREAMS,
        captured_ns=30,
        trail=TRAIL,
    )


def event(seq: int, kind: str = "start", identity: str = "door-1") -> Event:
    values = {
        "seq": seq,
        "id": identity,
        "type": kind,
        "camera": "door",
        "label": "left",
        "score": 0.9,
        "top_score": 0.95,
        "start_time": "2026-11-22T10:00:00.120Z",
        "end_time": None,
        "media_time": (None, None),
        "reason": None,
        "window": msgspec.to_builtins(WINDOW),
        "streams": msgspec.to_builtins(STREAMS),
        "latency_ms": {"total": 18.3},
        "model": msgspec.to_builtins(PACK),
    }
    return msgspec.convert(values, Event)


ONE_OF_EACH: list[AnyMessage] = [
    FrameRef(moment=moment(), ring="two-stream-1", number=3, trail=TRAIL),
    FlowRef(
        moment=moment(),
        fields=(FieldRef(kind="3f", ring=None, number=-1, span=2),),
        ring="two-stream-1",
        number=3,
        regions={"person": {"p1": (0.1, 0.2, 0.3, 0.9)}},
        trail=(),
    ),
    Feature(moment=moment(), stream="spatial", vectors={"9c": b"\x00\x00\x80?"}, trail=TRAIL),
    Remembered(
        moment=moment(),
        spatial=None,
        temporal=Feature(
            moment=moment(), stream="temporal", vectors={"9c-3f": None}, moved=0.25, trail=()
        ),
        people=(Person("p1", (0.1, 0.2, 0.3, 0.9), 0.8),),
        active=True,
    ),
    EndOfStream(camera="door"),
    transition("end"),
    StepScores(
        camera="door",
        pack=PACK.name,
        scores={"left": 0.5},
        window=WINDOW,
        streams={"spatial": {"left": 0.5}, "temporal": None},
        alpha=None,
        captured_ns=5,
        pts_ns=6,
        trail=TRAIL,
    ),
    CameraStatus(camera="door", state="online", reason=None, at_ns=3, segment=1, size=(48, 64)),
    Quarantined(camera="door", stage="flow:0", reason="ValueError: no", at_ns=3),
    PeopleCount(camera="door", people=2),
    HeldBack(camera="door", label="left", reason="hours", at_ns=3),
    Outgoing(epoch="e", number=1, transition=transition()),
    Accepted(epoch="e", number=1),
    EvidenceMade(
        id="door-01",
        seq=4,
        camera="door",
        label="left",
        kind="clip",
        state="ready",
        path="/evidence/door/door-01.mp4",
        media_type="video/mp4",
        sha256="ab" * 32,
        bytes=1234,
        first_time="2026-11-22T10:00:00.120Z",
        last_time="2026-11-22T10:00:09.120Z",
        codec="h264",
        size=(480, 640),
    ),
    EvidenceStored(key="door-01/4/clip/1/ready"),
    Record(camera="door", since_ns=5, until_ns=9, after=-1),
    Pieces(
        camera="door",
        form=PieceForm(1, "h264", (480, 640), (1, 90_000), b"x"),
        pieces=(Piece(7, 5, 90, 90, 3000, True, b"data"),),
    ),
    Hello(stage="flow:0", pid=12),
    Ready(),
    Heartbeat(counters={"fps": 9.5}),
    Failed(reason="no pack", exit_code=2),
    RingRequest(camera="door", content="flow", shape=(12, 16, 2)),
    RingGrant(camera="door", content="frame", ring=None, reason="too large"),
    Pacing(level=1, pace=Pace(spatial_every=2), reason="late", at_ns=17),
    Stop(),
]
