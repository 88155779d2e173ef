"""How fast a client gets the events that it missed, from a run that goes on meanwhile."""

import json
import sys
import time
from statistics import median
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import track

from pipeline.client import EventClient
from pipeline.public.event_log import EventLog
from pipeline.public.records import Event, event_from_json
from testbed.footage import panning_clip
from testbed.program import PipelineRun, scratch_folder

CLIENTS = 5


def filled(log: EventLog, template: Event, count: int) -> None:
    """``count`` events like ``template``, each the start of one that a new epoch ends."""

    def make(seq: int, _: str | None) -> Event:
        return msgspec.structs.replace(template, seq=seq, id=f"{template.camera}-{seq:x}")

    for number in range(1, count + 1):
        log.append("filled", number, str(number), make)


def measure(events: int) -> dict[str, Any]:
    """Fill a log with copies of a real event, then replay it to one client after another."""
    from testbed import tiny_pack

    with scratch_folder() as folder:
        path = folder / "events.sqlite"
        settings = {
            "model": str(tiny_pack.make(folder / "tiny")),
            "cameras": {"a": {"source": str(panning_clip(folder / "clip.mp4", 60)), "loop": True}},
            "events": {"log": str(path)},
        }
        with PipelineRun(folder, settings) as run:
            run.wait_for(lambda: run.events(), 60, "an event")
            template = event_from_json(json.dumps(run.events()[0].body).encode())
        log = EventLog(path)
        filled(log, template, events)
        log.close()
        rates = []
        with PipelineRun(folder, settings) as run:
            run.wait_for(lambda: run.scores("a"), 60, "a step")
            for _ in track(range(CLIENTS), "clients", console=Console(stderr=True)):
                began = time.monotonic()
                with EventClient(
                    run.endpoints["events"], run.endpoints["replay"], since=0
                ) as client:
                    for seq in range(1, events + 1):
                        event = client.receive(30)
                        assert event is not None, f"no event {seq}"
                        assert event.seq == seq
                rates.append(events / (time.monotonic() - began))
            latencies = [h.body["latency_ms"]["total"] for h in run.scores("a")[-100:]]
        return {
            "events": events,
            "per_second": [round(rate) for rate in rates],
            "median_per_second": round(median(rates)),
            "step_latency_ms_meanwhile_p50": round(median(latencies), 1),
        }


def replay(events: int, json_output: bool) -> None:
    """Measure and print."""
    result = measure(events)
    if json_output:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    Console().print(result)
