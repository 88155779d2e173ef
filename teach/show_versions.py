"""What a new version of a pack does differently, in a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from teach.before_after import Two, Unreviewed
from teach.calibrate import Calibrated
from teach.from_reviews import Learned

MOST_SHOWN = 10
ROWS = (
    ("right", "events that were right, and are said"),
    ("wrong", "events that were wrong, and are said"),
    ("other", "events of another label, now said as that"),
    ("missed", "actions that were missed, and are said"),
)


def show_learned(found: Learned, pack: str, console: Console | None = None) -> None:
    """Print what was learned from reviews, what improves and what worsens."""
    say = (console or Console(highlight=False)).print
    say(
        f"{found.pack} {found.after}: {found.examples} reviews are examples now, "
        f"{found.new_examples} of them new.",
        soft_wrap=True,
    )
    if found.forgotten:
        say(
            f"{found.forgotten} reviews aren't taught: the memory has too little of their time.",
            soft_wrap=True,
        )
    for line in found.warnings:
        say(f"warning: {line}", soft_wrap=True, markup=False)
    say(_effect(found))
    say(
        "The new version was taught these events just now. The last column says what a head says "
        "that was fitted without them: expect that of events to come.",
        soft_wrap=True,
    )
    for title, rows in (
        ("only the new version says, and nobody has reviewed", found.effect.new),
        ("only the version before said, and nobody has reviewed", found.effect.gone),
    ):
        _unreviewed(say, title, rows)
    say(_figures(found), soft_wrap=True)
    if found.effect.worse:
        say("Some of what was reviewed is worse than before; see the table.", soft_wrap=True)
    _next(say, pack, found.folder, found.before, found.after)


def _effect(found: Learned) -> Table:
    table = Table("", found.before, found.after, "", "left out")
    for name, words in ROWS:
        two: Two = getattr(found.effect, name)
        if not two.of:
            continue
        share = found.left_out.get(name)
        table.add_row(
            words,
            f"{two.before} of {two.of}",
            f"{two.after} of {two.of}",
            _change(two, fewer_is_better=name == "wrong"),
            f"{share.said} of {share.of}" if share else "",
        )
    return table


def _change(two: Two, fewer_is_better: bool) -> str:
    if two.before == two.after:
        return "same"
    return "better" if (two.after < two.before) == fewer_is_better else "worse"


def _unreviewed(say, title: str, rows: Sequence[Unreviewed]) -> None:  # type: ignore[no-untyped-def]
    if not rows:
        say(f"{title}: nothing")
        return
    table = Table("camera", "label", "time", "seconds", "top score", title=title)
    for one in rows[:MOST_SHOWN]:
        table.add_row(one.camera, one.label, one.time, f"{one.seconds:g}", f"{one.top_score:.2f}")
    if len(rows) > MOST_SHOWN:
        table.add_row("", f"… {len(rows) - MOST_SHOWN} more; --json has all")
    say(table)


def _figures(found: Learned) -> str:
    before, after = found.top1
    f1_before, f1_after = found.event_f1
    return (
        "Over all examples, each left out in turn: "
        f"told right {_percent(before)}, now {_percent(after)}; "
        f"F1 of events {_number(f1_before)}, now {_number(f1_after)}. The examples are other ones "
        "now, and the new ones are the hardest."
    )


def show_calibrated(found: Calibrated, pack: str, console: Console | None = None) -> None:
    """Print false events and recall, before and after."""
    say = (console or Console(highlight=False)).print
    for line in found.warnings:
        say(f"warning: {line}", soft_wrap=True, markup=False)
    say(
        f"{found.where}: {found.minutes:g} minutes in which something moved, of {found.hours:g} "
        "hours.",
        soft_wrap=True,
    )
    table = Table("", found.before, found.after)
    table.add_row("false events in this footage", str(found.false_before), str(found.false_after))
    table.add_row(
        "actions found in streams of the lesson's clips",
        f"{found.found_before} of {found.actions}",
        f"{found.found_after} of {found.actions}",
    )
    say(table)
    say(
        "Each stretch of time, and each clip, was left out of the lesson that tells it.",
        soft_wrap=True,
    )
    if found.found_after < found.found_before:
        say("It finds fewer actions than before: that is the price.", soft_wrap=True)
    _next(say, pack, found.folder, found.before, found.after)


def _next(say, pack: str, folder: str, before: str, after: str) -> None:  # type: ignore[no-untyped-def]
    if folder == pack:
        say(f"{after} is in {pack}. Back: two-stream teach --back-to {before} --pack {pack}",
            soft_wrap=True)  # fmt: skip
    else:
        say(f"{after} is in {folder}; {pack} is as it was.", soft_wrap=True)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
