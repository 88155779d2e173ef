"""The rule of each label of a camera: the camera's own keys, then those of ``events.rules``."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pipeline.config.hours import Hours
from pipeline.config.paths import plain_key
from pipeline.config.schema import Config, Rule
from pipeline.config.suggestion import did_you_mean
from pipeline.config.zones import unknown_zone

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class LabelRule:
    """What holds for one label of one camera; only what is set holds anything back."""

    hours: Hours | None = None
    cooldown_s: float = 0.0
    needs_person: bool = False
    zones: tuple[str, ...] = ()
    """Names of zones of the camera; empty: anywhere."""
    min_size: float = 0.0
    """Of the subject's box, in shares of the picture's height or width."""

    def __bool__(self) -> bool:
        return self.hours is not None or self.cooldown_s > 0 or self.asks_for_people

    @property
    def asks_for_people(self) -> bool:
        """Whether it can only be judged where something is known of who is where."""
        return self.needs_person or bool(self.zones) or self.min_size > 0


def rules_of(config: Config, camera: str) -> dict[str, LabelRule]:
    """The rules of a camera by label; labels at whose events nothing is held back are left out."""
    found = {}
    for label, rule in _merged(config, camera).items():
        zone = rule.timezone or config.events.timezone
        hours = Hours.of(rule.hours, zone) if rule.hours and zone else None
        one = LabelRule(
            hours,
            rule.cooldown_s or 0.0,
            bool(rule.needs_person),
            tuple(dict.fromkeys(rule.zones or ())),
            rule.min_size or 0.0,
        )
        if one:
            found[label] = one
    return found


def _merged(config: Config, camera: str) -> dict[str, Rule]:
    """The keys of a camera's own rule replace those of ``events.rules``, one by one."""
    general, own = config.events.rules, config.cameras[camera].rules
    none = Rule()
    return {
        label: Rule.model_validate(
            {
                **general.get(label, none).model_dump(exclude_none=True),
                **own.get(label, none).model_dump(exclude_none=True),
            }
        )
        for label in dict.fromkeys((*general, *own))
    }


def without_zone(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Hours of which nobody can tell in which time zone: the path of their key, what is wrong."""
    what = "hours need a time zone; set events.timezone, for example to Europe/Berlin"
    if config.events.timezone is not None:
        return
    for label, rule in config.events.rules.items():
        if rule.hours and not rule.timezone:
            # A camera may have a zone of its own for them.
            lacking = [name for name in config.cameras if not _merged(config, name)[label].timezone]
            if lacking:
                yield ("events", "rules", label, "hours"), what
    for name, camera in config.cameras.items():
        for label, rule in camera.rules.items():
            if rule.hours and not _merged(config, name)[label].timezone:
                yield ("cameras", name, "rules", label, "hours"), what


def unknown_labels(config: Config, labels: Collection[str]) -> Iterator[str]:
    """A line for each rule or list with a label that isn't among ``labels``, those of events."""
    places: dict[str, Collection[str]] = {
        "events.rules": config.events.rules,
        "evidence.labels": config.evidence.labels or (),
    }
    places |= {f"cameras.{name}.rules": camera.rules for name, camera in config.cameras.items()}
    for place, rules in places.items():
        for label in rules:
            if label not in labels:
                yield (
                    f"{place}.{plain_key(label)}: no events have this label; they have "
                    f"{', '.join(labels)}{did_you_mean(label, labels)}"
                )


def unknown_zones(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Zones that a rule asks for and a camera doesn't have: the path of the key, what is wrong.

    A rule of all cameras needs its zones at one of them at least.
    """
    for label, rule in config.events.rules.items():
        for zone in rule.zones or ():
            if not any(zone in camera.zones for camera in config.cameras.values()):
                everywhere = {z: p for c in config.cameras.values() for z, p in c.zones.items()}
                problem = unknown_zone(zone, everywhere, "the cameras have")
                yield ("events", "rules", label, "zones"), f"{zone}: {problem}"
    for name, camera in config.cameras.items():
        for label, rule in camera.rules.items():
            for zone in rule.zones or ():
                if problem := unknown_zone(zone, camera.zones):
                    yield ("cameras", name, "rules", label, "zones"), f"{zone}: {problem}"
