"""An event as one line for people."""

from msgspec import UNSET
from rich.text import Text

from pipeline.public.records import Event

STYLES = {"start": "bold green", "update": "dim", "end": "yellow"}


def event_line(event: Event) -> Text:
    """Number, time, camera, what happened, who and where, scores, latency, reason."""
    text = Text(f"{event.seq:>6}  {event.start_time[11:23]}  {event.camera:<12}  ")
    text.append(f"{event.type:<6} {event.label:<12}", style=STYLES[event.type])
    text.append(f"{event.top_score:6.2f}")
    if event.subject is not UNSET:
        text.append(f"  {event.subject}", style="bold")
    if event.zone is not UNSET:
        text.append(f"  in {event.zone}", style="magenta")
    streams = event.streams
    values = (("spatial", streams.spatial), ("temporal", streams.temporal), ("α", streams.alpha))
    for name, value in values:
        if value is not None:
            text.append(f"  {name} {value:.2f}", style="cyan")
    text.append(f"  {event.latency_ms.get('total', 0.0):.0f} ms", style="dim")
    if event.reason:
        text.append(f"  ({event.reason})", style="red")
    return text
