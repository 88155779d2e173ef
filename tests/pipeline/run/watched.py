"""What a supervisor knows of its run, without processes: for tests of metrics and health."""

from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pipeline.config import validate
from pipeline.model.pack import ModelPack
from pipeline.public.camera_states import CameraStates
from pipeline.run.metrics import StageMetrics
from pipeline.run.monitor.exposition import Exposition, MetricsPage
from pipeline.run.monitor.health import Health
from pipeline.run.outputs.base import RunView
from pipeline.topology import stages, watched
from pipeline.transport.messages import CameraState, CameraStatus
from testbed.clock import HandClock


class Stage:
    def __init__(self, ready: bool = False) -> None:
        self.ready = ready
        self.total_restarts = 0


class Watched:
    """A run of ``cameras`` cameras, ``c0`` and so on, and what is told of it."""

    def __init__(self, cameras: int = 2, **settings: Any) -> None:
        self.clock = HandClock()
        names = [f"c{n}" for n in range(cameras)]
        self.config = validate({"cameras": {name: {} for name in names}, **settings})
        self.metrics = StageMetrics()
        self.stages = {spec.name: Stage() for spec in stages(self.config)}
        self.view = RunView(
            config=self.config,
            log_path=Path("events.sqlite"),
            stages=self.stages,
            cameras=CameraStates(),
            metrics=self.metrics,
            started_ns=0,
        )
        self.health = Health(self.view, self.clock)
        self.pack = ModelPack.load(self.config.model)
        self.page = MetricsPage(
            Exposition(self.view, watched(self.config), self.health), self.clock
        )

    def report(self, camera: str, state: CameraState) -> None:
        now = self.clock.monotonic_ns()
        self.view.cameras.note(CameraStatus(camera=camera, state=state, reason=None, at_ns=now))

    def turn(self, seconds: float = 1.0) -> None:
        """Some time passes, and the supervisor's loop turns."""
        self.clock.sleep(seconds)
        self.health.look()

    def text(self, accept: str = "") -> str:
        """The metrics page, made anew."""
        self.clock.sleep(1)
        return self.page.page(accept)[1].decode()

    def families(self) -> dict[str, Metric]:
        return {family.name: family for family in text_string_to_metric_families(self.text())}

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """Label values, in the order of the labels' names → value, of a metric's samples."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in self.families().values()
            for sample in family.samples
            if sample.name == f"two_stream_{name}"
        }
