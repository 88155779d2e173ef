"""Runs a pack over a memory, camera by camera."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.backtest.judging import Judge, Said, by_row
from pipeline.backtest.scoring import StretchScorer
from pipeline.decision.rule_filter import RuleFilter
from pipeline.errors import FeatureMemoryError
from pipeline.evaluate.sweep import STARTS, with_start
from pipeline.memory.store import MemoryReader
from pipeline.model.pack import Contract, Threshold
from pipeline.model.watch import Watch
from pipeline.steps.window import Run

Tick = Callable[[int], None]
"""Called with the steps of each stretch that is done."""
MakeFilter = Callable[[], RuleFilter | None]
"""A new filter by the rules of the config, which have a state."""


@dataclass(frozen=True, slots=True)
class CameraTest:
    """What a pack says of one camera's memory.

    ``starts``: how many events there are with each start threshold. Times are nanoseconds of the
    time of day; ``steps`` are those that were kept between them. ``file_began_ns``: when media time
    was 0, where the source was a file read without loss.
    """

    camera: str
    said: list[Said]
    starts: dict[float, int]
    first_ns: int
    last_ns: int
    steps: int
    file_began_ns: int | None = None


def check_networks(memory: MemoryReader, camera: str, watch: Watch) -> None:
    """Raise :class:`FeatureMemoryError` where the memory can't serve a pack."""
    kept = memory.kept(camera)
    if kept is None:
        raise FeatureMemoryError(f"camera {camera}: nothing is remembered yet")
    missing = {watch.spatial, watch.temporal} - kept.networks
    if missing:
        raise FeatureMemoryError(
            f"camera {camera}: the memory has no features of {watch.pack.contract.name}'s networks "
            f"({', '.join(sorted(missing))}); it has those of {', '.join(sorted(kept.networks))}. "
            "A pack can be tested that shares both networks, and how flow is computed, with one "
            "that ran"
        )


def run_camera(
    memory: MemoryReader,
    camera: str,
    watch: Watch,
    run: Run,
    thresholds: Mapping[str, Threshold],
    make_filter: MakeFilter,
    span_ns: tuple[int, int],
    tick: Tick = lambda _steps: None,
    starts: Sequence[float] = STARTS,
) -> CameraTest:
    """Score what is remembered between two times, and judge it with several start thresholds.

    ``run`` is the pack's fusion network. Raises :class:`FeatureMemoryError`.
    """
    contract = watch.pack.contract.model_copy(update={"thresholds": dict(thresholds)})
    own = Judge(camera, watch, thresholds, make_filter())
    others = {
        start: Judge(camera, watch, _thresholds(with_start(contract, start)), make_filter())
        for start in starts
    }
    scorer = StretchScorer(run, watch)
    first_ns = last_ns = steps = 0
    began_ns = None
    for stretch in memory.stretches(camera, *span_ns):
        rows = by_row(scorer.scores(stretch.steps))
        for judge in (own, *others.values()):
            judge.stretch(stretch, rows)
        first_ns, last_ns = first_ns or stretch.first_ns, stretch.last_ns
        steps += len(stretch.steps)
        began_ns = stretch.offset_ns if stretch.media else None
        tick(len(stretch.steps))
    counts = {start: len(judge.end()) for start, judge in others.items()}
    return CameraTest(camera, own.end(), counts, first_ns, last_ns, steps, began_ns)


def _thresholds(contract: Contract) -> dict[str, Threshold]:
    return {label: contract.threshold(label) for label in contract.labels}
