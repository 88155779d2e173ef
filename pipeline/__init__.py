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
    from pipeline.client import EventClient
    from pipeline.public.records import Event

__all__ = ["Event", "EventClient"]


def __getattr__(name: str) -> Any:
    # Imported on first use: what needs only one room must not load ZeroMQ.
    if name == "EventClient":
        from pipeline.client import EventClient

        return EventClient
    if name == "Event":
        from pipeline.public.records import Event

        return Event
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
