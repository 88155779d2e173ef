#!/usr/bin/env python3
"""What the event log tells: actions by hour, by camera and label, and how long they last.

    python examples/analyse_log.py events.sqlite report.png

Needs matplotlib. The program may be running: the log is only read.
"""

import json
import sqlite3
import sys
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# An action's first event and its last, each as JSON; one that goes on has no end yet.
ACTIONS = """
SELECT first.json, last.json FROM events AS first
LEFT JOIN events AS last ON last.id = first.id AND last.type = 'end'
WHERE first.type = 'start' ORDER BY first.seq
"""


def actions(path: Path) -> list[tuple[dict, dict | None]]:
    """(start, end or None) of each action in the log."""
    # Read only: an analysis can't hurt the program.
    uri = f"file:{quote(str(path.resolve()))}?mode=ro"
    with sqlite3.connect(uri, uri=True) as log:
        rows = log.execute(ACTIONS).fetchall()
    return [(json.loads(start), json.loads(end) if end else None) for start, end in rows]


def local(text: str) -> datetime:
    """A time of the log, which is UTC, in this machine's time zone."""
    return datetime.fromisoformat(text).astimezone()


def main(log: Path, picture: Path) -> None:
    found = actions(log)
    if not found:
        raise SystemExit(f"{log}: there are no actions in it")
    hours = Counter(local(start["start_time"]).hour for start, _ in found)
    places = Counter((start["camera"], start["label"]) for start, _ in found)
    lasted = defaultdict(list)
    for start, end in found:
        if end is not None:
            took = local(end["end_time"]) - local(start["start_time"])
            lasted[start["label"]].append(took.total_seconds())
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    left.bar(range(24), [hours[hour] for hour in range(24)])
    left.set(title="actions by hour of the day", xlabel="hour", ylabel="actions")
    names = [f"{camera}: {label}" for (camera, label), _ in places.most_common(15)]
    middle.barh(names, [count for _, count in places.most_common(15)])
    middle.invert_yaxis()
    middle.set(title="by camera and label", xlabel="actions")
    if lasted:
        right.boxplot(list(lasted.values()), vert=False)
        right.set_yticks(range(1, len(lasted) + 1), list(lasted))
    right.set(title="how long they last", xlabel="seconds")
    first, last = (local(found[place][0]["start_time"]) for place in (0, -1))
    figure.suptitle(f"{len(found)} actions from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}")
    figure.savefig(picture, dpi=110)
    for (camera, label), count in places.most_common():
        print(f"{count:6}  {camera}  {label}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: python {sys.argv[0]} events.sqlite report.png")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
