"""The MQTT bridge against a real mosquitto and a real publish stage."""

import hashlib
import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from bridges.mqtt import MqttReceiver
from bridges.mqtt_settings import MqttSettings
from bridges.receiver import Place
from bridges.records import ProgramState
from pipeline.public.event_log import read_since
from testbed.bridge import BridgeRun, wait_for
from testbed.broker import Broker, Subscriber
from testbed.clock import HandClock
from testbed.program import free_port, scratch_folder
from testbed.publisher import Publisher
from tests.bridges.mqtt_parts import World, in_order, needs_broker, world
from tests.bridges.parts import LONG_S

pytestmark = [needs_broker, pytest.mark.slow]


@pytest.fixture(scope="module")
def plain() -> Iterator[World]:
    """One world for the tests that break nothing; each uses a label of its own."""
    with world(home_assistant={}) as made:
        made.online()
        yield made


def test_an_event_arrives_whole_and_is_not_retained(plain: World) -> None:
    plain.publisher.act("start", label="one")
    plain.wait(lambda: [e for e in plain.events() if e["label"] == "one"])
    event = next(e for e in plain.events() if e["label"] == "one")
    assert (event["type"], event["camera"], event["schema"]) == ("start", "door", 1)
    assert event["seq"] in plain.logged()
    assert event["log"]
    message = next(m for m in plain.subscriber.messages if m.topic.endswith("door/event"))
    assert (message.retained, message.qos) == (False, 1)
    assert plain.subscriber.retained("two-stream/door/event") is None


def test_what_lasts_is_on_while_it_lasts_and_retained(plain: World) -> None:
    topic = "two-stream/door/two/state"
    plain.publisher.act("start", label="two")
    plain.wait(lambda: plain.subscriber.of(topic)[-1:] == [b"ON"])
    assert plain.subscriber.retained(topic) == b"ON"
    plain.publisher.act("update", label="two")
    plain.publisher.act("end", label="two")
    plain.wait(lambda: plain.subscriber.of(topic)[-1:] == [b"OFF"])
    assert plain.subscriber.retained(topic) == b"OFF"
    assert plain.subscriber.of(topic) == [b"OFF", b"ON", b"OFF"]


def test_two_people_who_do_the_same_keep_it_on_until_both_have_stopped(plain: World) -> None:
    topic = "two-stream/door/three/state"
    for kind, number in (("start", 1), ("start", 2), ("end", 1)):
        plain.publisher.act(kind, label="three", number=number)
    plain.wait(lambda: sum(e["label"] == "three" for e in plain.events()) == 3)
    assert plain.subscriber.of(topic)[-1] == b"ON"
    plain.publisher.act("end", label="three", number=2)
    plain.wait(lambda: plain.subscriber.of(topic)[-1:] == [b"OFF"])


def test_a_label_in_any_language_has_its_own_topic(plain: World) -> None:
    for label in ("padá na zem", "падение", "fall + get up"):
        plain.publisher.act("start", label=label)
        level = label.replace("+", "%2B")
        plain.wait(lambda at=f"two-stream/door/{level}/state": plain.subscriber.of(at)[-1:])  # type: ignore[misc]


def test_a_camera_that_is_lost_is_offline_and_says_why(plain: World) -> None:
    topic = "two-stream/yard/status"
    plain.wait(lambda: plain.subscriber.of(topic)[-1:] == [b"online"])
    plain.publisher.status("yard", "stalled")
    plain.wait(lambda: plain.subscriber.of(topic)[-1:] == [b"offline"])
    plain.wait(lambda: b"stalled" in plain.subscriber.of("two-stream/yard/details")[-1])
    assert plain.subscriber.retained(topic) == b"offline"
    plain.publisher.status("yard", "online")
    plain.wait(lambda: plain.subscriber.of(topic)[-1:] == [b"online"])


def test_home_assistant_is_told_and_told_again_when_it_starts(plain: World) -> None:
    topic = "homeassistant/device/two-stream_door/config"
    plain.wait(lambda: plain.subscriber.of(topic))
    told = json.loads(plain.subscriber.retained(topic) or b"{}")
    assert {"dev", "o", "cmps", "availability", "availability_mode"} <= told.keys()
    before = len(plain.subscriber.of(topic))
    plain.subscriber.publish("homeassistant/status", "offline")
    plain.subscriber.publish("homeassistant/status", "online")
    plain.wait(lambda: len(plain.subscriber.of(topic)) == before + 1)


def test_the_will_of_an_old_connection_is_set_right(plain: World) -> None:
    """A broker may hold a connection for dead only when the next one has long begun."""
    plain.subscriber.publish("two-stream/status", "offline", retain=True)
    plain.wait(lambda: plain.subscriber.of("two-stream/status")[-2:] == [b"offline", b"online"])
    assert plain.subscriber.retained("two-stream/status") == b"online"


def test_a_bridge_that_ends_says_so_and_one_that_is_killed_is_said_to_have() -> None:
    with world() as made:
        made.online()
        made.bridge.kill()
        made.wait(lambda: made.subscriber.of("two-stream/status")[-1:] == [b"offline"], "the will")
        made.bridge.start()
        made.online()
        count = len(made.subscriber.of("two-stream/status"))
        assert made.bridge.stop() == 0
        made.wait(lambda: made.subscriber.of("two-stream/status")[-1:] == [b"offline"], "goodbye")
        time.sleep(0.5)
        # Said once: the broker took it for a goodbye, not for a death.
        assert len(made.subscriber.of("two-stream/status")) == count + 1
        assert made.subscriber.retained("two-stream/status") == b"offline"


def test_what_ended_while_the_bridge_was_away_is_off_after_it() -> None:
    with world() as made:
        made.publisher.act("start", label="ends")
        made.publisher.act("start", label="stays", number=2)
        made.wait(lambda: made.subscriber.of("two-stream/door/stays/state")[-1:] == [b"ON"])
        made.bridge.kill()
        made.publisher.act("end", label="ends")
        # And one of a life that the bridge knows nothing of.
        made.subscriber.publish("two-stream/door/older/state", "ON", retain=True)
        made.bridge.start()
        for label in ("ends", "older"):
            topic = f"two-stream/door/{label}/state"
            made.wait(lambda at=topic: made.subscriber.of(at)[-1:] == [b"OFF"], label)  # type: ignore[misc]
        assert made.subscriber.of("two-stream/door/stays/state")[-1] == b"ON"


def test_actions_of_a_log_that_is_no_more_are_off() -> None:
    with world() as made:
        made.publisher.act("start", label="ends")
        topic = "two-stream/door/ends/state"
        made.wait(lambda: made.subscriber.of(topic)[-1:] == [b"ON"])
        made.publisher.kill()
        made.publisher.log_name = "other.sqlite"
        made.publisher.start()
        made.wait(lambda: made.subscriber.of(topic)[-1:] == [b"OFF"])


def test_types_of_events_can_be_left_out_and_states_stay_right() -> None:
    with world(types=["start"], cameras=["door"]) as made:
        for kind in ("start", "update", "end"):
            made.publisher.act(kind)
            made.publisher.act(kind, camera="yard")
        topic = "two-stream/door/left/state"
        made.wait(lambda: made.subscriber.of(topic) == [b"OFF", b"ON", b"OFF"])
        assert [e["type"] for e in made.events()] == ["start"]
        assert not [m for m in made.subscriber.messages if "yard" in m.topic]


def test_a_broker_that_lost_everything_is_told_everything_again() -> None:
    with world(home_assistant={}) as made:
        made.publisher.act("start", label="stays")
        made.wait(lambda: made.subscriber.of("two-stream/door/stays/state")[-1:] == [b"ON"])
        made.broker.kill()
        made.bridge.wait_to_say("waiting: ")
        made.broker.start()
        made.wait(lambda: made.subscriber.is_subscribed)
        expected = {
            "two-stream/status": b"online",
            "two-stream/door/status": b"online",
            "two-stream/yard/status": b"online",
            "two-stream/door/stays/state": b"ON",
        }
        for topic, payload in expected.items():
            wait_for(
                lambda at=topic, is_=payload: made.subscriber.retained(at) == is_,  # type: ignore[misc]
                LONG_S,
                lambda at=topic: f"{at}\n{made.bridge.log()}",  # type: ignore[misc]
            )
        assert made.subscriber.retained("homeassistant/device/two-stream_door/config")


def test_nothing_is_missing_and_order_is_kept_through_kills_of_everything() -> None:
    """Small here; ``python -m benchmarks bridges`` does it hundreds of times."""
    rng = random.Random(17)
    with world(broker={"persistent": True}, publisher={"every_s": 0.02}, retry_max_s=0.1) as made:
        made.wait(lambda: made.received())
        for number in range(4):
            victim = (made.bridge, made.broker, made.publisher)[number % 3]
            time.sleep(rng.uniform(0.1, 0.4))
            victim.kill()
            time.sleep(rng.uniform(0.0, 0.3))
            victim.start()
            if victim is made.broker:
                made.wait(lambda: made.subscriber.is_subscribed)
        made.publisher.kill()
        made.publisher.every_s = None
        made.publisher.start()
        logged = made.logged()
        made.wait(lambda: set(made.received()) >= logged, "the rest")
        kept = in_order(made.received())
        assert set(kept) == logged
        assert kept == sorted(kept)


# Evidence.


def test_a_snapshot_is_retained_until_its_file_is_removed() -> None:
    with world(snapshots=True, home_assistant={}, snapshot_max_kb=4) as made:
        made.publisher.act("start")
        made.wait(made.events)
        at, topic = made.events()[0]["id"], "two-stream/door/snapshot"
        picture = made.folder / "best.jpg"
        picture.write_bytes(b"\xff\xd8\xff" + b"picture" * 100)
        digest = hashlib.sha256(picture.read_bytes()).hexdigest()
        whole = {"id": at, "seq": 1, "kind": "snapshot", "state": "ready", "path": str(picture)}
        made.publisher.evidence(**whole, sha256=digest)
        made.wait(lambda: made.subscriber.of(topic), "the snapshot")
        assert made.subscriber.retained(topic) == picture.read_bytes()
        made.wait(lambda: made.subscriber.of("two-stream/door/evidence"), "its record")
        record = json.loads(made.subscriber.of("two-stream/door/evidence")[0])
        assert (record["id"], record["path"]) == (at, str(picture))
        # A file that is another by now, one that is too large, and one that is no picture.
        count = len(made.subscriber.of(topic))
        for part, content in enumerate((b"\xff\xd8\xffother", b"\xff\xd8\xff" * 9999, b"text"), 2):
            other = made.folder / f"{part}.jpg"
            other.write_bytes(content)
            sum_ = digest if part == 2 else hashlib.sha256(content).hexdigest()
            made.publisher.evidence(**whole | {"part": part, "path": str(other), "sha256": sum_})
        made.wait(lambda: len(made.subscriber.of("two-stream/door/evidence")) == 4, "all records")
        assert len(made.subscriber.of(topic)) == count
        for words in ("isn't the one that was announced", "larger than 4096 bytes", "no JPEG"):
            assert words in made.bridge.log()
        made.publisher.evidence(**whole | {"state": "removed"}, sha256=digest)
        made.wait(lambda: made.subscriber.of(topic)[-1] == b"", "its removal")
        assert made.subscriber.retained(topic) is None


# Cameras that go.


def test_a_camera_that_goes_is_taken_away_and_one_that_is_only_late_is_not() -> None:
    with scratch_folder() as folder, Broker(folder) as broker, Subscriber(broker.port) as hears:
        clock = HandClock()
        settings = MqttSettings.model_validate(
            {"kind": "mqtt", "broker": broker.address, "home_assistant": {}}
        )
        place = Place("home", folder, clock=clock)
        receiver = MqttReceiver(settings, place)

        def program(state: Literal["online", "offline"], *cameras: str) -> None:
            receiver.state(ProgramState(state, cameras, "2026-11-22T10:00:00.000Z"))
            receiver.idle()
            receiver.settle()

        yard = "homeassistant/device/two-stream_yard/config"
        program("online", "door", "yard")
        for minute in range(3):  # the program is away, or has only begun: nothing goes
            program("offline", "door", "yard")
            clock.sleep(61)
            receiver.idle()
            program("online", "door", *(["yard"] if minute else []))
            clock.sleep(30)
            receiver.idle()
        assert hears.retained(yard)
        receiver.close()
        # It goes while the bridge stands still; the next one knows what was announced.
        receiver = MqttReceiver(settings, place)
        program("online", "door")
        receiver.idle()
        clock.sleep(61)
        receiver.idle()
        receiver.settle()
        for topic in (yard, "two-stream/yard/status"):
            assert hears.retained(topic) is None
        assert hears.of(yard)[-1] == b""
        assert hears.retained("homeassistant/device/two-stream_door/config")
        receiver.close()


# What a broker can refuse.


def accounts(folder: Path, **users: str) -> tuple[str, ...]:
    """Lines of a broker's config that ask for a login."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "users"
    file.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
    subprocess.run(["mosquitto_passwd", "-U", str(file)], check=True)
    return ("allow_anonymous false", f"password_file {file}")


def test_a_wrong_password_is_said_never_shown_and_tried_again() -> None:
    with scratch_folder() as folder:
        lines = accounts(folder / "broker", home="right horse")
        with (
            Broker(folder / "broker", lines) as broker,
            Publisher(folder) as publisher,
            BridgeRun(
                folder / "bridge",
                publisher.endpoints,
                {
                    "kind": "mqtt", "broker": broker.address, "from": "oldest",
                    "username": "home", "password": {"env": "BROKER_PASSWORD"},
                },
                environment={"BROKER_PASSWORD": "wrong horse"},
            ) as bridge,
        ):  # fmt: skip
            publisher.act("start")
            bridge.wait_to_say("it refuses the user 'home' and its password")
            assert "wrong horse" not in bridge.log()
            bridge.kill()
            bridge.environment["BROKER_PASSWORD"] = "right horse"
            with Subscriber(broker.port, login=("home", "right horse")) as subscriber:
                bridge.start()
                wait_for(lambda: subscriber.of("two-stream/door/event"), LONG_S, bridge.log)
            assert "horse" not in bridge.log()


def test_access_rules_that_refuse_lose_nothing_once_they_are_changed() -> None:
    with scratch_folder() as folder:
        lines = accounts(folder / "broker", home="x", reader="y")
        rules = folder / "broker" / "rules"
        rules.write_text("user reader\ntopic read #\nuser home\ntopic readwrite elsewhere/#\n")
        login = {"username": "home", "password": "x"}
        with (
            Broker(folder / "broker", (*lines, f"acl_file {rules}"), persistent=True) as broker,
            Subscriber(broker.port, login=("reader", "y")) as subscriber,
            Publisher(folder) as publisher,
            BridgeRun(
                folder / "bridge",
                publisher.endpoints,
                {
                    "kind": "mqtt", "broker": broker.address, "from": "oldest",
                    "retry_max_s": 0.1, **login,
                },
            ) as bridge,
        ):  # fmt: skip
            publisher.act("start")
            bridge.wait_to_say("access rules refuse to let the user 'home' publish to 'two-stream/")
            rules.write_text("user reader\ntopic read #\nuser home\ntopic readwrite two-stream/#\n")
            broker.kill()
            broker.start()
            wait_for(lambda: subscriber.of("two-stream/door/event"), LONG_S, bridge.log)


@pytest.mark.parametrize("limit", ["max_packet_size", "message_size_limit"])
def test_what_is_too_large_for_the_broker_goes_to_the_dead_letters(limit: str) -> None:
    with world(retry_max_s=0.1) as made:
        made.broker.kill()
        made.publisher.act("start", label="я" * 60)
        made.publisher.act("start", label="y", number=2)
        sizes = [len(body) for body in read_since(made.publisher.log, 0)]
        made.broker.lines = (*made.broker.lines, f"{limit} {sizes[1] + 100}")
        assert sizes[0] > sizes[1] + 100
        made.broker.start()
        made.wait(made.events, "the event after it")
        assert [e["label"] for e in made.events()] == ["y"]
        dead = (made.folder / "bridge" / "home.dead.jsonl").read_text().splitlines()
        assert [json.loads(line)["record"]["seq"] for line in dead] == [1]
        assert any(words in dead[0] for words in ("too large", "bytes"))


def test_a_port_without_a_broker_and_a_host_without_a_port_are_said() -> None:
    with scratch_folder() as folder, Publisher(folder) as publisher:
        settings = {"kind": "mqtt", "broker": f"mqtt://127.0.0.1:{free_port()}"}
        with BridgeRun(folder / "bridge", publisher.endpoints, settings) as bridge:
            bridge.wait_to_say("Connection refused")
            assert "Traceback" not in bridge.log()
            assert bridge.stop() == 0


def test_tls_with_a_certificate_of_ones_own() -> None:
    with scratch_folder() as folder:
        at = folder / "broker"
        at.mkdir()
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                "subjectAltName=DNS:localhost", "-keyout", str(at / "key"), "-out", str(at / "crt"),
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        port = free_port()
        tls = (
            "allow_anonymous true", f"certfile {at}/crt", f"keyfile {at}/key",
            f"listener {free_port()} 127.0.0.1",
        )  # fmt: skip
        with Broker(at, tls, port=port) as broker, Publisher(folder) as publisher:
            plain = int(tls[-1].split()[1])
            settings = {
                "kind": "mqtt", "broker": f"mqtts://localhost:{broker.port}", "from": "oldest",
                "protocol": "3.1.1", "retry_max_s": 0.1,
            }  # fmt: skip
            with (
                Subscriber(plain) as subscriber,
                BridgeRun(folder / "bridge", publisher.endpoints, settings) as bridge,
            ):
                bridge.wait_to_say("its certificate isn't good")
                bridge.kill()
                bridge.settings["tls"] = {"ca": str(at / "crt")}
                bridge.start()
                publisher.act("start")
                wait_for(lambda: subscriber.of("two-stream/door/event"), LONG_S, bridge.log)
