"""From a YAML file, or plain data, to a :class:`Config`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config import wording, yaml_file
from pipeline.config.paths import plain_key
from pipeline.config.rules import unknown_zones, without_zone
from pipeline.config.schema import CameraConfig, Config
from pipeline.config.yaml_file import KeyPath, Place
from pipeline.errors import ConfigError
from pipeline.sources.address import is_file


def load(path: Path) -> Config:
    """Read a YAML config; its relative paths start from the folder that it is in.

    Raises :class:`ConfigError` with one line per problem.
    """
    document = yaml_file.read(path)
    problems: list[str] = []
    try:
        config = _validated(document.data, str(path), document.places)
    except ConfigError as error:
        config, problems = None, str(error).splitlines()
    problems += _cameras_without_source(document, str(path), problems)
    if config is None or problems:
        raise ConfigError("\n".join(problems))
    return _from_folder(config, path.resolve().parent)


def validate(data: dict[str, Any], origin: str = "config") -> Config:
    """Make a :class:`Config` from plain data; :class:`ConfigError` names each bad key."""
    return _validated(data, origin, {})


def _validated(data: dict[str, Any], origin: str, places: Mapping[KeyPath, Place]) -> Config:
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        lines = wording.lines(error, origin, Config, places)
    else:
        lines = [
            f"{wording.located(origin, at, places)}: {'.'.join(map(plain_key, at))}: {what}"
            for at, what in (*without_zone(config), *unknown_zones(config))
        ]
        if not lines:
            return config
    raise ConfigError("\n".join(lines))


def _cameras_without_source(
    document: yaml_file.Document, origin: str, problems: list[str]
) -> list[str]:
    """In a file, a camera must say what it is: nobody who forgot the source wants the demo."""
    cameras = document.data.get("cameras")
    found = []
    for name, camera in cameras.items() if isinstance(cameras, dict) else ():
        where = f"cameras.{plain_key(name)}"
        if isinstance(camera, dict) and "source" not in camera:
            if any(where in problem for problem in problems):
                continue  # most likely its source is what is misspelt there
            start = wording.located(origin, ("cameras", name), document.places)
            found.append(
                f"{start}: {where}: it has no source; give it one: demo, a webcam (0), rtsp://, "
                "http://, a file or a folder"
            )
    return found


def _from_folder(config: Config, folder: Path) -> Config:
    """Resolve the config's relative paths against ``folder``, the config file's own."""
    cameras = {name: _camera(camera, folder) for name, camera in config.cameras.items()}
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
    update: dict[str, Any] = {
        "cameras": cameras,
        "publish": publish,
        "events": events,
        "runtime": runtime,
    }
    if "model" in config.model_fields_set:
        update["model"] = folder / config.model
    # Only what is set: a section that nobody wrote must not look as if somebody had.
    if (detector := config.people.model) is not None:
        update["people"] = config.people.model_copy(update={"model": folder / detector})
    if (files := config.evidence.folder) is not None:
        update["evidence"] = config.evidence.model_copy(update={"folder": folder / files})
    if (files := config.memory.folder) is not None:
        update["memory"] = config.memory.model_copy(update={"folder": folder / files})
    return config.model_copy(update=update)


def _camera(camera: CameraConfig, folder: Path) -> CameraConfig:
    update: dict[str, Any] = {}
    if is_file(camera.source):
        update["source"] = str(folder / camera.source)
    if camera.packs is not None:
        update["packs"] = [folder / pack for pack in camera.packs]
    return camera.model_copy(update=update) if update else camera
