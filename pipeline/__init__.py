"""A live two-stream action recogniser.

For programs that listen to it::

    from pipeline import EventClient

    with EventClient() as client:
        for event in client:
            print(event.camera, event.label, event.type, event.score)

The program itself is ``run_stream.py``; ``docs/map.md`` says what is where.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.client import EventClient, EvidenceClient
    from pipeline.public.records import Event, Evidence

__all__ = ["Event", "EventClient", "Evidence", "EvidenceClient"]


def __getattr__(name: str) -> Any:
    # Imported on first use: what needs only one room must not load ZeroMQ.
    if name in ("EventClient", "EvidenceClient"):
        from pipeline import client

        return getattr(client, name)
    if name in ("Event", "Evidence"):
        from pipeline.public import records

        return getattr(records, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
