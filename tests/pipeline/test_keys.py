"""Keys: made once, read by nobody else, accepted until revoked."""

import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from typer.testing import CliRunner

from pipeline.errors import KeysError
from pipeline.keys import app
from pipeline.public.access import entries
from pipeline.public.key_folder import ClientKeys, KeyFolder, read_client_keys
from pipeline.transport.bus import Bus
from pipeline.transport.zap import new_key_pair


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_files_that_nobody_else_can_read(tmp_path: Path) -> None:
    os.umask(0o022)
    folder = KeyFolder(tmp_path / "keys")
    issued = folder.new("hall-display")
    assert mode_of(folder.path) == 0o700
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {mode_of(path) for path in files} == {0o600}
    client, server = read_client_keys(issued), folder.server()
    assert client.name == "hall-display"
    assert client.server == server.public
    assert folder.allowed() == {client.public: "hall-display"}
    assert client.secret not in (folder.path / "clients/hall-display.json").read_text()
    folder.new("roof")
    assert folder.server() == server
    assert sorted(folder.allowed().values()) == ["hall-display", "roof"]


def test_a_name_is_taken_once_and_free_again_when_revoked(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    before = read_client_keys(folder.new("roof"))
    with pytest.raises(KeysError, match="roof has keys already"):
        folder.new("roof")
    folder.revoke("roof")
    assert folder.allowed() == {}
    with pytest.raises(KeysError, match=f"roof has no keys in {tmp_path}; clients with keys: none"):
        folder.revoke("roof")
    assert read_client_keys(folder.new("roof")).public != before.public


@pytest.mark.parametrize("name", ["", "../roof", "a/b", ".hidden", "x" * 65, "a b", "a\n"])
def test_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeysError, match="can't be a client's name"):
        KeyFolder(tmp_path / "keys").new(name)
    assert not list(tmp_path.iterdir())


def test_what_others_can_read_is_refused(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    issued = folder.new("roof")
    for path, read in ((issued, lambda: read_client_keys(issued)), (None, folder.server)):
        (path or tmp_path / "server.json").chmod(0o640)
        with pytest.raises(KeysError, match=r"others may read it \(mode 640\); run `chmod 600"):
            read()


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", b'{"public": "mArKeD"}', b"[" * 9000])
def test_damaged_files_are_named_and_not_repeated(tmp_path: Path, damage: bytes) -> None:
    folder = KeyFolder(tmp_path)
    issued = folder.new("roof")
    folder.new("hall")
    for path in (issued, tmp_path / "server.json", tmp_path / "clients/roof.json"):
        path.write_bytes(damage)
    with pytest.raises(KeysError, match=f"^{issued}: it isn't a key file of this program$"):
        read_client_keys(issued)
    with pytest.raises(KeysError, match="it isn't a key file of this program"):
        folder.server()
    assert list(folder.allowed().values()) == ["hall"]
    with pytest.raises(KeysError, match="No such file"):
        read_client_keys(tmp_path / "none.key")


def test_the_command_line(tmp_path: Path) -> None:
    folder = ["--folder", str(tmp_path / "keys")]
    runner = CliRunner()
    made = runner.invoke(app, ["new", "roof", *folder])
    assert made.exit_code == 0
    keys = read_client_keys(Path(made.stdout.strip()))
    listed = runner.invoke(app, ["list", *folder])
    assert "roof" in listed.stdout
    assert keys.public in listed.stdout
    assert keys.secret not in made.output + listed.output
    again = runner.invoke(app, ["new", "roof", *folder])
    assert again.exit_code == 2
    assert again.stderr.startswith("error: roof has keys already")
    assert runner.invoke(app, ["revoke", "roof", *folder]).exit_code == 0
    assert "roof" not in runner.invoke(app, ["list", *folder]).stdout
    assert runner.invoke(app, ["revoke", "roof", *folder]).exit_code == 2


def test_each_change_of_a_key_folder_is_noticed(tmp_path: Path) -> None:
    """Also two within the resolution of the folder's time, and a file written again in place."""
    folder = KeyFolder(tmp_path)
    folder.new("roof")
    clients, seen = tmp_path / "clients", []
    seen.append(entries(clients))
    folder.new("hall")
    seen.append(entries(clients))
    folder.revoke("roof")
    about = clients.stat()
    os.utime(clients, ns=(about.st_atime_ns, 0))
    seen.append(entries(clients))
    path = clients / "hall.json"
    path.write_bytes(path.read_bytes())
    seen.append(entries(clients))
    assert entries(clients) == seen[-1]
    assert len(set(seen)) == 4
    assert entries(tmp_path / "none") == frozenset()


class Guarded:
    """A publisher that requires keys, and its listeners."""

    def __init__(self, tmp_path: Path) -> None:
        self.keys = KeyFolder(tmp_path / "keys")
        self.good = read_client_keys(self.keys.new("good"))
        self.bus = Bus(tmp_path, lossless=False)
        server = self.keys.server()
        self.authenticator = self.bus.authenticator(
            (server.public, server.secret), lambda public: self.keys.allowed().get(public)
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.endpoint = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self.publisher = self.bus.public_publisher(self.endpoint, self.authenticator)
        self.context = zmq.Context()

    def listen(self, keys: ClientKeys | None) -> "zmq.Socket[bytes]":
        listener = self.context.socket(zmq.SUB)
        if keys is not None:
            listener.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
            listener.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
            listener.setsockopt(zmq.CURVE_SERVERKEY, keys.server.encode())
        listener.setsockopt(zmq.SUBSCRIBE, b"")
        listener.connect(self.endpoint)
        return listener

    def hears(self, listener: "zmq.Socket[bytes]", seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.publisher.send("action/door/left/", b"{}")
            self.bus.poll(0.01)
            if listener.poll(10):
                while listener.poll(0):
                    listener.recv_multipart()
                return True
        return False

    def close(self) -> None:
        self.context.destroy(linger=0)
        self.bus.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_strangers_hear_nothing_and_are_logged_once(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        public, secret = new_key_pair()
        stranger = ClientKeys(name="x", public=public, secret=secret, server=guarded.good.server)
        elsewhere = msgspec.structs.replace(guarded.good, server=new_key_pair()[0])
        good = guarded.listen(guarded.good)
        assert guarded.hears(good, 5.0)
        for keys in (None, stranger, elsewhere):
            assert not guarded.hears(guarded.listen(keys), 1.0)
        assert guarded.hears(good, 5.0)
    assert guarded.authenticator.refused >= 3
    told = [record.getMessage() for record in caplog.records]
    assert sorted(told) == [
        "a client was refused: it has no key, or expects another server",
        "a client was refused: its key isn't known here (at 127.0.0.1)",
    ]
    assert secret not in "".join(told)


@pytest.mark.slow
def test_who_is_revoked_is_turned_out_and_the_others_come_back(guarded: Guarded) -> None:
    other = read_client_keys(guarded.keys.new("other"))
    good, revoked = guarded.listen(guarded.good), guarded.listen(other)
    assert guarded.hears(good, 5.0)
    assert guarded.hears(revoked, 5.0)
    guarded.keys.revoke("other")
    guarded.authenticator.disconnect_all()
    while revoked.poll(200):
        revoked.recv_multipart()
    assert not guarded.hears(revoked, 1.5)
    assert guarded.hears(good, 5.0)


def test_our_own_processes_need_no_key(guarded: Guarded) -> None:
    own = guarded.bus.public_subscriber(["action"])
    deadline = time.monotonic() + 5
    while not own.drain():
        assert time.monotonic() < deadline
        guarded.publisher.send("action/door/left/", b"{}")
        guarded.bus.poll(0.01)
