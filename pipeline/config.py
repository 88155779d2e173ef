"""Config: one validated object per run, loaded from YAML.

An unknown key or a bad value is an error that names the key's path, the value and what would be
right. Every section has defaults that suit a small machine, so an empty file runs the demo camera.
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
from pipeline.model.labels import Label
from pipeline.model.pack import Threshold
from pipeline.sources.base import is_file, redact

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_MODEL = PROJECT / "models" / "gestures"

CameraName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Section(BaseModel):
    """One section of the config: it accepts no other keys and can't be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CameraConfig(Section):
    """One camera: its source, how to open it, and when it counts as frozen."""

    source: str = Field(
        default="demo",
        min_length=1,
        coerce_numbers_to_str=True,  # YAML reads `source: 0`, the first webcam, as a number
        description="demo, demo:SEED, a webcam (0 or /dev/video0), rtsp://, http://, "
        "a video file or a folder of images",
    )
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="RTSP transport")
    loop: bool = Field(default=False, description="play a file again when it ends")
    width: int | None = Field(default=None, ge=16, le=7680, description="demo and webcam only")
    height: int | None = Field(default=None, ge=16, le=4320, description="demo and webcam only")
    fps: float | None = Field(
        default=None, gt=0, le=240, description="demo, webcam and folders of images only"
    )
    open_timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="network cameras: longest wait for a connection"
    )
    read_timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="network cameras: longest wait for a frame"
    )
    retry_max_s: float = Field(
        default=10.0, gt=0, le=3600, description="longest wait before the next attempt to open it"
    )
    login_retry_max_s: float = Field(
        default=300.0, gt=0, le=86_400, description="the same while the camera refuses the login"
    )
    frozen_s: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="the camera is frozen after this long with the same picture; 0: never",
    )
    gap_s: float = Field(
        default=0.6, gt=0, le=60, description="a longer gap between frames starts a new segment"
    )


class FlowConfig(Section):
    """How optical flow is computed."""

    method: str | None = Field(default=None, description="flow method; default: the pack's own")
    workers: int = Field(
        default=1, ge=1, le=64, description="flow processes, which divide the cameras among them"
    )

    @field_validator("method")
    @classmethod
    def _known(cls, method: str | None) -> str | None:
        if method is not None and method not in flow.METHODS:
            raise ValueError(f"must be one of {', '.join(sorted(flow.METHODS))}")
        return method


class EventConfig(Section):
    """When events start and end, and where they are stored."""

    thresholds: dict[Label, Threshold] = Field(
        default_factory=dict, description="per label; these replace the pack's own"
    )
    update_every_s: float = Field(
        default=1.0, gt=0, le=3600, description="time between updates of an active event"
    )
    log: Path | None = Field(
        default=None, description="SQLite file; default: one that is deleted when the run ends"
    )
    keep_days: float | None = Field(
        default=None, gt=0, le=36_500, description="delete older events from the log"
    )
    keep_mb: float | None = Field(
        default=None, ge=1, description="delete the oldest events from a log that is larger"
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
        description="key folder made by python -m pipeline.keys; then only its clients may connect",
    )
    events: str = Field(default="tcp://127.0.0.1:5555", description="PUB: events and status")
    replay: str = Field(default="tcp://127.0.0.1:5556", description="ROUTER: snapshot, replay")
    scores: bool = Field(default=False, description="also publish score/<camera>/ for every step")

    @field_validator("events", "replay")
    @classmethod
    def _endpoint(cls, endpoint: str, info: ValidationInfo) -> str:
        if endpoint.startswith("ipc://") and len(endpoint) > len("ipc://"):
            return endpoint
        parts = urlsplit(endpoint)
        try:
            port = parts.port
        except ValueError:
            port = None
        # Port 0 means any free port: no subscriber could know which.
        if parts.scheme != "tcp" or not parts.hostname or not port:
            raise ValueError("must look like tcp://127.0.0.1:5555 or ipc:///path")
        # `keys` is declared before the endpoints, so it is already validated here.
        if not _is_loopback(parts.hostname) and info.data.get("keys") is None:
            raise ValueError(
                "binds beyond this machine, where anyone could listen; either bind to 127.0.0.1 "
                "and forward events through a tunnel or your own broker, or make keys "
                "(python -m pipeline.keys new NAME) and set publish.keys to their folder"
            )
        return endpoint

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.events == self.replay:
            raise ValueError(f"events and replay are both {self.events}; they must differ")
        return self


class RuntimeConfig(Section):
    """How the stages share the machine."""

    delivery: Literal["live", "lossless"] = Field(
        default="live",
        description="live: the newest frame wins; lossless: every step of files, repeatable",
    )
    gather_ms: float = Field(
        default=35.0,
        ge=0,
        le=1000,
        description="live: how long a camera's step waits for steps of the other cameras, so that "
        "a network runs them in one batch; 0: not at all",
    )
    latency_ms: float = Field(
        default=200.0,
        ge=0,
        le=60_000,
        description="live: target time from a frame to its scores; when steps take longer, less "
        "of each is computed (status/_governor/ reports what); 0: no target",
    )
    ring_slots: int = Field(
        default=8, ge=3, le=1024, description="frames in each ring of shared memory"
    )
    threads: int = Field(default=1, ge=1, le=64, description="threads that a network may use")
    providers: list[str] = Field(
        default_factory=list,
        description="onnxruntime providers, best first; default: the best available",
    )
    run_dir: Path | None = Field(
        default=None, description="folder in which each run makes its private folder"
    )
    record: Path | None = Field(
        default=None, description="new folder for a recording, which --replay decides again"
    )


class SupervisorConfig(Section):
    """When stages count as failed, and how often they are restarted."""

    heartbeat_s: float = Field(
        default=0.5, gt=0, le=60, description="time between the heartbeats of a stage"
    )
    hang_s: float = Field(
        default=5.0, gt=0, le=600, description="a stage without a heartbeat for this long is hung"
    )
    stall_s: float = Field(
        default=2.0, gt=0, le=600, description="a camera without a frame for this long is stalled"
    )
    memory_mb: int = Field(
        default=4096, ge=16, description="a stage that holds more memory is restarted"
    )
    ready_s: float = Field(
        default=60.0, gt=0, le=3600, description="longest time that a stage may take to start"
    )
    restarts: int = Field(
        default=5, ge=0, le=1000, description="restarts of a stage allowed in restart_window_s"
    )
    restart_window_s: float = Field(
        default=60.0, gt=0, description="time over which restarts are counted"
    )
    stop_s: float = Field(
        default=5.0, gt=0.5, le=60, description="longest clean stop; then stages are killed"
    )
    first_source_s: Seconds = Field(
        default=30.0, description="exit with code 3 when no source opened by then; 0: never"
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
    """The whole config of a run."""

    cameras: dict[CameraName, CameraConfig] = Field(
        default_factory=lambda: {"demo": CameraConfig()}, min_length=1, max_length=256
    )
    model: Path = Field(
        default=DEFAULT_MODEL,
        description="the pack's folder; by default models/gestures beside the program",
        # Without this the schema would hold the absolute path of this installation.
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
    """Read a YAML config; its relative paths start from the folder that it is in.

    Raises :class:`ConfigError` with one line per problem.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: can't be read: {reason}") from None
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
    """Make a :class:`Config` from plain data; :class:`ConfigError` names each bad key."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(error, origin))) from None


def json_schema() -> str:
    """Return the config's JSON schema: the content of ``configs/schema.json``."""
    return json.dumps(Config.model_json_schema(), indent=2, default=str) + "\n"


def _from_folder(config: Config, folder: Path) -> Config:
    """Resolve the config's relative paths against ``folder``, the config file's own."""
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
    """One line per problem: origin, key, what is wrong, and the value if it holds no secret."""
    lines = []
    for problem in error.errors():
        # pydantic ends the path with "[key]" when the key itself is bad. A key may hold a secret
        # too, when somebody writes a URL in its place.
        where = ".".join(redact(str(part)) for part in problem["loc"] if part != "[key]")
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key{_suggestion(problem['loc'])}"
        elif problem["type"] not in ("missing", "value_error") and _is_plain(problem["input"]):
            message += f" (got {problem['input']!r})"
        lines.append(f"{origin}: {where}: {message}" if where else f"{origin}: {message}")
    return lines


def _is_plain(value: object) -> bool:
    # A URL may hold a password, so a message never repeats a value that could be a URL.
    if isinstance(value, str):
        return "@" not in value and "://" not in value
    return isinstance(value, int | float)


def _suggestion(location: tuple[int | str, ...]) -> str:
    """The keys that are known where ``location`` has an unknown one."""
    section: Any = Config
    for part in location[:-1]:
        fields = getattr(section, "model_fields", None)
        # A part of the path is a section, or a mapping whose values are sections.
        section = fields[part].annotation if fields is not None else get_args(section)[-1]
    known = sorted(getattr(section, "model_fields", {}))
    return f"; known here: {', '.join(known)}" if known else ""
