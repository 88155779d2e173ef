"""One of each record that tests need by the dozen."""

import msgspec

from pipeline.messages import Event, ModelInfo, Moment, Stamp, StreamScores, Transition, WindowInfo

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
    kind: str = "start", key: str = "door/1", camera: str = "door", label: str = "left"
) -> Transition:
    values = {
        "key": key,
        "type": kind,
        "camera": camera,
        "label": label,
        "score": 0.9,
        "top_score": 0.95,
        "start_ns": 10,
        "end_ns": 20 if kind == "end" else None,
        "start_pts_ns": None,
        "end_pts_ns": None,
        "reason": None,
        "window": WINDOW,
        "streams": STREAMS,
        "captured_ns": 30,
        "trail": TRAIL,
    }
    return msgspec.convert(values, Transition)


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
        "window": WINDOW,
        "streams": STREAMS,
        "latency_ms": {"total": 18.3},
        "model": ModelInfo(name="tiny", version="1.0.0", sha256="ab"),
    }
    return msgspec.convert(values, Event)
