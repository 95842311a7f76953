"""What a statement starts from and ends with (docs/settlement-rules.md §10), and how a fact that disagrees is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

NO_ENTRIES = bytes(32)  # the root of an accrued tree without entries


class FactsDisagree(Exception):
    """An event that the terms don't lead to; the text names the event and the rule."""


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """A contract version whose `contract.effective` was recorded; `sha256` (hex) of its canonical document.

    `start_ms`, where its term begins, tells also a program that cannot read the document when it is needed.
    """

    contract: str
    version: int
    sha256: str
    start_ms: int

    def members(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("contract", "sha256", "start_ms", "version")}


@dataclass(frozen=True, slots=True)
class Opening:
    """§10. The defaults are what a partner's first statement of a currency opens with."""

    carried_minor: int = 0
    ranks: Mapping[str, int] = field(default_factory=dict)  # "<goal> <YYYY-MM>" → goals ranked before
    funded: Mapping[str, int] = field(default_factory=dict)  # "<contract> <discount> <party>" → minor units
    versions: tuple[KnownVersion, ...] = ()  # of all currencies, ascending
    accrued_root: bytes = NO_ENTRIES
    accrued_size: int = 0

    def members(self) -> dict[str, Any]:
        """The JSON of §10."""
        return {
            "accrued": {"root": self.accrued_root.hex(), "size": self.accrued_size},
            "carried_minor": self.carried_minor,
            "funded": dict(self.funded),
            "ranks": dict(self.ranks),
            "versions": [version.members() for version in self.versions],
        }

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> Self:
        """What the closing of the statement before says."""
        return cls(
            carried_minor=members["carried_minor"], ranks=members["ranks"], funded=members["funded"],
            versions=tuple(KnownVersion(**version) for version in members["versions"]),
            accrued_root=bytes.fromhex(members["accrued"]["root"]), accrued_size=members["accrued"]["size"],
        )  # fmt: skip
