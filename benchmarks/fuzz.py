"""Damaged input for the decoders and for every socket of a running program.

Inputs are noise, and valid messages with bytes changed, removed, doubled or cut off. A decoder must
refuse them with its own error. The program must keep working: no stage may die, memory may not
grow, and events must be published as before.
"""

import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import psutil
import typer
import zmq
from rich.console import Console
from rich.progress import track

from pipeline.errors import KeysError
from pipeline.model.pack import Contract
from pipeline.public.key_folder import read_client_keys
from pipeline.public.records import event_from_json, request_from_json, to_json
from pipeline.transport import messages
from pipeline.transport.messages import BadMessage
from testbed import tiny_pack
from testbed.footage import panning_clip
from testbed.program import PipelineRun, free_port, scratch_folder
from testbed.samples import ONE_OF_EACH, event
from testbed.witness import holes

CHUNK = 1000
GREETING = bytes.fromhex("ff00000000000000017f03004e554c4c") + bytes(48)
"""First bytes of a ZMTP 3.0 peer without security (https://rfc.zeromq.org/spec/23)."""
REQUESTS = (
    b'{"request": "snapshot"}',
    b'{"request": "replay", "since": 3, "limit": 10}',
    b'{"request": "replay", "since": -99999999999999999999999, "limit": 1e300}',
)


class FuzzResult(TypedDict):
    """Counts of inputs for each decoder, and what the attack did to the running program."""

    decoders: dict[str, dict[str, int]]
    live: dict[str, Any]


def mutated(seeds: list[bytes], rng: random.Random) -> bytes:
    """A damaged copy of one of ``seeds``, or noise."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randrange(1, 6)):
        place, kind = rng.randrange(len(data) + 1), rng.randrange(5)
        if kind == 0 and place < len(data):
            data[place] = rng.randrange(256)
        elif kind == 1:
            data[place : place + rng.randrange(8)] = b""
        elif kind == 2:
            data[place:place] = data[place : place + rng.randrange(32)]
        elif kind == 3:
            data[place:place] = rng.randbytes(rng.randrange(8))
        else:
            del data[place:]
    return bytes(data)


def _decoders(folder: Path) -> dict[str, tuple[list[bytes], Callable[[bytes], object], Any]]:
    """Name → valid inputs, the decoder, the errors that it may raise."""
    path = folder / "fuzzed.key"
    keys = {"name": "x", "public": "a" * 40, "secret": "b" * 40, "server": "c" * 40}

    def read_keys(data: bytes) -> object:
        path.write_bytes(data)
        path.chmod(0o600)
        return read_client_keys(path)

    contract = tiny_pack.contract().model_dump_json().encode()
    return {
        "internal messages": (
            [messages.encode(message) for message in ONE_OF_EACH], messages.decode, BadMessage,
        ),
        "events": ([to_json(event(1))], event_from_json, BadMessage),
        "requests": (
            list(REQUESTS), request_from_json, BadMessage,
        ),
        "key files": ([json.dumps(keys).encode()], read_keys, KeysError),
        "contracts": ([contract], Contract.model_validate_json, ValueError),
    }  # fmt: skip


def decoders(inputs: int, rng: random.Random) -> dict[str, dict[str, int]]:
    """Count the inputs that each decoder tried, refused and took. Any other error ends the run."""
    counts = {}
    with scratch_folder() as folder:
        of_each = _decoders(folder)
        for name, (seeds, decode, errors) in of_each.items():
            # Files and pydantic are slow, and strangers can only reach the sockets.
            share = inputs // 100 if name in ("key files", "contracts") else inputs // 3
            refused = 0
            for _ in track(range(max(1, share // CHUNK)), name, console=Console(stderr=True)):
                for _ in range(CHUNK):
                    try:
                        decode(mutated(seeds, rng))
                    except errors:
                        refused += 1
            tried = max(1, share // CHUNK) * CHUNK
            counts[name] = {"tried": tried, "refused": refused, "taken": tried - refused}
    return counts


def _raw(port: int, rng: random.Random) -> None:
    """Open a TCP connection and send noise, or ZMTP that turns into noise."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(0.05)
        parts = [GREETING, b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB", b"\x00\x01\x01"]
        sent = b"".join(parts[: rng.randrange(4)]) + mutated([*parts, *REQUESTS], rng)
        try:
            connection.sendall(sent)
            if rng.random() < 0.5:
                connection.recv(100)
        except OSError:
            pass


def _zmq(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, endpoint: str, rng: random.Random
) -> None:
    """Connect a proper ZeroMQ peer that sends damaged messages of several frames and any size."""
    seeds = [*REQUESTS, *(messages.encode(message) for message in ONE_OF_EACH)]
    peer = context.socket(kind)
    peer.setsockopt(zmq.LINGER, 20)
    peer.setsockopt(zmq.SNDTIMEO, 50)
    if kind == zmq.SUB:
        for _ in range(20):
            peer.setsockopt(zmq.SUBSCRIBE, mutated(seeds, rng)[: rng.choice((5, 500, 5000))])
    peer.connect(endpoint)
    try:
        for _ in range(20 if kind != zmq.SUB else 0):
            frames = [mutated(seeds, rng) for _ in range(rng.randrange(1, 4))]
            if rng.random() < 0.02:
                frames.append(bytes(200_000))
            peer.send_multipart(frames)
    except zmq.ZMQError:
        pass
    time.sleep(0.005)
    peer.close()


def _attacks(run: PipelineRun, rng: random.Random) -> Iterator[int]:
    """Attack one random socket after another without end; yields how many inputs each got."""
    endpoints = run.endpoints
    ports = [int(endpoints[name].rpartition(":")[2]) for name in ("events", "replay")]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        while True:
            private = [f"ipc://{path}" for path in run.runs.glob("*/*.sock")]
            choice = rng.randrange(5)
            if choice == 0:
                _raw(rng.choice(ports), rng)
                yield 1
                continue
            if choice == 1:
                _zmq(context, zmq.SUB, endpoints["events"], rng)
            elif choice == 2:
                _zmq(context, zmq.DEALER, endpoints["replay"], rng)
            elif private:
                kind = rng.choice((zmq.DEALER, zmq.PUSH, zmq.SUB))
                _zmq(context, kind, rng.choice(private), rng)
            yield 20
    finally:
        context.destroy(linger=0)


def _memory(run: PipelineRun) -> dict[str, float]:
    """Unique memory (USS) in MB by stage."""
    return {
        name: psutil.Process(pid).memory_full_info().uss / 2**20
        for name, pid in run.stages().items()
    }


def live(minutes: float, rng: random.Random) -> dict[str, Any]:
    """Attack every socket of a running program."""
    with scratch_folder() as folder:
        pack, clip = tiny_pack.make(folder / "tiny"), panning_clip(folder / "panning.mp4", 30)
        settings = {
            "model": str(pack),
            "cameras": {"a": {"source": str(clip), "loop": True}},
            "publish": {
                name: f"tcp://127.0.0.1:{free_port()}" for name in ("events", "replay")
            },
        }  # fmt: skip
        with PipelineRun(folder, settings) as run:
            run.wait_for(lambda: len(run.events()) > 3, 30, "events")
            attacks, inputs = _attacks(run, rng), 0
            end = time.monotonic() + 60 * minutes
            samples: list[dict[str, float]] = []
            while time.monotonic() < end:
                inputs += next(attacks)
                if not samples or time.monotonic() > end - 60 * minutes + 10 * len(samples):
                    samples.append(_memory(run))
            before = len(run.events())
            run.wait_for(lambda: len(run.events()) > before + 3, 30, "events after the attack")
            settled = samples[len(samples) // 3]  # after the first third, buffers are filled
            return {
                "minutes": minutes,
                "inputs": inputs,
                "stages_died": run.log().count(" died ("),
                "holes_in_seq": holes([e["seq"] for e in run.printed()]),
                "uss_mb": {
                    name: [round(settled[name], 1), round(samples[-1].get(name, 0.0), 1)]
                    for name in settled
                },
                "log_bytes": os.stat(folder / "stderr.txt").st_size,
            }


def measure(
    inputs: Annotated[int, typer.Option(min=1000, help="number of inputs for the decoders")] = (
        1_000_000
    ),
    minutes: Annotated[float, typer.Option(min=0.05, help="minutes to attack the sockets")] = 10.0,
    seed: Annotated[int, typer.Option(help="seed of the damage")] = 0,
) -> FuzzResult:
    """Attack the decoders, then the sockets of a running program."""
    rng = random.Random(seed)
    return {"decoders": decoders(inputs, rng), "live": live(minutes, rng)}


def show(result: FuzzResult) -> None:
    Console().print(result)
