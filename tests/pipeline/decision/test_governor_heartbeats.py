"""Heartbeats become a pace, and a reason for it in words."""

from pipeline.clock import NS_PER_S
from pipeline.decision.governor import LADDER, Governor
from pipeline.run.metrics import StageMetrics
from pipeline.transport.messages import Pacing


class Run:
    """Heartbeats twice a second."""

    def __init__(self) -> None:
        self.metrics, self.governor = StageMetrics(), Governor(100.0, ["flow:0", "fusion"])
        self.now_ns, self.steps, self.skipped = 0, 0, 0

    def hear(self, seconds: float, late_ms: int, steps: int = 5, skips: int = 0) -> list[Pacing]:
        found = []
        for _ in range(round(2 * seconds)):
            self.now_ns += NS_PER_S // 2
            self.steps, self.skipped = self.steps + steps, self.skipped + skips
            self.metrics.update("fusion", {"steps_timed": self.steps, "late_ms": late_ms})
            self.metrics.update("flow:0", {"steps_skipped": self.skipped})
            pacing = self.governor.heartbeat(self.now_ns, self.metrics.of)
            if pacing is not None:
                found.append(pacing)
        return found


def test_lateness_becomes_a_slower_pace_with_its_reason() -> None:
    (pacing,) = Run().hear(4, late_ms=312)
    assert (pacing.level, pacing.pace) == (1, LADDER[1])
    assert pacing.reason == "steps took 312 ms, target 100 ms"


def test_skipped_steps_are_named() -> None:
    (pacing,) = Run().hear(4, late_ms=10, skips=1)
    assert pacing.reason == "steps were skipped, target 100 ms"


def test_what_fusion_said_before_it_fell_silent_is_not_held_against_anybody() -> None:
    run = Run()
    run.hear(1, late_ms=900)
    assert run.hear(30, late_ms=900, steps=0) == []


def test_more_is_done_again_and_said() -> None:
    run = Run()
    run.hear(4, late_ms=312)
    (pacing,) = run.hear(30, late_ms=20)
    assert (pacing.level, pacing.reason) == (0, "steps take 20 ms again, target 100 ms")
