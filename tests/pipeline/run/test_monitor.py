"""Health, and the server that shows it: what it answers, and what clients can't do to it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

import pytest

from pipeline.clock import SYSTEM_CLOCK
from pipeline.errors import EXIT_USAGE, StartupError
from pipeline.run.monitor import server as server_module
from pipeline.run.monitor.server import MOST_CLIENTS, MonitorServer, Page
from pipeline.run.outputs.monitor import Monitor
from testbed.program import free_port
from tests.pipeline.run.watched import Watched

LARGE = b"x" * (8 << 20)


def failing(_accept: str) -> Page:
    raise RuntimeError("of the page's own")


@pytest.fixture
def port() -> Iterator[int]:
    number = free_port()
    pages = {
        "/": lambda _accept: Page(b"index\n"),
        "/large": lambda _accept: Page(LARGE),
        "/bad": lambda _accept: Page(b"no\n", status=HTTPStatus.SERVICE_UNAVAILABLE),
        "/failing": failing,
    }
    running = MonitorServer(f"127.0.0.1:{number}", pages, SYSTEM_CLOCK)
    yield number
    running.close()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_pages_and_their_status(port: int) -> None:
    assert ask(port, "/")[::2] == (200, b"index\n")
    assert ask(port, "/?why=not")[0] == 200
    assert ask(port, "/bad")[::2] == (503, b"no\n")
    status, _, body = ask(port, "/nothing")
    assert (status, body) == (404, b"not found; there are /, /large, /bad, /failing\n")
    for path in ("/index.html", "/%00", "/../etc/passwd", "/bad/"):
        assert ask(port, path)[0] == 404


def test_head_and_other_methods(port: int) -> None:
    status, headers, body = ask(port, "/large", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(LARGE)), b"")
    assert ask(port, "/nothing", "HEAD")[::2] == (404, b"")
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        status, headers, _ = ask(port, "/", method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert ask(port, "/", "BREW")[0] == 501


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x00\xff\r\n",  # TLS
        b"GET /" + b"a" * 70_000,
        b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
    ],
)
def test_nonsense_harms_nobody(port: int, sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        try:
            while client.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert ask(port, "/")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_page_that_fails_is_logged_in_a_line(
    port: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(http.client.HTTPException):
        ask(port, "/failing")
    assert ask(port, "/")[0] == 200
    assert "metrics: a request failed: RuntimeError: of the page's own" in caplog.text
    assert "Traceback" not in capfd.readouterr().err + caplog.text


def drip(client: socket.socket, seconds: float) -> None:
    """Send a byte a moment."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.sendall(b"G")
        time.sleep(0.05)


@pytest.mark.slow
def test_slow_clients_are_cut_off_and_keep_nobody_out(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LONGEST_S", 2.0)
    with ExitStack() as held:
        slow = [
            held.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            for _ in range(3 * MOST_CLIENTS)
        ]
        for number, client in enumerate(slow):
            if number % 3 == 0:  # ask, and don't read
                client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
            elif number % 3 == 1:
                client.sendall(b"GET / HT")
        assert ask(port, "/")[0] == 200
        assert threading.active_count() < 2 * MOST_CLIENTS
        # One byte a moment never lets a read time out, but the client's time is up all the same.
        dripping = held.enter_context(socket.create_connection(("127.0.0.1", port), 30))
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            drip(dripping, 60)
        assert ask(port, "/")[0] == 200


@pytest.mark.slow
def test_many_clients_at_once_are_served(port: int) -> None:
    answers: list[int] = []

    def many() -> None:
        for _ in range(40):
            answers.append(ask(port, "/")[0])

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 320


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_taken_port_is_one_line_and_a_usage_error(host: str) -> None:
    if host == "[::1]" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    address = f"{host}:{free_port()}"
    running = MonitorServer(address, {}, SYSTEM_CLOCK)
    try:
        with pytest.raises(
            StartupError, match=r"supervisor.metrics: can't serve at .* in use; "
        ) as e:
            MonitorServer(address, {}, SYSTEM_CLOCK)
        assert e.value.exit_code == EXIT_USAGE
        assert "\n" not in str(e.value)
    finally:
        running.close()
    MonitorServer(address, {}, SYSTEM_CLOCK).close()


def test_a_host_that_is_not_this_machine_is_one_line() -> None:
    with pytest.raises(StartupError, match=r"supervisor.metrics: can't serve at 192.0.2.1:9108: "):
        MonitorServer("192.0.2.1:9108", {}, SYSTEM_CLOCK)


def told(reasons: list[str]) -> str:
    return "; ".join(reasons)


def test_ready_when_events_can_come_of_a_camera() -> None:
    run = Watched()
    assert told(run.health.ready()) == (
        "flow:0 is not ready; spatial is not ready; temporal is not ready; fusion is not ready; "
        "publish is not ready; no camera is up: c0 is connecting, c1 is connecting"
    )
    for stage in run.stages.values():
        stage.ready = True
    run.report("c0", "offline")
    run.report("c1", "online")
    run.turn()
    assert run.health.ready() == []
    run.stages["capture:c0"].ready = False  # the other camera goes on
    run.turn()
    assert run.health.ready() == []
    run.stages["spatial"].ready = False
    run.turn()
    assert told(run.health.ready()) == "spatial is not ready"
    run.stages["spatial"].ready = True
    run.report("c1", "unauthorised")
    run.turn()
    assert told(run.health.ready()) == "no camera is up: c0 is offline, c1 is unauthorised"


def test_alive_while_the_supervisors_loop_turns() -> None:
    run = Watched(supervisor={"hang_s": 3})
    run.clock.sleep(2.9)
    assert run.health.alive() == []
    run.clock.sleep(1)
    assert told(run.health.alive()) == "the supervisor's loop has not turned for 3.9 s"
    assert "the supervisor's loop has not turned" in told(run.health.ready())
    run.turn()
    assert run.health.alive() == []


def test_the_monitors_pages() -> None:
    number = free_port()
    run = Watched(supervisor={"metrics": f"127.0.0.1:{number}"})
    monitor = Monitor(None, run.view, run.clock)
    try:

        def verdict(path: str) -> tuple[int, Any]:
            status, headers, body = ask(number, path)
            assert headers["Content-Type"] == "application/json"
            assert body.count(b"\n") == 1
            return status, json.loads(body)

        assert verdict("/healthz") == (200, {"alive": True, "reasons": []})
        status, body = verdict("/readyz")
        assert (status, body["ready"]) == (503, False)
        assert body["reasons"][-1] == "no camera is up: c0 is connecting, c1 is connecting"
        for stage in run.stages.values():
            stage.ready = True
        run.report("c0", "online")
        run.clock.sleep(60)
        assert verdict("/healthz")[0] == 503
        monitor.tick()
        assert verdict("/healthz")[0] == 200
        assert verdict("/readyz") == (200, {"ready": True, "reasons": []})
        status, headers, body = ask(number, "/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=")
        assert b'two_stream_camera_up{camera="c0"} 1.0' in body
        assert b"process_start_time_seconds" in body
        index = ask(number, "/")[2].decode()
        assert all(path in index for path in ("/metrics", "/healthz", "/readyz"))
        assert ask(number, "/metrics/x")[0] == 404
    finally:
        monitor.close()
