"""``python -m teach``: a pack from clips, and whether it works."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pipeline.config.paths import at_home, stray_address
from pipeline.errors import EXIT_USAGE, ends_with_errors, needs_extra
from pipeline.program import PROJECT
from teach.bar import PACKAGES, bar
from teach.commands import OTHER_WAYS, other

if TYPE_CHECKING:
    from teach.page import PageWriter

BASE = PROJECT / "models" / "base"
EXIT_NOTHING_LEARNED = 1

app = typer.Typer(add_completion=False)

BackgroundOption = Annotated[
    list[Path] | None,
    typer.Option(help="video, or folder of videos, that shows none of the actions"),
]
RestOption = Annotated[
    list[str] | None,
    typer.Option(help="label of no action; default: background, normal, nothing and the like"),
]
LooksOption = Annotated[
    str | None,
    typer.Option(help="networks to try, such as flow,hands+flow; default: all, the best wins"),
]
FindOption = Annotated[
    float | None,
    typer.Option(
        min=1.2, max=6.4,
        help="seconds that an action takes, where clips show more than it: it is looked for",
    ),
]  # fmt: skip
CacheOption = Annotated[
    Path | None, typer.Option(help="folder for what the networks saw; default: the user's")
]
ProvenanceOption = Annotated[str, typer.Option(help="where the clips are from, for the card")]
LicenceOption = Annotated[str, typer.Option(help="the pack's licence, for the card")]
LimitOption = Annotated[
    list[str] | None, typer.Option(help="what it can't do, for the card; repeatable")
]
ReportOption = Annotated[
    Path | None,
    typer.Option(help="folder for a page of the verdict with pictures; needs the extra report"),
]


@app.command(epilog=OTHER_WAYS)
def main(
    clips: Annotated[
        Path,
        typer.Option(help="folder of class folders, or a CSV list (path,label[,group][,fold])"),
    ],
    out: Annotated[Path, typer.Option(help="folder of the pack; an older version is replaced")],
    background: BackgroundOption = None,
    rest: RestOption = None,
    labels: Annotated[
        str | None, typer.Option(help="teach only these, with commas between them")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="folder of the list's paths")] = None,
    base: Annotated[
        Path | None, typer.Option(help="folder of the base; default: the shipped one")
    ] = None,
    looks: LooksOption = None,
    false_alarms_per_day: Annotated[
        float, typer.Option(min=0, help="false events a day to allow")
    ] = 1.0,
    find: FindOption = None,
    name: Annotated[str, typer.Option(help="the pack's name; default: that of its folder")] = "",
    provenance: ProvenanceOption = "",
    licence: LicenceOption = "",
    limit: LimitOption = None,
    cache: CacheOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="processes; default: CPUs")] = None,
    report: ReportOption = None,
    json: Annotated[bool, typer.Option("--json", help="the verdict as JSON")] = False,
) -> None:
    """Teach actions from a few clips of each, and say how well it works.

    Exit status 1: nothing was learned, so no pack was written.
    """
    with ends_with_errors():
        with needs_extra("teach", PACKAGES):
            from teach.clips import gathered
            from teach.pack import Origin
            from teach.run import Order, teach
            from teach.show import show
        write = None if report is None else _page_writer(at_home(report))
        found = gathered(
            at_home(clips), [at_home(path) for path in background or ()], rest or (),
            root and at_home(root), _split(labels),
        )  # fmt: skip
        with bar() as tick:
            order = Order(
                found, at_home(out), at_home(base or BASE), cache or _user_cache(), _split(looks),
                false_alarms_per_day, find, name,
                Origin.of(provenance, licence, limit or ()), tick=tick,
                **({} if threads is None else {"workers": threads}),
            )  # fmt: skip
            result = teach(order)
        page = None if write is None else write(result, found)
    if json:
        print(msgspec.json.encode(result.verdict).decode())
    else:
        show(result, out, page)
    if result.pack is None:
        raise typer.Exit(EXIT_NOTHING_LEARNED)


def _page_writer(folder: Path) -> "PageWriter":
    """What writes the page; raises :class:`MissingPackageError` and :class:`TeachError`."""
    from teach.page import writer

    return writer(folder)


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _user_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "two-stream" / "features"


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes=("--source",)):
        print(f"error: {stray}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    (other(arguments) or app)(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
