"""The verdict in a terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from teach.run import Result
from teach.verdict import Verdict

MOST_SHOWN = 5


def show(
    result: Result, out: Path, page: Path | None = None, console: Console | None = None
) -> None:
    """Print a verdict: what to expect, label by label, what to do next, and where the page is."""
    console = console or Console(highlight=False)
    verdict = result.verdict
    for line in _headline(verdict):
        console.print(line, soft_wrap=True)
    console.print(_table(verdict))
    for line in [*_problems(verdict), *_more(verdict), *_unread(result)]:
        console.print(line, soft_wrap=True)
    if page is not None:
        console.print(f"With pictures: {page}", soft_wrap=True)
    if result.pack is not None:
        contract = result.pack.contract
        console.print(f"\n{contract.name} {contract.version} is in {out}. Try it:", soft_wrap=True)
        console.print(f"  two-stream run --model {out} --source 0", soft_wrap=True)
    else:
        console.print("\nNo pack was written.", soft_wrap=True)


def _headline(verdict: Verdict) -> list[str]:
    if not verdict.works:
        return [
            f"This doesn't work: {_percent(verdict.top1)} of clips that were left out are told "
            f"right, and guessing gives {_percent(verdict.chance)}."
        ]
    tried = ", ".join(f"{name} {_percent(share)}" for name, share in verdict.tried.items())
    return [
        f"Expect {_percent(verdict.top1)} (± {_percent(verdict.top1_error)}) of new clips to be "
        f"told right; guessing gives {_percent(verdict.chance)}.",
        f"In streams of these clips {verdict.events_found} of {verdict.actions_shown} actions gave "
        f"their event, and {verdict.false_events} events were wrong.",
        _background(verdict),
        f"It looks at {verdict.looks} (tried: {tried}).",
    ]


def _background(verdict: Verdict) -> str:
    if verdict.most_false_events_a_day is None:
        return "There was no background, so nothing is known of false alarms: add --background."
    return (
        f"{verdict.false_events_in_background} false events in {verdict.background_minutes:g} "
        f"minutes of background: at most {verdict.most_false_events_a_day:g} a day, with 95 % "
        "confidence. More background makes that sharper (--background, or two-stream calibrate)."
    )


def _table(verdict: Verdict) -> Table:
    table = Table()
    for column in ("label", "clips", "told right", "", "what to do"):
        table.add_column(column)
    for one in verdict.labels:
        table.add_row(one.label, str(one.clips), _percent(one.recall), one.state, one.advice)
    return table


def _problems(verdict: Verdict) -> list[str]:
    lines = [
        f"{a} and {b} can't be told apart: {_percent(share)} of their clips are mistaken."
        for a, b, share in verdict.pairs
    ]
    lines += [
        f"{one.path} looks like {one.looks_like} ({_percent(one.score)}), but is called "
        f"{one.label}: is that right?"
        for one in verdict.odd[:MOST_SHOWN]
    ]
    if len(verdict.odd) > MOST_SHOWN:
        lines.append(f"{len(verdict.odd) - MOST_SHOWN} more look like another label (--json).")
    lines += [f"{path}: is there twice; one was left out." for path in verdict.twice[:MOST_SHOWN]]
    return [*lines, *verdict.warnings]


def _more(verdict: Verdict) -> list[str]:
    if verdict.with_half is None or verdict.with_twice is None:
        return []
    return [
        f"With half of the clips it was {_percent(verdict.with_half)}. With twice as many, expect "
        f"about {_percent(verdict.with_twice)}."
    ]


def _unread(result: Result) -> list[str]:
    lines = [f"Left out: {reason}" for reason in list(result.unreadable.values())[:MOST_SHOWN]]
    if len(result.unreadable) > MOST_SHOWN:
        lines.append(f"{len(result.unreadable) - MOST_SHOWN} more can't be read.")
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
