"""How long steps take, by the times that they bring along from stage to stage."""

from collections import Counter
from collections.abc import Iterable

from pipeline.steps.join import DecidedStep
from pipeline.transport.counters import Timing
from pipeline.transport.messages import Stamp

TIMED = ("capture", "people", "flow", "spatial", "temporal", "fusion")
"""The stages that steps pass through."""


class StepTimings:
    """Counts each step's time in each stage, and its camera's latency up to the scores."""

    def __init__(self, counters: "Counter[str]", cameras: Iterable[str]) -> None:
        self._stages = {stage: Timing(counters, "step_time", stage) for stage in TIMED}
        self._cameras = {camera: Timing(counters, "score_latency", camera) for camera in cameras}

    def add(self, step: DecidedStep, took_ns: int, at_ns: int) -> None:
        """Count a step that fusion took at ``took_ns`` and scored at ``at_ns``.

        A stream that was masked took no time, and says nothing of its stage.
        """
        stamps: dict[str, Stamp] = {}
        for feature in (step.spatial, step.temporal):
            if feature is not None and not feature.masked:
                for stamp in feature.trail:  # both begin with capture
                    stamps[stamp.stage] = stamp
        for stamp in stamps.values():
            self._stages[stamp.stage].add(stamp.let_go_ns - stamp.took_ns)
        self._stages["fusion"].add(at_ns - took_ns)
        self._cameras[step.moment.camera].add(at_ns - step.moment.captured_ns)
