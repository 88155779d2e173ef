"""Watches: a pack that looks at a camera, and which networks and flow it shares with others.

Packs on one base carry the same networks under different contracts. A network is known by the
hash of its graph, so each is run once a step, however many packs use it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.model.pack import ModelPack, Size, ViewName

_RATE_TOLERANCE = 1e-6

WHOLE_PICTURE: Literal["frame"] = "frame"
"""The view of the whole picture, and the subject of its one window."""


@dataclass(frozen=True, slots=True)
class FlowKind:
    """How flow is computed. Packs that agree on it share the fields.

    ``every``: between steps that lie this many of the camera's steps apart.
    """

    every: int
    method: str
    flow_size: Size
    size: Size
    bound: float
    view: ViewName = field(default="frame", repr=False)

    @property
    def key(self) -> str:
        """A short name that depends on the values alone."""
        # Recordings hold the keys of the whole picture as they were before there were views.
        view = "" if self.view == WHOLE_PICTURE else self.view
        return hashlib.sha256(f"{self!r}{view}".encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Watch:
    """One pack at one camera. It takes one in ``every`` of the camera's steps.

    ``flow_method`` None means the pack's own.
    """

    pack: ModelPack
    every: int = 1
    flow_method: str | None = None

    @cached_property
    def flow(self) -> FlowKind:
        temporal = self.pack.contract.temporal
        return FlowKind(
            every=self.every,
            method=self.flow_method or temporal.method,
            flow_size=temporal.flow_size,
            size=temporal.size,
            bound=temporal.bound,
            view=self.view,
        )

    @property
    def view(self) -> ViewName:
        return self.pack.contract.view

    @cached_property
    def spatial(self) -> str:
        """The key of its appearance network."""
        return self.pack.graph("spatial")[:12]

    @cached_property
    def temporal(self) -> str:
        """The key of its motion network on its kind of flow."""
        return f"{self.pack.graph('temporal')[:12]}-{self.flow.key}"

    def takes(self, step_id: int) -> bool:
        """Whether the camera's step is one of the pack's."""
        return step_id % self.every == 0


def watches(
    packs: Iterable[ModelPack], *, flow_method: str | None = None, where: str = "packs"
) -> tuple[Watch, ...]:
    """The packs of one camera, whose steps come at the rate of the fastest.

    Raises :class:`ConfigError`, which names ``where``, for a pack whose rate doesn't divide it, and
    for one that is there twice.
    """
    packs = list(packs)
    fastest = max(packs, key=lambda pack: pack.contract.step_hz)
    found: dict[str, Watch] = {}
    for pack in packs:
        name, step_hz = pack.contract.name, pack.contract.step_hz
        every = round(fastest.contract.step_hz / step_hz)
        if abs(every * step_hz - fastest.contract.step_hz) > _RATE_TOLERANCE * step_hz:
            raise ConfigError(
                f"{where}: {fastest.contract.name} takes {fastest.contract.step_hz:g} steps a "
                f"second and {name} {step_hz:g}; the second must go into the first a whole number "
                "of times"
            )
        if pack.sha256 in found:
            raise ConfigError(f"{where}: {name} is there twice")
        found[pack.sha256] = Watch(pack, every, flow_method)
    return tuple(found.values())


def network_names(
    stream: Literal["spatial", "temporal"], watches: Iterable[Watch]
) -> dict[str, str]:
    """What people call each network: ``PACK/STREAM`` of the first pack that has it, by its key."""
    names: dict[str, str] = {}
    for watch in watches:
        names.setdefault(getattr(watch, stream), f"{watch.pack.contract.name}/{stream}")
    return names


def feature_key(network: str, subject: str) -> str:
    """Under which name a network's feature of a subject travels."""
    return network if subject == WHOLE_PICTURE else f"{network}/{subject}"
