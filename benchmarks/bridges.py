"""Bridges through faults: mosquitto, bridges and the publish stage killed, the network cut.

The publish stage, its log, its sockets, the bridges, the broker and the web server are the real
ones, each a process of its own or on a real socket. Actions come from a writer instead of cameras.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipeline.public.event_log import read_since
from testbed.bridge import BridgeRun, wait_for
from testbed.broker import Broker, Subscriber
from testbed.line import line_to
from testbed.program import scratch_folder
from testbed.publisher import Publisher
from testbed.receiving_server import ReceivingServer

PATIENCE_S = 600.0
RETRY_MAX_S = 1.0
HOUR_OF_EVENTS = 3600
"""Records: one a second."""


@dataclass
class Account:
    """What became of the events of a run at one receiver."""

    run: str
    receiver: str
    faults: int
    logged: int
    """Events in the log."""
    missing: int
    """Of these, not received."""
    repeats: int
    """Received again; at least once means that this may happen."""
    doubled: int
    """Still there twice once repeats are removed by ``(log, seq)``."""
    out_of_order: int
    """Of those that are left, smaller than the one before."""
    catch_up_s: float
    """From the end of the last fault until all was there."""


@dataclass
class _World:
    """All that runs."""

    broker: Broker
    subscriber: Subscriber
    server: ReceivingServer
    line: Any
    publisher: Publisher
    bridges: dict[str, BridgeRun]

    def received(self, receiver: str) -> list[tuple[str, int]]:
        """``(log, seq)`` of each event, in the order in which they came."""
        bodies: list[bytes]
        if receiver == "mqtt":
            messages = list(self.subscriber.messages)
            bodies = [m.payload for m in messages if m.topic.endswith("/event")]
        else:
            bodies = [posted.body for posted in list(self.server.taken)]
        events = map(json.loads, bodies)
        return [(event["log"], event["seq"]) for event in events]

    def account(self, run: str, receiver: str, faults: int) -> Account:
        """Wait until all of the log is there, and compare."""
        began = time.monotonic()
        bodies = [json.loads(body) for body in read_since(self.publisher.log, 0)]
        logged = {(event["log"], event["seq"]) for event in bodies}
        with suppress(AssertionError):  # the account says how many are missing
            wait_for(lambda: logged <= set(self.received(receiver)), PATIENCE_S, lambda: "events")
        took = time.monotonic() - began
        all_ = self.received(receiver)
        kept = list(dict.fromkeys(all_))
        return Account(
            run, receiver, faults,
            logged=len(logged),
            missing=len(logged - set(kept)),
            repeats=len(all_) - len(kept),
            doubled=len(kept) - len(set(kept)),
            out_of_order=sum(later < earlier for earlier, later in pairwise(kept)),
            catch_up_s=round(took, 1),
        )  # fmt: skip


def _world(stack: ExitStack, folder: Path, every_s: float | None) -> _World:
    broker = stack.enter_context(Broker(folder / "broker", persistent=True))
    subscriber = stack.enter_context(Subscriber(broker.port))
    server = stack.enter_context(ReceivingServer())
    line = stack.enter_context(line_to(server.port))
    publisher = stack.enter_context(Publisher(folder, every_s=every_s))
    common: dict[str, Any] = {"from": "oldest", "retry_max_s": RETRY_MAX_S}
    settings: dict[str, dict[str, Any]] = {
        "mqtt": {"kind": "mqtt", "broker": broker.address, **common},
        "webhook": {
            "kind": "webhook", "url": f"http://127.0.0.1:{line.port}/", "timeout_s": 2, **common,
        },
    }  # fmt: skip
    bridges = {
        name: stack.enter_context(BridgeRun(folder / name, publisher.endpoints, one, name=name))
        for name, one in settings.items()
    }
    return _World(broker, subscriber, server, line, publisher, bridges)


def _faults(world: _World, rng: random.Random) -> dict[str, Callable[[], None]]:
    """Each does its damage, and has put all right when it returns."""

    def killed(victim: Broker | Publisher | BridgeRun) -> Callable[[], None]:
        def fault() -> None:
            victim.kill()
            time.sleep(rng.choice((0.0, rng.uniform(0.0, 0.3), rng.uniform(0.0, 1.5))))
            victim.start()
            if isinstance(victim, Broker):
                # mosquitto forgets what it acknowledged for a subscriber that isn't there, when it
                # is killed before it has saved that. That is no fault of a bridge.
                wait_for(lambda: world.subscriber.is_subscribed, PATIENCE_S, lambda: "subscriber")

        return fault

    def cut() -> None:
        world.line.fault = "cut"
        time.sleep(rng.uniform(0.1, 1.5))
        world.line.fault = ""

    return {
        "mosquitto killed": killed(world.broker),
        "mqtt bridge killed": killed(world.bridges["mqtt"]),
        "webhook bridge killed": killed(world.bridges["webhook"]),
        "publish killed": killed(world.publisher),
        "network to the webhook cut": cut,
    }


def fault_run(faults: int, rng: random.Random) -> Iterator[Account]:
    """One fault after another, at random moments, some of them two at once."""
    with scratch_folder() as folder, ExitStack() as stack:
        world = _world(stack, folder, 0.05)
        kinds = _faults(world, rng)
        # One thread for the whole run: what a thread starts here dies with it.
        beside = stack.enter_context(ThreadPoolExecutor(1))
        wait_for(lambda: world.received("mqtt"), PATIENCE_S, lambda: "an event")
        for number in track(range(faults), "faults", console=Console(stderr=True)):
            time.sleep(rng.uniform(0.0, 0.4))
            first, second = rng.sample(list(kinds), 2)
            if number % 5 == 0:
                other = beside.submit(kinds[second])
                kinds[first]()
                other.result()
            else:
                kinds[first]()
        world.publisher.kill()
        world.publisher.every_s = None
        world.publisher.start()  # ends what goes on, and answers; nothing new comes
        for receiver in world.bridges:
            yield world.account("faults at random moments", receiver, faults + faults // 5)


def outage_run(name: str, seconds: float, records: int) -> Iterator[Account]:
    """The broker and the network away for ``seconds``, or for as long as ``records`` take."""
    with scratch_folder() as folder, ExitStack() as stack:
        world = _world(stack, folder, 0.0 if records else 0.3)
        wait_for(lambda: world.received("mqtt"), PATIENCE_S, lambda: "an event")
        world.broker.kill()
        world.line.fault = "cut"
        time.sleep(seconds)
        if records:
            wait_for(lambda: _count(world) >= records, PATIENCE_S, lambda: "records")
        world.publisher.kill()
        world.publisher.every_s = None
        world.publisher.start()
        world.broker.start()
        world.line.fault = ""
        for receiver in world.bridges:
            yield world.account(name, receiver, 1)


def _count(world: _World) -> int:
    return sum(1 for _ in read_since(world.publisher.log, 0))


def measure(
    faults: Annotated[int, typer.Option(min=1, help="number of faults at random moments")] = 500,
    seed: Annotated[int, typer.Option(help="seed of the faults and their moments")] = 0,
    outages: Annotated[
        bool, typer.Option(help="also an outage of a minute, and one of an hour's worth of events")
    ] = True,
) -> Iterator[Account]:
    """Yield the account of each receiver as a run ends."""
    yield from fault_run(faults, random.Random(seed))
    if outages:
        yield from outage_run("away for a minute", 60.0, 0)
        yield from outage_run("away for an hour's worth of events", 0.0, HOUR_OF_EVENTS)


def show(account: Account) -> None:
    table = Table(title=f"{account.run}: {account.receiver}")
    columns = (
        ("faults", account.faults), ("logged", account.logged), ("missing", account.missing),
        ("repeats", account.repeats), ("doubled after removal", account.doubled),
        ("out of order", account.out_of_order), ("caught up in s", account.catch_up_s),
    )  # fmt: skip
    for name, _ in columns:
        table.add_column(name, justify="right")
    table.add_row(*(str(value) for _, value in columns))
    Console().print(table)
