"""How fast a client receives the events that it missed, from a program that keeps working."""

import json
import time
from statistics import median
from typing import Annotated, TypedDict

import msgspec
import typer
from rich.console import Console
from rich.progress import track

from pipeline.client import EventClient
from pipeline.public.event_log import EventLog
from pipeline.public.records import Event, event_from_json
from testbed import tiny_pack
from testbed.footage import panning_clip
from testbed.program import PipelineRun, scratch_folder

CLIENTS = 5


class ReplayResult(TypedDict):
    """Events per second of each client, and the latency of the program's own steps meanwhile."""

    events: int
    per_second: list[int]
    median_per_second: int
    step_latency_ms_meanwhile_p50: float


def fill(log: EventLog, template: Event, count: int) -> None:
    """Append ``count`` copies of ``template``, a start, each with an identity of its own.

    The events stay open until the program starts again and begins a new epoch.
    """

    def make(seq: int, _: str | None) -> Event:
        return msgspec.structs.replace(template, seq=seq, id=f"{template.camera}-{seq:x}")

    for number in range(1, count + 1):
        log.append("filled", number, str(number), make)


def measure(
    events: Annotated[int, typer.Option(min=1000, help="number of events in the log")] = 20_000,
) -> ReplayResult:
    """Fill a log with copies of a real event, then replay it to one client after another."""
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
        fill(log, template, events)
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


def show(result: ReplayResult) -> None:
    Console().print(result)
