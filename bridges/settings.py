"""The settings of bridges: what they have in common, and how a file's `bridges:` is read.

A file either is the program's own config, whose sockets the bridges then connect to, or holds only
``bridges:`` and ``connect:``.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)

from bridges.records import Record
from pipeline.client import DEFAULT_EVENTS, DEFAULT_REPLAY
from pipeline.config import loading, wording, yaml_file
from pipeline.config.paths import LocalPath, at_home, path_problem, plain_key
from pipeline.config.schema import CameraName, Config, is_loopback
from pipeline.config.section import Section
from pipeline.config.suggestion import did_you_mean
from pipeline.errors import ConfigError, os_reason
from pipeline.model.labels import Label
from pipeline.program import command
from pipeline.public.records import Event
from pipeline.transport.messages import EvidenceKind

_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+):([0-9]{1,5})|ipc://.+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_LONGEST_SECRET = 16_384


def _secret(value: object, info: ValidationInfo) -> object:
    """The secret itself, or where it is: ``{env: NAME}``, ``{file: PATH}``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or next(iter(value)) not in ("env", "file"):
        raise ValueError("write the text itself, or {env: NAME}, or {file: PATH}")
    ((where, name),) = value.items()
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}: it must be a text")
    if where == "env":
        text = os.environ.get(name, "")
        if not text:
            raise ValueError(f"the environment variable {plain_key(name)} isn't set, or is empty")
        return text
    if reason := path_problem(name):
        raise ValueError(f"file: {reason}")
    path = (info.context or {}).get("folder", Path()) / at_home(Path(name))
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LONGEST_SECRET).strip()
    except OSError as error:
        raise ValueError(f"file {path}: {os_reason(error)}") from None
    except UnicodeDecodeError:
        raise ValueError(f"file {path}: it isn't text in UTF-8") from None
    if not text:
        raise ValueError(f"file {path}: it is empty")
    return text


Secret = Annotated[SecretStr, BeforeValidator(_secret)]
"""A text that is never shown; in a config also ``{env: NAME}`` or ``{file: PATH}``."""


class Connect(Section):
    """The program's public sockets."""

    events: str | None = Field(default=None, description="PUB socket, its publish.events")
    replay: str | None = Field(default=None, description="ROUTER socket, its publish.replay")
    key: LocalPath | None = Field(
        default=None, description="key file that was made for this bridge, where the program asks"
    )

    @field_validator("events", "replay")
    @classmethod
    def _endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        match = _ENDPOINT.fullmatch(endpoint)
        if match is None or (match[2] is not None and not 0 < int(match[2]) < 65536):
            raise ValueError("must look like tcp://127.0.0.1:5555 or ipc:///path")
        path = endpoint.removeprefix("ipc://")
        return endpoint if path == endpoint else f"ipc://{at_home(path)}"

    def over(self, other: "Connect") -> "Connect":
        """What is given here, and the rest from ``other``."""
        given = {name: value for name, value in self if value is not None}
        return other.model_copy(update=given)


class BridgeSettings(Section):
    """What every bridge can be told."""

    kind: str = Field(description="file, webhook, notify or mqtt")
    connect: Connect = Connect()
    begin: Literal["now", "oldest"] = Field(
        default="now",
        alias="from",
        description="where a new bridge begins: with what comes next, or at the oldest event that "
        "the log still has",
    )
    cameras: list[CameraName] | None = Field(
        default=None, min_length=1, description="only these; default: all"
    )
    labels: list[Label] | None = Field(
        default=None, min_length=1, description="only these; default: all"
    )
    types: list[Literal["start", "update", "end"]] | None = Field(
        default=None, min_length=1, description="only these types of events; default: all"
    )
    evidence: list[EvidenceKind] | None = Field(
        default=None, description="only these kinds of evidence, [] for none; default: all"
    )
    cursor: LocalPath | None = Field(
        default=None,
        description="file that remembers what was sent; default: NAME.cursor beside the event log, "
        "or beside the config where it names no log",
    )
    metrics: str | None = Field(
        default=None, description="host:port of the bridge's metrics, on this machine alone"
    )
    retry_max_s: float = Field(
        default=60.0, gt=0, le=3600, description="longest pause before the next try"
    )

    @field_validator("metrics")
    @classmethod
    def _host_port(cls, value: str | None) -> str | None:
        if value is None:
            return None
        host, _, port = value.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65536 or not is_loopback(host):
            raise ValueError("must be a loopback address and a port, for example 127.0.0.1:9110")
        return value

    def wants(self, record: Record) -> bool:
        """Whether the filters let the record pass."""
        if self.cameras is not None and record.camera not in self.cameras:
            return False
        if self.labels is not None and record.label not in self.labels:
            return False
        if isinstance(record, Event):
            return self.types is None or record.type in self.types
        return self.evidence is None or record.kind in self.evidence


class Bridge(NamedTuple):
    """One bridge of a file, ready to run."""

    name: str
    settings: BridgeSettings
    events: str
    replay: str
    key: Path | None
    cursor: Path


class Bridges(NamedTuple):
    """All bridges of a file, and what its user should know."""

    by_name: dict[str, Bridge]
    warnings: tuple[str, ...]


SettingsOf = Mapping[str, "type[BridgeSettings]"]
"""Kind → its settings."""


class _Around(NamedTuple):
    """What a file says beside the bridges themselves."""

    connect: Connect
    bridges: dict[str, dict[str, Any]]
    log: Path | None = None
    """The program's event log."""
    cameras: frozenset[str] = frozenset()
    """The program's cameras; none: they aren't known here."""
    asks_for_key: bool = False


class _OwnFile(Section):
    """A file for bridges alone."""

    connect: Connect = Connect()
    bridges: dict[str, dict[str, Any]] = Field(default_factory=dict)


def load(path: Path, kinds: SettingsOf) -> Bridges:
    """The bridges of a file; raises :class:`ConfigError` with one line for each problem."""
    document = yaml_file.read(path, "bridges")
    folder = path.resolve().parent
    is_own = not document.data.keys() - {"connect", "bridges"}
    around = _own(document, path) if is_own else _from_program(path)
    connect, log, section = around.connect, around.log, around.bridges
    problems: list[str] = []
    found, warnings = {}, []
    if not section:
        problems.append(f"{path}: it has no bridges; write them below `bridges:`, each by its name")
    for name, data in section.items():
        settings = _checked(name, data, document, path, kinds, problems)
        if settings is None:
            continue
        settings = _from_folder(settings, folder)
        ends = settings.connect.over(_from_folder(connect, folder))
        cursor = settings.cursor or (log.parent if log else folder) / f"{name}.cursor"
        problems += [
            f"{path}: bridges.{name}.cameras: there is no camera {camera}"
            + did_you_mean(camera, around.cameras)
            for camera in settings.cameras or ()
            if around.cameras and camera not in around.cameras
        ]
        if around.asks_for_key and ends.key is None:
            problems.append(
                f"{path}: bridges.{name}.connect.key: missing; publish.keys lets only clients with "
                f"keys in; make one: {command('keys')} new {name}"
            )
        found[name] = Bridge(
            name, settings, ends.events or DEFAULT_EVENTS, ends.replay or DEFAULT_REPLAY,
            ends.key, cursor,
        )  # fmt: skip
    problems += _shared(found, path)
    if problems:
        raise ConfigError("\n".join(problems))
    if not is_own and log is None:
        warnings.append(
            "events.log isn't set: the event log is deleted when the program ends, and what a "
            "bridge hasn't sent by then is lost; name a file"
        )
    return Bridges(found, tuple(warnings))


def _own(document: yaml_file.Document, path: Path) -> _Around:
    try:
        own = _OwnFile.model_validate(document.data)
    except ValidationError as error:
        lines = wording.lines(error, str(path), _OwnFile, document.places)
        raise ConfigError("\n".join(lines)) from None
    return _Around(own.connect, own.bridges)


def _from_program(path: Path) -> _Around:
    config: Config = loading.load(path)
    ends = config.publish
    connect = Connect(events=_reached(ends.events), replay=_reached(ends.replay))
    return _Around(
        connect, config.bridges, config.events.log, frozenset(config.cameras), ends.keys is not None
    )


def _reached(endpoint: str) -> str:
    """Where to connect to what is bound to ``endpoint``: all of the machine includes loopback."""
    for everywhere, here in (("*", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")):
        endpoint = endpoint.replace(f"tcp://{everywhere}:", f"tcp://{here}:")
    return endpoint


def _checked(
    name: str,
    data: Any,
    document: yaml_file.Document,
    path: Path,
    kinds: SettingsOf,
    problems: list[str],
) -> BridgeSettings | None:
    at = ("bridges", name)
    where = f"{wording.located(str(path), at, document.places)}: bridges.{plain_key(name)}"
    if not _NAME.fullmatch(name):
        problems.append(
            f"{where}: a bridge's name has 1 to 32 characters: letters (A to Z, a to z), digits, "
            "'_' and '-'; the first is a letter or a digit"
        )
        return None
    kind = data.get("kind")
    model = kinds.get(kind) if isinstance(kind, str) else None
    if model is None:
        known = ", ".join(sorted(kinds))
        if kind is None:
            problems.append(f"{where}.kind: missing; there are {known}")
        else:
            start = wording.located(str(path), (*at, "kind"), document.places)
            likely = did_you_mean(kind, kinds) if isinstance(kind, str) else ""
            problems.append(
                f"{start}: bridges.{name}.kind: there is no such kind; there are {known}{likely}"
            )
        return None
    # One bridge at a time, in a place like that in the file, so that messages have its whole path.
    around = create_model("_Whole", __base__=Section, bridges=(dict[str, model], ...))  # type: ignore[valid-type]
    try:
        whole: Any = around.model_validate(
            {"bridges": {name: data}}, context={"folder": path.resolve().parent}
        )
    except ValidationError as error:
        problems += wording.lines(error, str(path), around, document.places)
        return None
    found: BridgeSettings = whole.bridges[name]
    return found


def _shared(found: Mapping[str, Bridge], path: Path) -> list[str]:
    """Two bridges with one cursor would each undo what the other remembers."""
    owners: dict[Path, str] = {}
    problems = []
    for name, bridge in found.items():
        other = owners.setdefault(bridge.cursor.absolute(), name)
        if other != name:
            problems.append(f"{path}: bridges.{name}.cursor: it is that of bridges.{other}, too")
    return problems


_Model = TypeVar("_Model", bound=Section)


def _from_folder(section: _Model, folder: Path) -> _Model:
    """Relative paths of a config start from the folder that it is in."""
    update: dict[str, Any] = {}
    for name, value in section:
        if isinstance(value, Path):
            update[name] = folder / value
        elif isinstance(value, Section):
            update[name] = _from_folder(value, folder)
    return section.model_copy(update=update) if update else section
