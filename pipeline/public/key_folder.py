"""The key folder: the server's keys, and the clients that may connect from other machines.

A folder holds the server's key pair and the public key of each client that is let in. Keys are
Curve25519 (CurveZMQ, https://rfc.zeromq.org/spec/26), written in Z85. What a client needs is in one
file, which is made once and carried to it.
"""

import logging
import os
import re
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from pipeline.clock import SYSTEM_CLOCK, isoformat
from pipeline.errors import KeysError
from pipeline.transport.zap import new_key_pair

SERVER_FILE, CLIENTS, ISSUED = "server.json", "clients", "issued"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_BYTES = 10_000

Z85Key = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}$")]


class ServerKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server's pair."""

    public: Z85Key
    secret: Z85Key


class AllowedClient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the server keeps of a client."""

    public: Z85Key
    since: str


class ClientKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client needs: its own pair, and the key by which it knows the server."""

    name: str
    public: Z85Key
    secret: Z85Key
    server: Z85Key


log = logging.getLogger(__name__)

_Kind = TypeVar("_Kind", ServerKeys, AllowedClient, ClientKeys)


class KeyFolder:
    """The server's side: ``server.json``, ``clients/NAME.json``, ``issued/NAME.key``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def server(self) -> ServerKeys:
        """The server's pair; raises :class:`KeysError`, also when others could read it."""
        path = self.path / SERVER_FILE
        if not path.exists():
            raise KeysError(
                f"{path}: there are no keys; make them with "
                f"`python -m pipeline.keys new NAME --folder {self.path}`"
            )
        return _read(path, ServerKeys)

    def allowed(self) -> dict[str, str]:
        """Public key → name of each client that is let in now; a file that is damaged lets none."""
        found = {}
        for path in sorted((self.path / CLIENTS).glob("*.json")):
            try:
                found[_read(path, AllowedClient, secret=False).public] = path.stem
            except KeysError as error:
                log.warning("%s; nobody is let in by it", error)
        return found

    def new(self, name: str) -> Path:
        """Keys of a new client, and the server's at first; returns the file to be carried."""
        if not _NAME.fullmatch(name):
            raise KeysError(f"{name!r} can't be a client's name: letters, digits, '_', '.' and '-'")
        for folder in (self.path, self.path / CLIENTS, self.path / ISSUED):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.path / SERVER_FILE).exists():
            public, secret = new_key_pair()
            _write(self.path / SERVER_FILE, ServerKeys(public=public, secret=secret))
        server = self.server().public
        entry, issued = self._entry(name), self.path / ISSUED / f"{name}.key"
        if entry.exists() or issued.exists():
            raise KeysError(f"{name} has keys already; revoke them first, or take another name")
        public, secret = new_key_pair()
        _write(issued, ClientKeys(name=name, public=public, secret=secret, server=server))
        # Last: from now on it is let in.
        since = isoformat(SYSTEM_CLOCK.wall_ns())
        _write(entry, AllowedClient(public=public, since=since))
        return issued

    def revoke(self, name: str) -> None:
        """Let a client in no more; a running program notices within a second."""
        try:
            self._entry(name).unlink()
        except FileNotFoundError:
            there = ", ".join(sorted(p.stem for p in (self.path / CLIENTS).glob("*.json")))
            raise KeysError(f"{name} has no keys here; there are: {there or 'none'}") from None
        (self.path / ISSUED / f"{name}.key").unlink(missing_ok=True)

    def entries(self) -> list[tuple[str, AllowedClient]]:
        """(name, what is kept of it) of each client that is let in."""
        paths = sorted((self.path / CLIENTS).glob("*.json"))
        return [(path.stem, _read(path, AllowedClient, secret=False)) for path in paths]

    def _entry(self, name: str) -> Path:
        return self.path / CLIENTS / f"{Path(name).name}.json"


def read_client_keys(path: Path) -> ClientKeys:
    """A client's key file; raises :class:`KeysError`, also when others could read it."""
    return _read(path, ClientKeys)


def _read(path: Path, kind: type[_Kind], *, secret: bool = True) -> _Kind:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read(_MAX_BYTES)
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from None
    if secret and mode & 0o077:
        raise KeysError(f"{path}: others may read it (mode {mode:o}); run `chmod 600 {path}`")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Not its words: they might repeat a part of a key.
        raise KeysError(f"{path}: is no key file of this program") from None


def _write(path: Path, keys: ServerKeys | AllowedClient | ClientKeys) -> None:
    """A new file, whole or not at all, that nobody else may read."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(keys) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
