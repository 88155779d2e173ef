"""Metrics and health over HTTP, for Prometheus, containers and people on call."""

import json
from collections.abc import Callable, Sequence
from http import HTTPStatus

from pipeline import topology
from pipeline.clock import SYSTEM_CLOCK, Clock
from pipeline.run.monitor.exposition import Exposition, MetricsPage
from pipeline.run.monitor.health import Health
from pipeline.run.monitor.server import MonitorServer, Page
from pipeline.run.outputs.base import RunView
from pipeline.transport.bus import Bus

_INDEX = """two-stream
/metrics  for Prometheus
/healthz  200 while the program works
/readyz   200 while events can come of at least one camera, else 503 and why
"""


class Monitor:
    """Serves the pages at ``supervisor.metrics``.

    Other threads answer; the supervisor's loop only leaves its picture for them.
    """

    def __init__(self, _bus: Bus | None, view: RunView, clock: Clock = SYSTEM_CLOCK) -> None:
        address = view.config.supervisor.metrics
        assert address is not None
        self._health = Health(view, clock)
        watched = topology.watched(view.config)
        metrics = MetricsPage(Exposition(view, watched, self._health), clock)

        def metrics_page(accept: str) -> Page:
            content_type, body = metrics.page(accept)
            return Page(body, content_type)

        self._server = MonitorServer(
            address,
            {
                "/": lambda _: Page(_INDEX.encode()),
                "/metrics": metrics_page,
                "/healthz": _verdict("alive", self._health.alive),
                "/readyz": _verdict("ready", self._health.ready),
            },
            clock,
        )

    def tick(self) -> None:
        self._health.look()

    def close(self) -> None:
        self._server.close()


def _verdict(name: str, reasons: Callable[[], Sequence[str]]) -> Callable[[str], Page]:
    """A page of status 200 while there are no ``reasons`` against it, else 503."""

    def page(_accept: str) -> Page:
        why = reasons()
        body = json.dumps({name: not why, "reasons": why}).encode() + b"\n"
        status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
        return Page(body, "application/json", status)

    return page
