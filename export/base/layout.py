"""Which numbers of a stream's features are what, and how the head pools them (base.json)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from spox import Var

from export.base.ops import joined

BLOCK, EACH = "block", "each"


@dataclass(frozen=True)
class Block:
    """How the head pools a part of the features over the steps of a window."""

    name: str
    start: int
    size: int
    pools: tuple[str, ...]
    weight: float
    scaling: str = EACH
    valid: int | None = None
    """The feature that is above 0.5 at steps where the block's numbers exist."""
    lag: int = 0
    unit: int | None = None
    """The feature that the numbers are divided by: a size, its mean over the valid steps."""

    def entry(self) -> dict[str, Any]:
        """As base.json has it."""
        return asdict(self)


@dataclass
class Layout:
    """The parts of a feature vector, one after the other."""

    starts: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    size: int = 0

    @classmethod
    def of(cls, sizes: Sequence[tuple[str, int]]) -> "Layout":
        """Parts in order."""
        layout = cls()
        for name, size in sizes:
            layout.starts[name], layout.sizes[name] = layout.size, size
            layout.size += size
        return layout

    def place(self, parts: dict[str, Var]) -> Var:
        """(K, size) of the parts (K, their sizes)."""
        return joined(*(parts[name] for name in self.starts))

    def block(
        self, part: str, pools: tuple[str, ...], weight: float, *, name: str = "",
        scaling: str = EACH, base: int = 0, lag: int = 0, unit: str | None = None,
        valid: str | None = "present",
    ) -> Block:  # fmt: skip
        """A block of one part; ``base`` is where the layout begins within the features."""
        return Block(
            name or part, base + self.starts[part], self.sizes[part], pools, weight, scaling,
            None if valid is None else base + self.starts[valid], lag,
            None if unit is None else base + self.starts[unit],
        )  # fmt: skip
