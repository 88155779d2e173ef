"""The report page: one HTML file that loads nothing else, made with matplotlib and jinja2."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jinja2
import msgspec
from markupsafe import Markup

from pipeline.clock import NS_PER_S
from pipeline.errors import EvaluationError
from pipeline.evaluate.page import charts, examples
from pipeline.evaluate.page.flow_colour import key
from pipeline.evaluate.report import Evaluation
from pipeline.evaluate.statistics import BINS
from pipeline.evaluate.streams import LATE_NS
from pipeline.evaluate.timeline import PAUSE_S

PAGE, DATA = "index.html", "report.json"
_KEY_SIDE = 120


@dataclass(frozen=True, slots=True)
class Gallery:
    """Mistakes of one kind: ``count`` in all, and the ``examples`` that the page shows."""

    title: str
    text: str
    count: int
    examples: list[examples.Example]


def write(evaluation: Evaluation, folder: Path) -> Path:
    """Write ``index.html`` and ``report.json`` into the existing ``folder``; returns the page.

    Raises :class:`EvaluationError` when they can't be written.
    """
    return write_page(folder, render(evaluation), msgspec.json.encode(evaluation.report))


def write_page(folder: Path, text: str, data: bytes) -> Path:
    """Write a page, and as JSON what is on it, into the existing ``folder``; returns the page.

    Raises :class:`EvaluationError` when they can't be written.
    """
    page = folder / PAGE
    try:
        page.write_text(text, "utf-8")
        (folder / DATA).write_bytes(data)
    except OSError as error:
        raise EvaluationError(f"--report {folder}: {error.strerror}") from None
    return page


def render(evaluation: Evaluation) -> str:
    """The page as HTML; labels, paths and other data in it are escaped."""
    contract = evaluation.pack.contract
    return template(__name__, "page.html.jinja").render(
        report=evaluation.report,
        contract=contract,
        thresholds={
            label: contract.threshold(label)
            for label in contract.labels
            if label not in contract.background
        },
        charts=_charts(evaluation),
        galleries=_galleries(evaluation),
        key=_key(),
        bins=BINS,
        most_labels=charts.MOST_LABELS,
        late_s=LATE_NS / NS_PER_S,
        pause_s=PAUSE_S,
    )


def template(package: str, name: str) -> jinja2.Template:
    """A page's template in the folder of ``package``, with this page's filters and its ``style``.

    What it is given is escaped, but for what goes through the filter ``svg``.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "number": _number, "svg": Markup}
    style = Markup((Path(__file__).parent / "page.css").read_text("utf-8"))
    return environment.get_template(name, globals={"style": style})


def _charts(evaluation: Evaluation) -> dict[str, Markup]:
    """The charts of the protocols that were run, by name."""
    report, labels = evaluation.report, evaluation.pack.contract.labels
    drawn: dict[str, str] = {}
    if (clip := report.clip) is not None:
        fused = clip.scores["fused"]
        rows = fused.labels.items()
        drawn["confusion"] = charts.confusion(fused.confusion, labels)
        drawn["labels"] = charts.label_bars(
            {label: (row.clips, row.recall, row.precision, row.f1) for label, row in rows}
        )
        drawn["reliability"] = charts.reliability(clip.scores)
    if (stream := report.stream) is not None:
        counts = {label: row.counts for label, row in stream.labels.items()}
        drawn["events"] = charts.label_bars(
            {
                label: (one.actions, one.recall, one.precision, one.f1)
                for label, one in counts.items()
            }
        )
        drawn["timeline"] = charts.timeline(stream)
    if report.thresholds is not None:
        drawn["thresholds"] = charts.thresholds(report.thresholds)
        if report.negatives is not None:
            drawn["quiet"] = charts.quiet_rates(report.thresholds)
    # Markup, so that jinja2 doesn't escape the drawings; matplotlib has escaped the text in them.
    return {name: Markup(svg) for name, svg in drawn.items()}


def _galleries(evaluation: Evaluation) -> list[Gallery]:
    report = evaluation.report
    false, missed = examples.stream_mistakes(evaluation)
    found = [
        Gallery(
            "Clips taken for another label",
            "The end of each clip, as far back as the window of its prediction reaches.",
            len(report.clip.mistakes) if report.clip else 0,
            examples.clip_mistakes(evaluation),
        ),
        Gallery(
            "False alarms in the stream",
            "The two lines mark the event's start and the time at which it is published; the "
            "dashed line is the start threshold.",
            report.stream.false_alarms.count if report.stream else 0,
            false,
        ),
        Gallery(
            "Missed actions",
            "The line marks the action's end; the dashed line is the start threshold, which the "
            "scores did not hold for long enough.",
            len(report.stream.missed) if report.stream else 0,
            missed,
        ),
        Gallery(
            "False alarms without actions",
            "The two lines mark the event's start and the time at which it is published; the "
            "dashed line is the start threshold.",
            report.negatives.false_alarms.count if report.negatives else 0,
            examples.quiet_mistakes(evaluation),
        ),
    ]
    return [gallery for gallery in found if gallery.count]


def _key() -> str:
    _, encoded = cv2.imencode(".png", key(_KEY_SIDE))
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode()


def _percent(value: float | None, places: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{places}f} %"


def _number(value: Any, places: int = 2) -> str:
    return "–" if value is None else f"{value:.{places}f}"
