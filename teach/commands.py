"""The commands that change a pack which is in use: reviews, background, and back again."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pipeline.config.paths import at_home, stray_address
from pipeline.errors import EXIT_USAGE, ends_with_errors, needs_extra
from teach.bar import PACKAGES, bar
from teach.record_command import RECORD, record_app

reviews_app = typer.Typer(add_completion=False)
back_app = typer.Typer(add_completion=False)
calibrate_app = typer.Typer(add_completion=False)

PackOption = Annotated[Path, typer.Option(help="the pack: its folder")]
ConfigOption = Annotated[
    Path, typer.Option("-c", "--config", help="the program's: memory, log, rules, thresholds")
]
OutOption = Annotated[
    Path | None, typer.Option(help="folder of the next version; default: PACK-VERSION")
]
SwitchOption = Annotated[
    bool, typer.Option("--switch", help="use it: it takes the pack's place, the old goes beside it")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object")]


@reviews_app.command()
def from_reviews(
    config: ConfigOption,
    pack: PackOption,
    out: OutOption = None,
    switch: SwitchOption = False,
    as_json: JsonOption = False,
    _from_reviews: Annotated[bool, typer.Option("--from-reviews", hidden=True)] = True,
) -> None:
    """Teach a pack what people have said of its events (two-stream review).

    The moments come out of the memory. The next version is written, and compared with this one.
    """
    with ends_with_errors(), bar() as tick:
        with needs_extra("teach", PACKAGES):
            from teach.from_reviews import ReviewOrder, learn
            from teach.show_versions import show_learned
        found = learn(ReviewOrder(config, at_home(pack), out and at_home(out), switch, tick))
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        show_learned(found, str(at_home(pack)))


@back_app.command()
def back_to(
    version: Annotated[str, typer.Option("--back-to", help="the version to use")],
    pack: PackOption,
) -> None:
    """Use another version of a pack that lies beside it, such as the one before."""
    with ends_with_errors():
        from teach.versions import switch

        now = switch(at_home(pack).resolve(), version)
    typer.echo(f"{pack}: is {now.contract.name} {now.contract.version} now", err=True)


@calibrate_app.command()
def calibrate(
    pack: PackOption,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="the program's, with a memory")
    ] = None,
    camera: Annotated[str, typer.Option(help="whose background")] = "",
    hours: Annotated[
        float, typer.Option(min=0.01, help="so much of its newest memory, or so long")
    ] = 1.0,
    background: Annotated[
        list[Path] | None, typer.Option(help="a video of it instead; repeatable")
    ] = None,
    source: Annotated[
        str, typer.Option(help="watch this camera for --hours instead; Ctrl-C ends it earlier")
    ] = "",
    false_alarms_per_day: Annotated[
        float | None, typer.Option(min=0, help="false events a day to allow; default: as taught")
    ] = None,
    out: OutOption = None,
    switch: SwitchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Teach a pack a camera's own background, and fit its thresholds to it.

    What people have reviewed as right, or missed, isn't background; all else that is remembered is.
    """
    with ends_with_errors(), bar() as tick:
        with needs_extra("teach", PACKAGES):
            from teach.background import CalibrateOrder
            from teach.calibrate import calibrate as run
            from teach.show_versions import show_calibrated
        order = CalibrateOrder(
            pack, config, camera, hours, tuple(at_home(one) for one in background or ()), source,
            out and at_home(out), switch, false_alarms_per_day, tick,
        )  # fmt: skip
        found = run(order)
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        show_calibrated(found, str(at_home(pack)))


OTHERS = {"--from-reviews": reviews_app, "--back-to": back_app, RECORD: record_app}
"""Options of ``two-stream teach`` that make it another command."""
OTHER_WAYS = (
    "With --record LABEL it records examples. With --from-reviews a pack learns what people said "
    "of its events. With --back-to VERSION another version of it is used. Add --help to see their "
    "options."
)


def other(arguments: Sequence[str]) -> typer.Typer | None:
    """The command that the arguments ask for, if it isn't to teach from clips."""
    for word in arguments:
        if word.partition("=")[0] in OTHERS:
            return OTHERS[word.partition("=")[0]]
    return None


def calibrate_cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run ``two-stream calibrate``; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes=("--source",)):
        print(f"error: {stray}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    calibrate_app(list(arguments), prog_name=name)
