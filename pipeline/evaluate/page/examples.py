"""The mistakes on the page, the worst first, each with its strip and its scores."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.clock import NS_PER_S
from pipeline.errors import SourceError
from pipeline.evaluate.clip_list import shown
from pipeline.evaluate.clips import Prediction
from pipeline.evaluate.page.charts import Dash, trace
from pipeline.evaluate.page.strips import Span, Strip, cut
from pipeline.evaluate.recogniser import file_frames
from pipeline.evaluate.report import Evaluation
from pipeline.evaluate.runs import Run, StreamRun, Track, timeline_of
from pipeline.evaluate.streams import LATE_NS, ActionRow, EventRow
from pipeline.model.pack import Contract
from pipeline.steps.follow import TimedFrame

MOST_SHOWN = 24
"""Examples of one kind on the page."""
# How far the strip of a false alarm reaches before and after it, and the longest span of a strip.
BEFORE_NS = 3 * NS_PER_S // 2
AFTER_NS = NS_PER_S // 2
LONGEST_NS = 8 * NS_PER_S

_INKS = ("right", "wrong", "other", "repeat")
_DASHES: tuple[Dash, ...] = ("-", "-", (0, (5, 2)), (0, (1, 1.5)))


@dataclass(frozen=True, slots=True)
class Line:
    """One label's line among the scores; ``ink`` and ``style`` choose its colour and dashes."""

    label: str
    ink: str
    style: int
    what: str


@dataclass(frozen=True, slots=True)
class Example:
    """One mistake: the ``true`` label, the one that was predicted (``said``), and the pictures."""

    name: str
    true: str
    said: str
    facts: tuple[str, ...]
    strip: Strip
    times: tuple[str, ...]
    scores: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An example before its pictures are cut; ``true`` or ``said`` may be words, not a label."""

    name: str
    true: str
    said: str
    facts: tuple[str, ...]
    span: Span
    marks: tuple[float, ...] = ()
    threshold: float | None = None


def clip_mistakes(evaluation: Evaluation) -> list[Example]:
    """Clips that were taken for another label, each over the window of its prediction."""
    report, contract = evaluation.report.clip, evaluation.pack.contract
    if report is None:
        return []
    runs = {shown(run.path): run for run in evaluation.clip_runs}
    examples: list[Example | None] = []
    for mistake in report.mistakes[:MOST_SHOWN]:
        run = runs[mistake.path]
        wanted = _clip(mistake, run.track, contract)
        examples += _from_file(run, [wanted], evaluation)
    return _readable(examples)


def _clip(mistake: Prediction, track: Track, contract: Contract) -> _Wanted:
    period_ns = round(NS_PER_S / contract.step_hz)
    assert track.seen_ns is not None  # a clip without a step has no prediction
    end_ns = track.seen_ns[1] + period_ns
    start_ns = max(track.seen_ns[0], end_ns - contract.window * period_ns)
    alone = [
        f"{stream} alone: {label}"
        for stream, label in (("appearance", mistake.spatial), ("motion", mistake.temporal))
        if label is not None
    ]
    facts = (
        f"{_percent(mistake.score)} {mistake.predicted}",
        f"{_percent(mistake.true_score)} {mistake.label}",
        *alone,
    )
    return _Wanted(mistake.path, mistake.label, mistake.predicted, facts, Span(start_ns, end_ns))


def stream_mistakes(evaluation: Evaluation) -> tuple[list[Example], list[Example]]:
    """False alarms of the stream, the highest score first, and missed actions, the lowest first."""
    report, run = evaluation.report.stream, evaluation.stream_run
    if report is None or run is None:
        return [], []
    contract = evaluation.pack.contract
    false = [event for event in report.events if event.outcome == "false alarm"]
    false = sorted(false, key=lambda event: -event.top_score)[:MOST_SHOWN]
    alarms = [_alarm(event, report.actions, contract) for event in false]
    track = _shown(run.track, contract)
    missed = sorted(
        (_missed(action, track, contract) for action in report.missed),
        key=lambda one: one[0],
    )
    wanted = [*alarms, *(one for _, one in missed[:MOST_SHOWN])]
    # One pass over the stream cuts all strips.
    examples = _cut(lambda: timeline_of(run.items, contract).frames(), run, wanted, evaluation)
    return _readable(examples[: len(alarms)]), _readable(examples[len(alarms) :])


def quiet_mistakes(evaluation: Evaluation) -> list[Example]:
    """Events in footage without actions, the highest score first."""
    report, contract = evaluation.report.negatives, evaluation.pack.contract
    if report is None:
        return []
    events = sorted(report.events, key=lambda event: -event.top_score)[:MOST_SHOWN]
    runs = {shown(run.path): run for run in evaluation.quiet_runs}
    examples: list[Example | None] = [None] * len(events)
    # One pass over each file; the examples keep the rank of their events.
    for name in dict.fromkeys(event.path for event in events if event.path is not None):
        own = [rank for rank, event in enumerate(events) if event.path == name]
        wanted = [_alarm(events[rank], (), contract) for rank in own]
        for rank, example in zip(own, _from_file(runs[name], wanted, evaluation), strict=True):
            examples[rank] = example
    return _readable(examples)


def _alarm(event: EventRow, actions: Sequence[ActionRow], contract: Contract) -> _Wanted:
    going_on = [a.label for a in actions if a.start_s <= event.start_s <= a.end_s]
    start_ns, published_ns = round(event.start_s * NS_PER_S), round(event.said_s * NS_PER_S)
    begin_ns = max(0, start_ns - BEFORE_NS)
    end_ns = max(published_ns, round(event.end_s * NS_PER_S)) + AFTER_NS
    facts = (
        f"from {_clock(event.start_s)} to {_clock(event.end_s)}",
        f"published at {_clock(event.said_s)}",
        f"top score {_percent(event.top_score)}",
    )
    return _Wanted(
        event.path or "a pause after the clip before",
        going_on[0] if going_on else "no action",
        event.label,
        facts,
        Span(begin_ns, min(end_ns, begin_ns + LONGEST_NS)),
        (event.start_s, event.said_s),
        contract.threshold(event.label).start,
    )


def _missed(action: ActionRow, track: Track, contract: Contract) -> tuple[float, _Wanted]:
    """A missed action, and the highest score of its label while it played."""
    start_ns, end_ns = round(action.start_s * NS_PER_S), round(action.end_s * NS_PER_S)
    during = (track.pts_ns >= start_ns) & (track.pts_ns <= end_ns + LATE_NS)
    own = track.scores[0, during, contract.labels.index(action.label)]
    best = float(own.max()) if len(own) else 0.0
    needed = contract.threshold(action.label)
    facts = (
        f"from {_clock(action.start_s)} to {_clock(action.end_s)} of the stream",
        f"top score {_percent(best)}; needs {_percent(needed.start)} "
        f"for {needed.min_duration_s:g} s",
    )
    span = Span(start_ns, min(end_ns + LATE_NS // 2, start_ns + LONGEST_NS))
    wanted = _Wanted(
        action.path, action.label, "nothing", facts, span, (action.end_s,), needed.start
    )
    return best, wanted


def _readable(examples: Sequence[Example | None]) -> list[Example]:
    return [example for example in examples if example is not None]


def _from_file(run: Run, wanted: Sequence[_Wanted], evaluation: Evaluation) -> list[Example | None]:
    return _cut(lambda: file_frames(run.path), run, wanted, evaluation)


def _cut(
    frames: Callable[[], Iterator[TimedFrame]],
    run: Run | StreamRun,
    wanted: Sequence[_Wanted],
    evaluation: Evaluation,
) -> list[Example | None]:
    """The examples of one file or stream; None for one whose frames can't be read again."""
    contract = evaluation.pack.contract
    if not wanted:
        return []
    try:
        strips = cut(frames(), [one.span for one in wanted], contract, evaluation.ignore)
    except SourceError:
        return [None] * len(wanted)
    track = _shown(run.track, contract)
    return [
        None if strip is None else _example(one, strip, track, contract)
        for one, strip in zip(wanted, strips, strict=True)
    ]


def _shown(track: Track, contract: Contract) -> Track:
    """The scores as they are drawn: those of the best subject."""
    return track.together([contract.labels.index(label) for label in contract.background])


def _example(wanted: _Wanted, strip: Strip, track: Track, contract: Contract) -> Example:
    lines = _lines(wanted, track, contract)
    drawn = [(contract.labels.index(x.label), x.ink, _DASHES[x.style]) for x in lines]
    return Example(
        name=wanted.name,
        true=wanted.true,
        said=wanted.said,
        facts=wanted.facts,
        strip=strip,
        times=tuple(_clock(ns / NS_PER_S) for ns in wanted.span.centres_ns()),
        scores=trace(track, wanted.span, drawn, threshold=wanted.threshold, marks=wanted.marks),
        lines=tuple(lines),
    )


def _lines(wanted: _Wanted, track: Track, contract: Contract) -> list[Line]:
    """The lines of the true label, of the predicted one, and of up to two others.

    The others are background labels first, then those with the highest scores in the span.
    """
    named = [(wanted.true, "true"), (wanted.said, "predicted")]
    lines = [
        Line(label, _INKS[place], place, what)
        for place, (label, what) in enumerate(named)
        if label in contract.labels
    ]
    during = (track.pts_ns >= wanted.span.start_ns) & (track.pts_ns < wanted.span.end_ns)
    best = track.scores[0, during].max(axis=0, initial=0.0)  # (C,)
    others = [contract.labels[i] for i in best.argsort()[::-1]]
    # The sort is stable: within background and the rest, the highest score stays first.
    others.sort(key=lambda label: label not in contract.background)
    others = [label for label in others if label not in {line.label for line in lines}]
    more = [Line(label, _INKS[i + 2], i + 2, "") for i, label in enumerate(others[:2])]
    return [*lines, *more]


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
