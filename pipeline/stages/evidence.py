"""Evidence: clips and pictures of events. One process for all cameras, beside the others.

It reads events in the event log, asks captures for what they have kept, and hands that to a
thread that makes files. No other stage waits for it, and it works at low priority.
"""

import logging
import os

from pipeline.clock import NS_PER_S
from pipeline.evidence.actions import Action
from pipeline.evidence.feed import LONG_AGO_NS, CameraFeed
from pipeline.public.event_log import log_path
from pipeline.public.log_reader import LogReader
from pipeline.public.records import Event, Evidence
from pipeline.stages.base import Context
from pipeline.stages.evidence_worker import EvidenceWorker
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.messages import EvidenceMade, EvidenceStored, Pieces, Record

NICE = 5
"""Lower than the stages that recognise."""
ASK_S = 1.0
"""A capture is asked again this often while its pieces are wanted ..."""
ASK_FOR_S = 5.0
"""... and sends them for so long."""
SEND_AGAIN_S = 2.0
LOOK_S = 5.0
"""The log is looked at this often, in case word of an event was lost."""
TURN_S = 0.2
LOOK_BACK = 1000
"""Events of the log in which a restarted evidence looks for what has not been made."""
RECENT_NS = 600 * NS_PER_S
"""Of what ended before, a restarted evidence says nothing."""
MOST_ACTIONS = 256
FEED_BYTES = 256 << 20
ENDED_NS = 1 << 62
"""Later than all times: nothing more will come."""

log = logging.getLogger(__name__)


class EvidenceStage:
    """Follows the actions of all cameras, and has their evidence made."""

    def __init__(self, context: Context) -> None:
        config, bus, cameras = context.config, context.bus, context.spec.cameras
        self._context, self._clock = context, context.clock
        self._settings = config.evidence
        self._log = LogReader(log_path(context.run_dir, config.events.log))
        self._feeds = {camera: CameraFeed() for camera in cameras}
        self._actions: dict[str, Action] = {}
        self._unstored: dict[str, EvidenceMade] = {}
        self._seq: int | None = None
        self._look_ns = self._send_ns = 0
        self._ask_ns = dict.fromkeys(cameras, 0)
        self._asks = bus.publisher(topics.RECORD, "", cameras, readers=0)
        self._pieces = bus.pull(topics.PIECES)
        self._publish = bus.dealer(topics.EVIDENCE, "evidence")
        self._news = bus.public_subscriber(["action"])
        bus.watch(self._pieces, self._on_pieces)
        bus.watch(self._publish, self._on_stored)
        bus.watch(self._news, self._on_news)
        os.nice(NICE)
        self._worker = EvidenceWorker(config, context.clock)

    def work(self) -> float | None:
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + int(LOOK_S * NS_PER_S)
            self._read_log()
        self._turn(now_ns)
        self._send()
        if not self._worker.alive:
            raise RuntimeError("the thread that makes evidence has ended")
        busy = self._actions or self._unstored or not self._worker.idle
        return TURN_S if busy else LOOK_S

    def drained(self) -> bool:
        """Make what can be made of what has come: nothing more will."""
        self._read_log()
        self._turn(ENDED_NS)
        self._send()
        return self._worker.idle and not self._actions and not self._unstored

    def close(self) -> None:
        self._worker.close()
        self._log.close()

    def _on_news(self) -> None:
        if self._news.drain():
            self._read_log()

    def _read_log(self) -> None:
        if self._seq is None:
            if not self._log.is_readable():
                return  # publish has not opened it yet
            self._catch_up()
        self._read_on()

    def _read_on(self) -> None:
        while events := self._log.events_since(self._seq or 0):
            for event in events:
                self._seq = event.seq
                self._take(event)

    def _catch_up(self) -> None:
        """What an evidence before this one has not made is made now, or is lost."""
        first = max(0, self._log.last_seq() - LOOK_BACK)
        self._seq = first
        made: dict[str, list[Evidence]] = {}
        for evidence in self._log.evidence_from(first):
            made.setdefault(evidence.id, []).append(evidence)
        self._read_on()
        for name, action in list(self._actions.items()):
            action.resume(made.get(name, []))
            # What is long over may be from a time without evidence.
            if action.over or action.ended_before(self._clock.wall_ns() - RECENT_NS):
                del self._actions[name]

    def _take(self, event: Event) -> None:
        if event.id in self._actions:
            self._actions[event.id].event = event
            return
        wanted = event.camera in self._feeds and self._settings.wants(event.label)
        if event.type != "start" or not wanted:
            return
        if len(self._actions) >= MOST_ACTIONS:
            self._context.counters["evidence_actions_refused"] += 1
            return
        now_ns = self._clock.monotonic_ns()
        wall_ns, media = self._clock.wall_ns() - now_ns, self._context.lossless
        self._actions[event.id] = Action.begin(event, self._settings, wall_ns, media, now_ns)
        self._ask_ns[event.camera] = 0

    def _turn(self, now_ns: int) -> None:
        """Ask for what is wanted, and hand on what can be made."""
        for camera, feed in self._feeds.items():
            actions = [a for a in self._actions.values() if a.event.camera == camera]
            for action in actions:
                self._make(action, feed, now_ns)
            wanted = [action.wanted_from_ns for action in actions if not action.over]
            feed.forget(min(wanted) if wanted else None)
            if feed.bytes > FEED_BYTES:
                log.warning("camera %s: too much for a clip of this length; its start goes", camera)
                feed.forget(feed.newest_ns - 10 * NS_PER_S)
            if wanted and not self._context.lossless and now_ns >= self._ask_ns[camera]:
                self._ask(camera, min(wanted), feed)
        for name in [name for name, action in self._actions.items() if action.over]:
            del self._actions[name]

    def _make(self, action: Action, feed: CameraFeed, now_ns: int) -> None:
        lossless, over = self._context.lossless, action.end_ns is not None
        if lossless and not over:
            return  # the clock is not that of the file
        # All of a file is there.
        came = feed.since_ns <= action.wanted_from_ns
        newest_ns = ENDED_NS if lossless else feed.newest_ns if came else LONG_AGO_NS
        for task in action.due(newest_ns, now_ns if over else self._clock.monotonic_ns()):
            runs = None if lossless else feed.between(task.first_ns, task.last_ns)
            self._worker.put(task, runs)

    def _ask(self, camera: str, since_ns: int, feed: CameraFeed) -> None:
        # Of a new action, what was kept before it is still to come.
        newest = feed.newest if feed.since_ns <= since_ns else -1
        now_ns = self._clock.monotonic_ns()
        self._ask_ns[camera] = now_ns + int(ASK_S * NS_PER_S)
        until_ns = now_ns + int(ASK_FOR_S * NS_PER_S)
        request = Record(camera=camera, since_ns=since_ns, until_ns=until_ns, after=newest)
        self._asks.send(camera, request)

    def _on_pieces(self) -> None:
        for message in self._pieces.drain(64):
            # What nobody wants any more is still on its way for a while.
            wanted = {action.event.camera for action in self._actions.values()}
            if isinstance(message, Pieces) and message.camera in wanted:
                self._feeds[message.camera].add(message)

    def _send(self) -> None:
        """Send records to publish, again and again until it has stored them."""
        new = self._worker.take()
        for made in new:
            self._unstored[made.key] = made
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._send_ns:
            self._send_ns = now_ns + int(SEND_AGAIN_S * NS_PER_S)
            new = list(self._unstored.values())[:100]
        for made in new:
            self._publish.send(made)

    def _on_stored(self) -> None:
        for message in self._publish.drain():
            if isinstance(message, EvidenceStored):
                made = self._unstored.pop(message.key, None)
                if made is not None:
                    self._context.counters[key("evidence", made.kind, made.state)] += 1
