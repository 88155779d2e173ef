"""Before the start: all that can be known without opening a camera.

Each check yields what it finds, so that a user sees all problems at once, not one a start.
"""

import errno
import ipaddress
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline import flow, topology
from pipeline.clock import SYSTEM_CLOCK
from pipeline.config import CameraConfig, Config
from pipeline.config.rules import unknown_labels
from pipeline.decision.decisions import check_thresholds
from pipeline.decision.recording import check_new
from pipeline.errors import (
    EXIT_NO_SOURCE,
    EXIT_USAGE,
    BusError,
    ConfigError,
    EventLogError,
    PackError,
    RecordingError,
    SourceError,
    StartupError,
    TwoStreamError,
    os_reason,
)
from pipeline.model.pack import NETWORKS, ModelPack
from pipeline.model.watch import Watch
from pipeline.people.contract import load_contract
from pipeline.public.key_folder import KeyFolder
from pipeline.run import rule_words
from pipeline.sources.address import is_file, kind, parse, redact
from pipeline.topology import Watched
from pipeline.transport.sockets import check_bind

_SQLITE = b"SQLite format 3\0"


@dataclass
class Findings:
    """What was found: each camera's packs where they are good, problems, what has no effect."""

    watched: Watched | None = None
    problems: list[TwoStreamError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def people(self, config: Config) -> list[str]:
        """The cameras at which people are looked for."""
        if self.watched is None:
            return []
        return topology.with_people(topology.routes(config, self.watched))

    def exit_code(self, cameras: int) -> int:
        """3 where nothing is wrong but that none of the ``cameras`` is there, else 2."""
        missing = [problem for problem in self.problems if isinstance(problem, SourceError)]
        only = len(missing) == len(self.problems) == cameras
        return EXIT_NO_SOURCE if only else EXIT_USAGE


def examine(config: Config, *, thorough: bool) -> Findings:
    """Look for all that would end a run before it begins.

    ``thorough``: open the packs' graphs, too, and look for sources that aren't there. A run does
    without: its stages open the graphs, and one missing file doesn't keep it from the others.
    """
    found = Findings()
    packs, bad = _packs(config)
    found.problems += bad
    if not bad:
        try:
            found.watched = topology.watched(config, loaded=packs)
        except ConfigError as error:
            found.problems.append(error)
    if found.people(config):
        found.problems += _raised(partial(load_contract, config.people.folder))
    found.problems += _of_packs(config, list(packs.values()), thorough)
    found.problems += _of_endpoints(config)
    found.problems += _of_folders(config)
    if thorough or config.lossless:
        found.problems += _of_sources(config)
    found.warnings += _without_effect(config, found.watched)
    return found


def _packs(config: Config) -> tuple[dict[Path, ModelPack], list[PackError]]:
    """The packs that cameras name, by folder, and why others can't be read."""
    found: dict[Path, ModelPack] = {}
    bad: dict[Path, PackError] = {}
    for camera in config.cameras:
        for folder in topology.pack_folders(config, camera):
            if folder in found or folder in bad:
                continue
            try:
                found[folder] = ModelPack.load(folder)
            except PackError as error:
                bad[folder] = error
    return found, list(bad.values())


def _of_packs(config: Config, packs: list[ModelPack], thorough: bool) -> Iterator[TwoStreamError]:
    providers = config.runtime.providers
    if providers:
        # Only here: it imports onnxruntime, which the supervisor's process can do without.
        from pipeline.model.session import check_providers

        strange = list(_raised(partial(check_providers, providers)))
        yield from strange
        providers = [] if strange else providers
    if not packs:
        return
    contracts = [pack.contract for pack in packs]
    yield from _raised(partial(check_thresholds, contracts, config.events.thresholds))
    yield from map(ConfigError, unknown_labels(config, _telling(packs)))
    for pack in packs:
        yield from _raised(partial(_check_flow, config, pack))
    if thorough:
        from pipeline.model.session import Network

        for pack in packs:
            for name in NETWORKS:
                opened = partial(Network, pack, name, config.runtime.threads, providers)
                yield from _raised(opened)


def _telling(packs: list[ModelPack]) -> list[str]:
    """The labels that make events."""
    return list(dict.fromkeys(label for pack in packs for label in pack.contract.actions))


def _check_flow(config: Config, pack: ModelPack) -> None:
    method = config.flow.method or pack.contract.temporal.method
    try:
        flow.check(method)
    except ValueError as error:
        where = "flow.method" if config.flow.method else f"model pack {pack.folder}"
        raise ConfigError(f"{where}: {error}") from None


def _of_endpoints(config: Config) -> Iterator[TwoStreamError]:
    """Endpoints that are in use, or that two settings share."""
    wanted = {"publish.events": config.publish.events, "publish.replay": config.publish.replay}
    if config.supervisor.metrics:
        wanted["supervisor.metrics"] = f"tcp://{config.supervisor.metrics}"
    taken: dict[str, str] = {}
    for key, endpoint in wanted.items():
        other = next((name for name, theirs in taken.items() if _collide(endpoint, theirs)), None)
        if other is not None:
            yield ConfigError(f"{key}: {endpoint} is the endpoint of {other} already")
            continue
        taken[key] = endpoint
        try:
            check_bind(endpoint)
        except BusError as error:
            kind = StartupError if key == "supervisor.metrics" else BusError
            yield kind(f"{key}: {error}")
    if config.publish.keys is not None:
        yield from _raised(KeyFolder(config.publish.keys).server)


def _collide(one: str, other: str) -> bool:
    """Whether two endpoints can't be bound side by side."""
    if one.startswith("ipc://") or other.startswith("ipc://"):
        return one == other or os.path.abspath(one[6:]) == os.path.abspath(other[6:])
    (host, port), (host_2, port_2) = _tcp(one), _tcp(other)
    return port == port_2 and (host == host_2 or "all" in (host, host_2))


def _tcp(endpoint: str) -> tuple[str, int]:
    """(host, port); hosts that are the same are written the same."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    host = host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "*" or (address is not None and address.is_unspecified):
        host = "all"
    elif host == "localhost":
        host = "127.0.0.1"
    return host, int(port)


def _of_folders(config: Config) -> Iterator[TwoStreamError]:
    log, record, run_dir = config.events.log, config.runtime.record, config.runtime.run_dir
    if log is not None:
        where = f"events.log: {log}"
        if reason := _why_no_log(log):
            yield EventLogError(f"{where}: {reason}")
    if record is not None:
        yield from _raised(partial(check_new, record))
        if reason := _why_no_folder(record):
            yield RecordingError(f"runtime.record: {record}: {reason}")
    if run_dir is not None and (reason := _why_no_folder(run_dir)):
        yield ConfigError(f"runtime.run_dir: {run_dir}: {reason}")
    evidence = config.evidence.folder
    if evidence is not None and (reason := _why_no_folder(evidence)):
        yield ConfigError(f"evidence.folder: {evidence}: {reason}")
    memory = config.memory.folder
    if memory is not None and (reason := _why_no_folder(memory)):
        yield ConfigError(f"memory.folder: {memory}: {reason}")


def _why_no_log(path: Path) -> str | None:
    """Why no event log can be written at ``path``."""
    try:
        if not path.exists():
            return _why_no_folder(path.parent)
        if not path.is_file():
            return "it isn't a file"
        if not os.access(path, os.R_OK | os.W_OK):
            return f"it can't be written: {_refusal(path)}"
        if not os.access(path.parent, os.W_OK | os.X_OK):
            return "SQLite needs a folder that can be written, for the files beside it"
        with path.open("rb") as file:
            head = file.read(len(_SQLITE))
    except OSError as error:
        return os_reason(error)
    return "it isn't an event log" if head and head != _SQLITE else None


def _why_no_folder(path: Path) -> str | None:
    """Why ``path`` can't be a folder that this program writes into, or makes."""
    there = path
    try:
        while not there.exists() and there.parent != there:
            there = there.parent
        if not there.is_dir():
            return f"{'it' if there == path else there} isn't a folder"
    except OSError as error:  # a folder above it that this user may not enter
        return os_reason(error)
    if not os.access(there, os.W_OK | os.X_OK):
        which = "it" if there == path else f"the folder {there}"
        return f"{which} can't be written: {_refusal(there)}"
    return None


def _refusal(path: Path) -> str:
    """Why ``path`` can't be written, as the system says it."""
    read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if read_only else errno.EACCES)


def _of_sources(config: Config) -> Iterator[TwoStreamError]:
    for name, camera in config.cameras.items():
        where = f"cameras.{name}.source"
        what = kind(camera.source)
        if what == "webcam":
            number = camera.source.isdecimal()
            device = Path(f"/dev/video{camera.source}" if number else camera.source)
            if not device.exists():
                yield _missing(f"{where}: webcam {device} doesn't exist")
        elif what == "file":
            path = Path(camera.source)
            try:
                there = path.exists()
            except OSError as error:
                yield _missing(f"{where}: {path}: {error.strerror}")
                continue
            if not there:
                yield _missing(f"{where}: {path} doesn't exist")
            elif not os.access(path, os.R_OK):
                yield _missing(f"{where}: {path} can't be read")


def _missing(what: str) -> SourceError:
    return SourceError(what, kind="not_found", permanent=True)


def _without_effect(config: Config, watched: Watched | None) -> Iterator[str]:
    """Keys that are set and do nothing."""
    routes = {} if watched is None else topology.routes(config, watched)
    for name, camera in config.cameras.items():
        idle = sorted(camera.model_fields_set & keys_without_effect(camera))
        if idle:
            what = what_it_is(camera.source)
            yield f"cameras.{name}: {', '.join(idle)}: without effect for {what}"
    if "model" in config.model_fields_set and all(c.packs for c in config.cameras.values()):
        yield "model: without effect, because every camera names its packs"
    if "evidence" in config.model_fields_set and config.evidence.folder is None:
        yield "evidence: without effect, because evidence.folder names no folder"
    if "memory" in config.model_fields_set and config.memory.folder is None:
        yield "memory: without effect, because memory.folder names no folder"
    regional = [name for name, route in routes.items() if route.flow_first]
    yield from rule_words.without_effect(config, regional)
    if "people" in config.model_fields_set and watched and not topology.with_people(routes):
        yield "people: without effect; no pack or rule asks who is there"
    if config.flow.workers > len(config.cameras):
        yield (
            f"flow.workers: {config.flow.workers}, but no more are started than there are "
            f"cameras ({len(config.cameras)})"
        )


def keys_without_effect(camera: CameraConfig) -> set[str]:
    """The keys of a camera that do nothing for its kind of source."""
    network = {"transport", "open_timeout_s", "read_timeout_s", "login_retry_max_s"}
    picture = {"width", "height", "fps"}
    what = kind(camera.source)
    if what == "address":
        address = parse(camera.source)
        streams = address is not None and address.scheme in ("rtsp", "rtsps")
        return picture | ({"loop"} if streams else {"transport"})
    if what == "webcam":
        return network | {"loop"}
    if what == "demo":
        return network | {"loop", "retry_max_s"}
    if Path(camera.source).is_dir():
        return network | {"frozen_s", "width", "height"}
    return network | {"frozen_s", *picture}


def what_it_is(source: str) -> str:
    """A source's kind in words."""
    what = kind(source)
    if what == "address":
        address = parse(source)
        return f"{address.scheme}://" if address is not None else "an address"
    names = {"demo": "the demo camera", "webcam": "a webcam"}
    folder = what == "file" and Path(source).is_dir()
    return names.get(what, "a folder of images" if folder else "a file")


def summary(config: Config, watched: Watched) -> list[tuple[str, str]]:
    """What ``--check`` found, as (what, how it is) in the order to be read. Without secrets."""
    rows = [
        (f"camera {name}", f"{redact(camera.source)}{_options(camera)}{_packs_of(watched[name])}")
        for name, camera in config.cameras.items()
    ]
    rows += rule_words.masks_and_zones(config)
    if people := topology.with_people(topology.routes(config, watched)):
        settings = config.people
        rows.append(("people", f"looked for {settings.hz:g} times a second: {', '.join(people)}"))
    packs = list(topology.packs(watched).values())
    for pack in packs:
        contract = pack.contract
        about = f"{contract.name} {contract.version}: {len(contract.actions)} labels"
        rows.append(("pack", f"{about}, {pack.folder.resolve()}"))
    rows += rule_words.rules(config, _telling(packs), SYSTEM_CLOCK.wall_ns())
    who = "clients with keys" if config.publish.keys else "any program on this machine"
    rows.append(("events", f"{config.publish.events}, for {who}"))
    rows.append(("replay", config.publish.replay))
    rows.append(("log", str(config.events.log or "none that stays: it is deleted after the run")))
    if folder := config.evidence.folder:
        rows.append(("evidence", f"{', '.join(config.evidence.kinds)} in {folder}"))
    if folder := config.memory.folder:
        rows.append(("memory", f"features of {config.memory.days:g} days in {folder}"))
    if config.supervisor.metrics:
        rows.append(("metrics", f"http://{config.supervisor.metrics}/metrics"))
    if config.runtime.record:
        rows.append(("record", str(config.runtime.record)))
    if config.lossless:
        rows.append(("delivery", "lossless: every step of the files"))
    return rows


def _packs_of(watches: Collection[Watch]) -> str:
    """The packs of a camera that has several, with their rates where those differ."""
    if len(watches) == 1:
        return ""
    rates = {watch.every for watch in watches}
    contracts = [watch.pack.contract for watch in watches]
    named = [
        one.name + (f" ({one.step_hz:g} steps a second)" if len(rates) > 1 else "")
        for one in contracts
    ]
    return f", packs {' and '.join(named)}"


def _options(camera: CameraConfig) -> str:
    """What is set for a camera and has an effect, for the summary."""
    told_elsewhere = {"source", "packs", "ignore", "zones", "rules"}
    keys = sorted(camera.model_fields_set - told_elsewhere - keys_without_effect(camera))
    return "".join(f", {key} {getattr(camera, key)}" for key in keys)


def holds_secret(config: Config) -> bool:
    """Whether an address of the config has a login or another part that must not be shown."""
    return any(
        not is_file(camera.source) and redact(camera.source) != camera.source
        for camera in config.cameras.values()
    )


def _raised(check: Callable[[], object]) -> Iterator[TwoStreamError]:
    """The error that ``check`` raises, if it does."""
    try:
        check()
    except TwoStreamError as error:
        yield error
