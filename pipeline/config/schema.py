"""Every key of the config, its default and its bounds."""

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipeline import flow
from pipeline.config.evidence import EvidenceConfig
from pipeline.config.hours import HoursSetting, ZoneSetting
from pipeline.config.memory import MemoryConfig
from pipeline.config.paths import LocalPath, at_home, path_problem
from pipeline.config.section import Section
from pipeline.config.zones import MOST_POLYGONS, Ignored, ZoneName, Zones
from pipeline.model.labels import Label
from pipeline.model.pack import Threshold
from pipeline.program import PROJECT, command
from pipeline.sources.address import is_file, problem, redact
from pipeline.sources.base import Decoder

DEFAULT_MODEL = PROJECT / "models" / "gestures"
DEFAULT_PEOPLE = PROJECT / "models" / "people"

CAMERA_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}"
"""A regular expression; topics that begin with "_" are the program's own, such as _governor."""
CameraName = Annotated[str, Field(pattern=f"^{CAMERA_NAME}$")]
BridgeName = CameraName
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Rule(Section):
    """When events of a label are published. What a rule holds back is counted."""

    hours: HoursSetting | None = Field(
        default=None,
        description="only events at these times of day: 22:00-06:00, Sat,Sun 00:00-24:00; "
        "default: at any time",
    )
    timezone: ZoneSetting | None = Field(
        default=None, description="of the hours; default: events.timezone"
    )
    cooldown_s: float | None = Field(
        default=None,
        ge=0,
        le=86_400,
        description="after an event has ended, the camera's next of this label is held back for "
        "this long",
    )
    needs_person: bool | None = Field(
        default=None, description="only events while a person is in the picture"
    )
    zones: list[ZoneName] | None = Field(
        default=None,
        max_length=MOST_POLYGONS,
        description="only events in one of these zones of the camera; default: anywhere",
    )
    min_size: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="only events of somebody whose box is at least so high or wide, as a share of "
        "the picture's height or width",
    )


def _no_addresses(value: object) -> object:
    # The rule for labels quotes what breaks it, and an address may hold a password.
    for label in value if isinstance(value, dict) else ():
        if isinstance(label, str) and ("@" in label or "://" in label):
            raise ValueError("one of its labels is an address; labels are those of the pack")
    return value


Rules = Annotated[dict[Label, Rule], BeforeValidator(_no_addresses)]


class CameraConfig(Section):
    """One camera: its source, how to open it, what to look at, and when it counts as frozen."""

    source: str = Field(
        default="demo",
        min_length=1,
        coerce_numbers_to_str=True,  # YAML reads `source: 0`, the first webcam, as a number
        repr=False,  # it may hold a password
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
    packs: list[LocalPath] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="folders of the packs that watch this camera; default: model",
    )
    decoder: Decoder = Field(
        default="software",
        description="what decodes files and network cameras; falls back to software",
    )
    loop_filter: bool = Field(
        default=True,
        description="false: leave out the loop filter of H.264 and H.265; faster, less exact",
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
    zones: Zones = Field(
        default_factory=dict,
        description="named polygons, each a list of points [x, y] in 0..1 of the picture",
    )
    ignore: Ignored = Field(
        default_factory=list,
        description="polygons that are painted gray before anything looks at the picture",
    )
    evidence: Literal["none"] | None = Field(
        default=None, description="none: no clips and no pictures of this camera"
    )
    memory: Literal["none"] | None = Field(
        default=None, description="none: no features of this camera are kept"
    )
    rules: Rules = Field(
        default_factory=dict,
        description="per label; each key replaces that of events.rules for this camera",
    )

    @model_validator(mode="before")
    @classmethod
    def _source_alone(cls, data: Any) -> Any:
        """``door: rtsp://…`` is short for ``door: {source: rtsp://…}``."""
        if data is None:
            raise ValueError("it is empty; write its source, as in NAME: rtsp://…")
        is_source = isinstance(data, str | int) and not isinstance(data, bool)
        return {"source": data} if is_source else data

    @field_validator("source")
    @classmethod
    def _good_source(cls, source: str) -> str:
        if reason := problem(source):
            raise ValueError(reason)
        source = source.strip()
        if is_file(source):
            if reason := path_problem(source):
                raise ValueError(reason)
            return at_home(source)
        return source

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """In a file, the source alone will do."""
        alone = {"type": ["string", "integer"], "description": "its source alone"}
        return {"anyOf": [alone, handler(schema)]}


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


class PeopleConfig(Section):
    """How people are looked for, at cameras whose packs or rules ask for them."""

    hz: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="looks a second while something moves; people are followed between them",
    )
    subjects: int = Field(
        default=4,
        ge=1,
        le=32,
        description="people of a camera at whom packs with the view person look, at most",
    )
    model: LocalPath | None = Field(
        default=None,
        description="the person detector's folder; default: models/people beside the program",
    )

    @property
    def folder(self) -> Path:
        """The detector's folder."""
        return self.model or DEFAULT_PEOPLE


class EventConfig(Section):
    """When events start and end, and where they are stored."""

    thresholds: Annotated[dict[Label, Threshold], BeforeValidator(_no_addresses)] = Field(
        default_factory=dict, description="per label; these replace the pack's own"
    )
    rules: Rules = Field(
        default_factory=dict, description="per label: at which hours, and how often"
    )
    timezone: ZoneSetting | None = Field(
        default=None, description="of the hours in rules, by its name, such as Europe/Berlin"
    )
    update_every_s: float = Field(
        default=1.0, gt=0, le=3600, description="time between updates of an active event"
    )
    log: LocalPath | None = Field(
        default=None, description="SQLite file; default: one that is deleted when the run ends"
    )
    keep_days: float | None = Field(
        default=None, gt=0, le=36_500, description="delete older events from the log"
    )
    keep_mb: float | None = Field(
        default=None, ge=1, description="delete the oldest events from a log that is larger"
    )


# An address, a host's name, an interface or * (all), and a port.
_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+|\*):([0-9]{1,5})")
_LONGEST_SOCKET_PATH = 107
"""Bytes; the kernel stores no more of a socket's path."""


def _socket_path(path: str) -> str:
    """The path of an ``ipc://`` endpoint."""
    if reason := path_problem(path):
        raise ValueError(reason)
    path = at_home(path)
    if len(path.encode()) > _LONGEST_SOCKET_PATH:
        raise ValueError(
            f"the path has {len(path.encode())} bytes; a socket's path may have "
            f"{_LONGEST_SOCKET_PATH}"
        )
    return path


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class PublishConfig(Section):
    """The public sockets."""

    keys: LocalPath | None = Field(
        default=None,
        description="key folder made by two-stream keys; then only its clients may connect",
    )
    events: str = Field(default="tcp://127.0.0.1:5555", description="PUB: events and status")
    replay: str = Field(default="tcp://127.0.0.1:5556", description="ROUTER: snapshot, replay")
    scores: bool = Field(default=False, description="also publish score/<camera>/ for every step")
    people: bool = Field(
        default=False,
        description="status/<camera>/ says how many people are there; they are then looked for at "
        "every camera",
    )

    @field_validator("events", "replay")
    @classmethod
    def _endpoint(cls, endpoint: str, info: ValidationInfo) -> str:
        if endpoint.startswith("ipc://") and len(endpoint) > len("ipc://"):
            return f"ipc://{_socket_path(endpoint.removeprefix('ipc://'))}"
        match = _TCP.fullmatch(endpoint)
        # Port 0 means any free port: no subscriber could know which.
        if match is None or not 0 < int(match[2]) < 65536:
            raise ValueError("must look like tcp://127.0.0.1:5555 or ipc:///path")
        # `keys` is declared before the endpoints, so it is already validated here.
        if not is_loopback(match[1]) and info.data.get("keys") is None:
            raise ValueError(
                "binds beyond this machine, where anyone could listen; either bind to 127.0.0.1 "
                "and forward events through a tunnel or your own broker, or make keys "
                f"({command('keys')} new NAME) and set publish.keys to their folder"
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
    run_dir: LocalPath | None = Field(
        default=None, description="folder in which each run makes its private folder"
    )
    record: LocalPath | None = Field(
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
    metrics_open: bool = Field(
        default=False,
        description="allow an address of metrics that other machines reach; there is no login",
    )
    metrics: str | None = Field(
        default=None,
        description="host:port of metrics and health pages, for example 127.0.0.1:9108",
    )

    @field_validator("metrics")
    @classmethod
    def _host_port(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        host, _, port = value.rpartition(":")
        # `metrics_open` is declared before, so it is already validated here.
        near = is_loopback(host) or info.data.get("metrics_open")
        if not port.isdecimal() or not 0 < int(port) < 65536 or not host or not near:
            raise ValueError(
                "must be a loopback address and a port, for example 127.0.0.1:9108; "
                "supervisor.metrics_open allows other addresses"
            )
        return value


class Config(Section):
    """The whole config of a run."""

    cameras: dict[CameraName, CameraConfig] = Field(
        default_factory=lambda: {"demo": CameraConfig()}, min_length=1, max_length=256
    )
    model: LocalPath = Field(
        default=DEFAULT_MODEL,
        description="the pack's folder; by default models/gestures beside the program",
        # Without this the schema would hold the absolute path of this installation.
        json_schema_extra={"default": "models/gestures"},
    )
    flow: FlowConfig = FlowConfig()
    people: PeopleConfig = PeopleConfig()
    events: EventConfig = EventConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    memory: MemoryConfig = MemoryConfig()
    publish: PublishConfig = PublishConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    supervisor: SupervisorConfig = SupervisorConfig()
    bridges: dict[BridgeName, dict[str, Any]] = Field(
        default_factory=dict,
        max_length=64,
        repr=False,  # what they connect to may hold passwords
        description="where events are brought to; by the bridge's name",
    )

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


def json_schema() -> str:
    """Return the config's JSON schema: the content of ``configs/schema.json``."""
    return json.dumps(Config.model_json_schema(), indent=2, default=str) + "\n"
