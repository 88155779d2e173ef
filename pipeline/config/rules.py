"""The rule of each label of a camera: the camera's own keys, then those of ``events.rules``."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pipeline.config.hours import Hours
from pipeline.config.paths import plain_key
from pipeline.config.schema import Config, Rule
from pipeline.config.suggestion import did_you_mean

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class LabelRule:
    """What holds for one label of one camera; only what is set holds anything back."""

    hours: Hours | None = None
    cooldown_s: float = 0.0

    def __bool__(self) -> bool:
        return self.hours is not None or self.cooldown_s > 0


def rules_of(config: Config, camera: str) -> dict[str, LabelRule]:
    """The rules of a camera by label; labels at whose events nothing is held back are left out."""
    found = {}
    for label, rule in _merged(config, camera).items():
        zone = rule.timezone or config.events.timezone
        hours = Hours.of(rule.hours, zone) if rule.hours and zone else None
        if one := LabelRule(hours, rule.cooldown_s or 0.0):
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
    """A line for each rule of a label that isn't among ``labels``, those that make events."""
    places = {"events.rules": config.events.rules}
    places |= {f"cameras.{name}.rules": camera.rules for name, camera in config.cameras.items()}
    for place, rules in places.items():
        for label in rules:
            if label not in labels:
                yield (
                    f"{place}.{plain_key(label)}: no events have this label; they have "
                    f"{', '.join(labels)}{did_you_mean(label, labels)}"
                )
