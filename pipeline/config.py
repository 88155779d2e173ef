"""Config: one validated object per run, loaded from YAML.

Unknown keys and bad values are refused with the key's path, the value and what would be right.
Every section has defaults that suit a small machine, so an empty file runs the demo camera.
"""

import ipaddress
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline import flow
from pipeline.errors import ConfigError
from pipeline.model.pack import Threshold
from pipeline.sources.base import is_file, redact

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_MODEL = PROJECT / "models" / "gestures"

CameraName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CameraConfig(Section):
    """One camera: where its frames come from and how they are asked for."""

    source: str = Field(
        default="demo",
        min_length=1,
        coerce_numbers_to_str=True,  # `source: 0` is the natural way to write the first webcam
        description="demo, demo:SEED, a webcam (0 or /dev/video0), rtsp://, http://, "
        "a video file or a folder of images",
    )
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="RTSP transport")
    loop: bool = Field(default=False, description="start a file again when it ends")
    width: int | None = Field(default=None, ge=16, le=7680, description="demo and webcam only")
    height: int | None = Field(default=None, ge=16, le=4320, description="demo and webcam only")
    fps: float | None = Field(default=None, gt=0, le=240, description="demo, webcam, images")
    open_timeout_s: float = Field(default=5.0, gt=0, le=60)
    read_timeout_s: float = Field(default=5.0, gt=0, le=60)
    retry_max_s: float = Field(default=10.0, gt=0, le=3600, description="longest wait to retry")
    login_retry_max_s: float = Field(
        default=300.0, gt=0, le=86_400, description="the same, where the camera refuses the login"
    )
    frozen_s: float = Field(
        default=10.0, ge=0, le=3600, description="the same picture for so long is frozen; 0: never"
    )
    gap_s: float = Field(
        default=0.6, gt=0, le=60, description="a longer silence between frames starts a new segment"
    )


class FlowConfig(Section):
    method: str | None = Field(default=None, description="default: the pack's own")
    workers: int = Field(default=1, ge=1, le=64, description="flow processes; cameras are sharded")

    @field_validator("method")
    @classmethod
    def _known(cls, method: str | None) -> str | None:
        if method is not None and method not in flow.METHODS:
            raise ValueError(f"there are {', '.join(sorted(flow.METHODS))}")
        return method


class EventConfig(Section):
    """When events start and end, and where they are kept."""

    thresholds: dict[str, Threshold] = Field(
        default_factory=dict, description="per label; what is given here replaces the pack's"
    )
    update_every_s: float = Field(default=1.0, gt=0, le=3600)
    log: Path | None = Field(
        default=None, description="SQLite file; by default one that goes when the run ends"
    )
    keep_days: float | None = Field(
        default=None, gt=0, le=36_500, description="older events are taken out of the log"
    )
    keep_mb: float | None = Field(
        default=None, ge=1, description="the oldest events are taken out of a log that is larger"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class PublishConfig(Section):
    """The public sockets."""

    keys: Path | None = Field(
        default=None,
        description="folder of python -m pipeline.keys: only clients with a key are let in",
    )
    events: str = Field(default="tcp://127.0.0.1:5555", description="PUB: events and status")
    replay: str = Field(default="tcp://127.0.0.1:5556", description="ROUTER: snapshot, replay")
    scores: bool = Field(default=False, description="also publish score/<camera>/ at every step")

    @field_validator("events", "replay")
    @classmethod
    def _endpoint(cls, endpoint: str, given: ValidationInfo) -> str:
        if endpoint.startswith("ipc://") and len(endpoint) > len("ipc://"):
            return endpoint
        parts = urlsplit(endpoint)
        try:
            port = parts.port
        except ValueError:
            port = None
        # Port 0 would be one that nobody knows.
        if parts.scheme != "tcp" or not parts.hostname or not port:
            raise ValueError("must look like tcp://127.0.0.1:5555 or ipc:///path")
        if not _is_loopback(parts.hostname) and given.data.get("keys") is None:
            raise ValueError(
                "binds beyond this machine, where anyone could listen; either bind to 127.0.0.1 "
                "and carry events on through a tunnel or a broker of your own, or make keys "
                "(python -m pipeline.keys new NAME) and name their folder in publish.keys"
            )
        return endpoint

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.events == self.replay:
            raise ValueError(f"events and replay both name {self.events}; they need one each")
        return self


class RuntimeConfig(Section):
    """How the stages share the machine."""

    delivery: Literal["live", "lossless"] = Field(
        default="live", description="live: newest wins; lossless: files, every step, repeatable"
    )
    gather_ms: float = Field(
        default=35.0,
        ge=0,
        le=1000,
        description="live: how long one camera's step waits for those of the others, so that "
        "networks take them together; 0: not at all",
    )
    latency_ms: float = Field(
        default=200.0,
        ge=0,
        le=60_000,
        description="live: when steps take longer than this to be scored, less of each is done "
        "(status/_governor/ says what); 0: never",
    )
    ring_slots: int = Field(default=8, ge=3, le=1024, description="frames in each rolling buffer")
    threads: int = Field(default=1, ge=1, le=64, description="threads a network may use")
    providers: list[str] = Field(
        default_factory=list, description="onnxruntime providers; default: the best there are"
    )
    run_dir: Path | None = Field(default=None, description="where private sockets are made")
    record: Path | None = Field(
        default=None, description="new folder for what --replay needs to decide all again"
    )


class SupervisorConfig(Section):
    heartbeat_s: float = Field(default=0.5, gt=0, le=60)
    hang_s: float = Field(default=5.0, gt=0, le=600, description="silence that counts as hung")
    stall_s: float = Field(
        default=2.0, gt=0, le=600, description="silence of a camera that is reported as stalled"
    )
    memory_mb: int = Field(
        default=4096, ge=16, description="a stage that takes more is started again"
    )
    ready_s: float = Field(default=60.0, gt=0, le=3600, description="longest start of a stage")
    restarts: int = Field(default=5, ge=0, le=1000, description="allowed within restart_window_s")
    restart_window_s: float = Field(default=60.0, gt=0)
    stop_s: float = Field(default=5.0, gt=0.5, le=60, description="longest clean stop")
    first_source_s: Seconds = Field(
        default=30.0, description="give up (exit 3) when no source opened by then; 0: never"
    )
    metrics: str | None = Field(
        default=None, description="host:port for Prometheus, for example 127.0.0.1:9108"
    )

    @field_validator("metrics")
    @classmethod
    def _host_port(cls, value: str | None) -> str | None:
        if value is None:
            return None
        host, _, port = value.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65536 or not _is_loopback(host):
            raise ValueError("must be a loopback address and a port, for example 127.0.0.1:9108")
        return value


class Config(Section):
    """Everything a run needs to know."""

    cameras: dict[CameraName, CameraConfig] = Field(
        default_factory=lambda: {"demo": CameraConfig()}, min_length=1, max_length=256
    )
    model: Path = Field(
        default=DEFAULT_MODEL,
        description="the pack's folder; by default models/gestures beside the program",
        # The schema is the same wherever the program lies.
        json_schema_extra={"default": "models/gestures"},
    )
    flow: FlowConfig = FlowConfig()
    events: EventConfig = EventConfig()
    publish: PublishConfig = PublishConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    supervisor: SupervisorConfig = SupervisorConfig()

    @property
    def lossless(self) -> bool:
        return self.runtime.delivery == "lossless"

    @model_validator(mode="after")
    def _lossless_needs_an_end(self) -> Self:
        for name, camera in self.cameras.items():
            if self.lossless and (camera.loop or not is_file(camera.source)):
                raise ValueError(
                    f"cameras.{name}: lossless delivery is for files and folders that end, "
                    f"not for {redact(camera.source)}{' in a loop' if camera.loop else ''}"
                )
        return self


def load(path: Path) -> Config:
    """Read a YAML config; relative paths in it are taken from its folder.

    Raises :class:`ConfigError` with one line per problem.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}:" if where else ""
        raise ConfigError(f"{path}:{line} not YAML: {getattr(error, 'problem', error)}") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold keys such as 'cameras:', not {type(data).__name__}")
    return _from_folder(validate(data, origin=str(path)), path.resolve().parent)


def validate(data: dict[str, Any], origin: str = "config") -> Config:
    """A :class:`Config` from plain data; raises :class:`ConfigError` naming each bad key."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(error, origin))) from None


def json_schema() -> str:
    """The config's JSON schema, as ``configs/schema.json`` holds it."""
    return json.dumps(Config.model_json_schema(), indent=2, default=str) + "\n"


def _from_folder(config: Config, folder: Path) -> Config:
    """Relative paths of a config file mean: relative to that file."""
    cameras = {
        name: camera.model_copy(update={"source": str(folder / camera.source)})
        if is_file(camera.source)
        else camera
        for name, camera in config.cameras.items()
    }
    log = config.events.log
    events = config.events.model_copy(update={"log": folder / log if log else None})
    keys = config.publish.keys
    publish = config.publish.model_copy(update={"keys": folder / keys if keys else None})
    run_dir = config.runtime.run_dir
    record = config.runtime.record
    runtime = config.runtime.model_copy(
        update={
            "run_dir": folder / run_dir if run_dir else None,
            "record": folder / record if record else None,
        }
    )
    return config.model_copy(
        update={
            "cameras": cameras,
            "publish": publish,
            "events": events,
            "model": folder / config.model,
            "runtime": runtime,
        }
    )


def _lines(error: ValidationError, origin: str) -> list[str]:
    lines = []
    for problem in error.errors():
        where = ".".join(redact(str(part)) for part in problem["loc"] if part != "[key]")
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key{_suggestion(problem['loc'])}"
        elif problem["type"] not in ("missing", "value_error") and _is_plain(problem["input"]):
            message += f" (got {problem['input']!r})"
        lines.append(f"{origin}: {where}: {message}" if where else f"{origin}: {message}")
    return lines


def _is_plain(value: object) -> bool:
    # A URL may carry a password; nothing that looks like one is repeated.
    if isinstance(value, str):
        return "@" not in value and "://" not in value
    return isinstance(value, int | float)


def _suggestion(location: tuple[int | str, ...]) -> str:
    section: Any = Config
    for part in location[:-1]:
        fields = getattr(section, "model_fields", None)
        # What isn't a section is a mapping; its values are sections.
        section = fields[part].annotation if fields is not None else get_args(section)[-1]
    known = sorted(getattr(section, "model_fields", {}))
    return f"; known here: {', '.join(known)}" if known else ""
