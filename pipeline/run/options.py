"""What the options of ``run`` mean: alone, together, and on top of a config file."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config import CameraConfig, Config, load, validate
from pipeline.config.paths import at_home, path_problem
from pipeline.errors import ConfigError
from pipeline.run.preflight import keys_without_effect, what_it_is
from pipeline.sources.address import problem

RENAMED = {"check_only": "--check", "open_cameras": "--open"}
"""Parameters that can't have their option's name."""
NEEDS = {"--source": ("--camera", "--transport", "--loop"), "--check": ("--open",)}
"""Option → those that have no effect without it."""
WITHOUT_EFFECT = {
    "--replay": (
        "--config", "--source", "--camera", "--transport", "--loop", "--lossless", "--record",
        "--duration", "--check",
    ),
    "--check": ("--duration", "--json"),
}  # fmt: skip
"""Option → those that have no effect beside it."""


@dataclass(frozen=True)
class Options:
    """What was typed; None and False where nothing was."""

    config: Path | None
    source: str | None
    camera: str | None
    model: Path | None
    transport: str | None
    loop: bool
    lossless: bool
    record: Path | None
    replay: Path | None
    duration: float | None
    json: bool
    check_only: bool
    open_cameras: bool
    log_level: str
    log_format: str

    def given(self) -> dict[str, Any]:
        """The options that are set, by the names that are typed."""
        return {
            RENAMED.get(name, f"--{name.replace('_', '-')}"): value
            for name, value in asdict(self).items()
            if value is not None and value is not False
        }

    def check(self) -> None:
        """Refuse what would have no effect, and addresses in place of paths.

        Raises :class:`ConfigError` with one line per option.
        """
        given = self.given()
        check_together(given)
        check_paths(given)

    def build_config(self, *, scores: bool = False) -> Config:
        """The config file, or the defaults, with what was typed on top.

        ``scores``: publish every score, which the table shows. Raises :class:`ConfigError`.
        """
        cameras = source_settings(self.source, self.camera, self.transport, self.loop)
        overrides: dict[str, Any] = {
            "cameras": cameras or None,
            "model": str(self.model) if self.model else None,
            "runtime.delivery": "lossless" if self.lossless else None,
            "publish.scores": scores or None,
            "runtime.record": str(self.record) if self.record else None,
        }
        return build_config(self.config and at_home(self.config), overrides)


def build_config(path: Path | None, overrides: dict[str, Any]) -> Config:
    """The config file (or the defaults), with ``overrides`` from the command line on top."""
    config = load(path) if path else Config()
    # What is not set stays so: --check names the keys that are set and have no effect.
    data = config.model_dump(mode="json", exclude_unset=True)
    for key, value in overrides.items():
        if value is None:
            continue
        *sections, last = key.split(".")  # "runtime.record" is data["runtime"]["record"]
        place = data
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return validate(data, origin="command line")


def check_together(given: dict[str, Any]) -> None:
    """Refuse options that would have no effect beside the others; ``given`` has those that are set.

    Raises :class:`ConfigError` with one line per option.
    """
    lines = []
    for needed, options in NEEDS.items():
        if needed not in given:
            lines += [f"{option}: without effect without {needed}" for option in options]
    for other, alone in WITHOUT_EFFECT.items():
        if other in given:
            lines += [f"{option}: without effect with {other}" for option in alone]
    named = [line for line in lines if line.partition(":")[0] in given]
    duration = given.get("--duration")
    if isinstance(duration, float) and not math.isfinite(duration):
        named.append("--duration: must be a number of seconds")
    if named:
        raise ConfigError("\n".join(dict.fromkeys(named)))


def check_paths(given: dict[str, Any]) -> None:
    """Refuse an address where a path is meant, without repeating it."""
    for option, value in given.items():
        if isinstance(value, Path) and (reason := path_problem(str(value))):
            raise ConfigError(f"{option}: {reason}")


def source_settings(
    source: str | None, camera: str | None, transport: str | None, loop: bool
) -> dict[str, Any]:
    """``cameras`` as --source and its options have it; empty without --source."""
    if source is None:
        return {}
    if reason := problem(source):
        raise ConfigError(f"--source: {reason}")
    settings = {"source": source, "transport": transport, "loop": loop or None}
    given = {key: value for key, value in settings.items() if value is not None}
    try:
        parsed = CameraConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--{first['loc'][0]}: {message}") from None
    for key in sorted(given.keys() & keys_without_effect(parsed)):
        raise ConfigError(f"--{key}: without effect for {what_it_is(source)}")
    return {camera or "camera": given}
