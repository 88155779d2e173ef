#!/usr/bin/env python3
"""Prints every event of a running program, in order, once. Needs pyzmq and nothing of the project.

    python examples/subscriber.py [tcp://127.0.0.1:5555 [tcp://127.0.0.1:5556 [STATE_FILE]]]

With a state file it goes on after a restart where it was. Inside the project, or where it is
installed, `from two_stream import EventClient` does all this.
"""

import contextlib
import json
import sys
import time
from pathlib import Path

import zmq

ASK_AGAIN_S = 2.0


def main(events: str, replay: str, state: Path | None) -> None:
    # `seq` counts within one `log`: both together say where we are.
    log, last = "", None
    if state is not None and state.exists():
        log, last = json.loads(state.read_text())
    context = zmq.Context()
    heard = context.socket(zmq.SUB)
    heard.subscribe("action/")  # topics end with a slash
    heard.connect(events)
    asked = context.socket(zmq.DEALER)
    asked.connect(replay)
    poller = zmq.Poller()
    for socket in (heard, asked):
        poller.register(socket, zmq.POLLIN)
    ask_at = 0.0
    while True:
        # Ask now and then even when nothing seems missing: the last event may be the lost one.
        if time.monotonic() >= ask_at:
            since = 2**62 if last is None else last  # nothing known: only where the log ends
            asked.send_json({"request": "replay", "since": since})
            ask_at = time.monotonic() + ASK_AGAIN_S
        for socket, _ in poller.poll(200):
            answer = json.loads(socket.recv_multipart()[-1])
            if "error" in answer:
                continue
            if socket is heard:
                new = [answer] if last is not None and answer["seq"] == last + 1 else []
                new = new if answer["log"] == log else []
                if not new:
                    ask_at = min(ask_at, time.monotonic() + 0.1)  # a hole, or another log
            elif last is None:
                log, last, new = answer["log"], answer["seq"], []
            elif answer["log"] != log:
                log, last, new = answer["log"], 0, []  # the program began a new log
                ask_at = 0.0
            else:
                new = [event for event in answer["events"] if event["seq"] > last]
                if new and new[-1]["seq"] < answer["seq"]:
                    ask_at = 0.0  # there is more than one answer holds
            for event in new:
                print(
                    event["seq"], event["start_time"], event["camera"], event["type"],
                    event["label"], event["score"], flush=True,
                )  # fmt: skip
                last = event["seq"]
            if new and state is not None:
                # Whole or not at all. After a crash some events come again: (log, seq) tells.
                aside = state.with_suffix(".new")
                aside.write_text(json.dumps([log, last]))
                aside.replace(state)


if __name__ == "__main__":
    given = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        main(
            given[0] if given else "tcp://127.0.0.1:5555",
            given[1] if given[1:] else "tcp://127.0.0.1:5556",
            Path(given[2]) if given[2:] else None,
        )
