"""The model card of a taught pack."""

from collections.abc import Sequence

from teach.pack import Origin
from teach.verdict import Verdict


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def card_of(name: str, version: str, verdict: Verdict, origin: Origin) -> str:
    """In Markdown; every figure is of clips that were left out of the lesson they test."""
    lines = [
        f"# {name} {version}",
        "",
        f"Taught from clips by `two-stream teach`. It looks at: {verdict.looks}.",
        "",
        "## Data and licence",
        "",
        origin.provenance,
        "",
        f"Licence: {origin.licence}.",
        "",
        "## How good it is",
        "",
        "Groups of clips were left out in turn, and told by a head that was fitted to the others.",
        "",
        f"- clips told right: {_percent(verdict.top1)} ± {_percent(verdict.top1_error)} "
        f"(guessing: {_percent(verdict.chance)})",
        f"- as events in streams of these clips: {verdict.events_found} of "
        f"{verdict.actions_shown} found, {verdict.false_events} too many, F1 "
        f"{verdict.event_f1:.2f}",
        f"- false events in {verdict.background_minutes} minutes of background: "
        f"{verdict.false_events_in_background}{_bound(verdict)}",
        f"- expected calibration error: {verdict.calibration_error:.3f}",
        "",
        "| label | clips | told right | |",
        "| --- | --- | --- | --- |",
        *(
            f"| {one.label} | {one.clips} | {_percent(one.recall)} | {one.state} |"
            for one in verdict.labels
        ),
        "",
        *_pairs(verdict.pairs),
        *_limits(origin.limits),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _bound(verdict: Verdict) -> str:
    if verdict.most_false_events_a_day is None:
        return "; none was there to measure on"
    return f"; at most {verdict.most_false_events_a_day:g} a day, with 95 % confidence"


def _limits(limits: Sequence[str]) -> list[str]:
    return ["", "## Limits", "", *(f"- {limit}" for limit in limits)] if limits else []


def _pairs(pairs: Sequence[tuple[str, str, float]]) -> list[str]:
    return [
        f"{a} and {b} can't be told apart: {_percent(share)} are mistaken." for a, b, share in pairs
    ]
