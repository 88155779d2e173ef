"""A bridge beside what publishes, and event logs that are filled without a camera."""

from pathlib import Path
from typing import Any

import msgspec

from pipeline.public.event_log import EventLog
from pipeline.public.records import Event
from pipeline.transport.messages import EvidenceMade
from testbed.bridge import BridgeRun
from testbed.samples import event as an_event

LONG_S = 60.0


def fill(path: Path, count: int, *, kind: str = "end", **fields: Any) -> str:
    """Append events to the log at ``path``; returns the log's identity."""
    log = EventLog(path)
    try:
        for number in range(1, count + 1):

            def make(seq: int, _known: str | None) -> Event:
                one = an_event(seq, kind, f"door-{seq}")
                return msgspec.structs.replace(one, log=log.identity, **fields)

            log.append("epoch", log.accepted("epoch") + 1, f"key{log.last_seq()}.{number}", make)
        return log.identity
    finally:
        log.close()


def add_evidence(log_path: Path, seq: int, **fields: Any) -> None:
    """Append a snapshot of event ``seq`` to the log at ``log_path``."""
    values: dict[str, Any] = {
        "id": f"door-{seq}", "seq": seq, "camera": "door", "label": "left", "kind": "snapshot",
        "state": "ready", "path": "/nowhere/1.jpg", "media_type": "image/jpeg",
    }  # fmt: skip
    log = EventLog(log_path)
    try:
        assert log.append_evidence(EvidenceMade(**values | fields)) is not None
    finally:
        log.close()


def bridge_in(folder: Path, settings: dict[str, Any], arguments: tuple[str, ...] = ()) -> BridgeRun:
    """A bridge connected to what publishes in ``folder``, where its own files are, too."""
    endpoints = (f"ipc://{folder}/events", f"ipc://{folder}/replay")
    return BridgeRun(folder, endpoints, settings, name="one", arguments=arguments)
