"""What is installed: the command ``two-stream``, and what other programs import.

For programs that listen to events::

    from two_stream import EventClient

    with EventClient() as client:
        for event in client:
            print(event.camera, event.label, event.type, event.score)

In the wheel, ``pipeline``, ``bridges``, ``training`` and ``export`` lie below this package:
setup.py.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.client import EventClient, EvidenceClient
    from pipeline.public.records import Event, Evidence

__version__ = "0.1.0"
__all__ = ["Event", "EventClient", "Evidence", "EvidenceClient"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `two-stream --help` must not wait for ZeroMQ.
    if name in __all__:
        import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
